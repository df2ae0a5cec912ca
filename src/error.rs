//! The errors of every operation: small, without strings, with the numbers that the caller needs to act.
#![forbid(unsafe_code)]

use core::error::Error;
use core::fmt;

use crate::device::{Device, RangeHandle};
use crate::folio::Folio;
use crate::free_map::ClaimError;
use crate::geometry::{MAX_PAGES_LIMIT, MAX_REFS};
use crate::sparse::{NoMemory, ReserveError};
use crate::words::{LeafKind, Offset, OffsetRange, Order};

/// Why a [`Space`](crate::Space) could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpaceError {
    /// Zero pages were asked for.
    ZeroPages,
    /// More pages than offsets exist.
    TooManyPages {
        /// Pages asked for.
        requested: u64,
        /// Pages that a space can have.
        limit: u64,
    },
    /// The system refused the address space for the metadata. A smaller
    /// [`max_pages`](crate::SpaceBuilder::max_pages) needs less.
    AddressSpace {
        /// Bytes of address space that one array of metadata needs.
        bytes: u64,
        /// The system's error number; 0 where there was none.
        os_error: i32,
    },
    /// No memory for what describes the space itself.
    NoMemory {
        /// Bytes that were wanted.
        bytes: u64,
    },
}

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SpaceError::ZeroPages => f.write_str("a space needs at least one page"),
            SpaceError::TooManyPages { requested, limit } => {
                write!(f, "{requested} pages were asked for, and a space has at most {limit}")
            }
            SpaceError::AddressSpace { bytes, os_error } => write!(
                f,
                "{bytes} bytes of address space were refused (error {os_error}): raise the limit on address space \
                 (RLIMIT_AS, vm.overcommit_memory) or ask for fewer `max_pages`"
            ),
            SpaceError::NoMemory { bytes } => write!(f, "no memory for {bytes} bytes of a space"),
        }
    }
}

impl Error for SpaceError {}

impl From<ReserveError> for SpaceError {
    fn from(error: ReserveError) -> SpaceError {
        SpaceError::AddressSpace { bytes: error.bytes, os_error: error.os_error }
    }
}

impl From<NoMemory> for SpaceError {
    fn from(error: NoMemory) -> SpaceError {
        SpaceError::NoMemory { bytes: error.bytes }
    }
}

impl SpaceError {
    pub(crate) fn too_many(requested: u64) -> SpaceError {
        SpaceError::TooManyPages { requested, limit: MAX_PAGES_LIMIT }
    }
}

/// Why a device could not be registered. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// A device of zero pages.
    ZeroPages,
    /// No run of free offsets is long enough, at the alignment that the device needs. Unregistering a device, or a
    /// space with more `max_pages`, may help.
    NoSpace {
        /// Pages asked for.
        requested: u64,
        /// Pages of the space that belong to no device.
        free: u64,
        /// Pages of the largest device that could be registered now.
        largest: u64,
    },
    /// As many devices are registered as a space can number.
    TooManyDevices {
        /// That many.
        limit: u64,
    },
    /// No memory for the metadata that registering needs.
    NoMemory {
        /// Bytes that were wanted.
        bytes: u64,
    },
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            RegisterError::ZeroPages => f.write_str("a device needs at least one page"),
            RegisterError::NoSpace { requested, free, largest } => write!(
                f,
                "no room for a device of {requested} pages: {free} pages of the space are free, and the largest device \
                 that fits has {largest}"
            ),
            RegisterError::TooManyDevices { limit } => {
                write!(f, "{limit} devices are registered, the most there can be")
            }
            RegisterError::NoMemory { bytes } => write!(f, "no memory for {bytes} bytes of metadata"),
        }
    }
}

impl Error for RegisterError {}

impl From<NoMemory> for RegisterError {
    fn from(error: NoMemory) -> RegisterError {
        RegisterError::NoMemory { bytes: error.bytes }
    }
}

