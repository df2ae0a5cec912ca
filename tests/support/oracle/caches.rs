//! What is done through caches, several of which are alive. To the model they are nothing: a page in a cache is free.

use super::*;

/// More than have room of their own at one device.
const MAX_CACHES: usize = 12;

impl<'s> Oracle<'s> {
    pub(super) fn open_cache(&mut self, device: u8) {
        let Some(i) = pick(device, self.devices.len()) else { return };
        let cache = self.devices[i].device.cache();
        assert!(*cache.device() == self.devices[i].device);
        if self.caches.len() == MAX_CACHES {
            self.caches.swap_remove(usize::from(device) % MAX_CACHES);
        }
        self.caches.push(cache);
    }

    pub(super) fn cache_alloc(&mut self, cache: u8, order: Order) {
        let Some(i) = pick(cache, self.caches.len()) else { return };
        let (answer, device) = (self.caches[i].alloc(order), self.caches[i].device().clone());
        self.check_alloc(&device, answer, order);
    }

    pub(super) fn cache_alloc_many(&mut self, cache: u8, order: Order, n: u8) {
        let Some(i) = pick(cache, self.caches.len()) else { return };
        let (device, mut folios) = (self.caches[i].device().clone(), Vec::new());
        let answer = self.caches[i].alloc_many(order, usize::from(n), &mut folios);
        self.check_many(&device, answer.map(|()| folios), order, n);
    }

    pub(super) fn cache_put(&mut self, cache: u8, handle: u16) {
        let (Some(i), Some(handle)) = (pick(cache, self.caches.len()), pick(handle, self.handles.len())) else {
            return;
        };
        let (folio, mut cache) = (self.handles.swap_remove(handle), self.caches.swap_remove(i));
        let before = cache.device().nr_cached_pages();
        self.put_by(folio, |folio| cache.put(folio));
        self.stats.cached += u64::from(cache.device().nr_cached_pages() > before);
        self.caches.push(cache);
    }

    pub(super) fn cache_drain(&mut self, cache: u8) {
        let Some(i) = pick(cache, self.caches.len()) else { return };
        let before = self.caches[i].device().nr_cached_pages();
        self.caches[i].drain();
        assert!(self.caches[i].device().nr_cached_pages() <= before);
    }

    /// Bounds that hold at every moment.
    pub(super) fn check_cached(&self, device: &Device<'s>) {
        let (cached, nr_pages) = (device.nr_cached_pages(), device.range().nr_pages());
        assert!(cached <= nr_pages * self.cache_percent / 100, "{cached} of {nr_pages} pages are in caches");
        assert!(cached <= device.nr_free_pages(), "pages in caches are free");
    }

    /// Wherever they lie, all pages of every device can be had: one by one, and in the largest folios.
    pub(super) fn check_conservation(&self) {
        for device in self.devices.iter().map(|registered| &registered.device) {
            if self.room(device).is_none_or(|room| room.dying) {
                continue;
            }
            let nr_pages = device.range().nr_pages();
            let mut folios = Vec::new();
            device.alloc_many(Order::ZERO, nr_pages as usize, &mut folios).expect("all pages are free");
            assert_eq!((device.nr_cached_pages(), device.nr_free_pages()), (0, 0));
            let free = |folios: &mut Vec<Folio<'_>>| {
                folios.clear();
                if let Some(deferred) = device.deferred_frees() {
                    deferred.take_batch(usize::MAX).for_each(drop);
                }
            };
            free(&mut folios);
            device.alloc_many(Order::HUGE, (nr_pages / 512) as usize, &mut folios).expect("all blocks are free");
            free(&mut folios);
            let all = device.alloc_range(RangeRequest::new(nr_pages)).expect("all of it is one run");
            assert_eq!(all.range(), device.range());
            drop(all);
            free(&mut folios);
        }
    }
}
