//! Handles on folios that one leaf has and nobody else, or nobody but the handle: what migrations move, nearly always.
//!
//! Each function does by one atomic operation what others do by several, or refuses. Edges: [lock], [map], [last-put].
#![forbid(unsafe_code)]

use core::mem;

use super::{Folio, FolioWord, LockedFolio, end, record};
use crate::device::Endings;
use crate::page::Page;
use crate::section_map::Place;
use crate::space::Space;
use crate::words::{Access, Offset, Order, SoftLeaf};

impl Space {
    /// A handle on the single page at `offset`, locked, if a leaf has its only reference. For a caller that keeps that leaf.
    #[inline(always)]
    pub(crate) fn lock_single(&self, offset: Offset) -> Option<LockedFolio<'_>> {
        let record = self.sections().small(offset)?;
        let state = record.peek();
        record.lock_from_leaf(state).then(|| self.locked_single(FolioWord::of_single(offset, state)))
    }

    /// The same for the page that a direct leaf names, if it still does.
    #[inline(always)]
    pub(crate) fn lock_direct(&self, leaf: SoftLeaf) -> Option<LockedFolio<'_>> {
        let record = self.sections().small(Offset::from_low_bits(leaf.bits()))?;
        let state = record.peek();
        let is_locked = state.is_named_by_direct(leaf) && record.lock_from_leaf(state);
        is_locked.then(|| self.locked_single(FolioWord::of_direct_leaf(leaf)))
    }

    #[inline(always)]
    fn locked_single(&self, word: FolioWord) -> LockedFolio<'_> {
        LockedFolio { folio: Folio { space: self, word } }
    }

    /// Drops the reference of the leaf that a table had for page `offset`, which is of order 0 if it is one by itself.
    /// `false` if no leaf has one.
    #[inline(always)]
    pub(crate) fn unmap_single(&self, offset: Offset, endings: &mut Endings<'_>) -> bool {
        let Some(record) = self.sections().small(offset) else { return false };
        let state = record.state();
        state.is_live()
            && state.order() == Order::ZERO
            && self.unmap_record(record, state.generation(), offset, endings)
    }

    /// The same for the page that a direct leaf names.
    #[inline(always)]
    pub(crate) fn unmap_direct(&self, leaf: SoftLeaf, endings: &mut Endings<'_>) -> bool {
        let offset = Offset::from_low_bits(leaf.bits());
        let Some(record) = self.sections().small(offset) else { return false };
        let state = record.state();
        state.is_named_by_direct(leaf)
            && state.order() == Order::ZERO
            && self.unmap_record(record, state.generation(), offset, endings)
    }

    #[inline(always)]
    fn unmap_record(&self, record: &Page, generation: u64, head: Offset, endings: &mut Endings<'_>) -> bool {
        let Ok(put) = record.unmap_and_put(generation) else { return false };
        if put.is_last(|| self.waits().wake(head)) {
            endings.end(Place { head, order: Order::ZERO }, record);
        }
        true
    }
}

impl<'s> Folio<'s> {
    /// The handle, locked, if it is the folio's only reference.
    #[inline(always)]
    pub(crate) fn try_lock_sole(self) -> Result<LockedFolio<'s>, Folio<'s>> {
        if self.record().try_lock_sole() { Ok(LockedFolio { folio: self }) } else { Err(self) }
    }

    /// Whether the folio is a page that is locked, with a reference of one leaf's and one beside.
    #[inline(always)]
    pub(crate) fn is_locked_of_one_leaf(&self) -> bool {
        // Acquire [init]: as in `extra_refs`.
        self.record().state().is_locked_of_one_leaf()
    }
}

impl<'s> LockedFolio<'s> {
    /// Unlocks the folio, and moves the handle's reference into a leaf word.
    #[inline(always)]
    pub(crate) fn into_leaf(self, access: Access) -> SoftLeaf {
        let (space, word) = (self.folio.space, self.folio.word);
        mem::forget(self);
        if record(space, word).unlock_into_leaf() {
            space.waits().wake_waiters(record(space, word), word.offset());
        }
        word.leaf(access)
    }

    /// Unlocks the folio, and drops the handle's reference and one of a leaf's that the caller has taken out.
    #[inline(always)]
    pub(crate) fn let_go(self, endings: &mut Endings<'_>) {
        let (record, word) = (self.folio.record(), self.folio.word);
        match record.let_go() {
            Some(put) => {
                mem::forget(self);
                if put.is_last(|| ()) {
                    endings.end(word.place(), record);
                }
            }
            None => self.let_go_slowly(endings),
        }
    }

    /// The same by itself.
    #[inline(always)]
    pub(crate) fn let_go_alone(self) {
        let (record, space, word) = (self.folio.record(), self.folio.space, self.folio.word);
        match record.let_go() {
            Some(put) => {
                mem::forget(self);
                if put.is_last(|| ()) {
                    end(space, word, record.private());
                }
            }
            None => {
                let mut endings = Endings::new(space);
                self.let_go_slowly(&mut endings);
                endings.finish();
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn let_go_slowly(self, endings: &mut Endings<'_>) {
        let had = self.folio.unmap_one();
        debug_assert!(had, "a leaf was taken out that owned no reference of its folio");
        self.put_into(endings);
    }

    /// Unlocks the folio and drops the handle's reference.
    pub(crate) fn put_into(self, endings: &mut Endings<'_>) {
        let folio = self.unlock();
        let (space, record, word) = (folio.space, folio.record(), folio.word);
        mem::forget(folio);
        if record.put().is_last(|| space.waits().wake(word.offset())) {
            endings.end(word.place(), record);
        }
    }
}
