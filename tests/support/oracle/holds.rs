//! What a holder does with a folio beside putting it: the lock, freezing, maps, weak references.

use super::*;

/// Weak references, also to folios that have gone.
const MAX_WEAK: usize = 64;

/// A weak reference, and the life that it is of.
pub(super) struct Weak<'s> {
    weak: WeakFolio<'s>,
    head: u64,
    serial: u64,
}

impl<'s> Oracle<'s> {
    pub(super) fn lock(&mut self, handle: u16) {
        let Some(i) = pick(handle, self.handles.len()) else { return };
        let folio = &self.handles[i];
        let page = self.space.page(folio.offset()).expect("it lives");
        let guard = folio.try_lock().expect("nobody has it");
        assert!(folio.is_locked() && folio.try_lock().is_none());
        assert!(!page.wait_unlocked(Duration::ZERO), "it is locked");
        drop(guard);
        assert!(!folio.is_locked() && page.wait_unlocked(Duration::ZERO));
        drop(folio.lock());
        let locked = self.handles.swap_remove(i).lock_owned();
        let another = locked.clone();
        let another = another.try_lock_owned().expect_err("it is locked");
        assert!(locked.is_locked());
        drop(another);
        self.handles.push(locked.unlock());
    }

    pub(super) fn freeze(&mut self, handle: u16, off_by: i8) {
        let Some(i) = pick(handle, self.handles.len()) else { return };
        let folio = self.handles.swap_remove(i);
        let life = *self.life_mut(folio.offset());
        let expected = life.refs.saturating_add_signed(i32::from(off_by));
        let page = self.space.page(folio.offset()).expect("it lives");
        let folio = match folio.try_freeze(expected) {
            Ok(frozen) => {
                assert_eq!(expected, life.refs);
                self.stats.frozen += 1;
                assert!(page.try_get().is_none(), "nobody gets a frozen folio");
                frozen.unfreeze()
            }
            Err(FreezeError { expected_refs, refs, maps, folio, .. }) => {
                assert_eq!((expected_refs, refs, maps), (expected, life.refs, life.maps));
                assert_ne!(expected, life.refs);
                folio
            }
        };
        assert!(page.try_get().is_some());
        self.handles.push(folio);
    }

    pub(super) fn map(&mut self, handle: u16, index: u16, access: Access) {
        let Some(i) = pick(handle, self.handles.len()) else { return };
        self.make_room_for_a_leaf(i);
        let Some(i) = pick(handle, self.handles.len()) else { return };
        let folio = &self.handles[i];
        let (head, nr_pages) = (folio.offset().get(), folio.nr_pages());
        // One of nine is beyond the last.
        let index = u64::from(index) % (nr_pages + nr_pages.div_ceil(8));
        let mapped = folio.map_page(index, access);
        if index >= nr_pages {
            return assert_eq!(mapped, Err(MapError::OutOfRange { index, nr_pages }));
        }
        let word = mapped.expect("there is such a page");
        assert_eq!(
            (word.offset().map(Offset::get), word.kind()),
            (Some(head + index), LeafKind::DevicePrivate(access))
        );
        let life = self.model.life_mut(head);
        (life.refs, life.maps) = (life.refs + 1, life.maps + 1);
        let serial = life.serial;
        self.stats.mapped += 1;
        self.leaves.push(Leaf { word, page: head + index, head, serial });
    }

    pub(super) fn unmap(&mut self, leaf: u8) {
        let Some(i) = pick(leaf, self.leaves.len()) else { return };
        let Leaf { word, page, head, .. } = self.leaves[i];
        let answer = self.space.unmap(word);
        match self.life_of(i) {
            None => assert_eq!(answer, Err(TakeError::Stale { offset: page })),
            Some(life) if life.maps == 0 => {
                assert_eq!(answer, Err(TakeError::NotMapped { offset: page, refs: life.refs }));
            }
            Some(_) => {
                assert_eq!(answer, Ok(()));
                self.model.life_mut(head).maps -= 1;
                self.end(head);
                self.stats.unmapped += 1;
            }
        }
    }

    pub(super) fn downgrade(&mut self, handle: u16) {
        let Some(i) = pick(handle, self.handles.len()) else { return };
        if self.weaks.len() == MAX_WEAK {
            self.weaks.swap_remove(i % MAX_WEAK);
        }
        let (weak, head) = (self.handles[i].downgrade(), self.handles[i].offset().get());
        let serial = self.model.life_mut(head).serial;
        self.weaks.push(Weak { weak, head, serial });
    }

    pub(super) fn upgrade(&mut self, weak: u8) {
        let Some(i) = pick(weak, self.weaks.len()) else { return };
        let Weak { weak, head, serial } = self.weaks[i];
        let lives = self.model.life(head).is_some_and(|life| life.serial == serial);
        let folio = weak.upgrade();
        assert_eq!(folio.is_some(), lives);
        match folio {
            Some(folio) => {
                self.model.life_mut(head).refs += 1;
                assert_eq!(folio.offset().get(), head);
                self.stats.upgraded += 1;
                self.handles.push(folio);
            }
            None => self.stats.gone_weak += 1,
        }
    }
}
