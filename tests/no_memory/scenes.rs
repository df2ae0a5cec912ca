//! What is done while memory is short: each scene on a space of its own, whose pages are compared afterwards.

use farpage::{
    Access, AllocError, DeviceConfig, Folio, GiveUpError, Order, RangeRequest, RegisterError, Space, SpaceBuilder,
    SpaceError, SplitError,
};

use crate::unpopulated;

/// Runs the work while memory is short.
pub(crate) type Short<'a> = dyn FnMut(&mut dyn FnMut()) + 'a;

/// See the [module](self).
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    /// Whether it needs no heap memory at all.
    pub(crate) needs_no_heap: bool,
    /// Whether it was refused.
    act: fn(&mut Short<'_>) -> bool,
}

impl Scene {
    const fn new(name: &'static str, act: fn(&mut Short<'_>) -> bool) -> Scene {
        Scene { name, needs_no_heap: false, act }
    }

    /// Runs the scene; whether something was refused for want of memory.
    pub(crate) fn run(&self, short: &mut Short<'_>) -> bool {
        (self.act)(short)
    }
}

pub(crate) const SCENES: &[Scene] = &[
    Scene::new("a space", |short| make_a_space(Space::builder(), short)),
    Scene::new("a small space", |short| make_a_space(Space::builder().max_pages(1), short)),
    Scene::new("a device", |short| register(700, short)),
    Scene::new("a large device", |short| register(1 << 18, short)),
    Scene::new("a page", |short| alloc(order(0), short)),
    Scene::new("a folio of order 5", |short| alloc(order(5), short)),
    Scene::new("a folio of order 9", |short| alloc(order(9), short)),
    Scene::new("a folio of order 12", |short| alloc(order(12), short)),
    Scene::new("many pages", |short| alloc_many(order(0), 9_000, short)),
    Scene::new("many blocks", |short| alloc_many(order(9), 60, short)),
    Scene::new("a range", |short| alloc_range(RangeRequest::new(5_555), short)),
    Scene::new("a range at the top", |short| alloc_range(RangeRequest::new(700).top_down(), short)),
    Scene::new("a page from a cache", alloc_from_a_cache),
    Scene::new("a split into pages", |short| split(order(9), order(0), short)),
    Scene::new("a split into blocks", |short| split(order(12), order(9), short)),
    Scene::new("pages given up", give_up),
    Scene::new("a trim", trim),
    Scene::new("frees that give metadata back", free_many),
    Scene { needs_no_heap: true, ..Scene::new("looks and takes", look_and_take) },
    Scene { needs_no_heap: true, ..Scene::new("pages after a trim", alloc_after_a_trim) },
];

fn order(order: u8) -> Order {
    Order::new(order).unwrap()
}

