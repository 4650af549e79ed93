//! dpkg and rpm: what is installed, installing, removing, and keeping others' hands off.

use crate::host::InstallError;
use ringward_domain::PackageName;
use ringward_domain::manifest::Installer;
use rustix::fs::{FlockOperation, fcntl_lock};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Words of an installer that end in a log or at the server.
const WORDS_BYTES_MAX: usize = 600;
/// Files of one package that are looked at for units.
const FILES_MAX: usize = 200_000;
/// Folders beneath the caches of downloaded packages.
const CACHE_DEPTH_MAX: usize = 5;

/// The installer of one package format, in a root folder (`/` but in tests).
#[derive(Debug, Clone)]
pub(super) struct Tool {
    root: PathBuf,
    is_rpm: bool,
}

/// Nobody else changes packages while it lives.
pub(super) struct Lock {
    _files: Vec<File>,
}

/// A package that is installed, as its installer names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Present {
    /// dpkg: version and architecture; rpm: name, version, release and architecture.
    pub(super) words: Vec<String>,
}

fn failed(doing: &str, why: &str) -> InstallError {
    InstallError::Failed(format!("{doing}: {why}"))
}

/// The end of what a program said.
fn end_of(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let said = lines.collect::<Vec<_>>().join("; ");
    let cut = said.len().saturating_sub(WORDS_BYTES_MAX);
    let from = (cut..=said.len()).find(|at| said.is_char_boundary(*at));
    said[from.unwrap_or(0)..].to_owned()
}

impl Tool {
    pub(super) fn new(root: &Path, installer: Installer) -> Self {
        Self {
            root: root.to_owned(),
            is_rpm: installer == Installer::Rpm,
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.root.join("usr/bin").join(program));
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("LC_ALL", "C.UTF-8")
            // The lock of frontends is ours while dpkg runs, as it is apt's otherwise.
            .env("DPKG_FRONTEND_LOCKED", "1")
            .stdin(Stdio::null());
        command
    }

