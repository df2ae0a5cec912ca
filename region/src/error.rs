//! What can go wrong with a region, with the numbers in it: why, and what to do next.
//! Why userfaultfd is refused is a story of its own: [`UffdRefused`], in `uffd`.
//! Nothing below; everything above.
#![forbid(unsafe_code)]

use core::fmt;
use std::io;

use farpage::{AllocError, FaultError, MachineError, RegisterError, SpaceError, VmaError};

use crate::uffd::UffdRefused;

/// A system call that failed, and its error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OsError {
    call: &'static str,
    errno: i32,
}

impl OsError {
    /// The error that `call` has just left in `errno`.
    pub(crate) fn last(call: &'static str) -> OsError {
        let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
        OsError { call, errno }
    }

    pub(crate) const fn new(call: &'static str, errno: i32) -> OsError {
        OsError { call, errno }
    }

    /// The name of the call, with what it was asked where the name alone says too little.
    pub fn call(self) -> &'static str {
        self.call
    }

    /// The error number, as in `errno(3)`.
    pub fn errno(self) -> i32 {
        self.errno
    }
}

impl fmt::Display for OsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {}", self.call, io::Error::from_raw_os_error(self.errno))
    }
}

impl core::error::Error for OsError {}

/// Why a region could not be made, or could not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegionError {
    /// A region of no bytes was asked for, or of more than this machine can address.
    Size {
        /// The size asked for.
        bytes: u64,
    },
    /// The order is above 9: a run must fit in one page table of 512 entries.
    Order {
        /// The order asked for.
        order: u8,
    },
    /// The budget holds too few runs for every handler to make progress.
    Budget {
        /// The budget asked for.
        budget_bytes: u64,
        /// Bytes of one run: what one fault brings home.
        run_bytes: u64,
        /// Handlers that the region was to have.
        handlers: usize,
        /// The smallest budget that serves them.
        needed_bytes: u64,
    },
    /// The machine's pages are larger than a run.
    HostPage {
        /// Bytes of one page of this machine.
        page_bytes: u64,
        /// Bytes of one run.
        run_bytes: u64,
    },
    /// Real faults were asked for, and userfaultfd is refused here; the software way still works.
    Refused(UffdRefused),
    /// The operating system refused memory, a thread or a file.
    Os(OsError),
    /// The space refused the device.
    Register(RegisterError),
    /// The device gave no page to evict into. The region kept every byte, but not its budget.
    Device {
        /// What the device said.
        error: AllocError,
        /// Pages that the device has.
        device_pages: u64,
        /// Pages of it in use when it refused.
        live_pages: u64,
    },
    /// The space for the region's host pages could not be made.
    Space(SpaceError),
    /// The region's address space could not be made.
    Machine(MachineError),
    /// The region could not be mapped in its address space.
    Map(VmaError),
    /// The region's address space refused a fault.
    Fault(FaultError),
    /// Pages could not be moved to the device: somebody else has references of them, or memory is short.
    NotMoved {
        /// Pages that stayed, all of a batch with them.
        nr_pages: u64,
    },
    /// Pages of the device were still in use after every leaf of the region had been put: a bug.
    StillLive {
        /// Pages still in use.
        live_pages: u64,
    },
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            RegionError::Size { bytes } => {
                write!(f, "a region of {bytes} bytes cannot be mapped on this machine")
            }
            RegionError::Order { order } => {
                write!(f, "order {order} is too large: a run has at most order 9, 512 pages or 2 MiB")
            }
            RegionError::Budget { budget_bytes, run_bytes, handlers, needed_bytes } => write!(
                f,
                "a budget of {budget_bytes} bytes is {} runs of {run_bytes} bytes, but {handlers} \
                 handlers need {needed_bytes} bytes: give a larger budget, a smaller order or \
                 fewer threads",
                budget_bytes / run_bytes
            ),
            RegionError::HostPage { page_bytes, run_bytes } => write!(
                f,
                "a run of {run_bytes} bytes is smaller than this machine's page of {page_bytes} \
                 bytes: give a larger order"
            ),
            RegionError::Refused(refused) => refused.fmt(f),
            RegionError::Os(error) => error.fmt(f),
            RegionError::Register(error) => write!(f, "cannot register the device: {error}"),
            RegionError::Device { error, device_pages, live_pages } => {
                write!(f, "cannot evict, {live_pages} of the device's {device_pages} pages are in use: {error}")
            }
            RegionError::Space(error) => write!(f, "cannot make a space for the region's host pages: {error}"),
            RegionError::Machine(error) => write!(f, "cannot make the region's address space: {error}"),
            RegionError::Map(error) => write!(f, "cannot map the region in its address space: {error}"),
            RegionError::Fault(error) => write!(f, "cannot bring a page home: {error}"),
            RegionError::NotMoved { nr_pages } => write!(f, "cannot evict, {nr_pages} pages do not move"),
            RegionError::StillLive { live_pages } => {
                write!(f, "{live_pages} device pages are still in use although the region has put every leaf")
            }
        }
    }
}

impl core::error::Error for RegionError {}

impl From<UffdRefused> for RegionError {
    fn from(refused: UffdRefused) -> RegionError {
        RegionError::Refused(refused)
    }
}

impl From<OsError> for RegionError {
    fn from(error: OsError) -> RegionError {
        RegionError::Os(error)
    }
}

impl From<RegisterError> for RegionError {
    fn from(error: RegisterError) -> RegionError {
        RegionError::Register(error)
    }
}

impl From<MachineError> for RegionError {
    fn from(error: MachineError) -> RegionError {
        RegionError::Machine(error)
    }
}

impl From<VmaError> for RegionError {
    fn from(error: VmaError) -> RegionError {
        RegionError::Map(error)
    }
}

impl From<FaultError> for RegionError {
    fn from(error: FaultError) -> RegionError {
        RegionError::Fault(error)
    }
}

impl From<SpaceError> for RegionError {
    fn from(error: SpaceError) -> RegionError {
        RegionError::Space(error)
    }
}
