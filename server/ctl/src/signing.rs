//! From a description of a release and its folders to a signed envelope on disk.

use crate::bundle::{self, Bundle};
use crate::error::Error;
use crate::files;
use crate::keys::ReleaseKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ringward_domain::host::{Arch, Os};
use ringward_domain::limits::{MANIFEST_BYTES_MAX, SIGNATURES_MAX};
use ringward_domain::manifest::{
    Artefact, BootNeed, Envelope, Installer, Manifest, Probe, RevertClass, Signature,
};
use ringward_domain::{KeyId, PackageName, ReleaseDigest, Sha256, Version};
use ringward_wire::token::sha256;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Artefacts and probes of one manifest.
const ITEMS_MAX: usize = 16;
const ENVELOPE_BYTES_MAX: u64 = 256 * 1024;

/// What a release is made of: the file that `releases sign --file` reads, or its flags.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseSpec {
    /// The package.
    pub package: PackageName,
    /// Its version.
    pub version: Version,
    /// See [`Manifest::security_floor`].
    pub security_floor: Option<Version>,
    /// See [`Manifest::expires_unix_s`].
    pub expires_unix_s: Option<u64>,
    /// See [`Manifest::boot`].
    #[serde(default)]
    pub boot: BootNeed,
    /// What must hold on a host for its soak to count; at most 16.
    #[serde(default)]
    pub probes: Vec<Probe>,
    /// How it is installed; for deb, rpm and msi each bundle's path names the package file.
    #[serde(default = "bundle_installer")]
    pub installer: Installer,
    /// The package's files, for each kind of host; 1-16.
    pub bundles: Vec<BundleSpec>,
}

fn bundle_installer() -> Installer {
    Installer::Bundle
}

/// The package's files for one kind of host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleSpec {
    /// Operating system.
    pub os: Os,
    /// Architecture; all where absent.
    pub arch: Option<Arch>,
    /// A folder, or a tar archive; in a file relative to that file.
    pub path: PathBuf,
}

impl ReleaseSpec {
    /// Reads a description (TOML); paths in it are relative to it.
    ///
    /// # Errors
    /// A file that cannot be read or is no such description.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bad = |why: String| {
            Error::usage(
                format!("{} is no release description: {why}", path.display()),
                "it needs package, version and at least one [[bundles]] with os and path",
            )
        };
        let text = String::from_utf8(files::read(path, ENVELOPE_BYTES_MAX)?)
            .map_err(|e| bad(e.to_string()))?;
        let mut spec: Self = toml::from_str(&text).map_err(|e| bad(e.to_string()))?;
        let base = path.parent().unwrap_or(Path::new(""));
        for bundle in &mut spec.bundles {
            bundle.path = base.join(&bundle.path);
        }
        Ok(spec)
    }

    /// Packs the bundles into `out` and writes the manifest.
    ///
    /// # Errors
    /// Bundles that cannot be packed, a description that breaks a rule.
    pub fn build(&self, out: &Path) -> Result<Built, Error> {
        self.check()?;
        std::fs::create_dir_all(out).map_err(Error::file("creating", out))?;
        let mut bundles = Vec::new();
        let mut artefacts = Vec::new();
        for spec in &self.bundles {
            let bundle = match self.installer.package_file() {
                None => bundle::pack(&spec.path, out)?,
                Some(name) => bundle::pack_package(&spec.path, name, out)?,
            };
            artefacts.push(Artefact {
                os: spec.os,
                arch: spec.arch,
                sha256: bundle.sha256,
                size: bundle.size,
            });
            bundles.push(bundle);
        }
        let manifest = Manifest {
            format: 1,
            package: self.package.clone(),
            version: self.version.clone(),
            security_floor: self.security_floor.clone(),
            expires_unix_s: self.expires_unix_s,
            artefacts,
            installer: self.installer,
            revert_class: match self.installer {
                Installer::Bundle => RevertClass::Atomic,
                Installer::Deb | Installer::Rpm | Installer::Msi => RevertClass::Staged,
            },
            boot: self.boot,
            probes: self.probes.clone(),
        };
        let payload = serde_json::to_vec(&manifest).map_err(|e| {
            Error::usage(format!("the manifest cannot be written: {e}"), "report it")
        })?;
        if payload.len() > MANIFEST_BYTES_MAX {
            return Err(Error::usage(
                format!(
                    "the manifest has {} bytes, at most 16384 fit",
                    payload.len()
                ),
                "use fewer or shorter probes",
            ));
        }
        Ok(Built {
            manifest,
            envelope: Envelope {
                payload,
                signatures: Vec::new(),
            },
            bundles,
        })
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |what: &str, next: &str| Err(Error::usage(what, next));
        if self.bundles.is_empty() || self.bundles.len() > ITEMS_MAX {
            return refuse(
                "a release needs 1-16 bundles",
                "name the package's folder with --bundle",
            );
        }
        if self.probes.len() > ITEMS_MAX {
            return refuse("a release has at most 16 probes", "leave some out");
        }
        let (only, what) = match self.installer {
            Installer::Bundle => (None, ""),
            Installer::Deb | Installer::Rpm => {
                (Some(Os::Linux), "deb and rpm packages are for Linux hosts")
            }
            Installer::Msi => (Some(Os::Windows), "msi packages are for Windows hosts"),
        };
        if only.is_some_and(|only| self.bundles.iter().any(|bundle| bundle.os != only)) {
            return refuse(
                what,
                "name another installer for the other systems, in a release of its own",
            );
        }
        let floor = self.security_floor.as_ref();
        if floor.is_some_and(|floor| *floor > self.version) {
            return refuse(
                "the security floor is above the release's own version",
                "set it to the oldest version that hosts may go back to",
            );
        }
        for (i, bundle) in self.bundles.iter().enumerate() {
            let same = |other: &BundleSpec| (other.os, other.arch) == (bundle.os, bundle.arch);
            if self.bundles[..i].iter().any(same) {
                return refuse(
                    "two bundles are for the same kind of host",
                    "name each os and arch once",
                );
            }
        }
        Ok(())
    }
}