    /// Runs it; its words, or what it said on failing.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String, InstallError> {
        let doing = format!("{program} {}", arguments.join(" "));
        let output = self.command(program).args(arguments).output();
        let output = output.map_err(|error| failed(&doing, &error.to_string()))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(failed(
                &doing,
                &format!("{}: {}", output.status, end_of(&output.stderr)),
            )),
        }
    }

    /// The locks of every other installer of this format.
    pub(super) fn lock(&self) -> Result<Lock, InstallError> {
        let names: &[&str] = match self.is_rpm {
            false => &["var/lib/dpkg/lock-frontend", "var/lib/dpkg/lock"],
            true => &[
                "var/lib/rpm/.rpm.lock",
                "usr/lib/sysimage/rpm/.rpm.lock",
                "run/dnf/rpmtransaction.lock",
            ],
        };
        let mut files = Vec::new();
        for name in names {
            let path = self.root.join(name);
            let file = match File::options().read(true).write(true).open(&path) {
                Ok(file) => file,
                // Made by the first installer that runs.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(&path.display().to_string(), &error.to_string())),
            };
            match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => files.push(file),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                    return Err(InstallError::Busy(format!("/{name} is held")));
                }
                Err(error) => return Err(failed(&path.display().to_string(), &error.to_string())),
            }
        }
        // What dpkg and rpm lock themselves is only looked at.
        files.truncate(usize::from(!self.is_rpm));
        Ok(Lock { _files: files })
    }

    /// The package as it is installed now; `None` where it is not.
    pub(super) fn present(&self, package: &PackageName) -> Result<Option<Present>, InstallError> {
        let name = package.as_str();
        let asked = match self.is_rpm {
            false => self.run(
                "dpkg-query",
                &[
                    "-W",
                    "-f",
                    "${db:Status-Status} ${Version} ${Architecture}",
                    name,
                ],
            ),
            true => self.run(
                "rpm",
                &[
                    "-q",
                    "--qf",
                    "installed %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\n",
                    name,
                ],
            ),
        };
        // Both fail for a package they never heard of; a database that cannot be read shows when
        // something is installed.
        let Ok(words) = asked else { return Ok(None) };
        let mut words = words.lines().last().unwrap_or_default().split_whitespace();
        match words.next() {
            Some("installed") => Ok(Some(Present {
                words: words.map(str::to_owned).collect(),
            })),
            _ => Ok(None),
        }
    }

    /// What a package file holds, as [`Tool::present`] tells it.
    pub(super) fn describe(
        &self,
        file: &Path,
        package: &PackageName,
    ) -> Result<Present, InstallError> {
        let path = file.display().to_string();
        let (name, words) = match self.is_rpm {
            false => {
                let told = self.run(
                    "dpkg-deb",
                    &["-f", &path, "Package", "Version", "Architecture"],
                )?;
                let of = |field: &str| {
                    let line = told.lines().find_map(|line| line.strip_prefix(field));
                    line.map(|value| value.trim().to_owned())
                        .unwrap_or_default()
                };
                (of("Package:"), vec![of("Version:"), of("Architecture:")])
            }
            true => {
                let format = "%{NAME} %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}";
                let told = self.run("rpm", &["-qp", "--nosignature", "--qf", format, &path])?;
                let mut words = told.split_whitespace().map(str::to_owned);
                (words.next().unwrap_or_default(), words.collect())
            }
        };
        match name == package.as_str() {
            true => Ok(Present { words }),
            false => Err(failed(
                &path,
                &format!("it is the package {name:?}, not {package}"),
            )),
        }
    }

    /// Whether everything in a package file can be read.
    pub(super) fn is_whole(&self, file: &Path) -> Result<(), InstallError> {
        let path = file.display().to_string();
        match self.is_rpm {
            false => self.run("dpkg-deb", &["--contents", &path]).map(drop),
            true => self.run("rpm", &["-K", "--nosignature", &path]).map(drop),
        }
    }

    /// The file of a package that others installed, into `folder`: from the cache of what was
    /// downloaded, else from where this system gets its packages.
    pub(super) fn fetch(
        &self,
        package: &PackageName,
        present: &Present,
        folder: &Path,
    ) -> Result<PathBuf, InstallError> {
        let kept = match (self.is_rpm, present.words.as_slice()) {
            (false, [version, arch]) => {
                let name = format!("{package}_{}_{arch}.deb", version.replace(':', "%3a"));
                let path = self.root.join("var/cache/apt/archives").join(name);
                path.is_file().then_some(path)
            }
            (true, [name]) => [
                "var/cache/dnf",
                "var/cache/libdnf5",
                "var/cache/yum",
                "var/cache/zypp",
            ]
            .iter()
            .find_map(|cache| {
                find(
                    &self.root.join(cache),
                    &format!("{name}.rpm"),
                    CACHE_DEPTH_MAX,
                )
            }),
            _ => {
                return Err(failed(
                    package.as_str(),
                    "the system does not name its version",
                ));
            }
        };
        if let Some(path) = kept {
            return Ok(path);
        }
        let doing = format!("getting {package} {} once more", present.words.join(" "));
        let mut command = match self.is_rpm {
            false => {
                let mut command = self.command("apt-get");
                let wanted = format!("{package}={}", present.words[0]);
                command.args(["-q", "-o", "APT::Sandbox::User=root", "download", &wanted]);
                command
            }
            true => {
                let mut command = self.command("dnf");
                command.args(["-q", "download", &present.words[0]]);
                command
            }
        };
        let output = command.current_dir(folder).output();
        let output = output.map_err(|error| failed(&doing, &error.to_string()))?;
        let suffix = if self.is_rpm { "rpm" } else { "deb" };
        let entries = std::fs::read_dir(folder).map_err(|e| failed(&doing, &e.to_string()))?;
        let mut found = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|end| end == suffix));
        found
            .next()
            .ok_or_else(|| failed(&doing, &end_of(&output.stderr)))
    }

    /// Unpacks a package, lets `between` happen, and completes it. Held packages too, and older ones.
    pub(super) fn install(
        &self,
        package: &PackageName,
        file: &Path,
        between: impl FnOnce(),
    ) -> Result<(), InstallError> {
        let path = file.display().to_string();
        if self.is_rpm {
            between();
            let options = [
                "-U",
                "--oldpackage",
                "--replacepkgs",
                "--nosignature",
                &path,
            ];
            return self.run("rpm", &options).map(drop);
        }
        // A person's settings stay, whatever either version brings.
        let common = [
            "--force-confdef",
            "--force-confold",
            "--force-hold",
            "--force-downgrade",
        ];
        let unpack: Vec<&str> = common.into_iter().chain(["--unpack", &path]).collect();
        self.run("dpkg", &unpack)?;
        between();
        let configure: Vec<&str> = common
            .into_iter()
            .chain(["--configure", package.as_str()])
            .collect();
        self.run("dpkg", &configure).map(drop)
    }

    pub(super) fn remove(&self, package: &PackageName) -> Result<(), InstallError> {
        if self.present(package)?.is_none() {
            return Ok(());
        }
        match self.is_rpm {
            false => self.run("dpkg", &["--force-hold", "--remove", package.as_str()]),
            true => self.run("rpm", &["-e", package.as_str()]),
        }
        .map(drop)
    }

    /// Keeps others from changing the package, or lets them again.
    pub(super) fn bar(&self, package: &PackageName, barred: bool) -> Result<(), InstallError> {
        if self.is_rpm {
            let (dnf, zypper) = match barred {
                true => ("add", "addlock"),
                false => ("delete", "removelock"),
            };
            let by_dnf = self.run("dnf", &["-q", "versionlock", dnf, package.as_str()]);
            let by_zypper = |_| self.run("zypper", &["-q", zypper, package.as_str()]);
            return by_dnf.or_else(by_zypper).map(drop);
        }
        let verb = if barred { "hold" } else { "unhold" };
        if self.root.join("usr/bin/apt-mark").exists() {
            return self
                .run("apt-mark", &["-qq", verb, package.as_str()])
                .map(drop);
        }
        Err(failed(package.as_str(), "this host has no apt-mark"))
    }

    /// Services, sockets, timers and paths that the installed package brings.
    pub(super) fn units(&self, package: &PackageName) -> Result<Vec<String>, InstallError> {
        let told = match self.is_rpm {
            false => self.run("dpkg-query", &["-L", package.as_str()])?,
            true => self.run("rpm", &["-ql", package.as_str()])?,
        };
        Ok(units_among(&told))
    }

    /// One request to systemd; what is not there needs none.
    pub(super) fn systemctl(&self, arguments: &[&str]) -> bool {
        self.run("systemctl", arguments).is_ok()
    }
}

