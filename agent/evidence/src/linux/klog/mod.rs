//! Kernel logs: crashes, lock-ups, warnings and sanitizer reports, from any source of kernel text.
//!
//! [`KernelLog`] takes a log line by line, so a log of any size is read in bounded memory:
//! at most [`incident::OPEN_MAX`] reports of [`incident::ROWS_MAX`] rows are open at a time.

pub mod blame;
pub mod facts;
pub mod frame;
pub mod header;
pub mod helpers;
mod incident;
pub mod line;
mod plans;
pub mod shape;

pub use frame::name as normalise;
pub use incident::{KernelLog, Origin};

use crate::finding::Item;

/// Longest row kept in bytes; the kernel's own lines end at about 1 KiB.
pub const ROW_BYTES_MAX: usize = 2048;

/// Reads a whole kernel log that is already in memory.
#[must_use]
pub fn read(bytes: &[u8]) -> Vec<Item> {
    let mut log = KernelLog::new(Origin::default());
    for line in bytes.split(|&b| b == b'\n') {
        log.push(line);
    }
    log.finish();
    log.take()
}
