//! What a leaf word and an offset lead to, one promise a test: heads, tails, stale leaves, words from elsewhere, and the
//! reference that a leaf owns.
//!
//! The bits of a leaf are tested where they are defined; races are in `threads`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farpage::{
    Access, Device, DeviceConfig, Folio, LeafKind, MigrationAccess, Offset, Order, Owner, PageRef, Pfn, SoftLeaf,
    Space, TakeError,
};
use proptest::prelude::*;

fn space(max_pages: u64) -> Space {
    Space::builder().max_pages(max_pages).build().expect("address space")
}

fn device_of(space: &Space, nr_pages: u64) -> Device<'_> {
    space.register(DeviceConfig::new(nr_pages).owner(Owner::new(5))).expect("it fits")
}

fn order(order: u8) -> Order {
    Order::new(order).expect("at most 18")
}

fn offset(page: u64) -> Offset {
    Offset::new(page).expect("below 2^40")
}

/// Every page of `folio` resolves to it, and the pages beside it do not.
fn assert_resolves(space: &Space, folio: &Folio<'_>) {
    let (head, n) = (folio.offset().get(), folio.nr_pages());
    // All tails of small folios, and of large ones those at the borders of pages, words and blocks.
    let indices = (0..n.min(2048)).chain((2048..n).step_by(509)).chain([n - 1]);
    for index in indices {
        let page = space.page(offset(head + index)).unwrap_or_else(|| panic!("page {index} of {folio:?}"));
        assert_eq!((page.offset().get(), page.folio_offset(), page.index()), (head + index, folio.offset(), index));
        assert_eq!((page.order(), page.private(), page.refs()), (folio.order(), folio.private(), folio.refs()));
    }
    let tail = space.page(offset(head + n - 1)).unwrap();
    assert_eq!(tail.device(), folio.device());
    assert!(tail.try_get().unwrap() == *folio);
    for beside in [head.checked_sub(1), Some(head + n)].into_iter().flatten().filter_map(Offset::new) {
        assert!(space.page(beside).is_none_or(|page| page.folio_offset() != folio.offset()));
    }
}

#[test]
fn a_leaf_leads_to_its_folio_until_it_is_taken_and_never_again() {
    let space = space(1 << 20);
    let device = device_of(&space, 1 << 20);
    for (n, access) in (0..=18).flat_map(|n| [(n, Access::Read), (n, Access::Write)]) {
        let folio = device.alloc(order(n)).unwrap();
        folio.set_private(1000 + u64::from(n));
        let at = folio.offset();
        let leaf = folio.into_leaf(access);
        assert_eq!((leaf.kind(), leaf.offset()), (LeafKind::DevicePrivate(access), Some(at)));
        let page = space.lookup(leaf).unwrap();
        assert_eq!((page.offset(), page.folio_offset(), page.index(), page.order()), (at, at, 0, order(n)));
        assert_eq!((page.refs(), page.private(), page.device().owner()), (1, 1000 + u64::from(n), Owner::new(5)));
        drop(space.take(leaf).unwrap());
        assert_eq!((space.lookup(leaf), space.page(at)), (None, None));
        let again = device.alloc(order(n)).unwrap();
        assert_eq!(again.offset(), at, "the lowest run, as before");
        assert_eq!(space.lookup(leaf), None, "order {n}: the offset is another folio's");
        assert_eq!(space.take(leaf), Err(TakeError::Stale { offset: at.get() }));
    }
}

#[test]
fn a_stale_leaf_leads_nowhere_when_its_offset_serves_any_other_order() {
    // Every order that a place can serve after every other, with as many allocations as it takes for the generations
    // of the two to meet, if they could.
    for (first, second) in (0..=11).flat_map(|first| (0..=11).map(move |second| (first, second))) {
        let space = space(4096);
        let device = device_of(&space, 4096);
        // Not only at the start of the device: the run may become the tail of a larger one.
        let mut folios: Vec<Folio<'_>> = Vec::new();
        device.alloc_many(order(first), 4096 >> first, &mut folios).unwrap();
        let leaves: Vec<SoftLeaf> = folios.into_iter().map(|folio| folio.into_leaf(Access::Write)).collect();
        leaves.iter().for_each(|leaf| drop(space.take(*leaf).unwrap()));
        for _ in 0..3 {
            let mut folios: Vec<Folio<'_>> = Vec::new();
            device.alloc_many(order(second), 4096 >> second, &mut folios).unwrap();
            // Of each, a leaf: a reference that a confused `take` could get.
            let later: Vec<SoftLeaf> = folios.into_iter().map(|folio| folio.into_leaf(Access::Write)).collect();
            for &leaf in &leaves {
                let entry = leaf.to_migration(MigrationAccess::Read).unwrap();
                for stale in [leaf, entry] {
                    let message = format!("{stale:?} of order {first}, and its page is of order {second} now");
                    assert_eq!(space.lookup(stale), None, "{message}");
                    let mut many = [None];
                    space.lookup_many(&[stale], &mut many);
                    assert_eq!(many, [None], "{message}");
                    assert!(space.take(stale).is_err(), "{message}");
                }
            }
            later.into_iter().for_each(|leaf| drop(space.take(leaf).unwrap()));
        }
    }
}