/// Names of units among the paths of a package.
fn units_among(paths: &str) -> Vec<String> {
    let unit = |path: &str| {
        let path = path.strip_prefix("/usr").unwrap_or(path);
        let name = path.strip_prefix("/lib/systemd/system/")?;
        let kind = name.rsplit_once('.')?.1;
        let counts = matches!(kind, "service" | "socket" | "timer" | "path");
        (counts && !name.contains('/')).then(|| name.to_owned())
    };
    paths.lines().take(FILES_MAX).filter_map(unit).collect()
}

fn find(folder: &Path, name: &str, depth: usize) -> Option<PathBuf> {
    let entries: Vec<_> = std::fs::read_dir(folder).ok()?.flatten().collect();
    let here = entries.iter().find(|entry| entry.file_name() == name);
    if let Some(entry) = here {
        return Some(entry.path());
    }
    if depth == 0 {
        return None;
    }
    let folders = entries
        .iter()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders
        .into_iter()
        .find_map(|entry| find(&entry.path(), name, depth - 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn units_are_told_from_what_lies_beside_them() {
        let paths = "/.\n/lib/systemd/system/a.service\n/usr/lib/systemd/system/b@.socket\n\
                     /usr/lib/systemd/system/c.service.d/x.conf\n/usr/lib/systemd/user/d.service\n\
                     /usr/share/e.service\n/usr/lib/systemd/system/f.timer\n";
        assert_eq!(units_among(paths), ["a.service", "b@.socket", "f.timer"]);
    }

    #[test]
    fn a_lock_of_another_process_means_busy() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("var/lib/dpkg");
        std::fs::create_dir_all(&folder).unwrap();
        let tool = Tool::new(root.path(), Installer::Deb);
        assert!(tool.lock().is_ok(), "nobody ever locked");
        std::fs::write(folder.join("lock-frontend"), "").unwrap();
        assert!(tool.lock().is_ok());
        // A lock of this kind is a process's own: another one has to hold it.
        let mut other = Command::new("python3")
            .args(["-c", "import fcntl,sys,time\nf=open(sys.argv[1],'r+')\nfcntl.lockf(f,fcntl.LOCK_EX)\nprint('held',flush=True)\nsys.stdin.read()"])
            .arg(folder.join("lock-frontend"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(other) = other.as_mut() else {
            println!("skipped: no python3 to hold a lock with");
            return;
        };
        use std::io::{BufRead, BufReader};
        let mut line = String::new();
        BufReader::new(other.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "held\n");
        assert!(matches!(tool.lock(), Err(InstallError::Busy(_))));
        drop(other.stdin.take());
        other.wait().unwrap();
        assert!(tool.lock().is_ok());
    }

    #[test]
    fn the_end_of_what_an_installer_said_is_kept() {
        let said = format!("{}\n\ndpkg: error: the ü end\n", "ü".repeat(1000));
        let end = end_of(said.as_bytes());
        assert!(
            end.len() <= WORDS_BYTES_MAX + 1 && end.ends_with("the ü end"),
            "{end}"
        );
    }
}
