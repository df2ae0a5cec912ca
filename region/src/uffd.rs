//! userfaultfd(2), raw: the only file that knows its structures and numbers.
//! What a fault *means* is not known here; see `fault`. Nor is any memory mapped or read here.
//! Below: `span`, `error`. Above: `fault`, `handlers`.
//!
//! Spoken through `libc` alone: the handful of calls is shorter than a wrapper crate's build needs.

use core::fmt;
use core::mem::size_of;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::error::OsError;
use crate::span::Span;

/// From `linux/userfaultfd.h`; `libc` does not carry them.
mod abi {
    pub(super) const UFFD_USER_MODE_ONLY: libc::c_int = 1;
    pub(super) const UFFD_API: u64 = 0xAA;
    pub(super) const FEATURE_PAGEFAULT_FLAG_WP: u64 = 1 << 0;
    pub(super) const FEATURE_EVENT_REMAP: u64 = 1 << 2;
    pub(super) const FEATURE_MISSING_SHMEM: u64 = 1 << 5;
    pub(super) const FEATURE_MINOR_SHMEM: u64 = 1 << 10;
    pub(super) const FEATURE_WP_SHMEM: u64 = 1 << 12;
    pub(super) const FEATURE_POISON: u64 = 1 << 14;
    pub(super) const EVENT_PAGEFAULT: u8 = 0x12;
    pub(super) const PAGEFAULT_FLAG_WRITE: u64 = 1 << 0;
    pub(super) const PAGEFAULT_FLAG_WP: u64 = 1 << 1;
    pub(super) const REGISTER_MODE_MISSING: u64 = 1 << 0;
    pub(super) const REGISTER_MODE_WP: u64 = 1 << 1;
    pub(super) const REGISTER_MODE_MINOR: u64 = 1 << 2;
    pub(super) const WRITEPROTECT_MODE_WP: u64 = 1 << 0;
    pub(super) const CONTINUE_MODE_DONTWAKE: u64 = 1 << 0;
    pub(super) const CONTINUE_MODE_WP: u64 = 1 << 1;

    #[repr(C)]
    pub(super) struct Api {
        pub(super) api: u64,
        pub(super) features: u64,
        pub(super) ioctls: u64,
    }

    #[repr(C)]
    pub(super) struct Range {
        pub(super) start: u64,
        pub(super) len: u64,
    }

    #[repr(C)]
    pub(super) struct Register {
        pub(super) range: Range,
        pub(super) mode: u64,
        pub(super) ioctls: u64,
    }

    #[repr(C)]
    pub(super) struct Copy {
        pub(super) dst: u64,
        pub(super) src: u64,
        pub(super) len: u64,
        pub(super) mode: u64,
        pub(super) copied: i64,
    }

    /// `struct uffdio_continue`, and `struct uffdio_poison`.
    #[repr(C)]
    pub(super) struct Place {
        pub(super) range: Range,
        pub(super) mode: u64,
        pub(super) done: i64,
    }

    #[repr(C)]
    pub(super) struct WriteProtect {
        pub(super) range: Range,
        pub(super) mode: u64,
    }

    /// `struct uffd_msg`, as far as a page fault fills it.
    #[repr(C)]
    #[derive(Default)]
    pub(super) struct Message {
        pub(super) event: u8,
        pub(super) reserved: [u8; 7],
        pub(super) flags: u64,
        pub(super) address: u64,
        pub(super) thread: u64,
    }
    const _: () = assert!(size_of::<Message>() == 32, "the kernel writes whole messages");

