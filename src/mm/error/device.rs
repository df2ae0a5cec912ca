//! The errors of what devices do: migrate, mirror, take pages for themselves.
#![forbid(unsafe_code)]

use core::error::Error;
use core::fmt;

use super::FaultError;
use crate::mm::address::{Address, AddressRange};

/// Why a migration was not begun. Nothing has changed. Linux: the errors of `migrate_vma_setup()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupError {
    /// The range is not within one mapping.
    NotMapped {
        /// The first address that is not.
        address: Address,
    },
    /// The mapping allows no access.
    Protected {
        /// The range.
        range: AddressRange,
    },
    /// The mapping is of pages that do not move: hugetlb, or put in by a driver.
    Special {
        /// The range.
        range: AddressRange,
    },
    /// The fault's page is not in the range.
    FaultOutside,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SetupError::NotMapped { address } => write!(f, "the mapping does not go on at {address}"),
            SetupError::Protected { range } => write!(f, "the mapping of {range} allows no access"),
            SetupError::Special { range } => write!(f, "the pages of {range} do not move"),
            SetupError::FaultOutside => f.write_str("the page of the fault is not in the range"),
        }
    }
}

impl Error for SetupError {}

/// Why a page was not given a destination. The handle, if there is one, is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DestinationError {
    /// There is no such slot.
    OutOfRange {
        /// The slot.
        index: usize,
        /// How many there are.
        nr_slots: usize,
    },
    /// The slot was not collected, or was refused, so nothing moves there.
    NotMoving {
        /// The slot.
        index: usize,
    },
    /// The destination is larger than what moves, or not of order 0 or 9, or does not fit the slot.
    WrongOrder {
        /// The order of the destination.
        order: u8,
    },
    /// Somebody else has references of the destination, or its lock: it is not a fresh folio. A folio that is the source
    /// itself is refused so.
    NotFresh {
        /// Its references.
        refs: u32,
    },
    /// It is a folio of another machine's.
    Foreign,
    /// The pages have been moved.
    Late,
}

impl fmt::Display for DestinationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            DestinationError::OutOfRange { index, nr_slots } => write!(f, "slot {index} of {nr_slots}"),
            DestinationError::NotMoving { index } => write!(f, "nothing moves in slot {index}"),
            DestinationError::WrongOrder { order } => write!(f, "a folio of order {order} does not fit"),
            DestinationError::NotFresh { refs } => write!(f, "the destination is in use, with {refs} references"),
            DestinationError::Foreign => f.write_str("the destination is of another machine"),
            DestinationError::Late => f.write_str("the pages have been moved"),
        }
    }
}

impl Error for DestinationError {}

/// Why a device did not get a page for itself. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExclusiveError {
    /// The page is a file's, shared, or a driver's.
    NotAnonymous {
        /// Where.
        address: Address,
    },
    /// It cannot be faulted in.
    Fault(FaultError),
}

impl fmt::Display for ExclusiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExclusiveError::NotAnonymous { address } => write!(f, "the page at {address} is not anonymous"),
            ExclusiveError::Fault(fault) => fault.fmt(f),
        }
    }
}

impl Error for ExclusiveError {}

impl From<FaultError> for ExclusiveError {
    fn from(fault: FaultError) -> ExclusiveError {
        ExclusiveError::Fault(fault)
    }
}

/// Why a range was not answered for wholly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RangeError {
    /// Leaves of the interval have changed, or are changing: take a new number and ask again. Linux: `-EBUSY`.
    Busy,
    /// A page that was asked for cannot be had. Linux: `-EFAULT`, `-EPERM`.
    Fault(FaultError),
    /// There is not one entry for each page.
    WrongLength {
        /// Pages of the range.
        nr_pages: u64,
        /// Entries.
        nr_entries: usize,
    },
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RangeError::Busy => f.write_str("the range has changed meanwhile"),
            RangeError::Fault(fault) => fault.fmt(f),
            RangeError::WrongLength { nr_pages, nr_entries } => {
                write!(f, "{nr_entries} entries for a range of {nr_pages} pages")
            }
        }
    }
}

impl Error for RangeError {}

impl From<FaultError> for RangeError {
    fn from(fault: FaultError) -> RangeError {
        RangeError::Fault(fault)
    }
}
