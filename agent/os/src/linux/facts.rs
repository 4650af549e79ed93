//! Facts of a Linux machine.

use crate::{arch, bounded, hex};
use ring::digest;
use ringward_domain::host::{Facts, GuardTier, Os};
use std::path::Path;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Ask the system. `root` is where `/etc` and `/sys` are found.
pub(super) fn collect(root: &Path) -> Facts {
    let refresh = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let memory = System::new_with_specifics(refresh).map_or(0, |system| system.total_memory());
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    Facts {
        hostname: bounded(System::host_name().unwrap_or_default()),
        os: Os::Linux,
        os_build: bounded(System::long_os_version().unwrap_or_default()),
        arch: arch(),
        kernel: bounded(System::kernel_version().unwrap_or_default()),
        model: bounded(first_line(&root.join("sys/class/dmi/id/product_name"))),
        fingerprint: fingerprint(root),
        memory_mib: memory / (1024 * 1024),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        guard_tier: guard_tier(root),
    }
}

/// Where the guard has a place in this machine's boot. A hook that is installed proves no initramfs
/// that holds it: only the word that the hook left in this very boot does.
pub(super) fn guard_tier(root: &Path) -> GuardTier {
    let wanted = root.join("etc/systemd/system/sysinit.target.wants/ringward-guard.service");
    let program = root.join("usr/lib/ringward/ringward-guard");
    if wanted.symlink_metadata().is_err() || !program.is_file() {
        return GuardTier::None;
    }
    match first_line(&root.join("run/ringward/guard-tier")).as_str() {
        "initramfs" => GuardTier::Initramfs,
        _ if loader_counts(root) => GuardTier::BootLoader,
        _ => GuardTier::Service,
    }
}

/// Whether systemd-boot started this boot and counts the tries of entries: it leaves its features in a
/// variable of the firmware (`EFI_LOADER_FEATURE_BOOT_COUNTING`), after four bytes of attributes.
pub(super) fn loader_counts(root: &Path) -> bool {
    let variable = "sys/firmware/efi/efivars/LoaderFeatures-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
    let bytes = std::fs::read(root.join(variable)).unwrap_or_default();
    bytes.get(4).is_some_and(|features| features & 0x10 != 0)
}

fn first_line(path: &Path) -> String {
    std::fs::read_to_string(path)
        .ok()
        .and_then(|text| text.lines().next().map(str::to_owned))
        .unwrap_or_default()
}

/// SHA-256 over the machine id and the board's serial: stable over re-installs of the agent, and not
/// the machine id itself, which is confidential (machine-id(5)).
fn fingerprint(root: &Path) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    for path in ["etc/machine-id", "sys/class/dmi/id/product_uuid"] {
        hash.update(first_line(&root.join(path)).as_bytes());
        hash.update(b"\n");
    }
    hex(hash.finish().as_ref())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_fingerprint_is_no_machine_id() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let id = "0123456789abcdef0123456789abcdef";
        std::fs::write(root.path().join("etc/machine-id"), format!("{id}\n")).unwrap();
        let one = fingerprint(root.path());
        assert_eq!(one.len(), 64);
        assert!(!one.contains(id));
        assert_eq!(one, fingerprint(root.path()));
        std::fs::write(root.path().join("etc/machine-id"), "other\n").unwrap();
        assert_ne!(one, fingerprint(root.path()));
    }

    #[test]
    fn a_guard_that_is_not_enabled_guards_nothing() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("usr/lib/ringward")).unwrap();
        std::fs::write(root.path().join("usr/lib/ringward/ringward-guard"), "").unwrap();
        assert_eq!(guard_tier(root.path()), GuardTier::None);
        let wants = root.path().join("etc/systemd/system/sysinit.target.wants");
        std::fs::create_dir_all(&wants).unwrap();
        std::os::unix::fs::symlink(
            "/usr/lib/systemd/system/ringward-guard.service",
            wants.join("ringward-guard.service"),
        )
        .unwrap();
        assert_eq!(guard_tier(root.path()), GuardTier::Service);
        let variables = root.path().join("sys/firmware/efi/efivars");
        std::fs::create_dir_all(&variables).unwrap();
        let features = variables.join("LoaderFeatures-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f");
        std::fs::write(&features, [6, 0, 0, 0, 0x0f, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(guard_tier(root.path()), GuardTier::Service);
        std::fs::write(&features, [6, 0, 0, 0, 0x7f, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(guard_tier(root.path()), GuardTier::BootLoader);
        std::fs::create_dir_all(root.path().join("run/ringward")).unwrap();
        std::fs::write(root.path().join("run/ringward/guard-tier"), "initramfs\n").unwrap();
        assert_eq!(guard_tier(root.path()), GuardTier::Initramfs);
    }

    #[test]
    fn this_machine_has_facts() {
        let facts = collect(Path::new("/"));
        assert!(facts.memory_mib > 0 && facts.cpus > 0 && !facts.kernel.is_empty());
    }
}
