//! What `loom-tests` reaches of the inside: thin faces on the protocols, one for each group of models.
//!
//! Only in this repository's own loom builds; not covered by semver. Nothing here synchronises anything.
#![allow(missing_docs, reason = "no part of the public face")]
#![allow(clippy::new_without_default, reason = "as above")]

use core::mem::ManuallyDrop;
use core::time::Duration;

use loom::alloc::Track;
use loom::cell::UnsafeCell;

use crate::class::Class;
use crate::free_map::{Blocks, ClaimError, Claimer, FreeBits, FreeMap, GivenUp, Mixing};
use crate::geometry::{BLOCK_SHIFT, PAGES_PER_BLOCK, block_of};
use crate::live::{Bell, Door};
use crate::page::State;
use crate::seat::{Seating, Seats};
use crate::section_map::{Place, SectionMap};
use crate::sparse::{Layout, NoMemory, SparseArray, Zeroed};
use crate::words::{Offset, OffsetRange, Order};

/// A [`SparseArray`] whose elements are witnesses. [publish]
pub struct Array(SparseArray<Element>);

/// A plain value, written when its chunk is made.
pub struct Element {
    value: UnsafeCell<u64>,
    /// Fails the model when the chunk is never dropped.
    _leak: Track<()>,
}

/// What every fresh [`Element`] holds.
pub const FRESH: u64 = 7;

// SAFETY: Loom's cell checks every use. The value is only read once it is shared.
unsafe impl Sync for Element {}

// SAFETY: Under loom only `absent` is used, and the chunks, boxed slices, drop their elements with them.
unsafe impl Zeroed for Element {
    fn absent() -> Element {
        Element { value: UnsafeCell::new(FRESH), _leak: Track::new(()) }
    }
}

impl Element {
    pub fn read(&self) -> u64 {
        // SAFETY: Nobody writes it after `absent`; loom checks that this read comes after that.
        self.value.with(|value| unsafe { *value })
    }
}

impl Array {
    pub fn new(len: u64) -> Array {
        Array(SparseArray::new(Layout { len, chunk_bytes: 4096, huge: false }).expect("a table of chunks"))
    }

    pub fn get(&self, index: u64) -> Option<&Element> {
        self.0.get(index)
    }

    pub fn populate(&self, index: u64) -> &Element {
        self.0.populate(index).expect("memory")
    }

    pub fn populated_bytes(&self) -> u64 {
        self.0.populated_bytes()
    }
}

/// A [`Page`](crate::page::Page) of its own. [init], [last-put], [map]
pub struct Page(crate::page::Page);

/// A page's state, field by field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    pub live: bool,
    pub generation: u64,
    pub order: u8,
    pub refs: u32,
    pub maps: u32,
}

impl From<State> for Life {
    fn from(state: State) -> Life {
        Life {
            live: state.is_live(),
            generation: state.generation(),
            order: state.order().get(),
            refs: state.count(),
            maps: state.maps(),
        }
    }
}

impl Page {
    pub fn new() -> Page {
        Page(crate::page::Page::absent())
    }

    pub fn init(&self, order: u8) -> Life {
        self.0.init(self::order(order), 0).into()
    }

    pub fn state(&self) -> Life {
        self.0.state().into()
    }

    /// `generation` as in [`Life`].
    pub fn try_get(&self, generation: u64) -> Option<Life> {
        self.0.try_get(generation).map(Life::from)
    }

    pub fn get(&self) {
        self.0.get();
    }

    pub fn put(&self) -> bool {
        self.0.put()
    }

    pub fn map(&self) {
        self.0.map();
    }

    pub fn unmap(&self, generation: u64) -> Result<Life, Life> {
        self.0.unmap(generation).map(Life::from).map_err(Life::from)
    }

    pub fn private(&self) -> u64 {
        self.0.private()
    }

    pub fn set_private(&self, value: u64) {
        self.0.set_private(value);
    }
}

/// The free bits of one block, without the use word that goes with them. [claim]
pub struct Bits(FreeBits);

/// What became of one try to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    Claimed(u64),
    NoRoom,
}

impl From<Option<u64>> for Tried {
    fn from(page: Option<u64>) -> Tried {
        page.map_or(Tried::NoRoom, Tried::Claimed)
    }
}

impl Bits {
    pub fn new() -> Bits {
        Bits(FreeBits::absent())
    }

    pub fn claim(&self, order: u8) -> Tried {
        self.0.claim(self::order(order), &GivenUp::default()).into()
    }

    /// Of pages, not of runs of an order.
    pub fn claim_span(&self, start: u64, nr_pages: u64) -> bool {
        self.0.claim_span(start, nr_pages, &GivenUp::default())
    }

