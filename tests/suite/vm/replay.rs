//! Block writes recorded by QEMU in the format of the kernel's dm-log-writes, and disks made of the
//! first so many of them: what a power cut at that moment leaves.

use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// "rhswfsj" at the head of the file.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
/// A sector as the entries count them, whatever the log's own sector is.
const ENTRY_BYTES: usize = 32;
/// Writes of one moment; a boot has some thousand.
const ENTRIES_MAX: u64 = 10_000_000;

/// One recorded write.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Where on the disk, in bytes.
    at: u64,
    /// How much; nothing for a bare flush.
    bytes: u64,
    flags: u64,
    /// Where its data is in the log.
    data: u64,
}

/// A record of writes.
pub struct Log {
    file: File,
    entries: Vec<Entry>,
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

impl Log {
    /// Reads the list of writes.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        let mut head = [0; ENTRY_BYTES];
        file.read_exact_at(&mut head, 0)?;
        ensure!(
            number(&head, 0) == MAGIC && number(&head, 8) == VERSION,
            "{} is no record of writes",
            path.display()
        );
        let length = file.metadata()?.len();
        let mut size = [0; 4];
        size.copy_from_slice(&head[24..28]);
        let sector = u64::from(u32::from_le_bytes(size));
        ensure!(sector >= 512, "a sector of {sector} bytes");
        let mut entries = Vec::new();
        let mut at = sector;
        // The count in the head lags behind; a written entry is told by its own sense.
        while at + sector <= length && (entries.len() as u64) < ENTRIES_MAX {
            let mut entry = [0; ENTRY_BYTES];
            file.read_exact_at(&mut entry, at)?;
            let (bytes, flags) = (number(&entry, 8) * sector, number(&entry, 16));
            if bytes == 0 && flags & FLUSH == 0 {
                break;
            }
            let data = at + sector;
            entries.push(Entry {
                at: number(&entry, 0) * sector,
                bytes,
                flags,
                data,
            });
            at = match flags & DISCARD {
                0 => data + bytes,
                _ => data,
            };
        }
        Ok(Self { file, entries })
    }

    /// How many writes there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything before this write was flushed to the disk.
    fn is_flush(&self, index: usize) -> bool {
        self.entries[index].flags & (FLUSH | FUA) != 0
    }

    /// The first flush at or after this write.
    pub fn flush_after(&self, index: usize) -> usize {
        (index..self.len())
            .find(|n| self.is_flush(*n))
            .unwrap_or(self.len())
    }

    /// The last flush before this write.
    pub fn flush_before(&self, index: usize) -> usize {
        (0..index).rev().find(|n| self.is_flush(*n)).unwrap_or(0)
    }

    /// Writes `from..to` onto a disk.
    pub fn play(&self, disk: &File, from: usize, to: usize) -> Result<()> {
        for entry in &self.entries[from..to] {
            self.write(disk, entry)?;
        }
        Ok(())
    }

    /// Writes what a cut before write `cut` leaves of a disk that has everything before `from`: all
    /// that was flushed, and of the rest those writes that `keeps` says.
    pub fn play_torn(
        &self,
        disk: &File,
        from: usize,
        cut: usize,
        mut keeps: impl FnMut(usize) -> bool,
    ) -> Result<()> {
        let flushed = self.flush_before(cut).max(from);
        self.play(disk, from, flushed)?;
        for index in flushed..cut {
            if self.is_flush(index) || keeps(index) {
                self.write(disk, &self.entries[index])?;
            }
        }
        Ok(())
    }

    fn write(&self, disk: &File, entry: &Entry) -> Result<()> {
        if entry.bytes == 0 {
            return Ok(());
        }
        let length = usize::try_from(entry.bytes)?;
        let mut data = vec![0; length];
        if entry.flags & DISCARD == 0 {
            self.file
                .read_exact_at(&mut data, entry.data)
                .with_context(|| format!("the record ends within a write of {length} bytes"))?;
        }
        let end = entry.at + entry.bytes;
        if end > disk.metadata()?.len() {
            bail!("a write to {end}, beyond the end of the disk");
        }
        Ok(disk.write_all_at(&data, entry.at)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// As QEMU writes it: a head, then for each write its entry and its data, in sectors.
    fn record(writes: &[(u64, u64, u64)]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        bytes[..8].copy_from_slice(b"rhswfsj\0");
        bytes[8] = 1;
        bytes[24..28].copy_from_slice(&512_u32.to_le_bytes());
        for (n, (sector, sectors, flags)) in (1_u8..).zip(writes) {
            let mut entry = vec![0; 512];
            for (at, number) in [(0, sector), (8, sectors), (16, flags)] {
                entry[at..at + 8].copy_from_slice(&number.to_le_bytes());
            }
            bytes.extend(entry);
            bytes.extend(vec![n; usize::try_from(sectors * 512).unwrap()]);
        }
        bytes
    }

    #[test]
    fn a_cut_keeps_what_was_flushed_and_loses_what_it_likes_of_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("writes");
        let writes = [(0, 1, 0), (0, 0, FLUSH), (1, 2, 0), (3, 1, 0)];
        std::fs::write(&path, record(&writes)).unwrap();
        let log = Log::open(&path).unwrap();
        assert_eq!(
            (log.len(), log.flush_before(4), log.flush_after(0)),
            (4, 1, 1)
        );
        let sectors = |keeps: fn(usize) -> bool| {
            let disk = folder.path().join("disk");
            std::fs::write(&disk, [0; 4 * 512]).unwrap();
            let file = File::options().write(true).open(&disk).unwrap();
            log.play_torn(&file, 0, 4, keeps).unwrap();
            let bytes = std::fs::read(disk).unwrap();
            [0, 512, 1024, 1536].map(|at| bytes[at])
        };
        assert_eq!(sectors(|_| true), [1, 3, 3, 4]);
        assert_eq!(sectors(|_| false), [1, 0, 0, 0]);
        assert_eq!(sectors(|n| n == 3), [1, 0, 0, 4]);
    }

    #[test]
    fn other_files_are_no_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("writes");
        std::fs::write(&path, vec![0; 1024]).unwrap();
        assert!(Log::open(&path).is_err());
    }
}
