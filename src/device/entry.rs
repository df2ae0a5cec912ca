//! [`Entry`]: what a space keeps of a registered device, and how a folio of it begins and ends.
#![forbid(unsafe_code)]

use core::time::Duration;

use crate::device::DeviceOps;
use crate::device::config::{DeviceConfig, Owner};
use crate::device::listeners::Listeners;
use crate::folio::{Folio, FolioWord};
use crate::free_map::{Claimer, FreeMap};
use crate::geometry::{BLOCK_SHIFT, block_of};
use crate::live::{Door, Live};
use crate::seat::{Seat, Seating, Seats};
use crate::section_map::Place;
use crate::space::Space;
use crate::sparse::NoMemory;
use crate::sync::Mutex;
use crate::words::{Offset, OffsetRange, Order};

/// A registered device.
pub(crate) struct Entry {
    /// Its number in the device table.
    index: u32,
    range: OffsetRange,
    owner: Owner,
    name: Box<str>,
    listeners: Listeners,
    entrance: Door,
    seats: Seats,
    map: FreeMap,
    /// Serialises what ends a device. Never held while anybody allocates or frees.
    phase: Mutex<Phase>,
}

/// alive -> dying by `kill`; dying -> drained by `drain`; any of them -> gone by `retire`, when no page is in use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Alive,
    Dying,
    /// No page is in use, and none will be. Who comes too late may still be counted for a moment, and means nothing.
    Drained,
    Gone,
}

/// Proof that a device has retired: none of its pages is counted in, and none will be. There is one for each device.
#[must_use = "a device that has retired is to be forgotten"]
pub(crate) struct Retired(());

/// Why a device cannot go.
pub(crate) enum NotRetired {
    Busy { live_pages: u64 },
    Gone,
}

impl Entry {
    /// A device in `range`, whose last block is prepared in the free map. It has no callbacks yet.
    pub(crate) fn new(index: u32, range: OffsetRange, config: DeviceConfig, space: &Space) -> Result<Entry, NoMemory> {
        let entry = Entry::with(index, range, config, space.seating(range.nr_pages()), Phase::Alive)?;
        entry.map.begin(space.blocks())?;
        Ok(entry)
    }

    /// What stands for a device that is gone.
    pub(crate) fn nobody() -> Result<Entry, NoMemory> {
        let seating = Seating { cores: 0, cached_pages: 0 };
        Entry::with(0, OffsetRange::EMPTY, DeviceConfig::new(0), seating, Phase::Gone)
    }

    fn with(
        index: u32,
        range: OffsetRange,
        config: DeviceConfig,
        seating: Seating,
        phase: Phase,
    ) -> Result<Entry, NoMemory> {
        Ok(Entry {
            index,
            range,
            owner: config.owner,
            name: config.name,
            listeners: Listeners::new(config.is_deferred),
            entrance: Door::open(),
            seats: Seats::new(seating)?,
            map: FreeMap::new(range),
            phase: Mutex::new(phase),
        })
    }

    #[inline]
    pub(crate) fn index(&self) -> u32 {
        self.index
    }

    #[inline]
    pub(crate) fn range(&self) -> OffsetRange {
        self.range
    }

    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    #[inline]
    pub(crate) fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Gives the device its callbacks, before it is known to anybody.
    pub(super) fn set_ops(&mut self, ops: Option<Box<dyn DeviceOps>>) {
        self.listeners.set_ops(ops);
    }

    #[inline]
    pub(crate) fn seats(&self) -> &Seats {
        &self.seats
    }

    /// Where pages come in.
    #[inline]
    pub(crate) fn entrance(&self) -> &Door {
        &self.entrance
    }

    pub(crate) fn live<'a>(&'a self, space: &'a Space) -> Live<'a> {
        Live { entrance: &self.entrance, exit: space.table().door(self.index), seats: &self.seats, bell: space.bell() }
    }

    pub(crate) fn claimer<'a>(&'a self, space: &'a Space, seat: &'a Seat) -> Claimer<'a> {
        Claimer { blocks: space.blocks(), seats: &self.seats, seat, unsure: 0 }
    }

    #[inline]
    pub(crate) fn map(&self) -> &FreeMap {
        &self.map
    }

    pub(crate) fn kill(&self, space: &Space) {
        let mut phase = self.phase.lock();
        if *phase == Phase::Alive {
            self.live(space).close();
            *phase = Phase::Dying;
        }
    }

    /// Waits until no page of a dying device is in use; `Err` is how many are after `limit`.
    pub(crate) fn drain(&self, space: &Space, limit: Duration) -> Result<(), u64> {
        if matches!(*self.phase.lock(), Phase::Drained | Phase::Gone) {
            return Ok(());
        }
        self.live(space).drain(limit)?;
        let mut phase = self.phase.lock();
        if *phase == Phase::Dying {
            *phase = Phase::Drained;
        }
        Ok(())
    }

    /// Whether the device was killed or has gone. Waits for an unregistration that is making up its mind.
    #[cold]
    pub(crate) fn is_ending(&self) -> bool {
        *self.phase.lock() != Phase::Alive
    }

    /// Ends the device if none of its pages is in use; otherwise changes nothing.
    pub(crate) fn retire(&self, space: &Space) -> Result<Retired, NotRetired> {
        let (mut phase, live) = (self.phase.lock(), self.live(space));
        if *phase == Phase::Gone {
            return Err(NotRetired::Gone);
        }
        // Do not turn anybody away, not even for a moment, while the device is plainly in use.
        if *phase != Phase::Alive || live.pages() == 0 {
            live.close();
            if *phase == Phase::Drained || live.is_drained() {
                *phase = Phase::Gone;
                // Nobody is in, and nobody gets in: what is left in stashes is ours.
                self.map.drain_all(self.claimer(space, self.seats.shared()));
                return Ok(Retired(()));
            }
            if *phase == Phase::Alive {
                live.reopen();
            }
        }
        Err(NotRetired::Busy { live_pages: live.pages() })
    }

    /// Memory for the metadata of a run that the caller has claimed, and the words of its blocks brought up to date.
    pub(crate) fn prepare(&self, space: &Space, page: u64, order: Order) -> Result<(), NoMemory> {
        space.sections().populate(Place { head: Offset::from_low_bits(page), order })?;
        self.publish(space, Place { head: Offset::from_low_bits(page), order });
        Ok(())
    }

    /// Tells readers what order the blocks of a folio serve, which the caller has claimed, and whose they are.
    pub(crate) fn publish(&self, space: &Space, place: Place) {
        let first = block_of(place.head.get());
        for block in first..first + (place.order.nr_pages() >> BLOCK_SHIFT).max(1) {
            space.sections().publish(block, self.index, || space.blocks().change_of(block));
        }
    }

    /// The first handle of a folio on a run that the caller has claimed and prepared.
    #[inline(always)]
    pub(crate) fn begin<'s>(&self, space: &'s Space, page: u64, order: Order) -> Folio<'s> {
        let place = Place { head: Offset::from_low_bits(page), order };
        let Some(record) = space.sections().at(place) else {
            unreachable!("{place:?} was claimed beyond the end of the space");
        };
        let state = record.init(order, 0);
        Folio::from_owned(space, FolioWord::new(place, state))
    }
}
