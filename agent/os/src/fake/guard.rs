//! The guard's part of a scripted boot: the real decision on the real ledger and slots.

use crate::host::HostError;
use ringward_domain::BootId;
use ringward_guard::run::{Did, run};
use ringward_guard::{BootLoader, SystemFiles};
use std::path::Path;

/// Whether the guard took the host back in this boot.
pub(super) fn at_boot(root: &Path, boot: BootId) -> Result<bool, HostError> {
    match run(SystemFiles, root, boot, BootLoader::Silent) {
        Ok(did) => Ok(matches!(did, Did::WentBack { .. })),
        Err(error) => Err(HostError::Malformed {
            what: format!("the guard's state in {}", root.display()),
            why: error.to_string(),
            next: "run `ringward-agent doctor`",
        }),
    }
}
