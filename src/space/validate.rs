//! [`Violation`], and the recount from the bottom that finds one.
#![forbid(unsafe_code)]

use core::fmt;
use std::collections::BTreeMap;

use crate::class::Class;
use crate::device::Entry;
use crate::free_map::BlockUse;
use crate::geometry::{BLOCK_SHIFT, PAGES_PER_BLOCK, PAGES_PER_WORD, WORDS_PER_BLOCK};
use crate::page::State;
use crate::section_map::Place;
use crate::space::Space;
use crate::words::{Offset, Order};

/// Two parts of a space contradict each other; see [`Space::validate`]. A bug of this crate, or a broken promise of an
/// embedder's unsafe code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// The pages that lie in live folios are not as many as the device counts.
    LiveCount {
        /// First page of the device.
        device: u64,
        /// Pages in live folios.
        counted: u64,
        /// Pages that the device counts as in use.
        believed: u64,
    },
    /// The pages taken in a block are not as many as its use word says.
    BlockCount {
        /// First page of the block.
        offset: u64,
        /// Pages taken by their bits.
        counted: u64,
        /// Pages that the use word counts.
        believed: u64,
    },
    /// A page is taken, and no live folio has it.
    Lost {
        /// That page.
        offset: u64,
    },
    /// A folio is live where pages are free.
    LiveOnFree {
        /// First page of the folio.
        offset: u64,
    },
    /// A cache keeps a run twice, or one that is not there to keep: its pages are free in the map, or a folio has them.
    BadCached {
        /// First page of the run.
        offset: u64,
    },
    /// A folio's reference count is 0, or below the number of references that leaf words own.
    BadCount {
        /// First page of the folio.
        offset: u64,
        /// References.
        refs: u32,
        /// References of leaf words.
        maps: u32,
    },
    /// A folio's order does not fit where it lies.
    BadOrder {
        /// First page of the folio.
        offset: u64,
        /// Its order.
        order: u8,
    },
    /// A block is closed, and no eviction has it; or one has, and it is open.
    BadClosed {
        /// First page of the block.
        offset: u64,
    },
    /// The block word of a folio names another order or another device.
    BadBlockWord {
        /// First page of the folio.
        offset: u64,
        /// The number of the device that the word names.
        device: u32,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Violation::LiveCount { device, counted, believed } => {
                write!(f, "device at {device:#x}: {counted} pages in live folios, and it counts {believed}")
            }
            Violation::BlockCount { offset, counted, believed } => {
                write!(f, "block at {offset:#x}: {counted} pages taken, and its use word counts {believed}")
            }
            Violation::Lost { offset } => write!(f, "page {offset:#x} is taken, and in no live folio"),
            Violation::LiveOnFree { offset } => write!(f, "a folio is live at {offset:#x}, where pages are free"),
            Violation::BadCached { offset } => {
                write!(f, "a cache keeps the run at {offset:#x}, which is not there to keep")
            }
            Violation::BadCount { offset, refs, maps } => {
                write!(f, "the folio at {offset:#x} has {refs} references, of which leaf words own {maps}")
            }
            Violation::BadOrder { offset, order } => write!(f, "a folio of order {order} does not fit at {offset:#x}"),
            Violation::BadClosed { offset } => {
                write!(f, "the block at {offset:#x} is closed, or open, against what evictions say")
            }
            Violation::BadBlockWord { offset, device } => {
                write!(f, "the block word at {offset:#x} names another order, or device {device}")
            }
        }
    }
}

impl core::error::Error for Violation {}

pub(super) fn validate(space: &Space) -> Result<(), Violation> {
    space.table().all().iter().try_for_each(|entry| Recount::of(space, entry)?.device())
}

struct Recount<'a> {
    space: &'a Space,
    entry: &'a Entry,
    /// Runs that caches keep, by first page; those that were found taken are gone.
    cached: BTreeMap<u64, Order>,
}

