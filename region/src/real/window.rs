//! [`Window`]: addresses of this process behind which pages of a [`RealMemory`] appear and go, one by one.
//! Which page belongs where is not known here; see `mirror`.
//! Below: `memory`, `uffd`, `span`. Above: `mirror`.
//!
//! | an address | what the kernel has there | an access |
//! |---|---|---|
//! | never used | anonymous memory, registered, no page | waits, as missing |
//! | with a page to be written | the file at that page, registered, mapped | goes on |
//! | with a page to be read | the same, write-protected | a read goes on, a write waits |
//! | whose page was taken away | the file at the page that was there, registered, not mapped | waits, as missing or not mapped here |
//! | refused | poison | is a `SIGBUS` |
//!
//! Each address has to go from one of these to another at once: were it unregistered for a moment, a thread could read or write
//! there, and nobody would know. So the page is mapped, registered and protected at an address of its own that nobody knows, and moved
//! over what was there by one `mremap`.

use core::fmt;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::Arc;

use farpage::{Access, AddressRange, IntervalOps, Invalidation, PAGE_BYTES, Pfn};
use parking_lot::{Mutex, MutexGuard};

use super::memory::RealMemory;
use crate::error::{OsError, RegionError};
use crate::span::Span;
use crate::uffd::Uffd;

/// Pages that are mapped, each of which may take two of the 65,530 mappings that a process usually may have: its own, and what is
/// behind it. With more, all are taken away and come back by faults, as when a TLB is full.
const MAX_PLACED: usize = 1 << 14;

const PAGE: usize = PAGE_BYTES as usize;

/// Addresses of this process, whole pages, unmapped on drop.
pub(super) struct Addresses {
    start: NonNull<u8>,
    nr_pages: usize,
    memory: RealMemory,
    uffd: Uffd,
    state: Mutex<State>,
}

/// What is at each page.
struct State {
    pages: Box<[There]>,
    /// Pages that were mapped since all were taken away.
    nr_placed: usize,
    counts: WindowCounts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum There {
    Nothing,
    Page(Pfn, Access),
    Poison,
}

/// What a window did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WindowCounts {
    /// Pages that were mapped for a fault.
    pub mapped: u64,
    /// Pages that were there, and may be written since.
    pub upgraded: u64,
    /// Pages that were taken away because the software page table changed.
    pub taken_away: u64,
    /// Times that all pages were taken away because there were too many.
    pub flushed: u64,
}

// SAFETY: The addresses are not bound to a thread; what is there changes under the lock of `state`, by system calls.
unsafe impl Send for Addresses {}
// SAFETY: As for `Send`.
unsafe impl Sync for Addresses {}

/// Memory at an address of the kernel's choice that is not where it is wanted yet; unmapped on drop.
struct Fresh {
    start: NonNull<u8>,
    len: usize,
}

