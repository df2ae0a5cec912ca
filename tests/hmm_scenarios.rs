//! The scenarios of `tools/testing/selftests/mm/hmm-tests.c`, by their names: all 38, on a device whose pages are private and, where
//! the selftest has that variant, on one whose pages the host can map. Each asserts data, counts and callbacks, and ends with
//! every count of the machine taken again: while all is still mapped (each space does that before it ends), and when nothing is (`world`).

mod mm_support;

/// A scenario on one device, of either kind.
macro_rules! scenario {
    ($(#[$doc:meta])* $name:ident, |$world:ident, $gpu:ident| $body:block) => {
        mod $name {
            use super::*;

            $(#[$doc])*
            fn run<'s>($world: &World<'s>, $gpu: &Gpu<'s>) $body

            #[test]
            fn private() {
                world(|w| run(w, &Gpu::new(w, Kind::Private, 1)));
            }

            #[test]
            fn visible() {
                world(|w| run(w, &Gpu::new(w, Kind::Visible, 1)));
            }
        }
    };
}

#[path = "hmm_scenarios/basic.rs"]
mod basic;
#[path = "hmm_scenarios/exclusive.rs"]
mod exclusive;
#[path = "hmm_scenarios/huge.rs"]
mod huge;
#[path = "hmm_scenarios/migrate.rs"]
mod migrate;
#[path = "hmm_scenarios/snapshot.rs"]
mod snapshot;
