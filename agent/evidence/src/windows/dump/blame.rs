//! Whose fault a stop was, as far as a dump can say.
//!
//! The parameter that holds the faulting code's address comes first, then the saved context's
//! program counter, then the first return address on the stack that lies in a driver. The kernel,
//! the HAL and what runs because of the stop are nobody's driver. Where the code itself says that
//! its victim need not be its cause, and where the driver list is cut so that another may have
//! been meant, nobody is blamed.

use serde_json::{Value, json};

use super::triage::{Driver, Triage};
use super::{Dump, DumpType};
use crate::windows::bugcheck::Culprit;

/// What pointed at the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The bugcheck's parameter of this number, from 1.
    Parameter(u8),
    /// The saved context's program counter.
    Context,
    /// The stack; a stale word there can mislead.
    Stack,
    /// An address in a driver that was no longer loaded.
    Unloaded,
}

/// The module a stop is laid to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blame {
    /// Its file name.
    pub module: String,
    /// Where in it, in bytes from its start.
    pub offset: u64,
    /// What pointed there.
    pub by: By,
    /// The driver, where it was loaded.
    pub driver: Option<Driver>,
}

impl Blame {
    pub(super) fn evidence(&self) -> Value {
        let by = match self.by {
            By::Parameter(number) => format!("parameter {number}"),
            By::Context => "context".into(),
            By::Stack => "stack".into(),
            By::Unloaded => "unloaded driver".into(),
        };
        let driver = self.driver.as_ref().map(|driver| {
            json!({
                "path": driver.path,
                "base": format!("{:#x}", driver.base),
                "size": format!("{:#x}", driver.size),
                "timestamp": format!("{:#x}", driver.timestamp),
                "checksum": format!("{:#x}", driver.checksum),
            })
        });
        json!({
            "module": self.module,
            "offset": format!("{:#x}", self.offset),
            "by": by,
            "driver": driver,
        })
    }
}

/// What an address says.
enum Pointed {
    At(Blame),
    /// The kernel's own code, or no code at all: ask on.
    On,
    /// Somebody whose name is beyond the dump's cut.
    Hidden,
}

const CUT: &str = "the dump is cut before the drivers' names";

impl Dump {
    /// Whom the dump blames.
    ///
    /// # Errors
    /// Why it is nobody.
    pub fn blame(&self) -> Result<Blame, &'static str> {
        let parameter = match self.bugcheck().culprit() {
            Culprit::Nobody(why) => return Err(why),
            Culprit::Parameter(number) => {
                Some((By::Parameter(number), self.params[usize::from(number) - 1]))
            }
            Culprit::Trace => None,
        };
        let Some(triage) = &self.triage else {
            return Err(match self.dump_type {
                DumpType::Triage => CUT,
                _ => "only the header of this type of dump is read, and it names no drivers",
            });
        };
        let context = self.context_pc.map(|pc| (By::Context, pc));
        for (by, address) in parameter.into_iter().chain(context) {
            match triage.pointed(by, address) {
                Pointed::At(blame) => return Ok(blame),
                Pointed::Hidden => return Err(CUT),
                Pointed::On => {}
            }
        }
        if !triage.is_complete {
            return Err(CUT);
        }
        let mut stack = triage.stack.iter();
        let on_stack = stack.find_map(|word| match triage.pointed(By::Stack, *word) {
            Pointed::At(blame) if blame.by == By::Stack => Some(blame),
            _ => None,
        });
        on_stack.ok_or("no driver but the kernel's own is on the stack")
    }
}

impl Triage {
    fn pointed(&self, by: By, address: u64) -> Pointed {
        if address == 0 {
            return Pointed::On;
        }
        if let Some(driver) = self.driver_at(address) {
            return match driver.file() {
                None => Pointed::Hidden,
                Some(file) if is_bystander(file) => Pointed::On,
                Some(file) => Pointed::At(Blame {
                    module: file.to_owned(),
                    offset: address - driver.base,
                    by,
                    driver: Some(driver.clone()),
                }),
            };
        }
        if let Some(unloaded) = self.unloaded_at(address) {
            return Pointed::At(Blame {
                module: unloaded.name.clone(),
                offset: address - unloaded.start,
                by: By::Unloaded,
                driver: None,
            });
        }
        if self.is_complete {
            Pointed::On
        } else {
            Pointed::Hidden
        }
    }
}

/// The kernel and the HAL in all their builds, the verifier, and the writers of dumps: they are
/// on the stack of every stop.
fn is_bystander(file: &str) -> bool {
    let file = file.to_ascii_lowercase();
    let kernel =
        (file.starts_with("ntoskrnl") || file.starts_with("ntkr")) && file.ends_with(".exe");
    let hal = file.starts_with("hal") && file.ends_with(".dll");
    let dump = file == "crashdmp.sys" || file.starts_with("dump_");
    let verifier = matches!(file.as_str(), "verifier.dll" | "verifierext.sys");
    kernel || hal || dump || verifier
}
