//! Giving metadata back to the system: when, and of what.
//!
//! Whoever gives a section back first takes all of its pages in the free map, as if it allocated them. So nobody allocates
//! there meanwhile, and nobody has anything there; and what a claim orders, the next claim's view of the records included, is
//! ordered here as it is between any two owners. A lookup needs no claim: it sees the free records, or absent ones.
//!
//! By itself this happens in two rounds; see [`Vacancies`](crate::free_map).
#![forbid(unsafe_code)]

use crate::sync::Arc;
use core::mem;
use core::ops::Range;

use crate::device::Entry;
use crate::free_map::Hold;
use crate::geometry::BLOCK_SHIFT;
use crate::space::Space;
use crate::sparse::GIVES_BACK;

/// How often the caches are looked into before what is left in them is left there.
const LOOKS_INTO_CACHES: usize = 256;

/// The space while no device comes or goes.
struct Trim<'a> {
    space: &'a Space,
    /// By offset.
    devices: &'a [Arc<Entry>],
}

/// Gives back all that it can.
pub(super) fn trim(space: &Space) -> u64 {
    let trim_all = |devices: &[Arc<Entry>]| {
        let trim = Trim { space, devices };
        devices.iter().for_each(|entry| trim.empty_caches(entry));
        // Whether or not a device has them: what a small one leaves behind stays for the next.
        trim.regions(0..space.max_pages() >> BLOCK_SHIFT)
    };
    if GIVES_BACK { space.table().while_registered(trim_all).unwrap_or(0) } else { 0 }
}

/// Gives back what is around `blocks`, which a device has left, unless all that there is may stay.
pub(super) fn trim_around(space: &Space, devices: &[Arc<Entry>], blocks: Range<u64>) -> u64 {
    let all = space.sections().bytes().1 + space.blocks().bytes().1;
    if GIVES_BACK && all > space.spare_bytes { Trim { space, devices }.regions(blocks) } else { 0 }
}

/// Begins a round, if nobody else is about it: of the groups of blocks that have emptied, those of the round before are given
/// back.
#[cold]
pub(super) fn trim_vacancies(space: &Space) {
    if !GIVES_BACK {
        return;
    }
    space.table().try_while_registered(|devices| {
        let (trim, vacancies) = (Trim { space, devices }, space.blocks().vacancies());
        let in_vain = space.sections().counts().again + space.blocks().counts().again;
        let mut region = 0..0;
        vacancies.begin_round(in_vain, |group| {
            if space.sections().has_section(&group) {
                trim.sections(group.clone());
            }
            // In ascending order: what follows a region is seen after all of its groups.
            if !region.contains(&group.start) {
                trim.words_if_idle(mem::replace(&mut region, trim.region_of(group.start)));
            }
        });
        trim.words_if_idle(region);
    });
}

impl Trim<'_> {
    /// The blocks whose words have their memory together with those of `block`.
    fn region_of(&self, block: u64) -> Range<u64> {
        let nr = self.space.blocks().blocks_per_chunk().max(self.space.sections().blocks_per_section());
        let first = block / nr * nr;
        first..(first + nr).min(self.space.max_pages() >> BLOCK_SHIFT)
    }

    /// All regions that `blocks` touches: their sections, then what there is for each block.
    fn regions(&self, blocks: Range<u64>) -> u64 {
        let (mut at, mut bytes) = (blocks.start, 0);
        while let Some(block) = self.space.blocks().next_populated(at..blocks.end) {
            let region = self.region_of(block);
            at = region.end;
            let step = self.space.sections().blocks_per_section();
            for first in region.clone().step_by(step as usize) {
                let section = first..(first + step).min(region.end);
                if self.space.sections().has_section(&section) {
                    bytes += self.sections(section);
                }
            }
            bytes += self.words(region);
        }
        bytes
    }

    /// The records of the pages of `blocks`.
    fn sections(&self, blocks: Range<u64>) -> u64 {
        match self.hold(blocks.clone()) {
            Some(_held) => self.space.sections().give_back_sections(blocks),
            None => 0,
        }
    }

    /// What there is for each block of `region`, unless something in it has been in use lately.
    fn words_if_idle(&self, region: Range<u64>) {
        if !region.is_empty() && !self.space.blocks().vacancies().are_noted(&region) {
            self.words(region);
        }
    }

    /// What there is for each block of `region`.
    fn words(&self, region: Range<u64>) -> u64 {
        let Some(held) = self.hold(region.clone()).filter(|held| held.iter().all(Hold::is_whole)) else { return 0 };
        let sections = self.space.sections();
        let metadata = sections.give_back_sections(region.clone()) + sections.give_back_blocks(region.clone());
        let (words, are_gone) = self.space.blocks().give_back(region);
        if are_gone {
            held.into_iter().for_each(Hold::forget_words);
        }
        metadata + words
    }

    /// Takes `blocks` from all devices that have any of them. Without memory to note that, none.
    fn hold(&self, blocks: Range<u64>) -> Option<Vec<Hold<'_>>> {
        let end_of = |entry: &Entry| entry.map().blocks().end;
        let first = self.devices.partition_point(|entry| end_of(entry) <= blocks.start);
        let mut held = Vec::new();
        for entry in self.devices[first..].iter().take_while(|entry| entry.map().blocks().start < blocks.end) {
            let seat = entry.seats().of_this_thread();
            held.try_reserve(1).ok()?;
            held.push(entry.map().hold(entry.claimer(self.space, seat), blocks.clone())?);
        }
        Some(held)
    }

    /// Gives what caches of a device keep to its map, as far as others do not put as much in again.
    fn empty_caches(&self, entry: &Entry) {
        let seat = entry.seats().of_this_thread();
        let drain = || entry.map().drain_some(entry.claimer(self.space, seat));
        let _ = (0..LOOKS_INTO_CACHES).find(|_| drain() == 0);
    }
}
