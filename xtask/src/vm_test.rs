//! `cargo xtask vm-test`: real panics, a real initrd and real power cuts, on Debian under QEMU.
//!
//! QEMU, kernel, compiler and base system come from Debian's archive and are kept in the user's cache
//! folder (1 GB), outside of the clone: the first run takes some minutes longer. Everything is emulated
//! (TCG), so that it runs where KVM does not. Says "skipped" and why where something is missing.

use crate::{build, debian, dist};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DEBOOTSTRAP: [&str; 1] = ["debootstrap"];
/// The machine's side: the emulator, its firmware, and what makes a kernel module.
const TOOLS: [&str; 7] = [
    "qemu-system-x86",
    "ovmf",
    "systemd-boot-efi",
    "mtools",
    "dosfstools",
    "linux-headers-cloud-amd64",
    "make",
];
/// The guest's side: a stock kernel with its own initramfs.
const GUEST: [&str; 10] = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "udev",
    "kmod",
    "iproute2",
    "initramfs-tools",
    "busybox",
    "linux-image-cloud-amd64",
    "e2fsprogs",
];
const MODULE: &str = "endpoint_shield.ko";

/// What these machines cannot show.
const NOT_HERE: [(&str, &str); 2] = [
    (
        "a root of an rpm distribution",
        "only Debian's archive is asked for systems; nspawn-test installs the rpm with Debian's rpm",
    ),
    (
        "GRUB's boot counter",
        "Debian's grub.cfg has none; tier a is played with systemd-boot",
    ),
];

#[derive(clap::Args, Default)]
pub struct Args {
    /// All scenes and every moment of the power cuts, not the short tier (about half an hour)
    #[arg(long)]
    pub full: bool,
    /// Only the scenes whose name holds this
    #[arg(long, value_name = "WORD")]
    pub only: Option<String>,
    /// Use the packages of the last run
    #[arg(long)]
    pub no_build: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let cache = match prepare() {
        Ok(cache) => cache,
        Err(why) => {
            println!("skipped: {why:#}");
            return Ok(());
        }
    };
    let work = build::target_dir()?.join("vm");
    let packages = work.join("packages");
    if !args.no_build {
        dist::make(
            &dist::Args {
                package_version: Some("0.1.0".to_owned()),
                debug: true,
                out: Some(packages.clone()),
            },
            &["ringward-agent"],
        )?;
    }
    let programs = build::binaries(&["ringward-vm", "ringward-server", "ringwardctl"])?;
    let mut test = Command::new(programs.join("ringward-vm"));
    test.arg("--tools").arg(cache.join("tools"));
    test.arg("--base").arg(cache.join("base"));
    test.arg("--module").arg(cache.join(MODULE));
    test.arg("--packages").arg(&packages);
    test.arg("--programs").arg(&programs);
    test.arg("--work").arg(work.join("work"));
    if args.full {
        test.arg("--full");
    }
    if let Some(word) = &args.only {
        test.args(["--only", word]);
    }
    build::run(&mut test)?;
    if args.full {
        for (what, why) in NOT_HERE {
            println!("skipped: {what}: {why}");
        }
    }
    Ok(())
}

/// The user's cache folder.
fn cache() -> Result<PathBuf> {
    let own = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = own
        .or_else(home)
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(cache.join("ringward/vm"))
}

/// Emulator, guest and module, made once.
fn prepare() -> Result<PathBuf> {
    if !cfg!(target_arch = "x86_64") {
        bail!("the machines are x86-64, and so must this one be");
    }
    debian::needs()?;
    let cache = cache()?;
    let bootstrap = cache.join("bootstrap");
    if !bootstrap.join("usr/sbin/debootstrap").exists() {
        debian::unpack(&DEBOOTSTRAP, &bootstrap)?;
    }
    debian::system(&bootstrap, &cache.join("tools"), &TOOLS)?;
    debian::system(&bootstrap, &cache.join("base"), &GUEST)?;
    make_module(&cache)?;
    Ok(cache)
}

/// The driver with a fault, for the guest's kernel; both come from one archive, so they fit.
fn make_module(cache: &Path) -> Result<()> {
    let source = crate::root().join("tests/suite/vm/shield.c");
    let (tools, module) = (cache.join("tools"), cache.join(MODULE));
    let folder = tools.join("srv/module");
    let copy = folder.join("endpoint_shield.c");
    let same = std::fs::read(&copy).ok() == std::fs::read(&source).ok();
    if same && module.exists() {
        return Ok(());
    }
    let headers = tools
        .join("usr/src")
        .read_dir()?
        .flatten()
        .find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.ends_with("-cloud-amd64").then_some(name)
        });
    let headers = headers.context("the tools hold no kernel headers")?;
    std::fs::create_dir_all(&folder)?;
    std::fs::copy(&source, &copy).with_context(|| format!("copying {}", source.display()))?;
    std::fs::write(folder.join("Makefile"), "obj-m := endpoint_shield.o\n")?;
    build::run(
        Command::new("chroot")
            .arg(&tools)
            .args(["/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
            .args(["make", "-s", "-C"])
            .arg(format!("/usr/src/{headers}"))
            .args(["M=/srv/module", "modules"])
            .stdout(Stdio::null()),
    )?;
    std::fs::copy(folder.join(MODULE), &module)?;
    Ok(())
}
