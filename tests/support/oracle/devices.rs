//! What is done to devices, and to their free pages, on both sides.

use std::collections::VecDeque;

use super::*;

impl<'s> Oracle<'s> {
    pub(super) fn register(&mut self, nr_pages: u64, has_ops: bool, is_deferred: bool) {
        self.registrations += 1;
        let owner = Owner::new(self.registrations);
        let mut config = DeviceConfig::new(nr_pages).owner(owner).name("device");
        if has_ops {
            config = config.ops(Recorder { owner, log: Arc::clone(&self.log) });
        }
        if is_deferred {
            config = config.deferred();
        }
        let fits = nr_pages > 0 && self.model.fits(nr_pages);
        if fits && self.devices.len() == MAX_DEVICES {
            let Some(gone) = self.devices.iter().position(|device| device.gone) else { return };
            self.devices.swap_remove(gone);
        }
        let device = match self.space.register(config) {
            Ok(device) => device,
            Err(error) => {
                assert!(!fits, "{nr_pages} pages fit: {error}");
                self.stats.no_space += u64::from(nr_pages > 0);
                let expected = match nr_pages {
                    0 => RegisterError::ZeroPages,
                    _ => RegisterError::NoSpace {
                        requested: nr_pages,
                        free: self.model.unregistered_pages(),
                        largest: self.model.largest_device(),
                    },
                };
                assert_eq!(error, expected);
                return;
            }
        };
        assert!(fits, "{device:?} has no room");
        let (start, end) = (device.range().start().get(), device.range().start().get() + nr_pages);
        assert_eq!(start % device_align(nr_pages), 0, "the base of {device:?}");
        assert!(end <= self.model.max_pages, "{device:?} is beyond the end of the space");
        for (&other, room) in &self.model.devices {
            assert!(end <= other || other + room.nr_pages <= start, "{device:?} overlaps the device at {other}");
        }
        assert_eq!((device.range().nr_pages(), device.owner(), device.name()), (nr_pages, owner, "device"));
        let waiting = is_deferred.then(VecDeque::new);
        self.model.devices.insert(start, Room { nr_pages, dying: false, waiting });
        self.devices.push(Registered { device, start, has_ops, is_deferred, gone: false });
    }

    /// What the model knows of a device, unless it has gone.
    pub(super) fn room(&self, device: &Device<'s>) -> Option<Room> {
        let registered = self.devices.iter().find(|registered| registered.device == *device)?;
        (!registered.gone).then(|| self.model.devices[&registered.start].clone())
    }

    /// Why an allocation of `n` folios must fail, if it must.
    pub(super) fn refusal(&self, device: &Device<'s>, order: Order, n: u64) -> Option<AllocError> {
        self.refusal_by(&self.model, device, order, n)
    }

    /// The same by another model.
    pub(super) fn refusal_by(&self, model: &Model, device: &Device<'s>, order: Order, n: u64) -> Option<AllocError> {
        let start = device.range().start().get();
        let requested = order.nr_pages() * n;
        if n == 0 {
            return None;
        }
        if order.nr_pages() > device.range().nr_pages() {
            return Some(AllocError::TooLarge);
        }
        if self.room(device).is_none_or(|room| room.dying) {
            return Some(AllocError::Dying);
        }
        if model.room_for(start, order) >= n {
            return None;
        }
        let free = device.range().nr_pages() - model.live_pages(start);
        Some(if free < requested {
            AllocError::Exhausted { requested, free }
        } else {
            AllocError::Fragmented { requested, free, largest: model.largest(start) }
        })
    }

    pub(super) fn alloc(&mut self, device: u8, order: Order) {
        let Some(i) = pick(device, self.devices.len()) else { return };
        let device = self.devices[i].device.clone();
        self.check_alloc(&device, device.alloc(order), order);
    }

    pub(super) fn check_alloc(&mut self, device: &Device<'s>, answer: Result<Folio<'s>, AllocError>, order: Order) {
        let expected = self.refusal(device, order, 1);
        self.check_alloc_against(device, answer, order, expected);
    }

    pub(super) fn check_alloc_against(
        &mut self,
        device: &Device<'s>,
        answer: Result<Folio<'s>, AllocError>,
        order: Order,
        expected: Option<AllocError>,
    ) {
        match (answer, expected) {
            (Ok(folio), None) => {
                self.begin(device, &folio, order);
                self.handles.push(folio);
            }
            (Err(error), Some(expected)) => {
                assert_eq!(error, expected);
                self.check_refused(device, error, Some(order));
            }
            (answer, expected) => panic!("{answer:?}, where the refusal should have been {expected:?}"),
        }
    }

