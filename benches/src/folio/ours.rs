//! farpage's pairs: on live folios of order 0, each with one handle of ours.

#![forbid(unsafe_code)]

use std::hint::black_box;

use farpage::{Access, Device, DeviceConfig, Folio, Order, PageRef, SoftLeaf, Space, WeakFolio};

use super::pair::Pair;
use crate::random::SplitMix;

/// A device full of folios, in random order.
#[derive(Debug)]
pub struct Folios<'s> {
    space: &'s Space,
    folios: Vec<Folio<'s>>,
}

impl<'s> Folios<'s> {
    /// `nr_objects` of them, the pages of a device.
    pub fn new(space: &'s Space, nr_objects: usize, seed: u64) -> Self {
        let device: Device<'s> = space.register(DeviceConfig::new(nr_objects as u64)).expect("a device");
        let mut folios = Vec::with_capacity(nr_objects);
        device.alloc_many(Order::ZERO, nr_objects, &mut folios).expect("every page of it");
        SplitMix::new(seed).shuffle(&mut folios);
        Self { space, folios }
    }

    fn pages(&self) -> Vec<PageRef<'s>> {
        self.folios.iter().map(|folio| self.space.page(folio.offset()).expect("it lives")).collect()
    }

    fn assert_refs(&self, refs: u32, maps: u32) {
        for folio in &self.folios {
            assert_eq!((folio.refs(), folio.maps(), folio.is_locked()), (refs, maps, false), "{folio:?}");
        }
        self.space.validate().expect("the space agrees with itself");
    }
}

/// `Clone` and `Drop` of a handle.
#[derive(Debug)]
pub struct CloneDrop<'s>(pub Folios<'s>);

impl Pair for CloneDrop<'_> {
    fn nr_objects(&self) -> usize {
        self.0.folios.len()
    }

    #[inline]
    fn step(&self, at: usize) {
        drop(black_box(self.0.folios[at].clone()));
    }

    fn assert_unchanged(&self) {
        self.0.assert_refs(1, 0);
    }
}

/// [`PageRef::try_get`] and `Drop`.
#[derive(Debug)]
pub struct TryGetDrop<'s> {
    folios: Folios<'s>,
    pages: Vec<PageRef<'s>>,
}

impl<'s> TryGetDrop<'s> {
    /// Of each of `folios`.
    pub fn new(folios: Folios<'s>) -> Self {
        Self { pages: folios.pages(), folios }
    }
}

impl Pair for TryGetDrop<'_> {
    fn nr_objects(&self) -> usize {
        self.pages.len()
    }

    #[inline]
    fn step(&self, at: usize) {
        drop(black_box(self.pages[at].try_get().expect("it lives")));
    }

    fn assert_unchanged(&self) {
        self.folios.assert_refs(1, 0);
    }
}

/// [`WeakFolio::upgrade`] and `Drop`.
#[derive(Debug)]
pub struct UpgradeDrop<'s> {
    folios: Folios<'s>,
    weak: Vec<WeakFolio<'s>>,
}

impl<'s> UpgradeDrop<'s> {
    /// Of each of `folios`.
    pub fn new(folios: Folios<'s>) -> Self {
        Self { weak: folios.folios.iter().map(Folio::downgrade).collect(), folios }
    }
}

impl Pair for UpgradeDrop<'_> {
    fn nr_objects(&self) -> usize {
        self.weak.len()
    }

    #[inline]
    fn step(&self, at: usize) {
        drop(black_box(self.weak[at].upgrade().expect("it lives")));
    }

    fn assert_unchanged(&self) {
        self.folios.assert_refs(1, 0);
    }
}

/// [`Folio::map`] and [`Space::unmap`].
#[derive(Debug)]
pub struct MapUnmap<'s>(pub Folios<'s>);

impl Pair for MapUnmap<'_> {
    fn nr_objects(&self) -> usize {
        self.0.folios.len()
    }

    #[inline]
    fn step(&self, at: usize) {
        let leaf: SoftLeaf = black_box(self.0.folios[at].map(Access::Write).expect("room for one more"));
        self.0.space.unmap(leaf).expect("the leaf owns a reference");
    }

    fn assert_unchanged(&self) {
        self.0.assert_refs(1, 0);
    }
}

/// [`Folio::lock`] and the end of its guard.
#[derive(Debug)]
pub struct LockUnlock<'s>(pub Folios<'s>);

impl Pair for LockUnlock<'_> {
    fn nr_objects(&self) -> usize {
        self.0.folios.len()
    }

    #[inline]
    fn step(&self, at: usize) {
        drop(black_box(self.0.folios[at].lock()));
    }

    fn assert_unchanged(&self) {
        self.0.assert_refs(1, 0);
    }
}
