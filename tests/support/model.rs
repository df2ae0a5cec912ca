//! The obviously right model: which folios live in which devices, and what is free between them.
//!
//! Nothing of `farpage` is called here; only its plain words are used. What the model says is compared with what the
//! library does in `oracle`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use farpage::Order;

/// Offsets are given to devices in whole blocks.
const BLOCK: u64 = 512;

/// One life of a folio: from its allocation to its last put, and on while its driver has not given the pages back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    /// Unlike that of any other life.
    pub(crate) serial: u64,
    /// First page of its device.
    pub(crate) device: u64,
    pub(crate) order: Order,
    pub(crate) refs: u32,
    pub(crate) maps: u32,
    pub(crate) private: u64,
    /// Its driver has the pages.
    pub(crate) ended: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Room {
    pub(crate) nr_pages: u64,
    pub(crate) dying: bool,
    /// Folios that wait for the driver, by first page, if it wants it so.
    pub(crate) waiting: Option<VecDeque<u64>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) max_pages: u64,
    /// Registered devices, by first page.
    pub(crate) devices: BTreeMap<u64, Room>,
    /// Folios that live, or whose pages have not gone back, by first page.
    lives: BTreeMap<u64, Life>,
    /// Pages of live folios that nobody needs.
    pub(crate) given_up: BTreeSet<u64>,
    next_serial: u64,
}

impl Model {
    pub(crate) fn new(max_pages: u64) -> Model {
        Model { max_pages: max_pages.next_multiple_of(BLOCK), ..Model::default() }
    }

    /// A folio was allocated at `head`.
    pub(crate) fn begin(&mut self, device: u64, head: u64, order: Order) {
        let end = head + order.nr_pages();
        assert_eq!(head % order.nr_pages(), 0, "page {head} is not aligned to order {order}");
        assert!(
            head >= device && end <= device + self.devices[&device].nr_pages,
            "{head}..{end} is outside its device"
        );
        let below = self.lives.range(..end).next_back().map_or(0, |(start, life)| start + life.order.nr_pages());
        assert!(below <= head, "{head}..{end} was handed out while somebody had it");
        self.next_serial += 1;
        let life = Life { serial: self.next_serial, device, order, refs: 1, maps: 0, private: 0, ended: false };
        self.lives.insert(head, life);
    }

    /// The folio at `head` became several, with new lives and its driver's word. What nobody needs of it stays so.
    pub(crate) fn divide(&mut self, head: u64, parts: impl Iterator<Item = (u64, Order)>) {
        let old = self.lives.remove(&head).expect("it lives");
        for (head, order) in parts {
            self.begin(old.device, head, order);
            self.lives.get_mut(&head).expect("just begun").private = old.private;
        }
    }

    /// A reference of the folio at `head` was put. The life that this ended, if it did.
    pub(crate) fn put(&mut self, head: u64) -> Option<Life> {
        let life = self.life_mut(head);
        life.refs -= 1;
        if life.refs > 0 {
            return None;
        }
        life.ended = true;
        let life = *life;
        (head..head + life.order.nr_pages()).for_each(|page| _ = self.given_up.remove(&page));
        match &mut self.devices.get_mut(&life.device).expect("a folio keeps its device").waiting {
            Some(waiting) => waiting.push_back(head),
            None => self.give_back(head),
        }
        Some(life)
    }

    /// The pages of the ended folio at `head` are free.
    pub(crate) fn give_back(&mut self, head: u64) {
        assert!(self.lives.remove(&head).is_some_and(|life| life.ended));
    }

    /// The life of the folio that begins at `head`.
    pub(crate) fn life(&self, head: u64) -> Option<Life> {
        self.lives.get(&head).copied().filter(|life| !life.ended)
    }

    pub(crate) fn life_mut(&mut self, head: u64) -> &mut Life {
        self.lives.get_mut(&head).filter(|life| !life.ended).expect("a handle's folio lives")
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lives.is_empty()
    }

    /// The folio that has `page` as its head or a tail: its head, and its life.
    pub(crate) fn covering(&self, page: u64) -> Option<(u64, Life)> {
        let (&head, &life) = self.lives.range(..=page).next_back()?;
        (page < head + life.order.nr_pages() && !life.ended).then_some((head, life))
    }

    /// The folios that have pages of `from..to`, those whose pages have not gone back included.
    pub(crate) fn lives_between(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, Life)> {
        let lives = self.lives.range(..to).map(|(&head, &life)| (head, life));
        lives.filter(move |(head, life)| head + life.order.nr_pages() > from)
    }

    /// Runs `look` while every free page of `from..to` is taken by something.
    pub(crate) fn while_withheld<T>(
        &mut self,
        device: u64,
        (from, to): (u64, u64),
        look: impl FnOnce(&Model) -> T,
    ) -> T {
        let free: Vec<u64> = (from..to).filter(|&page| self.lives_between(page, page + 1).next().is_none()).collect();
        free.iter().for_each(|&page| self.begin(device, page, Order::ZERO));
        let seen = look(self);
        free.iter().for_each(|page| _ = self.lives.remove(page));
        seen
    }

    /// How many of the pages from `from` on nobody needs.
    pub(crate) fn given_up_in(&self, from: u64, nr_pages: u64) -> u64 {
        self.given_up.range(from..from + nr_pages).count() as u64
    }

    pub(crate) fn live_pages(&self, device: u64) -> u64 {
        self.lives_in(device).map(|(_, life)| life.order.nr_pages()).sum()
    }

    fn lives_in(&self, device: u64) -> impl Iterator<Item = (u64, Life)> {
        let end = device + self.devices[&device].nr_pages;
        self.lives.range(device..end).map(|(&head, &life)| (head, life))
    }