/// Why nothing was allocated. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocError {
    /// Fewer pages are free than asked for. A put may help.
    Exhausted {
        /// Pages asked for.
        requested: u64,
        /// Pages that were free.
        free: u64,
    },
    /// Enough pages are free, but not in one run. A smaller order may help. While others allocate and free without
    /// pause, this is what a search of bounded length has seen; `Exhausted` is exact even then.
    Fragmented {
        /// Pages asked for, in one run.
        requested: u64,
        /// Pages that were free.
        free: u64,
        /// Pages of the largest folio, or range if one was asked for, that could have been allocated.
        largest: u64,
    },
    /// The device was killed. Trying again cannot help.
    Dying,
    /// No memory for metadata. Freeing memory of the process may help.
    NoMemory,
    /// The device has fewer pages than one folio of the order, or than the range. Trying again cannot help.
    TooLarge,
    /// A range of no pages, or one whose alignment is not a power of two. Trying again cannot help.
    BadRange {
        /// Pages asked for.
        nr_pages: u64,
        /// Alignment asked for, in pages.
        align: u64,
    },
    /// A range that fits nowhere in its window, or in the part of the window that lies in the device; or a fixed place
    /// that is not aligned as asked for. Trying again cannot help.
    OutsideWindow {
        /// Pages asked for.
        nr_pages: u64,
        /// Alignment asked for, in pages.
        align: u64,
    },
}

impl AllocError {
    pub(crate) fn from_claim(error: ClaimError, requested: u64) -> AllocError {
        match error {
            ClaimError::Exhausted { free } => AllocError::Exhausted { requested, free },
            ClaimError::Contended { free, largest } | ClaimError::Fragmented { free, largest } if free >= requested => {
                AllocError::Fragmented { requested, free, largest }
            }
            ClaimError::Contended { free, .. } => AllocError::Exhausted { requested, free },
            ClaimError::Fragmented { free, largest } => AllocError::Fragmented { requested, free, largest },
            ClaimError::NoMemory(error) => error.into(),
        }
    }
}

impl AllocError {
    /// The same for a request of `requested` pages of which `claimed` had been had when it failed.
    pub(crate) fn with_claimed(self, all: u64, claimed: u64) -> AllocError {
        match self {
            AllocError::Exhausted { free, .. } => AllocError::Exhausted { requested: all, free: free + claimed },
            // Without the pages that this request itself held, it may have been enough, or plainly not.
            AllocError::Fragmented { free, largest, .. } if free + claimed >= all => {
                AllocError::Fragmented { requested: all, free: free + claimed, largest }
            }
            AllocError::Fragmented { free, .. } => AllocError::Exhausted { requested: all, free: free + claimed },
            other => other,
        }
    }
}

impl From<NoMemory> for AllocError {
    fn from(_: NoMemory) -> AllocError {
        AllocError::NoMemory
    }
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            AllocError::Exhausted { requested, free } => {
                write!(f, "{requested} pages were asked for, and only {free} are free")
            }
            AllocError::Fragmented { requested, free, largest } => write!(
                f,
                "{requested} pages in one run were asked for; of {free} free pages, the largest folio could have {largest}"
            ),
            AllocError::Dying => f.write_str("the device was killed"),
            AllocError::NoMemory => f.write_str("no memory for metadata"),
            AllocError::TooLarge => f.write_str("the device has fewer pages than that"),
            AllocError::BadRange { nr_pages, align } => {
                write!(f, "a range of {nr_pages} pages, aligned to {align}: at least 1, and a power of two, are needed")
            }
            AllocError::OutsideWindow { nr_pages, align } => write!(
                f,
                "a range of {nr_pages} pages, aligned to {align}, fits nowhere in the part of its window that is the device's"
            ),
        }
    }
}

impl Error for AllocError {}

/// Why a leaf's reference was not moved into a handle. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TakeError {
    /// The leaf names no device page.
    WrongKind {
        /// What it is.
        kind: LeafKind,
    },
    /// The leaf names an offset that the space does not have: it comes from another space.
    OutOfRange {
        /// That offset, in pages.
        offset: u64,
        /// Offsets of this space are below it.
        max_pages: u64,
    },
    /// The folio that the leaf named has been freed.
    Stale {
        /// The offset that the leaf names, in pages.
        offset: u64,
    },
    /// The folio lives, but no leaf owns a reference of it any more: the leaf was taken before, through a copy.
    NotMapped {
        /// The offset that the leaf names, in pages.
        offset: u64,
        /// References of the folio, all of handles.
        refs: u32,
    },
    /// Somebody has frozen the folio, as migration and splitting do for a moment. Trying again helps, after
    /// [`Space::wait_unlocked`](crate::Space::wait_unlocked) where whoever freezes holds the folio's lock.
    Frozen {
        /// The offset that the leaf names, in pages.
        offset: u64,
    },
}