impl Fresh {
    fn new(len: usize, flags: libc::c_int, fd: i32, at: libc::off_t) -> Result<Fresh, OsError> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: A new mapping at an address of the kernel's choice replaces nothing of ours.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, at) };
        if start == libc::MAP_FAILED {
            return Err(OsError::last("mmap(window)"));
        }
        let fresh = Fresh { start: NonNull::new(start.cast()).expect("mmap gives no null mapping"), len };
        // A child of fork has no handlers: its missing pages would read as zeros. Better a fault.
        // SAFETY: Our own mapping, of which nobody knows; its bytes are left alone.
        match unsafe { libc::madvise(start, len, libc::MADV_DONTFORK) } {
            0 => Ok(fresh),
            _ => Err(OsError::last("madvise(MADV_DONTFORK)")),
        }
    }

    fn anonymous(len: usize) -> Result<Fresh, OsError> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        Fresh::new(len, flags, -1, 0)
    }

    fn span(&self) -> Span<'_> {
        // SAFETY: Mapped until we drop or are moved away, which outlasts the borrow.
        unsafe { Span::new(self.start, self.len) }
    }

    /// Puts the memory in the place of what is at `to`, at once for every other thread.
    ///
    /// # Safety
    ///
    /// The `len` bytes from `to` on are mapped and the caller's, and no reference to what was there outlives this.
    unsafe fn move_over(self, to: NonNull<u8>) -> Result<(), OsError> {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        let (from, len) = (self.start.as_ptr().cast(), self.len);
        // SAFETY: From what is ours to what is the caller's.
        let moved = unsafe { libc::mremap(from, len, len, flags, to.as_ptr().cast::<libc::c_void>()) };
        if moved == libc::MAP_FAILED {
            return Err(OsError::last("mremap(window)"));
        }
        core::mem::forget(self);
        Ok(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // SAFETY: Ours, mapped once in `new`, and not moved away, or we would be forgotten.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

impl Addresses {
    fn new(memory: &RealMemory, nr_pages: usize) -> Result<Addresses, RegionError> {
        let uffd = Uffd::open_shared()?;
        let fresh = Fresh::anonymous(nr_pages * PAGE)?;
        uffd.register_missing(fresh.span())?;
        let start = fresh.start;
        core::mem::forget(fresh); // ours from here on, by our own drop
        let state = State {
            pages: vec![There::Nothing; nr_pages].into_boxed_slice(),
            nr_placed: 0,
            counts: WindowCounts::default(),
        };
        let memory = memory.share();
        let addresses = |memory| Addresses { start, nr_pages, memory, uffd, state: Mutex::new(state) };
        match memory {
            Ok(memory) => Ok(addresses(memory)),
            Err(error) => {
                // SAFETY: The mapping of just now, of which nobody knows.
                unsafe { libc::munmap(start.as_ptr().cast(), nr_pages * PAGE) };
                Err(error.into())
            }
        }
    }

    pub(super) fn uffd(&self) -> &Uffd {
        &self.uffd
    }

    pub(super) fn nr_pages(&self) -> usize {
        self.nr_pages
    }

    /// The page of an address of this process.
    pub(super) fn page_at(&self, address: u64) -> Option<usize> {
        let page = usize::try_from(address.checked_sub(self.start.as_ptr().expose_provenance() as u64)?).ok()? / PAGE;
        (page < self.nr_pages).then_some(page)
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The bytes, each an atomic: threads of the program and others of its own may use them at the same time.
    pub(super) fn cells(&self) -> &[AtomicU8] {
        let start = self.start.cast().as_ptr();
        // SAFETY: Mapped until we drop, which outlasts the borrow; any byte is a valid `AtomicU8`. A thread that meets a page that is not
        // there waits, since every address stays registered. No slice or reference of other types is made of these bytes;
        // whoever uses the raw pointer that `View::as_ptr` gives has promised the same.
        unsafe { core::slice::from_raw_parts(start, self.nr_pages * PAGE) }
    }

    pub(super) fn lock(&self) -> Locked<'_> {
        Locked { addresses: self, state: self.state.lock() }
    }

    fn span(&self, page: usize, nr_pages: usize) -> Span<'_> {
        assert!(page <= self.nr_pages && nr_pages <= self.nr_pages - page);
        // SAFETY: In bounds.
        let start = unsafe { self.start.add(page * PAGE) };
        // SAFETY: The same, and mapped until we drop, which outlasts the borrow.
        unsafe { Span::new(start, nr_pages * PAGE) }
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        // SAFETY: Ours, all of it always mapped; whatever points into it borrows from us.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.nr_pages * PAGE) };
    }
}

/// The addresses, while what is there may be changed.
pub(super) struct Locked<'w> {
    addresses: &'w Addresses,
    state: MutexGuard<'w, State>,
}

