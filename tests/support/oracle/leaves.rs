//! What is done with leaves, and what lookups find, on both sides.

use super::*;

impl<'s> Oracle<'s> {
    /// Drops a leaf of the table if it is full: a reference that it owns is put. `keep` is a handle about to be used.
    pub(super) fn make_room_for_a_leaf(&mut self, keep: usize) {
        if self.leaves.len() == MAX_LEAVES {
            let i = keep % MAX_LEAVES;
            if let Some(folio) = self.take(i) {
                self.put(folio);
            }
            self.leaves.swap_remove(i);
        }
    }

    /// The life that a leaf's folio is in, if it is still the one that the leaf was made in.
    pub(super) fn life_of(&self, leaf: usize) -> Option<Life> {
        let Leaf { head, serial, .. } = self.leaves[leaf];
        self.model.life(head).filter(|life| life.serial == serial)
    }

    pub(super) fn rewrite(&mut self, leaf: u8, change: impl Fn(SoftLeaf) -> SoftLeaf) {
        if let Some(i) = pick(leaf, self.leaves.len()) {
            let leaf = &mut self.leaves[i];
            let word = change(leaf.word);
            assert_eq!(word.offset(), leaf.word.offset(), "{word:?} was {:?}", leaf.word);
            leaf.word = word;
        }
    }

    pub(super) fn check_found(&mut self, leaf: usize, found: Option<PageRef<'s>>) {
        let Leaf { word, page, .. } = self.leaves[leaf];
        match self.life_of(leaf) {
            Some(_) => {
                self.stats.found += 1;
                self.check_page(page, found);
            }
            None => {
                self.stats.stale += 1;
                assert_eq!(found, None, "{word:?} is stale, its folio was freed");
            }
        }
    }

    /// Compares what was found at `page` with what lives there.
    pub(super) fn check_page(&self, page: u64, found: Option<PageRef<'s>>) {
        let expected = self.model.covering(page);
        assert_eq!(found.is_some(), expected.is_some(), "page {page}: {found:?}, and there lives {expected:?}");
        if let (Some(found), Some((head, life))) = (found, expected) {
            assert_eq!((found.offset().get(), found.folio_offset().get(), found.index()), (page, head, page - head));
            assert_eq!((found.order(), found.refs(), found.private()), (life.order, life.refs, life.private));
            assert_eq!(found.device().range().start().get(), life.device);
        }
    }

    pub(super) fn lookup_many(&mut self, first: u8, n: usize, room: usize) {
        let Some(first) = pick(first, self.leaves.len()) else { return };
        let indices: Vec<usize> = (0..n).map(|i| (first + i) % self.leaves.len()).collect();
        let words: Vec<SoftLeaf> = indices.iter().map(|&i| self.leaves[i].word).collect();
        // An answer from before, which must not survive beyond the leaves.
        let before = self.handles.first().and_then(|folio| self.space.page(folio.offset()));
        let mut pages = vec![before; room];
        self.space.lookup_many(&words, &mut pages);
        for (&i, &page) in indices.iter().zip(&pages) {
            self.check_found(i, page);
        }
        assert!(pages.iter().skip(n).all(Option::is_none), "no leaf, no page");
    }

    pub(super) fn try_get(&mut self, leaf: u8) {
        let Some(i) = pick(leaf, self.leaves.len()) else { return };
        let folio = self.space.lookup(self.leaves[i].word).and_then(PageRef::try_get);
        assert_eq!(folio.is_some(), self.life_of(i).is_some());
        if let Some(folio) = folio {
            let life = self.life_mut(folio.offset());
            life.refs += 1;
            assert_eq!((folio.order(), folio.refs(), folio.private()), (life.order, life.refs, life.private));
            assert_eq!(folio.offset().get(), self.leaves[i].head);
            self.handles.push(folio);
        }
    }

    pub(super) fn take(&mut self, leaf: usize) -> Option<Folio<'s>> {
        let Leaf { word, page, head, .. } = self.leaves[leaf];
        let taken = self.space.take(word);
        match self.life_of(leaf) {
            None => assert_eq!(taken, Err(TakeError::Stale { offset: page })),
            Some(life) if life.maps == 0 => {
                self.stats.double_takes += 1;
                assert_eq!(taken, Err(TakeError::NotMapped { offset: page, refs: life.refs }));
            }
            Some(_) => {
                let folio = taken.expect("a leaf owns a reference");
                let life = self.life_mut(folio.offset());
                life.maps -= 1;
                assert_eq!(folio.offset().get(), head);
                assert_eq!(
                    (folio.order(), folio.refs(), folio.maps(), folio.private()),
                    (life.order, life.refs, life.maps, life.private)
                );
                return Some(folio);
            }
        }
        None
    }

    /// Any 64 bits: they name a page that lives, or nothing.
    pub(super) fn word(&self, word: SoftLeaf) {
        let found = self.space.lookup(word);
        let Some(at) = word.offset() else {
            assert_eq!(found, None);
            assert_eq!(self.space.take(word), Err(TakeError::WrongKind { kind: word.kind() }));
            return;
        };
        if at.get() >= self.model.max_pages {
            let max_pages = self.model.max_pages;
            assert_eq!(self.space.take(word), Err(TakeError::OutOfRange { offset: at.get(), max_pages }));
        }
        match self.model.covering(at.get()) {
            // Only a forged word comes here with a generation that fits; then it names the folio that is there.
            Some((_, life)) if found.is_some() => {
                self.check_page(at.get(), found);
                assert!(life.maps > 0 || self.space.take(word).is_err(), "no leaf owns a reference");
            }
            Some(_) => assert!(self.space.take(word).is_err(), "what is not found is not taken"),
            None => {
                assert_eq!(found, None);
                assert!(self.space.take(word).is_err());
            }
        }
    }
}
