//! Does one thing to 2,048 pages in a function that an instruction counter is told to watch; see `instructions.sh`.

use std::process::ExitCode;

use farpage::RangeEntry;
use farpage_mm_benches::{Bench, Room, Spaces, fault_home, range, snapshot};

/// Pages that are watched; as many before them warm everything up that is made once.
const WATCHED: u64 = 2048;

/// What is counted: nothing else runs in it.
#[inline(never)]
fn watched(work: &mut dyn FnMut()) {
    work();
}

fn main() -> ExitCode {
    let kind = std::env::args().nth(1).unwrap_or_default();
    let spaces = Spaces::new();
    let bench = Bench::new(&spaces);
    let space = bench.space(2 * WATCHED);
    let mut room = Room::default();
    let mut entries = vec![RangeEntry::HOLE; WATCHED as usize];
    match kind.as_str() {
        "in-512" | "in-1" => {
            let per_batch = if kind == "in-1" { 1 } else { 512 };
            bench.migrate_in(&space, &mut room, 0, WATCHED, per_batch);
            watched(&mut || bench.migrate_in(&space, &mut room, WATCHED, WATCHED, per_batch));
        }
        "home" => {
            bench.migrate_in(&space, &mut room, 0, 2 * WATCHED, 512);
            fault_home(&space, 0, WATCHED);
            watched(&mut || fault_home(&space, WATCHED, WATCHED));
        }
        "snapshot" => {
            bench.migrate_in(&space, &mut room, 0, 2 * WATCHED, 512);
            snapshot(&space, 0, &mut entries);
            watched(&mut || snapshot(&space, WATCHED, &mut entries));
            assert!(entries.iter().all(|entry| entry.is_device_private()));
        }
        "unmap" => {
            bench.migrate_in(&space, &mut room, 0, 2 * WATCHED, 512);
            space.unmap(range(0, WATCHED)).expect("memory");
            watched(&mut || space.unmap(range(WATCHED, WATCHED)).expect("memory"));
        }
        _ => {
            eprintln!("usage: count_mm in-512|in-1|home|snapshot|unmap");
            return ExitCode::from(2);
        }
    }
    println!("{WATCHED}");
    ExitCode::SUCCESS
}