impl fmt::Display for TakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            TakeError::WrongKind { kind } => write!(f, "a {kind:?} leaf names no device page"),
            TakeError::OutOfRange { offset, max_pages } => {
                write!(f, "offset {offset:#x} is not of this space, which has {max_pages} pages")
            }
            TakeError::Stale { offset } => {
                write!(f, "the folio at offset {offset:#x} was freed since the leaf was made")
            }
            TakeError::NotMapped { offset, refs } => write!(
                f,
                "no leaf owns a reference of the folio at offset {offset:#x} (handles own {refs}): it was taken before"
            ),
            TakeError::Frozen { offset } => write!(f, "the folio at offset {offset:#x} is frozen for the moment"),
        }
    }
}

impl Error for TakeError {}

/// As many references are out as a folio can count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyRefs {
    /// That many.
    pub limit: u32,
}

impl fmt::Display for TooManyRefs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the folio has {} references, the most that it can count", self.limit)
    }
}

impl Error for TooManyRefs {}

impl TooManyRefs {
    pub(crate) const fn met() -> TooManyRefs {
        TooManyRefs { limit: MAX_REFS }
    }
}

/// Why a device is not drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DrainError {
    /// The device is alive: more pages may be allocated at any time. Kill it first.
    Alive {
        /// Pages in use.
        live_pages: u64,
    },
    /// Time ran out. Whoever holds the pages must put them.
    TimedOut {
        /// Pages in use.
        live_pages: u64,
    },
}

impl fmt::Display for DrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            DrainError::Alive { live_pages } => {
                write!(f, "the device is alive, with {live_pages} pages in use: kill it before draining it")
            }
            DrainError::TimedOut { live_pages } => write!(f, "{live_pages} pages are still in use"),
        }
    }
}

impl Error for DrainError {}

/// Why a device was not unregistered. Nothing has changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum UnregisterError<'s> {
    /// Pages of it are in use. A device that was alive still is.
    Busy {
        /// How many.
        live_pages: u64,
        /// The device, to try again.
        device: Device<'s>,
    },
    /// It was unregistered before, through another handle.
    Gone,
}

impl fmt::Display for UnregisterError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UnregisterError::Busy { live_pages, device } => {
                write!(f, "{live_pages} pages of device \"{}\" are in use", device.name())
            }
            UnregisterError::Gone => f.write_str("the device was unregistered before"),
        }
    }
}

impl Error for UnregisterError<'_> {}

/// Why blocks of a device were not closed for an eviction. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvictError {
    /// The range is empty, or has pages that the device has not. Trying again cannot help.
    OutsideDevice {
        /// The range that was asked for.
        range: OffsetRange,
        /// The device's.
        device: OffsetRange,
    },
    /// Another ticket has some of the blocks, until it ends.
    Overlaps {
        /// That ticket's range.
        range: OffsetRange,
    },
    /// No memory for the words of the blocks. Freeing memory of the process may help.
    NoMemory {
        /// Bytes that were wanted.
        bytes: u64,
    },
    /// The device was unregistered.
    Gone,
}

impl fmt::Display for EvictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EvictError::OutsideDevice { range, device } => {
                write!(f, "the pages {range} are none, or not all of the device's, which are {device}")
            }
            EvictError::Overlaps { range } => write!(f, "another eviction has closed {range}"),
            EvictError::NoMemory { bytes } => write!(f, "no memory for {bytes} bytes of a closed range"),
            EvictError::Gone => f.write_str("the device was unregistered before"),
        }
    }
}

impl Error for EvictError {}

