//! [`Generations`]: what is remembered of the generations in a section whose memory is given back to the system.
//!
//! A leaf is stale because its generation is not that of the life at its place. So a place whose record is gone must not
//! begin again with a generation that a leaf of it may have. One number is kept for a whole section, and every record of it
//! begins there when it is populated again: it is at or above the generations of nearly all of its places. If it were above
//! all of them, a place that is used a thousand times as often as the others would take them all a thousand generations
//! further, and there are only so many. So places that lie further than [`WINDOW`] from the number are remembered one by
//! one, in 4 bytes each, and go on where they were.
//!
//! What follows: from one time that the section is given back to the next, each place goes as far as it was used itself, or
//! at most as far as the busiest place was used. So a generation comes again at a place after as many allocations, there or
//! at the busiest places, as there are generations; less `WINDOW` for those that came before the leaf in its first
//! interval.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use crate::page::Page;
use crate::sparse::Chunk;
use crate::sync::Mutex;
use crate::words::leaf_bits::{generations_between, generations_on};

/// How far a place's generation may be taken further by those of other places, beyond what they were used meanwhile.
const WINDOW: u64 = 64;

/// For each section that was given back with places out of the common way, these, by place. They stay when the section is
/// populated again, to tell then which places have been used since.
pub(super) struct Generations(Mutex<HashMap<u64, Box<[Stray]>>>);

/// The generation of one place.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stray {
    /// The number of the record in its section, and in the lowest 15 bits its generation.
    word: u32,
}

impl Stray {
    const GENERATION_BITS: u32 = crate::words::leaf_bits::GENERATION_BITS;

    fn new(record: usize, generation: u64) -> Stray {
        Stray { word: (record as u32) << Stray::GENERATION_BITS | generation as u32 }
    }

    fn record(self) -> usize {
        (self.word >> Stray::GENERATION_BITS) as usize
    }

    fn generation(self) -> u64 {
        u64::from(self.word & ((1 << Stray::GENERATION_BITS) - 1))
    }
}

impl Generations {
    pub(super) fn new() -> Generations {
        Generations(Mutex::new(HashMap::new()))
    }

    /// What to keep of the records of `chunk`, none of which is live; `None` if there is no memory to remember them by.
    pub(super) fn keep(&self, chunk: Chunk<'_, Page>) -> Option<u32> {
        let base = u64::from(chunk.kept);
        let steps_of = |page: &Page| generations_between(base, page.state().generation());
        let mut all = self.0.lock();
        let mut before = all.get(&chunk.first).map_or(&[][..], |strays| strays).iter().peekable();
        // How far places are away from the base; and how often the busiest was used. In 16 bits, as a generation has 15: what is
        // given back should not take much first.
        let (mut away, mut busiest) = (Vec::<u16>::new(), 0);
        away.try_reserve_exact(chunk.elements.len()).ok()?;
        for (record, page) in chunk.elements.iter().enumerate() {
            let steps = steps_of(page);
            busiest = busiest.max(match before.next_if(|stray| stray.record() == record) {
                Some(stray) => generations_between(stray.generation(), page.state().generation()),
                None => steps,
            });
            if steps > 0 {
                away.push(steps as u16);
            }
        }
        away.sort_unstable();
        // The base goes no further than any place was used, as it takes those along that were not.
        let (common, nr_common) = most_in_a_window(&away[..away.partition_point(|&steps| u64::from(steps) <= busiest)]);
        let mut strays = Vec::new();
        let nr_strays = away.len() - nr_common;
        strays.try_reserve_exact(nr_strays).ok()?;
        drop(away);
        if nr_strays == 0 {
            all.remove(&chunk.first);
        } else {
            let away = chunk.elements.iter().map(steps_of).enumerate();
            let is_stray = |steps: u64| steps > 0 && (steps > common || common - steps >= WINDOW);
            strays.extend(
                away.filter(|&(_, steps)| is_stray(steps))
                    .map(|(record, steps)| Stray::new(record, generations_on(base, steps))),
            );
            all.try_reserve(1).ok()?;
            all.insert(chunk.first, strays.into());
        }
        Some(generations_on(base, common) as u32)
    }

