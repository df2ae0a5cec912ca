//! What a block serves: how that changes while others claim in it. Edges: [claim], [seal].
#![forbid(unsafe_code)]

use super::super::block_use::{BlockUse, Mixing};
use super::Blocks;
use crate::class::Class;
use crate::sparse::NoMemory;
use crate::sync::{
    AtomicU64,
    Ordering::{AcqRel, Relaxed},
};
use crate::words::Order;

/// What a small claim asks of the block that it is in.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// To serve one order, beside others only if allowed.
    One(Order, Mixing),
    /// To serve all orders below 9.
    All,
    /// The same for parts of a folio that has been there: whether or not the block is closed.
    Parts,
}

impl Purpose {
    pub(super) fn is_served(self, block: BlockUse) -> bool {
        match self {
            Purpose::One(order, _) => block.serves(order),
            Purpose::All => block.serves_all(),
            Purpose::Parts => block.is_mixed(),
        }
    }

    pub(super) fn class(self) -> Class {
        match self {
            Purpose::One(order, _) => Class::Uniform(order),
            Purpose::All | Purpose::Parts => Class::Mixed,
        }
    }

    pub(super) fn apply(self, block: BlockUse) -> Option<BlockUse> {
        match self {
            Purpose::One(order, mixing) => block.serving(order, mixing),
            Purpose::All => block.serving_all(),
            Purpose::Parts => Some(block.mixed()),
        }
    }
}

impl Blocks {
    #[inline]
    pub(super) fn make_serve(&self, block: u64, word: &AtomicU64, purpose: Purpose) -> bool {
        // Relaxed [seal]: what must be seen here came to us with the bits.
        let mut seen = BlockUse::from_bits(word.load(Relaxed));
        while !purpose.is_served(seen) {
            // A word without memory belongs to nobody; see [populate] in `claim_small`.
            let Some(next) = purpose.apply(seen).filter(|_| seen.is_present()) else { return false };
            // It may have been given back since it is to be closed, and have no mark yet.
            if !matches!(purpose, Purpose::Parts) && self.are_closing(block..block + 1) {
                return false;
            }
            // Acquire [claim]: what the last owner of the whole block did is behind us.
            // Release [verify]: a search that sees the block go by its bits sees that we are not sure of them yet.
            match word.compare_exchange_weak(seen.bits(), next.bits(), AcqRel, Relaxed) {
                Ok(_) => {
                    self.note_change(block, seen, next);
                    return true;
                }
                Err(now) => seen = BlockUse::from_bits(now),
            }
        }
        true
    }

    /// Brings the hints up to date after a change of the use word to one that goes by the bits.
    fn note_change(&self, block: u64, old: BlockUse, new: BlockUse) {
        self.hints.note_taken(block, || self.seems_free(block));
        if old.class() != new.class() {
            self.hints.note_no_room(block, old.class(), || false);
            self.hints.note_room(block, new.class());
        }
    }

    /// Makes a block that nobody takes from serve `order` (below 9) only, and reserves it. `false` if it is reserved,
    /// closed, serves another order or belongs to a large folio.
    pub(crate) fn adopt(&self, block: u64, order: Order) -> Result<bool, NoMemory> {
        let (word, _) = (self.populate(block)?, self.bits.populate(block)?);
        self.hints.populate_class(block, Class::Uniform(order))?;
        let seen = BlockUse::from_bits(word.load(Relaxed));
        if seen.is_reserved() || self.is_withheld(block, seen) || !seen.is_present() {
            return Ok(false);
        }
        let adopted = match seen.serving(order, Mixing::Refused).filter(|next| next.class() == Class::Uniform(order)) {
            Some(next) => {
                let next = next.reserved(true);
                // AcqRel [claim], [verify]: as in `make_serve`.
                let adopted = word.compare_exchange(seen.bits(), next.bits(), AcqRel, Relaxed).is_ok();
                adopted.then_some(next)
            }
            None if seen.goes_by_bits() => {
                self.exchange_empty(block, word, seen, |seen| seen.emptied_for(order).reserved(true))
            }
            None => None,
        };
        if let Some(next) = adopted {
            self.note_change(block, seen, next);
        }
        Ok(adopted.is_some())
    }

    /// Exchanges the use word of a block that goes by its bits, if all of them are clear.
    pub(super) fn exchange_empty(
        &self,
        block: u64,
        word: &AtomicU64,
        seen: BlockUse,
        next: impl FnOnce(BlockUse) -> BlockUse,
    ) -> Option<BlockUse> {
        let bits = self.bits.get_populated(block)?;
        if !bits.seem_free() {
            return None;
        }
        let sealed = seen.sealed();
        // Relaxed [seal]: the looks at the bits release it to whoever claims after them.
        if word.compare_exchange(seen.bits(), sealed.bits(), Relaxed, Relaxed).is_err() {
            return None;
        }
        if !bits.are_free() {
            // Whoever took them may have broken the seal before.
            let _ = word.compare_exchange(sealed.bits(), sealed.unsealed().bits(), Relaxed, Relaxed);
            return None;
        }
        let next = next(sealed);
        // AcqRel [claim], [verify]: as in `make_serve`. It fails if a claim has broken the seal.
        word.compare_exchange(sealed.bits(), next.bits(), AcqRel, Relaxed).is_ok().then_some(next)
    }
}
