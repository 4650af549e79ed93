//! Local accounts: passwords for browsers (they work when the company's directory does not), and API
//! tokens. Neither is kept: a password as its argon2id hash, a token as its SHA-256.

mod attempts;

use crate::clock::unix_ms;
use crate::pki::{random, sha256};
use crate::storage::{Settled, audit_bytes, batch, commit, to_json};
use argon2::{Algorithm, Argon2, Params, Version};
use attempts::Attempts;
use ringward_domain::people::Grant;
use ringward_domain::{Millis, RequestId, Sha256};
use ringward_server_core::event::AuditEntry;
use ringward_store::{AnyStore, Fence, Key, Store, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Kind of passwords in the store, by name.
const ACCOUNT: &str = "account";
/// Kind of API tokens in the store, by the SHA-256 of their secret.
const API_TOKEN: &str = "api-token";
/// What an API token's text starts with, so that scanners of leaked secrets know it.
const TOKEN_PREFIX: &str = "rwapi_";
/// API tokens at most.
const TOKENS_MAX: usize = 1000;
/// Longest life of an API token.
const TOKEN_LIFE_MAX: Millis = Millis::hours(366 * 24);
/// Bytes of a password. Shorter ones are guessed, longer ones only keep us busy.
const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 12..=256;
/// Memory of one hash in KiB, its passes and lanes: the first recommendation of OWASP for argon2id.
const ARGON2: (u32, u32, u32) = (19 * 1024, 2, 1);
/// Hashes at once: more attempts wait, and the server has other work.
const HASHES: usize = 2;
/// Attempts that wait for a hash; further ones are refused at once.
const WAITING_MAX: usize = 16;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 64;

/// Why somebody was not signed in, or something was not kept.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Name or password are wrong; not said which.
    #[error("name or password are wrong")]
    Wrong,
    /// Too many attempts on this name, or on all of them at this moment.
    #[error("too many attempts; wait 15 minutes, or use `ringward-server login` on the machine")]
    TooMany,
    /// A field cannot be what it is.
    #[error("{0}: {1}")]
    Invalid(&'static str, String),
    /// No such token.
    #[error("there is no such API token")]
    Unknown,
    /// Another server decides.
    #[error("this server does not hold the lease; try another")]
    Fenced,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Serialize, Deserialize)]
struct Password {
    salt: Vec<u8>,
    hash: Vec<u8>,
    /// KiB, passes, lanes: kept, so that they can grow.
    cost: (u32, u32, u32),
}

/// What is kept of an API token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApiToken {
    /// SHA-256 of its text.
    pub hash: Sha256,
    /// Whose.
    pub owner: String,
    /// What it is for.
    pub label: String,
    /// At most these roles of its owner.
    pub grants: Vec<Grant>,
    /// Wall clock at its end.
    pub expires_unix_ms: u64,
    /// A person ended it.
    pub revoked: bool,
    /// The order that made it.
    pub request: RequestId,
}

impl ApiToken {
    /// Its name.
    pub fn id(&self) -> String {
        self.hash.to_string().chars().take(16).collect()
    }
    /// Whether it still works.
    pub fn is_live(&self, now_unix_ms: u64) -> bool {
        !self.revoked && now_unix_ms < self.expires_unix_ms
    }
}

/// The accounts of a server.
#[derive(Debug)]
pub struct Accounts {
    store: Arc<AnyStore>,
    fence: Fence,
    attempts: Mutex<Attempts>,
    hashing: Semaphore,
    waiting: Semaphore,
    /// Streams that API tokens opened end by these.
    shown: Mutex<BTreeMap<Sha256, CancellationToken>>,
    stop: CancellationToken,
    /// Makers of tokens one after another: they count what there is.
    making: tokio::sync::Mutex<()>,
}

fn key(kind: &'static str, id: &[u8]) -> Key {
    Key {
        kind,
        id: id.to_vec(),
    }
}

fn hash(password: &[u8], salt: &[u8], cost: (u32, u32, u32)) -> Option<Vec<u8>> {
    let params = Params::new(cost.0, cost.1, cost.2, Some(32)).ok()?;
    let mut out = vec![0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, salt, &mut out)
        .ok()?;
    Some(out)
}

impl Accounts {
    /// The accounts of this store; `stop` ends what API tokens opened.
    pub fn new(store: Arc<AnyStore>, fence: Fence, stop: CancellationToken) -> Self {
        Self {
            store,
            fence,
            attempts: Mutex::default(),
            hashing: Semaphore::new(HASHES),
            waiting: Semaphore::new(WAITING_MAX),
            shown: Mutex::default(),
            stop,
            making: tokio::sync::Mutex::new(()),
        }
    }

