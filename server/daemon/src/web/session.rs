//! Sessions of browsers: a random cookie, kept as its SHA-256, with an end.

use crate::pki::{AdminIdentity, random, sha256};
use ringward_domain::Sha256;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// How long a session lasts: one working day.
pub(super) const SESSION_LIFE_MS: u64 = 12 * 3_600_000;
/// Sessions at once; the one that ends first makes room.
const SESSIONS_MAX: usize = 64;

/// A browser that is signed in.
#[derive(Debug, Clone)]
pub struct Session {
    /// As whom.
    pub admin: Arc<AdminIdentity>,
    /// End of its life.
    pub expires_unix_ms: u64,
    /// Fires when it ended: its streams end with it.
    pub ended: CancellationToken,
}

/// All sessions of this process; a restart ends them.
pub struct Sessions {
    open: Mutex<BTreeMap<Sha256, Session>>,
    stop: CancellationToken,
}

impl Sessions {
    /// None yet; `stop` ends all there will be.
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            open: Mutex::default(),
            stop,
        }
    }

    /// Opens a session; answers the cookie's value.
    pub fn open(&self, admin: String, now_unix_ms: u64) -> String {
        let secret = sha256(&random::<32>()).to_string();
        let session = Session {
            admin: Arc::new(AdminIdentity::signed_in(admin)),
            expires_unix_ms: now_unix_ms + SESSION_LIFE_MS,
            ended: self.stop.child_token(),
        };
        let mut open = self.lock();
        if open.len() >= SESSIONS_MAX {
            let first = open.iter().min_by_key(|(_, s)| s.expires_unix_ms);
            if let Some(key) = first.map(|(key, _)| *key)
                && let Some(ended) = open.remove(&key)
            {
                ended.ended.cancel();
            }
        }
        open.insert(sha256(secret.as_bytes()), session);
        secret
    }

    /// The session of a cookie, while it lasts.
    pub fn find(&self, secret: &str, now_unix_ms: u64) -> Option<Session> {
        let key = sha256(secret.as_bytes());
        let mut open = self.lock();
        let session = open.get(&key)?.clone();
        if now_unix_ms < session.expires_unix_ms {
            return Some(session);
        }
        open.remove(&key);
        session.ended.cancel();
        None
    }

    /// Ends the session of a cookie.
    pub fn close(&self, secret: &str) {
        if let Some(session) = self.lock().remove(&sha256(secret.as_bytes())) {
            session.ended.cancel();
        }
    }

    /// Ends all sessions of a person, whose password is another now.
    pub fn close_of(&self, name: &str) {
        self.lock().retain(|_, session| {
            let stays = session.admin.name != name;
            if !stays {
                session.ended.cancel();
            }
            stays
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Sha256, Session>> {
        // A panic while it was held leaves a whole map: each change is one insert or remove.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_session_lasts_until_its_end_or_until_signed_out() {
        let sessions = Sessions::new(CancellationToken::new());
        let secret = sessions.open("dana".into(), 1_000);
        let session = sessions.find(&secret, 2_000).unwrap();
        assert_eq!(session.admin.name, "dana");
        assert!(sessions.find("other", 2_000).is_none());
        assert!(sessions.find(&secret, 1_000 + SESSION_LIFE_MS).is_none());
        assert!(session.ended.is_cancelled());
        let secret = sessions.open("dana".into(), 1_000);
        sessions.close(&secret);
        assert!(sessions.find(&secret, 1_001).is_none());
    }

    #[test]
    fn the_sessions_of_one_person_end_together() {
        let sessions = Sessions::new(CancellationToken::new());
        let [first, second] = [1, 2].map(|at| sessions.open("dana".into(), at));
        let other = sessions.open("eve".into(), 3);
        sessions.close_of("dana");
        assert!(sessions.find(&first, 4).is_none() && sessions.find(&second, 4).is_none());
        assert!(sessions.find(&other, 4).is_some());
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_makes_room() {
        let sessions = Sessions::new(CancellationToken::new());
        let first = sessions.open("dana".into(), 1);
        for n in 0..SESSIONS_MAX as u64 {
            sessions.open("dana".into(), 2 + n);
        }
        assert!(sessions.find(&first, 3).is_none());
        assert_eq!(sessions.lock().len(), SESSIONS_MAX);
    }
}