    pub fn release(&self, page: u64, order: u8) {
        self.0.release_span(page, self::order(order).nr_pages());
    }
}

/// How many seats of its own a model has beside the shared one.
pub const NR_SEATS: usize = 3;

/// Pages of which each seat keeps two, and two as one run.
const CACHED_PAGES: u64 = 4 * NR_SEATS as u64;

fn seats(cached_pages: u64) -> Seats {
    crate::sync::prepare_barriers();
    let seats = Seats::new(Seating { cores: 1, cached_pages });
    // Here, and not when a thread first comes: that would say nothing of the threads' order.
    (0..NR_SEATS).for_each(|number| _ = seats.seat(number));
    seats
}

/// What seats keep, by themselves. [stash], [steal]
pub struct Stash(Seats);

/// A look at a stash, to be followed by [`heavy_barrier`].
pub struct Oldest(crate::seat::Oldest);

/// The side that is taken all the time.
pub fn light_barrier() {
    crate::sync::light_barrier();
}

/// The rare side.
pub fn heavy_barrier() {
    crate::sync::heavy_barrier();
}

impl Stash {
    /// Room for two runs of order 0 and one of order 1.
    pub fn new() -> Stash {
        Stash(seats(CACHED_PAGES))
    }

    fn stash(&self) -> &crate::seat::Stash {
        self.0.seat(0).stash()
    }

    pub fn push(&self, order: u8, page: u64) -> bool {
        self.stash().push(self::order(order), page)
    }

    pub fn pop(&self, order: u8) -> Option<u64> {
        self.stash().pop(self::order(order))
    }

    pub fn oldest(&self, order: u8) -> Option<Oldest> {
        self.stash().oldest(self::order(order)).map(Oldest)
    }

    pub fn steal(&self, order: u8, oldest: &Oldest) -> Option<u64> {
        self.stash().steal(self::order(order), oldest.0)
    }

    pub fn pages(&self) -> u64 {
        self.stash().pages()
    }
}

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
        let blocks = Blocks::new(nr_blocks).expect("a table of chunks");
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
        assert!(record.put(), "the model holds the only reference");
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
        if self.seat.stash().push(self::order(order), page) {
            self.map.map.note_released(self::order(order).nr_pages());
        } else {
            self.release(page, order);
        }
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

fn order(order: u8) -> Order {
    Order::new(order).expect("an order of the model")
}

fn place(page: u64, order: u8) -> Place {
    Place { head: Offset::from_low_bits(page), order: self::order(order) }
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

/// A device's count of pages in use, its doors, and the space's bell. [drain]
pub struct Live {
    entrance: Door,
    exit: Door,
    /// Not there any more after `end_seats`.
    seats: ManuallyDrop<Box<Seats>>,
    bell: Bell,
}

impl Live {
    pub fn new() -> Live {
        let seats = ManuallyDrop::new(Box::new(seats(0)));
        Live { entrance: Door::open(), exit: Door::open(), seats, bell: Bell::new() }
    }

    fn live(&self) -> crate::live::Live<'_> {
        crate::live::Live { entrance: &self.entrance, exit: &self.exit, seats: &self.seats, bell: &self.bell }
    }

    /// The seat of that number, one thread's at a time, or the one that is shared.
    fn seat(&self, number: Option<usize>) -> &crate::seat::Seat {
        number.map_or(self.seats.shared(), |number| self.seats.seat(number))
    }

    /// Whether the pages were let in.
    pub fn enter(&self, seat: Option<usize>, nr_pages: u64) -> bool {
        self.entrance.enter(&self.bell, self.seat(seat), nr_pages).is_ok()
    }

    pub fn exit(&self, seat: Option<usize>, nr_pages: u64) {
        self.exit.exit(&self.bell, self.seat(seat), nr_pages);
    }

    pub fn close(&self) {
        self.live().close();
    }

    pub fn reopen(&self) {
        self.live().reopen();
    }

    pub fn pages(&self) -> u64 {
        self.live().pages()
    }

    pub fn is_drained(&self) -> bool {
        self.live().is_drained()
    }

    /// Frees the seats, as whoever drained may. Once; and nobody may use them after that, which loom checks by their
    /// atomics.
    ///
    /// # Safety
    ///
    /// The device is drained.
    pub unsafe fn end_seats(&self) {
        let seats: *const Seats = &**self.seats;
        // SAFETY: It came from a box, which nobody else frees. In a model that is right nobody uses it any more.
        drop(unsafe { Box::from_raw(seats.cast_mut()) });
    }

    /// Waits until a closed device is empty.
    pub fn drain(&self) {
        self.live().drain(Duration::MAX).expect("there is no end of time in a model");
    }
}
