//! All threads on one core: as one at a time goes on, others would only sleep, and waking one there is what takes long.

/// Keeps this thread, and those that it starts from now on, on the core where it is. Where the system refuses it only
/// takes longer: counts are the same.
#[cfg(target_os = "linux")]
pub fn to_one_core() {
    use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};

    let mut cores = CpuSet::new();
    cores.set(sched_getcpu());
    let _ = sched_setaffinity(None, &cores);
}

/// No such call is known here: it only takes longer.
#[cfg(not(target_os = "linux"))]
pub fn to_one_core() {}
