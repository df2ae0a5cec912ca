//! The input: bytes of files, repeated or cut to a size, in plain memory.

use std::env;
use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use crate::job::Record;

pub(crate) struct Input {
    /// The job's bytes, as the records they will be sorted as.
    pub(crate) records: Vec<Record>,
    /// Bytes that were read, before any repeating.
    pub(crate) read_bytes: u64,
    /// There was more input than room.
    pub(crate) cut: bool,
}

/// Reads `files`, or this program itself if none is named, and fills `nr_records` with them.
pub(crate) fn read(files: &[PathBuf], nr_records: usize) -> Result<Input, String> {
    let mut records: Vec<Record> = Vec::new();
    records.try_reserve_exact(nr_records).map_err(|_| {
        format!(
            "no memory for a plain copy of {} bytes to compare with: give a smaller --size",
            nr_records as u128 * size_of::<Record>() as u128
        )
    })?;
    records.resize(nr_records, 0);
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut records);

    let own;
    let files = if files.is_empty() {
        own = [env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?];
        &own
    } else {
        files
    };
    let mut filled = 0;
    let mut cut = false;
    for path in files {
        let failed = |error| format!("cannot read {}: {error}", path.display());
        let mut file = File::open(path).map_err(failed)?;
        loop {
            let mut beyond = [0];
            let room = if filled < bytes.len() { &mut bytes[filled..] } else { &mut beyond[..] };
            match file.read(room) {
                Ok(0) => break,
                Ok(_) if filled == bytes.len() => {
                    cut = true;
                    break;
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
    if filled == 0 {
        return Err(format!("the input is empty ({} files of 0 bytes): there is nothing to repeat", files.len()));
    }
    // Doubling: what is there is copied behind itself, and is then the input still, repeated.
    let mut done = filled;
    while done < bytes.len() {
        let more = done.min(bytes.len() - done);
        bytes.copy_within(..more, done);
        done += more;
    }
    Ok(Input { records, read_bytes: filled as u64, cut })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::read;

    #[test]
    fn files_follow_each_other_and_are_repeated_or_cut() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&a, b"abc").unwrap();
        fs::write(&b, b"defg").unwrap();
        let input = read(&[a.clone(), b.clone()], 1).unwrap();
        assert_eq!(bytemuck::bytes_of(&input.records[0]), b"abcdefgabcdefgab");
        assert!(!input.cut && input.read_bytes == 7);
        fs::write(&a, [7; 17]).unwrap();
        assert!(read(std::slice::from_ref(&a), 1).unwrap().cut);
        fs::write(&a, b"").unwrap();
        assert!(read(&[a], 1).is_err());
        assert!(read(&[dir.path().join("c")], 1).is_err());
    }
}
