//! The triage block of a minidump.

use super::{Layout, View};

/// Drivers read; Windows loads 150 to 250.
const DRIVERS_MAX: u32 = 2048;
/// Unloaded drivers read; Windows remembers 50.
const UNLOADED_MAX: u32 = 64;
/// Longest name in UTF-16 units; Windows' longest path.
const NAME_UNITS_MAX: u32 = 260;
/// Longest stack scanned, in bytes; kernel stacks have up to 96 KiB.
const STACK_LEN_MAX: u64 = 128 << 10;

/// A driver that was loaded when the machine stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Its path as loaded; `None` where the dump is cut before the name.
    pub path: Option<String>,
    /// Its first address.
    pub base: u64,
    /// Its size in memory, in bytes.
    pub size: u32,
    /// The checksum of its PE header.
    pub checksum: u32,
    /// The stamp of its PE header: seconds since 1970, or a hash of the build.
    pub timestamp: u32,
}

impl Driver {
    /// The file's name without its folder.
    pub fn file(&self) -> Option<&str> {
        self.path.as_deref()?.rsplit(['\\', '/']).next()
    }

    /// Whether an address lies in it.
    pub fn contains(&self, address: u64) -> bool {
        let distance = address.checked_sub(self.base);
        distance.is_some_and(|distance| distance < u64::from(self.size))
    }
}

/// A driver that had been unloaded before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unloaded {
    /// Its name, at most 12 characters of it.
    pub name: String,
    /// Its first address.
    pub start: u64,
    /// The address after its last.
    pub end: u64,
}

/// What a triage dump keeps beside its header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Triage {
    /// The loaded drivers that could be read, by address.
    pub drivers: Vec<Driver>,
    /// How many the dump says there are.
    pub driver_count: u32,
    /// Whether every driver and its name could be read.
    pub is_complete: bool,
    /// The drivers unloaded before.
    pub unloaded: Vec<Unloaded>,
    /// The words of the stack, innermost first.
    pub stack: Vec<u64>,
}

/// Offsets within the block, the same in both widths.
const VALID_OFFSET: u64 = 0x08;
const UNLOADED_OFFSET: u64 = 0x18;
const STACK_OFFSET: u64 = 0x28;
const STACK_LEN: u64 = 0x2c;
const DRIVERS_OFFSET: u64 = 0x30;
const DRIVER_COUNT: u64 = 0x34;
/// What stands at the end of a block that was written whole.
const VALID: u32 = u32::from_le_bytes(*b"TRGD");

/// Offsets within the entries, by width.
struct Entries {
    driver_stride: u64,
    base: u64,
    size: u64,
    checksum: u64,
    timestamp: u64,
    unloaded_first: u64,
    unloaded_stride: u64,
    unloaded_name: u64,
    unloaded_start: u64,
    unloaded_end: u64,
}

const ENTRIES_64: Entries = Entries {
    driver_stride: 0x90,
    base: 0x38,
    size: 0x48,
    checksum: 0x80,
    timestamp: 0x88,
    unloaded_first: 8,
    unloaded_stride: 0x38,
    unloaded_name: 0x10,
    unloaded_start: 0x28,
    unloaded_end: 0x30,
};

const ENTRIES_32: Entries = Entries {
    driver_stride: 0x4c,
    base: 0x1c,
    size: 0x24,
    checksum: 0x44,
    timestamp: 0x48,
    unloaded_first: 4,
    unloaded_stride: 0x28,
    unloaded_name: 0x08,
    unloaded_start: 0x20,
    unloaded_end: 0x24,
};
/// An unloaded driver's name in bytes.
const UNLOADED_NAME_LEN: u64 = 24;

