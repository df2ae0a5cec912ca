//! Memory that runs out at each populate that an operation makes, in turn: from there on, or only there. The operation says
//! so, or has done without; if it says so, nothing has changed, and it works when there is memory again.

use super::*;
use crate::error::{RegisterError, SplitError, SplitRangeError};
use crate::space::SpaceReport;
use crate::sparse::GIVES_BACK;
use crate::sparse::shortage::{self, Shortage};
use crate::words::{Access, SoftLeaf};

const NR_PAGES: u64 = 1 << 14;

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

/// What an operation may not change when it fails: all but what is populated, as a part of that may have been.
fn unpopulated(space: &Space) -> SpaceReport {
    let mut report = space.report();
    report.section_bytes = 0;
    report.metadata_populated_bytes = 0;
    report.metadata_resident_bytes = None;
    report.metadata_populates = 0;
    report
}

/// A device whose metadata was never populated, or all of it and was given back, and leaves of then that are stale.
struct World<'s> {
    space: &'s Space,
    device: Device<'s>,
    stale: Vec<SoftLeaf>,
}

impl<'s> World<'s> {
    fn check(&self) {
        self.space.validate().unwrap();
        assert!(self.stale.iter().all(|leaf| self.space.lookup(*leaf).is_none()), "stale is stale");
    }
}

/// Runs what it is given while memory is short.
type Short<'a> = dyn FnMut(&mut dyn FnMut()) + 'a;

/// What came of an operation: what it made, which goes when it is dropped, or an error that is a shortage of memory.
type Outcome<'s> = Result<Box<dyn FnOnce() + 's>, String>;

/// An operation. What it needs before is not short of memory.
struct Operation {
    name: &'static str,
    /// How many populates fail it at least, in a space where nothing was populated.
    least: u32,
    run: for<'s> fn(&World<'s>, &mut Short<'_>) -> Outcome<'s>,
}

const OPERATIONS: &[Operation] = &[
    Operation { name: "a page", least: 4, run: |world, short| alloc(world, order(0), short) },
    Operation { name: "order 5", least: 4, run: |world, short| alloc(world, order(5), short) },
    Operation { name: "order 8", least: 4, run: |world, short| alloc(world, order(8), short) },
    Operation { name: "order 9", least: 4, run: |world, short| alloc(world, order(9), short) },
    Operation { name: "order 12", least: 4, run: |world, short| alloc(world, order(12), short) },
    Operation { name: "many pages", least: 6, run: |world, short| alloc_many(world, order(0), 10_000, short) },
    Operation { name: "many blocks", least: 4, run: |world, short| alloc_many(world, order(9), 30, short) },
    Operation { name: "a range", least: 6, run: |world, short| alloc_range(world, RangeRequest::new(5_555), short) },
    Operation {
        name: "a range at the top",
        least: 4,
        run: |world, short| alloc_range(world, RangeRequest::new(700).top_down(), short),
    },
    Operation { name: "a page from a cache", least: 4, run: alloc_from_a_cache },
    Operation { name: "a block into pages", least: 2, run: |world, short| split(world, order(9), order(0), short) },
    Operation { name: "8 blocks into blocks", least: 0, run: |world, short| split(world, order(12), order(9), short) },
    Operation { name: "32 blocks into small", least: 4, run: |world, short| split(world, order(14), order(3), short) },
    Operation {
        name: "a folio of 8 pages into pages",
        least: 0,
        run: |world, short| split(world, order(3), order(0), short),
    },
    Operation { name: "around a page", least: 2, run: split_around },
    Operation { name: "a range in two", least: 2, run: split_a_range },
    Operation { name: "a device of 700 pages", least: 2, run: |world, short| register(world, 700, short) },
    Operation { name: "a device of 3 blocks", least: 0, run: |world, short| register(world, 1536, short) },
];

fn made<'s, T: 's, E: fmt::Display>(result: Result<T, E>, is_shortage: impl FnOnce(&E) -> bool) -> Outcome<'s> {
    match result {
        Ok(made) => Ok(Box::new(move || drop(made))),
        Err(error) if is_shortage(&error) => Err(error.to_string()),
        Err(error) => panic!("{error}"),
    }
}

