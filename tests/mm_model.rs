//! Random operations on several address spaces that share pages, against a model that is obviously right: a map from page to
//! bytes for each. After every operation that reads, bytes are compared; at the end all of them, and every count.

mod mm_support;

use std::collections::BTreeMap;

use farpage::{Access, AddressSpace, FaultError, Owner, Protection};
use mm_support::{Gpu, HUGE, Kind, PAGE, World, at, range, world};
use proptest::prelude::*;

const BASE: u64 = 0x10_0020_0000;
/// Pages of the window in which everything happens: four runs of 512.
const WINDOW: u64 = 2048;

#[derive(Clone, Debug)]
enum Op {
    Map { first: u64, nr: u64, huge: bool },
    Unmap { first: u64, nr: u64 },
    Protect { first: u64, nr: u64, protection: u8 },
    Remap { first: u64, nr: u64, to: u64, keep: bool },
    Write { page: u64, at: u64, byte: u8, len: u64 },
    Read { page: u64 },
    In { first: u64, nr: u64, gpu: usize, fail_large: bool },
    Out { first: u64, nr: u64, gpu: usize },
    Evict { gpu: usize },
    Fork,
    Exit,
    DontNeed { first: u64, nr: u64 },
    Exclusive { page: u64 },
    Pin { page: u64 },
}

#[derive(Clone, Copy, PartialEq)]
struct Page {
    protection: Protection,
    /// Its byte everywhere, but for a stretch: enough to tell pages and their parts.
    bytes: [u8; 8],
}

/// 8 places of a page that are compared, spread over it.
fn place(i: usize) -> u64 {
    i as u64 * (PAGE / 8) + i as u64
}

type Model = BTreeMap<u64, Page>;

struct Side<'s> {
    space: AddressSpace<'s>,
    model: Model,
}

fn ops() -> impl Strategy<Value = Vec<(Op, usize)>> {
    let span = || {
        prop_oneof![
            // Runs, parts of runs, and single pages.
            (0u64..4, 1u64..=2).prop_map(|(run, nr)| (run * 512, nr * 512)),
            (0u64..8, 1u64..=3).prop_map(|(half, nr)| (half * 256, nr * 256)),
            (0u64..WINDOW, 1u64..20),
        ]
    };
    let op = prop_oneof![
        3 => (span(), any::<bool>()).prop_map(|((first, nr), huge)| Op::Map { first, nr, huge }),
        2 => span().prop_map(|(first, nr)| Op::Unmap { first, nr }),
        2 => (span(), 0u8..3).prop_map(|((first, nr), protection)| Op::Protect { first, nr, protection }),
        2 => (span(), 0..WINDOW, any::<bool>(), any::<bool>()).prop_map(|((first, nr), to, keep, aligned)| {
            Op::Remap { first, nr, to: if aligned { to & !511 } else { to }, keep }
        }),
        6 => (0..WINDOW, 0u64..PAGE, any::<u8>(), 1u64..3 * PAGE)
            .prop_map(|(page, at, byte, len)| Op::Write { page, at, byte, len }),
        4 => (0..WINDOW).prop_map(|page| Op::Read { page }),
        5 => (span(), 0usize..2, any::<bool>())
            .prop_map(|((first, nr), gpu, fail_large)| Op::In { first, nr, gpu, fail_large }),
        3 => (span(), 0usize..2).prop_map(|((first, nr), gpu)| Op::Out { first, nr, gpu }),
        1 => (0usize..2).prop_map(|gpu| Op::Evict { gpu }),
        2 => Just(Op::Fork),
        1 => Just(Op::Exit),
        1 => span().prop_map(|(first, nr)| Op::DontNeed { first, nr }),
        2 => (0..WINDOW).prop_map(|page| Op::Exclusive { page }),
        1 => (0..WINDOW).prop_map(|page| Op::Pin { page }),
    ];
    proptest::collection::vec((op, 0usize..4), 1..60)
}