    pub(super) fn alloc_many(&mut self, device: u8, order: Order, n: u8) {
        let Some(i) = pick(device, self.devices.len()) else { return };
        let (device, mut folios) = (self.devices[i].device.clone(), Vec::new());
        let answer = device.alloc_many(order, usize::from(n), &mut folios);
        self.check_many(&device, answer.map(|()| folios), order, n);
    }

    pub(super) fn check_many(
        &mut self,
        device: &Device<'s>,
        answer: Result<Vec<Folio<'s>>, AllocError>,
        order: Order,
        n: u8,
    ) {
        match (answer, self.refusal(device, order, u64::from(n))) {
            (Ok(folios), None) => {
                assert_eq!(folios.len(), usize::from(n));
                for folio in folios {
                    self.begin(device, &folio, order);
                    self.handles.push(folio);
                }
            }
            (Err(error), Some(expected)) => {
                self.check_refused(device, error, Some(order));
                self.stats.refused_many += 1;
                match (error, expected) {
                    // What was largest while the request held a part of itself depends on which part that was.
                    (
                        AllocError::Fragmented { requested, free, largest },
                        AllocError::Fragmented { requested: all, free: all_free, largest: most },
                    ) => {
                        assert_eq!((requested, free), (all, all_free));
                        assert!(largest < order.nr_pages() && largest <= most, "largest is {largest} of {most}");
                    }
                    _ => assert_eq!(error, expected),
                }
            }
            (answer, expected) => panic!("{answer:?}, where the refusal should have been {expected:?}"),
        }
    }

    /// A failed allocation changes nothing; its driver was asked for room, if any could be made.
    pub(super) fn check_refused(&mut self, device: &Device<'s>, error: AllocError, order: Option<Order>) {
        if let AllocError::Exhausted { requested, .. } | AllocError::Fragmented { requested, .. } = error {
            if requested <= device.range().nr_pages() {
                self.expected.push((device.range().start().get(), Told::Pressure(order, error)));
                self.stats.pressures += 1;
            }
        }
        let live = self.room(device).map_or(0, |_| self.model.live_pages(device.range().start().get()));
        assert_eq!(device.nr_live_pages(), live, "a failed allocation changes nothing");
        self.stats.exhausted += u64::from(matches!(error, AllocError::Exhausted { .. }));
        self.stats.fragmented += u64::from(matches!(error, AllocError::Fragmented { .. }));
    }

    pub(super) fn begin(&mut self, device: &Device<'s>, folio: &Folio<'s>, order: Order) {
        assert_eq!((folio.order(), folio.nr_pages()), (order, order.nr_pages()));
        assert_eq!((folio.refs(), folio.maps(), folio.private()), (1, 0, 0), "a folio is born anew");
        assert!(folio.device() == *device);
        self.model.begin(device.range().start().get(), folio.offset().get(), order);
        self.stats.allocated += 1;
    }

    pub(super) fn drain(&mut self, device: u8) {
        let Some(i) = pick(device, self.devices.len()) else { return };
        let Registered { ref device, start, gone, .. } = self.devices[i];
        let (live_pages, dying) =
            if gone { (0, true) } else { (self.model.live_pages(start), self.model.devices[&start].dying) };
        let expected = match (dying, live_pages) {
            (false, _) => Err(DrainError::Alive { live_pages }),
            (true, 0) => Ok(()),
            (true, _) => Err(DrainError::TimedOut { live_pages }),
        };
        assert_eq!(device.drain(Duration::ZERO), expected);
    }

    pub(super) fn unregister(&mut self, i: usize) {
        let Registered { ref device, start, gone, .. } = self.devices[i];
        let expected = if gone { 0 } else { self.model.live_pages(start) };
        match device.clone().unregister() {
            Ok(()) => {
                assert!(!gone && expected == 0, "{device:?} has gone, with {expected} pages in use");
                self.model.devices.remove(&start);
                self.devices[i].gone = true;
                self.stats.unregistered += 1;
            }
            Err(UnregisterError::Busy { live_pages, device: back }) => {
                assert!(!gone && live_pages > 0);
                assert_eq!(live_pages, expected);
                assert!(back == *device, "the device comes back");
                self.stats.busy += 1;
            }
            Err(UnregisterError::Gone) => assert!(gone, "{device:?} is still here"),
            Err(error) => panic!("{error}"),
        }
    }
}
