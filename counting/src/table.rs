//! Rows, as people read them.

use comfy_table::{CellAlignment, Table, presets};

use crate::row::Row;
use crate::stage::DEVICE_PAGES;

/// The figures.
pub fn figures(rows: &[Row]) -> Table {
    let mut table = table(&[
        "an operation's",
        "threads",
        "RMWs",
        "failed",
        "lines written",
        "remote writes",
        "of a neighbour",
        "contended reads",
        "heavy barriers",
        "pages cached",
    ]);
    for row in rows {
        let figures = [
            row.rmws,
            row.failed_rmws,
            row.lines_written,
            row.remote_writes,
            row.neighbour_writes,
            row.contended_reads,
            row.heavy_barriers,
        ];
        let share = 100.0 * row.cached_pages as f64 / DEVICE_PAGES as f64;
        let cached = format!("{} ({share:.3} %)", row.cached_pages);
        let start = [row.workload.to_owned(), row.threads.to_string()];
        table.add_row(start.into_iter().chain(figures.map(|figure| format!("{figure:.3}"))).chain([cached]));
    }
    right_from(table, 1)
}

/// Where the remote writes and contended reads of each row come from: the `most` places that cost most.
pub fn sites(rows: &[Row], most: usize) -> Table {
    let mut table =
        table(&["an operation's", "threads", "place", "remote writes", "of a neighbour", "contended reads"]);
    for row in rows {
        for site in row.sites.iter().take(most) {
            let figures = [site.remote_writes, site.neighbour_writes, site.contended_reads];
            let start = [row.workload.to_owned(), row.threads.to_string(), site.site.clone()];
            table.add_row(start.into_iter().chain(figures.map(|figure| format!("{figure:.3}"))));
        }
    }
    right_from(table, 3)
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    table
}

fn right_from(mut table: Table, first: usize) -> Table {
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
