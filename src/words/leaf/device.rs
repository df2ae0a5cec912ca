//! [`DeviceWord`]: the fields of a leaf that names an offset, and the three ways in which a word holds them.
//! What looks a leaf up decodes it once, and asks the fields.
//!
//! The layout is in the documentation of [`SoftLeaf`](super::SoftLeaf). It has room for nothing more: the 128 slots are
//! used up but for one.
#![forbid(unsafe_code)]

use super::{Access, LeafKind, MAX_DIRECT_ORDER, MigrationAccess};
use crate::geometry::MAX_ORDER;
use crate::words::{Offset, Order, leaf_bits as bits};

/// Orders that an ordered word names: 1 to 18, because the only page of a folio of order 0 is a head.
const ORDERS: u64 = 18;
/// Kinds of an ordered word: private read and write, migration read, read-exclusive and write.
const KINDS: u64 = 5;
/// The first slot of ordered words: `ORDERED + ORDERS * kind + order - 1`. Slot 0 is the host words', slot 1 is spare.
const ORDERED: u64 = 2;
/// The first slot of moving words: `MOVING + 2 * UPPERS * access + UPPERS * (order > 0) + upper - 1`.
const MOVING: u64 = ORDERED + ORDERS * KINDS;
/// What the upper bits of a generation, those that do not fit [`bits::LOW_GENERATION`], can be: 1 to 6.
const UPPERS: u64 = 6;

const _: () = assert!(MOVING + 3 * 2 * UPPERS == bits::SLOTS, "the slots are used up");
const _: () = assert!(MAX_ORDER as u64 <= ORDERS, "each order of a folio has its slots");
const _: () = {
    let mut upper = 0;
    while upper >> (bits::GENERATION_BITS - bits::LOW_GENERATION_BITS) == 0 {
        let exists = bits::is_generation(upper << bits::LOW_GENERATION_BITS);
        assert!(exists == (1 <= upper && upper <= UPPERS), "each upper part of a generation has its slots");
        upper += 1;
    }
};

/// Of each slot, the order in it if it is an ordered word's of a private page, for reading or for writing.
static PRIVATE_ORDERS: [Option<Order>; bits::SLOTS as usize] = {
    let mut orders = [None; bits::SLOTS as usize];
    let mut at = 0;
    while at < 2 * ORDERS {
        orders[(ORDERED + at) as usize] = Order::new((1 + at % ORDERS) as u8);
        at += 1;
    }
    orders
};

/// What a leaf that names an offset is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DeviceKind {
    Private(Access),
    Migration(MigrationAccess),
}

impl DeviceKind {
    const fn index(self) -> u64 {
        match self {
            DeviceKind::Private(access) => access as u64,
            DeviceKind::Migration(access) => 2 + access as u64,
        }
    }

    const fn from_index(index: u64) -> DeviceKind {
        match index {
            0 => DeviceKind::Private(Access::Read),
            1 => DeviceKind::Private(Access::Write),
            2 => DeviceKind::Migration(MigrationAccess::Read),
            3 => DeviceKind::Migration(MigrationAccess::ReadExclusive),
            _ => DeviceKind::Migration(MigrationAccess::Write),
        }
    }

    #[inline]
    pub(super) const fn leaf_kind(self) -> LeafKind {
        match self {
            DeviceKind::Private(access) => LeafKind::DevicePrivate(access),
            DeviceKind::Migration(access) => LeafKind::Migration(access),
        }
    }
}

/// The fields of a leaf that names an offset.
#[derive(Clone, Copy)]
pub(crate) struct DeviceWord {
    /// The page.
    pub(crate) offset: Offset,
    /// The order of its folio.
    pub(crate) order: Order,
    /// The generation of the folio, or what the word has room for; see [`DeviceWord::has_generation`].
    pub(super) generation: u64,
    pub(super) kind: DeviceKind,
}

/// Whether `offset` heads a folio of an order that direct words have.
const fn heads_direct(offset: Offset, order: Order) -> bool {
    order.get() <= MAX_DIRECT_ORDER && order.align_down(offset.get()) == offset.get()
}

impl DeviceWord {
    /// The fields of `word`; `None` where it is no word that [`DeviceWord::encode`] returns, marks aside.
    #[inline]
    pub(super) const fn decode(word: u64) -> Option<DeviceWord> {
        if word & bits::DIRECT != 0 {
            return DeviceWord::decode_direct(word);
        }
        let slot = (word & bits::SLOT) >> bits::SLOT_SHIFT;
        match slot {
            ..ORDERED => None,
            ORDERED..MOVING => DeviceWord::decode_ordered(word, slot - ORDERED),
            _ => DeviceWord::decode_moving(word, slot - MOVING),
        }
    }

    #[inline]
    const fn decode_direct(word: u64) -> Option<DeviceWord> {
        let Some(order) = Order::new(((word & bits::ORDER) >> bits::ORDER_SHIFT) as u8) else { return None };
        let offset = Offset::from_low_bits(word);
        let generation = (word & bits::GENERATION) >> bits::GENERATION_SHIFT;
        if !heads_direct(offset, order) || !bits::is_generation(generation) {
            return None;
        }
        let access = if word & bits::WRITE != 0 { Access::Write } else { Access::Read };
        Some(DeviceWord { offset, order, generation, kind: DeviceKind::Private(access) })
    }