#[test]
fn a_stale_leaf_of_a_large_folio_leads_nowhere_when_its_place_is_a_tail_of_a_larger_one() {
    let space = space(1024);
    let device = device_of(&space, 1024);
    // The first block is used by a page, so that the second has had more large folios than the first.
    let page = device.alloc(Order::ZERO).unwrap();
    let leaf = device.alloc(order(9)).unwrap().into_leaf(Access::Write);
    drop(space.take(leaf).unwrap());
    drop(page);
    for _ in 0..3 {
        let larger = device.alloc(order(10)).unwrap();
        assert_eq!(space.lookup(leaf), None);
        let later = larger.into_leaf(Access::Read);
        assert!(space.take(leaf).is_err());
        drop(space.take(later).unwrap());
    }
}

#[test]
fn a_leaf_stays_stale_for_thousands_of_reuses() {
    let space = space(2048);
    let device = device_of(&space, 1024);
    for n in [0, 9] {
        let leaf = device.alloc(order(n)).unwrap().into_leaf(Access::Read);
        drop(space.take(leaf).unwrap());
        for reuse in 1..1 << 12 {
            let folio = device.alloc(order(n)).unwrap();
            assert_eq!(Some(folio.offset()), leaf.offset());
            assert_eq!(space.lookup(leaf), None, "reuse {reuse} of order {n}");
        }
    }
}

#[test]
fn a_leaf_of_a_device_that_went_is_stale_for_the_next() {
    let space = space(2048);
    let mut stale: Vec<SoftLeaf> = Vec::new();
    for n in [0, 9, 3, 10, 0, 9] {
        let device = device_of(&space, 2048);
        let mut folios = Vec::new();
        device.alloc_many(order(n), 2048 >> n, &mut folios).unwrap();
        assert!(stale.iter().all(|leaf| space.lookup(*leaf).is_none() && space.take(*leaf).is_err()));
        stale.extend(folios.into_iter().map(|folio| folio.into_leaf(Access::Write)));
        stale.iter().for_each(|leaf| drop(space.take(*leaf)));
        device.unregister().unwrap();
    }
}

#[test]
fn a_tail_leads_to_its_folio_in_a_block_of_one_order() {
    let space = space(1 << 20);
    let device = device_of(&space, 1 << 20);
    for n in 1..=18 {
        let (first, second) = (device.alloc(order(n)).unwrap(), device.alloc(order(n)).unwrap());
        first.set_private(1);
        second.set_private(2);
        assert_resolves(&space, &first);
        assert_resolves(&space, &second);
    }
}

#[test]
fn a_tail_leads_to_its_folio_in_a_block_of_mixed_orders() {
    let space = space(512);
    let device = device_of(&space, 512);
    // One block, so that orders must mix: 256 + 128 + ... + 1, largest first and smallest first.
    for orders in [[8, 7, 6, 5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8]] {
        let folios: Vec<Folio<'_>> = orders.iter().map(|&n| device.alloc(order(n)).unwrap()).collect();
        folios.iter().for_each(|folio| folio.set_private(folio.offset().get() + 7));
        folios.iter().for_each(|folio| assert_resolves(&space, folio));
        let free = (0..512).filter(|&page| space.page(offset(page)).is_none()).count();
        assert_eq!(free, 1, "every other page is in a folio");
        assert_eq!(space.validate(), Ok(()));
        for folio in folios {
            let leaf = folio.into_leaf(Access::Read);
            assert_eq!(space.lookup(leaf).map(PageRef::offset), leaf.offset());
            drop(space.take(leaf).unwrap());
        }
    }
}

#[test]
fn a_page_that_nothing_lives_at_is_none() {
    let space = space(4096);
    let device = device_of(&space, 1000);
    let folio = device.alloc(Order::ZERO).unwrap();
    for page in [1, 63, 64, 511, 512, 999, 1000, 1023, 1024, 4095, 4096, 1 << 20, (1 << 40) - 1] {
        assert_eq!(space.page(offset(page)), None, "page {page}");
    }
    assert!(space.page(folio.offset()).is_some());
}