impl Locked<'_> {
    /// Makes page `page` show `pfn`, to be read or written, and lets who waits for it go on.
    ///
    /// The caller keeps to it that the software page table maps `pfn` there with that access, or takes it away before it does not.
    pub(super) fn show(&mut self, page: usize, pfn: Pfn, access: Access) -> Result<(), OsError> {
        let addresses = self.addresses;
        let span = addresses.span(page, 1);
        match self.state.pages[page] {
            There::Page(has, allowed) if has == pfn && allowed >= access => {}
            There::Page(has, _) if has == pfn => {
                addresses.uffd.write_unprotect(span)?;
                self.state.pages[page] = There::Page(pfn, access);
                self.state.counts.upgraded += 1;
            }
            _ => {
                self.place(page, pfn, access)?;
                self.state.pages[page] = There::Page(pfn, access);
                self.state.counts.mapped += 1;
            }
        }
        addresses.uffd.wake(span)
    }

    fn place(&mut self, page: usize, pfn: Pfn, access: Access) -> Result<(), OsError> {
        let addresses = self.addresses;
        let (fd, at) = addresses.memory.place(pfn);
        let fresh = Fresh::new(PAGE, libc::MAP_SHARED | libc::MAP_NORESERVE, fd, at)?;
        addresses.uffd.register_shared(fresh.span())?;
        let protect = access == Access::Read;
        while !addresses.uffd.map_shared(fresh.span(), protect)? {
            // A page that was never written, or a zero page.
            addresses.memory.populate(pfn)?;
        }
        self.replace(page, fresh)
    }

    /// Puts a mapping of one page in the place of what is there, and remembers that it is one more.
    fn replace(&mut self, page: usize, fresh: Fresh) -> Result<(), OsError> {
        if self.state.nr_placed == MAX_PLACED {
            self.flush()?;
            self.state.counts.flushed += 1;
        }
        // SAFETY: A page of ours, and nobody has a reference to what was there: who uses these bytes does so by atomics or raw
        // pointers, and sees other bytes there only if the software page table says so.
        unsafe { fresh.move_over(self.addresses.span(page, 1).start())? };
        self.state.nr_placed += 1;
        Ok(())
    }

    /// Takes away what is at `pages`: when this returns, no thread reads or writes there before the next [`Locked::show`].
    pub(super) fn take_away(&mut self, first: usize, nr_pages: usize) -> Result<(), OsError> {
        let pages = &mut self.state.pages[first..first + nr_pages];
        let Some(from) = pages.iter().position(|page| *page != There::Nothing) else { return Ok(()) };
        let to = pages.iter().rposition(|page| *page != There::Nothing).map_or(from, |last| last + 1);
        let taken = pages[from..to].iter().filter(|page| matches!(page, There::Page(..))).count();
        pages[from..to].fill(There::Nothing);
        self.state.counts.taken_away += taken as u64;
        let span = self.addresses.span(first + from, to - from);
        // SAFETY: Mappings of the file, whose bytes are the file's and stay there, or anonymous memory without pages. Nobody reads what
        // is not there: all of it is registered.
        match unsafe { libc::madvise(span.start().as_ptr().cast(), span.len(), libc::MADV_DONTNEED) } {
            0 => Ok(()),
            _ => Err(OsError::last("madvise(MADV_DONTNEED)")),
        }
    }

    /// Takes everything away, the mappings too.
    pub(super) fn flush(&mut self) -> Result<(), OsError> {
        let addresses = self.addresses;
        let fresh = Fresh::anonymous(addresses.nr_pages * PAGE)?;
        addresses.uffd.register_missing(fresh.span())?;
        // SAFETY: As in `place`.
        unsafe { fresh.move_over(addresses.start)? };
        self.state.pages.fill(There::Nothing);
        self.state.nr_placed = 0;
        addresses.uffd.wake(addresses.span(0, addresses.nr_pages))
    }

    /// Makes accesses of page `page` fail with `SIGBUS`, those that wait for it too, until it is taken away.
    pub(super) fn refuse(&mut self, page: usize) -> Result<(), OsError> {
        let addresses = self.addresses;
        self.take_away(page, 1)?;
        // What is poisoned must have nothing in the kernel's table, and where a protected page of a file was a mark of that stays.
        let fresh = Fresh::anonymous(PAGE)?;
        addresses.uffd.register_missing(fresh.span())?;
        self.replace(page, fresh)?;
        addresses.uffd.poison(addresses.span(page, 1))?;
        self.state.pages[page] = There::Poison;
        Ok(())
    }

    pub(super) fn counts(&self) -> WindowCounts {
        self.state.counts
    }
}

