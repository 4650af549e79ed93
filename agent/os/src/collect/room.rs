//! Room on the disk for the agent's own state.

use super::Teller;
use std::path::Path;
use std::time::Duration;

/// The disk is looked at this often: it fills slowly, and a signal about it can wait.
const EVERY: Duration = Duration::from_secs(1800);
/// Room that ledger, spool and one more release's metadata need.
const BYTES_MIN: u64 = 32 * 1024 * 1024;

/// What so many free bytes lack, in words.
pub(crate) fn too_little(root: &Path, free_bytes: u64) -> Option<String> {
    (free_bytes < BYTES_MIN).then(|| {
        format!(
            "{} has {} KiB left, {} are needed",
            root.display(),
            free_bytes / 1024,
            BYTES_MIN / 1024
        )
    })
}

/// What was told of a lack: once until it is mended.
#[derive(Debug, Default)]
struct Told(bool);

impl Told {
    /// What is new of it.
    fn news(&mut self, lack: Option<String>) -> Option<String> {
        let told = std::mem::replace(&mut self.0, lack.is_some());
        lack.filter(|_| !told)
    }
}

/// Tells what the disk lacks as `lacks` finds it. Ends with the agent.
pub(crate) async fn watch(root: &Path, teller: &Teller, lacks: impl Fn(&Path) -> Option<String>) {
    let mut told = Told::default();
    loop {
        if let Some(why) = told.news(lacks(root))
            && !teller.lacks("room for its state", &why).await
        {
            return;
        }
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_too_little_is_told_with_its_figures() {
        let root = Path::new("/state");
        assert_eq!(too_little(root, BYTES_MIN), None);
        let why = too_little(root, 2048).unwrap();
        assert_eq!(why, "/state has 2 KiB left, 32768 are needed");
    }

    #[test]
    fn a_full_disk_is_told_once_until_it_is_mended_and_fills_again() {
        let mut told = Told::default();
        let looks = [Some("a"), Some("b"), None, None, Some("c"), Some("d")];
        let news = looks.map(|lack| told.news(lack.map(str::to_owned)));
        let expected = [Some("a"), None, None, None, Some("c"), None];
        assert_eq!(news, expected.map(|lack| lack.map(str::to_owned)));
    }
}