#[test]
fn a_leaf_of_another_space_is_refused_with_the_numbers() {
    let (small, large) = (space(512), space(1 << 20));
    let mut folios = Vec::new();
    device_of(&large, 1 << 20).alloc_many(Order::ZERO, 600, &mut folios).unwrap();
    let foreign = folios.pop().unwrap().into_leaf(Access::Write);
    let at = foreign.offset().unwrap();
    assert_eq!((small.lookup(foreign), small.page(at)), (None, None));
    assert_eq!(small.take(foreign), Err(TakeError::OutOfRange { offset: at.get(), max_pages: 512 }));
    // One whose offset exists here, and where nothing was ever allocated.
    let foreign = folios.swap_remove(0).into_leaf(Access::Write);
    assert_eq!(small.lookup(foreign), None);
    assert_eq!(small.take(foreign), Err(TakeError::Stale { offset: foreign.offset().unwrap().get() }));
}

#[test]
fn words_that_name_no_device_page_are_refused() {
    let space = space(512);
    let device = device_of(&space, 512);
    let _folio = device.alloc(Order::ZERO).unwrap();
    let pfn = Pfn::new(0).unwrap();
    let words = [
        SoftLeaf::NONE,
        SoftLeaf::present(pfn, Access::Write),
        SoftLeaf::exclusive(pfn),
        SoftLeaf::present(pfn, Access::Read).to_migration(MigrationAccess::Write).unwrap(),
    ];
    let unknown: Vec<SoftLeaf> =
        (0..64).map(|bit| SoftLeaf::from_bits(1 << bit)).filter(|word| word.kind() == LeafKind::Unknown).collect();
    assert!(unknown.contains(&SoftLeaf::from_bits(1)), "a bare number names nothing");
    for word in words.into_iter().chain(unknown) {
        assert_eq!((word.offset(), space.lookup(word)), (None, None), "{word:?}");
        assert_eq!(space.take(word), Err(TakeError::WrongKind { kind: word.kind() }));
        let mut page = [space.page(offset(0))];
        space.lookup_many(&[word], &mut page);
        assert_eq!(page, [None]);
    }
}

#[test]
fn a_leaf_gives_its_reference_once() {
    let space = space(2048);
    let device = device_of(&space, 2048);
    for n in [0, 4, 9, 10] {
        let folio = device.alloc(order(n)).unwrap();
        let (at, keep) = (folio.offset().get(), folio.clone());
        let leaf = folio.into_leaf(Access::Write);
        drop(space.take(leaf).unwrap());
        let refused = Err(TakeError::NotMapped { offset: at, refs: 1 });
        assert_eq!(space.take(leaf), refused, "a copy of a leaf that was taken");
        assert_eq!(space.take(leaf.with_access(Access::Read)), refused, "however it was rewritten");
        assert_eq!((keep.refs(), keep.maps()), (1, 0), "a refusal changes nothing");
    }
}

#[test]
fn references_are_conserved_when_a_leaf_is_taken_twice_and_others_map() {
    let space = space(512);
    let device = device_of(&space, 512);
    let folio = device.alloc(order(2)).unwrap();
    let leaves = [folio.clone().into_leaf(Access::Read), folio.clone().into_leaf(Access::Write)];
    let taken = [space.take(leaves[0]).unwrap(), space.take(leaves[0]).unwrap()];
    let refused = TakeError::NotMapped { offset: folio.offset().get(), refs: 3 };
    assert_eq!(space.take(leaves[1]), Err(refused), "its reference went to the copy, and was not made twice");
    drop(taken);
    assert_eq!((folio.refs(), folio.maps(), space.validate()), (1, 0, Ok(())));
}

#[test]
fn a_rewritten_leaf_is_the_same_leaf() {
    let space = space(2048);
    let device = device_of(&space, 2048);
    for n in [0, 3, 9] {
        let leaf = device.alloc(order(n)).unwrap().into_leaf(Access::Write);
        let rewritten = [
            leaf.with_access(Access::Read),
            leaf.with_young(true),
            leaf.with_dirty(true).with_access(Access::Read),
            leaf.to_migration(MigrationAccess::ReadExclusive).unwrap().with_young(true),
        ];
        for word in rewritten {
            assert_eq!(word.offset(), leaf.offset());
            assert_eq!(space.lookup(word), space.lookup(leaf), "{word:?}");
            assert!(space.lookup(word).is_some());
        }
        drop(space.take(rewritten[3]).unwrap());
        assert!(rewritten.iter().all(|word| space.lookup(*word).is_none()));
    }
}

