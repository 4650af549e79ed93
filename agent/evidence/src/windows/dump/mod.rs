//! Kernel crash dumps: the header of every type, and of triage dumps (minidumps) the drivers,
//! the stack and whom they blame. Offsets are those of the documented structures, verified on
//! dumps of Windows 10 x64 and Windows 11 ARM64.
//!
//! Every number in a dump may be a lie; nothing is read but through [`View`], and a dump cut
//! anywhere after its parameters still tells its bugcheck.

mod blame;
mod triage;

use serde_json::{Value, json};
use thiserror::Error;

use super::bugcheck::Bugcheck;
use super::detector::{Detector, hex_params};
use super::event::EventTime;
use crate::finding::{Finding, Item};
pub use blame::{Blame, By};
pub use triage::{Driver, Triage, Unloaded};

/// Why bytes are not a kernel dump that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DumpError {
    /// A dump of a process.
    #[error("reading a dump: not a kernel dump but {0}")]
    UserMode(&'static str),
    /// Something else.
    #[error("reading a dump: not a kernel dump (neither PAGEDUMP nor PAGEDU64)")]
    Unknown,
    /// It ends before the bugcheck's parameters do.
    #[error("reading a kernel dump: it ends after {have} bytes, inside the bugcheck's parameters")]
    Cut {
        /// The bytes there are.
        have: usize,
    },
}

/// What a dump holds, by its `DumpType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DumpType {
    /// All of memory.
    Full,
    /// The kernel's memory.
    Kernel,
    /// A minidump: drivers, stack and little else.
    Triage,
    /// All of memory, with a bitmap of its pages.
    BitmapFull,
    /// The kernel's memory, with a bitmap of its pages.
    BitmapKernel,
    /// The header alone.
    Header,
    /// The kernel's memory, of a size that Windows chose.
    Automatic,
    /// Another number, or none.
    Other(Option<u32>),
}

impl DumpType {
    fn of(number: Option<u32>) -> Self {
        match number {
            Some(1) => Self::Full,
            Some(2) => Self::Kernel,
            Some(4) => Self::Triage,
            Some(5) => Self::BitmapFull,
            Some(6) => Self::BitmapKernel,
            Some(3) => Self::Header,
            Some(7) => Self::Automatic,
            other => Self::Other(other),
        }
    }

    fn label(self) -> String {
        match self {
            Self::Full => "full".into(),
            Self::Kernel => "kernel".into(),
            Self::Triage => "triage".into(),
            Self::BitmapFull => "full (bitmap)".into(),
            Self::BitmapKernel => "kernel (bitmap)".into(),
            Self::Header => "header".into(),
            Self::Automatic => "kernel (automatic)".into(),
            Self::Other(Some(number)) => format!("unknown ({number})"),
            Self::Other(None) => "unknown".into(),
        }
    }
}

/// A kernel dump, as far as it could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Dump {
    /// Whether addresses have 64 bits (`PAGEDU64`).
    pub is_64_bit: bool,
    /// What it holds.
    pub dump_type: DumpType,
    /// The build of Windows (19041).
    pub build: Option<u32>,
    /// The processor architecture as in PE headers (0x8664).
    pub machine: Option<u32>,
    /// The number of processors.
    pub cpus: Option<u32>,
    /// The code as written.
    pub code: u32,
    /// The parameters.
    pub params: [u64; 4],
    /// The instruction of the saved context.
    pub context_pc: Option<u64>,
    /// The exception record's code and address; the address is often the kernel's own stop.
    pub exception: Option<(u32, u64)>,
    /// The machine's clock when it stopped.
    pub system_time: Option<EventTime>,
    /// How long it had run, in units of 100 ns.
    pub up_time_100ns: Option<u64>,
    /// What only triage dumps have.
    pub triage: Option<Triage>,
    /// What could not be read, with its offset.
    pub gaps: Vec<(&'static str, u64)>,
}

/// Where the fields stand in the header of one width.
struct Layout {
    is_64_bit: bool,
    header_len: u64,
    machine: u64,
    cpus: u64,
    code: u64,
    params: u64,
    context: u64,
    exception_code: u64,
    exception_address: u64,
    dump_type: u64,
    system_time: u64,
    up_time: u64,
}

