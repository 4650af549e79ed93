//! What readers see: only what is durable. While the writer makes a group durable, the rows it
//! touches are answered from their values before.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ::sled::{Db, IVec};

use super::rows::{Payload, damaged};
use crate::StoreError;

/// Rows read under one lock hold (some 100 µs), so that readers never keep the writer for long.
const SCAN_ROWS: usize = 256;

/// A row's key and value.
pub(super) type Row = (IVec, IVec);

/// The database as readers may see it.
#[derive(Debug, Default)]
pub(super) struct View {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Absent while it is being opened again.
    db: Option<Db>,
    /// Values before the group under way; `None` = there was none.
    before: BTreeMap<Vec<u8>, Option<IVec>>,
}

/// One consistent look.
pub(super) struct Look<'a> {
    db: &'a Db,
    before: &'a BTreeMap<Vec<u8>, Option<IVec>>,
}

impl View {
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a freshly opened database.
    pub fn show(&self, db: Db) {
        *self.write() = Inner {
            db: Some(db),
            before: BTreeMap::new(),
        };
    }

    /// Takes the database away; reads fail until another is shown.
    pub fn hide(&self) -> Option<Db> {
        std::mem::take(&mut *self.write()).db
    }

    /// Answers these rows as given until `reveal`.
    pub fn cover(&self, before: BTreeMap<Vec<u8>, Option<IVec>>) {
        self.write().before = before;
    }

    /// The group is durable: everybody may see it.
    pub fn reveal(&self) {
        let covered = std::mem::take(&mut self.write().before);
        drop(covered);
    }

    /// Runs a reader on one consistent look.
    pub fn look<T>(
        &self,
        reader: impl FnOnce(&Look<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let inner = self.read();
        let Some(db) = &inner.db else {
            return Err(StoreError::Failed {
                doing: "reading the store".into(),
                why: "its database failed and is not open again yet".into(),
                next: "free disk space or mend the disk; the store opens it again by itself",
            });
        };
        reader(&Look {
            db,
            before: &inner.before,
        })
    }

    /// Up to `limit` rows from `start` to before `end`, each decoded in the look that read it.
    pub fn scan<T>(
        &self,
        mut start: Vec<u8>,
        end: &[u8],
        limit: usize,
        decode: impl Fn(&Look<'_>, &Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        while found.len() < limit {
            let rows = SCAN_ROWS.min(limit - found.len());
            let (last, decoded) = self.look(|look| {
                let page = look.rows(&start, end, rows)?;
                let decoded: Result<Vec<T>, _> = page.iter().map(|row| decode(look, row)).collect();
                Ok((page.last().map(|(key, _)| key.to_vec()), decoded?))
            })?;
            let short = decoded.len() < rows;
            found.extend(decoded);
            match last {
                Some(last) if !short => start = next_row(last),
                _ => break,
            }
        }
        Ok(found)
    }
}

impl Look<'_> {
    /// One row.
    pub fn row(&self, row: &[u8]) -> Result<Option<IVec>, StoreError> {
        match self.before.get(row) {
            Some(before) => Ok(before.clone()),
            None => self.db.get(row).map_err(|why| read_failed(&why)),
        }
    }

    /// Up to `limit` rows from `start` to before `end`: the tree's, with those of the group under
    /// way replaced by what they were.
    pub fn rows(&self, start: &[u8], end: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
        if start >= end {
            return Ok(Vec::new());
        }
        let mut stored = self.db.range(start..end).peekable();
        let range = start.to_vec()..end.to_vec();
        let mut covered = self.before.range(range).peekable();
        let mut page = Vec::with_capacity(limit.min(SCAN_ROWS));
        while page.len() < limit {
            let take_covered = match (covered.peek(), stored.peek()) {
                (None, None) => break,
                (Some(_), None) => true,
                (Some((covered, _)), Some(Ok((stored, _)))) => {
                    covered.as_slice() <= stored.as_ref()
                }
                (None | Some(_), Some(_)) => false,
            };
            if !take_covered {
                if let Some(row) = stored.next() {
                    page.push(row.map_err(|why| read_failed(&why))?);
                }
                continue;
            }
            if let Some((row, before)) = covered.next() {
                stored.next_if(|next| next.as_ref().is_ok_and(|(key, _)| key == row));
                if let Some(before) = before {
                    page.push((IVec::from(row.as_slice()), before.clone()));
                }
            }
        }
        Ok(page)
    }

    /// The whole bytes of a value whose payload this is.
    pub fn bytes(&self, payload: &[u8]) -> Result<Vec<u8>, StoreError> {
        let payload = Payload::read(payload)?;
        let (mut bytes, len) = match &payload {
            Payload::Inline(bytes) => return Ok(bytes.to_vec()),
            Payload::Split { first, len, .. } => (first.to_vec(), *len),
        };
        for row in payload.overflow() {
            let chunk = self.row(&row)?;
            bytes.extend_from_slice(
                &chunk.ok_or_else(|| damaged("a long value", "a part is gone"))?,
            );
        }
        if bytes.len() != len {
            return Err(damaged("a long value", "its parts do not fit its length"));
        }
        Ok(bytes)
    }
}

/// The first row that can follow this one.
pub(super) fn next_row(mut row: Vec<u8>) -> Vec<u8> {
    row.push(0);
    row
}

/// What a failed read answers.
pub(super) fn read_failed(why: &::sled::Error) -> StoreError {
    match why {
        ::sled::Error::Corruption { .. } => damaged("the database", "a page does not check out"),
        why => StoreError::Failed {
            doing: "reading the store".into(),
            why: why.to_string(),
            next: "look at the disk and the system log, then run `ringward-server doctor`",
        },
    }
}
