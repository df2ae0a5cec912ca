//! What a region is asked to be, and whether that can work: sizes in bytes in, runs out.
//! Nothing is mapped or registered here.
//! Below: `error`, `uffd` (only whether it is permitted). Above: `pager`.
#![forbid(unsafe_code)]

use std::thread;

use farpage::Order;

use crate::PAGE_BYTES;
use crate::error::RegionError;
use crate::mapping::host_page_bytes;
use crate::uffd::userfaultfd_available;

/// Resident runs that each handler is sure of.
///
/// With no more than these a handler evicts one run at a time and holds two page-table locks at
/// most, its fault's and its victim's; and one instruction of the thread that it serves may need
/// two runs at once, which must both stay until it has retired.
pub const RUNS_PER_HANDLER: u64 = 4;

/// Pages that one eviction takes at most, if they are adjacent and the budget is not tiny.
/// Most of an eviction is telling the other cores, and that is the same for one page and for all.
const MAX_BATCH_PAGES: u64 = 16;

/// The largest order of a run: one page table's worth of pages.
pub const MAX_RUN_ORDER: u8 = 9;

/// How a missing page is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// By the CPU, through userfaultfd: the region is ordinary memory.
    Faults,
    /// By asking the page table first: the region is read and written through its accessor.
    Software,
}

impl Mode {
    /// Real faults where this process may serve them, else the software way.
    pub fn available() -> Mode {
        match userfaultfd_available() {
            Ok(()) => Mode::Faults,
            Err(_) => Mode::Software,
        }
    }
}

/// What a region is to be. Sizes are in bytes.
#[derive(Clone, Debug)]
pub struct Config {
    bytes: u64,
    budget_bytes: u64,
    order: Order,
    handlers: usize,
    mode: Mode,
    device_bytes: Option<u64>,
}

impl Config {
    /// A region of `bytes`, of which `budget_bytes` may be in RAM.
    ///
    /// The size is rounded up to a whole run, the budget down. By default a run is one page,
    /// there is a handler a core, and faults are real where they may be.
    pub fn new(bytes: u64, budget_bytes: u64) -> Config {
        Config {
            bytes,
            budget_bytes,
            order: Order::ZERO,
            handlers: thread::available_parallelism().map_or(1, |cores| cores.get()),
            mode: Mode::available(),
            device_bytes: None,
        }
    }

    /// Sets the order of a run, 0 to 9: how many pages one fault brings home.
    pub fn order(self, order: Order) -> Config {
        Config { order, ..self }
    }

    /// Sets how many threads serve faults. The software way has none, but its budget is checked alike.
    pub fn handlers(self, handlers: usize) -> Config {
        Config { handlers, ..self }
    }

    /// Sets how missing pages are noticed.
    pub fn mode(self, mode: Mode) -> Config {
        Config { mode, ..self }
    }

    /// Sets the size of the device. By default all of the region fits in it, so eviction cannot
    /// fail for want of a page.
    pub fn device_bytes(self, bytes: u64) -> Config {
        Config { device_bytes: Some(bytes), ..self }
    }

    /// The smallest budget that serves `handlers` handlers with runs of `order`.
    pub fn min_budget_bytes(order: Order, handlers: usize) -> u64 {
        (handlers as u64).saturating_mul(RUNS_PER_HANDLER).saturating_mul(order.nr_pages() * PAGE_BYTES)
    }

    /// Whether a region could be made so; finds out without making one.
    ///
    /// # Errors
    ///
    /// What is wrong with the numbers. What the system refuses is only known when it is asked.
    pub fn check(&self) -> Result<(), RegionError> {
        self.plan().map(drop)
    }

    pub(crate) fn plan(&self) -> Result<Plan, RegionError> {
        let order = self.order;
        if order.get() > MAX_RUN_ORDER {
            return Err(RegionError::Order { order: order.get() });
        }
        let run_bytes = order.nr_pages() * PAGE_BYTES;
        let page_bytes = host_page_bytes();
        if run_bytes % page_bytes != 0 {
            return Err(RegionError::HostPage { page_bytes, run_bytes });
        }
        let handlers = self.handlers.max(1);
        let needed_bytes = Config::min_budget_bytes(order, handlers);
        if self.budget_bytes < needed_bytes {
            return Err(RegionError::Budget { budget_bytes: self.budget_bytes, run_bytes, handlers, needed_bytes });
        }
        let nr_runs = self.bytes.div_ceil(run_bytes);
        let addressable = usize::try_from(nr_runs.saturating_mul(run_bytes)).is_ok();
        if nr_runs == 0 || !addressable {
            return Err(RegionError::Size { bytes: self.bytes });
        }
        let budget_runs = self.budget_bytes / run_bytes;
        let needed_runs = needed_bytes / run_bytes;
        let device_bytes = self.device_bytes.unwrap_or(nr_runs * run_bytes);
        Ok(Plan {
            nr_runs: nr_runs as usize,
            run_bytes: run_bytes as usize,
            budget_runs,
            batch_runs: (MAX_BATCH_PAGES >> order.get()).clamp(1, budget_runs / needed_runs) as usize,
            device_pages: device_bytes / PAGE_BYTES,
            order,
            handlers,
            mode: self.mode,
        })
    }
}

/// A configuration that can work, in runs.
pub(crate) struct Plan {
    pub(crate) nr_runs: usize,
    pub(crate) run_bytes: usize,
    pub(crate) budget_runs: u64,
    /// Runs that one eviction may take.
    pub(crate) batch_runs: usize,
    pub(crate) device_pages: u64,
    pub(crate) order: Order,
    pub(crate) handlers: usize,
    pub(crate) mode: Mode,
}

#[cfg(test)]
mod tests {
    use farpage::Order;

    use super::{Config, Mode};
    use crate::RegionError;

    #[test]
    fn a_size_is_rounded_up_to_a_run_and_a_budget_down() {
        let order = Order::new(3).unwrap();
        let config = Config::new(100_000, 300_000).order(order).handlers(2);
        let plan = config.mode(Mode::Software).plan().unwrap();
        assert_eq!((plan.nr_runs, plan.budget_runs), (4, 9));
        assert_eq!(plan.device_pages, 32);
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_numbers() {
        let config = Config::new(1 << 20, 16 << 10).mode(Mode::Software);
        assert!(matches!(config.clone().handlers(2).plan(), Err(RegionError::Budget { needed_bytes: 32_768, .. })));
        assert!(matches!(
            Config::new(0, 1 << 20).mode(Mode::Software).handlers(1).plan(),
            Err(RegionError::Size { bytes: 0 })
        ));
        assert!(matches!(config.order(Order::new(10).unwrap()).plan(), Err(RegionError::Order { order: 10 })));
    }
}
