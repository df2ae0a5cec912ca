//! Runs operations on several address spaces that share pages, and on a model of each. After every operation that reads,
//! bytes are compared, and every count is taken again; at the end all bytes.

use farpage::{Access, AddressSpace, Backing, ExclusivePage, FaultError, Object, Owner, Protection, Target};

use super::model::{FILE_PAGES, Model, file_page};
use super::ops::{Op, WINDOW, clip};
use super::{Gpu, HUGE, Kind, Mirror, PAGE, World, anon, assert_bytes, at, range};

const BASE: u64 = 0x10_0020_0000;
/// As many address spaces as there may be at once.
const MAX_SIDES: usize = 4;

const _: () = assert!(WINDOW * PAGE == 4 * HUGE);

struct Side<'s> {
    space: AddressSpace<'s>,
    model: Model,
}

/// What all address spaces share.
struct Around<'s> {
    gpus: [Gpu<'s>; 2],
    file: Object<'s>,
}

fn bytes_at(page: u64) -> u64 {
    BASE + page * PAGE
}

fn pages(first: u64, nr: u64) -> farpage::AddressRange {
    range(bytes_at(first), nr * PAGE)
}

/// Bytes that tell places apart, within a page and from page to page. Copied by the pattern: under a fuzzer's
/// instrumentation a loop over bytes costs more than what it is compared with.
fn data(seed: u8, len: u64) -> Vec<u8> {
    let pattern: [u8; 251] = std::array::from_fn(|i| seed.wrapping_add(i as u8));
    let mut data = pattern.repeat(len.div_ceil(251) as usize);
    data.truncate(len as usize);
    data
}

/// Runs a program in a machine with two devices, one private and one whose pages the host can map.
///
/// # Panics
///
/// If the library and the model differ, or a count is wrong.
pub fn run(world: &World<'_>, ops: impl IntoIterator<Item = (Op, usize)>) {
    let gpus = [Gpu::new(world, Kind::Private, 1), Gpu::new(world, Kind::Visible, 2)];
    let around = Around { gpus, file: Object::new(&world.machine) };
    (0..FILE_PAGES).for_each(|index| around.file.write(index * PAGE, &file_page(index)).unwrap());
    let mut sides = vec![Side { space: world.machine.address_space().unwrap(), model: Model::new() }];
    for (op, which) in ops {
        let which = which % sides.len();
        match op {
            Op::Fork if sides.len() < MAX_SIDES => {
                let (space, model) = (sides[which].space.fork().unwrap(), sides[which].model.clone());
                sides.push(Side { space, model });
            }
            Op::Exit if sides.len() > 1 => drop(sides.remove(which)),
            op => sides[which].apply(op, &around),
        }
        world.machine.validate().unwrap();
    }
    for side in &sides {
        (0..WINDOW).for_each(|page| side.compare(page));
    }
    (0..FILE_PAGES).for_each(|index| {
        let mut bytes = vec![0; PAGE as usize];
        around.file.read(index * PAGE, &mut bytes).unwrap();
        assert_bytes(&bytes, &file_page(index));
    });
    world.check();
    drop(sides);
    around.gpus.iter().for_each(|gpu| assert_eq!(gpu.live(), 0, "unmapped, so free"));
}

impl<'s> Side<'s> {
    fn compare(&self, page: u64) {
        let mut out = vec![0xee; PAGE as usize];
        let got = self.space.read(at(bytes_at(page)), &mut out);
        match self.model.page(page) {
            None => assert_eq!(got.unwrap_err().fault, FaultError::NotMapped { address: at(bytes_at(page)) }),
            Some(page_is) if page_is.protection == Protection::None => {
                assert_eq!(got.unwrap_err().fault, FaultError::Protected { address: at(bytes_at(page)) });
            }
            Some(page_is) => {
                got.unwrap_or_else(|error| panic!("page {page}: {error}"));
                assert_bytes(&out, &page_is.bytes);
            }
        }
    }

