//! `cargo xtask dist`: .deb and .rpm (and, by `dist_msi`, the .msi) of agent (with its guard), server and ringwardctl.
//!
//! What a package holds is told once, in [`PACKAGES`]; both formats are written by libraries, so that
//! the packages of one distribution are made on any other.

use crate::build;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(clap::Args, Clone)]
pub struct Args {
    /// Version of the packages [default: that of the workspace]
    #[arg(long, value_name = "VERSION")]
    pub package_version: Option<String>,
    /// Package the programs that tests use: no release build, large packages
    #[arg(long)]
    pub debug: bool,
    /// Folder to write to [default: target/packages]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

struct Package {
    name: &'static str,
    summary: &'static str,
    /// Folder of its maintainer scripts, beneath `deploy/packages/{deb,rpm}`.
    scripts: Option<&'static str>,
    entries: &'static [Entry],
}

struct Entry {
    from: From,
    /// Absolute path on the host.
    to: &'static str,
    mode: u32,
    /// Kept as an administrator changed it.
    is_config: bool,
}

#[derive(Clone, Copy)]
enum From {
    Program(&'static str),
    Deploy(&'static str),
}

const fn program(name: &'static str, to: &'static str) -> Entry {
    Entry {
        from: From::Program(name),
        to,
        mode: 0o755,
        is_config: false,
    }
}

const fn file(from: &'static str, to: &'static str, mode: u32) -> Entry {
    Entry {
        from: From::Deploy(from),
        to,
        mode,
        is_config: false,
    }
}

const fn config(from: &'static str, to: &'static str) -> Entry {
    Entry {
        from: From::Deploy(from),
        to,
        mode: 0o644,
        is_config: true,
    }
}

const PACKAGES: &[Package] = &[
    Package {
        name: "ringward-agent",
        summary: "Reports a host's health, applies releases, and takes the host back alone",
        scripts: Some("agent"),
        entries: &[
            program("ringward-agent", "/usr/bin/ringward-agent"),
            // Outside of any slot: it must work whatever a release did.
            program("ringward-guard", "/usr/lib/ringward/ringward-guard"),
            file(
                "agent/ringward-agent.service",
                "/usr/lib/systemd/system/ringward-agent.service",
                0o644,
            ),
            file(
                "agent/ringward-guard.service",
                "/usr/lib/systemd/system/ringward-guard.service",
                0o644,
            ),
            file(
                "agent/ringward-isolation.service",
                "/usr/lib/systemd/system/ringward-isolation.service",
                0o644,
            ),
            file(
                "agent/ringward-trial.service",
                "/usr/lib/systemd/system/ringward-trial.service",
                0o644,
            ),
            file(
                "agent/ringward-package@.service",
                "/usr/lib/systemd/system/ringward-package@.service",
                0o644,
            ),
            file(
                "agent/emergency.conf",
                "/usr/lib/systemd/system/emergency.service.d/ringward.conf",
                0o644,
            ),
            file(
                "agent/ringward-agent.tmpfiles",
                "/usr/lib/tmpfiles.d/ringward-agent.conf",
                0o644,
            ),
            file(
                "initramfs/initramfs-tools.hook",
                "/usr/share/initramfs-tools/hooks/ringward-guard",
                0o755,
            ),
            file(
                "initramfs/initramfs-tools.script",
                "/usr/share/initramfs-tools/scripts/local-bottom/ringward-guard",
                0o755,
            ),
            file(
                "initramfs/dracut/module-setup.sh",
                "/usr/lib/dracut/modules.d/90ringward-guard/module-setup.sh",
                0o755,
            ),
            file(
                "initramfs/dracut/ringward-guard.sh",
                "/usr/lib/dracut/modules.d/90ringward-guard/ringward-guard.sh",
                0o755,
            ),
            file(
                "selinux/ringward.fc",
                "/usr/share/ringward/selinux/ringward.fc",
                0o644,
            ),
            file(
                "boot-counting.md",
                "/usr/share/doc/ringward-agent/boot-counting.md",
                0o644,
            ),
            config("agent/agent.toml", "/etc/ringward/agent.toml"),
        ],
    },
    Package {
        name: "ringward-server",
        summary: "Control server of guarded update rollouts",
        scripts: Some("server"),
        entries: &[
            program("ringward-server", "/usr/bin/ringward-server"),
            file(
                "server/ringward-server.service",
                "/usr/lib/systemd/system/ringward-server.service",
                0o644,
            ),
            file(
                "server/ringward-server.sysusers",
                "/usr/lib/sysusers.d/ringward-server.conf",
                0o644,
            ),
        ],
    },
    Package {
        name: "ringwardctl",
        summary: "Command line of the Ringward control server",
        scripts: None,
        entries: &[program("ringwardctl", "/usr/bin/ringwardctl")],
    },
];

/// glibc that the programs built on Debian 12 and its like ask for.
const GLIBC_MIN: &str = "2.34";
const HOMEPAGE_LICENSE: &str = "Apache-2.0";

/// A file as it will lie on the host.
struct Content {
    to: &'static str,
    mode: u32,
    is_config: bool,
    bytes: Vec<u8>,
}

pub fn run(args: &Args) -> Result<()> {
    crate::dashboard::run_or_say();
    let mut made = make(args, &["ringward-agent", "ringward-server", "ringwardctl"])?;
    let version = args
        .package_version
        .clone()
        .map_or_else(build::version, Ok)?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => build::target_dir()?.join("dist"),
    };
    made.extend(crate::dist_msi::make_or_say(&version, &out)?);
    for path in made {
        let size = std::fs::metadata(&path)?.len();
        println!("{} ({:.1} MB)", path.display(), size as f64 / 1e6);
    }
    Ok(())
}

/// Build what is needed for the packages named, and write both formats of each.
pub fn make(args: &Args, names: &[&str]) -> Result<Vec<PathBuf>> {
    let packages: Vec<&Package> = PACKAGES
        .iter()
        .filter(|package| names.contains(&package.name))
        .collect();
    let programs = packages
        .iter()
        .flat_map(|package| package.entries)
        .filter_map(|entry| match entry.from {
            From::Program(name) => Some(name),
            From::Deploy(_) => None,
        });
    let programs: Vec<&str> = programs.collect();
    let programs = match args.debug {
        true => stripped(&programs)?,
        false => build::shipped(&programs)?,
    };
    let version = match &args.package_version {
        Some(version) => version.clone(),
        None => build::version()?,
    };
    let out = match &args.out {
        Some(out) => out.clone(),
        None => build::target_dir()?.join("packages"),
    };
    std::fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    let mut written = Vec::new();
    for package in packages {
        let contents = contents(package, &programs)?;
        let deb = out.join(format!("{}_{version}_amd64.deb", package.name));
        write_deb(package, &version, &contents, &deb)
            .with_context(|| format!("writing {}", deb.display()))?;
        let rpm = out.join(format!("{}-{version}-1.x86_64.rpm", package.name));
        write_rpm(package, &version, &contents, &rpm)
            .with_context(|| format!("writing {}", rpm.display()))?;
        written.extend([deb, rpm]);
    }
    Ok(written)
}

/// The programs that tests use, without their debug information where there is a `strip`.
fn stripped(programs: &[&str]) -> Result<Vec<PathBuf>> {
    let folder = build::binaries(programs)?;
    let out = build::target_dir()?.join("packages/stripped");
    std::fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    let mut paths = Vec::new();
    for program in programs {
        let (from, to) = (folder.join(program), out.join(program));
        let strip = std::process::Command::new("strip")
            .arg("-o")
            .args([&to, &from])
            .status();
        if !strip.is_ok_and(|status| status.success()) {
            std::fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
        }
        paths.push(to);
    }
    Ok(paths)
}

fn contents(package: &Package, programs: &[PathBuf]) -> Result<Vec<Content>> {
    let deploy = crate::root().join("deploy");
    package
        .entries
        .iter()
        .map(|entry| {
            let path = match entry.from {
                From::Program(name) => {
                    let path = programs.iter().find(|path| path.ends_with(name));
                    path.with_context(|| format!("{name} was not built"))?
                        .clone()
                }
                From::Deploy(path) => deploy.join(path),
            };
            Ok(Content {
                to: entry.to,
                mode: entry.mode,
                is_config: entry.is_config,
                bytes: std::fs::read(&path)
                    .with_context(|| format!("reading {}", path.display()))?,
            })
        })
        .collect()
}

/// A maintainer script of a package, where it has one.
fn script(package: &Package, format: &str, name: &str) -> Result<Option<String>> {
    let Some(folder) = package.scripts else {
        return Ok(None);
    };
    let path = crate::root()
        .join("deploy/packages")
        .join(format)
        .join(folder)
        .join(name);
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Some(text))
}

/// deb(5): an ar archive of a format number and two tars.
fn write_deb(package: &Package, version: &str, contents: &[Content], path: &Path) -> Result<()> {
    let mut control = Tar::new();
    control.add(
        "./control",
        0o644,
        deb_control(package, version, contents).as_bytes(),
    )?;
    let configs: String = contents
        .iter()
        .filter(|content| content.is_config)
        .map(|content| format!("{}\n", content.to))
        .collect();
    if !configs.is_empty() {
        control.add("./conffiles", 0o644, configs.as_bytes())?;
    }
    for name in ["postinst", "prerm", "postrm"] {
        if let Some(text) = script(package, "deb", name)? {
            control.add(&format!("./{name}"), 0o755, text.as_bytes())?;
        }
    }
    let mut data = Tar::new();
    for content in contents {
        data.add_with_folders(content.to, content.mode, &content.bytes)?;
    }
    let mut archive = ar::Builder::new(File::create(path)?);
    for (name, bytes) in [
        ("debian-binary", b"2.0\n".to_vec()),
        ("control.tar.gz", control.finish()?),
        ("data.tar.gz", data.finish()?),
    ] {
        let mut header = ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64);
        header.set_mode(0o100_644);
        archive.append(&header, bytes.as_slice())?;
    }
    archive.into_inner()?.sync_all()?;
    Ok(())
}