    pub(super) const API: libc::Ioctl = libc::_IOWR::<Api>(0xAA, 0x3F);
    pub(super) const REGISTER: libc::Ioctl = libc::_IOWR::<Register>(0xAA, 0x00);
    pub(super) const WAKE: libc::Ioctl = libc::_IOR::<Range>(0xAA, 0x02);
    pub(super) const COPY: libc::Ioctl = libc::_IOWR::<Copy>(0xAA, 0x03);
    pub(super) const WRITEPROTECT: libc::Ioctl = libc::_IOWR::<WriteProtect>(0xAA, 0x06);
    pub(super) const CONTINUE: libc::Ioctl = libc::_IOWR::<Place>(0xAA, 0x07);
    pub(super) const POISON: libc::Ioctl = libc::_IOWR::<Place>(0xAA, 0x08);
    /// On `/dev/userfaultfd`: the same descriptor, permitted by the file's mode bits.
    pub(super) const IOC_NEW: libc::Ioctl = libc::_IO(0xAA, 0x00);
}

/// Why this process may not serve its own page faults, and who can change that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UffdRefused {
    /// The call is there and not permitted: an administrator, a container or a sandbox can permit it.
    NotPermitted {
        /// `EPERM` or `EACCES`.
        errno: i32,
    },
    /// The kernel was built without userfaultfd, or a sandbox hides it.
    NotBuilt,
    /// The kernel cannot write-protect anonymous memory through userfaultfd (it takes Linux 5.7,
    /// on x86-64, arm64 or riscv).
    NoWriteProtect {
        /// The features that it has, as `UFFDIO_API` reports them.
        features: u64,
    },
    /// The kernel cannot serve shared memory, which a [`Window`](crate::Window) is made of: missing and present pages,
    /// protected ones, moved ones and poisoned ones (it takes Linux 6.6).
    NoSharedMemory {
        /// The features that it has, as `UFFDIO_API` reports them; 0 where it reported none.
        features: u64,
    },
    /// Something else failed; trying again may help if it was a limit.
    Other(OsError),
}

impl fmt::Display for UffdRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            UffdRefused::NotPermitted { errno } => write!(
                f,
                "userfaultfd is not permitted here ({}); permit it by `sysctl \
                 vm.unprivileged_userfaultfd=1`, by CAP_SYS_PTRACE, by read and write access to \
                 /dev/userfaultfd, or, in a container, by a seccomp profile that lets \
                 userfaultfd(2) through",
                io::Error::from_raw_os_error(errno)
            ),
            UffdRefused::NotBuilt => f.write_str(
                "this kernel has no userfaultfd, or a sandbox hides it; use a kernel with \
                 CONFIG_USERFAULTFD=y, or a seccomp profile that lets userfaultfd(2) through",
            ),
            UffdRefused::NoWriteProtect { features } => write!(
                f,
                "this kernel's userfaultfd cannot write-protect anonymous memory (features \
                 {features:#x}); use Linux 5.7 or newer on x86-64, arm64 or riscv"
            ),
            UffdRefused::NoSharedMemory { features } => write!(
                f,
                "this kernel's userfaultfd cannot serve shared memory (features {features:#x}); use Linux 6.6 or newer"
            ),
            UffdRefused::Other(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for UffdRefused {}

/// Whether this process may serve its own page faults; if not, why, and how to permit it.
///
/// Opens a descriptor, shakes hands and closes it again.
pub fn userfaultfd_available() -> Result<(), UffdRefused> {
    Uffd::open().map(drop)
}

/// A fault that a thread waits in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) address: u64,
    /// Whether the thread wants to write.
    pub(crate) is_write: bool,
}

/// What is needed to serve shared memory.
const SHARED: u64 = abi::FEATURE_PAGEFAULT_FLAG_WP
    | abi::FEATURE_EVENT_REMAP
    | abi::FEATURE_MISSING_SHMEM
    | abi::FEATURE_MINOR_SHMEM
    | abi::FEATURE_WP_SHMEM
    | abi::FEATURE_POISON;

/// One userfaultfd descriptor: nonblocking, user-mode faults only, write-protection agreed.
///
/// User-mode only is what makes it need no privilege since Linux 5.11. It also means that a
/// system call which meets a missing page fails with `EFAULT` and does not wait.
pub(crate) struct Uffd {
    fd: OwnedFd,
}

