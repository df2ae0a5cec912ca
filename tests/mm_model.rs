//! Random operations on several address spaces that share pages, against a model that is obviously right: a map from page to
//! bytes for each. Here proptest makes the operations, and shrinks what it finds.
//!
//! The operations, the model and the comparison are in `mm_support`, which the fuzz target `mm` shares.

mod mm_support;

use mm_support::ops::{Op, WINDOW};
use mm_support::oracle::run;
use mm_support::{PAGE, world};
use proptest::prelude::*;

fn ops() -> impl Strategy<Value = Vec<(Op, usize)>> {
    let span = || {
        prop_oneof![
            // Runs, parts of runs, and single pages.
            (0u64..4, 1u64..=2).prop_map(|(run, nr)| (run * 512, nr * 512)),
            (0u64..8, 1u64..=3).prop_map(|(half, nr)| (half * 256, nr * 256)),
            (0u64..WINDOW, 1u64..20),
        ]
    };
    let on_device = move || (span(), 0usize..2, any::<bool>());
    let maybe_byte = || proptest::option::of(any::<u8>());
    let op = prop_oneof![
        3 => (span(), any::<bool>(), proptest::option::weighted(0.2, 0u64..20))
            .prop_map(|((first, nr), huge, file)| Op::Map { first, nr, huge, file }),
        2 => span().prop_map(|(first, nr)| Op::Unmap { first, nr }),
        2 => (span(), 0u8..3).prop_map(|((first, nr), protection)| Op::Protect { first, nr, protection }),
        2 => (span(), 0..WINDOW, any::<bool>(), any::<bool>()).prop_map(|((first, nr), to, keep, aligned)| {
            Op::Remap { first, nr, to: if aligned { to & !511 } else { to }, keep }
        }),
        6 => (0..WINDOW, 0u64..PAGE, any::<u8>(), 1u64..3 * PAGE)
            .prop_map(|(page, at, byte, len)| Op::Write { page, at, byte, len }),
        4 => (0..WINDOW).prop_map(|page| Op::Read { page }),
        5 => on_device().prop_map(|((first, nr), gpu, fail_large)| Op::In { first, nr, gpu, fail_large }),
        3 => on_device().prop_map(|((first, nr), gpu, fail_large)| Op::Out { first, nr, gpu, fail_large }),
        1 => (0usize..2).prop_map(|gpu| Op::Evict { gpu }),
        2 => (span(), 0usize..2).prop_map(|((first, nr), gpu)| Op::DeviceRead { first, nr, gpu }),
        2 => (span(), 0usize..2, any::<u8>())
            .prop_map(|((first, nr), gpu, byte)| Op::DeviceWrite { first, nr, gpu, byte }),
        2 => Just(Op::Fork),
        1 => Just(Op::Exit),
        1 => span().prop_map(|(first, nr)| Op::DontNeed { first, nr }),
        1 => span().prop_map(|(first, nr)| Op::Free { first, nr }),
        1 => span().prop_map(|(first, nr)| Op::Reclaim { first, nr }),
        2 => (0..WINDOW, maybe_byte()).prop_map(|(page, byte)| Op::Exclusive { page, byte }),
        1 => (0..WINDOW, maybe_byte()).prop_map(|(page, byte)| Op::Pin { page, byte }),
    ];
    proptest::collection::vec((op, 0usize..4), 1..60)
}

/// Proptest found this once: a device takes back the page that it has for itself when all its pages are moved home.
#[test]
fn an_exclusive_page_of_a_visible_device_is_evicted() {
    let ops = [
        Op::Map { first: 1536, nr: 512, huge: false, file: None },
        Op::In { first: 1536, nr: 256, gpu: 1, fail_large: false },
        Op::Exclusive { page: 1536, byte: None },
        Op::Evict { gpu: 1 },
    ];
    world(|w| run(w, ops.map(|op| (op, 0))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 3000, ..ProptestConfig::default() })]

    #[test]
    fn bytes_and_counts_are_as_the_model_says(ops in ops()) {
        world(|w| run(w, ops.iter().copied()));
    }
}
