//! Parsing of hostile files in a child without rights: `ringward-agent parse-child`.
//!
//! The child gets the bytes through a pipe, so that it needs no right to open anything:
//! one line of JSON that lists paths and sizes, then the bytes, one after the other.

use crate::collect::Found;
use crate::host::HostError;
use crate::machine::child;
use serde::{Deserialize, Serialize};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

/// The verb of the program that parses.
pub const VERB: &str = "parse-child";
const TIMEOUT: Duration = Duration::from_secs(30);
/// What a child may say; each finding is at most a few KiB.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The first line of what a child reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Path and size in bytes of each file, in the order of the bytes that follow.
    pub files: Vec<(String, u64)>,
}

fn failed(why: String) -> HostError {
    HostError::Command {
        command: format!("ringward-agent {VERB}"),
        why,
        next: "check that the agent's program is readable and executable by everybody",
    }
}

/// Reads files in a child.
pub(crate) async fn in_child(files: Vec<(String, Vec<u8>)>) -> Result<Vec<Found>, HostError> {
    let mut command = child::command().map_err(|error| failed(error.to_string()))?;
    command
        .arg(VERB)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    let answer = timeout(TIMEOUT, exchange(command, files))
        .await
        .map_err(|_| failed(format!("no answer within {} s", TIMEOUT.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    Ok(answer
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

async fn exchange(mut command: Command, files: Vec<(String, Vec<u8>)>) -> std::io::Result<String> {
    let mut child = command.spawn()?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(std::io::Error::other("no pipes"));
    };
    let write = async move {
        let listing = Listing {
            files: files
                .iter()
                .map(|(path, bytes)| (path.clone(), bytes.len() as u64))
                .collect(),
        };
        let mut line = serde_json::to_string(&listing)?;
        line.push('\n');
        stdin.write_all(line.as_bytes()).await?;
        for (_, bytes) in &files {
            stdin.write_all(bytes).await?;
        }
        stdin.shutdown().await
    };
    let read = async move {
        let mut answer = Vec::new();
        stdout
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut answer)
            .await?;
        Ok::<_, std::io::Error>(answer)
    };
    let (written, answer) = tokio::join!(write, read);
    let status = child.wait().await?;
    if !status.success() {
        return Err(std::io::Error::other(format!("it ended with {status}")));
    }
    written?;
    Ok(String::from_utf8_lossy(&answer?).into_owned())
}
