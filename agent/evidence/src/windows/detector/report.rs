//! What single events say, typed. Nothing localised is read: numbers, flags, paths and binary
//! attachments only.

use serde::{Deserialize, Serialize};

use crate::windows::bugcheck::Bugcheck;
use crate::windows::event::{EventRecord, number};

/// Kernel-Power 41: this boot follows a stop that was no shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KernelPower {
    /// Where the code is not zero. Zero means power loss, a hang, or a stop that left no trace.
    pub bugcheck: Option<Bugcheck>,
    /// The power button was held until the machine went off.
    pub power_button: bool,
    /// The stop fell into a change of sleep state.
    pub sleep_in_progress: bool,
}

impl KernelPower {
    /// Templates 2 to 10 name their data; all keep the first seven in place.
    pub(super) fn of(event: &EventRecord) -> Self {
        let value = |name: &str, position: usize| {
            let named = event.named(name);
            named.or_else(|| {
                event
                    .at(position)
                    .filter(|_| event.data[position].name.is_empty())
            })
        };
        let code = value("BugcheckCode", 0).and_then(number);
        let code = code
            .and_then(|code| u32::try_from(code).ok())
            .filter(|code| *code != 0);
        let mut params = [0; 4];
        for (position, (slot, name)) in params.iter_mut().zip(PARAMETERS).enumerate() {
            *slot = value(name, position + 1)
                .and_then(number)
                .unwrap_or_default();
        }
        let sleep = value("SleepInProgress", 5).unwrap_or_default();
        let button = value("PowerButtonTimestamp", 6).and_then(number);
        let long_press = event.flag("LongPowerButtonPressDetected");
        Self {
            bugcheck: code.map(|code| Bugcheck {
                code,
                params: Some(params),
            }),
            power_button: button.is_some_and(|at| at != 0) || long_press == Some(true),
            sleep_in_progress: sleep == "true" || number(sleep).is_some_and(|state| state != 0),
        }
    }
}

const PARAMETERS: [&str; 4] = [
    "BugcheckParameter1",
    "BugcheckParameter2",
    "BugcheckParameter3",
    "BugcheckParameter4",
];

/// A bugcheck told after the fact, with what identifies its dump.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reported {
    pub bugcheck: Bugcheck,
    /// The dump's path on the machine.
    pub dump_path: Option<String>,
    /// The minidump's name without folder and extension, lower case.
    pub minidump: Option<String>,
    /// The report's GUID, where it is not zero.
    pub guid: Option<String>,
}

impl Reported {
    /// WER-SystemErrorReporting 1001 and 1005: `0x00000116 (p1, p2, p3, p4)`, path, report id.
    pub(super) fn of_system_error(event: &EventRecord) -> Option<Self> {
        let mut numbers = event.at(0)?.split([' ', ',', '(', ')']).filter_map(hex);
        let code = u32::try_from(numbers.next()?).ok()?;
        let params: Vec<u64> = numbers.take(4).collect();
        let path = event.at(1).filter(|path| !path.is_empty());
        let id = event.at(2).filter(|id| !id.is_empty());
        Some(Self {
            bugcheck: Bugcheck {
                code,
                params: params.try_into().ok(),
            },
            dump_path: path.map(str::to_owned),
            minidump: path
                .and_then(minidump_name)
                .or_else(|| id.filter(|id| !is_guid(id)).map(str::to_ascii_lowercase)),
            guid: id.and_then(guid),
        })
    }

    /// Windows Error Reporting 1001 of the kind `BlueScreen`: the code and its parameters follow
    /// the kind's name at a distance of three, in hexadecimal without `0x`.
    pub(super) fn of_blue_screen(event: &EventRecord) -> Option<Self> {
        let values = || event.data.iter().map(|datum| datum.value.as_str());
        // The kind is the second or third datum; further on stand values a crash can choose.
        let kind = values().take(4).position(|value| value == "BlueScreen")?;
        let hex = |position: usize| u64::from_str_radix(event.at(kind + position)?, 16).ok();
        let code = u32::try_from(hex(3)?).ok()?;
        let params: Vec<u64> = (4..8).map_while(hex).collect();
        let lines = values().flat_map(|value| value.split(['\r', '\n']));
        let mut paths = lines.flat_map(|line| line.split(" \\\\?\\"));
        let dump_path = paths.find(|path| minidump_name(path).is_some());
        let dump_path = dump_path.map(|path| path.trim().trim_start_matches("\\\\?\\"));
        Some(Self {
            bugcheck: Bugcheck {
                code,
                params: params.try_into().ok(),
            },
            dump_path: dump_path.map(str::to_owned),
            minidump: dump_path.and_then(minidump_name),
            guid: values().skip(kind + 9).find_map(guid),
        })
    }
}

