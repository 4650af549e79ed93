//! A signed release of the one package that every host runs.

use anyhow::{Context, Result};
use ringward_domain::{ReleaseDigest, Sha256};
use ringward_suite::lab::{Lab, words};
use ringward_suite::process::output;
use ringwardctl::signing;
use std::path::PathBuf;

/// A release that the server has.
pub struct Published {
    /// Its digest.
    pub release: ReleaseDigest,
    /// Its one artefact, and the file that it was sent from.
    pub artefact: (Sha256, PathBuf),
}

/// Signs and publishes a version whose bundle holds one file with this content.
///
/// # Errors
/// It is refused.
pub async fn publish(lab: &Lab, version: &str, content: &[u8]) -> Result<Published> {
    let tree = lab.dir().join(format!("bundle-{version}"));
    std::fs::create_dir_all(&tree)?;
    std::fs::write(tree.join("CONTENT"), content)?;
    let releases = lab.dir().join("releases");
    let mut sign = words(
        ["releases", "sign", "--package", "edge-sensor", "--bundle"],
        &tree,
    );
    let key = lab.dir().join("release-keys").join("release-1.key");
    sign.extend(words(["--key"], &key));
    sign.extend(["--version", version].map(Into::into));
    sign.extend(words(["--out"], &releases));
    output(&lab.programs().path("ringwardctl"), sign).await?;
    let file = releases.join(format!("edge-sensor-{version}.release.json"));
    let named = file.to_string_lossy();
    lab.ctl(&[
        "releases", "publish", &named, "--reason", "measured", "--yes",
    ])
    .await?;
    let (envelope, manifest) = signing::read_envelope(&file)?;
    let artefacts = signing::artefacts_beside(&file, &manifest);
    Ok(Published {
        release: signing::digest(&envelope),
        artefact: artefacts.into_iter().next().context("an artefact")?,
    })
}
