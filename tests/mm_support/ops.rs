//! [`Op`]: one random operation on address spaces, decoded from bytes or made by proptest.
//!
//! Every byte string is a program. Places are pages of a window of [`WINDOW`] pages, and spans are cut at its end.

use super::PAGE;

/// Pages of the window in which everything happens: four runs of 512.
pub const WINDOW: u64 = 2048;

#[derive(Clone, Copy, Debug)]
pub enum Op {
    /// Anonymous memory, or a file's pages from `file` on, which are copied when they are written.
    Map {
        first: u64,
        nr: u64,
        huge: bool,
        file: Option<u64>,
    },
    Unmap {
        first: u64,
        nr: u64,
    },
    /// 0, 1, 2: nothing, reading, writing.
    Protect {
        first: u64,
        nr: u64,
        protection: u8,
    },
    Remap {
        first: u64,
        nr: u64,
        to: u64,
        keep: bool,
    },
    Write {
        page: u64,
        at: u64,
        byte: u8,
        len: u64,
    },
    Read {
        page: u64,
    },
    In {
        first: u64,
        nr: u64,
        gpu: usize,
        fail_large: bool,
    },
    Out {
        first: u64,
        nr: u64,
        gpu: usize,
        fail_large: bool,
    },
    Evict {
        gpu: usize,
    },
    /// A device reads what is mapped, where it is.
    DeviceRead {
        first: u64,
        nr: u64,
        gpu: usize,
    },
    /// A device writes whole pages.
    DeviceWrite {
        first: u64,
        nr: u64,
        gpu: usize,
        byte: u8,
    },
    Fork,
    Exit,
    DontNeed {
        first: u64,
        nr: u64,
    },
    Free {
        first: u64,
        nr: u64,
    },
    Reclaim {
        first: u64,
        nr: u64,
    },
    /// The device that has the page for itself writes `byte`, if it is there.
    Exclusive {
        page: u64,
        byte: Option<u8>,
    },
    /// Whoever holds the page writes `byte` when it could not be moved, if it is there.
    Pin {
        page: u64,
        byte: Option<u8>,
    },
}

impl Op {
    /// The next operation of a program and the number of the address space that it is for, or `None` at its end.
    pub fn decode(bytes: &mut impl Iterator<Item = u8>) -> Option<(Op, usize)> {
        let (kind, shape) = (bytes.next()?, bytes.next()?);
        // Missing bytes at the end of a program are zero.
        let mut byte = || bytes.next().unwrap_or(0);
        let which = usize::from(shape % 4);
        let [flag, other_flag] = [shape >> 2 & 1 == 1, shape >> 3 & 1 == 1];
        let gpu = usize::from(flag);
        let op = match kind {
            0..=29 => {
                let (first, nr) = span(&mut byte);
                Op::Map { first, nr, huge: flag, file: (other_flag && shape >> 4 & 1 == 1).then(|| byte().into()) }
            }
            30..=39 => {
                let (first, nr) = span(&mut byte);
                Op::Unmap { first, nr }
            }
            40..=55 => {
                let (first, nr) = span(&mut byte);
                Op::Protect { first, nr, protection: (shape >> 2) % 3 }
            }
            56..=71 => {
                let (first, nr) = span(&mut byte);
                let to = page(&mut byte);
                Op::Remap { first, nr, to: if flag { to & !511 } else { to }, keep: other_flag }
            }
            72..=107 => {
                let (page, at, len) = (page(&mut byte), wide(&mut byte) % PAGE, 1 + wide(&mut byte) % (3 * PAGE));
                Op::Write { page, at, byte: byte(), len }
            }
            108..=119 => Op::Read { page: page(&mut byte) },
            120..=151 => {
                let (first, nr) = span(&mut byte);
                Op::In { first, nr, gpu, fail_large: other_flag }
            }
            152..=167 => {
                let (first, nr) = span(&mut byte);
                Op::Out { first, nr, gpu, fail_large: other_flag }
            }
            168..=172 => Op::Evict { gpu },
            173..=184 => {
                let (first, nr) = span(&mut byte);
                Op::DeviceRead { first, nr, gpu }
            }
            185..=200 => {
                let (first, nr) = span(&mut byte);
                Op::DeviceWrite { first, nr, gpu, byte: byte() }
            }
            201..=212 => Op::Fork,
            213..=217 => Op::Exit,
            218..=222 => {
                let (first, nr) = span(&mut byte);
                Op::DontNeed { first, nr }
            }
            223..=229 => {
                let (first, nr) = span(&mut byte);
                Op::Free { first, nr }
            }
            230..=236 => {
                let (first, nr) = span(&mut byte);
                Op::Reclaim { first, nr }
            }
            237..=247 => Op::Exclusive { page: page(&mut byte), byte: other_flag.then(byte) },
            248..=255 => Op::Pin { page: page(&mut byte), byte: other_flag.then(byte) },
        };
        Some((op, which))
    }
}

fn wide(byte: &mut impl FnMut() -> u8) -> u64 {
    u16::from_le_bytes([byte(), byte()]).into()
}

/// Mostly near the borders of runs of 512, so that operations meet.
fn page(byte: &mut impl FnMut() -> u8) -> u64 {
    match byte() {
        near @ 0..=159 => (u64::from(near % 4) * 512 + u64::from(near >> 4)) % WINDOW,
        below @ 160..=191 => u64::from(below % 4) * 512 + 511 - u64::from((below % 32) >> 2),
        192..=255 => wide(byte) % WINDOW,
    }
}

/// Runs, parts of runs, a few pages.
fn span(byte: &mut impl FnMut() -> u8) -> (u64, u64) {
    match byte() {
        runs @ 0..=99 => clip(u64::from(runs % 4) * 512, if runs < 80 { 512 } else { 1024 }),
        halves @ 100..=149 => clip(u64::from(halves % 8) * 256, u64::from(1 + halves % 3) * 256),
        150..=255 => clip(page(byte), 1 + u64::from(byte()) % 20),
    }
}

/// The part of a span that lies in the window.
pub fn clip(first: u64, nr: u64) -> (u64, u64) {
    (first, nr.min(WINDOW - first))
}
