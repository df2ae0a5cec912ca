//! [`GivenUpPages`]: which pages of live folios their holders do not need any more.
//!
//! By page and not by folio: a page belongs to one folio at a time, so dividing a folio leaves them as they are. They are
//! forgotten when their folio ends, before its pages can be another's. A cold path: a lock, and a table of 64-page words.
//!
//! Below: `words`. Above: `device`. Edges: [last-put].
#![forbid(unsafe_code)]

use core::ops::Range;
use std::collections::HashMap;

use crate::sparse::NoMemory;
use crate::sync::Mutex;

/// Pages of a device that were given up, and whose folios live.
pub(crate) struct GivenUpPages {
    /// A bit for each page, by page number / 64. Words without a bit are not there.
    words: Mutex<HashMap<u64, u64>>,
}

impl GivenUpPages {
    pub(super) fn new() -> GivenUpPages {
        GivenUpPages { words: Mutex::new(HashMap::new()) }
    }

    /// Notes `pages`; how many of them were not noted before. All or none.
    pub(super) fn note(&self, pages: Range<u64>) -> Result<u64, NoMemory> {
        let mut words = self.words.lock();
        let nr_words = words_of(pages.clone()).count();
        let bytes = nr_words as u64 * size_of::<(u64, u64)>() as u64;
        words.try_reserve(nr_words).map_err(|_| NoMemory { bytes })?;
        let note = |(at, mask): (u64, u64)| {
            let word = words.entry(at).or_default();
            let new = u64::from((mask & !*word).count_ones());
            *word |= mask;
            new
        };
        Ok(words_of(pages).map(note).sum())
    }

    /// How many of `pages` are noted.
    pub(super) fn count(&self, pages: Range<u64>) -> u64 {
        let words = self.words.lock();
        let count = |(at, mask): (u64, u64)| words.get(&at).map_or(0, |word| u64::from((word & mask).count_ones()));
        words_of(pages).map(count).sum()
    }

    /// Forgets `pages`; how many of them were noted. Never needs memory.
    pub(super) fn forget(&self, pages: Range<u64>) -> u64 {
        let mut words = self.words.lock();
        let (first, end) = (pages.start / 64, pages.end.div_ceil(64));
        let mut forgotten = 0;
        let mut forget = |at: u64, word: &mut u64| {
            let mask = mask_in(at, &pages);
            forgotten += u64::from((*word & mask).count_ones());
            *word &= !mask;
            *word != 0
        };
        if end - first > words.len() as u64 {
            words.retain(|&at, word| !(first..end).contains(&at) || forget(at, word));
        } else {
            for at in first..end {
                if words.get_mut(&at).is_some_and(|word| !forget(at, word)) {
                    words.remove(&at);
                }
            }
        }
        forgotten
    }
}

/// The words that `pages` lie in, with a bit for each of the pages.
fn words_of(pages: Range<u64>) -> impl Iterator<Item = (u64, u64)> {
    let words = if pages.is_empty() { 0..0 } else { pages.start / 64..pages.end.div_ceil(64) };
    words.map(move |at| (at, mask_in(at, &pages)))
}

/// The bits in word `at` of those of `pages` that lie in it, of which there is at least one.
fn mask_in(at: u64, pages: &Range<u64>) -> u64 {
    let (from, to) = (pages.start.max(at * 64) - at * 64, pages.end.min(at * 64 + 64) - at * 64);
    u64::MAX >> (64 - (to - from)) << from
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn pages_are_noted_once_and_forgotten_once() {
        let (given_up, mut model) = (GivenUpPages::new(), BTreeSet::new());
        let ranges = [3..5, 0..64, 60..70, 63..64, 64..128, 100..1000, 5..5, 128..129, 1 << 30..(1 << 30) + 200];
        for (round, range) in ranges.iter().cycle().take(400).enumerate() {
            let shift = round as u64 * 37 % 300;
            let range = range.start + shift..range.end + shift;
            let before = range.clone().filter(|page| model.contains(page)).count() as u64;
            assert_eq!(given_up.count(range.clone()), before);
            if round % 3 == 1 {
                assert_eq!(given_up.forget(range.clone()), before);
                range.for_each(|page| _ = model.remove(&page));
            } else {
                let nr_pages = range.end - range.start;
                assert_eq!(given_up.note(range.clone()), Ok(nr_pages - before));
                model.extend(range);
            }
        }
        assert_eq!(given_up.count(0..1 << 31), model.len() as u64);
        assert_eq!(given_up.forget(0..1 << 31), model.len() as u64);
        assert!(given_up.words.lock().is_empty());
    }
}
