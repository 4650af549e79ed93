//! Bytes of an artefact, wherever they lie. The caller opens files; this crate only asks for ranges.

use std::io;

/// Random access to one artefact.
pub trait Source {
    /// Reads up to `into.len()` bytes at `offset`; 0 at the end.
    ///
    /// # Errors
    /// Whatever the medium reports; the reader says so with the offset and goes on with the next artefact.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// The size in bytes when the artefact was listed.
    fn size(&self) -> u64;
}

impl Source for &[u8] {
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let Some(rest) = usize::try_from(offset).ok().and_then(|at| self.get(at..)) else {
            return Ok(0);
        };
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn size(&self) -> u64 {
        self.len() as u64
    }
}

/// Bytes read ahead. Large enough that a 2 GiB log costs 16,384 reads.
const WINDOW_BYTES: usize = 128 * 1024;

/// Reads a source from front to back through one window of bounded size.
pub struct Cursor<'a> {
    source: &'a mut dyn Source,
    window: Vec<u8>,
    /// Offset of `window[0]` in the source.
    base: u64,
    /// Next unread byte in the window.
    at: usize,
}

impl std::fmt::Debug for Cursor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursor")
            .field("offset", &self.offset())
            .finish_non_exhaustive()
    }
}

/// What [`Cursor::line`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A line was read; `true` where it was longer than the bound and its rest was skipped.
    Line(bool),
    /// Nothing is left.
    End,
}

impl<'a> Cursor<'a> {
    /// A cursor at the first byte.
    pub fn new(source: &'a mut dyn Source) -> Self {
        Self {
            source,
            window: Vec::new(),
            base: 0,
            at: 0,
        }
    }

    /// Offset of the next byte.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Reads the next window; `false` at the end.
    fn refill(&mut self) -> io::Result<bool> {
        self.base += self.window.len() as u64;
        self.at = 0;
        self.window.resize(WINDOW_BYTES, 0);
        let length = match self.source.read_at(self.base, &mut self.window) {
            Ok(length) => length,
            Err(error) => {
                self.window.clear();
                return Err(error);
            }
        };
        self.window.truncate(length);
        Ok(length > 0)
    }

    /// Reads one line without its `\n` into `line`, at most `bytes_max` of it.
    ///
    /// # Errors
    /// As [`Source::read_at`].
    pub fn line(&mut self, line: &mut Vec<u8>, bytes_max: usize) -> io::Result<Step> {
        line.clear();
        let mut any = false;
        let mut cut = false;
        loop {
            if self.at == self.window.len() && !self.refill()? {
                return Ok(if any { Step::Line(cut) } else { Step::End });
            }
            any = true;
            let rest = &self.window[self.at..];
            let (taken, ended) = match rest.iter().position(|&b| b == b'\n') {
                Some(end) => (end, true),
                None => (rest.len(), false),
            };
            let room = bytes_max.saturating_sub(line.len());
            line.extend_from_slice(&rest[..taken.min(room)]);
            cut |= taken > room;
            self.at += taken + usize::from(ended);
            if ended {
                return Ok(Step::Line(cut));
            }
        }
    }

    /// Reads exactly `length` bytes, keeping at most `bytes_max`; `false` where the source ends before.
    ///
    /// # Errors
    /// As [`Source::read_at`].
    pub fn bytes(&mut self, into: &mut Vec<u8>, length: u64, bytes_max: usize) -> io::Result<bool> {
        into.clear();
        if length > self.source.size().saturating_sub(self.offset()) {
            return Ok(false);
        }
        let mut left = length;
        while left > 0 {
            if self.at == self.window.len() && !self.refill()? {
                return Ok(false);
            }
            let rest = &self.window[self.at..];
            let taken = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let room = bytes_max.saturating_sub(into.len());
            into.extend_from_slice(&rest[..taken.min(room)]);
            self.at += taken;
            left -= taken as u64;
        }
        Ok(true)
    }
}

/// Reads a whole source of at most `bytes_max` bytes.
///
/// # Errors
/// As [`Source::read_at`].
pub fn read_all(source: &mut dyn Source, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    Cursor::new(source).bytes_to_end(&mut out, bytes_max)?;
    Ok(out)
}

impl Cursor<'_> {
    fn bytes_to_end(&mut self, into: &mut Vec<u8>, bytes_max: usize) -> io::Result<()> {
        while into.len() < bytes_max && self.refill()? {
            let room = bytes_max - into.len();
            into.extend_from_slice(&self.window[..self.window.len().min(room)]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_longer_than_the_bound_are_cut_and_the_next_one_is_whole() {
        let mut bytes: &[u8] = b"abcdef\nxy\n\nlast";
        let mut cursor = Cursor::new(&mut bytes);
        let mut line = Vec::new();
        let mut seen = Vec::new();
        while let Step::Line(cut) = cursor.line(&mut line, 4).unwrap() {
            seen.push((String::from_utf8(line.clone()).unwrap(), cut));
        }
        let expected = [("abcd", true), ("xy", false), ("", false), ("last", false)];
        assert_eq!(seen, expected.map(|(text, cut)| (text.to_owned(), cut)));
        assert_eq!(cursor.offset(), 15);
    }

    #[test]
    fn a_length_beyond_the_end_is_refused_before_reading() {
        let mut bytes: &[u8] = b"abc";
        let mut out = Vec::new();
        assert!(
            !Cursor::new(&mut bytes)
                .bytes(&mut out, u64::MAX, 16)
                .unwrap()
        );
    }

    #[test]
    fn lines_across_windows_are_joined() {
        let long = vec![b'a'; WINDOW_BYTES + 10];
        let mut bytes: &[u8] = &long;
        let mut line = Vec::new();
        Cursor::new(&mut bytes).line(&mut line, usize::MAX).unwrap();
        assert_eq!(line.len(), WINDOW_BYTES + 10);
    }
}
