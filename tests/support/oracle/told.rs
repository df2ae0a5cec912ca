//! What drivers are told, and what they should have been.

use super::*;

/// One call of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// First page, order and driver's word.
    Freed(u64, Order, u64),
    /// The whole's first page, order and driver's word; and a part's first page and order.
    Part(u64, Order, u64, (u64, Order)),
    /// After the last part of it.
    SplitEnd(u64, Order, u64),
    Pressure(Option<Order>, AllocError),
}

pub(super) type Log = Arc<Mutex<Vec<(Owner, Told)>>>;

pub(super) struct Recorder {
    pub(super) owner: Owner,
    pub(super) log: Log,
}

impl Recorder {
    fn note(&self, told: Told) -> usize {
        let mut log = self.log.lock().expect("no test panics with it");
        log.push((self.owner, told));
        log.len()
    }
}

impl DeviceOps for Recorder {
    fn folio_free(&self, folio: FreedFolio) {
        self.note(Told::Freed(folio.offset().get(), folio.order(), folio.private()));
    }

    fn folio_split(&self, split: FolioSplit<'_>) {
        let (head, order, private) = (split.offset().get(), split.order(), split.private());
        self.note(match split.part() {
            Some(part) => {
                assert_eq!(part.private(), private);
                Told::Part(head, order, private, (part.offset().get(), part.order()))
            }
            None => Told::SplitEnd(head, order, private),
        });
    }

    /// Nothing is freed, so a second try fails as the first.
    fn pressure(&self, pressure: Pressure) -> bool {
        self.note(Told::Pressure(pressure.order(), pressure.error()));
        pressure.nr_pages() % 2 == 0
    }
}

impl Oracle<'_> {
    /// The folio at `head` has ended.
    pub(super) fn expect_freed(&mut self, head: u64, life: Life) {
        if self.model.devices[&life.device].waiting.is_none() {
            self.expected.push((life.device, Told::Freed(head, life.order, life.private)));
        }
    }

    /// The folio at `head` was divided.
    pub(super) fn expect_split(&mut self, head: u64, life: Life, parts: &[(u64, Order)]) {
        let Life { device, order, private, .. } = life;
        let part = |&part| (device, Told::Part(head, order, private, part));
        self.expected.extend(parts.iter().map(part));
        self.expected.push((device, Told::SplitEnd(head, order, private)));
    }

    /// Everything was told once and in order, with the last private word; and nothing else was.
    pub(super) fn check_callbacks(&mut self) {
        let mut log = self.log.lock().expect("no test panics with it");
        let mut told = log.drain(..);
        for (start, expected) in self.expected.drain(..) {
            let registered = self.devices.iter().find(|device| !device.gone && device.start == start);
            let registered = registered.expect("a folio keeps its device");
            if registered.has_ops {
                assert_eq!(told.next(), Some((registered.device.owner(), expected)));
            }
        }
        assert_eq!(told.next(), None, "nothing happened, and it was told");
    }
}
