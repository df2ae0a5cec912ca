//! A page table of one's own: atomic words, a lock that pins them, and pages that move to a device and home again.
//!
//! Run it: `cargo run --example leaf_table`. The same with real page faults is the package in `region/`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farpage::{Access, Device, DeviceConfig, LeafKind, Order, Pfn, SoftLeaf, Space};

/// Eight pages of "host memory", each a number, and where each of them is now.
struct Table {
    words: [AtomicU64; 8],
    host: [AtomicU64; 8],
    /// The page-table lock: while it is held, no leaf changes. So a leaf keeps its folio, and lookups need no reference.
    lock: Mutex<()>,
}

impl Table {
    fn leaf(&self, page: usize) -> SoftLeaf {
        SoftLeaf::from_bits(self.words[page].load(Relaxed))
    }

    /// Moves a page to the device. The content lives in the folio's private word here; a driver would copy it.
    fn to_device(&self, page: usize, device: &Device<'_>) -> Result<(), farpage::AllocError> {
        let _lock = self.lock.lock().unwrap();
        let folio = device.alloc(Order::ZERO)?;
        folio.set_private(self.host[page].swap(0, Relaxed));
        self.words[page].store(folio.into_leaf(Access::Write).bits(), Relaxed);
        Ok(())
    }

    /// What a fault does: leaf, page, copy home, and the leaf's reference is put.
    fn fault(&self, page: usize, space: &Space) -> u64 {
        let _lock = self.lock.lock().unwrap();
        let leaf = self.leaf(page);
        if let Some(on_device) = space.lookup(leaf) {
            self.host[page].store(on_device.private(), Relaxed);
            let pfn = Pfn::new(page as u64).expect("a small number");
            self.words[page].store(SoftLeaf::present(pfn, Access::Write).bits(), Relaxed);
            drop(space.take(leaf).expect("the lock kept the leaf"));
        }
        self.host[page].load(Relaxed)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let space = Space::new()?;
    let device = space.register(DeviceConfig::new(8).name("example"))?;
    let table = Table {
        words: Default::default(),
        host: std::array::from_fn(|page| AtomicU64::new(100 + page as u64)),
        lock: Mutex::new(()),
    };

    for page in 0..8 {
        table.to_device(page, &device)?;
    }
    assert_eq!(device.nr_free_pages(), 0);
    assert!(table.host.iter().all(|word| word.load(Relaxed) == 0), "the host has nothing any more");

    // Four threads fault on all pages, each of which comes home once.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..8).for_each(|page| assert_eq!(table.fault(page, &space), 100 + page as u64)));
        }
    });
    assert!((0..8).all(|page| table.leaf(page).kind() == LeafKind::Present(Access::Write)));
    assert_eq!(device.nr_live_pages(), 0);
    space.validate()?;
    println!("8 pages went to the device and came home\n{}", space.report());
    Ok(())
}