fn attempt<T>(short: &mut Short<'_>, mut work: impl FnMut() -> T) -> T {
    let mut result = None;
    short(&mut || result = Some(work()));
    result.expect("it was run")
}

fn is_no_memory(error: &AllocError) -> bool {
    matches!(error, AllocError::NoMemory)
}

fn alloc<'s>(world: &World<'s>, order: Order, short: &mut Short<'_>) -> Outcome<'s> {
    made(attempt(short, || world.device.alloc(order)), is_no_memory)
}

fn alloc_many<'s>(world: &World<'s>, order: Order, n: usize, short: &mut Short<'_>) -> Outcome<'s> {
    let mut folios = vec![];
    let result = attempt(short, || world.device.alloc_many(order, n, &mut folios));
    assert_eq!(folios.len(), if result.is_ok() { n } else { 0 });
    made(result.map(|()| folios), is_no_memory)
}

fn alloc_range<'s>(world: &World<'s>, request: RangeRequest, short: &mut Short<'_>) -> Outcome<'s> {
    made(attempt(short, || world.device.alloc_range(request)), is_no_memory)
}

fn alloc_from_a_cache<'s>(world: &World<'s>, short: &mut Short<'_>) -> Outcome<'s> {
    made(attempt(short, || world.device.cache().alloc(order(2))), is_no_memory)
}

fn split<'s>(world: &World<'s>, whole: Order, part: Order, short: &mut Short<'_>) -> Outcome<'s> {
    let mut folio = Some(world.device.alloc(whole).unwrap());
    if let Some(folio) = &folio {
        folio.set_private(7);
        folio.give_up(0..1).unwrap();
    }
    let (before, mut take) = (unpopulated(world.space), || folio.take().expect("run once"));
    match attempt(short, || take().split(part)) {
        Ok(parts) => {
            let parts: Vec<_> = parts.collect();
            assert!(parts.iter().all(|folio| (folio.order(), folio.refs(), folio.private()) == (part, 1, 7)));
            let nr_freed = usize::from(part == Order::ZERO);
            assert_eq!(parts.len(), (1 << (whole.get() - part.get())) - nr_freed);
            made::<_, AllocError>(Ok(parts), is_no_memory)
        }
        Err(error) => {
            assert_eq!(unpopulated(world.space), before);
            let text = error.to_string();
            assert!(matches!(error, SplitError::NoMemory { .. }), "{text}");
            let folio = error.into_folio();
            assert_eq!((folio.order(), folio.refs(), folio.private(), folio.given_up()), (whole, 1, 7, 1));
            Err(text)
        }
    }
}

fn split_around<'s>(world: &World<'s>, short: &mut Short<'_>) -> Outcome<'s> {
    let mut folio = Some(world.device.alloc(order(11)).unwrap());
    let mut take = || folio.take().expect("run once");
    match attempt(short, || take().split_around(700, order(1))) {
        Ok(parts) => made::<_, AllocError>(Ok(parts.collect::<Vec<_>>()), is_no_memory),
        Err(error @ SplitError::NoMemory { .. }) => {
            assert_eq!(error.into_folio().order(), order(11));
            Err("no memory".into())
        }
        Err(error) => panic!("{error}"),
    }
}

fn split_a_range<'s>(world: &World<'s>, short: &mut Short<'_>) -> Outcome<'s> {
    let mut range = Some(world.device.alloc_range(RangeRequest::new(2048).align(1024)).unwrap());
    let mut take = || range.take().expect("run once");
    match attempt(short, || take().split_at(1333)) {
        Ok(parts) => made::<_, AllocError>(Ok(parts), is_no_memory),
        Err(SplitRangeError::NoMemory { range }) => {
            assert_eq!(range.nr_pages(), 2048);
            Err("no memory".into())
        }
        Err(error) => panic!("{error}"),
    }
}

