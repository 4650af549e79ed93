//! Getting a release ready to switch: manifest fetched and verified, artefact fetched (going on where
//! it stopped), verified and unpacked from the very file that was verified, moved into its slot.

mod fetch;
mod mirror;
mod unpack;
mod verify;

pub(crate) use fetch::authority_bundles;
pub(crate) use mirror::Mirrors;
pub use unpack::{UnpackError, unpack};
pub use verify::{Refused, Wanted, artefact, key_id, verify};

use crate::identity::{self, IdentityError};
use crate::link::chain;
use fetch::FetchError;
use ring::digest;
use ringward_agent_core::event::PrepareFailure;
use ringward_domain::host::Facts;
use ringward_domain::ledger::{Installed, Ledger};
use ringward_domain::manifest::{Artefact, Envelope, Manifest, ReleaseRoot};
use ringward_domain::observed::{PrepareError, RefuseWhy};
use ringward_domain::{AssignmentKind, PackageName, ReleaseDigest, Sha256, Version};
use ringward_guard::{GuardError, Slots, SystemFiles};
use ringward_wire::roots::follow_all;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tonic::transport::Channel;

/// Why a release is not ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReady {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the artefact's content is not what the manifest names; it is fetched anew")]
    Digest,
    #[error(transparent)]
    Unpack(UnpackError),
    #[error("the slots")]
    Slots(#[from] GuardError),
    #[error("{doing} {path}")]
    Staging {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Folder(#[from] IdentityError),
    #[error("no session with a server; it is tried again")]
    NoSession,
    #[error("this host knows no keys that may sign releases; enrol it with a server that has them")]
    NoReleaseRoot,
    #[error("unpacking was interrupted")]
    Interrupted,
    #[error("there would be no way back: {0}; it is tried again")]
    NoWayBack(String),
    #[error("{0}")]
    Installer(String),
}

impl NotReady {
    /// As the machine understands it.
    pub(crate) fn failure(&self) -> PrepareFailure {
        match self {
            Self::Refused(refused) => PrepareFailure::Refused(refused.why),
            Self::NoReleaseRoot => PrepareFailure::Refused(RefuseWhy::Signature),
            Self::Unpack(UnpackError::Rule { .. } | UnpackError::Archive(_)) => {
                PrepareFailure::Refused(RefuseWhy::Bundle)
            }
            Self::Digest => PrepareFailure::Retry(PrepareError::Digest),
            Self::Unpack(UnpackError::Disk { .. })
            | Self::Slots(_)
            | Self::Staging { .. }
            | Self::Folder(_)
            | Self::Interrupted
            | Self::Fetch(FetchError::Disk { .. }) => PrepareFailure::Retry(PrepareError::Disk),
            Self::Installer(_) => PrepareFailure::Refused(RefuseWhy::Platform),
            Self::Fetch(_) | Self::NoSession | Self::NoWayBack(_) => {
                PrepareFailure::Retry(PrepareError::Download)
            }
        }
    }
}

/// One preparation.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) package: PackageName,
    pub(crate) release: ReleaseDigest,
    pub(crate) version: Version,
    pub(crate) kind: AssignmentKind,
}

/// What every preparation of one agent works with.
#[derive(Debug, Clone)]
pub(crate) struct Workshop {
    pub(crate) state_dir: PathBuf,
    pub(crate) root: Option<ReleaseRoot>,
    pub(crate) facts: Facts,
    pub(crate) ledger: Ledger,
    pub(crate) channel: Option<Channel>,
    pub(crate) mirrors: Mirrors,
}

/// The manifest kept beside a release's tree, if it is there and is the right one. Its signatures
/// were verified before it was put there, with the keys of that time.
pub(crate) fn kept_manifest(
    slots: &Slots<SystemFiles>,
    package: &PackageName,
    release: &ReleaseDigest,
) -> Option<(Envelope, Manifest)> {
    let bytes = slots.manifest(package, release).ok()??;
    let envelope: Envelope = serde_json::from_slice(&bytes).ok()?;
    let digest = digest::digest(&digest::SHA256, &envelope.payload);
    let manifest = serde_json::from_slice(&envelope.payload).ok()?;
    (digest.as_ref() == release.0).then_some((envelope, manifest))
}

impl Workshop {
    /// Make the release ready; ready already is done at once.
    pub(crate) async fn prepare(mut self, order: &Order) -> Result<Manifest, NotReady> {
        self.follow_roots().await;
        let slots = Slots::new(SystemFiles, &self.state_dir);
        let on_disk = slots.has(&order.package, &order.release)?;
        let kept = kept_manifest(&slots, &order.package, &order.release).filter(|_| on_disk);
        let wanted = self.wanted(order, &slots);
        if let Some((envelope, manifest)) = kept {
            // A way back must not depend on a key that was retired since.
            return match order.kind {
                AssignmentKind::Install => Ok(self.verify(&envelope, &wanted)?),
                AssignmentKind::Rollback => {
                    verify::check_floor(&manifest, &wanted)?;
                    Ok(manifest)
                }
            };
        }
        slots.prune(&order.package, &self.ledger)?;
        let channel = self.channel.clone().ok_or(NotReady::NoSession)?;
        let envelope = fetch::release(channel.clone(), order.release).await?;
        let manifest = self.verify(&envelope, &wanted)?;
        let artefact = verify::artefact(&manifest, &wanted)?.clone();
        let staging = self.staging()?;
        self.tidy(&staging, &artefact);
        let file = fetch::artefact(channel, &self.mirrors, &staging, &artefact).await?;
        let (workshop, order) = (self.clone(), order.clone());
        // Hashing and unpacking up to 2 GiB takes seconds; heartbeats go on meanwhile.
        tokio::task::spawn_blocking(move || workshop.install(file, &artefact, &order, &envelope))
            .await
            .map_err(|_| NotReady::Interrupted)??;
        Ok(manifest)
    }

    /// Follows the release roots as far as the server has newer ones. Whatever fails here, the root
    /// known so far stays in force: a key that was revoked meanwhile is the loss of the server's
    /// admins, a root that does not follow is nobody's order.
    async fn follow_roots(&mut self) {
        let known = match identity::release_root(&self.state_dir) {
            Ok(known) => known,
            Err(error) => return tracing::error!(error = chain(&error), "the release root"),
        };
        self.root.clone_from(&known);
        let (Some(mut root), Some(channel)) = (known, self.channel.clone()) else {
            return;
        };
        loop {
            let newer = match fetch::roots(channel.clone(), root.version).await {
                Ok(newer) if !newer.is_empty() => newer,
                Ok(_) => return,
                Err(error) => return tracing::warn!(error = chain(&error), "no newer keys"),
            };
            let (next, refused) = follow_all(&root, &newer);
            if next.version > root.version {
                // On disk first: what was followed is never gone back from.
                if let Err(error) = identity::keep_release_root(&self.state_dir, &next) {
                    return tracing::error!(error = chain(&error), "newer keys are not kept");
                }
                tracing::info!(version = next.version, "newer keys sign releases");
                self.root = Some(next.clone());
            }
            if let Some(error) = refused {
                return tracing::error!(%error, "a release root of the server is not followed");
            }
            if next.version == root.version {
                return;
            }
            root = next;
        }
    }

    fn verify(&self, envelope: &Envelope, wanted: &Wanted) -> Result<Manifest, NotReady> {
        let root = self.root.as_ref().ok_or(NotReady::NoReleaseRoot)?;
        Ok(verify(envelope, root, wanted)?)
    }

    fn wanted(&self, order: &Order, slots: &Slots<SystemFiles>) -> Wanted {
        let committed = self.ledger.packages.get(&order.package);
        let committed = committed.and_then(|package| package.committed.as_ref());
        let floor = committed
            .and_then(|installed| kept_manifest(slots, &order.package, &installed.release))
            .and_then(|(_, manifest)| manifest.security_floor);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Wanted {
            package: order.package.clone(),
            release: order.release,
            version: order.version.clone(),
            kind: order.kind,
            os: self.facts.os,
            arch: self.facts.arch,
            floor,
            now_unix_s: now.map_or(0, |since| since.as_secs()),
        }
    }

    fn staging(&self) -> Result<PathBuf, NotReady> {
        let path = self.state_dir.join("staging");
        identity::private_folder(&path)?;
        Ok(path)
    }

    /// Drop what earlier preparations left, but for the download to be gone on with.
    fn tidy(&self, staging: &Path, artefact: &Artefact) {
        let Ok(entries) = std::fs::read_dir(staging) else {
            return;
        };
        let part = fetch::part_name(&artefact.sha256);
        for entry in entries
            .flatten()
            .filter(|entry| *entry.file_name() != *part)
        {
            let path = entry.path();
            let removed = match entry.file_type() {
                Ok(kind) if kind.is_dir() => std::fs::remove_dir_all(&path),
                _ => std::fs::remove_file(&path),
            };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "staging is not tidied");
            }
        }
    }

    fn install(
        &self,
        mut file: File,
        artefact: &Artefact,
        order: &Order,
        envelope: &Envelope,
    ) -> Result<(), NotReady> {
        let staging = self.staging()?;
        let part = staging.join(fetch::part_name(&artefact.sha256));
        let tree = staging.join(format!("{}.tree", order.release));
        let outcome = stage(&mut file, artefact, &tree, &part);
        if !matches!(outcome, Err(NotReady::Unpack(UnpackError::Disk { .. }))) {
            // Whole or wrong: in both cases the packed file is of no more use.
            let _ = std::fs::remove_file(&part);
        }
        outcome?;
        let installed = Installed {
            release: order.release,
            version: order.version.clone(),
        };
        let manifest = serde_json::to_vec(envelope).unwrap_or_default();
        let slots = Slots::new(SystemFiles, &self.state_dir);
        Ok(slots.install_tree(&order.package, &installed, &tree, &manifest)?)
    }
}

