//! Backups: everything a server is, as one file of JSON Lines that ends in its own digest.
//!
//! A running server writes its own backup: the decisions stand still while the values are copied
//! (about a second for 100,000 hosts), audit log, signals and artefacts only ever grow and are
//! copied after that. The file holds every private key of the authority.

mod line;
mod local;
mod read;
mod write;

pub use local::{listen, take};
pub use read::{Restored, restore};

use crate::error::ServerError;
use std::path::{Component, Path};

/// Version of the format; the first line names it.
const FORMAT: u32 = 1;
/// Bytes of content in one line.
const PIECE: usize = 256 * 1024;
/// Bytes of one line: a value of the largest size a commit may have, in base64.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Folders of a data directory that are no files to copy: the store and the artefacts are copied by
/// content, the others only mean something to a running process.
const APART: [&str; 4] = ["store", "artefacts", "run", "login"];

/// Whether a file of this name may stand in a backup: plain names, at most one folder deep.
fn is_copied(relative: &Path) -> bool {
    let parts: Option<Vec<&str>> = relative
        .components()
        .map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        })
        .collect();
    match parts.as_deref() {
        Some([file]) => !APART.contains(file),
        Some([folder, _]) => !APART.contains(folder),
        _ => false,
    }
}

fn damaged(line: u64, why: impl std::fmt::Display) -> ServerError {
    ServerError::refused(
        format!("line {line} of the backup: {why}"),
        "take another backup; nothing was restored",
    )
}
