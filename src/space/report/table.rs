//! A report as a table for people.
#![forbid(unsafe_code)]

use core::fmt;

use super::{DeviceReport, FreeRuns, OwnerReport, SpaceReport};

const NR_COLUMNS: usize = 10;

const HEADS: [&str; NR_COLUMNS] =
    ["device", "owner", "start", "pages", "live", "free", "cached", "largest", "longest", "frag"];

/// The cells of a line, and what is said after them.
struct Line {
    cells: [String; NR_COLUMNS],
    remark: &'static str,
}

impl Line {
    fn of_device(device: &DeviceReport) -> Line {
        // A line stays a line, whatever the name is.
        let name = device.name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        let pages = [device.nr_pages, device.live_pages, device.free_pages, device.cached_pages];
        let place = [
            if device.name.is_empty() { "(unnamed)".into() } else { name },
            device.owner.to_string(),
            format!("{:#x}", device.start),
        ];
        let remark = if device.dying { "dying" } else { "" };
        Line::new(place, pages, &device.free_runs, device.longest_free_run, remark)
    }

    fn of_owner(owner: &OwnerReport) -> Line {
        let pages = [owner.nr_pages, owner.live_pages, owner.free_pages, owner.cached_pages];
        let devices = if owner.nr_devices == 1 { "1 device" } else { &format!("{} devices", owner.nr_devices) };
        let place = [format!("= {devices}"), owner.owner.to_string(), String::new()];
        Line::new(place, pages, &owner.free_runs, owner.longest_free_run, "")
    }

    fn new(place: [String; 3], pages: [u64; 4], runs: &FreeRuns, longest: u64, remark: &'static str) -> Line {
        let [name, owner, start] = place;
        let [all, live, free, cached] = pages.map(|nr| nr.to_string());
        let (largest, frag) = (runs.largest_pages().to_string(), percent(runs.fragmentation_permille()));
        Line { cells: [name, owner, start, all, live, free, cached, largest, longest.to_string(), frag], remark }
    }

    fn write(&self, widths: &[usize; NR_COLUMNS], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{:<width$}", self.cells[0], width = widths[0])?;
        for (cell, width) in self.cells.iter().zip(widths).skip(1) {
            write!(f, "  {cell:>width$}")?;
        }
        if self.remark.is_empty() { Ok(()) } else { write!(f, "  {}", self.remark) }
    }
}

fn percent(permille: u32) -> String {
    format!("{}.{}%", permille / 10, permille % 10)
}

/// Pages and metadata of the space, free runs by order, and a table: `largest` is the largest folio that could be
/// allocated, `longest` the longest run, `frag` the share of free pages in runs below order 9.
impl fmt::Display for SpaceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "pages: {} of {} live, {} free ({} cached), room for {}",
            self.live_pages, self.registered_pages, self.free_pages, self.cached_pages, self.max_pages,
        )?;
        write!(f, "free runs by order:")?;
        for (order, nr) in self.free_runs.iter().enumerate().filter(|(_, nr)| **nr > 0) {
            write!(f, " {order}:{nr}")?;
        }
        writeln!(f, "; {} of the free pages are below order 9", percent(self.fragmentation_permille))?;
        write!(
            f,
            "metadata: {} KiB populated ({} KiB of page records)",
            self.metadata_populated_bytes >> 10,
            self.section_bytes >> 10,
        )?;
        if let Some(bytes) = self.metadata_resident_bytes {
            write!(f, ", {} KiB resident", bytes >> 10)?;
        }
        write!(
            f,
            ", {} MiB of address space; {} populates, {} trims",
            self.metadata_reserved_bytes >> 20,
            self.metadata_populates,
            self.metadata_trims,
        )?;
        let heads = Line { cells: HEADS.map(String::from), remark: "" };
        let devices = self.devices.iter().map(Line::of_device);
        let lines: Vec<Line> =
            core::iter::once(heads).chain(devices).chain(self.owners.iter().map(Line::of_owner)).collect();
        let widths =
            core::array::from_fn(|at| lines.iter().map(|line| line.cells[at].chars().count()).max().unwrap_or(0));
        lines.iter().try_for_each(|line| line.write(&widths, f))
    }
}
