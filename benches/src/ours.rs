//! farpage on the course: one by one through `Space::lookup`, and in groups through `lookup_many`.
//!
//! The address space is the default one, so that the bounds are those that an embedder has.

#![forbid(unsafe_code)]

use farpage::{Access, Device, DeviceConfig, MetadataPages, Order, PageRef, SoftLeaf, Space};

use crate::chain::{Chain, Keys};
use crate::course::Lookup;
use crate::plain::PageAdvice;

/// Leaves in one call of `lookup_many`: a fault batch, or a run of leaves of a page table.
pub const GROUP: usize = 64;

/// A space whose metadata has the pages that `advice` asks for.
///
/// `max_pages` is `None` for the default; an instruction counter needs less, as it keeps shadows.
pub fn space(advice: PageAdvice, max_pages: Option<u64>) -> Space {
    let metadata_pages = match advice {
        PageAdvice::Base => MetadataPages::Base,
        PageAdvice::Huge => MetadataPages::Huge,
    };
    let mut builder = Space::builder().metadata_pages(metadata_pages);
    if let Some(max_pages) = max_pages {
        builder = builder.max_pages(max_pages);
    }
    builder.build().expect("address space for the metadata")
}

/// A device with every page allocated and owned by a leaf.
#[derive(Debug)]
pub struct Populated<'s> {
    space: &'s Space,
    device: Device<'s>,
    keys: Keys<SoftLeaf>,
}

impl<'s> Populated<'s> {
    /// Registers a device of the chain's length, allocates all of it, and links it.
    pub fn new(space: &'s Space, chain: &Chain) -> Self {
        let nr_pages = chain.nr_pages();
        let device =
            space.register(DeviceConfig::new(nr_pages as u64).name("bench")).expect("a device in an empty space");
        let mut leaves = Vec::with_capacity(nr_pages);
        let mut folios = Vec::new();
        while leaves.len() < nr_pages {
            let batch = (nr_pages - leaves.len()).min(1 << 20);
            device.alloc_many(Order::ZERO, batch, &mut folios).expect("free pages");
            leaves.extend(folios.drain(..).map(|folio| folio.into_leaf(Access::Write)));
        }
        leaves.sort_unstable_by_key(|leaf| leaf.offset());
        let keys = Keys::link::<OneByOne<'_>>(chain, leaves, |leaf, private| {
            let folio = space.lookup(leaf).and_then(PageRef::try_get).expect("a live leaf");
            folio.set_private(private);
        });
        Self { space, device, keys }
    }

    /// The leaves in both orders.
    pub fn keys(&self) -> &Keys<SoftLeaf> {
        &self.keys
    }

    /// Takes every leaf's reference back, and checks that nothing is left.
    pub fn free(self) {
        for &leaf in self.keys.in_place() {
            drop(self.space.take(leaf).expect("a live leaf"));
        }
        assert_eq!(self.device.nr_live_pages(), 0, "every page was freed");
        let stale = self.keys.in_place()[0];
        assert!(self.space.lookup(stale).is_none(), "a stale leaf names nothing");
    }
}

/// `Space::lookup`, then `PageRef::private`.
#[derive(Clone, Copy, Debug)]
pub struct OneByOne<'s>(pub &'s Space);

impl Lookup for OneByOne<'_> {
    type Key = SoftLeaf;

    #[inline]
    fn private(&self, leaf: SoftLeaf) -> u64 {
        self.0.lookup(leaf).expect("a live leaf").private()
    }

    #[inline]
    fn key(private: u64) -> SoftLeaf {
        SoftLeaf::from_bits(private)
    }

    #[inline]
    fn word(leaf: SoftLeaf) -> u64 {
        leaf.bits()
    }
}

/// `Space::lookup_many` on groups of [`GROUP`] leaves, then `PageRef::private` of each.
#[derive(Clone, Copy, Debug)]
pub struct Many<'s>(pub &'s Space);

impl Lookup for Many<'_> {
    type Key = SoftLeaf;

    #[inline]
    fn private(&self, leaf: SoftLeaf) -> u64 {
        OneByOne(self.0).private(leaf)
    }

    #[inline]
    fn key(private: u64) -> SoftLeaf {
        SoftLeaf::from_bits(private)
    }

    #[inline]
    fn word(leaf: SoftLeaf) -> u64 {
        leaf.bits()
    }

    #[inline(never)]
    fn sum(&self, leaves: &[SoftLeaf]) -> u64 {
        let mut found = [None; GROUP];
        let mut sum = 0u64;
        for group in leaves.chunks(GROUP) {
            let found = &mut found[..group.len()];
            self.0.lookup_many(group, found);
            for page in found {
                sum = sum.wrapping_add(page.expect("a live leaf").private());
            }
        }
        sum
    }
}
