//! Packages of other systems: there is nothing to install them with.

use std::path::Path;

/// Never called: no unit of this kind is set up here.
///
/// # Errors
/// Always.
pub fn run(_state: &Path, _instance: &str) -> Result<String, String> {
    Err("deb and rpm packages are for Linux hosts".to_owned())
}

/// Whether the system's programs belong to an image that packages cannot change.
#[must_use]
pub fn read_only_usr(_root: &Path) -> Option<String> {
    None
}
