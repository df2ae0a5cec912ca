//! Runs of any length: where one is taken, and how it is taken and given back, piece by piece.
//!
//! A span is made of the largest naturally aligned folios that it has room for: whole blocks by their use words, and the
//! rest by bits, in blocks where orders mix.
#![forbid(unsafe_code)]

use core::ops::{ControlFlow, Range};

use super::exact::{Census, Request};
use super::runs::{Among, end_of_run, for_each_run, start_of_run};
use super::{ClaimError, Claimer, FreeMap, GivenUp};
use crate::geometry::{BLOCK_SHIFT, PAGES_PER_BLOCK, block_of};
use crate::seat::{SpanHint, SpanHints};
use crate::sparse::NoMemory;
use crate::words::Order;

/// How far a look at a run reaches in each direction, if no longer one is asked for.
const REACH: u64 = 8 * PAGES_PER_BLOCK;

/// How many hints a claim looks at before it scans.
const HINTS_AT_MOST: usize = 64;

/// What is asked for: so many pages in one run, and where.
#[derive(Clone)]
pub(crate) struct Span<'a> {
    pub(crate) nr_pages: u64,
    /// A power of two.
    pub(crate) align: u64,
    /// Pages of the device in which it must lie.
    pub(crate) window: Range<u64>,
    /// Whether the highest place is wanted, or any.
    pub(crate) place: Placement,
    /// Told which pages are about to be claimed, so that what else belongs to them can be on its way.
    pub(crate) soon: &'a dyn Fn(Range<u64>),
}

/// Which of several places is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    /// Whichever is found soonest.
    Any,
    Lowest,
    Highest,
}

/// The folios of a span: at each page the largest that begins there and fits.
pub(crate) fn folios_of(span: Range<u64>) -> impl Iterator<Item = (u64, Order)> + Clone {
    let mut at = span.start;
    core::iter::from_fn(move || {
        let left = span.end.checked_sub(at).filter(|&left| left > 0)?;
        let order = (at.trailing_zeros().min(left.ilog2()) as u8).min(Order::MAX.get());
        let (start, order) = (at, Order::new(order).unwrap_or(Order::ZERO));
        at += order.nr_pages();
        Some((start, order))
    })
}

/// The parts of a span that lie in one block each, or are a run of whole blocks for one folio.
fn parts_of(span: Range<u64>) -> impl Iterator<Item = Part> {
    let mut at = span.start;
    core::iter::from_fn(move || {
        let (start, left) = (at, span.end.checked_sub(at).filter(|&left| left > 0)?);
        let to_border = PAGES_PER_BLOCK - start % PAGES_PER_BLOCK;
        if to_border < PAGES_PER_BLOCK || left < PAGES_PER_BLOCK {
            at += to_border.min(left);
            return Some(Part::Pages(start..at));
        }
        let (_, order) = folios_of(start..span.end).next()?;
        at += order.nr_pages();
        Some(Part::Blocks(block_of(start), order))
    })
}

enum Part {
    Pages(Range<u64>),
    Blocks(u64, Order),
}

impl Span<'_> {
    /// Where in the free run `run` it would lie.
    fn fit(&self, run: &Range<u64>) -> Option<u64> {
        let (from, to) = (run.start.max(self.window.start), run.end.min(self.window.end));
        let room = to.checked_sub(self.nr_pages)?;
        let start = match self.place {
            Placement::Highest => room & !(self.align - 1),
            _ => from.checked_next_multiple_of(self.align)?,
        };
        (from <= start && start <= room).then_some(start)
    }

    fn is_anywhere(&self, map: &FreeMap) -> bool {
        self.place == Placement::Any && self.align == 1 && self.window == map.pages()
    }
}

impl FreeMap {
    /// The pages of the range.
    pub(crate) fn pages(&self) -> Range<u64> {
        let start = self.range.start().get();
        start..start + self.range.nr_pages()
    }

