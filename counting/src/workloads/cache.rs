//! Each thread allocates and frees for itself through a cache of its own, by `Cache::alloc` and `Cache::put`.

use farpage::{Order, count};

use crate::stage::Stage;

/// Allocates a page and puts it back, again and again.
pub fn hot_pair(stage: &Stage<'_>, _thread: usize) {
    let mut cache = stage.device.cache();
    for _ in 0..stage.effort.warm_up / 2 {
        let folio = cache.alloc(Order::ZERO).expect("no workload fills the device");
        cache.put(folio);
    }
    count::rendezvous();
    for _ in 0..(stage.effort.ops / 2).max(1) {
        let (folio, _) = count::op(|| cache.alloc(Order::ZERO).expect("no workload fills the device"));
        count::op(|| cache.put(folio));
    }
}
