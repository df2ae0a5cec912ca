//! Blocks of a key-value cache: sequences share the blocks of a common prefix, and a block is free when the last
//! sequence has let it go.
//!
//! Run it: `cargo run --example kv_cache`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farpage::{AllocError, Device, DeviceConfig, DeviceOps, Folio, FreedFolio, Order, Space};

/// 16 pages of device memory hold the keys and values of one block of tokens.
const BLOCK: Order = match Order::new(4) {
    Some(order) => order,
    None => panic!("order 4 exists"),
};

/// A sequence being generated: its blocks, in order. Cloning it forks it: each block gets one more reference.
#[derive(Clone)]
struct Sequence<'s> {
    blocks: Vec<Folio<'s>>,
}

impl<'s> Sequence<'s> {
    fn grow(&mut self, device: &Device<'s>, nr_blocks: usize) -> Result<(), AllocError> {
        device.alloc_many(BLOCK, nr_blocks, &mut self.blocks)
    }
}

#[derive(Default)]
struct CountFrees(AtomicU64);

impl DeviceOps for CountFrees {
    fn folio_free(&self, folio: FreedFolio) {
        self.0.fetch_add(folio.order().nr_pages(), Relaxed);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let space = Space::new()?;
    let freed = Arc::new(CountFrees::default());
    let device = space.register(DeviceConfig::new(1 << 12).name("kv-cache").ops(Arc::clone(&freed)))?;

    let mut prompt = Sequence { blocks: Vec::new() };
    prompt.grow(&device, 10)?;

    // Eight answers to one prompt: its ten blocks are shared, and each grows five of its own.
    let mut answers = vec![prompt.clone(); 8];
    for answer in &mut answers {
        answer.grow(&device, 5)?;
    }
    assert_eq!(prompt.blocks[0].refs(), 9);
    assert_eq!(device.nr_live_pages(), (10 + 8 * 5) * 16);

    // More than there is: an error with the numbers, and nothing has changed.
    let error = answers[0].grow(&device, 250).unwrap_err();
    println!("asked for too much: {error}");
    assert_eq!(answers[0].blocks.len(), 15);

    drop(answers);
    assert_eq!(freed.0.load(Relaxed), 8 * 5 * 16, "the prompt still has its blocks");
    drop(prompt);
    assert_eq!(device.nr_live_pages(), 0);
    space.validate()?;
    println!("{}", space.report());
    Ok(())
}