const LAYOUT_64: Layout = Layout {
    is_64_bit: true,
    header_len: 0x2000,
    machine: 0x30,
    cpus: 0x34,
    code: 0x38,
    params: 0x40,
    context: 0x348,
    exception_code: 0xf00,
    exception_address: 0xf10,
    dump_type: 0xf98,
    system_time: 0xfa8,
    up_time: 0x1030,
};

const LAYOUT_32: Layout = Layout {
    is_64_bit: false,
    header_len: 0x1000,
    machine: 0x20,
    cpus: 0x24,
    code: 0x28,
    params: 0x2c,
    context: 0x320,
    exception_code: 0x7d0,
    exception_address: 0x7dc,
    dump_type: 0xf88,
    system_time: 0xfc0,
    up_time: 0xfb8,
};

const BUILD: u64 = 0x0c;
/// What unused words of the header hold: `PAGE`.
const UNUSED: u32 = u32::from_le_bytes(*b"PAGE");

/// Bytes that are only read where they are.
#[derive(Clone, Copy)]
struct View<'a>(&'a [u8]);

impl<'a> View<'a> {
    fn slice(self, offset: u64, len: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        self.0.get(start..end)
    }

    fn u32(self, offset: u64) -> Option<u32> {
        Some(u32::from_le_bytes(*self.slice(offset, 4)?.first_chunk()?))
    }

    fn u64(self, offset: u64) -> Option<u64> {
        Some(u64::from_le_bytes(*self.slice(offset, 8)?.first_chunk()?))
    }

    /// An address of the dump's width.
    fn address(self, is_64_bit: bool, offset: u64) -> Option<u64> {
        if is_64_bit {
            self.u64(offset)
        } else {
            self.u32(offset).map(u64::from)
        }
    }

    /// A header word that somebody wrote.
    fn used_u32(self, offset: u64) -> Option<u32> {
        self.u32(offset).filter(|word| *word != UNUSED)
    }

    /// A header quadword that somebody wrote.
    fn used_u64(self, offset: u64) -> Option<u64> {
        let unused = u64::from(UNUSED) << 32 | u64::from(UNUSED);
        self.u64(offset).filter(|quad| *quad != unused)
    }
}

impl Dump {
    /// Reads a dump, whole or cut.
    ///
    /// # Errors
    /// When it is no kernel dump, or ends before the bugcheck's parameters do.
    pub fn read(bytes: &[u8]) -> Result<Self, DumpError> {
        let layout = match bytes.get(..8) {
            Some(b"PAGEDU64") => &LAYOUT_64,
            Some(b"PAGEDUMP") => &LAYOUT_32,
            _ => return Err(not_kernel(bytes)),
        };
        let view = View(bytes);
        let cut = DumpError::Cut { have: bytes.len() };
        let code = view.u32(layout.code).ok_or(cut)?;
        let stride = if layout.is_64_bit { 8 } else { 4 };
        let mut params = [0; 4];
        for (slot, index) in params.iter_mut().zip(0..) {
            let offset = layout.params + stride * index;
            *slot = view.address(layout.is_64_bit, offset).ok_or(cut)?;
        }
        let machine = view.used_u32(layout.machine);
        let exception_address = view.address(layout.is_64_bit, layout.exception_address);
        let mut dump = Self {
            is_64_bit: layout.is_64_bit,
            dump_type: DumpType::of(view.used_u32(layout.dump_type)),
            build: view.used_u32(BUILD),
            machine,
            cpus: view.used_u32(layout.cpus),
            code,
            params,
            context_pc: context_pc(view, layout, machine),
            exception: view.used_u32(layout.exception_code).zip(exception_address),
            system_time: view
                .used_u64(layout.system_time)
                .and_then(EventTime::from_filetime),
            up_time_100ns: view.used_u64(layout.up_time),
            triage: None,
            gaps: Vec::new(),
        };
        if view.slice(0, layout.header_len).is_none() {
            let gap = "reading a kernel dump: it ends inside its header";
            dump.gaps.push((gap, bytes.len() as u64));
        } else if dump.dump_type == DumpType::Triage {
            let triage = Triage::read(view, layout, &mut dump.gaps);
            dump.triage = Some(triage);
        }
        Ok(dump)
    }