/// Addresses of this process behind which the pages of an address space appear, for as long as they are
/// [mirrored](Window::mirror).
///
/// ```no_run
/// # fn run(machine: &farpage::Machine<'_>, memory: &farpage_region::RealMemory) -> Result<(), Box<dyn std::error::Error>> {
/// use farpage::Mapping;
/// use farpage_region::Window;
///
/// let mut window = Window::new(memory, 1 << 20)?;
/// let space = machine.address_space()?;
/// space.map(Mapping::new(window.range()))?; // at the process's own addresses
/// let range = window.range();
/// window.mirror(&space, range, 1, |view| {
///     view.write(5, b"by the CPU");
///     let mut bytes = [0; 10];
///     space.read(range.start(), &mut [0; 5]).unwrap(); // what the software page table says is the same
///     view.read(5, &mut bytes);
/// })?;
/// # Ok(())
/// # }
/// ```
pub struct Window {
    pub(super) addresses: Arc<Addresses>,
}

impl Window {
    /// Reserves `nr_bytes` bytes of addresses, in whole pages, for pages of `memory`.
    ///
    /// # Errors
    ///
    /// [`RegionError::Refused`] where this process may not serve its own faults; [`RegionError::Size`] for no page, or for more than
    /// there are addresses; [`RegionError::Os`].
    pub fn new(memory: &RealMemory, nr_bytes: u64) -> Result<Window, RegionError> {
        let bytes = usize::try_from(nr_bytes).ok().filter(|bytes| *bytes > 0 && bytes % PAGE == 0);
        let nr_pages = bytes.filter(|bytes| *bytes <= 1 << 46).ok_or(RegionError::Size { bytes: nr_bytes })? / PAGE;
        Ok(Window { addresses: Arc::new(Addresses::new(memory, nr_pages)?) })
    }

    /// The addresses, as this process sees them.
    pub fn range(&self) -> AddressRange {
        let start = self.addresses.start.as_ptr().expose_provenance() as u64;
        let range = AddressRange::new(start, (self.addresses.nr_pages * PAGE) as u64);
        range.expect("addresses of programs are below 2^47")
    }

    /// What it did since it was made.
    pub fn counts(&self) -> WindowCounts {
        self.addresses.lock().counts()
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window").field("range", &self.range()).field("counts", &self.counts()).finish()
    }
}

/// The interval's callback: the page table of the process follows the one of the address space, as a secondary one does.
pub(super) struct Follow {
    pub(super) addresses: Arc<Addresses>,
    /// The range of the address space that the addresses show.
    pub(super) range: AddressRange,
}

impl IntervalOps for Follow {
    fn invalidate(&self, invalidation: &Invalidation) {
        let page = |address: u64| (address - self.range.start().get()) as usize / PAGE;
        let told = invalidation.range;
        let all_end = self.range.start().get() + self.range.nr_bytes();
        let first = told.start().get().max(self.range.start().get());
        let end = (told.start().get() + told.nr_bytes()).min(all_end);
        if first < end {
            let taken = self.addresses.lock().take_away(page(first), page(end) - page(first));
            // What is left there would be used by the program while somebody else has it.
            taken.unwrap_or_else(|error| panic!("{}: {error}", told));
        }
    }
}

/// Loads and stores, by the CPU.
pub(super) fn load(cells: &[AtomicU8], bytes: &mut [u8]) {
    for (byte, cell) in bytes.iter_mut().zip(cells) {
        *byte = cell.load(Relaxed);
    }
}

/// See [`load`].
pub(super) fn store(cells: &[AtomicU8], bytes: &[u8]) {
    for (byte, cell) in bytes.iter().zip(cells) {
        cell.store(*byte, Relaxed);
    }
}
