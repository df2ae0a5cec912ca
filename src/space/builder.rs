//! [`SpaceBuilder`]: size and shape of a space.
#![forbid(unsafe_code)]

use crate::device::{DeviceTable, Entry};
use crate::error::SpaceError;
use crate::free_map::Blocks;
use crate::geometry::{MAX_PAGES_LIMIT, MODEL, PAGES_PER_BLOCK, blocks_for};
use crate::live::Bell;
use crate::section_map::SectionMap;
use crate::space::Space;
use crate::sparse::probe_heap;
use crate::sync::{Arc, prepare_barriers};
use crate::wait::WaitTable;

/// The most heap memory that a space is made of.
const HEAP_BYTES: usize = 64 << 10;

/// How much metadata may stay in which nothing lives.
const SPARE_METADATA: u64 = 320 << 10;

/// Which pages of host memory the metadata itself lies in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataPages {
    /// Base pages: 64 KiB become resident with the first folio of a section of 16 MiB, and go again when it is empty. For
    /// spaces that are used thinly, or by fits and starts.
    #[default]
    Base,
    /// Huge pages where the system has them: 2 MiB become resident with the first folio of a section of 512 MiB, and go again
    /// when all of that is empty; one page that lives there, or is kept in a cache, keeps them. Populated at once, so that a page of
    /// the device costs less the first time; and lookups in much metadata are faster, as they miss the translation cache less.
    Huge,
}

/// How a [`Space`] is to be made.
///
/// ```
/// use farpage::{MetadataPages, Space};
///
/// let space = Space::builder().max_pages(1 << 20).metadata_pages(MetadataPages::Huge).build()?;
/// assert_eq!(space.max_pages(), 1 << 20);
/// # Ok::<(), farpage::SpaceError>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct SpaceBuilder {
    max_pages: u64,
    cores: usize,
    cache_percent: u8,
    metadata_pages: MetadataPages,
    spare_metadata: u64,
}

impl Default for SpaceBuilder {
    fn default() -> SpaceBuilder {
        SpaceBuilder {
            max_pages: if MODEL { 4 * PAGES_PER_BLOCK } else { 1 << 34 },
            cores: if MODEL { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) },
            cache_percent: if MODEL { 100 } else { 1 },
            metadata_pages: MetadataPages::default(),
            spare_metadata: SPARE_METADATA,
        }
    }
}

impl SpaceBuilder {
    /// The most pages that all devices together may have; rounded up to whole blocks of 512. The default is 2^34,
    /// 64 TiB of 4 KiB pages, for which 259 GiB of address space (not memory) are reserved; a space of less reserves
    /// less.
    pub fn max_pages(mut self, max_pages: u64) -> SpaceBuilder {
        self.max_pages = max_pages;
        self
    }

    /// How many cores will work on the space at once: twice as many threads have counts, hints and caches of their own at
    /// each device (at least 24, at most 1,024); further threads share one set. The default is what the system says this
    /// process may use.
    pub fn cores(mut self, cores: usize) -> SpaceBuilder {
        self.cores = cores;
        self
    }

    /// How many percent of a device's pages may be kept in caches, all threads' and all [`Cache`](crate::Cache)s'
    /// together; 1 by default, and at most 100. Each gets the same share, and no more than 608 pages. Pages in caches are
    /// free: they are taken from there before an allocation fails; but they may be missing in large runs, and the section of
    /// metadata that one lies in is not given back by itself.
    pub fn cache_percent(mut self, percent: u8) -> SpaceBuilder {
        self.cache_percent = percent.min(100);
        self
    }

    /// Which pages the metadata lies in; base pages by default. The records of pages, that is: what there is for each block of 512
    /// of them is little, and always lies in base pages.
    pub fn metadata_pages(mut self, pages: MetadataPages) -> SpaceBuilder {
        self.metadata_pages = pages;
        self
    }

    /// How many bytes of metadata in which nothing lives any more are kept before it is given back to the system by itself: 320
    /// KiB by default (5 sections of base pages), `u64::MAX` for ever ([`Space::trim`] gives it back when you like).
    ///
    /// Counted in whole sections (64 KiB, or 2 MiB with [huge pages](MetadataPages::Huge)), at least one; a sixteenth of all
    /// that are populated if that is more. Up to twice as many stay: those that emptied lately, and those of the round before, which go
    /// next if nothing has lived in them since. If what was given back is wanted again soon, up to 64 more wait for some rounds.
    /// See [`Space::trim`] for what else stays.
    pub fn spare_metadata(mut self, bytes: u64) -> SpaceBuilder {
        self.spare_metadata = bytes;
        self
    }

    /// Makes the space: reserves the address space for all its metadata, and touches none of it.
    ///
    /// # Errors
    ///
    /// [`SpaceError`] with the numbers: [`SpaceError::AddressSpace`] where that is limited (`RLIMIT_AS`),
    /// [`SpaceError::NoMemory`] where the heap has less than 64 KiB.
    pub fn build(self) -> Result<Space, SpaceError> {
        if self.max_pages == 0 {
            return Err(SpaceError::ZeroPages);
        }
        if self.max_pages > MAX_PAGES_LIMIT {
            return Err(SpaceError::too_many(self.max_pages));
        }
        probe_heap(HEAP_BYTES)?;
        prepare_barriers();
        let nr_blocks = blocks_for(self.max_pages);
        let nr_pages = nr_blocks * PAGES_PER_BLOCK;
        let sections = SectionMap::new(nr_pages, self.metadata_pages == MetadataPages::Huge)?;
        let spare = self.spare_metadata / sections.bytes_per_section();
        Ok(Space {
            blocks: Blocks::new(nr_blocks, sections.blocks_per_section())?,
            sections,
            devices: DeviceTable::new(nr_pages)?,
            nobody: Arc::new(Entry::nobody()?),
            max_pages: nr_pages,
            bell: Bell::new(),
            waits: WaitTable::new(),
            cores: self.cores,
            cache_percent: self.cache_percent,
            spare_bytes: self.spare_metadata.min(SPARE_METADATA),
            spare_sections: (self.spare_metadata != u64::MAX).then_some(spare.max(1)),
        })
    }
}
