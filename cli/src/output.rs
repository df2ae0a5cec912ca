//! The report for a person: tables and a last line that says how it went.

use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use indicatif::{HumanBytes, HumanCount};

use crate::report::Report;

/// The tables. What happened in words is [`verdict`]'s.
pub(crate) fn tables(report: &Report) -> String {
    let mut phases = table(&["phase", "time", "throughput", "faults", "in plain memory"]);
    for phase in &report.phases {
        let plain = phase.plain_seconds.map_or(String::new(), |plain| {
            format!("{}, {:.1} times faster", seconds(plain), phase.seconds / plain.max(1e-9))
        });
        add(
            &mut phases,
            &[
                phase.name.into(),
                seconds(phase.seconds),
                throughput(phase.bytes_per_second),
                count(phase.faults),
                plain,
            ],
        );
    }

    let mut facts = table(&["memory", ""]);
    let mut row = |name: &str, value: String| add(&mut facts, &[name.into(), value]);
    row(
        "mode",
        match report.mode {
            "faults" => format!("real page faults, {} handlers", report.handlers),
            _ => "software: accessor, no page faults".into(),
        },
    );
    row(
        "size",
        format!("{} from {} of input, {} threads", bytes(report.size_bytes), bytes(report.input_bytes), report.threads),
    );
    row("run", format!("order {}, {}", report.order, bytes(report.run_bytes)));
    row(
        "peak resident / budget",
        format!(
            "{} / {} pages ({})",
            count(report.peak_resident_pages),
            count(report.budget_pages),
            bytes(report.budget_bytes)
        ),
    );
    row(
        "faults",
        format!(
            "{}, {}/s; {} more only woken",
            count(report.faults),
            count(report.faults_per_second as u64),
            count(report.spurious_faults)
        ),
    );
    row(
        "fault latency p50 / p99 / max",
        format!(
            "{} / {} / {}",
            micros(report.fault_latency_p50_ns),
            micros(report.fault_latency_p99_ns),
            micros(report.fault_latency_max_ns)
        ),
    );
    row(
        "pages to device / home",
        format!(
            "{} / {}, {}",
            count(report.pages_to_device),
            count(report.pages_home),
            throughput(report.moved_bytes_per_second)
        ),
    );
    row("pages of zeros", count(report.zero_filled_pages));
    row("lookups", count(report.lookups));
    row("pages in use at the end", count(report.pages_in_use_at_end));
    row(
        "page metadata peak / end",
        format!("{} / {}", bytes(report.metadata_bytes_peak), bytes(report.metadata_bytes_end)),
    );
    row(
        "throughput",
        format!("{} over {}", throughput(report.throughput_bytes_per_second), seconds(report.wall_seconds)),
    );
    format!("{phases}\n{facts}")
}

/// One line: equal, or what differs, or where it was interrupted.
pub(crate) fn verdict(report: &Report) -> String {
    match (&report.difference, report.interrupted_in) {
        (Some(difference), _) => format!(
            "DIFFERENT in phase {}: chunk {} (bytes {}..{}) hashes to {} in the region and to {} \
             in plain memory",
            difference.phase,
            difference.chunk,
            difference.start_byte,
            difference.end_byte,
            difference.region_hash,
            difference.plain_hash
        ),
        (None, Some(phase)) => format!(
            "interrupted in phase {phase}: the region is down, {} device pages are in use",
            report.pages_in_use_at_end
        ),
        (None, None) => format!(
            "equal: every hash of {} is that of plain memory, before and after the sort",
            bytes(report.size_bytes)
        ),
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header);
    table
}

/// Adds a row: the first cell names it, the others are numbers and stand to the right.
fn add(table: &mut Table, row: &[String]) {
    table.add_row(row.iter().enumerate().map(|(column, text)| {
        let alignment = if column == 0 { CellAlignment::Left } else { CellAlignment::Right };
        Cell::new(text).set_alignment(alignment)
    }));
}

pub(crate) fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

fn throughput(bytes_per_second: f64) -> String {
    format!("{}/s", HumanBytes(bytes_per_second as u64))
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.2} s")
}

fn micros(nanos: u64) -> String {
    format!("{:.1} µs", Duration::from_nanos(nanos).as_secs_f64() * 1e6)
}
