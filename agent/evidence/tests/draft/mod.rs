//! A writer of kernel dumps, for every test that needs one: whole, of either width.

pub mod log;

/// A dump to be written: the fields a test cares for.
#[derive(Clone)]
pub struct Draft {
    pub is_64_bit: bool,
    pub machine: u32,
    pub dump_type: u32,
    pub code: u32,
    pub params: [u64; 4],
    pub pc: u64,
    pub drivers: Vec<(&'static str, u64, u32)>,
    pub unloaded: Vec<(&'static str, u64, u64)>,
    pub stack: Vec<u64>,
}

pub const NT: u64 = 0xffff_f800_0000_0000;
pub const HAL: u64 = NT + 0x0200_0000;
pub const THEIRS: u64 = NT + 0x0300_0000;
pub const OTHER: u64 = NT + 0x0400_0000;

impl Draft {
    pub fn x64(code: u32, params: [u64; 4]) -> Self {
        Self {
            is_64_bit: true,
            machine: 0x8664,
            dump_type: 4,
            code,
            params,
            pc: NT + 0x1234,
            drivers: vec![
                (r"\SystemRoot\system32\ntoskrnl.exe", NT, 0x0100_0000),
                (r"\SystemRoot\system32\hal.dll", HAL, 0x6000),
                (r"\??\C:\Program Files\Acme\acme.sys", THEIRS, 0x9000),
                (r"\SystemRoot\System32\drivers\other.sys", OTHER, 0x9000),
            ],
            unloaded: Vec::new(),
            stack: vec![NT + 0x2000, HAL + 0x100],
        }
    }

    /// The same on 32 bits, where addresses have no upper half.
    pub fn x86(code: u32, params: [u64; 4]) -> Self {
        let low = |address: u64| (address & 0x0fff_ffff) | 0x8000_0000;
        let mut draft = Self::x64(
            code,
            params.map(|param| if param > 0xffff { low(param) } else { param }),
        );
        draft.is_64_bit = false;
        draft.machine = 0x14c;
        draft.pc = low(draft.pc);
        for driver in &mut draft.drivers {
            driver.1 = low(driver.1);
        }
        for word in &mut draft.stack {
            *word = low(*word);
        }
        draft
    }

    pub fn build(&self) -> Vec<u8> {
        let header_len = if self.is_64_bit { 0x2000 } else { 0x1000 };
        let mut out = Out {
            bytes: b"PAGE".repeat(header_len / 4),
            is_64_bit: self.is_64_bit,
        };
        out.bytes[..8].copy_from_slice(if self.is_64_bit {
            b"PAGEDU64"
        } else {
            b"PAGEDUMP"
        });
        let pick = |wide: usize, narrow: usize| if self.is_64_bit { wide } else { narrow };
        out.u32(0x0c, 19045);
        out.u32(pick(0x30, 0x20), self.machine);
        out.u32(pick(0x34, 0x24), 4);
        out.u32(pick(0x38, 0x28), self.code);
        for (index, param) in self.params.iter().enumerate() {
            out.address(pick(0x40 + 8 * index, 0x2c + 4 * index), *param);
        }
        let pc_at = match self.machine {
            0xaa64 => 0x348 + 0x108,
            0x8664 => 0x348 + 0xf8,
            _ => 0x320 + 0xb8,
        };
        out.address(pc_at, self.pc);
        out.u32(pick(0xf98, 0xf88), self.dump_type);
        out.u64(pick(0xfa8, 0xfc0), 133_652_736_000_000_000);
        out.u64(pick(0x1030, 0xfb8), 600_000_000);
        if self.dump_type == 4 {
            self.build_triage(&mut out, header_len);
        }
        out.bytes
    }

    fn build_triage(&self, out: &mut Out, block: usize) {
        let pick = |wide: usize, narrow: usize| if self.is_64_bit { wide } else { narrow };
        out.bytes.resize(block + 0x60, 0);
        let names: Vec<usize> = self
            .drivers
            .iter()
            .map(|driver| out.name(driver.0))
            .collect();
        let (list, stride) = (out.bytes.len(), pick(0x90, 0x4c));
        out.bytes.resize(list + stride * self.drivers.len(), 0);
        for (index, (_, base, size)) in self.drivers.iter().enumerate() {
            let entry = list + stride * index;
            out.u32(entry, names[index] as u32);
            out.address(entry + pick(0x38, 0x1c), *base);
            out.u32(entry + pick(0x48, 0x24), *size);
            out.u32(entry + pick(0x80, 0x44), 0xc0de);
            out.u32(entry + pick(0x88, 0x48), 0x5f00_0000);
        }
        let (unloaded, stride) = (out.bytes.len(), pick(0x38, 0x28));
        let first = unloaded + pick(8, 4);
        out.bytes.resize(first + stride * self.unloaded.len(), 0);
        out.u32(unloaded, self.unloaded.len() as u32);
        for (index, (name, start, end)) in self.unloaded.iter().enumerate() {
            let entry = first + stride * index;
            for (at, unit) in name.encode_utf16().enumerate() {
                let at = entry + pick(0x10, 0x08) + 2 * at;
                out.bytes[at..at + 2].copy_from_slice(&unit.to_le_bytes());
            }
            out.address(entry + pick(0x28, 0x20), *start);
            out.address(entry + pick(0x30, 0x24), *end);
        }
        let (stack, width) = (out.bytes.len(), pick(8, 4));
        out.bytes.resize(stack + width * self.stack.len(), 0);
        for (index, word) in self.stack.iter().enumerate() {
            out.address(stack + width * index, *word);
        }
        let end = out.bytes.len();
        out.bytes.extend(b"TRGD");
        let fields = [
            (0x04, end + 4),
            (0x08, end),
            (0x18, unloaded),
            (0x28, stack),
            (0x2c, width * self.stack.len()),
            (0x30, list),
            (0x34, self.drivers.len()),
        ];
        for (offset, value) in fields {
            out.u32(block + offset, value as u32);
        }
    }
}

struct Out {
    bytes: Vec<u8>,
    is_64_bit: bool,
}

impl Out {
    fn u32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }

    fn address(&mut self, at: usize, value: u64) {
        if self.is_64_bit {
            self.u64(at, value);
        } else {
            self.u32(at, value as u32);
        }
    }

    /// Appends a counted name and says where.
    fn name(&mut self, name: &str) -> usize {
        let at = self.bytes.len();
        let units: Vec<u16> = name.encode_utf16().collect();
        self.bytes.extend((units.len() as u32).to_le_bytes());
        self.bytes
            .extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        self.bytes.extend([0, 0]);
        at
    }
}
