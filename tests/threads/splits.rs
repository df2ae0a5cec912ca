//! Bursts on splits of folios that others get, put and look up meanwhile.

use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

use farpage::{Access, Folio, Offset, PageRef, RangeRequest, SoftLeaf, SplitError};

use crate::owners::*;
use crate::rng::Rng;

/// Splits `folio` this way or that; back it comes, or its parts in order: all of them, or those that are needed.
fn split<'s>(folio: Folio<'s>, rng: &mut Rng, are_all_needed: bool, counts: &[AtomicU64; 2]) -> Vec<Folio<'s>> {
    let (start, end, whole, ticket) =
        (folio.offset().get(), folio.offset().get() + folio.nr_pages(), folio.order(), folio.private());
    let part = order(below(rng, usize::from(whole.get()).max(1)) as u8);
    let parts = match below(rng, 3) {
        0 => folio.split_around(below(rng, (end - start) as usize) as u64, part),
        _ => folio.split(part),
    };
    match parts {
        Ok(parts) => {
            counts[0].fetch_add(1, Relaxed);
            let parts: Vec<Folio<'_>> = parts.collect();
            let mut at = start;
            for part in &parts {
                assert_eq!(part.private(), ticket);
                assert!(part.order() < whole && part.offset().get() >= at);
                assert!(!are_all_needed || part.offset().get() == at, "no page of it is lost");
                at = part.offset().get() + part.nr_pages();
            }
            assert!(at == end || !are_all_needed && at < end);
            parts
        }
        Err(SplitError::Busy { extra_refs, folio, .. }) => {
            counts[1].fetch_add(1, Relaxed);
            assert!(extra_refs > 0 && folio.refs() > 0);
            vec![folio]
        }
        Err(SplitError::OrderNotSmaller { folio, .. }) => {
            assert_eq!(folio.nr_pages(), 1);
            vec![folio]
        }
        Err(error) => panic!("{error}"),
    }
}

/// Threads allocate, split, give up and free folios of all orders, share them through a table of leaf words, and get
/// whatever lies at random offsets. Who has a reference has pages of one owner, whatever was split meanwhile.
pub(crate) fn burst_of_splits(nr_threads: usize, seed: u64) {
    let (space, owners, config) = space_of(12 * 512 + 33);
    let device = space.register(config).expect("it fits");
    let table: Vec<AtomicU64> = (0..32).map(|_| AtomicU64::new(SoftLeaf::NONE.bits())).collect();
    let counts = [AtomicU64::new(0), AtomicU64::new(0)];
    let take = |bits: u64| {
        let leaf = SoftLeaf::from_bits(bits);
        (leaf != SoftLeaf::NONE).then(|| {
            let folio = space.take(leaf).expect("a leaf's reference is there once");
            owners.check(&folio);
            folio
        })
    };
    on_threads(nr_threads, seed, |_, mut rng| {
        let mut held: Vec<Folio<'_>> = Vec::new();
        for _ in 0..3000 {
            let slot = &table[below(&mut rng, table.len())];
            match below(&mut rng, 10) {
                0..=1 => {
                    if let Ok(folio) = device.alloc(random_order(&mut rng)) {
                        owners.enter(&folio);
                        held.push(folio);
                    }
                }
                2..=3 if !held.is_empty() => {
                    let folio = held.swap_remove(below(&mut rng, held.len()));
                    let parts = split(folio, &mut rng, false, &counts);
                    let keep = below(&mut rng, 4);
                    held.extend(parts.into_iter().enumerate().filter(|(i, _)| i % 4 == keep).map(|(_, part)| part));
                }
                4 if !held.is_empty() => {
                    let folio = &held[below(&mut rng, held.len())];
                    let leaf = folio.clone().into_leaf(Access::Write);
                    held.extend(take(slot.swap(leaf.bits(), AcqRel)));
                }
                5 => held.extend(take(slot.swap(SoftLeaf::NONE.bits(), AcqRel))),
                6 => {
                    // The word may be any life's by now: what it leads to is the folio that it names, or nothing.
                    let leaf = SoftLeaf::from_bits(slot.load(Acquire));
                    if let Some(folio) = space.lookup(leaf).and_then(PageRef::try_get) {
                        assert_eq!(Some(folio.offset()), leaf.offset());
                        owners.check(&folio);
                    }
                }
                7 => {
                    let at = device.range().start().get() + below(&mut rng, device.range().nr_pages() as usize) as u64;
                    let found = space.page(Offset::new(at).expect("a small space")).and_then(PageRef::try_get);
                    if let Some(folio) = found.filter(|folio| folio.private() != 0) {
                        let pages = folio.offset().get()..folio.offset().get() + folio.nr_pages();
                        assert!(pages.contains(&at), "{folio:?} was found at {at:#x}");
                    }
                }
                8 if below(&mut rng, 2) == 0 => {
                    if let Ok(range) = device.alloc_range(RangeRequest::new(2 + below(&mut rng, 900) as u64)) {
                        owners.enter_range(&range);
                        let index = 1 + below(&mut rng, range.nr_pages() as usize - 1) as u64;
                        let parts = range.split_at(index);
                        if let Ok((left, right)) = parts {
                            owners.check_range(&left);
                            owners.check_range(&right);
                            held.extend(right.into_folios().take(2));
                        }
                    }
                }
                9 if !held.is_empty() && below(&mut rng, 4) == 0 => {
                    // Needed by nobody: some part of a folio that others may have as well.
                    let folio = &held[below(&mut rng, held.len())];
                    let from = below(&mut rng, folio.nr_pages() as usize) as u64;
                    let to = from + below(&mut rng, (folio.nr_pages() - from) as usize + 1) as u64;
                    let new = folio.give_up(from..to).expect("its own pages");
                    assert!(new <= to - from && folio.given_up() >= to - from);
                    owners.check(folio);
                }
                _ if held.len() > 12 => {
                    let folio = held.swap_remove(below(&mut rng, held.len()));
                    owners.check(&folio);
                }
                _ => {}
            }
            if held.len() > 60 {
                held.truncate(30);
            }
        }
    });
    table.iter().for_each(|slot| drop(take(slot.swap(0, AcqRel))));
    let [splits, refusals] = counts.map(AtomicU64::into_inner);
    assert!(splits > 100 && refusals > 0, "{splits} splits and {refusals} refusals");
    assert_eq!(device.nr_given_up_pages(), 0);
    assert_all_came_back(&space, device, &owners);
}

