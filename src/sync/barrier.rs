//! A pair of barriers for a store that must come before a load on both of two sides, of which one is rare.
//!
//! The side that is taken all the time calls [`light_barrier`], which costs nothing; the rare one calls
//! [`heavy_barrier`], which interrupts every core that runs a thread of this process. Of a store, a light barrier and
//! a load here, and a store, a heavy barrier and a load there, one load at least sees the other's store. Where the
//! system has no such call both are full fences. Linux: `membarrier(2)`, `MEMBARRIER_CMD_PRIVATE_EXPEDITED`.

use core::sync::atomic::{
    AtomicU8,
    Ordering::{Relaxed, SeqCst},
    compiler_fence, fence,
};

/// Nobody has asked the system yet.
const UNKNOWN: u8 = 0;
/// Threads of this process can be interrupted.
const EXPEDITED: u8 = 1;
/// They cannot: both sides fence.
const FENCES: u8 = 2;

static MODE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Asks the system once what it can do. To be called before the first [`heavy_barrier`], by whoever makes what the two
/// sides share: so whoever uses it sees the answer.
pub(crate) fn prepare_barriers() {
    if MODE.load(Relaxed) == UNKNOWN {
        let mode = if system::register() { EXPEDITED } else { FENCES };
        // The first answer stays: a light barrier may already rely on it. Relaxed: carried along with what is shared.
        let _ = MODE.compare_exchange(UNKNOWN, mode, Relaxed, Relaxed);
    }
}

/// The side that is taken all the time.
#[inline(always)]
pub(crate) fn light_barrier() {
    if MODE.load(Relaxed) == EXPEDITED {
        compiler_fence(SeqCst);
    } else {
        fence(SeqCst);
    }
}

/// The rare side: as if every other thread had executed a full fence at some moment of this call.
#[cold]
pub(crate) fn heavy_barrier() {
    fence(SeqCst);
    if MODE.load(Relaxed) == EXPEDITED {
        system::interrupt_all();
        fence(SeqCst);
    }
}

#[cfg(all(target_os = "linux", not(miri)))]
mod system {
    pub(super) fn register() -> bool {
        call(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
    }

    pub(super) fn interrupt_all() {
        // Registered, the call does not fail; a child of `fork` may have to register again. The global form, which
        // waits for every core of the machine to pass through the scheduler, needs no registration.
        if !call(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED) && register() && !call(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
        {
            call(libc::MEMBARRIER_CMD_GLOBAL);
        }
    }

    fn call(command: libc::c_int) -> bool {
        // SAFETY: The call takes three integers, of which flags and core number are 0, and touches no memory of ours.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod system {
    pub(super) fn register() -> bool {
        false
    }

    pub(super) fn interrupt_all() {}
}
