//! Migration by offset, of whatever is mapped wherever: a device is to be emptied. Linux: `migrate_device_range()`.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::sync::Arc;

use super::slot::{Holder, Slot};
use super::{MigrateBatch, Migration, Phase};
use crate::mm::machine::Machine;
use crate::space::Space;
use crate::words::{MigrateEntry, Offset, OffsetRange, Order, Pfn, Target};

impl<'s> Machine<'s> {
    /// Begins to move all folios of `range`, wherever they are mapped: the way to empty a device before it goes.
    ///
    /// There is a slot for each offset. Free pages, tails and folios that are locked are empty slots, and so are those that somebody
    /// has a reference of beside leaves; trying again may find them free. A folio of order 9 is one compound slot.
    /// No address space is held against changes: a page that is unmapped meanwhile is freed at the end.
    ///
    /// A slot takes memory, some 70 bytes, whether or not there is a folio: go over a large device in pieces, of whole
    /// multiples of 512 pages. The device should have been [killed](crate::Device::kill), or more pages may come meanwhile.
    pub fn migrate_device_range<'a>(&self, batch: &'a mut MigrateBatch<'s>, range: OffsetRange) -> Migration<'a, 's> {
        self.evict(batch, self.space(), range, Target::Device)
    }

    /// The same for pages of a host-visible device, by their numbers.
    pub fn migrate_host_range<'a>(&self, batch: &'a mut MigrateBatch<'s>, range: OffsetRange) -> Migration<'a, 's> {
        let host = |offset: Offset| Target::Host(Pfn::new(offset.get()).unwrap_or(self.core().zero()));
        self.evict(batch, self.core().frames(), range, host)
    }

    fn evict<'a>(
        &self,
        batch: &'a mut MigrateBatch<'s>,
        space: &'s Space,
        range: OffsetRange,
        target: impl Fn(Offset) -> Target,
    ) -> Migration<'a, 's> {
        batch.slots.clear();
        batch.slots.reserve(range.nr_pages() as usize);
        let mut migration = Migration {
            core: Cow::Owned(Arc::clone(self.core())),
            batch,
            place: None,
            fault: None,
            owner: None,
            first: range.start().get(),
            phase: Phase::Collected,
            has_compound: true,
            has_holes: false,
            has_others: true,
            _mapped: None,
        };
        for offset in range.iter() {
            let slot = self.folio_at(space, offset, range, &target);
            migration.batch.slots.push(slot.unwrap_or(Slot::EMPTY));
        }
        migration.unmap();
        migration
    }

    /// The slot of the folio whose head is at `offset`, locked.
    fn folio_at(
        &self,
        space: &'s Space,
        offset: Offset,
        range: OffsetRange,
        target: &impl Fn(Offset) -> Target,
    ) -> Option<Slot<'s>> {
        let page = space.page(offset).filter(|page| page.index() == 0)?;
        let folio = page.try_get()?;
        let is_whole = match folio.order() {
            Order::ZERO => false,
            Order::HUGE => true,
            _ => return None,
        };
        // A folio whose pages have no slots each could not go page by page.
        let last = Offset::new(offset.get() + folio.nr_pages() - 1)?;
        if !range.contains(last) {
            return None;
        }
        // What no address space has mapped is nothing of ours to move.
        if folio.maps() == 0 || !self.core().home(&folio).is_some_and(|home| home.is_anon) {
            return None;
        }
        let locked = folio.try_lock_owned().ok()?;
        Some(Slot {
            src: MigrateEntry::page(target(offset)).with_migrate(true).with_compound(is_whole),
            holder: Holder::Own(locked),
            is_unmapped: true,
            has_others: true,
            ..Slot::EMPTY
        })
    }
}