/// Why a range was not divided. It is as it was, and given back.
#[derive(Debug)]
#[non_exhaustive]
pub enum SplitRangeError<'s> {
    /// The page number is 0, or not in the range: one part would be empty.
    OutOfRange {
        /// The page number in the range.
        index: u64,
        /// The range.
        range: RangeHandle<'s>,
    },
    /// Others have references of the folio in which the range was to be divided. When they have put them, it can be.
    Busy {
        /// The folio's first page.
        offset: Offset,
        /// References beyond the range's own.
        extra_refs: u32,
        /// How many of them leaf words own.
        maps: u32,
        /// The range.
        range: RangeHandle<'s>,
    },
    /// No memory for the metadata of the parts.
    NoMemory {
        /// The range.
        range: RangeHandle<'s>,
    },
}

impl fmt::Display for SplitRangeError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SplitRangeError::OutOfRange { index, range } => {
                write!(f, "a range of {} pages cannot be divided before its page {index}", range.nr_pages())
            }
            SplitRangeError::Busy { offset, extra_refs, maps, .. } => write!(
                f,
                "the folio at {:#x} has {extra_refs} more references, {maps} of them of leaf words",
                offset.get()
            ),
            SplitRangeError::NoMemory { .. } => f.write_str("no memory for metadata"),
        }
    }
}

impl Error for SplitRangeError<'_> {}

/// Why a folio was not split. It is as it was, and given back.
#[derive(Debug)]
#[non_exhaustive]
pub enum SplitError<'s> {
    /// The parts would not be smaller. Trying again cannot help.
    OrderNotSmaller {
        /// The order that was asked for.
        requested: Order,
        /// The folio, of that order or a smaller one.
        folio: Folio<'s>,
    },
    /// The folio has no such page. Trying again cannot help.
    OutOfRange {
        /// The number of the page, from the folio's first on.
        index: u64,
        /// The folio.
        folio: Folio<'s>,
    },
    /// Others have references. When they have put them, it can be split.
    Busy {
        /// References beyond the handle's own.
        extra_refs: u32,
        /// How many of them leaf words own.
        maps: u32,
        /// The folio.
        folio: Folio<'s>,
    },
    /// No memory for the metadata of the parts. Freeing memory of the process may help.
    NoMemory {
        /// Bytes that were wanted.
        bytes: u64,
        /// The folio.
        folio: Folio<'s>,
    },
}

impl<'s> SplitError<'s> {
    /// The folio, whatever the reason.
    pub fn into_folio(self) -> Folio<'s> {
        match self {
            SplitError::OrderNotSmaller { folio, .. }
            | SplitError::OutOfRange { folio, .. }
            | SplitError::Busy { folio, .. }
            | SplitError::NoMemory { folio, .. } => folio,
        }
    }
}

impl fmt::Display for SplitError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SplitError::OrderNotSmaller { requested, folio } => {
                write!(f, "a folio of order {} has no parts of order {requested}", folio.order())
            }
            SplitError::OutOfRange { index, folio } => {
                write!(f, "a folio of {} pages has no page {index}", folio.nr_pages())
            }
            SplitError::Busy { extra_refs, maps, folio } => write!(
                f,
                "the folio at {:#x} has {extra_refs} more references, {maps} of them of leaf words",
                folio.offset().get()
            ),
            SplitError::NoMemory { bytes, .. } => write!(f, "no memory for {bytes} bytes of metadata"),
        }
    }
}

impl Error for SplitError<'_> {}

/// Why pages of a folio were not given up. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GiveUpError {
    /// The folio has fewer pages, or the range ends before it begins. Trying again cannot help.
    OutOfRange {
        /// The number of the first page.
        start: u64,
        /// The number of the page after the last.
        end: u64,
        /// How many pages the folio has.
        nr_pages: u64,
    },
    /// No memory to remember it. Freeing memory of the process may help.
    NoMemory {
        /// Bytes that were wanted.
        bytes: u64,
    },
}

impl fmt::Display for GiveUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            GiveUpError::OutOfRange { start, end, nr_pages } => {
                write!(f, "pages {start}..{end} are not all in a folio of {nr_pages} pages")
            }
            GiveUpError::NoMemory { bytes } => write!(f, "no memory for {bytes} bytes"),
        }
    }
}

impl Error for GiveUpError {}

impl From<NoMemory> for GiveUpError {
    fn from(error: NoMemory) -> GiveUpError {
        GiveUpError::NoMemory { bytes: error.bytes }
    }
}

const _: () = assert!(size_of::<AllocError>() <= 32, "an allocation's error is a few registers");
