//! What runs in `ringward-package@.service`: one piece of work on one package, then the end.

use super::tool::{Lock, Tool};
use super::{Verb, cannot, parse};
use crate::host::InstallError;
use ringward_domain::PackageName;
use ringward_domain::manifest::{DEB, Installer, RPM};
use ringward_guard::{Slots, SystemFiles, staged, sync_folder};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

const BUSY: &str = "busy: ";
const FAILED: &str = "failed: ";
const UNSUPPORTED: &str = "unsupported: ";
/// A package that was not there before leaves this in the vault.
const ABSENT: &str = "absent";
/// Drop-in that lets the guard hold a unit back.
const DROP_IN: &str = "50-ringward-held.conf";

/// Everything that a piece of work touches; folders of a test otherwise.
struct PackageSlot<'a> {
    state: &'a Path,
    /// `/` but in tests.
    root: &'a Path,
    package: &'a PackageName,
}

/// What the slot asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Installed(Installer, PathBuf),
    Removed(Installer),
}

/// Does the work that the unit's instance names; `Err` with the exit status in words otherwise.
///
/// # Errors
/// In words, why it is not done; the outcome beside the slots says the same to the agent.
pub fn run(state: &Path, instance: &str) -> Result<String, String> {
    let (verb, package) =
        parse(instance).ok_or_else(|| format!("{instance:?} is no work on a package"))?;
    let slot = PackageSlot {
        state,
        root: Path::new("/"),
        package: &package,
    };
    let done = match verb {
        Verb::Install => slot.install(),
        Verb::Vault(installer) => slot.keep(installer),
    };
    done.map_err(|error| {
        slot.note(&error);
        error.to_string()
    })
}

/// What the last work on a package said on ending early.
pub(super) fn refused(state: &Path, package: &PackageName) -> Option<InstallError> {
    let path = refusal(state, package);
    let word = std::fs::read_to_string(path).ok()?;
    if let Some(why) = word.strip_prefix(BUSY) {
        return Some(InstallError::Busy(why.to_owned()));
    }
    if let Some(why) = word.strip_prefix(UNSUPPORTED) {
        return Some(InstallError::Unsupported(why.to_owned()));
    }
    let why = word.strip_prefix(FAILED)?;
    Some(InstallError::Failed(why.to_owned()))
}

/// Beside the outcome, which must go on saying what the system has.
fn refusal(state: &Path, package: &PackageName) -> PathBuf {
    staged::outcome(state, package).with_extension("refused")
}

fn io_failed(doing: &str, path: &Path) -> impl Fn(io::Error) -> InstallError {
    let what = format!("{doing} {}", path.display());
    move |error| InstallError::Failed(format!("{what}: {error}"))
}

fn guard_failed(error: ringward_guard::GuardError) -> InstallError {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    InstallError::Failed(format!("{error}{}", cause.unwrap_or_default()))
}

