//! The program `nft`: where it is, whether it is new enough, one transaction at a time.

use crate::isolation::IsolationError;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

const PLACES: [&str; 4] = [
    "/usr/sbin/nft",
    "/sbin/nft",
    "/usr/bin/nft",
    "/usr/local/sbin/nft",
];
/// A transaction takes milliseconds; on a host under load a second.
const PATIENCE: Duration = Duration::from_secs(10);
/// First version that prints rules without counters (`-s`) and takes all we write.
const OLDEST: (u32, u32) = (0, 9);

/// A usable `nft`.
#[derive(Debug, Clone)]
pub(super) struct Nft(PathBuf);

fn unsupported(why: String, next: &'static str) -> IsolationError {
    IsolationError::Unsupported { why, next }
}

impl Nft {
    /// The one that is configured, or the one where distributions put it.
    pub(super) async fn find(configured: Option<&Path>) -> Result<Self, IsolationError> {
        let place = match configured {
            Some(path) => Some(path.to_owned()),
            None => PLACES.map(PathBuf::from).into_iter().find(|at| at.exists()),
        };
        let Some(nft) = place.map(Self) else {
            let why = format!("nft is at none of {}", PLACES.join(", "));
            return Err(unsupported(why, "install the package nftables"));
        };
        let words = nft.run(&["--version"], None).await.map_err(|why| {
            unsupported(
                why,
                "install the package nftables, or correct isolation.nft in agent.toml",
            )
        })?;
        match version(&words) {
            Some(version) if version >= OLDEST => Ok(nft),
            _ => Err(unsupported(
                format!("{} says {:?}", nft.0.display(), words.trim()),
                "install nftables 0.9 or newer",
            )),
        }
    }

    /// One transaction: all of it or nothing.
    pub(super) async fn apply(&self, text: &str) -> Result<(), String> {
        self.run(&["-f", "-"], Some(text)).await.map(drop)
    }

    /// A table without its counters; `None` where there is none.
    pub(super) async fn listing(&self, table: &str) -> Option<String> {
        let mut words = vec!["-s", "list", "table"];
        words.extend(table.split(' '));
        self.run(&words, None).await.ok()
    }

    async fn run(&self, arguments: &[&str], input: Option<&str>) -> Result<String, String> {
        let failed = |why: String| format!("{} {}: {why}", self.0.display(), arguments.join(" "));
        let mut command = Command::new(&self.0);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let work = async {
            let mut child = command.spawn()?;
            if let (Some(mut stdin), Some(text)) = (child.stdin.take(), input) {
                stdin.write_all(text.as_bytes()).await?;
            }
            child.wait_with_output().await
        };
        let output = timeout(PATIENCE, work)
            .await
            .map_err(|_| failed(format!("no end within {} s", PATIENCE.as_secs())))?
            .map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let words = String::from_utf8_lossy(&output.stderr);
        let first: Vec<&str> = words.lines().take(3).collect();
        Err(failed(format!("{}: {}", output.status, first.join(" / "))))
    }
}

/// Of words such as `nftables v1.0.6 (Lester Gooch #5)`.
fn version(words: &str) -> Option<(u32, u32)> {
    let numbers = words
        .split_whitespace()
        .find_map(|word| word.strip_prefix('v'))?;
    let mut numbers = numbers.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn versions_are_read_as_nft_prints_them() {
        assert_eq!(version("nftables v1.0.6 (Lester Gooch #5)\n"), Some((1, 0)));
        assert_eq!(version("nftables v0.8.2 (Joe Btfsplk)"), Some((0, 8)));
        for nonsense in ["", "v", "vx.y", "nftables"] {
            assert_eq!(version(nonsense), None, "{nonsense:?}");
        }
    }

    fn program(folder: &Path, says: &str) -> PathBuf {
        let path = folder.join("nft");
        std::fs::write(&path, format!("#!/bin/sh\n{says}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[tokio::test]
    async fn an_absent_and_an_old_nft_are_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let absent = Nft::find(Some(&folder.path().join("nft")))
            .await
            .unwrap_err();
        assert!(
            matches!(absent, IsolationError::Unsupported { .. }),
            "{absent}"
        );
        let old = program(folder.path(), "echo 'nftables v0.8.2 (Joe Btfsplk)'");
        let old = Nft::find(Some(&old)).await.unwrap_err().to_string();
        assert!(
            old.contains("v0.8.2") && old.contains("0.9 or newer"),
            "{old}"
        );
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_programs_own_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = program(
            folder.path(),
            "case $1 in --version) echo 'nftables v1.0.6';; *) cat >/dev/null; echo 'Error: no' >&2; exit 1;; esac",
        );
        let nft = Nft::find(Some(&path)).await.unwrap();
        let why = nft.apply("table inet x {}").await.unwrap_err();
        assert!(why.contains("Error: no"), "{why}");
    }
}
