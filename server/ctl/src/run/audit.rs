//! The audit log: read, checked, exported.

use super::Session;
use crate::args::Audit;
use crate::client::Client;
use crate::error::Error;
use crate::files;
use crate::ui::note;
use crate::views;
use crate::words::count;
use ringward_domain::{AuditHead, AuditShown, Sha256};
use ringward_wire::merkle::{Tree, leaf, verify_growth};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Bytes of the file that remembers a head.
const HEAD_BYTES_MAX: u64 = 4096;

/// One line of an export.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    index: u64,
    leaf_hash: Sha256,
    entry: String,
}

pub(super) async fn run(session: &Session, verb: Audit) -> Result<(), Error> {
    match verb {
        Audit::List { last, from } => list(session, last, from).await,
        Audit::Verify { head, export } => {
            let head = match head {
                Some(path) => path,
                None => session.context()?.path.with_extension("audit-head.json"),
            };
            match export {
                Some(export) => verify_export(session, &export, &head),
                None => verify(session, &head).await,
            }
        }
        Audit::Export { out, from } => export(session, out.as_deref(), from).await,
    }
}

async fn list(session: &Session, last: u64, from: Option<u64>) -> Result<(), Error> {
    let client = session.client().await?;
    let size = client.audit_head(0).await?.head.size;
    let from = from.unwrap_or_else(|| size.saturating_sub(last));
    let mut entries = Vec::new();
    each(&client, from, size.min(from.saturating_add(last)), |line| {
        entries.push(views::audit::Entry::read(line.index, &line.entry));
        Ok(())
    })
    .await?;
    session
        .ui
        .print(&entries, || views::audit::list(&entries, size))
}

/// Passes on every entry from `from` until `end`, each checked against its own hash.
async fn each(
    client: &Client,
    from: u64,
    end: u64,
    mut take: impl FnMut(Line) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut next = from;
    while next < end {
        let (page, _) = client.audit_page(next).await?;
        if page.is_empty() {
            return Err(broken(next, "is missing"));
        }
        for record in page {
            if next == end {
                return Ok(());
            }
            if record.index != next {
                return Err(broken(next, "is missing"));
            }
            let leaf_hash = leaf(&record.entry);
            if record.leaf_hash != leaf_hash.0 {
                return Err(broken(next, "does not hash to what the server says"));
            }
            let entry =
                String::from_utf8(record.entry).map_err(|_| broken(next, "is not UTF-8 text"))?;
            take(Line {
                index: next,
                leaf_hash,
                entry,
            })?;
            next += 1;
        }
    }
    Ok(())
}

fn broken(index: u64, why: &str) -> Error {
    Error::Audit {
        what: format!("entry {index} {why}"),
    }
}

async fn verify(session: &Session, file: &Path) -> Result<(), Error> {
    let client = session.client().await?;
    let known = read_head(file)?;
    let shown = client
        .audit_head(known.map_or(0, |known| known.size))
        .await?;
    if let Some(known) = &known {
        grown(known, &shown)?;
    }
    let mut tree = Tree::default();
    each(&client, 0, shown.head.size, |line| {
        tree.push(line.leaf_hash);
        Ok(())
    })
    .await?;
    conclude(session, &tree, known.as_ref(), Some(&shown.head), file)
}

fn verify_export(session: &Session, export: &Path, file: &Path) -> Result<(), Error> {
    let known = read_head(file)?;
    let reading = || Error::file("reading", export);
    let lines = BufReader::new(std::fs::File::open(export).map_err(reading())?).lines();
    let mut tree = Tree::default();
    let mut at_known = None;
    for line in lines {
        let line = line.map_err(reading())?;
        let index = tree.size();
        let line: Line = serde_json::from_str(&line)
            .map_err(|error| broken(index, &format!("cannot be read: {error}")))?;
        if line.index != index {
            return Err(broken(index, "is missing"));
        }
        if line.leaf_hash != leaf(line.entry.as_bytes()) {
            return Err(broken(index, "was changed"));
        }
        tree.push(line.leaf_hash);
        if known.is_some_and(|known| known.size == tree.size()) {
            at_known = Some(tree.head());
        }
    }
    if let Some(known) = known.filter(|known| known.size > 0) {
        match at_known {
            Some(head) if head == known => {}
            Some(_) => {
                return Err(Error::Audit {
                    what: format!(
                        "the first {} entries are not the ones they were",
                        known.size
                    ),
                });
            }
            None => {
                return Err(Error::Audit {
                    what: format!("it ends before entry {}, checked before", known.size),
                });
            }
        }
    }
    conclude(session, &tree, known.as_ref(), None, file)
}

fn grown(known: &AuditHead, shown: &AuditShown) -> Result<(), Error> {
    verify_growth(known, shown).map_err(|fork| Error::Audit {
        what: fork.to_string(),
    })
}

fn conclude(
    session: &Session,
    tree: &Tree,
    known: Option<&AuditHead>,
    shown: Option<&AuditHead>,
    file: &Path,
) -> Result<(), Error> {
    let head = tree.head();
    if shown.is_some_and(|shown| *shown != head) {
        return Err(Error::Audit {
            what: "the entries do not add up to the head that the server shows".to_owned(),
        });
    }
    let text = serde_json::to_vec_pretty(&head).unwrap_or_default();
    files::replace(file, &text)?;
    session.ui.print(&head, || {
        let since = match known {
            Some(known) => format!(
                "; {} since it was checked before",
                count(head.size - known.size, "new entry", "new entries")
            ),
            None => "; the first check: later ones also see what is changed from now on".to_owned(),
        };
        format!(
            "{} add up to {}{since}\nremembered in {}\n",
            count(head.size, "entry", "entries"),
            head.root,
            file.display()
        )
    })
}

fn read_head(file: &Path) -> Result<Option<AuditHead>, Error> {
    if !file.exists() {
        return Ok(None);
    }
    let bytes = files::read(file, HEAD_BYTES_MAX)?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Error::usage(
            format!("{} is no audit head: {error}", file.display()),
            "name the file that `ringwardctl audit verify` wrote, or another one to begin with",
        )
    })
}

async fn export(session: &Session, out: Option<&Path>, from: u64) -> Result<(), Error> {
    let client = session.client().await?;
    let size = client.audit_head(0).await?.head.size;
    let place: PathBuf = out.map_or_else(|| "standard output".into(), Path::to_owned);
    let mut to: Box<dyn Write> = match out {
        Some(path) => {
            Box::new(std::fs::File::create_new(path).map_err(Error::file("writing", path))?)
        }
        None => Box::new(std::io::stdout().lock()),
    };
    let mut writer = BufWriter::new(&mut to);
    each(&client, from, size, |line| {
        let text = serde_json::to_string(&line).unwrap_or_default();
        writeln!(writer, "{text}").map_err(Error::file("writing", &place))
    })
    .await?;
    writer.flush().map_err(Error::file("writing", &place))?;
    if let Some(path) = out {
        note(&format!(
            "wrote {} to {}",
            count(size.saturating_sub(from), "entry", "entries"),
            path.display()
        ));
    }
    Ok(())
}