    /// The code and its parameters.
    pub fn bugcheck(&self) -> Bugcheck {
        Bugcheck {
            code: self.code,
            params: Some(self.params),
        }
    }

    /// The dump as a finding of its own. `file` is its file name.
    pub fn finding(&self, file: &str) -> Finding {
        let bugcheck = self.bugcheck();
        let blame = self.blame();
        let params = hex_params(self.params);
        let at = self.system_time.map_or(0, |time| time.0);
        let key = format!("windows/dump/{:#x}/{}/{at:x}", self.code, params.join("-"));
        let place = blame.as_ref().ok().map(|blame| match blame.by {
            By::Unloaded => format!(" in {} (unloaded)", blame.module),
            _ => format!(" in {}+{:#x}", blame.module, blame.offset),
        });
        let title = format!("bugcheck {}{}", bugcheck.label(), place.unwrap_or_default());
        let hex = |number: u64| format!("{number:#x}");
        let mut finding = Finding::new("bugcheck", &key, &title)
            .with("file", file)
            .with("code", hex(u64::from(self.code)))
            .with_some("name", bugcheck.name())
            .with("params", params)
            .with("dump_type", self.dump_type.label())
            .with_some("build", self.build)
            .with_some("machine", self.machine.map(machine_name))
            .with_some("cpus", self.cpus)
            .with_some(
                "uptime_s",
                self.up_time_100ns.map(|ticks| ticks as f64 / 1e7),
            )
            .with_some("system_time", self.system_time.map(|time| time.to_string()))
            .with_some("context_pc", self.context_pc.map(hex));
        if let Some((code, address)) = self.exception {
            let exception = json!({"code": hex(u64::from(code)), "address": hex(address)});
            finding = finding.with("exception", exception);
        }
        finding = match blame {
            Ok(blame) => {
                finding.module = Some(crate::text::evidence(&blame.module));
                finding.with("blame", blame.evidence())
            }
            Err(why) => finding.with("blame", json!({ "nobody": why })),
        };
        if let Some(triage) = &self.triage {
            let unloaded = triage.unloaded.iter();
            let unloaded: Vec<Value> = unloaded.map(|driver| json!(driver.name)).collect();
            finding = finding
                .with("driver_count", triage.driver_count)
                .with("unloaded_drivers", unloaded);
        }
        finding
    }
}

fn not_kernel(bytes: &[u8]) -> DumpError {
    match bytes.get(..4) {
        Some(b"MDMP" | b"PMDM") => DumpError::UserMode("a user-mode minidump (MDMP)"),
        Some(b"USER") => DumpError::UserMode("a user-mode dump (USERDUMP)"),
        _ => DumpError::Unknown,
    }
}

/// The program counter in the saved context, whose form is the machine's.
fn context_pc(view: View<'_>, layout: &Layout, machine: Option<u32>) -> Option<u64> {
    let offset = match (layout.is_64_bit, machine?) {
        (true, 0x8664) => 0xf8,
        (true, 0xaa64) => 0x108,
        (false, 0x14c) => 0xb8,
        (false, 0x1c0 | 0x1c4) => 0x40,
        _ => return None,
    };
    let pc = view.address(layout.is_64_bit, layout.context + offset)?;
    let unused = u64::from(UNUSED) << 32 | u64::from(UNUSED);
    (pc != 0 && pc != unused && pc != u64::from(UNUSED)).then_some(pc)
}

fn machine_name(machine: u32) -> String {
    match machine {
        0x14c => "x86".into(),
        0x1c0 | 0x1c4 => "arm".into(),
        0x8664 => "x64".into(),
        0xaa64 => "arm64".into(),
        other => format!("{other:#x}"),
    }
}

/// Feeds a dump to a detector; returns what could not be read of it.
pub(super) fn feed(file: &str, bytes: &[u8], detector: &mut Detector) -> Vec<Item> {
    let file = file.rsplit(['\\', '/']).next().unwrap_or(file);
    match Dump::read(bytes) {
        Ok(dump) => {
            detector.push_dump(&dump, file);
            let gaps = dump.gaps.iter();
            gaps.map(|(error, offset)| Item::unreadable(error, *offset))
                .collect()
        }
        Err(error) => vec![Item::unreadable(&error.to_string(), 0)],
    }
}
