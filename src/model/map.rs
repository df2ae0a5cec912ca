//! The free map of a device, and the readers' words. [claim], [seal], [verify], [class]

use super::{CACHED_PAGES, Life, Tried, order, place, seats};
use crate::class::Class;
use crate::free_map::{Blocks, ClaimError, Claimer, FreeMap, GivenUp, Mixing};
use crate::geometry::{BLOCK_SHIFT, PAGES_PER_BLOCK, block_of};
use crate::seat::Seats;
use crate::section_map::{Place, SectionMap};
use crate::sparse::NoMemory;
use crate::words::{Offset, OffsetRange, Order};

/// The free map of a device at offset 0 of a space, its seats, and the readers' words. [claim], [seal], [verify], [class]
///
/// What it does by itself, it does from the seat that all threads share.
pub struct Map {
    blocks: Blocks,
    map: FreeMap,
    sections: SectionMap,
    seats: Seats,
}

/// A [`Map`] and the seat from which one thread at a time uses it.
#[derive(Clone, Copy)]
pub struct Seat<'a> {
    map: &'a Map,
    seat: &'a crate::seat::Seat,
}

/// Why nothing was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Exhausted { free: u64 },
    Fragmented { free: u64, largest: u64 },
}

/// The class in a readers' word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    Nothing,
    Order(u8),
    Mixed,
}

/// The device number that [`Map`] publishes.
pub const DEVICE: u32 = 1;

impl Map {
    /// A map whose seats keep nothing.
    pub fn new(nr_pages: u64) -> Map {
        Map::caching(nr_pages, 0)
    }

    /// A map whose seats keep two pages each, and a run of two.
    pub fn with_stashes(nr_pages: u64) -> Map {
        Map::caching(nr_pages, CACHED_PAGES)
    }

    fn caching(nr_pages: u64, cached_pages: u64) -> Map {
        let range = OffsetRange::new(Offset::from_low_bits(0), nr_pages).expect("a small range");
        let (map, nr_blocks) = (FreeMap::new(range), nr_pages.div_ceil(PAGES_PER_BLOCK));
        crate::sync::prepare_barriers();
        let blocks = Blocks::new(nr_blocks, 1).expect("a table of chunks");
        map.begin(&blocks).expect("memory");
        let sections = SectionMap::new(nr_blocks * PAGES_PER_BLOCK, false).expect("a table of chunks");
        Map { blocks, map, sections, seats: seats(cached_pages) }
    }

    /// Gives every block its memory, so that a model need not explore how it gets there (see [publish]). The blocks'
    /// classes stay [`Names::Nothing`] for readers.
    pub fn warm_up(&self) {
        for block in self.map.blocks() {
            for order in [Order::ZERO, Order::HUGE] {
                let page = block << BLOCK_SHIFT;
                self.sections.populate(Place { head: Offset::from_low_bits(page), order }).expect("memory");
            }
            for page in 1..PAGES_PER_BLOCK {
                self.sections.populate(place((block << BLOCK_SHIFT) + page, 0)).expect("memory");
            }
            if let Tried::Claimed(page) = self.claim_in(block, 0) {
                self.release(page, 0);
            }
        }
    }

    /// The seat of that number, below [`NR_SEATS`]; one thread's at a time.
    pub fn seat(&self, number: usize) -> Seat<'_> {
        Seat { map: self, seat: self.seats.seat(number) }
    }

    pub fn shared(&self) -> Seat<'_> {
        Seat { map: self, seat: self.seats.shared() }
    }

    pub fn claim(&self, order: u8) -> Result<u64, Refused> {
        self.shared().claim(order)
    }

    pub fn claim_exactly(&self, order: u8) -> Result<u64, Refused> {
        self.shared().claim_exactly(order)
    }

    pub fn claim_in(&self, block: u64, order: u8) -> Tried {
        self.shared().claim_in(block, order)
    }

    pub fn release(&self, page: u64, order: u8) {
        self.shared().release(page, order);
    }

    /// What ends a device does with all stashes.
    pub fn drain_all(&self) {
        self.map.drain_all(self.shared().claimer());
    }

    pub fn cached_pages(&self) -> u64 {
        self.seats.cached_pages()
    }

    /// What `Device::alloc` does between its claim and the folio's life.
    pub fn publish(&self, page: u64, order: u8) {
        let place = place(page, order);
        self.sections.populate(place).expect("memory");
        for block in block_of(page)..block_of(page) + (place.order.nr_pages() >> BLOCK_SHIFT).max(1) {
            self.sections.publish(block, DEVICE, || self.blocks.change_of(block));
        }
    }

    /// Brings the folio at `page` to life; after `publish`.
    pub fn init(&self, page: u64, order: u8) -> Life {
        self.sections.at(place(page, order)).expect("published").init(self::order(order), 0).into()
    }

    /// Ends it, the last reference and all; before `release`.
    pub fn end(&self, page: u64, order: u8) {
        let record = self.sections.at(place(page, order)).expect("published");
        assert!(record.put().is_last(|| ()), "the model holds the only reference");
    }

    /// What readers are told of the block of `page`: its class and its device.
    pub fn names(&self, page: u64) -> (Names, u32) {
        let word = self.sections.block_word(Offset::from_low_bits(page));
        let class = match word.map_or(Class::Unused, |word| word.class()) {
            Class::Unused => Names::Nothing,
            Class::Uniform(order) => Names::Order(order.get()),
            Class::Mixed => Names::Mixed,
        };
        (class, word.map_or(0, |word| word.device()))
    }

    /// The live folio that `page`, head or tail, is found to belong to: its head, and its state.
    pub fn find(&self, page: u64) -> Option<(u64, Life)> {
        let (place, state) = self.sections.find(Offset::from_low_bits(page))?;
        Some((place.head.get(), state.into()))
    }
}

