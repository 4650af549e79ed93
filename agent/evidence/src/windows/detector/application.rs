//! Programs that crash: Application Error 1000.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::finding::Finding;
use crate::windows::event::{EventRecord, EventTime, clip};

/// Distinct crashes followed at once.
const CRASHES_MAX: usize = 1024;

/// Crashes of programs, by program, faulting module and exception code.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Applications {
    crashes: BTreeMap<String, Crash>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Crash {
    program: String,
    module: String,
    code: String,
    version: Option<String>,
    offset: Option<String>,
    path: Option<String>,
    count: u64,
    last_record: u64,
    last_time: Option<EventTime>,
    dirty: bool,
}

impl Applications {
    /// Takes an Application Error 1000: program, version, stamp, module, version, stamp, code,
    /// offset, pid, start, path.
    pub(super) fn crashed(&mut self, event: &EventRecord) {
        let value = |position: usize| event.at(position).filter(|value| !value.is_empty());
        let Some(program) = value(0).map(|name| clip(name, 256).to_ascii_lowercase()) else {
            return;
        };
        let owned = |position: usize| value(position).map(|text| clip(text, 512).to_owned());
        let lower = |position: usize| owned(position).unwrap_or_default().to_ascii_lowercase();
        let (module, code) = (lower(3), lower(6));
        let key = format!("{program}/{module}/{code}");
        if self.crashes.len() == CRASHES_MAX && !self.crashes.contains_key(&key) {
            return;
        }
        let crash = self.crashes.entry(key).or_insert_with(|| Crash {
            program,
            module,
            code,
            version: owned(1),
            offset: owned(7),
            path: owned(10),
            count: 0,
            last_record: 0,
            last_time: None,
            dirty: false,
        });
        crash.count += 1;
        crash.last_record = event.record_id;
        crash.last_time = event.time;
        crash.dirty = true;
    }

    /// What changed since the last call.
    pub(super) fn drain(&mut self, machine_key: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (key, crash) in &mut self.crashes {
            if std::mem::take(&mut crash.dirty) {
                findings.push(crash.finding(&format!("{machine_key}/application/{key}")));
            }
        }
        findings
    }
}

impl Crash {
    fn finding(&self, key: &str) -> Finding {
        let Self {
            program,
            module,
            code,
            ..
        } = self;
        let title = format!("{program} crashed in {module} with 0x{code}");
        Finding::new("application-crash", key, &title)
            .with("program", program.as_str())
            .with("faulting_module", module.as_str())
            .with("exception", format!("0x{code}"))
            .with_some("version", self.version.as_deref())
            .with_some("offset", self.offset.as_deref())
            .with_some("path", self.path.as_deref())
            .with("count", self.count)
            .with("record", self.last_record)
            .with_some("time", self.last_time.map(|time| time.to_string()))
    }
}