impl Uffd {
    pub(crate) fn open() -> Result<Uffd, UffdRefused> {
        let needed = abi::FEATURE_PAGEFAULT_FLAG_WP;
        Uffd::open_with(needed)?.map_err(|features| UffdRefused::NoWriteProtect { features })
    }

    /// One for shared memory. It also tells of every `mremap` of what is registered, which then waits until the event is read: by
    /// [`Uffd::next_fault`], on another thread.
    pub(crate) fn open_shared() -> Result<Uffd, UffdRefused> {
        Uffd::open_with(SHARED)?.map_err(|features| UffdRefused::NoSharedMemory { features })
    }

    /// With these features, or the features that there are.
    fn open_with(needed: u64) -> Result<Result<Uffd, u64>, UffdRefused> {
        let fd = open_descriptor().map_err(|errno| match errno {
            libc::EPERM | libc::EACCES => UffdRefused::NotPermitted { errno },
            libc::ENOSYS => UffdRefused::NotBuilt,
            _ => UffdRefused::Other(OsError::new("userfaultfd", errno)),
        })?;
        let uffd = Uffd { fd };
        let mut api = abi::Api { api: abi::UFFD_API, features: needed, ioctls: 0 };
        match uffd.ioctl(abi::API, "ioctl(UFFDIO_API)", &mut api) {
            Ok(()) if api.features & needed == needed => Ok(Ok(uffd)),
            // The kernel answers EINVAL, and zeroes the structure, when it lacks a feature asked for.
            Ok(()) => Ok(Err(api.features)),
            Err(error) if error.errno() == libc::EINVAL => Ok(Err(api.features)),
            Err(error) => Err(UffdRefused::Other(error)),
        }
    }

    /// From now on, missing pages and writes to protected pages of `span` become events.
    pub(crate) fn register(&self, span: Span<'_>) -> Result<(), UffdRefused> {
        let ioctls = self.register_modes(span, abi::REGISTER_MODE_MISSING | abi::REGISTER_MODE_WP);
        let ioctls = ioctls.map_err(UffdRefused::Other)?;
        let needed = [0x02, 0x03, 0x06].map(|nr: u32| 1 << nr).iter().sum::<u64>();
        if ioctls & needed == needed { Ok(()) } else { Err(UffdRefused::NoWriteProtect { features: ioctls }) }
    }

    /// The same for shared memory: also pages of the file that are not mapped here become events.
    pub(crate) fn register_shared(&self, span: Span<'_>) -> Result<(), OsError> {
        let modes = abi::REGISTER_MODE_MISSING | abi::REGISTER_MODE_WP | abi::REGISTER_MODE_MINOR;
        self.register_modes(span, modes).map(drop)
    }

    /// The same for memory that is to be replaced before it has a page.
    pub(crate) fn register_missing(&self, span: Span<'_>) -> Result<(), OsError> {
        self.register_modes(span, abi::REGISTER_MODE_MISSING).map(drop)
    }

    /// The calls that can be made on `span` from now on.
    fn register_modes(&self, span: Span<'_>, mode: u64) -> Result<u64, OsError> {
        let mut register = abi::Register { range: range(span), mode, ioctls: 0 };
        self.ioctl(abi::REGISTER, "ioctl(UFFDIO_REGISTER)", &mut register)?;
        Ok(register.ioctls)
    }