fn bytes_at(page: u64) -> u64 {
    BASE + page * PAGE
}

/// The part of a span that lies in the window.
fn clip(first: u64, nr: u64) -> (u64, u64) {
    (first, nr.min(WINDOW - first))
}

impl<'s> Side<'s> {
    fn is_mapped(&self, first: u64, nr: u64) -> bool {
        (first..first + nr).all(|page| self.model.contains_key(&page))
    }

    fn is_free(&self, first: u64, nr: u64) -> bool {
        self.model.range(first..first + nr).next().is_none()
    }

    fn compare(&self, page: u64) {
        let mut out = vec![0; PAGE as usize];
        let got = self.space.read(at(bytes_at(page)), &mut out);
        match self.model.get(&page) {
            None => assert_eq!(got.unwrap_err().fault, FaultError::NotMapped { address: at(bytes_at(page)) }),
            Some(page_is) if page_is.protection == Protection::None => {
                assert_eq!(got.unwrap_err().fault, FaultError::Protected { address: at(bytes_at(page)) });
            }
            Some(page_is) => {
                got.unwrap();
                let seen: [u8; 8] = std::array::from_fn(|i| out[place(i) as usize]);
                assert_eq!(seen, page_is.bytes, "page {page}");
            }
        }
    }

    fn write(&mut self, page: u64, within: u64, byte: u8, len: u64) {
        let data = vec![byte; len as usize];
        let start = page * PAGE + within;
        let got = self.space.write(at(BASE + start), &data);
        let mut done = 0;
        while done < len {
            let here = (start + done) / PAGE;
            let allowed = self.model.get(&here).is_some_and(|page| page.protection == Protection::ReadWrite);
            if !allowed {
                assert_eq!(got.unwrap_err().done, done);
                return;
            }
            let end = ((here + 1) * PAGE - start).min(len);
            let bytes = &mut self.model.get_mut(&here).unwrap().bytes;
            for (i, byte_is) in bytes.iter_mut().enumerate() {
                if (start + done..start + end).contains(&(here * PAGE + place(i))) {
                    *byte_is = byte;
                }
            }
            done = end;
        }
        got.unwrap();
    }
}

