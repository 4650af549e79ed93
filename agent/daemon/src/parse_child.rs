//! The child that parses hostile files: no rights, little memory, a bounded time, and nothing to
//! open. The agent starts it for a handful of files and it is gone after them.

use ringward_agent_os::machine::child::confine;
use ringward_agent_os::parse::Listing;
use ringward_evidence::inspect::{Artefact, Open, inspect, json_line};
use ringward_evidence::source::Source;
use std::io::{self, BufRead, Read, Write};

/// The line that lists the files.
const LISTING_BYTES_MAX: u64 = 1024 * 1024;
/// All files together.
const FILES_BYTES_MAX: u64 = 24 * 1024 * 1024;

struct Given(Vec<Vec<u8>>);

impl Open for Given {
    fn open(&mut self, index: usize) -> io::Result<Box<dyn Source + '_>> {
        let bytes = self.0.get(index).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(bytes.as_slice()))
    }
}

/// Reads the files that `input` brings and writes what they tell to `output`, one JSON object a line.
///
/// # Errors
/// The input is not what the agent sends, or a pipe broke.
pub fn parse(input: impl Read, output: impl Write) -> io::Result<()> {
    let mut input = io::BufReader::new(input);
    let mut line = Vec::new();
    (&mut input)
        .take(LISTING_BYTES_MAX)
        .read_until(b'\n', &mut line)?;
    let listing: Listing = serde_json::from_slice(&line)?;
    let mut left = FILES_BYTES_MAX;
    let mut artefacts = Vec::new();
    let mut contents = Vec::new();
    for (path, size) in listing.files {
        left = left
            .checked_sub(size)
            .ok_or_else(|| io::Error::other("more bytes than a child takes"))?;
        let mut bytes = Vec::new();
        (&mut input).take(size).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        artefacts.push(Artefact { path });
        contents.push(bytes);
    }
    let mut output = io::BufWriter::new(output);
    let mut failed = None;
    inspect(&artefacts, &mut Given(contents), &mut |path, item| {
        if failed.is_none() {
            failed = writeln!(output, "{}", json_line(path, &item)).err();
        }
    });
    failed.map_or_else(|| output.flush(), Err)
}

/// The child's whole life.
///
/// # Errors
/// As [`parse`], or the limits cannot be set.
pub fn run() -> io::Result<()> {
    confine()?;
    parse(io::stdin().lock(), io::stdout().lock())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sent(files: &[(&str, &[u8])]) -> Vec<u8> {
        let listing = Listing {
            files: files
                .iter()
                .map(|(path, bytes)| ((*path).to_owned(), bytes.len() as u64))
                .collect(),
        };
        let mut sent = serde_json::to_vec(&listing).unwrap();
        sent.push(b'\n');
        for (_, bytes) in files {
            sent.extend_from_slice(bytes);
        }
        sent
    }

    #[test]
    fn records_of_one_folder_become_one_fact() {
        let first = b"Panic#1 Part1\n<0>[    1.000000] Kernel panic - not syncing: x\n";
        let second = b"Panic#1 Part2\n<6>[    0.500000] older\n";
        let sent = sent(&[("/p/1/dmesg-efi-1", first), ("/p/1/dmesg-efi-2", second)]);
        let mut out = Vec::new();
        parse(sent.as_slice(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("kernel-panic"), "{text}");
    }

    #[test]
    fn a_sender_that_lies_of_sizes_is_refused() {
        let mut cut = sent(&[("/p/x", b"0123456789")]);
        cut.truncate(cut.len() - 5);
        assert!(parse(cut.as_slice(), Vec::new()).is_err());
        let huge = b"{\"files\":[[\"/p/x\",18446744073709551615]]}\n";
        assert!(parse(huge.as_slice(), Vec::new()).is_err());
        assert!(parse(b"nonsense\n".as_slice(), Vec::new()).is_err());
    }
}
