//! Counts and checks every row of an open database, for the doctor.

use std::collections::BTreeMap;

use super::rows::{
    AUDIT, CHANGE, LEASE, META, OVERFLOW, Payload, REQUEST, SIGNAL, VALUE, damaged, head_len,
    key_from, number, table_end,
};
use super::view::{Look, Row, next_row};
use super::{Sled, audit_of, shown_counters};
use crate::StoreError;
use crate::prepared::leaf_hash;

/// Problems reported at most; the rest is counted.
const REPORTED: usize = 100;

/// Rows checked in one step.
const PAGE: usize = 4096;

/// What the rows are.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// Number of rows by what they are; values by their kind.
    pub counts: BTreeMap<String, u64>,
    /// What does not check out.
    pub problems: Vec<String>,
    /// Problems beyond those named.
    pub further: u64,
    next_audit: u64,
    overflow_named: u64,
}

impl Rows {
    fn problem(&mut self, problem: String) {
        if self.problems.len() < REPORTED {
            self.problems.push(problem);
        } else {
            self.further += 1;
        }
    }

    fn add(&mut self, row: Result<Checked, StoreError>) {
        let checked = match row {
            Ok(checked) => checked,
            Err(why) => return self.problem(why.to_string()),
        };
        *self.counts.entry(checked.what).or_default() += 1;
        self.overflow_named += checked.overflow;
        if let Some(index) = checked.audit_index {
            if index != self.next_audit {
                let first = self.next_audit;
                self.problem(format!(
                    "audit entries {first} to before {index} are missing"
                ));
            }
            self.next_audit = index + 1;
        }
    }
}

/// Reads every row of the store.
pub(crate) fn rows(store: &Sled) -> Result<Rows, StoreError> {
    let mut found = Rows::default();
    for table in [VALUE, SIGNAL, AUDIT, CHANGE, REQUEST, LEASE, META, OVERFLOW] {
        let (mut start, end) = (vec![table], table_end(table));
        loop {
            let page = store.view.scan(start, &end, PAGE, |look, row| {
                Ok((row.0.to_vec(), check_row(look, table, row)))
            })?;
            let last = page.last().map(|(row, _)| row.clone());
            for (_, checked) in page {
                found.add(checked);
            }
            match last {
                Some(last) => start = next_row(last),
                None => break,
            }
        }
    }
    let (there, counted) = (count(&found, SIGNAL), shown_counters(&store.view)?.signals);
    if counted != there {
        found.problem(format!("{counted} signals are counted, {there} are there"));
    }
    let there = count(&found, OVERFLOW);
    if found.overflow_named != there {
        found.problem(format!(
            "long values name {} further rows, {there} are there",
            found.overflow_named
        ));
    }
    Ok(found)
}

fn count(rows: &Rows, table: u8) -> u64 {
    rows.counts.get(name(table)).copied().unwrap_or(0)
}

struct Checked {
    what: String,
    overflow: u64,
    audit_index: Option<u64>,
}

fn check_row(look: &Look<'_>, table: u8, row: &Row) -> Result<Checked, StoreError> {
    let (key, stored) = row;
    let mut checked = Checked {
        what: name(table).to_owned(),
        overflow: 0,
        audit_index: None,
    };
    if let Some(head) = head_len(table) {
        let payload = stored.get(head..);
        let payload = payload.ok_or_else(|| damaged("a value", "it is too short"))?;
        checked.overflow = Payload::read(payload)?.overflow().len() as u64;
        look.bytes(payload)?;
    }
    match table {
        VALUE => checked.what = format!("value {}", key_from(&key[1..])?.kind),
        AUDIT => {
            let audit = audit_of(look, row)?;
            checked.audit_index = Some(audit.index);
            if leaf_hash(&audit.entry) != audit.leaf_hash {
                let what = format!("audit entry {}", audit.index);
                return Err(damaged(&what, "it does not fit its leaf hash"));
            }
        }
        CHANGE => {
            number(key, 9, "a change")?;
            key_from(stored)?;
        }
        _ => {}
    }
    Ok(checked)
}

fn name(table: u8) -> &'static str {
    match table {
        VALUE => "value",
        SIGNAL => "signal",
        AUDIT => "audit entry",
        CHANGE => "change",
        REQUEST => "request id",
        LEASE => "lease",
        META => "meta",
        _ => "part of a long value",
    }
}