fn apply<'s>(op: &Op, which: usize, sides: &mut Vec<Side<'s>>, gpus: &[Gpu<'s>]) {
    let nr_sides = sides.len();
    let which = which % nr_sides;
    let side = &mut sides[which];
    match *op {
        Op::Map { first, nr, huge } => {
            let (first, nr) = clip(first, nr);
            let mapped = side.space.map(mm_support::anon(bytes_at(first), nr * PAGE).huge(huge));
            assert_eq!(mapped.is_ok(), side.is_free(first, nr));
            if mapped.is_ok() {
                let fresh = Page { protection: Protection::ReadWrite, bytes: [0; 8] };
                side.model.extend((first..first + nr).map(|page| (page, fresh)));
            }
        }
        Op::Unmap { first, nr } => {
            let (first, nr) = clip(first, nr);
            side.space.unmap(range(bytes_at(first), nr * PAGE)).unwrap();
            side.model.retain(|page, _| !(first..first + nr).contains(page));
        }
        Op::Protect { first, nr, protection } => {
            let (first, nr) = clip(first, nr);
            let to = [Protection::None, Protection::Read, Protection::ReadWrite][usize::from(protection)];
            let done = side.space.protect(range(bytes_at(first), nr * PAGE), to);
            assert_eq!(done.is_ok(), side.is_mapped(first, nr));
            if done.is_ok() {
                side.model.range_mut(first..first + nr).for_each(|(_, page)| page.protection = to);
            }
        }
        Op::Remap { first, nr, to, keep } => {
            let (first, nr) = clip(first, nr);
            let (to, fits) = (to, to + nr <= WINDOW);
            if !fits {
                return;
            }
            let done = side.space.remap(range(bytes_at(first), nr * PAGE), at(bytes_at(to)), keep);
            let apart = to + nr <= first || first + nr <= to;
            assert_eq!(done.is_ok(), side.is_mapped(first, nr) && side.is_free(to, nr) && apart);
            if done.is_ok() {
                for page in 0..nr {
                    let moved = side.model.remove(&(first + page)).unwrap();
                    side.model.insert(to + page, moved);
                    if keep {
                        side.model.insert(first + page, Page { bytes: [0; 8], ..moved });
                    }
                }
            }
        }
        Op::Write { page, at, byte, len } => {
            let len = len.min((WINDOW - page) * PAGE - at);
            side.write(page, at, byte, len);
        }
        Op::Read { page } => side.compare(page),
        Op::In { first, nr, gpu, fail_large } => {
            let (first, nr) = clip(first, nr);
            if fail_large {
                gpus[gpu].fail_next_large();
            }
            // Refused for ranges that are not of one mapping; whatever it is, no byte changes.
            let _ = gpus[gpu].migrate_in(&side.space, range(bytes_at(first), nr * PAGE));
        }
        Op::Out { first, nr, gpu } => {
            let (first, nr) = clip(first, nr);
            let _ = gpus[gpu].migrate_out(&side.space, range(bytes_at(first), nr * PAGE));
        }
        Op::Evict { gpu } => {
            gpus[gpu].evict();
            assert_eq!(gpus[gpu].live(), 0, "nobody holds anything");
        }
        Op::Fork => {
            if nr_sides < 4 {
                let child = Side { space: side.space.fork().unwrap(), model: side.model.clone() };
                sides.push(child);
            }
        }
        Op::Exit => {
            if nr_sides > 1 {
                sides.remove(which);
            }
        }
        Op::DontNeed { first, nr } => {
            let (first, nr) = clip(first, nr);
            let done = side.space.advise_dont_need(range(bytes_at(first), nr * PAGE));
            assert_eq!(done.is_ok(), side.is_mapped(first, nr));
            if done.is_ok() {
                side.model.range_mut(first..first + nr).for_each(|(_, page)| page.bytes = [0; 8]);
            }
        }
        Op::Exclusive { page } => {
            let done = side.space.make_exclusive(at(bytes_at(page)), Owner::new(1));
            let allowed = side.model.get(&page).is_some_and(|page| page.protection == Protection::ReadWrite);
            assert_eq!(done.is_ok(), allowed);
        }
        Op::Pin { page } => {
            let Ok(pin) = side.space.pin(at(bytes_at(page)), Access::Read) else {
                let readable = side.model.get(&page).is_some_and(|page| page.protection != Protection::None);
                assert!(!readable, "a readable page can be pinned");
                return;
            };
            // While it is held, the page stays where it is.
            let leaf = side.space.snapshot(at(bytes_at(page)));
            for gpu in gpus {
                let _ = gpu.migrate_in(&side.space, range(bytes_at(page), PAGE));
            }
            if !leaf.is_zero {
                assert_eq!(side.space.snapshot(at(bytes_at(page))).target, leaf.target);
            }
            drop(pin);
        }
    }
}

fn run(world: &World<'_>, ops: &[(Op, usize)]) {
    let gpus = [Gpu::new(world, Kind::Private, 1), Gpu::new(world, Kind::Visible, 2)];
    let mut sides = vec![Side { space: world.space(), model: Model::new() }];
    for (op, which) in ops {
        apply(op, *which, &mut sides, &gpus);
        world.machine.validate().unwrap();
    }
    for side in &sides {
        (0..WINDOW).for_each(|page| side.compare(page));
    }
    world.check();
    drop(sides);
    gpus.iter().for_each(|gpu| assert_eq!(gpu.live(), 0, "unmapped, so free"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 3000, ..ProptestConfig::default() })]

    #[test]
    fn bytes_and_counts_are_as_the_model_says(ops in ops()) {
        world(|w| run(w, &ops));
    }
}

const _: () = assert!(WINDOW * PAGE == 4 * HUGE);
