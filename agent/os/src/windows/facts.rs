//! Facts of a Windows machine.

use super::safe_boot;
use crate::{arch, bounded, hex};
use ring::digest;
use ringward_domain::host::{Facts, GuardTier, Os};
use windows_registry::{Key, LOCAL_MACHINE};
use windows_sys::Win32::System::SystemInformation::{
    ComputerNamePhysicalDnsHostname, GetComputerNameExW, GlobalMemoryStatusEx, MEMORYSTATUSEX,
};

const VERSION: &str = r"SOFTWARE\Microsoft\Windows NT\CurrentVersion";
const BIOS: &str = r"HARDWARE\DESCRIPTION\System\BIOS";
const GUARD: &str = r"SYSTEM\CurrentControlSet\Services\RingwardGuard";
/// Started by the service manager without being asked.
const START_AUTO: u32 = 2;

/// Ask the system.
pub(super) fn collect() -> Facts {
    let version = LOCAL_MACHINE.open(VERSION).ok();
    let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
    Facts {
        hostname: bounded(hostname()),
        os: Os::Windows,
        os_build: bounded(os_build(version.as_ref())),
        arch: arch(),
        kernel: bounded(build(version.as_ref())),
        model: bounded(text(
            LOCAL_MACHINE.open(BIOS).ok().as_ref(),
            "SystemProductName",
        )),
        fingerprint: fingerprint(),
        memory_mib: memory_bytes() / (1024 * 1024),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        guard_tier: guard_tier(),
    }
}

/// Where the guard has a place in this machine's boot: a service that starts by itself, in a machine
/// that comes back by itself after a bugcheck.
pub(super) fn guard_tier() -> GuardTier {
    let starts = LOCAL_MACHINE.open(GUARD).ok();
    let starts = starts.and_then(|key| key.get_u32("Start").ok()) == Some(START_AUTO);
    match starts && safe_boot::reboots_by_itself() != Some(false) {
        true => GuardTier::Service,
        false => GuardTier::None,
    }
}

fn text(key: Option<&Key>, name: &str) -> String {
    key.and_then(|key| key.get_string(name).ok())
        .unwrap_or_default()
}

/// `10.0.22631.4317`.
fn build(version: Option<&Key>) -> String {
    let number = |name: &str| version.and_then(|key| key.get_u32(name).ok());
    let (major, minor) = (
        number("CurrentMajorVersionNumber").unwrap_or(0),
        number("CurrentMinorVersionNumber").unwrap_or(0),
    );
    let build = text(version, "CurrentBuildNumber");
    match number("UBR") {
        Some(revision) => format!("{major}.{minor}.{build}.{revision}"),
        None => format!("{major}.{minor}.{build}"),
    }
}

/// `Windows 11 Pro 23H2 (10.0.22631.4317)`. The product's name in the registry says 10 on a Windows 11,
/// whose builds begin with 22000.
fn os_build(version: Option<&Key>) -> String {
    let mut name = text(version, "ProductName");
    let build_number: u32 = text(version, "CurrentBuildNumber").parse().unwrap_or(0);
    if build_number >= 22_000 && !name.contains("Server") {
        name = name.replace("Windows 10", "Windows 11");
    }
    let release = text(version, "DisplayVersion");
    let words = [name.as_str(), release.as_str()];
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    format!("{} ({})", words.join(" "), build(version))
}

fn hostname() -> String {
    let mut buffer = [0_u16; 256];
    let mut length = 256;
    // SAFETY: the buffer holds as many units as `length` says; the system writes no more.
    let read = unsafe {
        GetComputerNameExW(
            ComputerNamePhysicalDnsHostname,
            buffer.as_mut_ptr(),
            &mut length,
        )
    };
    let length = usize::try_from(length).unwrap_or(0).min(buffer.len());
    match read {
        0 => String::new(),
        _ => String::from_utf16_lossy(&buffer[..length]),
    }
}

fn memory_bytes() -> u64 {
    let mut status = MEMORYSTATUSEX {
        dwLength: u32::try_from(size_of::<MEMORYSTATUSEX>()).unwrap_or(0),
        ..MEMORYSTATUSEX::default()
    };
    // SAFETY: the structure says its own size and outlives the call.
    match unsafe { GlobalMemoryStatusEx(&mut status) } {
        0 => 0,
        _ => status.ullTotalPhys,
    }
}

/// SHA-256 over the machine's GUID and what its firmware says of it: stable over re-installs of the
/// agent, and no identifier itself.
fn fingerprint() -> String {
    let cryptography = LOCAL_MACHINE.open(r"SOFTWARE\Microsoft\Cryptography").ok();
    let bios = LOCAL_MACHINE.open(BIOS).ok();
    let mut hash = digest::Context::new(&digest::SHA256);
    for part in [
        text(cryptography.as_ref(), "MachineGuid"),
        text(bios.as_ref(), "SystemManufacturer"),
        text(bios.as_ref(), "SystemProductName"),
        text(bios.as_ref(), "BaseBoardProduct"),
    ] {
        hash.update(part.as_bytes());
        hash.update(b"\n");
    }
    hex(hash.finish().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_facts() {
        let facts = collect();
        assert!(facts.memory_mib > 0 && facts.cpus > 0, "{facts:?}");
        assert!(
            !facts.hostname.is_empty() && facts.kernel.len() > 3,
            "{facts:?}"
        );
        assert_eq!(facts.fingerprint.len(), 64);
    }
}