fn deb_control(package: &Package, version: &str, contents: &[Content]) -> String {
    let kib: usize = contents
        .iter()
        .map(|content| content.bytes.len().div_ceil(1024))
        .sum();
    let depends = match package.scripts {
        Some(_) => format!("libc6 (>= {GLIBC_MIN}), systemd, init-system-helpers"),
        None => format!("libc6 (>= {GLIBC_MIN})"),
    };
    // Without it a host runs, reports, and cannot be quarantined.
    let recommends = match package.name {
        "ringward-agent" => "Recommends: nftables\n",
        _ => "",
    };
    format!(
        "Package: {}\nVersion: {version}\nArchitecture: amd64\nMaintainer: Ringward <packages@ringward.invalid>\n\
         Installed-Size: {kib}\nDepends: {depends}\n{recommends}Section: admin\nPriority: optional\nDescription: {}\n",
        package.name, package.summary
    )
}

/// One gzipped tar; owned by root, without times, so that equal content gives equal bytes.
struct Tar {
    builder: tar::Builder<flate2::write::GzEncoder<Vec<u8>>>,
    folders: Vec<String>,
}

impl Tar {
    fn new() -> Self {
        let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        Self {
            builder: tar::Builder::new(encoder),
            folders: Vec::new(),
        }
    }

