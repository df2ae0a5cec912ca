//! What this process has of the machine's memory, as the system says. Linux.

use std::fs::read_to_string;

/// Bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    /// Resident pages, each looked at: `/proc/self/statm` is off by some pages for each core.
    pub(crate) pages: u64,
    /// The tables that lead to them.
    pub(crate) tables: u64,
    /// What is mapped, resident or not.
    pub(crate) address_space: u64,
}

impl Resident {
    pub(crate) fn now() -> Resident {
        let pages = kib("/proc/self/smaps_rollup", "Rss:") << 10;
        let of_status = |field| kib("/proc/self/status", field) << 10;
        Resident { pages, tables: of_status("VmPTE:"), address_space: of_status("VmSize:") }
    }

    /// All that is resident.
    pub(crate) fn bytes(self) -> u64 {
        self.pages + self.tables
    }

    /// How much more it is than it was.
    pub(crate) fn since(self, before: Resident) -> Resident {
        Resident {
            pages: self.pages.saturating_sub(before.pages),
            tables: self.tables.saturating_sub(before.tables),
            address_space: self.address_space.saturating_sub(before.address_space),
        }
    }
}

fn kib(file: &str, field: &str) -> u64 {
    let text = read_to_string(file).expect("Linux has it");
    let value = text.lines().find_map(|line| line.strip_prefix(field)).expect("it is there");
    value.trim().trim_end_matches(" kB").parse().expect("a number")
}