#[test]
fn a_reference_got_from_a_lookup_is_of_the_folio_that_was_found() {
    let space = space(512);
    let device = device_of(&space, 1);
    let leaf = device.alloc(Order::ZERO).unwrap().into_leaf(Access::Read);
    let page = space.lookup(leaf).unwrap();
    let folio = page.try_get().unwrap();
    assert_eq!(folio.refs(), 2);
    drop(folio);
    drop(space.take(leaf).unwrap());
    assert!(page.try_get().is_none(), "the count is 0");
    let next = device.alloc(Order::ZERO).unwrap();
    assert_eq!(next.offset(), page.offset());
    assert!(page.try_get().is_none(), "the generation has moved on");
    assert_eq!((page.device().range().nr_pages(), next.refs()), (0, 1));
}

#[test]
fn lookup_many_fills_as_many_as_both_slices_have_and_clears_the_rest() {
    let space = space(4096);
    let device = device_of(&space, 4096);
    let mut leaves = Vec::new();
    for i in 0..300u64 {
        let folio = device.alloc(order([0, 0, 3, 0, 0, 9][i as usize % 6].min(if i < 18 { 9 } else { 3 }))).unwrap();
        folio.set_private(i);
        leaves.push(folio.into_leaf(Access::Write));
        if i % 7 == 0 {
            drop(space.take(leaves[i as usize]).unwrap());
        }
        if i % 11 == 0 {
            leaves[i as usize] = SoftLeaf::from_bits(i);
        }
    }
    let old = leaves.iter().find_map(|leaf| space.lookup(*leaf));
    for (nr_leaves, nr_pages) in
        [(0, 5), (5, 0), (1, 1), (31, 33), (33, 31), (32, 32), (64, 65), (100, 300), (300, 300)]
    {
        let mut pages = vec![old; nr_pages];
        space.lookup_many(&leaves[..nr_leaves], &mut pages);
        for (i, page) in pages.iter().enumerate() {
            let expected = if i < nr_leaves { space.lookup(leaves[i]) } else { None };
            assert_eq!(*page, expected, "{i} of {nr_leaves} leaves, {nr_pages} pages");
            assert!(page.is_none_or(|page| page.private() == i as u64));
        }
    }
}

#[test]
fn leaves_live_in_a_table_of_relaxed_atomics() {
    let space = space(1 << 14);
    let device = device_of(&space, 1 << 14);
    let table: Vec<AtomicU64> = (0..4096).map(|_| AtomicU64::new(SoftLeaf::NONE.bits())).collect();
    let mut folios = Vec::new();
    device.alloc_many(Order::ZERO, table.len(), &mut folios).unwrap();
    for (i, (folio, slot)) in folios.into_iter().zip(&table).enumerate() {
        folio.set_private(i as u64);
        slot.store(folio.into_leaf(Access::Write).bits(), Relaxed);
    }
    for (i, slot) in table.iter().enumerate() {
        assert_eq!(space.lookup(SoftLeaf::from_bits(slot.load(Relaxed))).map(PageRef::private), Some(i as u64));
    }
    for slot in &table {
        drop(space.take(SoftLeaf::from_bits(slot.swap(SoftLeaf::NONE.bits(), Relaxed))).unwrap());
    }
    assert_eq!((device.nr_live_pages(), space.validate()), (0, Ok(())));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// No word at all makes a lookup fail, and what it finds is the page that the word names.
    #[test]
    fn any_word_leads_to_the_page_that_it_names_or_nowhere(bits: u64, small in 0u64..2048) {
        let space = space(2048);
        let device = device_of(&space, 2048);
        let folios = [0, 3, 5, 9].map(|n| device.alloc(order(n)).unwrap());
        // Words over all bits, and words that name a page here with any kind and generation.
        for word in [SoftLeaf::from_bits(bits), SoftLeaf::from_bits(bits & !((1 << 40) - 1) | small)] {
            let found = space.lookup(word);
            prop_assert!(found.is_none() || word.offset().is_some());
            if let Some(page) = found {
                prop_assert_eq!(Some(page.offset()), word.offset());
                prop_assert!(folios.iter().any(|folio| folio.offset() == page.folio_offset()));
            }
            prop_assert!(space.take(word).is_err(), "no folio has a leaf");
        }
        prop_assert_eq!(space.validate(), Ok(()));
    }
}
