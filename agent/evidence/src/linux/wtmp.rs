//! Login records (`wtmp`, `utmp`) of every size: 384 bytes on most machines, 400 with 64-bit times
//! (aarch64, s390x, riscv64), either byte order. One bad record costs only itself.
//!
//! Order is the file's order; the times in it come from a clock that may have been wrong.

use crate::finding::{Finding, Item};
use crate::text;

/// Most bytes read; a machine that logs a million logins has written this much.
pub const BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most bad records named one by one.
const BAD_MAX: usize = 20;
/// Most boots reported, newest kept.
const BOOTS_MAX: usize = 512;
/// Records looked at to tell the layout.
const PROBED_MAX: usize = 256;
/// 1990-01-01 and 2200-01-01: a time outside is no time.
const PLAUSIBLE_S: std::ops::Range<i64> = 631_152_000..7_258_118_400;

/// How the records lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Record size in bytes: 384 or 400.
    pub record_bytes: usize,
    /// Byte order of the machine that wrote it.
    pub big_endian: bool,
}

/// All layouts, the most common first.
pub const LAYOUTS: [Layout; 4] = [
    Layout {
        record_bytes: 384,
        big_endian: false,
    },
    Layout {
        record_bytes: 400,
        big_endian: false,
    },
    Layout {
        record_bytes: 384,
        big_endian: true,
    },
    Layout {
        record_bytes: 400,
        big_endian: true,
    },
];

/// One readable record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Offset in the file.
    pub offset: u64,
    /// `ut_type`, 0 to 9.
    pub kind: u16,
    /// Process id.
    pub pid: u32,
    /// Terminal.
    pub line: String,
    /// User, or `reboot`, `shutdown`, `runlevel`.
    pub user: String,
    /// Remote host, or the kernel release of a boot.
    pub host: String,
    /// Seconds since 1970.
    pub time_s: i64,
}

const RUN_LEVEL: u16 = 1;
const BOOT_TIME: u16 = 2;
const NEW_TIME: u16 = 3;
const OLD_TIME: u16 = 4;

impl Record {
    /// Whether this record marks a boot.
    #[must_use]
    pub fn is_boot(&self) -> bool {
        self.kind == BOOT_TIME
    }

    /// Whether this record marks a shutdown.
    #[must_use]
    pub fn is_shutdown(&self) -> bool {
        self.kind == RUN_LEVEL && self.user == "shutdown"
    }
}

fn number(bytes: &[u8], big_endian: bool) -> i64 {
    let mut wide = [0_u8; 8];
    if big_endian {
        wide[8 - bytes.len()..].copy_from_slice(bytes);
        i64::from_be_bytes(wide)
    } else {
        wide[..bytes.len()].copy_from_slice(bytes);
        i64::from_le_bytes(wide)
    }
}

/// Reads one record; `None` where it is none.
fn record(bytes: &[u8], layout: Layout, offset: u64) -> Option<Record> {
    let be = layout.big_endian;
    let kind = u16::try_from(number(&bytes[0..2], be)).ok()?;
    let time_s = if layout.record_bytes == 400 {
        number(&bytes[344..352], be)
    } else {
        number(&bytes[340..344], be)
    };
    let timed = PLAUSIBLE_S.contains(&time_s) || (time_s == 0 && kind == 0);
    let named = [&bytes[8..40], &bytes[44..76], &bytes[76..332]]
        .iter()
        .all(|field| is_text(field));
    if kind > 9 || !timed || !named {
        return None;
    }
    Some(Record {
        offset,
        kind,
        pid: u32::try_from(number(&bytes[4..8], be)).unwrap_or(0),
        line: text::from_padded(&bytes[8..40], 32),
        user: text::from_padded(&bytes[44..76], 32),
        host: text::from_padded(&bytes[76..332], 256),
        time_s,
    })
}

/// Up to its first NUL a field holds no control characters; what stands behind is garbage by tradition.
fn is_text(field: &[u8]) -> bool {
    field
        .iter()
        .take_while(|&&b| b != 0)
        .all(|&b| b >= 0x20 && b != 0x7f)
}

/// The layout that explains most records; `None` where no record is readable in any.
#[must_use]
pub fn layout(bytes: &[u8]) -> Option<Layout> {
    let readable = |layout: &Layout| {
        let chunks = bytes.chunks_exact(layout.record_bytes).take(PROBED_MAX);
        let total = chunks.len().max(1);
        let good = chunks
            .filter(|chunk| chunk.iter().any(|&b| b != 0))
            .filter(|chunk| record(chunk, *layout, 0).is_some_and(|record| record.time_s != 0))
            .count();
        // Shares, in millionths: layouts differ in the number of records.
        good * 1_000_000 / total
    };
    // Among equals the first, most common layout wins.
    let mut best: Option<(usize, Layout)> = None;
    for layout in LAYOUTS {
        let share = readable(&layout);
        if share > best.map_or(0, |(share, _)| share) {
            best = Some((share, layout));
        }
    }
    best.map(|(_, layout)| layout)
}

/// Reads all records; bad ones as [`Item::Unreadable`].
#[must_use]
pub fn records(bytes: &[u8]) -> (Vec<Record>, Vec<Item>) {
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    let Some(layout) = layout(bytes) else {
        return (
            Vec::new(),
            vec![Item::unreadable(
                "login records: no readable record of any known size",
                0,
            )],
        );
    };
    let mut good = Vec::new();
    let mut bad = Vec::new();
    let mut bad_count = 0_usize;
    for (index, chunk) in bytes.chunks(layout.record_bytes).enumerate() {
        let offset = (index * layout.record_bytes) as u64;
        if chunk.iter().all(|&b| b == 0) {
            continue;
        }
        let read = if chunk.len() == layout.record_bytes {
            record(chunk, layout, offset)
        } else {
            None
        };
        if let Some(record) = read {
            good.push(record);
            continue;
        }
        bad_count += 1;
        if bad_count <= BAD_MAX {
            let why = if chunk.len() < layout.record_bytes {
                "cut short"
            } else {
                "not a login record"
            };
            bad.push(Item::unreadable(
                &format!("login record {index}: {why}, skipped"),
                offset,
            ));
        }
    }
    if bad_count > BAD_MAX {
        bad.push(Item::unreadable(
            &format!(
                "login records: {} further bad ones skipped",
                bad_count - BAD_MAX
            ),
            0,
        ));
    }
    (good, bad)
}