    /// The fields of a direct word of order 0.
    #[inline(always)]
    pub(super) const fn decode_single(word: u64) -> Option<DeviceWord> {
        let generation = (word & bits::GENERATION) >> bits::GENERATION_SHIFT;
        if !bits::is_generation(generation) {
            return None;
        }
        let access = if word & bits::WRITE != 0 { Access::Write } else { Access::Read };
        let kind = DeviceKind::Private(access);
        Some(DeviceWord { offset: Offset::from_low_bits(word), order: Order::ZERO, generation, kind })
    }

    /// The order that an ordered word of a private page names; `None` for all other words. As [`DeviceWord::decode`], for who
    /// needs nothing else of such a word: one load.
    #[inline(always)]
    pub(super) const fn order_of_private(word: u64) -> Option<Order> {
        let Some(order) = PRIVATE_ORDERS[((word & bits::SLOT) >> bits::SLOT_SHIFT) as usize] else { return None };
        let is_other = word & bits::DIRECT != 0 || heads_direct(Offset::from_low_bits(word), order);
        if is_other { None } else { Some(order) }
    }

    #[inline]
    const fn decode_ordered(word: u64, slot: u64) -> Option<DeviceWord> {
        let Some(order) = Order::new((1 + slot % ORDERS) as u8) else { return None };
        let offset = Offset::from_low_bits(word);
        // Such a page has a direct or a moving word, and no other.
        if heads_direct(offset, order) {
            return None;
        }
        let generation = (word & bits::LOW_GENERATION) >> bits::LOW_GENERATION_SHIFT;
        Some(DeviceWord { offset, order, generation, kind: DeviceKind::from_index(slot / ORDERS) })
    }

    const fn decode_moving(word: u64, slot: u64) -> Option<DeviceWord> {
        let access = match slot / (2 * UPPERS) {
            0 => MigrationAccess::Read,
            1 => MigrationAccess::ReadExclusive,
            _ => MigrationAccess::Write,
        };
        let payload = word & bits::PAYLOAD;
        let (offset, order) = if slot / UPPERS % 2 == 0 {
            (payload, Some(Order::ZERO))
        } else {
            // The lowest bit set stands for the order, in the place just below the lowest that the offset can have.
            let lowest = payload.trailing_zeros() as u8;
            if lowest >= MAX_DIRECT_ORDER {
                return None;
            }
            (payload & (payload - 1), Order::new(1 + lowest))
        };
        let Some(order) = order else { return None };
        let low = (word & bits::LOW_GENERATION) >> bits::LOW_GENERATION_SHIFT;
        let generation = (1 + slot % UPPERS) << bits::LOW_GENERATION_BITS | low;
        let kind = DeviceKind::Migration(access);
        Some(DeviceWord { offset: Offset::from_low_bits(offset), order, generation, kind })
    }

    /// The only word of these fields, without marks.
    #[inline]
    pub(super) const fn encode(self) -> u64 {
        match self.kind {
            _ if !heads_direct(self.offset, self.order) => self.encode_ordered(),
            DeviceKind::Private(access) => DeviceWord::direct(self.offset, self.order, self.generation, access),
            DeviceKind::Migration(access) => self.encode_moving(access),
        }
    }

    /// The word of a page that heads a folio of that order, 7 or less.
    #[inline(always)]
    pub(super) const fn direct(offset: Offset, order: Order, generation: u64, access: Access) -> u64 {
        let write = if matches!(access, Access::Write) { bits::WRITE } else { 0 };
        offset.get()
            | write
            | (order.get() as u64) << bits::ORDER_SHIFT
            | generation << bits::GENERATION_SHIFT
            | bits::DIRECT
    }

    #[inline]
    const fn encode_ordered(self) -> u64 {
        let slot = ORDERED + ORDERS * self.kind.index() + self.order.get() as u64 - 1;
        self.offset.get() | slot << bits::SLOT_SHIFT | self.low_generation()
    }

    #[inline(always)]
    pub(super) const fn encode_moving(self, access: MigrationAccess) -> u64 {
        let upper = self.generation >> bits::LOW_GENERATION_BITS;
        let (order, is_large) = match self.order.get() {
            0 => (0, 0),
            order => (1 << (order - 1), 1),
        };
        let slot = MOVING + 2 * UPPERS * access as u64 + UPPERS * is_large + upper - 1;
        self.offset.get() | order | slot << bits::SLOT_SHIFT | self.low_generation()
    }

    const fn low_generation(self) -> u64 {
        self.generation << bits::LOW_GENERATION_SHIFT & bits::LOW_GENERATION
    }

    /// Whether a folio of this generation is of the generation that the word names: all of it in a direct or moving
    /// word, modulo 2^12 in an ordered one.
    #[inline]
    pub(crate) const fn has_generation(self, generation: u64) -> bool {
        let whole = heads_direct(self.offset, self.order);
        let room = if whole { bits::GENERATION_BITS } else { bits::LOW_GENERATION_BITS };
        (self.generation ^ generation) & ((1 << room) - 1) == 0
    }

    /// The same folio's page `nr_pages` further on, or `None` where the folio ends.
    pub(super) const fn further(self, nr_pages: u64) -> Option<DeviceWord> {
        let index = self.offset.get() - self.order.align_down(self.offset.get());
        if nr_pages >= self.order.nr_pages() - index {
            return None;
        }
        Some(DeviceWord { offset: Offset::from_low_bits(self.offset.get() + nr_pages), ..self })
    }
}