    /// Takes a run of pages and returns its first. Lock-free; exact as [`FreeMap::claim`].
    pub(crate) fn claim_span(&self, claimer: Claimer<'_>, span: &Span<'_>) -> Result<u64, ClaimError> {
        self.claim_request(claimer, span)
    }

    /// Takes the pages of `span`, all or none, in ascending order.
    fn claim_span_at(&self, claimer: Claimer<'_>, span: Range<u64>, given_up: &GivenUp) -> Result<bool, NoMemory> {
        for part in parts_of(span.clone()) {
            let (claimed, start) = match part {
                Part::Pages(pages) => {
                    let (block, within) = (block_of(pages.start), pages.start % PAGES_PER_BLOCK);
                    let nr_pages = pages.end - pages.start;
                    (claimer.blocks.claim_span_in(block, within, nr_pages, given_up), pages.start)
                }
                Part::Blocks(block, order) => {
                    let claimed = claimer.blocks.claim_whole(block, order, given_up);
                    (claimed.map(|page| page.is_some()), block << BLOCK_SHIFT)
                }
            };
            if !matches!(claimed, Ok(true)) {
                claimer.blocks.give_up(span.start..start, given_up);
                return claimed;
            }
        }
        Ok(true)
    }

    /// Gives pages back that were taken as spans, or as folios of any orders. As [`FreeMap::release`].
    pub(crate) fn release_span(&self, claimer: Claimer<'_>, span: Range<u64>) -> u64 {
        let vacancies = claimer.blocks.release_pages(span.clone());
        if let Some(hints) = claimer.seat.spans_if_any() {
            let run = self.run_around(claimer, span.clone(), REACH);
            hints.push(span.start, run.end - run.start);
        }
        self.note_release(claimer.blocks, claimer.seat, span);
        vacancies
    }

