//! The disk of a machine: a Debian system with the agent's package installed, made without mounting it.

use crate::Options;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Room on the disk; what is not used costs nothing.
const DISK: &str = "1536M";
/// Counts the ways in which [`installed`] sets a machine up.
const LAYER: u32 = 3;
/// Where the agent keeps its state.
pub const STATE: &str = "var/lib/ringward-agent";
/// The unit of the release on trial, as a vendor's package would bring it. It has the default
/// dependencies: it starts after sysinit.target.
const UNIT: &str = "[Unit]\nDescription=Endpoint Shield\n\
    ConditionPathExists=/var/lib/ringward-agent/slots/endpoint-shield/current/start\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
    ExecStart=/bin/sh /var/lib/ringward-agent/slots/endpoint-shield/current/start\n\
    [Install]\nWantedBy=multi-user.target\n";

/// What a machine boots from.
pub struct Image {
    /// Root file system.
    pub disk: PathBuf,
    /// `/var`, where it is a file system of its own.
    pub var: Option<PathBuf>,
    /// The stock kernel.
    pub kernel: PathBuf,
    /// The initramfs as it is after the package was installed: with the guard in it.
    pub initrd: PathBuf,
    /// As it was before.
    pub initrd_before: PathBuf,
}

/// Starts a command and insists on its success.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// A Debian system over the base, until it is dropped.
struct Layers(PathBuf);

impl Layers {
    /// Over `lower`, the topmost first.
    fn mount(lower: &[&Path], work: &Path) -> Result<Self> {
        let lower: Vec<String> = lower
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        for folder in ["upper", "layer", "root"] {
            std::fs::create_dir_all(work.join(folder))?;
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.join(":"),
            work.join("upper").display(),
            work.join("layer").display()
        );
        let root = work.join("root");
        run(Command::new("mount")
            .args(["-t", "overlay", "overlay", "-o", &options])
            .arg(&root))?;
        Ok(Self(root))
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        // A mount that stays is seen by whoever empties the folder.
        let _ = run(Command::new("umount").arg(&self.0));
    }
}

fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    let path = root.join(path);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

/// What a person would set up on such a machine, and a root shell on the second serial line, which no
/// network is needed for.
fn set_up(root: &Path, var_apart: bool) -> Result<()> {
    let var = "/dev/vdb /var ext4 defaults 0 2\n";
    write(
        root,
        "etc/fstab",
        &format!(
            "/dev/vda / ext4 errors=remount-ro 0 1\n{}",
            if var_apart { var } else { "" }
        ),
    )?;
    write(root, "etc/hostname", "shielded\n")?;
    write(root, "etc/machine-id", "5f2e0c6f3b7d4b6f9a3a8c1d2e4f6071\n")?;
    write(
        root,
        "etc/systemd/network/10-wired.network",
        "[Match]\nName=en* eth*\n[Network]\nDHCP=yes\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
    )?;
    std::fs::create_dir_all(root.join("var/log/journal"))?;
    write(
        root,
        "etc/systemd/system/control@.service",
        "[Unit]\nAfter=basic.target dev-%i.device\nWants=dev-%i.device\n[Service]\nExecStartPre=-/bin/stty -F /dev/%I raw -echo\n\
         ExecStart=/bin/sh\nStandardInput=tty-force\nStandardOutput=tty\nStandardError=tty\n\
         TTYPath=/dev/%I\nRestart=always\nRestartSec=1\nTimeoutStopSec=2\nKillSignal=SIGHUP\n\
         Environment=HOME=/root TERM=dumb PS1= PATH=/usr/sbin:/usr/bin:/sbin:/bin\n\
         [Install]\nWantedBy=multi-user.target\n",
    )?;
    // Of a machine that is emulated while this one is busy: its devices take minutes to appear.
    write(
        root,
        "etc/systemd/system.conf.d/slow.conf",
        "[Manager]\nDefaultDeviceTimeoutSec=15min\nDefaultTimeoutStartSec=15min\n",
    )?;
    write(root, "etc/systemd/system/endpoint-shield.service", UNIT)?;
    Ok(())
}

