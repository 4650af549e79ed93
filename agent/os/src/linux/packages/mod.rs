//! Packages of the system's own installers, as releases: dpkg and rpm.
//!
//! The slot names what should be installed, and lies written before anything is done; a unit of its
//! own (`ringward-package@.service`, never the agent's cgroup: an upgrade of the agent would kill its
//! own installer) makes the system have it, and writes the outcome beside the slots:
//!
//! ```text
//! <root>/slots/<package>/current      what should be installed; without it, what was there before
//! <root>/slots/<package>/before/      the vault: the package that others had installed, or a note that
//!                                     there was none
//! <root>/slots/<package>/outcome      `ok <release>` when the system has it, else how far it is
//! ```
//!
//! So a cut at any moment ends in the same work done again.

mod tool;
mod work;

pub use work::run;

use crate::host::InstallError;
use ringward_domain::PackageName;
use ringward_domain::manifest::Installer;
use ringward_guard::{SystemFiles, staged};
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// The unit's own limit is 30 min.
const PATIENCE: Duration = Duration::from_secs(31 * 60);
const FOR_WINDOWS: &str = "msi packages are for Windows hosts";
/// A run that was under way already may have read the slot before it was re-pointed.
const RUNS_MAX: usize = 3;

/// What the unit is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Make the system have what the slot names.
    Install,
    /// Put what others installed into the vault.
    Vault(Installer),
}

impl Verb {
    /// As it stands in the unit's name.
    fn instance(&self, package: &PackageName) -> String {
        let verb = match self {
            Self::Install => "install",
            Self::Vault(Installer::Rpm) => "vault-rpm",
            Self::Vault(_) => "vault-deb",
        };
        format!("{verb}:{package}")
    }
}

/// Verb and package from the unit's instance.
#[must_use]
pub fn parse(instance: &str) -> Option<(Verb, PackageName)> {
    let (verb, package) = instance.split_once(':')?;
    let verb = match verb {
        "install" => Verb::Install,
        "vault-deb" => Verb::Vault(Installer::Deb),
        "vault-rpm" => Verb::Vault(Installer::Rpm),
        _ => return None,
    };
    Some((verb, package.parse().ok()?))
}

/// The name of the unit that does it; escaped as systemd.unit(5) says.
fn unit(verb: &Verb, package: &PackageName) -> String {
    let mut name = "ringward-package@".to_owned();
    for byte in verb.instance(package).bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b':' => name.push(char::from(byte)),
            _ => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name + ".service"
}

async fn start(verb: &Verb, package: &PackageName) -> Result<bool, InstallError> {
    let unit = unit(verb, package);
    let arguments = ["start", &unit];
    let mut command = tokio::process::Command::new(super::SYSTEMCTL);
    command
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true);
    let ended = match timeout(PATIENCE, command.status()).await {
        Ok(Ok(status)) => return Ok(status.success()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no end within {} min", PATIENCE.as_secs() / 60),
    };
    Err(InstallError::Failed(
        super::systemctl_failed(&arguments, ended).to_string(),
    ))
}

/// Makes the system have what the slot of this package names.
pub(super) async fn install(root: &Path, package: &PackageName) -> Result<(), InstallError> {
    let mut why = InstallError::Failed("the installer was never started".to_owned());
    for _ in 0..RUNS_MAX {
        let started = start(&Verb::Install, package).await?;
        if staged::is_done(SystemFiles, root, package).unwrap_or(false) {
            return Ok(());
        }
        why = work::refused(root, package).unwrap_or_else(|| {
            let unit = unit(&Verb::Install, package);
            InstallError::Failed(format!("{unit} says why (journalctl -u)"))
        });
        if !started {
            break;
        }
    }
    Err(why)
}

/// Puts the package that others installed into the vault, where none of ours is there.
pub(super) async fn keep(
    root: &Path,
    package: &PackageName,
    installer: Installer,
) -> Result<(), InstallError> {
    // Of the mounts the agent sees its own unit's, where everything is read-only: the other unit looks.
    if let Some(why) = by_image(Path::new("/")) {
        return Err(InstallError::Unsupported(why));
    }
    if installer == Installer::Msi {
        return Err(InstallError::Unsupported(FOR_WINDOWS.to_owned()));
    }
    let verb = Verb::Vault(installer);
    match start(&verb, package).await? {
        true => Ok(()),
        false => Err(work::refused(root, package).unwrap_or_else(|| {
            let unit = unit(&verb, package);
            InstallError::Failed(format!("{unit} says why (journalctl -u)"))
        })),
    }
}

/// Why the packages of this kind cannot be installed on this host.
pub(super) fn cannot(root: &Path, installer: Installer) -> Option<String> {
    let program = match installer {
        Installer::Bundle => return None,
        Installer::Deb => "usr/bin/dpkg",
        Installer::Rpm => "usr/bin/rpm",
        Installer::Msi => return Some(FOR_WINDOWS.to_owned()),
    };
    if let Some(why) = read_only_usr(root) {
        return Some(why);
    }
    (!root.join(program).exists()).then(|| format!("this host has no /{program}"))
}

const IMAGE: &str = "its packages come with its images: release images, or a bundle";

/// Whether rpm-ostree or bootc booted this host.
fn by_image(root: &Path) -> Option<String> {
    let is_ostree = root.join("run/ostree-booted").exists();
    is_ostree.then(|| format!("/usr of this host is managed by ostree; {IMAGE}"))
}

/// Whether `/usr` belongs to an image: rpm-ostree, bootc, or any read-only mount.
#[must_use]
pub fn read_only_usr(root: &Path) -> Option<String> {
    if let Some(why) = by_image(root) {
        return Some(why);
    }
    let usr = rustix::fs::statvfs(root.join("usr")).ok()?;
    let is_read_only = usr.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    is_read_only.then(|| format!("/usr of this host is mounted read-only; {IMAGE}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_units_name_says_what_to_do_and_reads_back() {
        let package: PackageName = "lib-foo+1.2".parse().unwrap();
        for verb in [
            Verb::Install,
            Verb::Vault(Installer::Deb),
            Verb::Vault(Installer::Rpm),
        ] {
            let instance = verb.instance(&package);
            assert_eq!(parse(&instance), Some((verb, package.clone())));
        }
        assert_eq!(
            unit(&Verb::Install, &package),
            "ringward-package@install:lib\\x2dfoo\\x2b1\\x2e2.service"
        );
        for nonsense in ["", "install", "install:", "remove:a", "install:../a"] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn an_image_based_host_takes_no_packages() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("usr/bin")).unwrap();
        let without = cannot(root.path(), Installer::Deb).unwrap();
        assert!(without.contains("no /usr/bin/dpkg"), "{without}");
        std::fs::write(root.path().join("usr/bin/dpkg"), "").unwrap();
        assert_eq!(cannot(root.path(), Installer::Deb), None);
        std::fs::create_dir(root.path().join("run")).unwrap();
        std::fs::write(root.path().join("run/ostree-booted"), "").unwrap();
        let image = cannot(root.path(), Installer::Deb).unwrap();
        assert!(image.contains("ostree"), "{image}");
        assert_eq!(cannot(root.path(), Installer::Bundle), None);
    }
}