/// All threads get and put the same folio without pause, by leaf and by offset; one of them splits it, again and again,
/// until it has it alone.
pub(crate) fn burst_of_contended_splits(nr_threads: usize, seed: u64) {
    let (space, owners, config) = space_of(4 * 512);
    let device = space.register(config).expect("it fits");
    let (current, counts) = (AtomicU64::new(0), [AtomicU64::new(0), AtomicU64::new(0)]);
    let (is_over, gets) = (AtomicU64::new(0), AtomicU64::new(0));
    on_threads(nr_threads, seed, |number, mut rng| {
        if number > 0 {
            // The data of a page is its owner's ticket: who has a reference reads the same one twice, in all of its
            // pages.
            while is_over.load(Relaxed) == 0 {
                let leaf = SoftLeaf::from_bits(current.load(Acquire));
                if let Some(folio) = space.lookup(leaf).and_then(PageRef::try_get) {
                    owners.check(&folio);
                    gets.fetch_add(1, Relaxed);
                    drop(folio.clone());
                }
                // Whatever lies there by now: the whole, a part, or the next folio, which may not be entered yet.
                let by_offset = leaf.offset().filter(|_| below(&mut rng, 3) == 0).and_then(|offset| space.page(offset));
                if let Some(folio) = by_offset.and_then(PageRef::try_get) {
                    let at = leaf.offset().map_or(0, Offset::get) - folio.offset().get();
                    assert!(at < folio.nr_pages(), "{folio:?} was found for {leaf:?}");
                }
                std::hint::spin_loop();
            }
            return;
        }
        // On few cores the folio is seldom had alone: as often as time allows.
        let start = Instant::now();
        let is_late = || start.elapsed() > Duration::from_secs(3);
        for round in (0..400u64).take_while(|_| !is_late()) {
            let folio = device.alloc(order([1, 9, 4, 10][round as usize % 4])).expect("there is room");
            owners.enter(&folio);
            let leaf = folio.into_leaf(Access::Write);
            current.store(leaf.bits(), Release);
            let mut folio = Some(space.take(leaf).expect("the leaf's own"));
            while let Some(whole) = folio.take() {
                let mut parts = split(whole, &mut rng, true, &counts);
                if parts.len() == 1 {
                    folio = parts.pop();
                    // With more threads than cores somebody who has a reference may always be waiting for one.
                    is_over.store(u64::from(is_late()), Relaxed);
                    std::thread::yield_now();
                    continue;
                }
                // They look the old word up still, and by its offset they find a part.
                assert_eq!(space.lookup(leaf), None);
                parts.iter().for_each(|part| owners.check(part));
            }
            current.store(SoftLeaf::NONE.bits(), Release);
        }
        is_over.store(1, Relaxed);
    });
    let [splits, refusals] = counts.map(AtomicU64::into_inner);
    assert!(splits > 0, "{splits} splits, {refusals} refusals and {gets:?} gets");
    assert_all_came_back(&space, device, &owners);
}
