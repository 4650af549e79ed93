//! A release that brings a boot entry whose initrd kills the kernel before the guard: systemd-boot
//! counts its tries and starts the entry before it, and the guard takes the release back there.

use super::early::tier;
use super::story::{judge_silence, start, start_and_cut_off, story};
use super::{HEALED_WITHIN, PATIENCE, enrol, healed};
use crate::Options;
use crate::control;
use crate::guest::{COMMAND_LINE, Guest, Hardware, tool};
use crate::image::{self, Image, run};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "loader";
const PACKAGE: &str = "endpoint-shield";
const BOOT_DISK_BYTES: u64 = 96 * 1024 * 1024;
const ENTRIES: &str = "/boot/efi/loader/entries";

/// The entry of a kernel that every distribution's installer would have made; `more` = further initrds.
fn entry(version: &str, more: &str) -> String {
    format!(
        "title Debian\nsort-key debian\nversion {version}\nlinux /debian/vmlinuz\n\
         initrd /debian/initrd.img\n{more}options {COMMAND_LINE}\n"
    )
}

/// A disk with systemd-boot and one entry that is not counted: it has proven itself.
fn boot_disk(options: &Options, image: &Image) -> Result<PathBuf> {
    let folder = options.work.join(NAME);
    let disk = folder.join("boot.raw");
    std::fs::File::create(&disk)?.set_len(BOOT_DISK_BYTES)?;
    run(tool(&options.tools, "usr/sbin/mkfs.fat").arg(&disk))?;
    let first = folder.join("first.conf");
    std::fs::write(&first, entry("6.1", ""))?;
    let folders = ["EFI", "EFI/BOOT", "debian", "loader", "loader/entries"];
    let mtools = |verb: &str| {
        let mut command = tool(&options.tools, "usr/bin/mtools");
        command.args(["-c", verb, "-i"]).arg(&disk);
        command
    };
    run(mtools("mmd").args(folders.map(|name| format!("::{name}"))))?;
    let boot = options
        .tools
        .join("usr/lib/systemd/boot/efi/systemd-bootx64.efi");
    for (from, to) in [
        (&boot, "EFI/BOOT/BOOTX64.EFI"),
        (&image.kernel, "debian/vmlinuz"),
        (&image.initrd, "debian/initrd.img"),
        (&first, "loader/entries/debian-6.1.conf"),
    ] {
        run(mtools("mcopy").arg(from).arg(format!("::{to}")))?;
    }
    Ok(disk)
}

/// What the early initrd of 1.1 holds, as the archive that the kernel unpacks over the one before it.
fn early_initrd(options: &Options) -> Result<Vec<u8>> {
    let module = std::fs::read(&options.module).context("reading the module")?;
    let load = b"insmod /endpoint_shield.ko\nsleep 5\n";
    let mut archive = Vec::new();
    let mut add = |name: &str, mode: usize, bytes: &[u8]| {
        let fields = [
            1,
            mode,
            0,
            0,
            1,
            0,
            bytes.len(),
            0,
            0,
            0,
            0,
            name.len() + 1,
            0,
        ]
        .map(|field| format!("{field:08x}"))
        .concat();
        archive.extend_from_slice(format!("070701{fields}{name}\0").as_bytes());
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(bytes);
        archive.resize(archive.len().next_multiple_of(4), 0);
    };
    add("endpoint_shield.ko", 0o100_644, &module);
    add("conf/conf.d/endpoint-shield", 0o100_644, load);
    add("TRAILER!!!", 0, b"");
    Ok(archive)
}