type Gaps = Vec<(&'static str, u64)>;

impl Triage {
    pub(super) fn read(view: View<'_>, layout: &Layout, gaps: &mut Gaps) -> Self {
        let entries = match layout.is_64_bit {
            true => &ENTRIES_64,
            false => &ENTRIES_32,
        };
        let word = |offset: u64| view.u32(layout.header_len + offset);
        let mark_at = word(VALID_OFFSET).map(u64::from);
        if mark_at.and_then(|at| view.u32(at)) != Some(VALID) {
            let gap = "reading a triage dump: its end mark (TRGD) is missing; it is cut or damaged";
            gaps.push((gap, mark_at.unwrap_or(view.0.len() as u64)));
        }
        let mut triage = Self {
            driver_count: word(DRIVER_COUNT).unwrap_or_default(),
            ..Self::default()
        };
        let list = word(DRIVERS_OFFSET).map_or(u64::MAX, u64::from);
        triage.read_drivers(view, entries, layout.is_64_bit, list);
        if !triage.is_complete {
            let gap = "reading a triage dump: its driver list is cut or damaged";
            gaps.push((gap, list.min(view.0.len() as u64)));
        }
        if let Some(at) = word(UNLOADED_OFFSET).filter(|at| *at != 0) {
            triage.read_unloaded(view, entries, layout.is_64_bit, u64::from(at));
        }
        if let Some((at, len)) = word(STACK_OFFSET).zip(word(STACK_LEN)) {
            triage.read_stack(view, layout.is_64_bit, u64::from(at), u64::from(len));
        }
        triage
    }

    fn read_drivers(&mut self, view: View<'_>, entries: &Entries, is_64_bit: bool, list: u64) {
        let count = self.driver_count.min(DRIVERS_MAX);
        self.is_complete = count > 0 && count == self.driver_count;
        for index in 0..u64::from(count) {
            let at = list.saturating_add(index * entries.driver_stride);
            let Some(entry) = view.slice(at, entries.driver_stride).map(View) else {
                self.is_complete = false;
                break;
            };
            let word = |offset| entry.u32(offset).unwrap_or_default();
            let path = name_at(view, u64::from(word(0)));
            self.is_complete &= path.is_some();
            self.drivers.push(Driver {
                path,
                base: entry.address(is_64_bit, entries.base).unwrap_or_default(),
                size: word(entries.size),
                checksum: word(entries.checksum),
                timestamp: word(entries.timestamp),
            });
        }
        self.drivers.sort_by_key(|driver| driver.base);
    }

    fn read_unloaded(&mut self, view: View<'_>, entries: &Entries, is_64_bit: bool, list: u64) {
        let count = view.u32(list).unwrap_or_default().min(UNLOADED_MAX);
        for index in 0..u64::from(count) {
            let at = list + entries.unloaded_first + index * entries.unloaded_stride;
            let Some(entry) = view.slice(at, entries.unloaded_stride).map(View) else {
                break;
            };
            let name = entry.slice(entries.unloaded_name, UNLOADED_NAME_LEN);
            let address = |offset| entry.address(is_64_bit, offset).unwrap_or_default();
            self.unloaded.push(Unloaded {
                name: text(name.unwrap_or_default()),
                start: address(entries.unloaded_start),
                end: address(entries.unloaded_end),
            });
        }
    }

    fn read_stack(&mut self, view: View<'_>, is_64_bit: bool, at: u64, len: u64) {
        let there = (view.0.len() as u64).saturating_sub(at);
        let len = len.min(STACK_LEN_MAX).min(there);
        let stack = View(view.slice(at, len).unwrap_or_default());
        let stride = if is_64_bit { 8 } else { 4 };
        let words = (0..len / stride).map_while(|index| stack.address(is_64_bit, index * stride));
        self.stack = words.collect();
    }

    /// The driver an address lies in.
    pub(super) fn driver_at(&self, address: u64) -> Option<&Driver> {
        let after = self
            .drivers
            .partition_point(|driver| driver.base <= address);
        let driver = &self.drivers[after.checked_sub(1)?];
        driver.contains(address).then_some(driver)
    }

    /// The unloaded driver an address lay in.
    pub(super) fn unloaded_at(&self, address: u64) -> Option<&Unloaded> {
        let mut unloaded = self.unloaded.iter();
        unloaded
            .find(|driver| !driver.name.is_empty() && (driver.start..driver.end).contains(&address))
    }
}

/// A counted UTF-16 string.
fn name_at(view: View<'_>, at: u64) -> Option<String> {
    let units = view
        .u32(at)
        .filter(|units| (1..=NAME_UNITS_MAX).contains(units))?;
    let name = text(view.slice(at.checked_add(4)?, u64::from(units) * 2)?);
    (at != 0 && !name.is_empty()).then_some(name)
}

/// UTF-16LE text up to its first NUL.
fn text(bytes: &[u8]) -> String {
    let units = bytes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|unit| u16::from_le_bytes(*unit));
    let units = units.take_while(|unit| *unit != 0);
    let text = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
    crate::text::evidence(&text.collect::<String>())
}
