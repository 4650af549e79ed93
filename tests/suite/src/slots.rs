//! What a host really runs, read from its own slots and not from what anybody says.

use ringward_domain::{PackageName, ReleaseDigest};
use std::path::Path;

/// The release that the current slot of `package` holds on the host whose state is in `root`;
/// `None` where nothing of it is installed.
#[must_use]
pub fn running(root: &Path, package: &PackageName) -> Option<ReleaseDigest> {
    let current = root.join("slots").join(package.as_str()).join("current");
    let tree = std::fs::read_link(current).ok()?;
    tree.file_name()?.to_str()?.parse().ok()
}

/// How many of these hosts run `release`.
#[must_use]
pub fn count_running<'a>(
    roots: impl IntoIterator<Item = &'a Path>,
    package: &PackageName,
    release: ReleaseDigest,
) -> u64 {
    roots
        .into_iter()
        .filter(|root| running(root, package) == Some(release))
        .count() as u64
}