impl Seat<'_> {
    fn claimer(&self) -> Claimer<'_> {
        Claimer { blocks: &self.map.blocks, seats: &self.map.seats, seat: self.seat, unsure: 0 }
    }

    pub fn claim(&self, order: u8) -> Result<u64, Refused> {
        self.map.map.claim(self.claimer(), self::order(order)).map_err(refused)
    }

    /// Only the search that may fail for good, without the hints before it.
    pub fn claim_exactly(&self, order: u8) -> Result<u64, Refused> {
        self.map.map.search_exactly(self.claimer(), &self::order(order)).map_err(refused)
    }

    /// One try in `block`, whatever the searches would prefer.
    pub fn claim_in(&self, block: u64, order: u8) -> Tried {
        self.claim_in_as(block, order, Mixing::Allowed)
    }

    /// The same for a block that must serve the order alone.
    pub fn claim_unmixed(&self, block: u64, order: u8) -> Tried {
        self.claim_in_as(block, order, Mixing::Refused)
    }

    fn claim_in_as(&self, block: u64, order: u8, mixing: Mixing) -> Tried {
        let (blocks, order) = (&self.map.blocks, self::order(order));
        self.try_once(order.nr_pages(), |given_up| {
            if order.is_whole_block() {
                blocks.claim_whole(block, order, given_up)
            } else {
                blocks.claim_in(block, order, mixing, given_up)
            }
        })
        .into()
    }

    /// The pages from `start` of `block` on, for folios of any orders.
    pub fn claim_span(&self, block: u64, start: u64, nr_pages: u64) -> bool {
        self.try_once(nr_pages, |given_up| self.map.blocks.claim_span_in(block, start, nr_pages, given_up))
    }

    fn try_once<T>(&self, nr_pages: u64, claim: impl FnOnce(&GivenUp) -> Result<T, NoMemory>) -> T {
        self.map.map.while_unsure(self.seat, nr_pages, claim).expect("memory")
    }

    /// Gives `block`, if it is empty, to another order below a block's.
    pub fn empty_for(&self, block: u64, order: u8) -> bool {
        self.map.blocks.adopt(block, self::order(order)).expect("memory")
    }

    pub fn release(&self, page: u64, order: u8) {
        self.map.map.release(&self.map.blocks, self.seat, page, self::order(order));
    }

    /// Gives back what `claim_span` took.
    pub fn release_span(&self, block: u64, start: u64, nr_pages: u64) {
        self.map.blocks.release_span((block << BLOCK_SHIFT) + start, nr_pages);
        self.map.map.note_released(nr_pages);
    }

    /// As the end of a folio does: into the stash, or into the map.
    pub fn give_back(&self, page: u64, order: u8) {
        self.map.map.give_back(&self.map.blocks, self.seat, page, self::order(order));
    }

    /// As `Device::alloc` begins: from the stash.
    pub fn pop(&self, order: u8) -> Option<u64> {
        self.seat.stash().pop(self::order(order))
    }

    /// As `Device::alloc` does: from the stash, or from the map.
    pub fn alloc(&self, order: u8) -> Result<u64, Refused> {
        self.pop(order).map_or_else(|| self.claim(order), Ok)
    }

    /// As a cache that is dropped: all that the stash keeps goes to the map.
    pub fn drain(&self) {
        self.map.map.drain_seat(self.claimer());
    }
}

fn refused(error: ClaimError) -> Refused {
    match error {
        ClaimError::Exhausted { free } => Refused::Exhausted { free },
        ClaimError::Contended { free, largest } | ClaimError::Fragmented { free, largest } => {
            Refused::Fragmented { free, largest }
        }
        ClaimError::NoMemory(error) => panic!("{error}"),
    }
}
