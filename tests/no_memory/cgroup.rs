//! A memory cgroup that is full, really: the system has memory, but none for this process, until it may have more.
//!
//! Only the first version of cgroups can be told to refuse instead of to kill (`memory.oom_control`); where it is not there, or not
//! this process's to change, the test says so and is done.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::thread;
use std::time::Duration;

use farpage::{AllocError, DeviceConfig, Folio, Order, Space};

use crate::child::{self, say};
use crate::unpopulated;

/// What the process may have beyond what it has when the limit is set: some 60 sections of metadata.
const ROOM: u64 = 4 << 20;

/// A cgroup of this process alone. Goes with the process's parent, which is not in it.
struct Cgroup {
    limit: File,
    path: PathBuf,
}

impl Cgroup {
    fn at(parent: u32) -> PathBuf {
        Path::new("/sys/fs/cgroup/memory").join(format!("farpage-test-{parent}"))
    }

    /// Moves this process into a new one, which refuses what is beyond its limit.
    fn join() -> io::Result<Cgroup> {
        let path = Cgroup::at(std::os::unix::process::parent_id());
        fs::create_dir(&path)?;
        fs::write(path.join("memory.oom_control"), "1")?;
        fs::write(path.join("cgroup.procs"), std::process::id().to_string())?;
        let limit = OpenOptions::new().write(true).open(path.join("memory.limit_in_bytes"))?;
        Ok(Cgroup { limit, path })
    }

    fn usage(&self) -> u64 {
        let text = fs::read_to_string(self.path.join("memory.usage_in_bytes")).expect("it is ours");
        text.trim().parse().expect("a number")
    }

    /// By a file that is open, and with memory that is there: it must work when there is no more.
    fn limit(&self, bytes: i64) {
        let mut text = [0; 20];
        let mut rest = &mut text[..];
        io::Write::write_fmt(&mut rest, format_args!("{bytes}")).expect("20 digits");
        let unused = rest.len();
        self.limit.write_all_at(&text[..20 - unused], 0).expect("it is ours");
    }
}

#[test]
fn a_full_memory_cgroup_is_an_error_and_changes_nothing() {
    const NAME: &str = "cgroup::a_full_memory_cgroup_is_an_error_and_changes_nothing";
    child::run(NAME, &[("MALLOC_ARENA_MAX", "1")], confined);
    // Empty by now, if there was one.
    let _ = fs::remove_dir(Cgroup::at(std::process::id()));
}

fn confined() {
    let cgroup = match Cgroup::join() {
        Ok(cgroup) => cgroup,
        Err(error) => return say(&format!("a memory cgroup: not to be had here: {error}")),
    };
    // SAFETY: Only makes what is mapped resident, so that little is left to be refused beside metadata.
    let locked = unsafe { libc::mlockall(libc::MCL_CURRENT) };
    assert_eq!(locked, 0, "{}", io::Error::last_os_error());
    let space = Space::builder().max_pages(1 << 26).build().expect("address space");
    let device = space.register(DeviceConfig::new(1 << 24)).expect("room");
    // 16 of them have records in one section.
    let order = Order::new(8).expect("an order");
    let kept = device.alloc(order).expect("room");
    let mut held: Vec<Folio<'_>> = Vec::with_capacity(1 << 12);

    // An access to memory that is not there yet sleeps until there is some. It cannot be excluded that ours does so, or that this
    // thread's stack grows; then there is a little more for it.
    let (steps, is_done, has_begun) = (AtomicU64::new(0), AtomicBool::new(false), AtomicBool::new(false));
    let error = thread::scope(|scope| {
        scope.spawn(|| {
            // Here, so that this thread has what it needs before there is a limit.
            let (mut most, mut seen) = (cgroup.usage() + ROOM, 0);
            cgroup.limit(most as i64);
            has_begun.store(true, Relaxed);
            while !is_done.load(Relaxed) {
                thread::sleep(Duration::from_millis(50));
                let now = steps.load(Relaxed);
                if now == seen {
                    most += 64 << 10;
                    cgroup.limit(most as i64);
                }
                seen = now;
            }
            cgroup.limit(-1);
        });
        while !has_begun.load(Relaxed) {
            thread::yield_now();
        }
        let error = loop {
            match device.alloc(order) {
                Ok(folio) if held.len() < held.capacity() => held.push(folio),
                Ok(_) => break None,
                Err(error) => break Some(error),
            }
            steps.fetch_add(1, Relaxed);
        };
        is_done.store(true, Relaxed);
        error
    });

    assert_eq!(error, Some(AllocError::NoMemory), "after {} folios", held.len());
    space.validate().expect("nothing is lost");
    let report = unpopulated(space.report());
    assert_eq!(report.live_pages, (1 + held.len() as u64) * order.nr_pages());
    say(&format!(
        "a memory cgroup with 4 MiB left: {} folios of 256 pages, then: {}",
        held.len(),
        AllocError::NoMemory
    ));
    assert!(held.len() as u64 >= ROOM / 2 / (4 << 10), "a section has 64 KiB and 16 of them");
    let again = device.alloc(order).expect("there is memory again");
    space.validate().expect("nothing is lost");
    drop((kept, held, again));
    assert_eq!(device.nr_live_pages(), 0);
    device.unregister().expect("nothing lives there");
    space.validate().expect("nothing is lost");
}