/// Verify the open file, then unpack from it, making sure that what was unpacked is what was
/// verified.
fn stage(
    file: &mut (impl Read + Seek),
    artefact: &Artefact,
    tree: &Path,
    part: &Path,
) -> Result<(), NotReady> {
    let io = |doing: &'static str, path: &Path| {
        let path = path.to_owned();
        move |source| NotReady::Staging {
            doing,
            path,
            source,
        }
    };
    if hash_from_start(&mut *file).map_err(io("reading", part))? != artefact.sha256 {
        return Err(NotReady::Digest);
    }
    match std::fs::remove_dir_all(tree) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(io("removing", tree)(error));
        }
        _ => std::fs::create_dir(tree).map_err(io("making the folder", tree))?,
    }
    file.seek(SeekFrom::Start(0)).map_err(io("reading", part))?;
    let mut hashing = Hashing {
        inner: file,
        context: digest::Context::new(&digest::SHA256),
    };
    unpack(&mut hashing, tree).map_err(NotReady::Unpack)?;
    io::copy(&mut hashing, &mut io::sink()).map_err(io("reading", part))?;
    if sha256_of(hashing.context) == artefact.sha256 {
        Ok(())
    } else {
        let _ = std::fs::remove_dir_all(tree);
        Err(NotReady::Digest)
    }
}

/// Passes bytes on and hashes them.
struct Hashing<R> {
    inner: R,
    context: digest::Context,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.context.update(&buffer[..count]);
        Ok(count)
    }
}

fn sha256_of(context: digest::Context) -> Sha256 {
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Sha256(out)
}

fn hash_from_start(file: &mut (impl Read + Seek)) -> io::Result<Sha256> {
    file.seek(SeekFrom::Start(0))?;
    let mut hashing = Hashing {
        inner: file,
        context: digest::Context::new(&digest::SHA256),
    };
    io::copy(&mut hashing, &mut io::sink())?;
    Ok(sha256_of(hashing.context))
}

#[cfg(test)]
mod tests;