impl<'a> Recount<'a> {
    fn of(space: &'a Space, entry: &'a Entry) -> Result<Recount<'a>, Violation> {
        let mut cached = BTreeMap::new();
        for (offset, order) in entry.seats().iter().flat_map(|seat| seat.stash().runs()) {
            if cached.insert(offset, order).is_some() {
                return Err(Violation::BadCached { offset });
            }
        }
        Ok(Recount { space, entry, cached })
    }

    fn device(&mut self) -> Result<(), Violation> {
        let (mut live, mut blocks) = (0, self.entry.map().blocks());
        while let Some(block) = blocks.next() {
            let seen = self.space.blocks().use_of(block);
            // One that is part of a large folio is closed when it is given back.
            let is_closing = self.entry.map().is_closing(self.space.blocks(), block);
            if seen.is_closed() != (is_closing && !seen.is_taken()) {
                return Err(Violation::BadClosed { offset: block << BLOCK_SHIFT });
            }
            if seen.is_taken() {
                let order = self.large(block, seen)?;
                live += order.nr_pages();
                // The other blocks of the folio were checked with it.
                for _ in 1..order.nr_pages() >> BLOCK_SHIFT {
                    blocks.next();
                }
            } else {
                live += self.small(block, seen)?;
            }
        }
        if let Some((&offset, _)) = self.cached.first_key_value() {
            return Err(Violation::BadCached { offset });
        }
        let believed = self.entry.live(self.space).pages();
        if live == believed {
            Ok(())
        } else {
            Err(Violation::LiveCount { device: self.entry.range().start().get(), counted: live, believed })
        }
    }

    /// The folio of order 9 or more whose first block is `block`.
    fn large(&self, block: u64, seen: BlockUse) -> Result<Order, Violation> {
        let (head, offset) = (Offset::from_low_bits(block << BLOCK_SHIFT), block << BLOCK_SHIFT);
        let Class::Uniform(order) = seen.class() else { return Err(Violation::Lost { offset }) };
        let state = self.state(Place { head, order });
        if !state.is_live() && !state.is_linked() {
            return Err(Violation::Lost { offset });
        }
        if state.order() != order || order.align_down(offset) != offset {
            return Err(Violation::BadOrder { offset, order: state.order().get() });
        }
        for block in block..block + (order.nr_pages() >> BLOCK_SHIFT) {
            let here = self.space.blocks().use_of(block);
            if !here.is_taken() || here.class() != seen.class() {
                return Err(Violation::BlockCount {
                    offset: block << BLOCK_SHIFT,
                    counted: PAGES_PER_BLOCK,
                    believed: if here.is_taken() { PAGES_PER_BLOCK } else { 0 },
                });
            }
            self.folio(Offset::from_low_bits(block << BLOCK_SHIFT), state)?;
        }
        Ok(order)
    }

    /// The pages of `block` that are in folios below order 9.
    fn small(&mut self, block: u64, seen: BlockUse) -> Result<u64, Violation> {
        let words = self.space.blocks().bits_of(block);
        let first = block << BLOCK_SHIFT;
        if !seen.goes_by_bits() {
            // A claim that came too late for it would have taken its bits back.
            let counted = words.iter().map(|word| u64::from(word.count_ones())).sum();
            return if counted == 0 {
                Ok(0)
            } else {
                Err(Violation::BlockCount { offset: first, counted, believed: 0 })
            };
        }
        let exist = self.entry.map().pages_in(block);
        let (mut page, mut live) = (0, 0);
        while page < exist {
            let head = Offset::from_low_bits(first + page);
            let state = self.state(Place { head, order: Order::ZERO });
            if !is_taken(&words, page) {
                if state.is_live() {
                    return Err(Violation::LiveOnFree { offset: head.get() });
                }
                page += 1;
                continue;
            }
            let cached = self.cached.remove(&head.get());
            // Its folio lives, or its driver has not given it back yet.
            let is_owned = state.is_live() || state.is_linked();
            if cached.is_some() == is_owned {
                let offset = head.get();
                return Err(if is_owned { Violation::BadCached { offset } } else { Violation::Lost { offset } });
            }
            let order = cached.unwrap_or(state.order());
            if order.is_whole_block() || order.align_down(page) != page {
                return Err(Violation::BadOrder { offset: head.get(), order: order.get() });
            }
            let pages = page..page + order.nr_pages();
            if !pages.clone().all(|page| is_taken(&words, page)) {
                return Err(Violation::LiveOnFree { offset: head.get() });
            }
            for tail in pages.clone().skip(1) {
                if self.state(Place { head: Offset::from_low_bits(first + tail), order: Order::ZERO }).is_live() {
                    return Err(Violation::BadOrder { offset: head.get(), order: order.get() });
                }
            }
            page = pages.end;
            if cached.is_none() {
                self.folio(head, state)?;
                live += order.nr_pages();
            }
        }
        Ok(live)
    }

    /// What holds for every folio that lives, or was not given back yet: its counts, and the word of the block at `offset`, which it lies in.
    fn folio(&self, offset: Offset, state: State) -> Result<(), Violation> {
        let (refs, maps) = (state.count(), state.maps());
        if state.is_live() && (refs == 0 || maps > refs) {
            return Err(Violation::BadCount { offset: offset.get(), refs, maps });
        }
        let word = self.space.sections().block_word(offset);
        let (class, device) = word.map_or((Class::Unused, 0), |word| (word.class(), word.device()));
        let names_order = match class {
            Class::Uniform(order) => order == state.order(),
            Class::Mixed => !state.order().is_whole_block(),
            Class::Unused => false,
        };
        if names_order && device == self.entry.index() {
            Ok(())
        } else {
            Err(Violation::BadBlockWord { offset: offset.get(), device })
        }
    }

    fn state(&self, place: Place) -> State {
        self.space.sections().at(place).map_or(State::from_bits(0), |page| page.state())
    }
}

fn is_taken(words: &[u64; WORDS_PER_BLOCK], page: u64) -> bool {
    words[(page / PAGES_PER_WORD) as usize] >> (page % PAGES_PER_WORD) & 1 != 0
}