/// How a boot ended, as far as the login records tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A shutdown record follows.
    Shutdown,
    /// The next boot follows without a shutdown record.
    Crash,
    /// Nothing follows: it may still run.
    Current,
}

/// One boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// The boot record.
    pub record: Record,
    /// How it ended.
    pub end: End,
    /// Seconds since 1970 of the record that ended it.
    pub ended_s: Option<i64>,
}

/// Boots in file order.
#[must_use]
pub fn boots(records: &[Record]) -> Vec<Boot> {
    let mut boots: Vec<Boot> = Vec::new();
    for record in records {
        if record.is_boot() {
            if let Some(last) = boots.last_mut().filter(|boot| boot.end == End::Current) {
                last.end = End::Crash;
                last.ended_s = Some(record.time_s);
            }
            boots.push(Boot {
                record: record.clone(),
                end: End::Current,
                ended_s: None,
            });
        } else if record.is_shutdown()
            && let Some(last) = boots.last_mut().filter(|boot| boot.end == End::Current)
        {
            last.end = End::Shutdown;
            last.ended_s = Some(record.time_s);
        }
    }
    boots
}

/// Reads a file of login records: one finding for each boot, `unclean-stop` where it crashed.
#[must_use]
pub fn read(bytes: &[u8]) -> Vec<Item> {
    let (records, mut items) = records(bytes);
    let clock_stepped = records
        .iter()
        .any(|record| matches!(record.kind, NEW_TIME | OLD_TIME));
    let boots = boots(&records);
    let skipped = boots.len().saturating_sub(BOOTS_MAX);
    for (index, boot) in boots.iter().enumerate().skip(skipped) {
        items.push(finding(boot, index, clock_stepped).into());
    }
    items
}

fn finding(boot: &Boot, index: usize, clock_stepped: bool) -> Finding {
    let (kind, end, title) = match boot.end {
        End::Crash => (
            "unclean-stop",
            "crash",
            "the machine stopped without a shutdown",
        ),
        End::Shutdown => ("boot", "shutdown", "boot, ended by a shutdown"),
        End::Current => ("boot", "current", "boot, no end on record"),
    };
    let release = (!boot.record.host.is_empty()).then_some(boot.record.host.as_str());
    Finding::new(kind, &format!("boot-at:{}", boot.record.time_s), title)
        .with("boot_time_s", boot.record.time_s)
        .with("boot_index", index)
        .with("end", end)
        .with("clock_stepped", clock_stepped)
        .with_some("next_record_s", boot.ended_s)
        .with_some("kernel", release)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn raw(layout: Layout, kind: u16, user: &str, time_s: i64) -> Vec<u8> {
        let mut bytes = vec![0_u8; layout.record_bytes];
        let be = layout.big_endian;
        bytes[0..2].copy_from_slice(&if be {
            kind.to_be_bytes()
        } else {
            kind.to_le_bytes()
        });
        bytes[44..44 + user.len()].copy_from_slice(user.as_bytes());
        if layout.record_bytes == 400 {
            bytes[344..352].copy_from_slice(&if be {
                time_s.to_be_bytes()
            } else {
                time_s.to_le_bytes()
            });
        } else {
            let short = i32::try_from(time_s).unwrap();
            bytes[340..344].copy_from_slice(&if be {
                short.to_be_bytes()
            } else {
                short.to_le_bytes()
            });
        }
        bytes
    }

    fn file(layout: Layout, records: &[(u16, &str, i64)]) -> Vec<u8> {
        records
            .iter()
            .flat_map(|(kind, user, time_s)| raw(layout, *kind, user, *time_s))
            .collect()
    }

    const STORY: [(u16, &str, i64); 4] = [
        (2, "reboot", 1_700_000_000),
        (1, "shutdown", 1_700_000_100),
        (2, "reboot", 1_700_000_200),
        (2, "reboot", 1_700_000_300),
    ];

    #[test]
    fn a_boot_without_a_shutdown_before_the_next_is_a_crash_in_every_layout() {
        for layout in LAYOUTS {
            let bytes = file(layout, &STORY);
            assert_eq!(super::layout(&bytes), Some(layout));
            let ends: Vec<End> = boots(&records(&bytes).0)
                .iter()
                .map(|boot| boot.end)
                .collect();
            assert_eq!(
                ends,
                [End::Shutdown, End::Crash, End::Current],
                "{layout:?}"
            );
        }
    }

    #[test]
    fn a_bad_record_costs_only_itself() {
        let mut bytes = file(LAYOUTS[0], &STORY);
        bytes[384..768].fill(0xff);
        bytes.truncate(bytes.len() - 1);
        let (good, bad) = records(&bytes);
        assert_eq!((good.len(), bad.len()), (2, 2));
    }

    #[test]
    fn order_is_the_files_even_when_the_clock_ran_back() {
        let bytes = file(
            LAYOUTS[0],
            &[(2, "reboot", 1_700_000_500), (2, "reboot", 1_700_000_000)],
        );
        assert_eq!(boots(&records(&bytes).0)[0].end, End::Crash);
    }
}
