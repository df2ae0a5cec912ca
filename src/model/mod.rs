//! What `loom-tests` reaches of the inside: thin faces on the protocols, one for each group of models.
//!
//! Only in this repository's own loom builds; not covered by semver. Nothing here synchronises anything.
#![allow(missing_docs, reason = "no part of the public face")]
#![allow(clippy::new_without_default, reason = "as above")]

mod folio;
mod map;

use core::mem::ManuallyDrop;
use core::time::Duration;

use loom::alloc::Track;
use loom::cell::UnsafeCell;

use crate::free_map::{FreeBits, GivenUp};
use crate::live::{Bell, Door};
use crate::page::State;
use crate::seat::{Seating, Seats};
use crate::section_map::Place;
use crate::sparse::{Layout, SparseArray, Zeroed};
use crate::words::{Offset, Order};

pub use folio::{Folio, MAX_REFS, Waits};
pub use map::{DEVICE, Map, Names, Refused, Seat};

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
    pub frozen: bool,
    pub locked: bool,
    pub waiters: bool,
}

impl From<State> for Life {
    fn from(state: State) -> Life {
        Life {
            live: state.is_live(),
            generation: state.generation(),
            order: state.order().get(),
            refs: state.count(),
            maps: state.maps(),
            frozen: state.is_frozen(),
            locked: state.is_locked(),
            waiters: state.has_waiters(),
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
        self.0.put().is_last(|| ())
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
    let seats = Seats::new(Seating { cores: 1, cached_pages }).expect("memory");
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

fn order(order: u8) -> Order {
    Order::new(order).expect("an order of the model")
}

fn place(page: u64, order: u8) -> Place {
    Place { head: Offset::from_low_bits(page), order: self::order(order) }
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
