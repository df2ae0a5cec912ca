//! What drivers take of freed folios that wait for them, on both sides.

use super::*;

/// Freed folios that drivers keep; further ones are given back at once.
const MAX_TAKEN: usize = 64;

impl<'s> Oracle<'s> {
    pub(super) fn take_deferred(&mut self, device: u8, max: u8, keep: bool) {
        let Some(i) = pick(device, self.devices.len()) else { return };
        let Registered { ref device, start, is_deferred, gone, .. } = self.devices[i];
        let Some(deferred) = device.deferred_frees() else { return assert!(!is_deferred) };
        assert!(is_deferred && *deferred.device() == *device);
        for folio in deferred.take_batch(usize::from(max)) {
            assert!(!gone, "all that waited went before the device did");
            let room = self.model.devices.get_mut(&start).expect("it is registered");
            let head = room.waiting.as_mut().and_then(|waiting| waiting.pop_front());
            assert_eq!(Some(folio.offset().get()), head, "the oldest first");
            self.stats.deferred += 1;
            if keep && self.taken.len() < MAX_TAKEN {
                self.taken.push(folio);
            } else {
                self.model.give_back(folio.offset().get());
            }
        }
        let nr_waiting = if gone { 0 } else { self.model.devices[&start].waiting.as_ref().map_or(0, |all| all.len()) };
        assert!(max == 0 || nr_waiting == 0 || deferred.take_batch(0).next().is_none());
        assert_eq!(deferred.is_empty(), nr_waiting == 0);
    }

    pub(super) fn finish_deferred(&mut self, taken: u8, n: u8) {
        for _ in 0..n {
            let Some(i) = pick(taken, self.taken.len()) else { return };
            let folio = self.taken.swap_remove(i);
            self.model.give_back(folio.offset().get());
        }
    }

    pub(super) fn finish_all_deferred(&mut self) {
        self.finish_deferred(0, u8::MAX);
        for device in 0..self.devices.len() as u8 {
            for _ in 0..1 << 20 {
                let before = self.stats.deferred;
                self.take_deferred(device, u8::MAX, false);
                if self.stats.deferred == before {
                    break;
                }
            }
        }
    }
}