    fn header(mode: u32, size: usize, kind: tar::EntryType) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size as u64);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header
    }

    fn add(&mut self, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        let mut header = Self::header(mode, bytes.len(), tar::EntryType::Regular);
        // dpkg wants the leading `./`, which the library's own way of adding takes away.
        header.as_gnu_mut().context("a GNU header")?.name[..name.len()]
            .copy_from_slice(name.as_bytes());
        header.set_cksum();
        Ok(self.builder.append(&header, bytes)?)
    }

    fn add_with_folders(&mut self, to: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        let mut at = String::from(".");
        let parts: Vec<&str> = to.trim_start_matches('/').split('/').collect();
        for part in &parts[..parts.len() - 1] {
            at = format!("{at}/{part}");
            if !self.folders.contains(&at) {
                self.folders.push(at.clone());
                let mut header = Self::header(0o755, 0, tar::EntryType::Directory);
                let name = format!("{at}/");
                header.as_gnu_mut().context("a GNU header")?.name[..name.len()]
                    .copy_from_slice(name.as_bytes());
                header.set_cksum();
                self.builder.append(&header, std::io::empty())?;
            }
        }
        self.add(&format!(".{to}"), mode, bytes)
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(self.builder.into_inner()?.finish()?)
    }
}

fn write_rpm(package: &Package, version: &str, contents: &[Content], path: &Path) -> Result<()> {
    let mut builder = rpm::PackageBuilder::new(
        package.name,
        version,
        HOMEPAGE_LICENSE,
        "x86_64",
        package.summary,
    );
    let config = rpm::BuildConfig::v4()
        .compression(rpm::CompressionWithLevel::Gzip(1))
        .source_date(0_u32);
    builder.using_config(config).release("1");
    builder.requires(rpm::Dependency::any(format!(
        "libc.so.6(GLIBC_{GLIBC_MIN})(64bit)"
    )));
    for content in contents {
        let mode = u16::try_from(content.mode).context("a mode of 16 bits")?;
        let mut options = rpm::FileOptions::new(content.to).permissions(mode);
        if content.is_config {
            options = options.config().noreplace();
        }
        builder.with_file_contents(content.bytes.clone(), options)?;
    }
    if package.scripts.is_some() {
        builder.requires(rpm::Dependency::any("systemd"));
    }
    if let Some(text) = script(package, "rpm", "post")? {
        builder.post_install_script(text);
    }
    if let Some(text) = script(package, "rpm", "preun")? {
        builder.pre_uninstall_script(text);
    }
    if let Some(text) = script(package, "rpm", "postun")? {
        builder.post_uninstall_script(text);
    }
    let mut out = std::io::BufWriter::new(File::create(path)?);
    builder.build()?.write(&mut out)?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read;

    fn package() -> (&'static Package, Vec<Content>) {
        let package = &PACKAGES[0];
        let contents = package
            .entries
            .iter()
            .map(|entry| Content {
                to: entry.to,
                mode: entry.mode,
                is_config: entry.is_config,
                bytes: b"content\n".to_vec(),
            })
            .collect();
        (package, contents)
    }

    #[test]
    fn a_deb_holds_every_file_once_and_the_same_bytes_each_time() {
        let (package, contents) = package();
        let folder = std::env::temp_dir().join(format!("ringward-dist-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (one, two) = (folder.join("1.deb"), folder.join("2.deb"));
        write_deb(package, "1.0", &contents, &one).unwrap();
        write_deb(package, "1.0", &contents, &two).unwrap();
        assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
        let mut archive = ar::Archive::new(File::open(&one).unwrap());
        let mut names = Vec::new();
        let mut files = 0;
        while let Some(Ok(mut member)) = archive.next_entry() {
            names.push(String::from_utf8(member.header().identifier().to_vec()).unwrap());
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes).unwrap();
            if names.last().unwrap() == "data.tar.gz" {
                let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_slice()));
                files = tar
                    .entries()
                    .unwrap()
                    .filter(|entry| entry.as_ref().unwrap().header().entry_type().is_file())
                    .count();
            }
        }
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(names, ["debian-binary", "control.tar.gz", "data.tar.gz"]);
        assert_eq!(files, contents.len());
    }

    #[test]
    fn every_file_that_a_package_names_is_in_the_repository() {
        for entry in PACKAGES.iter().flat_map(|package| package.entries) {
            if let From::Deploy(path) = entry.from {
                assert!(crate::root().join("deploy").join(path).is_file(), "{path}");
            }
            assert!(
                entry.to.len() < 99,
                "{} does not fit a tar header",
                entry.to
            );
        }
    }
}