fn register<'s>(world: &World<'s>, nr_pages: u64, short: &mut Short<'_>) -> Outcome<'s> {
    let registered = attempt(short, || world.space.register(DeviceConfig::new(nr_pages)));
    if let Ok(device) = &registered {
        assert_eq!(device.range().start().get(), NR_PAGES, "the offsets of one that failed are free");
        let mut folios = Vec::new();
        device.alloc_many(Order::ZERO, nr_pages as usize, &mut folios).unwrap();
    }
    let registered = registered.map(|device| Registered(Some(device)));
    made(registered, |error| matches!(error, RegisterError::NoMemory { .. }))
}

/// Goes when it is dropped.
struct Registered<'s>(Option<Device<'s>>);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(|device| device.unregister().expect("nothing lives there"));
    }
}

/// Lets memory run out for one operation; how many populates failed, and whether the operation did.
fn run(operation: &Operation, shortage: Shortage, is_trimmed: bool) -> (u32, bool) {
    let space = Space::builder().max_pages(1 << 20).build().unwrap();
    let device = space.register(DeviceConfig::new(NR_PAGES)).unwrap();
    let mut world = World { space: &space, device, stale: Vec::new() };
    if is_trimmed {
        for order in [0, 3, 9, 11].map(order) {
            let mut folios = Vec::new();
            world.device.alloc_many(order, NR_PAGES as usize >> order.get(), &mut folios).unwrap();
            let leaves = folios.into_iter().map(|folio| folio.into_leaf(Access::Write));
            let from = world.stale.len();
            world.stale.extend(leaves);
            world.stale[from..].iter().for_each(|leaf| drop(space.take(*leaf).unwrap()));
        }
        assert!(space.trim() > 0);
    }
    let before = unpopulated(&space);
    let (mut failed, mut no_shortage) = (0, |work: &mut dyn FnMut()| work());
    let outcome = (operation.run)(&world, &mut |work| failed = shortage::during(shortage, work).1);
    world.check();
    let is_refused = outcome.is_err();
    match outcome {
        Ok(undo) => undo(),
        Err(_) => assert_eq!(unpopulated(&space), before, "{}, {shortage:?}", operation.name),
    }
    world.check();
    let again = (operation.run)(&world, &mut no_shortage);
    world.check();
    again.unwrap_or_else(|error| panic!("{}, {shortage:?}, and no more: {error}", operation.name))();
    world.check();
    assert_eq!(
        (world.device.nr_live_pages(), space.report().largest_free_pages()),
        (0, NR_PAGES),
        "all is one run again"
    );
    (failed, is_refused)
}

#[test]
fn whatever_populate_fails_nothing_has_changed_and_the_next_try_works() {
    for operation in OPERATIONS {
        for is_trimmed in [false, true].into_iter().filter(|&is_trimmed| GIVES_BACK || !is_trimmed) {
            for kind in [Shortage::After as fn(u32) -> Shortage, Shortage::Once] {
                let (mut left, mut refused) = (0, 0);
                loop {
                    let (failed, is_refused) = run(operation, kind(left), is_trimmed);
                    refused += u32::from(is_refused);
                    if failed == 0 {
                        assert!(!is_refused);
                        break;
                    }
                    left += 1;
                }
                println!(
                    "{}, trimmed: {is_trimmed}, {:?}: {left} populates, {refused} refused",
                    operation.name,
                    kind(0)
                );
                let least = if is_trimmed { operation.least.min(2) } else { operation.least };
                assert!(refused >= least, "{}: {refused} of {left} refused", operation.name);
            }
        }
    }
}

#[test]
fn a_shortage_in_the_middle_of_many_gives_all_back() {
    let space = Space::builder().max_pages(1 << 20).build().unwrap();
    let device = space.register(DeviceConfig::new(NR_PAGES)).unwrap();
    let mut folios = vec![device.alloc(Order::ZERO).unwrap()];
    // Enough for some blocks of the first section, and not for the next section.
    let (many, _) = shortage::during(Shortage::After(1), || device.alloc_many(Order::ZERO, 10_000, &mut folios));
    assert_eq!(many, Err(AllocError::NoMemory));
    assert_eq!((folios.len(), device.nr_live_pages()), (1, 1));
    space.validate().unwrap();
    device.alloc_many(Order::ZERO, 10_000, &mut folios).unwrap();
    space.validate().unwrap();
}
