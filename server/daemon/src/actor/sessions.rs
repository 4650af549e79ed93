//! Sessions with hosts: one each, the newest wins, and a reader too slow for its queue is closed.

use crate::metrics::{Counter, Metrics};
use futures_channel::mpsc;
use ringward_domain::HostId;
use ringward_domain::session::ToAgent;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

/// Tells one session of a host from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionId(u64);

/// The server's end of a session.
#[derive(Debug)]
pub struct Session {
    /// Which one.
    pub id: SessionId,
    /// What goes to the host.
    pub out: mpsc::Sender<ToAgent>,
    /// Ends it.
    pub close: CancellationToken,
}

/// A queue of so many messages to one host, with two senders: the actor and the session's reader. It
/// takes memory for what waits in it alone; tokio's keeps room for 32 messages, 1.8 KiB of each of ten
/// thousand hosts.
pub fn queue(messages: usize) -> (mpsc::Sender<ToAgent>, mpsc::Receiver<ToAgent>) {
    // Each sender has a place of its own beyond the shared ones.
    mpsc::channel(messages.saturating_sub(2))
}

impl SessionId {
    /// A new one, unique in this process.
    pub fn fresh() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// All sessions, owned by the actor.
#[derive(Debug)]
pub(super) struct Sessions {
    by_host: HashMap<HostId, Session>,
    /// Replaced and still listened to.
    leaving: HashMap<HostId, SessionId>,
    metrics: Arc<Metrics>,
}

impl Sessions {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            by_host: HashMap::new(),
            leaving: HashMap::new(),
            metrics,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_host.len()
    }

    /// Takes a session in; an older one of the host is closed, or (`linger`) answered, to be closed
    /// in a while.
    pub(super) fn open(
        &mut self,
        host: HostId,
        session: Session,
        linger: bool,
    ) -> Option<CancellationToken> {
        let old = self.by_host.insert(host, session);
        self.count();
        let old = old?;
        self.metrics.sessions_replaced.add_one();
        if linger && !old.close.is_cancelled() {
            self.leaving.insert(host, old.id);
            return Some(old.close);
        }
        old.close.cancel();
        None
    }

    pub(super) fn is_leaving(&self, host: HostId, session: SessionId) -> bool {
        self.leaving.get(&host) == Some(&session)
    }

    pub(super) fn is_current(&self, host: HostId, session: SessionId) -> bool {
        self.by_host.get(&host).is_some_and(|s| s.id == session)
    }

    /// Forgets a session that ended; `false` where a newer one took its place, or where the actor
    /// closed it and a newer one came since.
    pub(super) fn forget(&mut self, host: HostId, session: SessionId) -> bool {
        if self.is_leaving(host, session) {
            self.leaving.remove(&host);
        }
        let known = match self.by_host.get(&host) {
            Some(current) => current.id == session,
            None => false,
        };
        if known {
            self.by_host.remove(&host);
            self.count();
        }
        known
    }

    /// Queues a message; answers the session where it has to be closed because its queue is full.
    pub(super) fn send(&mut self, host: HostId, message: ToAgent) -> Option<SessionId> {
        // Without a session nothing is lost: what the server wants is a level, told at the next one.
        let session = self.by_host.get_mut(&host)?;
        match session.out.try_send(message) {
            Ok(()) => {
                self.metrics.messages_sent.add_one();
                None
            }
            Err(error) if error.is_full() => self.end(host, |m| &m.sessions_slow),
            Err(_) => None,
        }
    }

    /// Closes a host's session; answers which one it was.
    pub(super) fn close(&mut self, host: HostId) -> Option<SessionId> {
        self.end(host, |m| &m.sessions_revoked)
    }

    /// Ends a session but keeps it as current until the decisions heard of it.
    fn end(&mut self, host: HostId, counted: impl Fn(&Metrics) -> &Counter) -> Option<SessionId> {
        let session = self.by_host.get(&host)?;
        if session.close.is_cancelled() {
            return None;
        }
        session.close.cancel();
        counted(&self.metrics).add_one();
        Some(session.id)
    }

    fn count(&self) {
        self.metrics.sessions_open.set(self.by_host.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ringward_domain::SignalSeq;

    fn session() -> (Session, mpsc::Receiver<ToAgent>) {
        // The reader's place stays free.
        let (out, inbox) = queue(3);
        let session = Session {
            id: SessionId::fresh(),
            out,
            close: CancellationToken::new(),
        };
        (session, inbox)
    }

    fn message() -> ToAgent {
        ToAgent::SignalsDurable {
            through: SignalSeq(1),
        }
    }

    #[test]
    fn the_newest_session_wins_and_the_end_of_the_older_changes_nothing() {
        let mut sessions = Sessions::new(Arc::default());
        let host = HostId(1);
        let (old, _old_inbox) = session();
        let (old_id, old_close) = (old.id, old.close.clone());
        sessions.open(host, old, false);
        let (new, mut inbox) = session();
        let new_id = new.id;
        sessions.open(host, new, false);
        assert!(old_close.is_cancelled());
        assert!(!sessions.is_current(host, old_id));
        assert!(!sessions.forget(host, old_id));
        assert_eq!(sessions.send(host, message()), None);
        assert_eq!(inbox.try_recv().unwrap(), message());
        assert!(sessions.forget(host, new_id));
        assert_eq!(sessions.len(), 0);
    }

    #[test]
    fn a_reader_too_slow_for_its_queue_is_closed_once() {
        let mut sessions = Sessions::new(Arc::default());
        let host = HostId(1);
        let (slow, _inbox) = session();
        let (id, close) = (slow.id, slow.close.clone());
        sessions.open(host, slow, false);
        assert_eq!(sessions.send(host, message()), None);
        assert_eq!(sessions.send(host, message()), None);
        assert_eq!(sessions.send(host, message()), Some(id));
        assert!(close.is_cancelled());
        assert_eq!(sessions.send(host, message()), None);
        assert_eq!(sessions.metrics.sessions_slow.get(), 1);
    }
}