    fn apply(&mut self, op: Op, around: &Around<'s>) {
        match op {
            Op::Map { first, nr, huge, file } => {
                let (first, nr) = clip(first, nr);
                let mut mapping = anon(bytes_at(first), nr * PAGE).huge(huge);
                if let Some(from) = file {
                    mapping = mapping.backing(Backing::FilePrivate(around.file.clone()), from);
                }
                let done = self.space.map(mapping);
                assert_eq!(done.is_ok(), self.model.is_free(first, nr), "{done:?}");
                if done.is_ok() {
                    self.model.map(first, nr, file);
                }
            }
            Op::Unmap { first, nr } => {
                let (first, nr) = clip(first, nr);
                self.space.unmap(pages(first, nr)).unwrap();
                self.model.unmap(first, nr);
            }
            Op::Protect { first, nr, protection } => {
                let (first, nr) = clip(first, nr);
                let to = [Protection::None, Protection::Read, Protection::ReadWrite][usize::from(protection)];
                let done = self.space.protect(pages(first, nr), to);
                assert_eq!(done.is_ok(), self.model.is_mapped(first, nr), "{done:?}");
                if done.is_ok() {
                    self.model.protect(first, nr, to);
                }
            }
            Op::Remap { first, nr, to, keep } => self.remap(clip(first, nr), to, keep),
            Op::Write { page, at: within, byte, len } => {
                let data = data(byte, len.min((WINDOW - page) * PAGE - within));
                let got = self.space.write(at(bytes_at(page) + within), &data);
                let done = self.model.write(page * PAGE + within, &data);
                match got {
                    Ok(()) => assert_eq!(done, data.len() as u64),
                    Err(error) => assert_eq!(error.done, done, "{error}"),
                }
            }
            Op::Read { page } => self.compare(page),
            Op::Fork | Op::Exit => {} // there are too many, or this is the last
            Op::DontNeed { first, nr } => {
                let (first, nr) = clip(first, nr);
                let done = self.space.advise_dont_need(pages(first, nr));
                assert_eq!(done.is_ok(), self.model.is_mapped(first, nr), "{done:?}");
                if done.is_ok() {
                    self.model.drop_bytes(first, nr);
                }
            }
            Op::Free { first, nr } => {
                let (first, nr) = clip(first, nr);
                let done = self.space.advise_free(pages(first, nr));
                assert_eq!(done.is_ok(), self.model.is_anonymous(first, nr), "{done:?}");
                if done.is_ok() {
                    self.model.make_lazy(first, nr);
                }
            }
            Op::Reclaim { first, nr } => self.reclaim(clip(first, nr)),
            Op::In { .. } | Op::Out { .. } | Op::Evict { .. } => self.migrate(op, around),
            Op::DeviceRead { first, nr, gpu } => {
                let (first, nr) = clip(first, nr);
                let got = Mirror::new(&around.gpus[gpu], &self.space, pages(first, nr)).read(pages(first, nr));
                assert_eq!(got.is_ok(), self.model.is_readable(first, nr), "{:?}", got.as_ref().err());
                if let Ok(bytes) = got {
                    assert_bytes(&bytes, &self.model.bytes(first, nr));
                }
            }
            Op::DeviceWrite { first, nr, gpu, byte } => {
                let (first, nr) = clip(first, nr);
                let data = data(byte, nr * PAGE);
                let done = Mirror::new(&around.gpus[gpu], &self.space, pages(first, nr)).write(pages(first, nr), &data);
                assert_eq!(done.is_ok(), self.model.is_writable(first, nr), "{done:?}");
                if done.is_ok() {
                    self.model.write(first * PAGE, &data);
                }
            }
            Op::Exclusive { page, byte } => self.exclusive(page, byte),
            Op::Pin { page, byte } => self.pin(page, byte, &around.gpus),
        }
    }

