//! The agent's adapters to the operating system: everything a host can be asked or told, behind one
//! trait, so that the daemon is the same on a real machine and on a scripted one.
//!
//! [`machine`] is the machine this was built for, Linux or Windows, with the same names in both;
//! [`fake`] is the *scripted* host of the demo and the tests, which boots, crashes, vanishes and is
//! healed by the real guard, inside one process.

mod collect;
pub mod fake;
pub mod host;
pub mod isolation;
#[cfg(target_os = "linux")]
pub mod linux;
pub mod marker;
#[cfg(any(windows, test))]
mod msi;
pub mod parse;
mod probe;
pub mod wfp;
#[cfg(windows)]
pub mod windows;

#[cfg(target_os = "linux")]
pub use linux as machine;
#[cfg(windows)]
pub use windows as machine;

pub use host::{Host, HostError, HostEvent, InstallError, StopReason};
pub use isolation::IsolationError;

use ringward_domain::limits::LABEL_BYTES_MAX;
use std::fmt::Write;

/// The architecture this agent was built for, which is the one that its releases must fit.
pub(crate) fn arch() -> ringward_domain::host::Arch {
    if cfg!(target_arch = "aarch64") {
        ringward_domain::host::Arch::Aarch64
    } else {
        ringward_domain::host::Arch::X86_64
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// A fact as long as a fact may be.
pub(crate) fn bounded(text: String) -> String {
    let mut end = text.len().min(LABEL_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_facts_are_cut_at_a_character() {
        assert_eq!(bounded("ä".repeat(LABEL_BYTES_MAX)).len(), LABEL_BYTES_MAX);
        assert!(bounded(format!("x{}", "ä".repeat(LABEL_BYTES_MAX))).len() < LABEL_BYTES_MAX);
    }
}
