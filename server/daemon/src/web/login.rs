//! One-time words. Whoever may write into the data directory may sign in as an admin; the word
//! passes that right on to a browser, once, within two minutes. Only its SHA-256 touches the disk.

use crate::clock::unix_ms;
use crate::data_dir::{DataDir, create_private_dir, read_bounded, write_whole};
use crate::error::ServerError;
use crate::pki::{is_admin_name, random, sha256};
use crate::run::Addresses;
use crate::storage::to_json;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// How long a word is good.
const WORD_LIFE_MS: u64 = 2 * 60_000;
/// Bytes of a ticket.
const TICKET_BYTES_MAX: u64 = 1024;
/// Tickets that may wait at once; older ones that expired are removed first.
const TICKETS_MAX: usize = 64;

/// A word to sign in with, and where.
#[derive(Debug, Clone)]
pub struct LoginWord {
    /// The secret.
    pub word: String,
    /// Address of the page that takes it, the word behind its `#`; absent where the server does not
    /// run or has no plain listener.
    pub link: Option<String>,
}

/// What waits on disk for a word.
#[derive(Serialize, Deserialize)]
struct Ticket {
    /// As whom one signs in.
    admin: String,
    /// End of its life.
    expires_unix_ms: u64,
}

/// Makes a one-time word for an admin.
///
/// # Errors
/// Where the name cannot be an admin's, too many words wait, or the ticket cannot be written.
pub fn new_login_word(data: &DataDir, admin: &str) -> Result<LoginWord, ServerError> {
    if !is_admin_name(admin) {
        return Err(ServerError::refused(
            format!("{admin:?} cannot be an admin's name"),
            "use 1-64 letters, digits and '._@-', starting with a letter or digit",
        ));
    }
    if !data.config().exists() {
        return Err(ServerError::refused(
            format!("{} is no data directory", data.root().display()),
            "name the one that `ringward-server init` made",
        ));
    }
    let folder = tickets(data);
    create_private_dir(&folder)?;
    if sweep(&folder)? >= TICKETS_MAX {
        return Err(ServerError::refused(
            format!("{TICKETS_MAX} words wait to be used"),
            "use one, or wait two minutes",
        ));
    }
    let word = sha256(&random::<32>()).to_string();
    let ticket = Ticket {
        admin: admin.to_owned(),
        expires_unix_ms: unix_ms() + WORD_LIFE_MS,
    };
    write_whole(&path(data, &word), &to_json(&ticket), 0o600)?;
    let link = read_bounded(&data.addresses(), TICKET_BYTES_MAX)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<Addresses>(&bytes).ok())
        .and_then(|addresses| addresses.dashboard)
        .map(|address| format!("http://{address}/#login={word}"));
    Ok(LoginWord { word, link })
}

/// Takes a word: the admin it names, or nothing. Whatever comes of it, it is used up.
pub(super) fn take(data: &DataDir, word: &str, now_unix_ms: u64) -> Option<String> {
    if word.len() != 64 || !word.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let waiting = path(data, word);
    let taken = waiting.with_extension("taken");
    // Of two that come at once, the rename lets one through.
    fs::rename(&waiting, &taken).ok()?;
    let read = read_bounded(&taken, TICKET_BYTES_MAX).ok();
    fs::remove_file(&taken).ok()?;
    let ticket: Ticket = serde_json::from_slice(&read?).ok()?;
    let good = now_unix_ms < ticket.expires_unix_ms && is_admin_name(&ticket.admin);
    good.then_some(ticket.admin)
}

fn tickets(data: &DataDir) -> PathBuf {
    data.root().join("login")
}

fn path(data: &DataDir, word: &str) -> PathBuf {
    tickets(data).join(sha256(word.as_bytes()).to_string())
}

/// Removes what expired; counts what stays.
fn sweep(folder: &Path) -> Result<usize, ServerError> {
    let mut left = 0;
    for entry in fs::read_dir(folder).map_err(ServerError::file("reading the folder", folder))? {
        let entry = entry.map_err(ServerError::file("reading the folder", folder))?;
        let ticket = read_bounded(&entry.path(), TICKET_BYTES_MAX)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Ticket>(&bytes).ok());
        if ticket.is_some_and(|ticket| unix_ms() < ticket.expires_unix_ms) {
            left += 1;
        } else {
            // Gone by itself meanwhile: as well.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn data() -> (tempfile::TempDir, DataDir) {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        fs::write(data.config(), "").unwrap();
        (dir, data)
    }

    #[test]
    fn a_word_signs_in_once() {
        let (_dir, data) = data();
        let made = new_login_word(&data, "dana").unwrap();
        assert_eq!(take(&data, &made.word, unix_ms()), Some("dana".to_owned()));
        assert_eq!(take(&data, &made.word, unix_ms()), None);
    }

    #[test]
    fn an_expired_word_is_used_up_without_effect() {
        let (_dir, data) = data();
        let made = new_login_word(&data, "dana").unwrap();
        let late = unix_ms() + WORD_LIFE_MS + 1;
        assert_eq!(take(&data, &made.word, late), None);
        assert_eq!(take(&data, &made.word, unix_ms()), None);
    }

    #[test]
    fn the_word_is_not_on_disk_and_no_path_can_be_smuggled_in() {
        let (dir, data) = data();
        let made = new_login_word(&data, "dana").unwrap();
        for entry in fs::read_dir(tickets(&data)).unwrap() {
            let path = entry.unwrap().path();
            assert!(!path.to_string_lossy().contains(&made.word));
            assert!(!fs::read_to_string(&path).unwrap().contains(&made.word));
            crate::data_dir::check_private(&path).unwrap();
        }
        fs::write(dir.path().join("x"), "{}").unwrap();
        assert_eq!(take(&data, "../../x", unix_ms()), None);
    }
}
