//! [`MigrateParts`]: one large migration in parts, which the threads of any pool move beside each other.
#![forbid(unsafe_code)]

use core::fmt;
use std::sync::Arc;

use super::{MigrateBatch, MigrateRequest, Migration};
use crate::mm::address::{AddressRange, PAGES_PER_HUGE, huge_start};
use crate::mm::address_space::AddressSpace;
use crate::mm::error::SetupError;
use crate::mm::inner::Inner;
use crate::mm::lock::Mapped;
use crate::mm::vma::Area;

/// A range that is to move, in parts that have no table in common: as many migrations, each for any thread.
///
/// The parts are runs of 512 pages, as tables and huge leaves are; the first and the last may be shorter. Each migration
/// is a transaction of its own. The address space is held against changes of its mappings once for all of them, by the thread that
/// made this; so what runs the parts takes no lock of the address space as a whole, and a pool may run one inside another.
/// That thread itself, while this lives, must not change mappings, fault, read, write or snapshot; nor must another
/// task that its pool hands it while it waits for the parts.
///
/// A large folio that is mapped across the border of two parts moves with neither of them, or page by page with one: whoever
/// has its lock first.
///
/// ```
/// # use std::sync::Arc;
/// # use farpage::{DeviceConfig, HeapMemory, Machine, Space};
/// # let (device_pages, host_pages) = (Space::new()?, Space::new()?);
/// # let memory = Arc::new(HeapMemory::new(4096));
/// # let ram = host_pages.register(DeviceConfig::new(4096).ops(Arc::clone(&memory)))?;
/// # let machine = Machine::new(&device_pages, ram, memory)?;
/// use farpage::{AddressRange, Mapping, MigrateBatch, MigrateRequest, Order};
///
/// let vram = device_pages.register(DeviceConfig::new(4096))?;
/// let space = machine.address_space()?;
/// let range = AddressRange::new(0x20_0000, 1024 * 4096).unwrap();
/// space.map(Mapping::new(range))?;
///
/// let parts = space.migrate_parts(MigrateRequest::new(range).system(true))?;
/// assert_eq!(parts.nr_parts(), 2);
/// std::thread::scope(|scope| {
///     for part in parts.ranges() {
///         let (parts, vram) = (&parts, &vram);
///         scope.spawn(move || {
///             let mut batch = MigrateBatch::new();
///             let mut migration = parts.migrate(&mut batch, part).expect("a part of the range");
///             for slot in 0..migration.nr_slots() {
///                 let folio = vram.alloc(Order::ZERO).expect("room");
///                 // ... copy
///                 migration.set_dst(slot, folio).expect("collected");
///             }
///             assert_eq!(migration.pages(), 512);
///         });
///     }
/// });
/// assert_eq!(vram.nr_live_pages(), 1024);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MigrateParts<'a, 's> {
    space: &'a Arc<Inner<'s>>,
    area: Area,
    request: MigrateRequest,
    _mapped: Mapped<'a>,
}

impl<'s> AddressSpace<'s> {
    /// Prepares to move pages of a range of one mapping in parts, by several threads. Nothing is collected yet.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::migrate`].
    pub fn migrate_parts(&self, request: MigrateRequest) -> Result<MigrateParts<'_, 's>, SetupError> {
        let space = self.inner();
        let mapped = space.map_lock.read();
        let first = request.range.start();
        let (area, _) = space.area(&mapped, first.vpn()).ok_or(SetupError::NotMapped { address: first })?;
        super::check(&area, request.range)?;
        Ok(MigrateParts { space, area, request, _mapped: mapped })
    }
}

impl<'s> MigrateParts<'_, 's> {
    /// How many parts there are.
    pub fn nr_parts(&self) -> usize {
        let range = self.request.range;
        ((huge_start(range.end() - 1) - huge_start(range.first())) / PAGES_PER_HUGE + 1) as usize
    }

    /// The parts, from the first address on.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = AddressRange> + use<> {
        let range = self.request.range;
        (0..self.nr_parts()).map(move |index| part(range, index))
    }

    /// Begins to move one part, or any other piece of the range that no other migration has at the moment: of two that want the
    /// same page, one finds it locked.
    ///
    /// # Errors
    ///
    /// [`SetupError::NotMapped`] for what is not all in the range.
    pub fn migrate<'b>(
        &'b self,
        batch: &'b mut MigrateBatch<'s>,
        part: AddressRange,
    ) -> Result<Migration<'b, 's>, SetupError> {
        let all = self.request.range;
        for end in [Some(part.start()), part.page(part.nr_pages() - 1)].into_iter().flatten() {
            if !all.contains(end) {
                return Err(SetupError::NotMapped { address: end });
            }
        }
        Migration::begin(
            self.space,
            &self.area,
            self.space.table.cursor(None),
            batch,
            MigrateRequest { range: part, ..self.request },
            None,
            None,
        )
    }

    /// Moves all parts on the threads of the current rayon pool, each with a batch that is used again: `each` gives a
    /// part's slots their destinations and copies, and then the part is settled and ended. How many pages moved.
    ///
    /// A slot to which `each` gives no destination stays where it is. A panic in it is passed on, and its part is back in its place.
    /// Call it from outside the pool, or within [`install`](https://docs.rs/rayon/1/rayon/struct.ThreadPool.html#method.install), and see
    /// [above](MigrateParts) what the pool's other tasks must not do.
    #[cfg(feature = "rayon")]
    pub fn run(&self, each: impl Fn(&mut Migration<'_, 's>) + Sync) -> u64 {
        use rayon::iter::{IntoParallelIterator, ParallelIterator};

        let range = self.request.range;
        (0..self.nr_parts())
            .into_par_iter()
            .map_init(MigrateBatch::new, |batch, index| {
                // A part of the range is what `migrate` takes.
                let Ok(mut migration) = self.migrate(batch, part(range, index)) else { return 0 };
                each(&mut migration);
                migration.pages()
            })
            .sum()
    }
}

/// The pages of `range` in the run of 512 that is `index` runs behind its first page's.
fn part(range: AddressRange, index: usize) -> AddressRange {
    let start = huge_start(range.first()) + index as u64 * PAGES_PER_HUGE;
    let (first, end) = (start.max(range.first()), (start + PAGES_PER_HUGE).min(range.end()));
    AddressRange::of_pages(first, end - first).unwrap_or(range)
}

impl fmt::Debug for MigrateParts<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigrateParts").field("range", &self.request.range).field("nr_parts", &self.nr_parts()).finish()
    }
}
