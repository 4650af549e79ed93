//! Kernel logs: crashes, lock-ups, warnings and sanitizer reports, from any source of kernel text.
//!
//! [`KernelLog`] takes a log line by line, so a log of any size is read in bounded memory: at most
//! eight reports of 512 KiB each are open at a time.
//!
//! # Evidence
//! Every finding carries `hash` (kind, function and top frames, stable across offsets, compiler
//! suffixes and sources), `header` (the line that began the report), `frames` (top candidates without
//! helpers, `name [module]`), `stack` and `stack_depth` (as printed), `trace` (whether any frame was
//! printed), `panicked` and `panic` (the reason), and where they are known `kernel` (release), `taint`
//! (letters), `comm`, `pid`, `cpu`, `hardware`, `modules_loaded`, `monotonic_us`. Its key is
//! `kernel:<hash>@<monotonic_us>`: the same report has the same key in pstore, kdump, journal and on
//! the console.

pub mod blame;
mod describe;
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