    /// A run where the seat has seen one, or where a scan of blocks that orders share meets one.
    fn search_span(
        &self,
        claimer: Claimer<'_>,
        hints: &SpanHints,
        span: &Span<'_>,
        given_up: &GivenUp,
    ) -> Result<Option<u64>, NoMemory> {
        let nr_pages = span.nr_pages;
        for _ in 0..HINTS_AT_MOST {
            let Some(hint) = hints.pop(nr_pages) else { break };
            if let Some(start) = self.claim_hinted(claimer, hints, hint, span, given_up)? {
                return Ok(Some(start));
            }
        }
        if let Some(hint) = hints.pop_alike(nr_pages) {
            if let Some(start) = self.claim_hinted(claimer, hints, hint, span, given_up)? {
                return Ok(Some(start));
            }
        }
        let (pages, cursor) = (self.pages(), hints.cursor());
        for part in [cursor..pages.end, pages.start..cursor] {
            let mut found = Ok(None);
            let _ = for_each_run(claimer.blocks, part, Among::Mixed, |run| {
                let length = run.end - run.start;
                if length < nr_pages {
                    hints.push(run.start, length);
                    return ControlFlow::Continue(());
                }
                hints.set_cursor((run.start + nr_pages).min(run.end));
                found = self.claim_seen(claimer, hints, run, span, given_up);
                if matches!(found, Ok(None)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            if !matches!(found, Ok(None)) {
                return found;
            }
        }
        Ok(None)
    }

    /// The free run that `span`, free itself, is part of, as far as a look reaches.
    fn run_around(&self, claimer: Claimer<'_>, span: Range<u64>, reach: u64) -> Range<u64> {
        let pages = self.pages();
        let first = span.start.saturating_sub(reach).max(pages.start);
        let end = (span.end + reach).min(pages.end);
        start_of_run(claimer.blocks, span.start, first)..end_of_run(claimer.blocks, span.end, end)
    }

    /// Takes the pages of `span` from the run that `hint` names, if it has them and is not a longer one by now.
    fn claim_hinted(
        &self,
        claimer: Claimer<'_>,
        hints: &SpanHints,
        hint: SpanHint,
        span: &Span<'_>,
        given_up: &GivenUp,
    ) -> Result<Option<u64>, NoMemory> {
        let run = self.run_around(claimer, hint.page..hint.page, span.nr_pages.max(REACH));
        let seen = run.end - run.start;
        if hint.has_grown(seen) {
            return Ok(None);
        }
        if seen < span.nr_pages {
            hints.push(hint.page, seen);
            return Ok(None);
        }
        self.claim_seen(claimer, hints, run, span, given_up)
    }

    /// Takes the pages of `span` at the beginning of `run`, which has them, and remembers what is left of it.
    fn claim_seen(
        &self,
        claimer: Claimer<'_>,
        hints: &SpanHints,
        run: Range<u64>,
        span: &Span<'_>,
        given_up: &GivenUp,
    ) -> Result<Option<u64>, NoMemory> {
        let end = run.start + span.nr_pages;
        (span.soon)(run.start..end);
        let claimed = self.claim_span_at(claimer, run.start..end, given_up)?;
        if claimed {
            hints.push(end, run.end - end);
        }
        Ok(claimed.then_some(run.start))
    }
}

impl Request for Span<'_> {
    fn nr_pages(&self) -> u64 {
        self.nr_pages
    }

    fn by_hints(&self, map: &FreeMap, claimer: Claimer<'_>, given_up: &GivenUp) -> Result<Option<u64>, NoMemory> {
        if self.is_anywhere(map) {
            if let Some(hints) = claimer.seat.spans(map.pages()) {
                return map.search_span(claimer, hints, self, given_up);
            }
        }
        if self.place != Placement::Any {
            // What caches keep may lie lower, or higher: only the exact search empties them.
            return Ok(None);
        }
        match self.look(map, claimer).room {
            Some(start) => self.attempt(map, claimer, start, given_up),
            None => Ok(None),
        }
    }

    fn attempt(
        &self,
        map: &FreeMap,
        claimer: Claimer<'_>,
        start: u64,
        given_up: &GivenUp,
    ) -> Result<Option<u64>, NoMemory> {
        let claimed = map.claim_span_at(claimer, start..start + self.nr_pages, given_up)?;
        Ok(claimed.then_some(start))
    }

    /// Free pages are counted in the whole device, wherever the span may lie.
    fn look(&self, map: &FreeMap, claimer: Claimer<'_>) -> Census {
        let mut census = Census::default();
        let _ = for_each_run(claimer.blocks, map.pages(), Among::All, |run| {
            if let Some(start) = self.fit(&run) {
                census.room = Some(start);
                if self.place != Placement::Highest {
                    return ControlFlow::Break(());
                }
            }
            census.free += run.end - run.start;
            census.largest = census.largest.max(run.end - run.start);
            ControlFlow::Continue(())
        });
        census
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_the_largest_folios_that_fit() {
        for (start, end) in [(0, 1), (3, 17), (511, 1537), (512, 1024), (100, 5000), (0, (1 << 19) + 3)] {
            let mut at = start;
            for (page, order) in folios_of(start..end) {
                assert_eq!((page, order.align_down(page)), (at, page));
                at += order.nr_pages();
            }
            assert_eq!(at, end);
            let parts: u64 = parts_of(start..end)
                .map(|part| match part {
                    Part::Pages(pages) => {
                        assert_eq!(block_of(pages.start), block_of(pages.end - 1));
                        assert!(pages.end - pages.start < PAGES_PER_BLOCK);
                        pages.end - pages.start
                    }
                    Part::Blocks(_, order) => order.nr_pages(),
                })
                .sum();
            assert_eq!(parts, end - start);
        }
        assert_eq!(folios_of(3..17).map(|(_, order)| order.get()).collect::<Vec<_>>(), [0, 2, 3, 0]);
    }
}