/// A space with a device of which nothing was ever used, and a neighbour of which something is.
fn with_device<R>(work: impl FnOnce(&Space, &farpage::Device<'_>) -> R) -> R {
    let space = Space::builder().max_pages(1 << 20).build().unwrap();
    let device = space.register(DeviceConfig::new(1 << 16)).unwrap();
    let neighbour = space.register(DeviceConfig::new(3)).unwrap();
    let kept = neighbour.alloc(order(1)).unwrap();
    let result = work(&space, &device);
    drop(kept);
    space.validate().unwrap();
    assert_eq!((device.nr_live_pages(), space.report().largest_free_pages()), (0, 1 << 16), "all is one run again");
    result
}

/// Tries `attempt` while memory is short. If it is refused, as `is_shortage` says, nothing has changed and the next try works.
/// Whether it was refused.
fn attempt<T, E: std::fmt::Debug>(
    space: &Space,
    short: &mut Short<'_>,
    is_shortage: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> bool {
    let before = unpopulated(space.report());
    let mut result = None;
    short(&mut || result = Some(attempt()));
    let refused = result.expect("it was run").err();
    space.validate().unwrap();
    if let Some(error) = &refused {
        assert!(is_shortage(error), "{error:?}");
        assert_eq!(unpopulated(space.report()), before);
    }
    drop(attempt().expect("there is memory again"));
    space.validate().unwrap();
    refused.is_some()
}

/// The builder asks the system how many cores there are, with memory of the standard library's; so it is there before.
fn make_a_space(builder: SpaceBuilder, short: &mut Short<'_>) -> bool {
    let mut made = None;
    short(&mut || made = Some(builder.build()));
    match made.expect("it was run") {
        Ok(space) => {
            space.register(DeviceConfig::new(1)).unwrap();
            false
        }
        Err(error) => {
            assert!(matches!(error, SpaceError::NoMemory { bytes: 1.. }), "{error:?}");
            true
        }
    }
}

fn register(nr_pages: u64, short: &mut Short<'_>) -> bool {
    with_device(|space, _| {
        let is_shortage = |error: &RegisterError| matches!(error, RegisterError::NoMemory { .. });
        let refused = attempt(space, short, is_shortage, || space.register(DeviceConfig::new(nr_pages)));
        space.devices().skip(2).for_each(|device| device.unregister().unwrap());
        refused
    })
}

fn is_shortage(error: &AllocError) -> bool {
    matches!(error, AllocError::NoMemory)
}

fn alloc(order: Order, short: &mut Short<'_>) -> bool {
    with_device(|space, device| attempt(space, short, is_shortage, || device.alloc(order)))
}

fn alloc_many(order: Order, n: usize, short: &mut Short<'_>) -> bool {
    with_device(|space, device| {
        attempt(space, short, is_shortage, || {
            let mut folios = Vec::new();
            device.alloc_many(order, n, &mut folios).map(|()| folios)
        })
    })
}

fn alloc_range(request: RangeRequest, short: &mut Short<'_>) -> bool {
    with_device(|space, device| attempt(space, short, is_shortage, || device.alloc_range(request)))
}

fn alloc_from_a_cache(short: &mut Short<'_>) -> bool {
    with_device(|space, device| {
        attempt(space, short, is_shortage, || {
            let mut cache = device.cache();
            let folio = cache.alloc(Order::ZERO)?;
            cache.put(folio);
            cache.alloc(Order::HUGE)
        })
    })
}

fn split(whole: Order, part: Order, short: &mut Short<'_>) -> bool {
    with_device(|space, device| {
        let folio = device.alloc(whole).unwrap();
        folio.set_private(7);
        folio.give_up(3..5).unwrap();
        let before = unpopulated(space.report());
        let mut parts = None;
        let mut folio = Some(folio);
        short(&mut || parts = folio.take().map(|folio| folio.split(part)));
        space.validate().unwrap();
        let (parts, refused) = match parts.expect("it was run") {
            Ok(parts) => (parts, false),
            Err(error) => {
                assert!(matches!(error, SplitError::NoMemory { .. }), "{error:?}");
                assert_eq!(unpopulated(space.report()), before);
                let folio = error.into_folio();
                assert_eq!((folio.order(), folio.refs(), folio.private(), folio.given_up()), (whole, 1, 7, 2));
                (folio.split(part).unwrap(), true)
            }
        };
        assert!(parts.map(|part| assert_eq!(part.private(), 7)).count() > 0);
        refused
    })
}

fn give_up(short: &mut Short<'_>) -> bool {
    with_device(|space, device| {
        let folio = device.alloc(Order::HUGE).unwrap();
        let is_shortage = |error: &GiveUpError| matches!(error, GiveUpError::NoMemory { .. });
        let refused = attempt(space, short, is_shortage, || folio.give_up(5..300));
        assert_eq!(folio.given_up(), 295);
        refused
    })
}

/// What there is no memory to remember by stays, until there is.
fn trim(short: &mut Short<'_>) -> bool {
    with_device(|space, device| {
        // Places that were used unevenly are remembered one by one.
        for order in [0, 9, 3, 0].map(order) {
            let mut folios = Vec::new();
            device.alloc_many(order, 20_000 >> order.get(), &mut folios).unwrap();
            drop(folios);
            (0..200).for_each(|_| drop(device.alloc(order).unwrap()));
        }
        let (before, mut bytes) = (unpopulated(space.report()), 0);
        short(&mut || bytes = space.trim());
        space.validate().unwrap();
        let after = unpopulated(space.report());
        assert_eq!((after.live_pages, after.free_pages), (before.live_pages, before.free_pages));
        bytes += space.trim();
        assert!(bytes > 128 << 10, "{bytes} bytes");
        assert_eq!(space.trim(), 0);
        false
    })
}

/// A put never fails, whatever it gives back to the system or cannot.
fn free_many(short: &mut Short<'_>) -> bool {
    with_device(|_, device| {
        let mut folios: Vec<Folio<'_>> = Vec::new();
        device.alloc_many(Order::ZERO, 50_000, &mut folios).unwrap();
        short(&mut || folios.drain(..).for_each(drop));
        false
    })
}

fn look_and_take(short: &mut Short<'_>) -> bool {
    with_device(|space, device| {
        let mut folios: Vec<Folio<'_>> = Vec::new();
        device.alloc_many(Order::ZERO, 100, &mut folios).unwrap();
        let nr_folios = device.live_folios().count();
        let mut leaves: Vec<_> = folios.into_iter().map(|folio| folio.into_leaf(Access::Write)).collect();
        short(&mut || {
            let mut pages = [None; 100];
            space.lookup_many(&leaves, &mut pages);
            assert!(pages.iter().flatten().all(|page| page.try_get().is_some()));
            assert_eq!(device.live_folios().count(), nr_folios);
            leaves.drain(..).for_each(|leaf| drop(space.take(leaf).expect("it is mapped")));
        });
        false
    })
}

fn alloc_after_a_trim(short: &mut Short<'_>) -> bool {
    with_device(|space, device| {
        drop(device.alloc(Order::ZERO).unwrap());
        space.trim();
        attempt(space, short, is_shortage, || device.alloc(Order::ZERO))
    })
}