    /// Writes what was kept into the records of `chunk`, which are about to be populated.
    pub(super) fn restore(&self, chunk: Chunk<'_, Page>) {
        if chunk.kept != 0 {
            chunk.elements.iter().for_each(|page| page.resume(chunk.kept.into()));
        }
        for stray in self.0.lock().get(&chunk.first).iter().flat_map(|strays| strays.iter()) {
            chunk.elements[stray.record()].resume(stray.generation());
        }
    }

    /// Bytes that places out of the common way take.
    pub(super) fn bytes(&self) -> u64 {
        self.0.lock().values().map(|strays| size_of_val(&**strays) as u64).sum()
    }
}

/// The lowest of the `sorted` numbers such that as many as possible are at most [`WINDOW`] - 1 below it, and how many these
/// are; 0 if there are none.
fn most_in_a_window(sorted: &[u16]) -> (u64, usize) {
    let (mut from, mut best) = (0, (0, 0));
    for (to, &steps) in sorted.iter().enumerate() {
        while u64::from(steps - sorted[from]) >= WINDOW {
            from += 1;
        }
        if to + 1 - from > best.1 {
            best = (u64::from(steps), to + 1 - from);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Order;

    /// Lets each place of `pages` be used so often.
    fn section(pages: &[Page], uses: impl Fn(usize) -> usize) {
        for (record, page) in pages.iter().enumerate() {
            for _ in 0..uses(record) {
                page.init(Order::ZERO, 0);
                assert!(page.put().is_last(|| unreachable!("nobody waits")));
            }
        }
    }

    fn fresh() -> Vec<Page> {
        (0..512).map(|_| Page::absent()).collect()
    }

    /// Gives the section back and populates it again; the records then, and what was kept.
    fn again(generations: &Generations, pages: &[Page], kept: u32) -> (Vec<Page>, u32) {
        let kept = generations.keep(Chunk { first: 0, elements: pages, kept }).unwrap();
        let pages = fresh();
        generations.restore(Chunk { first: 0, elements: &pages, kept });
        (pages, kept)
    }

    #[test]
    fn no_place_goes_back_and_none_goes_far() {
        let generations = Generations::new();
        let cases: [fn(usize) -> usize; 5] = [
            |_| 1,
            |record| record % 7,
            |record| if record == 3 { 5000 } else { record % 2 },
            |record| record * 40,
            |record| if record % 2 == 0 { 3000 } else { 3030 },
        ];
        let (mut pages, mut kept) = (fresh(), 0);
        for round in 0..25 {
            let before: Vec<u64> = pages.iter().map(|page| page.state().generation()).collect();
            section(&pages, cases[round % cases.len()]);
            let used: Vec<u64> = pages.iter().map(|page| page.state().generation()).collect();
            let busiest = (0..512).map(|record| cases[round % cases.len()](record) as u64).max().unwrap();
            (pages, kept) = again(&generations, &pages, kept);
            for (record, page) in pages.iter().enumerate() {
                let further = generations_between(used[record], page.state().generation());
                assert!(!page.state().is_live());
                let all = generations_between(before[record], page.state().generation());
                assert!(all <= busiest, "round {round}, place {record}: {all}");
                if used[record] != before[record] {
                    assert!(further < WINDOW, "round {round}, place {record}: {further}");
                }
            }
        }
        assert!(generations.bytes() <= 512 * 4);
    }

    #[test]
    fn a_section_used_evenly_costs_nothing() {
        let (generations, pages) = (Generations::new(), fresh());
        section(&pages, |record| 100 + record % 60);
        let (pages, kept) = again(&generations, &pages, 0);
        assert_eq!((generations.bytes(), kept != 0), (0, true));
        pages.iter().for_each(|page| assert_eq!(page.state().generation(), u64::from(kept)));
    }

    #[test]
    fn what_was_never_used_begins_as_ever() {
        let generations = Generations::new();
        let (pages, kept) = again(&generations, &fresh(), 0);
        assert_eq!((kept, pages[7].state().bits()), (0, 0));
    }
}
