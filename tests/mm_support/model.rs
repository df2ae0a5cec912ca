//! The obviously right model of an address space: a map from page to bytes, all of them.
//!
//! Nothing of `farpage` is called here; where pages are, who shares them and how large their leaves are is not known. What
//! the model says is compared with what the library does in `oracle`.

use std::collections::BTreeMap;
use std::rc::Rc;

use farpage::Protection;

use super::PAGE;
use super::ops::WINDOW;

type Bytes = Rc<[u8]>;

/// Pages of the file that are not zero.
pub const FILE_PAGES: u64 = 16;

#[derive(Clone)]
pub struct Page {
    pub protection: Protection,
    pub bytes: Bytes,
    /// What it reads as when its own bytes are dropped: zero, or the file's.
    unwritten: Bytes,
    is_anonymous: bool,
    /// Said to be unneeded, and not written since: its bytes may be dropped.
    is_lazy: bool,
}

#[derive(Clone)]
pub struct Model {
    pages: BTreeMap<u64, Page>,
    zero: Bytes,
    file: Rc<[Bytes]>,
}

/// The bytes of page `index` of the file.
pub fn file_page(index: u64) -> Vec<u8> {
    let page = |at: u64| ((at.wrapping_mul(31) >> 2) ^ at ^ ((index + 1) * 13)) as u8;
    if index < FILE_PAGES { (0..PAGE).map(page).collect() } else { vec![0; PAGE as usize] }
}

impl Model {
    pub fn new() -> Model {
        let file = (0..FILE_PAGES).map(|index| file_page(index).into()).collect();
        Model { pages: BTreeMap::new(), zero: vec![0; PAGE as usize].into(), file }
    }

    pub fn page(&self, page: u64) -> Option<&Page> {
        self.pages.get(&page)
    }

    fn all(&self, first: u64, nr: u64, is_so: impl Fn(&Page) -> bool) -> bool {
        (first..first + nr).all(|page| self.page(page).is_some_and(&is_so))
    }

    pub fn is_mapped(&self, first: u64, nr: u64) -> bool {
        self.all(first, nr, |_| true)
    }

    pub fn is_anonymous(&self, first: u64, nr: u64) -> bool {
        self.all(first, nr, |page| page.is_anonymous)
    }

    pub fn is_readable(&self, first: u64, nr: u64) -> bool {
        self.all(first, nr, |page| page.protection != Protection::None)
    }

    pub fn is_writable(&self, first: u64, nr: u64) -> bool {
        self.all(first, nr, |page| page.protection == Protection::ReadWrite)
    }

    pub fn is_free(&self, first: u64, nr: u64) -> bool {
        self.pages.range(first..first + nr).next().is_none()
    }

    pub fn map(&mut self, first: u64, nr: u64, file: Option<u64>) {
        for i in 0..nr {
            let from_file = file.and_then(|from| self.file.get((from + i) as usize));
            let unwritten = Rc::clone(from_file.unwrap_or(&self.zero));
            let bytes = Rc::clone(&unwritten);
            let (is_anonymous, is_lazy, protection) = (file.is_none(), false, Protection::ReadWrite);
            self.pages.insert(first + i, Page { protection, bytes, unwritten, is_anonymous, is_lazy });
        }
    }

    pub fn unmap(&mut self, first: u64, nr: u64) {
        self.pages.retain(|page, _| !(first..first + nr).contains(page));
    }

    pub fn protect(&mut self, first: u64, nr: u64, to: Protection) {
        self.pages.range_mut(first..first + nr).for_each(|(_, page)| page.protection = to);
    }

    /// Moves mapped pages to where nothing is; with `keep`, the old place stays mapped, without their bytes.
    pub fn remap(&mut self, first: u64, nr: u64, to: u64, keep: bool) {
        for i in 0..nr {
            let moved = self.pages.remove(&(first + i)).expect("mapped");
            if keep {
                self.pages
                    .insert(first + i, Page { bytes: Rc::clone(&moved.unwritten), is_lazy: false, ..moved.clone() });
            }
            self.pages.insert(to + i, moved);
        }
    }

    /// Writes bytes from byte `at` of the window on, up to the first page that may not be written; how many.
    pub fn write(&mut self, at: u64, data: &[u8]) -> u64 {
        let mut done = 0;
        while done < data.len() {
            let (page, within) = ((at + done as u64) / PAGE, ((at + done as u64) % PAGE) as usize);
            let now = (data.len() - done).min(PAGE as usize - within);
            assert!(page < WINDOW, "beyond the window");
            if !self.is_writable(page, 1) {
                break;
            }
            let page = self.pages.get_mut(&page).expect("writable");
            Rc::make_mut(&mut page.bytes)[within..within + now].copy_from_slice(&data[done..done + now]);
            page.is_lazy = false;
            done += now;
        }
        done as u64
    }

    pub fn drop_bytes(&mut self, first: u64, nr: u64) {
        for page in self.pages.range_mut(first..first + nr).map(|(_, page)| page) {
            page.bytes = Rc::clone(&page.unwritten);
            page.is_lazy = false;
        }
    }

    pub fn make_lazy(&mut self, first: u64, nr: u64) {
        self.pages.range_mut(first..first + nr).for_each(|(_, page)| page.is_lazy = true);
    }

    /// Pages whose bytes may be dropped.
    pub fn lazy_pages(&self, first: u64, nr: u64) -> Vec<u64> {
        self.pages.range(first..first + nr).filter(|(_, page)| page.is_lazy).map(|(&page, _)| page).collect()
    }

    /// The bytes of pages that can all be read.
    pub fn bytes(&self, first: u64, nr: u64) -> Vec<u8> {
        let mut all = Vec::with_capacity((nr * PAGE) as usize);
        self.pages.range(first..first + nr).for_each(|(_, page)| all.extend_from_slice(&page.bytes));
        all
    }
}