    async fn write(
        &self,
        key: Key,
        value: Option<Vec<u8>>,
        audit: AuditEntry,
    ) -> Result<(), AccountError> {
        let mut write = batch(&self.fence);
        match value {
            Some(value) => write.puts.push((key, value)),
            None => write.deletes.push(key),
        }
        write.audit.push(audit_bytes(&audit));
        match commit(&self.store, write).await? {
            Settled::Ok => Ok(()),
            Settled::Fenced | Settled::Conflict => Err(AccountError::Fenced),
        }
    }

    /// A hash, when there is room for one.
    async fn hash(
        &self,
        password: String,
        salt: Vec<u8>,
        cost: (u32, u32, u32),
    ) -> Result<Vec<u8>, AccountError> {
        let _waits = self
            .waiting
            .try_acquire()
            .map_err(|_| AccountError::TooMany)?;
        let Ok(_turn) = self.hashing.acquire().await else {
            return Err(AccountError::TooMany);
        };
        let done = tokio::task::spawn_blocking(move || hash(password.as_bytes(), &salt, cost));
        done.await.ok().flatten().ok_or(AccountError::Wrong)
    }

    /// Sets a person's password; an empty one takes it away.
    ///
    /// # Errors
    /// A password too short or too long, or where the store fails.
    pub async fn set_password(
        &self,
        by: &str,
        name: &str,
        password: String,
        reason: &str,
    ) -> Result<(), AccountError> {
        let audit = |action: &str| AuditEntry {
            actor: by.to_owned(),
            action: action.to_owned(),
            object: name.to_owned(),
            reason: reason.to_owned(),
        };
        let at = key(ACCOUNT, name.as_bytes());
        if password.is_empty() {
            return self.write(at, None, audit("password remove")).await;
        }
        if !PASSWORD_BYTES.contains(&password.len()) || password == name {
            return Err(AccountError::Invalid(
                "password",
                "use 12-256 bytes, and not the name".to_owned(),
            ));
        }
        let salt = random::<16>().to_vec();
        let record = Password {
            hash: self.hash(password, salt.clone(), ARGON2).await?,
            salt,
            cost: ARGON2,
        };
        self.write(at, Some(to_json(&record)), audit("password set"))
            .await
    }