/// A package as a vendor would build it; 1.1 brings an entry with two tries.
fn package(options: &Options, version: &str, early: Option<&[u8]>) -> Result<PathBuf> {
    let tree = options.work.join(NAME).join(format!("tree-{version}"));
    let (control, share) = (tree.join("DEBIAN"), tree.join("usr/share").join(PACKAGE));
    std::fs::create_dir_all(&control)?;
    std::fs::create_dir_all(&share)?;
    std::fs::write(share.join("version"), version)?;
    let about = format!(
        "Package: {PACKAGE}\nVersion: {version}\nArchitecture: all\nMaintainer: T <t@example.org>\nDescription: test\n"
    );
    std::fs::write(control.join("control"), about)?;
    if let Some(early) = early {
        std::fs::write(share.join("early.img"), early)?;
        let more = "initrd /endpoint-shield.img\n";
        let postinst = format!(
            "#!/bin/sh\nset -e\ngzip -nc /usr/share/{PACKAGE}/early.img > /boot/efi/endpoint-shield.img\n\
             cat > {ENTRIES}/debian-6.1-shield+2.conf <<'END'\n{}END\nsync\n",
            entry("6.1-shield", more)
        );
        script(&control.join("postinst"), &postinst)?;
        let prerm = format!("#!/bin/sh\nrm -f {ENTRIES}/debian-6.1-shield*.conf\n");
        script(&control.join("prerm"), &prerm)?;
    }
    let deb = options.work.join(NAME).join(format!("{version}.deb"));
    run(Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .args([&tree, &deb]))?;
    Ok(deb)
}

fn script(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text)?;
    run(Command::new("chmod").arg("755").arg(path))
}

/// The version that the guest's dpkg knows.
fn installed(guest: &Guest) -> Result<String> {
    guest.say(&format!("dpkg-query -W -f '${{Version}}' {PACKAGE}"))
}

pub fn play(options: &Options) -> Result<String> {
    let image = image::make(options, NAME, false, |root| {
        std::fs::create_dir_all(root.join("boot/efi"))?;
        let wants = root.join("etc/systemd/system/multi-user.target.wants");
        let line = wants.join("control@hvc0.service");
        std::os::unix::fs::symlink("/etc/systemd/system/control@.service", line)?;
        let mut table = std::fs::read_to_string(root.join("etc/fstab"))?;
        table.push_str("/dev/vdb /boot/efi vfat umask=0077 0 0\n");
        Ok(std::fs::write(root.join("etc/fstab"), table)?)
    })?;
    let hardware = Hardware {
        boot_disk: Some(boot_disk(options, &image)?),
        ..Hardware::default()
    };
    let control = control::start(options, NAME)?;
    let mut guest = Guest::start(options, &image, &hardware)?;
    let state = guest.wait_booted()?;
    ensure!(state == "running", "a fresh machine is {state}");
    let tier = tier(&guest)?;
    ensure!(tier.contains("tier a"), "{tier}");
    enrol(&mut guest, &control)?;
    let early = early_initrd(options)?;
    for (version, early) in [("1.0", None), ("1.1", Some(early.as_slice()))] {
        let deb = package(options, version, early)?;
        let boot: &[&str] = if early.is_some() { &["--boot"] } else { &[] };
        let flags = [&["--installer", "deb"], boot].concat();
        control.publish(PACKAGE, version, deb.as_os_str(), &flags)?;
    }
    start(&control, "1.0")?;
    control.rollout_is("completed", PATIENCE)?;

    start_and_cut_off(&control, &mut guest)?;
    let guard = healed(&mut guest, installed)?;
    ensure!(
        guard.contains("the boot loader gave the release's entry up"),
        "the guard says {guard}"
    );
    judge_silence(&control.rollout_is("halted", HEALED_WITHIN)?)?;

    guest.cable(true)?;
    let told = control.wait_for("the whole story", PATIENCE, |control| {
        story(&control.ctl(&["hosts", "show", "shielded"])?)
    })?;
    ensure!(installed(&guest)? == "1.0", "the host moved again");
    let line = guest.say("cat /proc/cmdline")?;
    ensure!(!line.contains("panic="), "not the entry of before: {line}");
    let entries = guest.say(&format!("ls {ENTRIES}; cat {ENTRIES}/*"))?;
    ensure!(
        !entries.contains("shield") && !entries.contains("ringward"),
        "left on the boot disk: {entries}"
    );
    Ok(format!(
        "{tier}; {guard}; halted by silence alone; then told: {told}"
    ))
}