    /// One waiting fault; `None` when no thread waits.
    ///
    /// One event a call, although `read` could give more: the others are for the other handlers.
    pub(crate) fn next_fault(&self) -> Result<Option<Fault>, OsError> {
        loop {
            let mut message = abi::Message::default();
            // SAFETY: `message` is ours and as long as we say; the kernel writes whole messages.
            let got = unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut message).cast(), size_of::<abi::Message>()) };
            if got < 0 {
                match OsError::last("read(userfaultfd)") {
                    error if error.errno() == libc::EAGAIN => return Ok(None),
                    error if error.errno() == libc::EINTR => {}
                    error => return Err(error),
                }
            } else if message.event == abi::EVENT_PAGEFAULT {
                let is_write = message.flags & (abi::PAGEFAULT_FLAG_WRITE | abi::PAGEFAULT_FLAG_WP) != 0;
                return Ok(Some(Fault { address: message.address, is_write }));
            }
            // Memory was moved, by us: to have read that is all that whoever moves it waits for.
        }
    }

    /// Installs the bytes of `from` as the missing pages of `to`, then wakes who waits there.
    ///
    /// The kernel refuses (`EEXIST`) a page that is present, so nothing is ever overwritten.
    pub(crate) fn copy(&self, to: Span<'_>, from: Span<'_>) -> Result<(), OsError> {
        assert_eq!(to.len(), from.len());
        let mut done = 0;
        while done < to.len() as u64 {
            let mut copy = abi::Copy {
                dst: to.address() + done,
                src: from.address() + done,
                len: to.len() as u64 - done,
                mode: 0,
                copied: 0,
            };
            match self.ioctl(abi::COPY, "ioctl(UFFDIO_COPY)", &mut copy) {
                Ok(()) => return Ok(()),
                // Cut short: what was copied is in `copied`; the rest wants another call.
                Err(error) if error.errno() == libc::EAGAIN => {
                    done += u64::try_from(copy.copied).unwrap_or(0);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes writers of `span` wait. When this returns no other core can still write to it.
    pub(crate) fn write_protect(&self, span: Span<'_>) -> Result<(), OsError> {
        self.protection(span, abi::WRITEPROTECT_MODE_WP)
    }

    /// Takes [`Uffd::write_protect`] back and wakes the writers that met it.
    pub(crate) fn write_unprotect(&self, span: Span<'_>) -> Result<(), OsError> {
        self.protection(span, 0)
    }

    fn protection(&self, span: Span<'_>, mode: u64) -> Result<(), OsError> {
        loop {
            let mut protect = abi::WriteProtect { range: range(span), mode };
            match self.ioctl(abi::WRITEPROTECT, "ioctl(UFFDIO_WRITEPROTECT)", &mut protect) {
                Err(error) if error.errno() == libc::EAGAIN => {}
                result => return result,
            }
        }
    }

    /// Maps the file's page behind the missing one at `span`, and wakes nobody; write-protected, if so asked. `false` if the file has none.
    pub(crate) fn map_shared(&self, span: Span<'_>, protect: bool) -> Result<bool, OsError> {
        let protect = if protect { abi::CONTINUE_MODE_WP } else { 0 };
        match self.place(abi::CONTINUE, "ioctl(UFFDIO_CONTINUE)", span, protect | abi::CONTINUE_MODE_DONTWAKE) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == libc::EFAULT => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes every access to the missing pages of `span` a `SIGBUS`, also those that wait there.
    pub(crate) fn poison(&self, span: Span<'_>) -> Result<(), OsError> {
        self.place(abi::POISON, "ioctl(UFFDIO_POISON)", span, 0)
    }

    fn place(&self, request: libc::Ioctl, name: &'static str, span: Span<'_>, mode: u64) -> Result<(), OsError> {
        loop {
            let mut place = abi::Place { range: range(span), mode, done: 0 };
            match self.ioctl(request, name, &mut place) {
                // While another thread moves memory, until its event is read.
                Err(error) if error.errno() == libc::EAGAIN => std::thread::yield_now(),
                result => return result,
            }
        }
    }

    /// Lets every thread that waits in `span` try its access again.
    pub(crate) fn wake(&self, span: Span<'_>) -> Result<(), OsError> {
        self.ioctl(abi::WAKE, "ioctl(UFFDIO_WAKE)", &mut range(span))
    }

    /// Sleeps until a fault may be waiting (`true`) or `stop` was rung (`false`).
    pub(crate) fn wait(&self, stop: &Stop) -> Result<bool, OsError> {
        let watch = |fd: &OwnedFd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut watched = [watch(&self.fd), watch(&stop.fd)];
        loop {
            // SAFETY: Two structures, ours, of open descriptors.
            if unsafe { libc::poll(watched.as_mut_ptr(), 2, -1) } >= 0 {
                return Ok(watched[1].revents == 0);
            }
            match OsError::last("poll(userfaultfd)") {
                error if error.errno() == libc::EINTR => {}
                error => return Err(error),
            }
        }
    }

    fn ioctl<T>(&self, request: libc::Ioctl, name: &'static str, argument: &mut T) -> Result<(), OsError> {
        // SAFETY: Each caller passes the structure that its request was made for (the request
        // numbers above are computed from these very types), so the kernel stays inside it. What
        // the kernel does to memory named inside it is bounded by `Span`, which stays mapped:
        // it reads the source of a copy, and it fills pages that were missing.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), request, &raw mut *argument) } {
            0.. => Ok(()),
            _ => Err(OsError::last(name)),
        }
    }
}

fn range(span: Span<'_>) -> abi::Range {
    abi::Range { start: span.address(), len: span.len() as u64 }
}

/// The system call first, since it needs nothing; the device node where that is refused.
fn open_descriptor() -> Result<OwnedFd, i32> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
    let call = |flags: libc::c_int| {
        // SAFETY: Takes a word and gives a descriptor.
        owned(unsafe { libc::syscall(libc::SYS_userfaultfd, flags) } as libc::c_int)
    };
    match call(flags | abi::UFFD_USER_MODE_ONLY) {
        // Before Linux 5.11 there is no such flag; what may be opened may then serve all faults.
        Err(libc::EINVAL) => call(flags),
        Err(errno @ (libc::EPERM | libc::EACCES | libc::ENOSYS)) => {
            let node = File::options().read(true).write(true).open("/dev/userfaultfd").map_err(|_| errno)?;
            let flags = flags | abi::UFFD_USER_MODE_ONLY;
            // SAFETY: Takes a word and gives a descriptor.
            owned(unsafe { libc::ioctl(node.as_raw_fd(), abi::IOC_NEW, flags) }).map_err(|_| errno)
        }
        result => result,
    }
}

fn owned(fd: libc::c_int) -> Result<OwnedFd, i32> {
    if fd < 0 {
        return Err(OsError::last("").errno());
    }
    // SAFETY: The kernel has just given us `fd`; nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Rung once, heard by every handler: an event counter that nobody reads back to zero.
pub(crate) struct Stop {
    fd: OwnedFd,
}

impl Stop {
    pub(crate) fn new() -> Result<Stop, OsError> {
        // SAFETY: Takes two words and gives a descriptor.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        match owned(fd) {
            Ok(fd) => Ok(Stop { fd }),
            Err(errno) => Err(OsError::new("eventfd", errno)),
        }
    }

    pub(crate) fn ring(&self) {
        let one = 1u64;
        // SAFETY: Eight bytes of ours. The counter is far from full, so the write cannot fail.
        let wrote = unsafe { libc::write(self.fd.as_raw_fd(), (&raw const one).cast(), 8) };
        debug_assert_eq!(wrote, 8);
    }
}

#[cfg(test)]
mod tests {
    use super::{UffdRefused, userfaultfd_available};

    #[test]
    fn a_refusal_says_why_and_how_to_permit_it() {
        let refused = UffdRefused::NotPermitted { errno: libc::EPERM }.to_string();
        for way in ["not permitted", "vm.unprivileged_userfaultfd=1", "CAP_SYS_PTRACE", "/dev/userfaultfd", "seccomp"] {
            assert!(refused.contains(way), "no {way} in {refused}");
        }
        assert!(UffdRefused::NotBuilt.to_string().contains("CONFIG_USERFAULTFD"));
        assert!(UffdRefused::NoWriteProtect { features: 0 }.to_string().contains("Linux 5.7"));
    }

    #[test]
    fn whether_it_is_available_does_not_change_by_asking() {
        assert_eq!(userfaultfd_available(), userfaultfd_available());
    }
}