fn hex(text: &str) -> Option<u64> {
    text.starts_with("0x").then(|| number(text)).flatten()
}

fn is_guid(text: &str) -> bool {
    let shape = [8, 4, 4, 4, 12];
    let mut parts = text.trim_matches(['{', '}']).split('-');
    let fits = |len: usize| {
        let part = parts.next();
        part.is_some_and(|part| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    shape.into_iter().all(fits) && parts.next().is_none()
}

fn guid(text: &str) -> Option<String> {
    let lower = text.trim_matches(['{', '}']).to_ascii_lowercase();
    let zero = lower.bytes().all(|byte| matches!(byte, b'0' | b'-'));
    (is_guid(text) && !zero).then_some(lower)
}

/// The name of a minidump: the file's stem, unless it is the one `MEMORY.DMP` that every
/// complete dump overwrites.
pub(super) fn minidump_name(path: &str) -> Option<String> {
    let name = path.trim().rsplit(['\\', '/']).next()?.to_ascii_lowercase();
    let stem = name.strip_suffix(".dmp")?;
    (!stem.is_empty() && stem != "memory").then(|| stem.to_owned())
}

/// When the stopped machine was last alive, by EventLog 6008's attachment: two SYSTEMTIMEs, the
/// second of them UTC. The event's text is localised and holds direction marks.
pub(super) fn last_alive(event: &EventRecord) -> Option<String> {
    let utc = event.binary.get(16..32)?;
    let word = |index: usize| u16::from_le_bytes([utc[2 * index], utc[2 * index + 1]]);
    let (year, month, day) = (word(0), word(1), word(3));
    let (hour, minute, second, ms) = (word(4), word(5), word(6), word(7));
    let valid = (1601..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60
        && ms < 1000;
    let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z");
    valid.then_some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::windows::event::Datum;

    fn event(values: &[&str]) -> EventRecord {
        let data = values.iter().map(|value| Datum {
            name: String::new(),
            value: (*value).into(),
        });
        EventRecord {
            data: data.collect(),
            ..EventRecord::default()
        }
    }

    #[test]
    fn positional_kernel_power_reads_as_the_named_one() {
        let power = KernelPower::of(&event(&["26", "0x1", "0x2", "0x3", "0x4", "true", "7"]));
        let bugcheck = power.bugcheck.unwrap();
        assert_eq!((bugcheck.code, bugcheck.params), (26, Some([1, 2, 3, 4])));
        assert!(power.power_button && power.sleep_in_progress);
        let empty = KernelPower::of(&event(&[]));
        assert_eq!(empty.bugcheck, None);
        assert!(!empty.power_button);
    }

    #[test]
    fn a_system_error_report_needs_its_code_and_nothing_else() {
        let reported = Reported::of_system_error(&event(&["0x00000116 (0x1, 0x2, 0x3, 0x4)"]));
        let bugcheck = reported.unwrap().bugcheck;
        assert_eq!(
            (bugcheck.code, bugcheck.params),
            (0x116, Some([1, 2, 3, 4]))
        );
        let short = Reported::of_system_error(&event(&["0x1a (0x1"])).unwrap();
        assert_eq!(short.bugcheck.params, None);
        assert_eq!(Reported::of_system_error(&event(&["Abbildfehler"])), None);
        assert_eq!(Reported::of_system_error(&event(&[])), None);
    }

    #[test]
    fn the_report_id_is_a_guid_or_the_minidumps_name() {
        let id = |id: &str| {
            let event = event(&["0x1a (0x1)", r"C:\Windows\MEMORY.DMP", id]);
            let reported = Reported::of_system_error(&event).unwrap();
            (reported.minidump, reported.guid)
        };
        assert_eq!(
            id("040612-50390-01"),
            (Some("040612-50390-01".into()), None)
        );
        assert_eq!(id("00000000-0000-0000-0000-000000000000"), (None, None));
        let guid = "1047F970-8cba-4a62-b729-4d00567e5e4c";
        assert_eq!(id(guid), (None, Some(guid.to_ascii_lowercase())));
    }

    #[test]
    fn an_error_report_of_another_kind_is_no_bugcheck() {
        let kinds = ["LiveKernelEvent", "APPCRASH", ""];
        for kind in kinds {
            let event = event(&["0", kind, "Not available", "0", "117", "1", "2", "3", "4"]);
            assert_eq!(Reported::of_blue_screen(&event), None);
        }
    }

    #[test]
    fn an_impossible_last_sign_of_life_is_none() {
        let mut event = event(&[]);
        assert_eq!(last_alive(&event), None);
        event.binary = vec![0xff; 64];
        assert_eq!(last_alive(&event), None);
    }
}
