//! Faults that cannot be served are a `SIGBUS` for the thread that waits, and nothing is lost: each in a process of its own.

use std::io;
use std::mem::offset_of;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;

use farpage::Protection;
use farpage_region::{RealMemory, RegionError, UffdRefused, Window};

use crate::mm_support::{Kind, PAGE, assert_bytes, pattern, read};
use crate::{load, pages, real, store};

const SIGBUS: i32 = 7;

/// Runs one test of this file again, in another process, as `part` of itself; how that ended.
fn again(test: &str, part: &str) -> std::process::ExitStatus {
    let this = std::env::current_exe().unwrap();
    let child = Command::new(this)
        .args(["--exact", &format!("refused::{test}"), "--nocapture", "--test-threads=1"])
        .env("FARPAGE_REFUSED_PART", part)
        .output()
        .unwrap();
    child.status
}

fn part() -> Option<String> {
    std::env::var("FARPAGE_REFUSED_PART").ok()
}

/// Whether real faults are to be had, and so whether anything can be refused.
fn is_possible() -> bool {
    let mut possible = false;
    real(Kind::Private, |_| possible = true);
    possible
}

#[test]
fn an_access_that_is_refused_is_a_sigbus() {
    let Some(part) = part() else {
        if is_possible() {
            for part in ["no mapping", "read-only", "none", "driver", "write-protect mark"] {
                let ended = again("an_access_that_is_refused_is_a_sigbus", part);
                assert_eq!(ended.signal(), Some(SIGBUS), "{part}: {ended}");
            }
            let ended = again("an_access_that_is_refused_is_a_sigbus", "allowed");
            assert!(ended.success(), "what is allowed goes on: {ended}");
        }
        return;
    };
    real(Kind::Private, |real| {
        real.anon(4 * PAGE, |space, view, all| {
            store(view, 0, &pattern(4 * PAGE, 1));
            let (second, load_it) = (pages(all, 1, 1), || drop(load(view, PAGE, 4)));
            match part.as_str() {
                "no mapping" => {
                    space.unmap(second).unwrap();
                    load_it();
                }
                "read-only" => {
                    space.protect(second, Protection::Read).unwrap();
                    load_it(); // may be read
                    store(view, PAGE, &[1; 4]);
                }
                "none" => {
                    space.protect(second, Protection::None).unwrap();
                    load_it();
                }
                "driver" => {
                    real.gpu.migrate_in(space, second).unwrap();
                    real.gpu.vram.fail_faults.store(true, std::sync::atomic::Ordering::Relaxed);
                    load_it();
                }
                "write-protect mark" => {
                    space.write_protect(second, true).unwrap();
                    load_it(); // may be read
                    store(view, PAGE, &[1; 4]);
                }
                _ => {
                    space.protect(second, Protection::Read).unwrap();
                    space.protect(second, Protection::ReadWrite).unwrap();
                    store(view, PAGE, &[1; 4]);
                }
            }
        });
    });
}

/// A thread that gets a `SIGBUS` jumps out of it, as a program with a handler for it does; here it is the only thread of a child that
/// ends by it. In the parent the refusal is seen through the address space: the page is where it was, and can be had later.
#[test]
fn nothing_is_lost_by_a_refusal() {
    real(Kind::Private, |real| {
        real.anon(4 * PAGE, |space, view, all| {
            store(view, 0, &pattern(4 * PAGE, 2));
            real.gpu.migrate_in(space, all).unwrap();
            let fails = &real.gpu.vram.fail_faults;
            fails.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(space.fault(all.start(), farpage::Access::Read).is_err());
            assert_eq!((real.gpu.live(), view.counts().mapped), (4, 4));
            fails.store(false, std::sync::atomic::Ordering::Relaxed);
            assert_bytes(&load(view, 0, 4 * PAGE), &pattern(4 * PAGE, 2));
            assert_bytes(&read(space, all.start().get(), 4 * PAGE), &pattern(4 * PAGE, 2));
        });
    });
}

/// Userfaultfd is refused with `EPERM` from now on, for this thread, by the call and by the device node.
fn refuse_userfaultfd() {
    const NEW: u32 = 0xAA00; // USERFAULTFD_IOC_NEW
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |at: usize| step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at as u32);
    let is = |k: u32, then: u8, otherwise: u8| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, then, otherwise, k);
    let give = |k: u32| step(libc::BPF_RET | libc::BPF_K, 0, 0, k);
    let low_half = if cfg!(target_endian = "big") { 4 } else { 0 };
    let mut steps = [
        load(offset_of!(libc::seccomp_data, nr)),
        is(libc::SYS_userfaultfd as u32, 3, 0),
        is(libc::SYS_ioctl as u32, 0, 3),
        load(offset_of!(libc::seccomp_data, args) + size_of::<u64>() + low_half),
        is(NEW, 0, 1),
        give(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        give(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: This thread only gives up getting more privileges by executing a file.
    let given_up = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(given_up, 0, "{}", io::Error::last_os_error());
    // SAFETY: The program is complete, and the system copies it.
    let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

#[test]
fn where_faults_may_not_be_served_that_is_the_reason_given() {
    let refused = thread::spawn(|| {
        refuse_userfaultfd();
        let memory = RealMemory::new(16).unwrap();
        Window::new(&memory, PAGE).err()
    });
    let refused = refused.join().unwrap();
    let reason = Some(RegionError::Refused(UffdRefused::NotPermitted { errno: libc::EPERM }));
    assert_eq!(refused, reason);
}
