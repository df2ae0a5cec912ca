//! Has 512 pages in one way a given number of times, for an instruction counter around it.
//!
//! `count_split WAY RUNS`: the difference of two counts with different `RUNS` is the way and nothing else, as with
//! `count_lookup`. `count_split split-only RUNS` splits blocks and keeps them, so that no free is in it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use farpage::{DeviceConfig, Folio, Order, Space};
use farpage_benches::split::{PAGES, Way};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (name, runs) = match arguments.as_slice() {
        [name, runs] => (name.as_str(), runs.parse::<usize>().ok()),
        _ => ("", None),
    };
    let way = Way::ALL.into_iter().find(|way| way.name() == name);
    let (Some(runs), true) = (runs, way.is_some() || ["split-only", "blocks"].contains(&name)) else {
        let names = Way::ALL.map(Way::name);
        eprintln!("usage: count_split {}|split-only|blocks RUNS", names.join("|"));
        return ExitCode::from(2);
    };
    // A space that an instruction counter's own memory map has room for.
    let space = Space::builder().max_pages(1 << 20).build().expect("address space for the metadata");
    let device = space.register(DeviceConfig::new(1 << 16).name("bench")).expect("a device in an empty space");
    let mut folios: Vec<Folio<'_>> = Vec::with_capacity(PAGES);
    match way {
        Some(way) => (0..runs).for_each(|_| way.run(&device, &mut folios)),
        None => {
            let mut blocks = Vec::with_capacity(runs);
            device.alloc_many(Order::HUGE, runs, &mut blocks).expect("at most 128 runs");
            let parts: Vec<_> = match name {
                "split-only" => blocks.drain(..).map(|block| block.split(Order::ZERO).expect("sole")).collect(),
                _ => Vec::new(),
            };
            // Neither is freed: that is another price.
            std::mem::forget((blocks, parts));
        }
    }
    ExitCode::SUCCESS
}
