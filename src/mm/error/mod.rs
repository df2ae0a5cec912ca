//! The errors of the operations on address spaces: small, without strings, with the numbers that the caller needs.
#![forbid(unsafe_code)]

mod device;

use core::error::Error;
use core::fmt;

pub use device::{DestinationError, ExclusiveError, RangeError, SetupError};

use super::address::Address;
use crate::error::{AllocError, TooManyRefs};
use crate::sparse::ReserveError;
use crate::words::LeafKind;

/// Why there is no table for a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TableError {
    NoMemory,
    TooManyTables { limit: u32 },
}

/// Why an address space, or the machine it is of, could not be made. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MachineError {
    /// The system refused address space for what the machine knows of each folio. A space with fewer
    /// [`max_pages`](crate::SpaceBuilder::max_pages) needs less.
    AddressSpace {
        /// Bytes of address space that were wanted.
        bytes: u64,
        /// The system's error number; 0 where there was none.
        os_error: i32,
    },
    /// No host page is left for the zero page.
    HostMemory(AllocError),
    /// Host pages and device pages must be of two different spaces.
    SameSpace,
    /// No memory for tables.
    NoMemory,
}

impl fmt::Display for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            MachineError::AddressSpace { bytes, os_error } => {
                write!(f, "{bytes} bytes of address space were refused (error {os_error})")
            }
            MachineError::HostMemory(error) => write!(f, "no host page for the zero page: {error}"),
            MachineError::SameSpace => f.write_str("host memory and device memory are in one space"),
            MachineError::NoMemory => f.write_str("no memory for page tables"),
        }
    }
}

impl Error for MachineError {}

impl From<ReserveError> for MachineError {
    fn from(error: ReserveError) -> MachineError {
        MachineError::AddressSpace { bytes: error.bytes, os_error: error.os_error }
    }
}

impl From<TableError> for MachineError {
    fn from(_: TableError) -> MachineError {
        MachineError::NoMemory
    }
}

/// Why a mapping was not made or changed. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VmaError {
    /// Nothing is mapped at an address of the range. Linux: `-ENOMEM`, `-EFAULT`.
    NotMapped {
        /// The first such address.
        address: Address,
    },
    /// Something is mapped at an address of the range already.
    Overlap {
        /// The first such address.
        address: Address,
    },
    /// The range would end beyond the address space, or where it must not lie.
    OutOfRange,
    /// The mapping is not of the kind that the operation is for.
    WrongBacking {
        /// Where.
        address: Address,
    },
    /// No memory for page tables, or more of them than an address space can have.
    NoMemory,
    /// A folio would have more references than it can count. Linux has the same limit, and does not check it.
    TooManyRefs {
        /// The most that it can count.
        limit: u32,
    },
    /// No host page for what was to be put in.
    HostMemory(AllocError),
}

impl fmt::Display for VmaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            VmaError::NotMapped { address } => write!(f, "nothing is mapped at {address}"),
            VmaError::Overlap { address } => write!(f, "something is mapped at {address}"),
            VmaError::OutOfRange => f.write_str("the range is not of this address space"),
            VmaError::WrongBacking { address } => write!(f, "the mapping at {address} is of another kind"),
            VmaError::NoMemory => f.write_str("no memory for page tables"),
            VmaError::TooManyRefs { limit } => write!(f, "a folio has {limit} references, the most that it can count"),
            VmaError::HostMemory(error) => write!(f, "no host page: {error}"),
        }
    }
}

impl Error for VmaError {}

impl From<TableError> for VmaError {
    fn from(_: TableError) -> VmaError {
        VmaError::NoMemory
    }
}

impl From<TooManyRefs> for VmaError {
    fn from(error: TooManyRefs) -> VmaError {
        VmaError::TooManyRefs { limit: error.limit }
    }
}

/// Why an access to an address was not made possible. Nothing is lost: the page is where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultError {
    /// Nothing is mapped there. Linux: `SIGSEGV`, `SEGV_MAPERR`.
    NotMapped {
        /// Where.
        address: Address,
    },
    /// The mapping does not allow it. Linux: `SIGSEGV`, `SEGV_ACCERR`.
    Protected {
        /// Where.
        address: Address,
    },
    /// A write of a page with the write-protect mark. Whoever set the mark clears it
    /// ([`AddressSpace::write_protect`](crate::AddressSpace::write_protect)) when the write may go on. Linux:
    /// a userfaultfd write-protect event.
    WriteProtected {
        /// Where.
        address: Address,
    },
    /// The page is on a device, and its driver could not bring it home. Linux: `SIGBUS`.
    Device {
        /// Where.
        address: Address,
        /// What the driver says.
        error: DriverError,
    },
    /// The page is on a device, its driver says that it has brought it home, and it has not, several times over.
    NotMoved {
        /// Where.
        address: Address,
        /// How often.
        attempts: u32,
    },
    /// The page is on a device without a driver.
    NoDriver {
        /// Where.
        address: Address,
    },
    /// Host memory has no page left. Linux: `VM_FAULT_OOM`.
    HostMemory(AllocError),
    /// No memory for page tables.
    NoMemory,
    /// The page's content is lost, or the leaf is one that nobody can serve a fault of. Linux: `VM_FAULT_HWPOISON`.
    Unserved {
        /// Where.
        address: Address,
        /// What stands there.
        kind: LeafKind,
    },
    /// A folio would have more references than it can count.
    TooManyRefs {
        /// The most that it can count.
        limit: u32,
    },
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            FaultError::NotMapped { address } => write!(f, "nothing is mapped at {address}"),
            FaultError::Protected { address } => write!(f, "the mapping at {address} does not allow the access"),
            FaultError::WriteProtected { address } => write!(f, "the page at {address} has the write-protect mark"),
            FaultError::Device { address, error } => write!(f, "the page at {address} cannot come home: {error}"),
            FaultError::NotMoved { address, attempts } => {
                write!(f, "the driver did not move the page at {address} in {attempts} attempts")
            }
            FaultError::NoDriver { address } => write!(f, "the device of the page at {address} has no driver"),
            FaultError::HostMemory(error) => write!(f, "no host page: {error}"),
            FaultError::NoMemory => f.write_str("no memory for page tables"),
            FaultError::Unserved { address, kind } => write!(f, "a {kind:?} leaf at {address} cannot be served"),
            FaultError::TooManyRefs { limit } => write!(f, "a folio has {limit} references, the most it can count"),
        }
    }
}

impl Error for FaultError {}

impl From<TableError> for FaultError {
    fn from(_: TableError) -> FaultError {
        FaultError::NoMemory
    }
}

impl From<TooManyRefs> for FaultError {
    fn from(error: TooManyRefs) -> FaultError {
        FaultError::TooManyRefs { limit: error.limit }
    }
}

impl From<AllocError> for FaultError {
    fn from(error: AllocError) -> FaultError {
        FaultError::HostMemory(error)
    }
}

/// A driver's own error number, handed on to whoever faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DriverError {
    /// Whatever the driver says.
    pub code: i32,
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {} of the driver", self.code)
    }
}

impl Error for DriverError {}

/// Why bytes were not read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError {
    /// Bytes that were, before it.
    pub done: u64,
    /// Why no more.
    pub fault: FaultError,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} bytes: {}", self.done, self.fault)
    }
}

impl Error for AccessError {}
