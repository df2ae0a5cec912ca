//! Random operations against an obviously right model: 10^6 of them with fixed seeds, in spaces so small that they are
//! always nearly full, and property tests that shrink what they find.
//!
//! The operations, the model and the comparison are in `support`, which the fuzz target `ops` shares. One thread only;
//! several threads are the business of `threads`.

#[path = "support/rng.rs"]
mod rng;
mod support;

use proptest::prelude::*;
use rng::Rng;
use support::ops::Op;
use support::oracle::{MAX_OPS, Stats, run};

/// Random bytes without end.
fn random_bytes(seed: u64) -> impl Iterator<Item = u8> {
    let mut rng = Rng::seeded(seed);
    std::iter::repeat_with(move || rng.number().to_le_bytes()).flatten()
}

/// Mostly as many pages in caches as there can be; now and then a few, or none.
fn cache_percent(seed: u64) -> u8 {
    [100, 100, 25, 100, 0, 100, 1][seed as usize % 7]
}

/// `runs` runs of as many operations as a run may have; what happened in all of them.
fn runs(max_pages: u64, runs: u64) -> Stats {
    let mut sum = Stats::default();
    for seed in 0..runs {
        let mut bytes = random_bytes(seed << 32 | max_pages);
        let stats = run(max_pages, cache_percent(seed), std::iter::from_fn(|| Op::decode(&mut bytes)).take(MAX_OPS));
        sum.ops += stats.ops;
        sum.allocated += stats.allocated;
        sum.exhausted += stats.exhausted;
        sum.fragmented += stats.fragmented;
        sum.refused_many += stats.refused_many;
        sum.found += stats.found;
        sum.stale += stats.stale;
        sum.double_takes += stats.double_takes;
        sum.busy += stats.busy;
        sum.unregistered += stats.unregistered;
        sum.no_space += stats.no_space;
        sum.cached += stats.cached;
        sum.ranges += stats.ranges;
        sum.splits += stats.splits;
        sum.refused_ranges += stats.refused_ranges;
        sum.folio_splits += stats.folio_splits;
        sum.refused_splits += stats.refused_splits;
        sum.freed_parts += stats.freed_parts;
        sum.deferred += stats.deferred;
        sum.pressures += stats.pressures;
        sum.frozen += stats.frozen;
        sum.mapped += stats.mapped;
        sum.unmapped += stats.unmapped;
        sum.upgraded += stats.upgraded;
        sum.gone_weak += stats.gone_weak;
        sum.evictions += stats.evictions;
        sum.moved += stats.moved;
    }
    println!("{max_pages} pages: {sum:?}");
    assert_eq!(sum.ops, runs * MAX_OPS as u64);
    sum
}

/// Every kind of answer came up often, so that the comparison meant something.
fn assert_eventful(stats: Stats) {
    let Stats { ops, allocated, exhausted, fragmented, refused_many, found, stale, double_takes, .. } = stats;
    let Stats { busy, unregistered, no_space, cached, ranges, refused_ranges, .. } = stats;
    let Stats { frozen, mapped, unmapped, upgraded, gone_weak, evictions, moved, .. } = stats;
    let Stats { folio_splits, refused_splits, freed_parts, deferred, pressures, .. } = stats;
    assert!(allocated > ops / 20, "{stats:?}");
    let others = [cached, ranges, refused_ranges, folio_splits, refused_splits, deferred, pressures];
    for rare in
        [exhausted, fragmented, refused_many, found, stale, double_takes, busy, no_space].into_iter().chain(others)
    {
        assert!(rare > ops / 1000, "{stats:?}");
    }
    for rare in [frozen, mapped, unmapped, upgraded, gone_weak, evictions, moved] {
        assert!(rare > ops / 10_000, "{stats:?}");
    }
    assert!(freed_parts > ops / 20_000, "{stats:?}");
    assert!(unregistered > ops / 10_000, "{stats:?}");
}

#[test]
fn one_block_agrees_with_the_model() {
    assert_eventful(runs(512, 76));
}

#[test]
fn four_blocks_agree_with_the_model() {
    assert_eventful(runs(2048, 76));
}

#[test]
fn sixteen_blocks_agree_with_the_model() {
    assert_eventful(runs(16 * 512, 60));
}

#[test]
fn an_odd_number_of_blocks_agrees_with_the_model() {
    assert_eventful(runs(37 * 512 - 100, 32));
}

#[test]
fn a_space_for_the_largest_order_agrees_with_the_model() {
    let stats = runs((1 << 20) + 512, 8);
    assert!(stats.allocated > stats.ops / 20 && stats.stale > stats.ops / 1000, "{stats:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Short programs of any bytes: what fails here is shrunk to the operations that it takes.
    #[test]
    fn any_program_agrees_with_the_model(
        blocks in 1u64..20,
        cache_percent in 0u8..=100,
        program in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        let mut bytes = [0, 200, 4, 0, 1].into_iter().chain(program);
        run(blocks * 512, cache_percent, std::iter::from_fn(|| Op::decode(&mut bytes)));
    }
}
