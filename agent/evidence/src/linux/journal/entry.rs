//! One journal entry, reduced to the fields evidence needs.

use std::collections::BTreeMap;

/// Message ids, all fixed by systemd.
pub mod ids {
    /// A unit is restarted by itself; carries `N_RESTARTS`.
    pub const RESTART: &str = "5eb03494b6584870a536b337290809b3";
    /// A unit failed; carries `UNIT_RESULT`.
    pub const FAILED: &str = "d9b373ed55a64feb8242e02dbe79a49c";
    /// A process of a unit exited; carries `EXIT_CODE` and `EXIT_STATUS`.
    pub const EXITED: &str = "98e322203f7a4ed290d09fe03c09fe15";
    /// A unit could not be started.
    pub const START_FAILED: &str = "be02cf6855d2428ba40df7e9d022f03d";
    /// A unit lost a process to the out-of-memory killer.
    pub const UNIT_OOM: &str = "fe6faa94e7774663a0da52717891d8ef";
    /// A process dumped core.
    pub const COREDUMP: &str = "fc2e22bc6ee647b6b90729ab34a250b1";
    /// Start-up finished: absent from a boot that never got well.
    pub const STARTED_UP: &str = "b07a249cd024414a82dd00cd181378ff";
    /// The journal daemon stopped.
    pub const JOURNAL_STOPPED: &str = "d93fb3c9c24d451a97cea615ce59c00b";
    /// The journal daemon started.
    pub const JOURNAL_STARTED: &str = "f77379a8490b408bbe5f6940505a777b";
    /// The machine is shutting down.
    pub const SHUTDOWN: &str = "98268866d1d54a499c4e98921d93bc40";
    /// A unit was started or a target reached.
    pub const UNIT_STARTED: &str = "39f53479d3a045ac8e11786248231fbf";

    /// All ids a reader acts on.
    pub const ALL: [&str; 11] = [
        RESTART,
        FAILED,
        EXITED,
        START_FAILED,
        UNIT_OOM,
        COREDUMP,
        STARTED_UP,
        JOURNAL_STOPPED,
        JOURNAL_STARTED,
        SHUTDOWN,
        UNIT_STARTED,
    ];
}

/// Fields kept; all others are dropped while reading.
pub const FIELDS: [&str; 22] = [
    "MESSAGE",
    "MESSAGE_ID",
    "UNIT",
    "USER_UNIT",
    "N_RESTARTS",
    "UNIT_RESULT",
    "EXIT_CODE",
    "EXIT_STATUS",
    "INVOCATION_ID",
    "COREDUMP_PID",
    "COREDUMP_EXE",
    "COREDUMP_COMM",
    "COREDUMP_UNIT",
    "COREDUMP_SIGNAL",
    "COREDUMP_SIGNAL_NAME",
    "COREDUMP_TIMESTAMP",
    "_TRANSPORT",
    "_PID",
    "_BOOT_ID",
    "_MACHINE_ID",
    "_SOURCE_MONOTONIC_TIMESTAMP",
    "_HOSTNAME",
];

/// Longest value kept in bytes.
pub const VALUE_BYTES_MAX: usize = 2_048;

/// A boot id, or nothing where it is none: an entry without a boot is skipped.
fn boot_id(text: &str) -> String {
    let is_id = text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id {
        text.to_owned()
    } else {
        String::new()
    }
}

/// One entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Id of the sequence `seqnum` counts in; empty where unknown.
    pub sequence: String,
    /// Number within the sequence: the order of entries, whatever the clock did.
    pub seqnum: Option<u64>,
    /// Boot id, 32 hexadecimal digits.
    pub boot_id: String,
    /// Microseconds since 1970 by a clock that may be wrong.
    pub realtime_us: Option<u64>,
    /// Microseconds since boot.
    pub monotonic_us: Option<u64>,
    /// Kept fields.
    pub fields: BTreeMap<&'static str, String>,
}

impl Entry {
    /// A field's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    /// Takes one field of the wire form; address fields (`__CURSOR`, ...) fill the entry itself.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        let value = &value[..value.len().min(VALUE_BYTES_MAX)];
        let text = String::from_utf8_lossy(value);
        match name {
            "__CURSOR" => self.cursor(&text),
            "__REALTIME_TIMESTAMP" => self.realtime_us = text.parse().ok(),
            "__MONOTONIC_TIMESTAMP" => self.monotonic_us = text.parse().ok(),
            "__SEQNUM" => self.seqnum = text.parse().ok(),
            "__SEQNUM_ID" => self.sequence = text.chars().take(32).collect(),
            _ => {
                if let Some(known) = FIELDS.iter().find(|known| **known == name) {
                    if *known == "_BOOT_ID" {
                        self.boot_id = boot_id(&text);
                    }
                    self.fields
                        .entry(known)
                        .or_insert_with(|| text.into_owned());
                }
            }
        }
    }

    /// `s=<sequence>;i=<seqnum>;b=<boot>;m=...;t=...;x=...`, numbers hexadecimal.
    fn cursor(&mut self, cursor: &str) {
        for part in cursor.split(';') {
            match part.split_once('=') {
                Some(("s", id)) => self.sequence = id.chars().take(32).collect(),
                Some(("i", number)) => self.seqnum = u64::from_str_radix(number, 16).ok(),
                Some(("b", id)) if self.boot_id.is_empty() => {
                    self.boot_id = boot_id(id);
                }
                _ => {}
            }
        }
    }

    /// Whether nothing was set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_named_by_hexadecimal_digits_or_not_at_all() {
        for (given, kept) in [
            (
                "00112233445566778899aabbccddeeff",
                "00112233445566778899aabbccddeeff",
            ),
            ("00112233445566778899aabbcc\u{fffd}\u{7f}", ""),
            ("00112233-4455", ""),
            ("00112233445566778899aabbccddeeff0", ""),
        ] {
            let mut entry = Entry::default();
            entry.set("_BOOT_ID", given.as_bytes());
            assert_eq!(entry.boot_id, kept);
            let mut entry = Entry::default();
            entry.set("__CURSOR", format!("s=a;i=1;b={given}").as_bytes());
            assert_eq!(entry.boot_id, kept);
        }
    }
}
