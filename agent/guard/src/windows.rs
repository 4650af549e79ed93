//! Which boot of a Windows machine this is.

use ringward_domain::BootId;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use windows_registry::{Key, LOCAL_MACHINE, Type};

/// Settings of ours in the registry.
pub const KEY: &str = r"SOFTWARE\Ringward";
/// Beneath it, gone with the boot that made it.
const BOOT: &str = "Boot";
const RANDOM: &str = "Random";
const RANDOM_BYTES: usize = 12;
/// Where the loader counts its boots.
const LOADER: &str =
    r"SYSTEM\CurrentControlSet\Control\Session Manager\Memory Management\PrefetchParameters";

/// The running boot: the loader's counter, then random bytes in a key that the registry does not keep
/// over a boot. A start from Fast Startup's hibernated kernel is the same boot, and so says the key.
///
/// # Errors
/// The key cannot be made: only an administrator or a service may.
pub fn boot_id() -> io::Result<BootId> {
    let ours = LOCAL_MACHINE.create(KEY).map_err(as_io)?;
    let boot = open_volatile(&ours)?;
    let mut id = [0; 16];
    id[..4].copy_from_slice(&loader_boot_id().unwrap_or(0).to_le_bytes());
    id[4..].copy_from_slice(&random_of(&boot)?);
    Ok(BootId(id))
}

/// The loader's number of this boot; `None` where it does not count.
#[must_use]
pub fn loader_boot_id() -> Option<u32> {
    LOCAL_MACHINE.open(LOADER).ok()?.get_u32("BootId").ok()
}

fn open_volatile(ours: &Key) -> io::Result<Key> {
    let mut options = ours.options();
    options.read().write().create().volatile();
    options.open(BOOT).map_err(as_io)
}

fn random_of(boot: &Key) -> io::Result<[u8; RANDOM_BYTES]> {
    if let Some(kept) = read_random(boot) {
        return Ok(kept);
    }
    // Whoever asks first in a boot decides; the guard and the agent are started one after the other.
    let mut bytes = [0; 16];
    for half in bytes.chunks_exact_mut(8) {
        // Keyed by the system's random source; it has to be new, not secret.
        half.copy_from_slice(&RandomState::new().build_hasher().finish().to_le_bytes());
    }
    boot.set_bytes(RANDOM, Type::Bytes, &bytes[..RANDOM_BYTES])
        .map_err(as_io)?;
    read_random(boot).ok_or_else(|| io::Error::other("what was written is not read back"))
}

fn read_random(boot: &Key) -> Option<[u8; RANDOM_BYTES]> {
    let value = boot.get_value(RANDOM).ok()?;
    <[u8; RANDOM_BYTES]>::try_from(&*value).ok()
}

fn as_io(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_boot_keeps_its_id() {
        let first = boot_id().unwrap();
        assert_eq!(boot_id().unwrap(), first);
        assert_ne!(first.0[4..], [0; RANDOM_BYTES]);
    }
}
