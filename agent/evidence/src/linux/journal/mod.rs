//! The systemd journal: `journalctl -o json`, the export format, and journal files themselves.
//!
//! Each form becomes [`Entry`]s for one [`Reader`], which keeps bounded state and reports at the end.

mod entry;
pub mod export;
pub mod file;
pub mod json;
mod reader;

pub use entry::{Entry, FIELDS, ids};
pub use reader::Reader;
