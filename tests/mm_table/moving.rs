//! Leaves of pages on their way, and what happens to an address space meanwhile.

use farpage::{Access, AddressSpace, LeafKind, MigrateBatch, Protection};

use crate::BASE;
use crate::mm_support::{Gpu, HUGE, Kind, PAGE, World, anon, assert_bytes, at, pattern, range, read, world, write};

const HALF: u64 = HUGE / 2;

/// Begins to evict all pages of an address space, lets `meanwhile` happen, ends, and gives `after` a look: both kinds of device,
/// pages and huge pages, moved and left where they are.
fn meanwhile(
    meanwhile: impl for<'s> Fn(AddressSpace<'s>) -> Vec<AddressSpace<'s>>,
    after: impl for<'s> Fn(&World<'s>, &[AddressSpace<'s>]),
) {
    for case in 0..8 {
        let (huge, moves) = (case & 1 == 1, case & 2 == 2);
        let kind = if case & 4 == 4 { Kind::Visible } else { Kind::Private };
        world(|w| {
            let gpu = Gpu::new(w, kind, 1);
            let (space, all) = (w.machine.address_space().unwrap(), range(BASE, HUGE));
            space.map(anon(BASE, HUGE).huge(huge)).unwrap();
            write(&space, BASE, &pattern(HUGE, 21));
            assert_eq!(gpu.migrate_in(&space, all).unwrap(), 512);
            let mut batch = MigrateBatch::new();
            let mut migration = match kind {
                Kind::Private => w.machine.migrate_device_range(&mut batch, gpu.device.range()),
                Kind::Visible => w.machine.migrate_host_range(&mut batch, gpu.device.range()),
            };
            assert!(matches!(space.leaf(at(BASE)).0.kind(), LeafKind::Migration(_)));
            assert!(matches!(space.leaf(at(BASE + HUGE - PAGE)).0.kind(), LeafKind::Migration(_)));
            let spaces = meanwhile(space);
            w.check();
            if moves {
                gpu.vram.to_host(&mut migration).unwrap();
                migration.pages();
                migration.finalize();
            } else {
                drop(migration);
            }
            w.check();
            after(w, &spaces);
            w.check();
            drop(spaces);
            assert_eq!((gpu.live(), gpu.freed()), (0, 512), "{kind:?}, huge {huge}, moves {moves}");
            // A huge zero page, once asked for, stays the machine's.
            assert!(w.host_used() == 0 || huge && w.host_used() == 512, "{} host pages", w.host_used());
        });
    }
}

fn want() -> Vec<u8> {
    pattern(HUGE, 21)
}

#[test]
fn a_page_on_its_way_is_unmapped() {
    meanwhile(
        |space| {
            space.unmap(range(BASE, HALF)).unwrap();
            vec![space]
        },
        |_, spaces| {
            assert!(spaces[0].read(at(BASE), &mut [0]).is_err());
            assert_bytes(&read(&spaces[0], BASE + HALF, HALF), &want()[HALF as usize..]);
        },
    );
}

#[test]
fn a_page_on_its_way_is_protected() {
    for protection in [Protection::Read, Protection::None] {
        meanwhile(
            |space| {
                space.protect(range(BASE, HALF), protection).unwrap();
                vec![space]
            },
            |_, spaces| {
                let space = &spaces[0];
                assert!(space.write(at(BASE), &[1]).is_err());
                assert_ne!(space.leaf(at(BASE)).0.access(), Some(Access::Write));
                assert_eq!(space.read(at(BASE), &mut [0]).is_err(), protection == Protection::None);
                write(space, BASE + HALF, &want()[HALF as usize..][..8]);
                space.protect(range(BASE, HALF), Protection::ReadWrite).unwrap();
                assert_bytes(&read(space, BASE, HUGE), &want());
                write(space, BASE, &[1]);
            },
        );
    }
}

#[test]
fn a_page_on_its_way_is_moved_elsewhere() {
    // Alike, and over an edge of tables.
    for to in [BASE + 4 * HUGE, BASE + 4 * HUGE + 7 * PAGE] {
        meanwhile(
            |space| {
                space.remap(range(BASE, HUGE), at(to), false).unwrap();
                vec![space]
            },
            |_, spaces| {
                assert!(spaces[0].read(at(BASE), &mut [0]).is_err());
                assert_bytes(&read(&spaces[0], to, HUGE), &want());
            },
        );
    }
}

#[test]
fn a_page_on_its_way_is_shared_by_a_fork() {
    meanwhile(
        |space| {
            let child = space.fork().unwrap();
            vec![space, child]
        },
        |_, spaces| {
            write(&spaces[1], BASE, &[9; 8]);
            assert_bytes(&read(&spaces[0], BASE, HUGE), &want());
            write(&spaces[0], BASE + HALF, &[8; 8]);
            assert_bytes(&read(&spaces[1], BASE + 8, HUGE - 8), &want()[8..]);
        },
    );
}

#[test]
fn advice_passes_over_a_page_on_its_way() {
    meanwhile(
        |space| {
            for part in [range(BASE, HUGE), range(BASE + PAGE, 5 * PAGE)] {
                space.advise_free(part).unwrap();
                assert_eq!(space.reclaim(part).unwrap(), 0);
            }
            vec![space]
        },
        |_, spaces| {
            assert_eq!(spaces[0].reclaim(range(BASE, HUGE)).unwrap(), 0, "nor is it marked");
            assert_bytes(&read(&spaces[0], BASE, HUGE), &want());
        },
    );
}

#[test]
fn a_page_on_its_way_is_not_needed() {
    meanwhile(
        |space| {
            space.advise_dont_need(range(BASE, HALF)).unwrap();
            vec![space]
        },
        |_, spaces| {
            assert_bytes(&read(&spaces[0], BASE, HALF), &vec![0; HALF as usize]);
            assert_bytes(&read(&spaces[0], BASE + HALF, HALF), &want()[HALF as usize..]);
        },
    );
}

#[test]
fn an_address_space_ends_while_its_pages_are_on_their_way() {
    meanwhile(
        |space| {
            drop(space);
            vec![]
        },
        |w, _| assert_eq!(w.host_used(), 0),
    );
}
