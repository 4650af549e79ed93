//! The host's last resort: the ledger on disk, the slots, and the decision to go back, without
//! network, server or database. The agent uses the same code, so both read and write one format.
//!
//! Standard library and `ringward-domain` only. [`files::Files`] stands between every decision and
//! the disk, so that a layer that loses, tears and reorders writes can be put under all of it.

pub mod codec;
pub mod decide;
pub mod error;
pub mod files;
pub mod loader;
pub mod run;
pub mod slots;
pub mod staged;
pub mod store;
pub mod trial;
#[cfg(windows)]
pub mod windows;
mod words;

pub use codec::LedgerFile;
pub use decide::{BootLoader, GuardAction, decide, rescue};
pub use error::GuardError;
pub use files::{Files, SystemFiles, sync_folder};
pub use slots::Slots;
pub use store::LedgerStore;
