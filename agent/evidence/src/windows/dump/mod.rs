//! Kernel dumps.
use crate::finding::Item;
/// Dump.
#[derive(Debug)]
pub struct Dump;
pub(super) fn items(_name: &str, _bytes: &[u8]) -> Vec<Item> {
    Vec::new()
}
