//! What `loom-tests` reaches of the inside: thin faces on the protocols, one for each group of models.
//!
//! Only in this repository's own loom builds; not covered by semver. Nothing here synchronises anything.
#![allow(missing_docs, reason = "no part of the public face")]
#![allow(clippy::new_without_default, reason = "as above")]

use core::time::Duration;

use loom::alloc::Track;
use loom::cell::UnsafeCell;

use crate::class::Class;
use crate::free_map::{Blocks, ClaimError, FreeBits, FreeMap, Mixing};
use crate::geometry::{BLOCK_SHIFT, PAGES_PER_BLOCK, block_of};
use crate::page::State;
use crate::section_map::{Place, SectionMap};
use crate::sparse::{Layout, SparseArray, Zeroed};
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
        self.0.init(self::order(order)).into()
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

    pub fn retire(&self) {
        self.0.retire();
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
        self.0.claim(self::order(order)).into()
    }

    pub fn release(&self, page: u64, order: u8) {
        self.0.release(page, self::order(order));
    }
}

/// The free map of a device at offset 0 of a space, and the readers' words. [claim], [verify], [class]
pub struct Map {
    blocks: Blocks,
    map: FreeMap,
    sections: SectionMap,
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
    pub fn new(nr_pages: u64) -> Map {
        let range = OffsetRange::new(Offset::from_low_bits(0), nr_pages).expect("a small range");
        let (map, nr_blocks) = (FreeMap::new(range), nr_pages.div_ceil(PAGES_PER_BLOCK));
        let blocks = Blocks::new(nr_blocks).expect("a table of chunks");
        map.begin(&blocks).expect("memory");
        let sections = SectionMap::new(nr_blocks * PAGES_PER_BLOCK, false).expect("a table of chunks");
        Map { blocks, map, sections }
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

    pub fn claim(&self, order: u8) -> Result<u64, Refused> {
        self.map.claim(&self.blocks, self::order(order)).map_err(refused)
    }

    /// Only the search that may fail for good, without the hints before it.
    pub fn claim_exactly(&self, order: u8) -> Result<u64, Refused> {
        self.map.search_exactly(&self.blocks, self::order(order)).map_err(refused)
    }

    /// One try in `block`, whatever the searches would prefer.
    pub fn claim_in(&self, block: u64, order: u8) -> Tried {
        let order = self::order(order);
        let tried = if order.is_whole_block() {
            self.blocks.claim_whole(block, order)
        } else {
            self.blocks.claim_in(block, order, Mixing::Allowed)
        };
        tried.expect("memory").into()
    }

    pub fn release(&self, page: u64, order: u8) {
        self.map.release(&self.blocks, page, self::order(order));
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
        self.sections.at(place(page, order)).expect("published").init(self::order(order)).into()
    }

    /// Ends it, the last reference and all; before `release`.
    pub fn end(&self, page: u64, order: u8) {
        let record = self.sections.at(place(page, order)).expect("published");
        assert!(record.put(), "the model holds the only reference");
        record.retire();
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

fn order(order: u8) -> Order {
    Order::new(order).expect("an order of the model")
}

fn place(page: u64, order: u8) -> Place {
    Place { head: Offset::from_low_bits(page), order: self::order(order) }
}

fn refused(error: ClaimError) -> Refused {
    match error {
        ClaimError::Exhausted { free } => Refused::Exhausted { free },
        ClaimError::Fragmented { free, largest } => Refused::Fragmented { free, largest },
        ClaimError::NoMemory(error) => panic!("{error}"),
    }
}

/// A device's count of pages in use, in copies. [drain]
pub struct Live(crate::live::Live);

impl Live {
    pub fn new(nr_copies: usize) -> Live {
        Live(crate::live::Live::new(nr_copies))
    }

    /// Whether the pages were let in.
    pub fn enter_at(&self, slot: usize, nr_pages: u64) -> bool {
        self.0.enter_at(slot, nr_pages).is_ok()
    }

    /// Lets pages go, by whichever of the two ways is right.
    pub fn exit_at(&self, slot: usize, nr_pages: u64) {
        if !self.0.exit_at(slot, nr_pages) {
            self.0.exit_closed(nr_pages);
        }
    }

    pub fn close(&self) -> bool {
        self.0.close()
    }

    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    pub fn is_drained(&self) -> bool {
        self.0.is_drained()
    }

    /// Waits until a closed count is empty.
    pub fn drain(&self) {
        self.0.drain(Duration::MAX).expect("there is no end of time in a model");
    }
}
