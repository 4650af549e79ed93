//! Looks at a store's folder and says what is found.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::sled::folder::{SET_ASIDE, conf_torn, set_aside_names, snapshot_sound, snapshots};
use crate::sled::inspect;
use crate::{Options, Sled, StoreError};

/// One of sled's snapshot files, as it lay there before the store was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its name.
    pub name: String,
    /// Whether it ends in its checksum and was finished.
    pub sound: bool,
}

/// What the doctor found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The folder.
    pub path: PathBuf,
    /// Size of the database file, in bytes; `None` if there is none.
    pub db_bytes: Option<u64>,
    /// Its snapshots.
    pub snapshots: Vec<SnapshotFile>,
    /// Whether sled's settings file does not check out.
    pub conf_torn: bool,
    /// Files set aside, now or earlier, oldest first.
    pub set_aside: Vec<String>,
    /// Side files of sled; this store makes none.
    pub side_files: u64,
    /// Number of rows by what they are; values by their kind.
    pub rows: BTreeMap<String, u64>,
    /// What does not check out, and why the store does not open if it does not.
    pub problems: Vec<String>,
}

impl Report {
    /// Whether nothing is wrong now. Files set aside are history, not a fault.
    pub fn healthy(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "store in {}", self.path.display())?;
        match self.db_bytes {
            Some(bytes) => writeln!(f, "  database: {bytes} bytes")?,
            None => writeln!(f, "  database: none")?,
        }
        for snapshot in &self.snapshots {
            let state = if snapshot.sound { "sound" } else { "torn" };
            writeln!(f, "  snapshot {}: {state}", snapshot.name)?;
        }
        if self.conf_torn {
            writeln!(f, "  settings: torn")?;
        }
        for name in &self.set_aside {
            writeln!(f, "  set aside: {SET_ASIDE}/{name}")?;
        }
        for (what, count) in &self.rows {
            writeln!(f, "  {what}: {count}")?;
        }
        for problem in &self.problems {
            writeln!(f, "  PROBLEM: {problem}")?;
        }
        let verdict = if self.healthy() {
            "healthy"
        } else {
            "NOT healthy"
        };
        write!(f, "  {verdict}")
    }
}

/// Looks at the files, then opens the store as the server would (setting torn snapshots aside) and
/// checks every row. Blocks; holds one table's row names in memory at a time. It never makes a store
/// where there is none.
///
/// # Errors
/// `Failed` if the folder cannot be read. A store that does not open, or is open elsewhere, is no
/// error but a problem in the report.
pub fn doctor(path: &Path) -> Result<Report, StoreError> {
    let failed = |why: std::io::Error| StoreError::Failed {
        doing: format!("looking at the store in {}", path.display()),
        why: why.to_string(),
        next: "name the store's folder and run the doctor as the server's user",
    };
    let mut report = Report {
        path: path.to_owned(),
        ..Report::default()
    };
    for name in snapshots(path).map_err(failed)? {
        let sound =
            !name.ends_with(".generating") && snapshot_sound(&path.join(&name)).map_err(failed)?;
        report.snapshots.push(SnapshotFile { name, sound });
    }
    report.conf_torn = conf_torn(&path.join("conf")).map_err(failed)?;
    match path.join("db").metadata() {
        Ok(db) => report.db_bytes = Some(db.len()),
        Err(_) => {
            report.problems.push("there is no database here".into());
            return Ok(report);
        }
    }
    match Sled::open(path, Options::default()).and_then(|store| inspect::rows(&store)) {
        Ok(rows) => {
            report.rows = rows.counts;
            report.problems = rows.problems;
            if rows.further > 0 {
                report
                    .problems
                    .push(format!("{} further ones", rows.further));
            }
        }
        Err(why) => report.problems.push(why.to_string()),
    }
    report.set_aside = set_aside_names(path).map_err(failed)?;
    let side_files = std::fs::read_dir(path.join("blobs"));
    report.side_files = side_files.map_or(0, |files| files.count() as u64);
    Ok(report)
}