fn inside(root: &Path, line: &str) -> Result<()> {
    run(Command::new("chroot").arg(root).args([
        "/usr/bin/env",
        "-i",
        PATH,
        "DEBIAN_FRONTEND=noninteractive",
        "/bin/sh",
        "-ec",
        line,
    ]))
}

/// Name of the file in `folder` that starts so.
fn starting(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let found = folder.read_dir()?.flatten().map(|entry| entry.path());
    found
        .into_iter()
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .with_context(|| format!("{} holds no {prefix}*", folder.display()))
}

fn emptied(work: &Path) -> Result<()> {
    if work.exists() {
        // Mounted over where a run was killed.
        let _ = run(Command::new("umount").arg("-q").arg(work.join("root")));
        std::fs::remove_dir_all(work).with_context(|| format!("emptying {}", work.display()))?;
    }
    Ok(())
}

/// The layer with the agent's package installed, made once for all scenes and for later runs with the
/// same package: making an initramfs takes as long as a boot. The initramfs of before lies beside it.
fn installed(options: &Options) -> Result<PathBuf> {
    let work = options.work.join("installed");
    let package = starting(&options.packages, "ringward-agent_")?;
    let about = std::fs::metadata(&package)?;
    let stamp = format!("{LAYER} {} {:?}", about.len(), about.modified()?);
    if std::fs::read_to_string(work.join("stamp")).is_ok_and(|known| known == stamp) {
        return Ok(work);
    }
    emptied(&work)?;
    let layers = Layers::mount(&[&options.base], &work)?;
    let root = &layers.0;
    set_up(root, false)?;
    let initrd = starting(&root.join("boot"), "initrd.img-")?;
    std::fs::copy(initrd, work.join("initrd.before"))?;
    std::fs::copy(&package, root.join("srv/agent.deb"))?;
    inside(
        root,
        "dpkg -i /srv/agent.deb && rm /srv/agent.deb && systemctl -q enable systemd-networkd control@ttyS1 endpoint-shield \
         && systemctl -q mask serial-getty@ttyS0 getty@tty1 apt-daily.timer apt-daily-upgrade.timer",
    )?;
    drop(layers);
    std::fs::write(work.join("stamp"), stamp)?;
    Ok(work)
}

/// Makes the disk; `prepare` gets the system's root before it is written.
pub fn make(
    options: &Options,
    name: &str,
    var_apart: bool,
    prepare: impl FnOnce(&Path) -> Result<()>,
) -> Result<Image> {
    let installed = installed(options)?;
    let work = options.work.join(name);
    emptied(&work)?;
    let layers = Layers::mount(&[&installed.join("upper"), &options.base], &work)?;
    let root = &layers.0;
    set_up(root, var_apart)?;
    let boot = root.join("boot");
    let image = Image {
        disk: work.join("disk.raw"),
        var: var_apart.then(|| work.join("var.raw")),
        kernel: work.join("vmlinuz"),
        initrd: work.join("initrd.img"),
        initrd_before: work.join("initrd.before"),
    };
    std::fs::copy(starting(&boot, "vmlinuz-")?, &image.kernel)?;
    std::fs::copy(installed.join("initrd.before"), &image.initrd_before)?;
    std::fs::copy(starting(&boot, "initrd.img-")?, &image.initrd)?;
    prepare(root)?;
    if let Some(var) = &image.var {
        file_system(&root.join("var"), var)?;
        std::fs::remove_dir_all(root.join("var"))?;
        std::fs::create_dir(root.join("var"))?;
    }
    file_system(root, &image.disk)?;
    Ok(image)
}

fn file_system(from: &Path, disk: &Path) -> Result<()> {
    run(Command::new("mkfs.ext4")
        .args(["-q", "-E", "root_owner=0:0", "-d"])
        .arg(from)
        .arg(disk)
        .arg(DISK))
}