    /// Whether a person signs in with a password.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn has_password(&self, name: &str) -> Result<bool, AccountError> {
        let found = self.store.get(&key(ACCOUNT, name.as_bytes())).await?;
        Ok(found.is_some())
    }

    /// Whether this is that person's password, tried from an address.
    ///
    /// # Errors
    /// Where it is not, or too many were tried.
    pub async fn sign_in(
        &self,
        name: &str,
        password: String,
        from: IpAddr,
    ) -> Result<(), AccountError> {
        if name.len() > NAME_BYTES_MAX {
            return Err(AccountError::Wrong);
        }
        let attempt = self.attempts().take(name, from, Instant::now());
        let attempt = attempt.ok_or(AccountError::TooMany)?;
        if password.len() > *PASSWORD_BYTES.end() {
            return Err(AccountError::Wrong);
        }
        let stored = self.store.get(&key(ACCOUNT, name.as_bytes())).await?;
        let stored = stored.and_then(|v| serde_json::from_slice::<Password>(&v.value).ok());
        let known = stored.is_some();
        // A name that is not there costs as much time as one that is.
        let stored = stored.unwrap_or(Password {
            salt: vec![0; 16],
            hash: Vec::new(),
            cost: ARGON2,
        });
        let tried = self.hash(password, stored.salt, stored.cost).await?;
        // Both sides are outputs of a key derivation: where they differ first tells nothing.
        if known && sha256(&tried) == sha256(&stored.hash) {
            self.attempts().forgive(name, from);
            let how = format!("password, from {from}");
            return self.note_session("session open", name, how).await;
        }
        if known && attempt.last {
            let how = format!("wrong passwords, from {from}: none is looked at for 15 minutes");
            self.note_session("session refuse", name, how).await?;
        }
        Err(AccountError::Wrong)
    }

    /// Says in the audit log what somebody did.
    ///
    /// # Errors
    /// Where the store fails: then nobody is signed in unseen.
    pub async fn note(&self, entry: AuditEntry) -> Result<(), AccountError> {
        let mut write = batch(&self.fence);
        write.audit.push(audit_bytes(&entry));
        match commit(&self.store, write).await? {
            Settled::Ok => Ok(()),
            Settled::Fenced | Settled::Conflict => Err(AccountError::Fenced),
        }
    }

    /// Says in the audit log who signed in, or failed to, and how.
    ///
    /// # Errors
    /// See [`note`](Self::note).
    pub async fn note_session(
        &self,
        action: &str,
        name: &str,
        how: String,
    ) -> Result<(), AccountError> {
        let entry = AuditEntry {
            actor: name.to_owned(),
            action: action.to_owned(),
            object: String::new(),
            reason: how,
        };
        self.note(entry).await
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an API token; its text is answered once, and not when the same order is repeated.
    ///
    /// # Errors
    /// A field that cannot be what it is, or where the store fails.
    pub async fn create_token(
        &self,
        request: RequestId,
        owner: &str,
        label: String,
        grants: Vec<Grant>,
        life: Millis,
    ) -> Result<(ApiToken, Option<String>), AccountError> {
        let invalid = |field, why: &str| Err(AccountError::Invalid(field, why.to_owned()));
        if !(1..=64).contains(&label.len()) || label.chars().any(char::is_control) {
            return invalid("label", "use 1-64 bytes without control characters");
        }
        if life < Millis::secs(1) || life > TOKEN_LIFE_MAX {
            return invalid("life_ms", "use 1 s to 366 days");
        }
        ringward_server_core::people::check_grants(owner, &grants)
            .map_err(|(_, why)| AccountError::Invalid("grants", why))?;
        let _turn = self.making.lock().await;
        let all = self.tokens().await?;
        if let Some(made) = all.iter().find(|token| token.request == request) {
            return Ok((made.clone(), None));
        }
        let now = unix_ms();
        let dead: Vec<&ApiToken> = all.iter().filter(|token| !token.is_live(now)).collect();
        if all.len() - dead.len() >= TOKENS_MAX {
            return invalid("label", "there are 1,000 API tokens; revoke some first");
        }
        let text = format!("{TOKEN_PREFIX}{}", Sha256(random::<32>()));
        let token = ApiToken {
            hash: sha256(text.as_bytes()),
            owner: owner.to_owned(),
            label,
            grants,
            expires_unix_ms: now.saturating_add(life.0),
            revoked: false,
            request,
        };
        let audit = AuditEntry {
            actor: owner.to_owned(),
            action: "api-token create".to_owned(),
            object: token.id(),
            reason: token.label.clone(),
        };
        self.write(key(API_TOKEN, &token.hash.0), Some(to_json(&token)), audit)
            .await?;
        Ok((token, Some(text)))
    }

    /// Every API token.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn tokens(&self) -> Result<Vec<ApiToken>, AccountError> {
        let (mut all, mut after) = (Vec::new(), None::<Vec<u8>>);
        loop {
            let page = self.store.list(API_TOKEN, after.as_deref(), 500).await?;
            let read = |value: &[u8]| serde_json::from_slice::<ApiToken>(value).ok();
            all.extend(page.iter().filter_map(|(_, value)| read(&value.value)));
            match page.last() {
                Some((last, _)) if page.len() == 500 => after = Some(last.id.clone()),
                _ => return Ok(all),
            }
        }
    }

    /// Ends an API token for good. `owner`: only that person's; `None`: anybody's.
    ///
    /// # Errors
    /// Where there is none, or the store fails.
    pub async fn revoke_token(
        &self,
        by: &str,
        owner: Option<&str>,
        id: &str,
        reason: &str,
    ) -> Result<ApiToken, AccountError> {
        let mut all = self.tokens().await?.into_iter();
        let found = all.find(|t| t.id() == id && owner.is_none_or(|owner| t.owner == owner));
        let mut token = found.ok_or(AccountError::Unknown)?;
        token.revoked = true;
        let audit = AuditEntry {
            actor: by.to_owned(),
            action: "api-token revoke".to_owned(),
            object: token.id(),
            reason: reason.to_owned(),
        };
        self.write(key(API_TOKEN, &token.hash.0), Some(to_json(&token)), audit)
            .await?;
        if let Some(ended) = self.shown().remove(&token.hash) {
            ended.cancel();
        }
        Ok(token)
    }

    /// Fires when a live token ends, by its time or by a person.
    pub fn end_of(&self, token: &ApiToken) -> CancellationToken {
        let mut shown = self.shown();
        shown.retain(|_, ended| !ended.is_cancelled());
        if let Some(ended) = shown.get(&token.hash) {
            return ended.clone();
        }
        let ended = self.stop.child_token();
        shown.insert(token.hash, ended.clone());
        let left = Duration::from_millis(token.expires_unix_ms.saturating_sub(unix_ms()));
        let by_time = ended.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = by_time.cancelled() => {}
                () = tokio::time::sleep(left) => by_time.cancel(),
            }
        });
        ended
    }

    fn shown(&self) -> MutexGuard<'_, BTreeMap<Sha256, CancellationToken>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The live token of this text.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn token(&self, text: &str) -> Result<Option<ApiToken>, AccountError> {
        if !text.starts_with(TOKEN_PREFIX) {
            return Ok(None);
        }
        let hash = sha256(text.as_bytes());
        let stored = self.store.get(&key(API_TOKEN, &hash.0)).await?;
        let token = stored.and_then(|v| serde_json::from_slice::<ApiToken>(&v.value).ok());
        Ok(token.filter(|token| token.is_live(unix_ms())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ringward_domain::people::Role;

    async fn accounts() -> Arc<Accounts> {
        let store = Arc::new(AnyStore::mem());
        let token = store.lease("control", "test", 0, 1_000_000).await;
        let fence = token.unwrap().unwrap();
        Arc::new(Accounts::new(store, fence, CancellationToken::new()))
    }

    const GOOD: &str = "correct horse battery";
    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_200_parallel_attempts_only_five_are_looked_at() {
        let accounts = accounts().await;
        accounts
            .set_password("ada", "bea", GOOD.into(), "")
            .await
            .unwrap();
        let tries: Vec<_> = (0..200)
            .map(|n| {
                let accounts = Arc::clone(&accounts);
                tokio::spawn(async move {
                    accounts
                        .sign_in("bea", format!("wrong {n:012}"), HERE)
                        .await
                })
            })
            .collect();
        let mut looked_at = 0;
        for tried in tries {
            match tried.await.unwrap() {
                Err(AccountError::Wrong) => looked_at += 1,
                Err(AccountError::TooMany) => {}
                other => panic!("{other:?}"),
            }
        }
        assert!((1..=5).contains(&looked_at), "{looked_at}");
        let late = accounts.sign_in("bea", GOOD.into(), HERE).await;
        assert!(matches!(late, Err(AccountError::TooMany)), "{late:?}");
    }

    #[tokio::test]
    async fn a_password_signs_in_until_it_is_taken_away_and_is_not_in_the_store() {
        let accounts = accounts().await;
        let short = accounts
            .set_password("ada", "bea", "short".into(), "")
            .await;
        assert!(matches!(short, Err(AccountError::Invalid(..))));
        accounts
            .set_password("ada", "bea", GOOD.into(), "")
            .await
            .unwrap();
        accounts.sign_in("bea", GOOD.into(), HERE).await.unwrap();
        assert!(accounts.sign_in("bob", GOOD.into(), HERE).await.is_err());
        let stored = accounts.store.get(&key(ACCOUNT, b"bea")).await.unwrap();
        let text = String::from_utf8(stored.unwrap().value).unwrap();
        assert!(!text.contains(GOOD));
        accounts
            .set_password("ada", "bea", String::new(), "left")
            .await
            .unwrap();
        assert!(accounts.sign_in("bea", GOOD.into(), HERE).await.is_err());
    }

    #[tokio::test]
    async fn a_token_is_shown_once_kept_as_a_hash_and_ends() {
        let accounts = accounts().await;
        let grants = vec![Grant {
            role: Role::Viewer,
            selector: None,
        }];
        let request = RequestId([7; 16]);
        let make = || {
            let hour = Millis::hours(1);
            accounts.create_token(request, "ada", "ci".into(), grants.clone(), hour)
        };
        let (made, text) = make().await.unwrap();
        let text = text.unwrap();
        assert_eq!(make().await.unwrap().1, None);
        let found = accounts.token(&text).await.unwrap().unwrap();
        assert_eq!((found.owner.as_str(), found.id()), ("ada", made.id()));
        assert!(accounts.token("rwapi_no").await.unwrap().is_none());
        let other = accounts
            .revoke_token("eve", Some("eve"), &made.id(), "")
            .await;
        assert!(matches!(other, Err(AccountError::Unknown)));
        accounts
            .revoke_token("ada", Some("ada"), &made.id(), "")
            .await
            .unwrap();
        assert!(accounts.token(&text).await.unwrap().is_none());
    }
}