    fn remap(&mut self, (first, nr): (u64, u64), to: u64, keep: bool) {
        if to + nr > WINDOW {
            return;
        }
        let done = self.space.remap(pages(first, nr), at(bytes_at(to)), keep);
        let is_apart = to + nr <= first || first + nr <= to;
        let is_good = self.model.is_mapped(first, nr) && self.model.is_free(to, nr) && is_apart;
        assert_eq!(done.is_ok(), is_good, "{done:?}");
        if is_good {
            self.model.remap(first, nr, to, keep);
        }
    }

    /// What was dropped, the table says; the model, what may have been.
    fn reclaim(&mut self, (first, nr): (u64, u64)) {
        let done = self.space.reclaim(pages(first, nr));
        assert_eq!(done.is_ok(), self.model.is_anonymous(first, nr), "{done:?}");
        for page in self.model.lazy_pages(first, nr) {
            let now = self.space.snapshot(at(bytes_at(page)));
            if done.is_ok() && (now.target.is_none() || now.is_zero) {
                self.model.drop_bytes(page, 1);
            }
        }
    }

    /// Ranges that are not of one mapping are refused, shared pages stay: whatever it is, no byte changes.
    fn migrate(&self, op: Op, around: &Around<'s>) {
        match op {
            Op::In { first, nr, gpu, fail_large } => {
                let (gpu, (first, nr)) = (&around.gpus[gpu], clip(first, nr));
                if fail_large {
                    gpu.fail_next_large();
                }
                let _ = gpu.migrate_in(&self.space, pages(first, nr));
            }
            Op::Out { first, nr, gpu, fail_large } => {
                let (gpu, (first, nr)) = (&around.gpus[gpu], clip(first, nr));
                if fail_large {
                    gpu.fail_next_large();
                }
                let _ = gpu.migrate_out(&self.space, pages(first, nr));
            }
            Op::Evict { gpu } => {
                around.gpus[gpu].evict();
                assert_eq!(around.gpus[gpu].live(), 0, "nobody holds anything");
            }
            _ => unreachable!("not a migration: {op:?}"),
        }
    }

    fn exclusive(&mut self, page: u64, byte: Option<u8>) {
        let done = self.space.make_exclusive(at(bytes_at(page)), Owner::new(1));
        assert_eq!(done.is_ok(), self.model.is_writable(page, 1), "{:?}", done.as_ref().err());
        let (Ok(exclusive), Some(byte)) = (done, byte) else { return };
        let data = data(byte, 64);
        self.space.machine().memory().write(ExclusivePage::pfn(&exclusive), 100, &data);
        self.model.write(page * PAGE + 100, &data);
    }

    /// While it is held, a page stays where it is, and what is written there is its content.
    fn pin(&mut self, page: u64, byte: Option<u8>, gpus: &[Gpu<'s>]) {
        let access = if byte.is_some() { Access::Write } else { Access::Read };
        let pinned = self.space.pin(at(bytes_at(page)), access);
        let is_good = if byte.is_some() { self.model.is_writable(page, 1) } else { self.model.is_readable(page, 1) };
        assert_eq!(pinned.is_ok(), is_good, "{:?}", pinned.as_ref().err());
        let Ok(frame) = pinned else { return };
        let before = self.space.snapshot(at(bytes_at(page)));
        for gpu in gpus {
            let _ = gpu.migrate_in(&self.space, pages(page, 1));
        }
        if !before.is_zero {
            assert_eq!(self.space.snapshot(at(bytes_at(page))).target, before.target);
        }
        if let Some(byte) = byte {
            let data = data(byte, 64);
            // The frame is the folio's, of which the page may be any.
            let pfn = before.target.and_then(Target::pfn).unwrap();
            assert!((0..frame.order().nr_pages()).any(|page| frame.pfn().checked_add(page) == Some(pfn)));
            self.space.machine().memory().write(pfn, 2000, &data);
            self.model.write(page * PAGE + 2000, &data);
        }
    }
}