/// A release made of its parts, not yet or partly signed.
#[derive(Debug, Clone)]
pub struct Built {
    /// What is signed.
    pub manifest: Manifest,
    /// Its bytes, and signatures so far.
    pub envelope: Envelope,
    /// The files.
    pub bundles: Vec<Bundle>,
}

impl Built {
    /// The files by their hash, as [`Client::publish`](crate::Client::publish) takes them.
    #[must_use]
    pub fn artefacts(&self) -> Vec<(Sha256, PathBuf)> {
        self.bundles
            .iter()
            .map(|bundle| (bundle.sha256, bundle.path.clone()))
            .collect()
    }
}

/// What an envelope's bytes are called everywhere.
#[must_use]
pub fn digest(envelope: &Envelope) -> ReleaseDigest {
    ReleaseDigest(sha256(&envelope.payload).0)
}

/// Adds a signature, replacing an earlier one by the same key.
///
/// # Errors
/// More signatures than an envelope holds.
pub fn sign(envelope: &mut Envelope, key: &ReleaseKey) -> Result<(), Error> {
    let signature = key.sign(&envelope.payload);
    envelope
        .signatures
        .retain(|other| other.key != signature.key);
    if envelope.signatures.len() >= SIGNATURES_MAX {
        return Err(Error::usage(
            "the envelope holds 16 signatures already",
            "publish it: more are not looked at",
        ));
    }
    envelope.signatures.push(signature);
    Ok(())
}

/// An envelope as it lies on disk: JSON that people can read and copy.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeFile {
    /// Base64 (RFC 4648 §4).
    payload: String,
    signatures: Vec<SignatureFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureFile {
    key: KeyId,
    /// Base64 (RFC 4648 §4).
    signature: String,
}

/// Writes an envelope, replacing the file.
///
/// # Errors
/// Whatever the disk reports.
pub fn write_envelope(path: &Path, envelope: &Envelope) -> Result<(), Error> {
    let file = EnvelopeFile {
        payload: STANDARD.encode(&envelope.payload),
        signatures: envelope
            .signatures
            .iter()
            .map(|signature| SignatureFile {
                key: signature.key,
                signature: STANDARD.encode(&signature.signature),
            })
            .collect(),
    };
    let text = serde_json::to_vec_pretty(&file).map_err(|e| Error::File {
        doing: "writing",
        path: path.to_owned(),
        source: e.into(),
    })?;
    files::replace(path, &text)
}