impl PackageSlot<'_> {
    fn slot(&self) -> PathBuf {
        self.state.join("slots").join(self.package.as_str())
    }

    fn held(&self) -> PathBuf {
        let held = Path::new(staged::HELD).strip_prefix("/");
        self.root
            .join(held.unwrap_or(Path::new(staged::HELD)))
            .join(self.package.as_str())
    }

    fn note(&self, error: &InstallError) {
        let word = match error {
            InstallError::Busy(why) => format!("{BUSY}{why}"),
            InstallError::Failed(why) => format!("{FAILED}{why}"),
            InstallError::Unsupported(why) => format!("{UNSUPPORTED}{why}"),
        };
        // The journal has it too.
        let _ = std::fs::write(refusal(self.state, self.package), word);
    }

    /// What `current` names; without it, what was there before the first release.
    fn wanted(&self) -> Result<Wanted, InstallError> {
        let slots = Slots::new(SystemFiles, self.state);
        let running = slots.running(self.package).map_err(guard_failed)?;
        let folder = match running {
            Some(release) => slots.tree(self.package, &release),
            None => self.slot().join("before"),
        };
        for (name, installer) in [(DEB, Installer::Deb), (RPM, Installer::Rpm)] {
            let file = folder.join(name);
            if file.is_file() {
                return Ok(Wanted::Installed(installer, file));
            }
            if running.is_none() && folder.join(format!("{name}.{ABSENT}")).is_file() {
                return Ok(Wanted::Removed(installer));
            }
        }
        Err(InstallError::Failed(format!(
            "{} holds no package: there is nothing to install, and nothing is removed",
            folder.display()
        )))
    }

    fn install(&self) -> Result<String, InstallError> {
        let _ = std::fs::remove_file(refusal(self.state, self.package));
        let wanted = self.wanted()?;
        let (Wanted::Installed(installer, _) | Wanted::Removed(installer)) = &wanted;
        if let Some(why) = cannot(self.root, *installer) {
            return Err(InstallError::Unsupported(why));
        }
        let tool = Tool::new(self.root, *installer);
        let lock = tool.lock()?;
        if self.is_done(&tool, &wanted)? {
            self.release(&tool);
            return Ok("the system has it".to_owned());
        }
        staged::note(SystemFiles, self.state, self.package, "at work").map_err(guard_failed)?;
        let said = match &wanted {
            Wanted::Installed(_, file) => self.put(&tool, file)?,
            Wanted::Removed(_) => self.take_away(&tool)?,
        };
        staged::note_done(SystemFiles, self.state, self.package).map_err(guard_failed)?;
        drop::<Lock>(lock);
        let barred = tool.bar(self.package, matches!(wanted, Wanted::Installed(..)));
        Ok(match barred {
            Ok(()) => said,
            // Our own order stands; only others may still move the package.
            Err(error) => format!("{said}; others are not kept from it: {error}"),
        })
    }

    fn is_done(&self, tool: &Tool, wanted: &Wanted) -> Result<bool, InstallError> {
        if !staged::is_done(SystemFiles, self.state, self.package).map_err(guard_failed)? {
            return Ok(false);
        }
        let present = tool.present(self.package)?;
        Ok(match wanted {
            Wanted::Removed(_) => present.is_none(),
            Wanted::Installed(_, file) => present == Some(tool.describe(file, self.package)?),
        })
    }

    fn put(&self, tool: &Tool, file: &Path) -> Result<String, InstallError> {
        let described = tool.describe(file, self.package)?;
        let held = self.held();
        let was_held = held.exists();
        tool.install(self.package, file, || {
            // From here on what starts is the package that is wanted.
            let _ = std::fs::remove_file(&held);
        })?;
        let present = tool.present(self.package)?;
        if present.as_ref() != Some(&described) {
            return Err(InstallError::Failed(format!(
                "the installer said it was done, but the system has {present:?} and not {described:?}"
            )));
        }
        let units = tool.units(self.package)?;
        self.let_the_guard_hold(&units);
        tool.systemctl(&["daemon-reload"]);
        if was_held {
            self.start(tool, &units);
        }
        Ok(format!("installed {}", described.words.join(" ")))
    }

    /// What the guard held back in this boot comes up now, where an administrator wants it.
    fn start(&self, tool: &Tool, units: &[String]) {
        for unit in units.iter().filter(|unit| !unit.contains("@.")) {
            if tool.systemctl(&["-q", "is-enabled", unit]) {
                tool.systemctl(&["--no-block", "start", unit]);
            }
        }
    }

    fn release(&self, tool: &Tool) {
        if std::fs::remove_file(self.held()).is_ok()
            && let Ok(units) = tool.units(self.package)
        {
            self.start(tool, &units);
        }
    }

    fn take_away(&self, tool: &Tool) -> Result<String, InstallError> {
        let units = tool.units(self.package).unwrap_or_default();
        tool.remove(self.package)?;
        for unit in units {
            let folder = self.drop_ins(&unit);
            let _ = std::fs::remove_file(folder.join(DROP_IN));
            // Others' drop-ins keep the folder.
            let _ = std::fs::remove_dir(folder);
        }
        let _ = std::fs::remove_file(self.held());
        tool.systemctl(&["daemon-reload"]);
        Ok("removed, as before the first release".to_owned())
    }

    fn drop_ins(&self, unit: &str) -> PathBuf {
        self.root
            .join("etc/systemd/system")
            .join(format!("{unit}.d"))
    }

    fn let_the_guard_hold(&self, units: &[String]) {
        let text = format!(
            "# Ringward: the guard takes this package back by holding its units first.\n\
             [Unit]\nConditionPathExists=!{}/{}\n",
            staged::HELD,
            self.package
        );
        for unit in units {
            let folder = self.drop_ins(unit);
            let made = std::fs::create_dir_all(&folder)
                .and_then(|()| std::fs::write(folder.join(DROP_IN), &text));
            if let Err(error) = made {
                println!("the guard cannot hold {unit}: {error}");
            }
        }
    }

    /// Puts what others installed into the vault, unless a release of ours is there already.
    fn keep(&self, installer: Installer) -> Result<String, InstallError> {
        let _ = std::fs::remove_file(refusal(self.state, self.package));
        let slots = Slots::new(SystemFiles, self.state);
        if slots.running(self.package).map_err(guard_failed)?.is_some() {
            return Ok("a release of ours is the way back".to_owned());
        }
        if let Some(why) = cannot(self.root, installer) {
            return Err(InstallError::Unsupported(why));
        }
        let tool = Tool::new(self.root, installer);
        let name = if installer == Installer::Rpm {
            RPM
        } else {
            DEB
        };
        let (new, vault) = (self.slot().join("before.new"), self.slot().join("before"));
        let _ = std::fs::remove_dir_all(&new);
        std::fs::create_dir_all(&new).map_err(io_failed("making", &new))?;
        let said = match tool.present(self.package)? {
            None => {
                let note = new.join(format!("{name}.{ABSENT}"));
                std::fs::write(&note, "").map_err(io_failed("writing", &note))?;
                "nothing was installed before".to_owned()
            }
            Some(present) => {
                let kept = vault.join(name);
                let fits = |file: &Path| {
                    tool.describe(file, self.package)
                        .is_ok_and(|told| told == present)
                };
                let from = match kept.is_file() && fits(&kept) {
                    true => kept,
                    false => tool.fetch(self.package, &present, &new)?,
                };
                if !fits(&from) {
                    return Err(InstallError::Failed(format!(
                        "{} is not what is installed ({})",
                        from.display(),
                        present.words.join(" ")
                    )));
                }
                tool.is_whole(&from)?;
                let to = new.join(name);
                if from.parent() == Some(new.as_path()) {
                    std::fs::rename(&from, &to).map_err(io_failed("naming", &to))?;
                } else {
                    std::fs::copy(&from, &to).map_err(io_failed("copying to", &to))?;
                }
                let synced = File::open(&to).and_then(|file| file.sync_all());
                synced.map_err(io_failed("writing", &to))?;
                format!("{} is in the vault", present.words.join(" "))
            }
        };
        sync_folder(&new).map_err(io_failed("writing", &new))?;
        let _ = std::fs::remove_dir_all(&vault);
        std::fs::rename(&new, &vault).map_err(io_failed("naming", &vault))?;
        sync_folder(&self.slot()).map_err(io_failed("writing", &self.slot()))?;
        Ok(said)
    }
}

#[cfg(test)]
mod tests;