    /// The longest runs of free pages of a device, from and to.
    pub(crate) fn gaps(&self, device: u64) -> Vec<(u64, u64)> {
        let end = device + self.devices[&device].nr_pages;
        let (mut gaps, mut from) = (Vec::new(), device);
        for (head, life) in self.lives_in(device) {
            gaps.push((from, head));
            from = head + life.order.nr_pages();
        }
        gaps.push((from, end));
        gaps.retain(|(from, to)| from < to);
        gaps
    }

    /// How many folios of `order` could be allocated at once.
    pub(crate) fn room_for(&self, device: u64, order: Order) -> u64 {
        let n = order.nr_pages();
        self.gaps(device).iter().map(|(from, to)| (to / n).saturating_sub(from.div_ceil(n))).sum()
    }

    /// Pages of the largest folio that could be allocated; 0 if none.
    pub(crate) fn largest(&self, device: u64) -> u64 {
        orders().rev().find(|&order| self.room_for(device, order) > 0).map_or(0, Order::nr_pages)
    }

    /// The lowest and the highest page at which a run of `nr_pages` could begin that lies in `from..to` and starts at a
    /// multiple of `align`.
    pub(crate) fn places(&self, device: u64, nr_pages: u64, align: u64, (from, to): (u64, u64)) -> Option<(u64, u64)> {
        let in_gap = |(start, end): (u64, u64)| {
            let last = end.min(to).checked_sub(nr_pages)?;
            let lowest = start.max(from).checked_next_multiple_of(align)?;
            (lowest <= last).then_some((lowest, last / align * align))
        };
        let places: Vec<(u64, u64)> = self.gaps(device).into_iter().filter_map(in_gap).collect();
        Some((places.first()?.0, places.last()?.1))
    }

    /// Pages of the longest free run; 0 if none.
    pub(crate) fn longest(&self, device: u64) -> u64 {
        self.gaps(device).iter().map(|(from, to)| to - from).max().unwrap_or(0)
    }

    /// How many of the free runs, each cut as large as natural alignment allows, have each order.
    pub(crate) fn free_runs(&self, device: u64) -> [u64; 19] {
        let mut runs = [0; 19];
        for (mut from, to) in self.gaps(device) {
            while from < to {
                let order = from.trailing_zeros().min((to - from).ilog2()).min(18);
                runs[order as usize] += 1;
                from += 1 << order;
            }
        }
        runs
    }

    /// Pages that belong to no device, in whole blocks, from and to.
    fn unregistered(&self) -> Vec<(u64, u64)> {
        let (mut gaps, mut from) = (Vec::new(), 0);
        for (&start, room) in &self.devices {
            gaps.push((from, start));
            from = start + room.nr_pages.next_multiple_of(BLOCK);
        }
        gaps.push((from, self.max_pages));
        gaps.retain(|(from, to)| from < to);
        gaps
    }

    pub(crate) fn unregistered_pages(&self) -> u64 {
        self.unregistered().iter().map(|(from, to)| to - from).sum()
    }

    /// Whether a device could be registered now.
    pub(crate) fn fits(&self, nr_pages: u64) -> bool {
        let align = device_align(nr_pages);
        self.unregistered().iter().any(|(from, to)| {
            let start = from.next_multiple_of(align);
            start.checked_add(nr_pages).is_some_and(|end| end <= *to)
        })
    }

    /// Pages of the largest device that could be registered now; 0 if none.
    pub(crate) fn largest_device(&self) -> u64 {
        // Devices whose largest folio is of one order begin at the same borders: the longest of them counts.
        let of_order = |order: Order, from: u64, to: u64| {
            let shortest = order.nr_pages();
            let longest = if order == Order::MAX { u64::MAX } else { 2 * shortest - 1 };
            let nr_pages = to.saturating_sub(from.next_multiple_of(device_align(shortest))).min(longest);
            if nr_pages < shortest { 0 } else { nr_pages }
        };
        let gaps = self.unregistered();
        let sizes = gaps.iter().flat_map(|&(from, to)| orders().map(move |order| of_order(order, from, to)));
        sizes.max().unwrap_or(0)
    }
}

/// What a device's first page is aligned to: the largest order that fits in it, and at least a block.
pub(crate) fn device_align(nr_pages: u64) -> u64 {
    (1 << nr_pages.ilog2().min(18)).max(BLOCK)
}

/// The folios that a range is made of: at each page the largest that is aligned there, and fits.
pub(crate) fn folios_of(from: u64, to: u64) -> Vec<(u64, Order)> {
    let (mut at, mut folios) = (from, Vec::new());
    while at < to {
        let is_good = |order: &Order| at % order.nr_pages() == 0 && at + order.nr_pages() <= to;
        let order = orders().rev().find(is_good).expect("a single page always fits");
        folios.push((at, order));
        at += order.nr_pages();
    }
    folios
}

/// The folios that one of `order` at `head` is split into around `page`, which ends up in one of order `part`: halves,
/// of which only the one with the page is halved again.
pub(crate) fn halves_around(head: u64, order: u8, page: u64, part: u8) -> Vec<(u64, Order)> {
    let nr_pages = 1 << order;
    if order == part || !(head..head + nr_pages).contains(&page) {
        return vec![(head, Order::new(order).expect("below the whole's"))];
    }
    let mut halves = halves_around(head, order - 1, page, part);
    halves.extend(halves_around(head + nr_pages / 2, order - 1, page, part));
    halves
}

fn orders() -> impl DoubleEndedIterator<Item = Order> {
    (0..=Order::MAX.get()).filter_map(Order::new)
}