/// Reads an envelope and the manifest in it.
///
/// # Errors
/// A file that cannot be read or is no envelope.
pub fn read_envelope(path: &Path) -> Result<(Envelope, Manifest), Error> {
    let bad = |why: String| {
        Error::usage(
            format!("{} is no signed release: {why}", path.display()),
            "name the file that `ringwardctl releases sign` wrote",
        )
    };
    let text = files::read(path, ENVELOPE_BYTES_MAX)?;
    let file: EnvelopeFile = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
    let decode = |text: &str| STANDARD.decode(text).map_err(|e| bad(e.to_string()));
    let payload = decode(&file.payload)?;
    let manifest = serde_json::from_slice(&payload).map_err(|e| bad(e.to_string()))?;
    let signatures = file
        .signatures
        .iter()
        .map(|signature| {
            Ok(Signature {
                key: signature.key,
                signature: decode(&signature.signature)?,
            })
        })
        .collect::<Result<_, Error>>()?;
    Ok((
        Envelope {
            payload,
            signatures,
        },
        manifest,
    ))
}

/// Where the files of a manifest lie: beside its envelope, named by their hashes.
#[must_use]
pub fn artefacts_beside(envelope: &Path, manifest: &Manifest) -> Vec<(Sha256, PathBuf)> {
    let dir = envelope.parent().unwrap_or(Path::new(""));
    let mut hashes: Vec<_> = manifest.artefacts.iter().map(|a| a.sha256).collect();
    hashes.sort();
    hashes.dedup();
    hashes
        .into_iter()
        .map(|sha256| (sha256, dir.join(format!("{sha256}.bundle"))))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spec(dir: &Path) -> ReleaseSpec {
        std::fs::create_dir_all(dir.join("tree")).unwrap();
        std::fs::write(dir.join("tree/run"), "#!/bin/sh\n").unwrap();
        let text = "package = 'demo'\nversion = '1.1'\nboot = 'required'\n\
                    [[bundles]]\nos = 'linux'\narch = 'x86-64'\npath = 'tree'\n\
                    [[probes]]\nkind = 'tcp'\nport = 80\ntimeout_ms = 500\n";
        std::fs::write(dir.join("release.toml"), text).unwrap();
        ReleaseSpec::read(&dir.join("release.toml")).unwrap()
    }

    #[test]
    fn several_signers_add_to_one_envelope() {
        let dir = tempfile::tempdir().unwrap();
        let made = crate::keys::init(&dir.path().join("keys"), 2, 2).unwrap();
        let mut built = spec(dir.path()).build(&dir.path().join("out")).unwrap();
        let path = dir.path().join("out/demo-1.1.release.json");
        let digest_first = digest(&built.envelope);
        sign(
            &mut built.envelope,
            &ReleaseKey::read(&made.keys[0]).unwrap(),
        )
        .unwrap();
        write_envelope(&path, &built.envelope).unwrap();

        let (mut envelope, manifest) = read_envelope(&path).unwrap();
        assert_eq!(manifest, built.manifest);
        let second = ReleaseKey::read(&made.keys[1]).unwrap();
        sign(&mut envelope, &second).unwrap();
        sign(&mut envelope, &second).unwrap();
        assert_eq!(envelope.signatures.len(), 2);
        let valid =
            crate::keys::valid_signatures(&made.root, &envelope.payload, &envelope.signatures);
        assert_eq!(valid, 2);
        assert_eq!(digest(&envelope), digest_first);
        for (_, file) in artefacts_beside(&path, &manifest) {
            assert!(file.exists());
        }
    }

    #[test]
    fn a_description_that_breaks_a_rule_says_which() {
        let dir = tempfile::tempdir().unwrap();
        let good = spec(dir.path());
        let out = dir.path().join("out");
        let mut twice = good.clone();
        twice.bundles.push(good.bundles[0].clone());
        let mut floor = good.clone();
        floor.security_floor = Some("2.0".parse().unwrap());
        let mut none = good;
        none.bundles.clear();
        for (spec, word) in [
            (twice, "same kind"),
            (floor, "floor"),
            (none, "1-16 bundles"),
        ] {
            let error = spec.build(&out).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
            assert_eq!(error.exit_code(), crate::error::exit::USAGE);
        }
    }
}
