//! Enrolment tokens at rest: only the hash of the secret is kept, and a use is taken by the same
//! commit that notes which key took it.

use crate::clock::unix_ms;
use crate::storage::{Settled, audit_bytes, batch, commit, to_json};
use ipnet::IpNet;
use ringward_domain::command::Refusal;
use ringward_domain::host::{Facts, Labels};
use ringward_domain::{HostId, RequestId, Sha256, limits};
use ringward_server_core::event::AuditEntry;
use ringward_server_core::selector::Selector;
use ringward_store::{AnyStore, Fence, Key, Store, StoreError};
use ringward_wire::token::{Secret, TokenSpec, TokenView};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::Mutex;

const TOKEN: &str = KIND;
/// Kind of tokens in the store.
pub(crate) const KIND: &str = "token";
/// Which key took a use of which token, and the host it became: repeated, it gets the same answer.
const ENROLMENT: &str = "enrolment";
/// Which token a command made: repeated, it makes no second one.
const TOKEN_REQUEST: &str = "token-request";
/// Hosts that may join by one token.
const USES_MAX: u32 = 1_000_000;
/// Longest life of a token: a year; a secret that lives longer is a password.
const LIFE_MS_MAX: u64 = 365 * 86_400_000;
/// How long an ephemeral host may be silent.
const EPHEMERAL_MS: std::ops::RangeInclusive<u64> = 60_000..=LIFE_MS_MAX;
/// Tries against other replicas that spend the same token; in this process spends queue up.
const TRIES: u32 = 32;

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct TokenRecord {
    hash: Sha256,
    spec: TokenSpec,
    used: u32,
    revoked: bool,
    created_unix_ms: u64,
    expires_unix_ms: u64,
    created_by: String,
    reason: String,
}

impl TokenRecord {
    fn view(&self, now_unix_ms: u64) -> TokenView {
        let mut id = self.hash.to_string();
        id.truncate(16);
        TokenView {
            id,
            spec: self.spec.clone(),
            used: self.used,
            revoked: self.revoked,
            expired: now_unix_ms >= self.expires_unix_ms,
            created_unix_ms: self.created_unix_ms,
            expires_unix_ms: self.expires_unix_ms,
            created_by: self.created_by.clone(),
            reason: self.reason.clone(),
        }
    }
}

/// A use that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// The host this key becomes.
    pub host: HostId,
    /// What the token gives.
    pub spec: TokenSpec,
    /// The token's name.
    pub token: String,
    /// The same key took it before: nothing was taken now.
    pub repeated: bool,
}

/// Why a token was not spent, or not read or written.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// No such token. Says the same of a wrong secret and of a forgotten token.
    #[error(
        "the enrolment token is not known here; ask for a new one (`ringwardctl tokens create`)"
    )]
    Unknown,
    /// Its life has passed.
    #[error("the enrolment token has expired; ask for a new one (`ringwardctl tokens create`)")]
    Expired,
    /// A person ended it.
    #[error("the enrolment token was revoked; ask for a new one (`ringwardctl tokens create`)")]
    Revoked,
    /// The host connects from elsewhere.
    #[error(
        "the enrolment token is not meant for hosts at {address}; ask for one that names its network"
    )]
    Elsewhere {
        /// Where the host connects from.
        address: IpAddr,
    },
    /// The host is not of those it is meant for.
    #[error("the enrolment token is only meant for hosts with `{only}`; ask for another one")]
    NotMeant {
        /// The token's selector.
        only: String,
    },
    /// Every use is taken.
    #[error("the enrolment token is used up; ask for a new one (`ringwardctl tokens create`)")]
    UsedUp,
    /// Others spend it at the same time; try again.
    #[error("the enrolment token is being used by others at this moment; try again")]
    Busy,
    /// Another server decides.
    #[error("this server does not hold the lease; try another")]
    Fenced,
    /// The store failed.
    #[error("the server cannot write at this moment; try again later")]
    Store(#[from] StoreError),
    /// The request makes no sense.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The tokens of a server.
#[derive(Debug)]
pub struct Tokens {
    store: Arc<AnyStore>,
    fence: Fence,
    /// Spends of this process one after another: they check the same keys.
    spending: Mutex<()>,
}

/// A stored token as it stands after a restore: dead. A use that was taken after the backup would be
/// there again. What cannot be read stays as it is: nobody can spend it.
pub(crate) fn revoked(value: &[u8]) -> Vec<u8> {
    match read(value) {
        Ok(record) => to_json(&TokenRecord {
            revoked: true,
            ..record
        }),
        Err(_) => value.to_vec(),
    }
}

/// Who orders, under which id and why.
#[derive(Debug, Clone)]
pub struct Order {
    /// Makes it idempotent.
    pub request: RequestId,
    /// Subject of the verified certificate.
    pub actor: String,
    /// In the person's words.
    pub reason: String,
    /// Say what would happen, and do nothing.
    pub dry_run: bool,
}

fn key(kind: &'static str, id: &[u8]) -> Key {
    Key {
        kind,
        id: id.to_vec(),
    }
}

fn read(value: &[u8]) -> Result<TokenRecord, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::Damaged {
        what: "a stored token".to_owned(),
        why: error.to_string(),
    })
}

fn invalid(field: &str, why: &str) -> TokenError {
    TokenError::Refused(Refusal::Invalid {
        field: field.to_owned(),
        why: why.to_owned(),
    })
}

impl Tokens {
    /// The tokens of this store.
    pub fn new(store: Arc<AnyStore>, fence: Fence) -> Self {
        Self {
            store,
            fence,
            spending: Mutex::new(()),
        }
    }

    /// Makes a token. Answers what is kept, and whether it was made now: repeated with the same
    /// request id, the first one is shown and the secret given is not the token's.
    ///
    /// # Errors
    /// Where the order makes no sense or the store fails.
    pub async fn create(
        &self,
        order: &Order,
        spec: TokenSpec,
        secret: &Secret,
    ) -> Result<(TokenView, bool), TokenError> {
        check_spec(&spec)?;
        let now = unix_ms();
        let record = TokenRecord {
            hash: secret.hash(),
            used: 0,
            revoked: false,
            created_unix_ms: now,
            expires_unix_ms: now.saturating_add(spec.life_ms.0),
            created_by: order.actor.clone(),
            reason: order.reason.clone(),
            spec,
        };
        if order.dry_run {
            return Ok((record.view(now), true));
        }
        let request = key(TOKEN_REQUEST, &order.request.0);
        let mut write = batch(&self.fence);
        write.checks = vec![(request.clone(), None)];
        write.puts = vec![
            (key(TOKEN, &record.hash.0), to_json(&record)),
            (request.clone(), record.hash.0.to_vec()),
        ];
        write.audit = vec![audit(order, "token create", &record.view(now).id)];
        match commit(&self.store, write).await? {
            Settled::Ok => Ok((record.view(now), true)),
            Settled::Fenced => Err(TokenError::Fenced),
            Settled::Conflict => {
                let made = self.store.get(&request).await?.ok_or(TokenError::Busy)?;
                let made = self
                    .store
                    .get(&key(TOKEN, &made.value))
                    .await?
                    .ok_or(TokenError::Unknown)?;
                Ok((read(&made.value)?.view(now), false))
            }
        }
    }

    /// A page of tokens in the order of their hash, after the token's hash given.
    ///
    /// # Errors
    /// Where the store fails.
    pub async fn list(
        &self,
        after: &[u8],
        limit: usize,
    ) -> Result<(Vec<TokenView>, Vec<u8>), TokenError> {
        let after = (!after.is_empty()).then_some(after);
        let page = self.store.list(TOKEN, after, limit).await?;
        let next = match page.last() {
            Some((last, _)) if page.len() == limit => last.id.clone(),
            _ => Vec::new(),
        };
        let now = unix_ms();
        let views = page
            .iter()
            .map(|(_, value)| read(&value.value).map(|record| record.view(now)))
            .collect::<Result<_, _>>()?;
        Ok((views, next))
    }

    /// Ends a token for good; answers whether it was alive.
    ///
    /// # Errors
    /// Where there is none of that name, or the store fails.
    pub async fn revoke(&self, order: &Order, id: &str) -> Result<(TokenView, bool), TokenError> {
        let start = token_id_bytes(id).ok_or_else(|| {
            invalid(
                "id",
                "must be the 16 hexadecimal digits that `tokens list` shows",
            )
        })?;
        let _turn = self.spending.lock().await;
        for _ in 0..TRIES {
            // The names are the hash's first 8 bytes: the first hash at or after them is the one.
            let before = previous(start);
            let page = self.store.list(TOKEN, before.as_deref(), 1).await?;
            let Some((token, stored)) = page.first().filter(|(k, _)| k.id.starts_with(&start))
            else {
                return Err(TokenError::Refused(Refusal::NotFound {
                    what: "token".to_owned(),
                    id: id.to_owned(),
                    next: "list them with `ringwardctl tokens list`".to_owned(),
                }));
            };
            let mut record = read(&stored.value)?;
            let now = unix_ms();
            if record.revoked || order.dry_run {
                return Ok((record.view(now), !record.revoked));
            }
            record.revoked = true;
            let mut write = batch(&self.fence);
            write.checks = vec![(token.clone(), Some(stored.version))];
            write.puts = vec![(token.clone(), to_json(&record))];
            write.audit = vec![audit(order, "token revoke", id)];
            match commit(&self.store, write).await? {
                Settled::Ok => return Ok((record.view(now), true)),
                Settled::Fenced => return Err(TokenError::Fenced),
                Settled::Conflict => {}
            }
        }
        Err(TokenError::Busy)
    }

    /// Takes one use for a key, atomically: of any number of spends at once no more win than the
    /// token has uses. The same key again gets the host it got before.
    ///
    /// # Errors
    /// Where the token cannot be spent, or the store fails.
    pub async fn spend(
        &self,
        secret: &Secret,
        spender: Sha256,
        from: IpAddr,
        facts: &Facts,
    ) -> Result<Spent, TokenError> {
        let hash = secret.hash();
        let token = key(TOKEN, &hash.0);
        let enrolment = key(ENROLMENT, &[hash.0, spender.0].concat());
        let _turn = self.spending.lock().await;
        for _ in 0..TRIES {
            let stored = self.store.get(&token).await?.ok_or(TokenError::Unknown)?;
            let mut record = read(&stored.value)?;
            let before = self.store.get(&enrolment).await?;
            let spent = |host, repeated| Spent {
                host,
                spec: record.spec.clone(),
                token: record.view(0).id,
                repeated,
            };
            if record.revoked {
                return Err(TokenError::Revoked);
            }
            if unix_ms() >= record.expires_unix_ms {
                return Err(TokenError::Expired);
            }
            if let Some(before) = before {
                let host = before.value.as_slice().try_into().map(u64::from_be_bytes);
                let host = host.map_err(|_| StoreError::Damaged {
                    what: "a stored enrolment".to_owned(),
                    why: "it names no host".to_owned(),
                })?;
                return Ok(spent(HostId(host), true));
            }
            meant_for(&record.spec, from, facts)?;
            if record.used >= record.spec.uses {
                return Err(TokenError::UsedUp);
            }
            let spent = spent(HostId(u64::from_be_bytes(crate::pki::random::<8>())), false);
            record.used += 1;
            let mut write = batch(&self.fence);
            write.checks = vec![
                (token.clone(), Some(stored.version)),
                (enrolment.clone(), None),
            ];
            write.puts = vec![
                (token.clone(), to_json(&record)),
                (enrolment.clone(), spent.host.0.to_be_bytes().to_vec()),
            ];
            match commit(&self.store, write).await? {
                Settled::Ok => return Ok(spent),
                Settled::Fenced => return Err(TokenError::Fenced),
                Settled::Conflict => {}
            }
        }
        Err(TokenError::Busy)
    }
}

fn audit(order: &Order, action: &str, token: &str) -> Vec<u8> {
    audit_bytes(&AuditEntry {
        actor: order.actor.clone(),
        action: action.to_owned(),
        object: format!("token {token}"),
        reason: order.reason.clone(),
    })
}

/// Whether a token is meant for this host, by where it connects from and what it says of itself.
fn meant_for(spec: &TokenSpec, from: IpAddr, facts: &Facts) -> Result<(), TokenError> {
    let from = from.to_canonical();
    // Read when the token was made; what cannot be read now lets nobody in.
    let within = |network: &String| {
        network
            .parse::<IpNet>()
            .is_ok_and(|net| net.contains(&from))
    };
    if !spec.networks.is_empty() && !spec.networks.iter().any(within) {
        return Err(TokenError::Elsewhere { address: from });
    }
    let says = Labels::from([
        ("os".to_owned(), kebab(&facts.os)),
        ("arch".to_owned(), kebab(&facts.arch)),
        ("hostname".to_owned(), facts.hostname.clone()),
    ]);
    let fits = |only: &str| {
        only.parse::<Selector>()
            .is_ok_and(|only| only.matches(&says))
    };
    if !spec.only.is_empty() && !fits(&spec.only) {
        return Err(TokenError::NotMeant {
            only: spec.only.clone(),
        });
    }
    Ok(())
}

/// A value as selectors and files write it.
fn kebab<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_value(value).ok();
    text.and_then(|text| text.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn check_spec(spec: &TokenSpec) -> Result<(), TokenError> {
    if !(1..=USES_MAX).contains(&spec.uses) {
        return Err(invalid("spec.uses", "must be 1 to 1,000,000"));
    }
    if !(1_000..=LIFE_MS_MAX).contains(&spec.life_ms.0) {
        return Err(invalid("spec.life_ms", "must be 1 s to 365 days"));
    }
    if let Some(bad) = spec.networks.iter().find(|n| n.parse::<IpNet>().is_err()) {
        let why = format!("{bad:?} is no network; write it as in 10.2.0.0/16");
        return Err(invalid("spec.networks", &why));
    }
    if let Err(error) = spec.only.parse::<Selector>()
        && !spec.only.is_empty()
    {
        return Err(invalid("spec.only", &error.to_string()));
    }
    if spec
        .ephemeral_ms
        .is_some_and(|ttl| !EPHEMERAL_MS.contains(&ttl.0))
    {
        return Err(invalid("spec.ephemeral_ms", "must be 1 min to 365 days"));
    }
    let too_long = |text: &str| text.len() > limits::LABEL_BYTES_MAX;
    if spec.labels.len() > limits::LABELS_MAX
        || spec.labels.iter().any(|(k, v)| too_long(k) || too_long(v))
    {
        return Err(invalid(
            "spec.labels",
            "must be 64 at most, keys and values 128 bytes at most",
        ));
    }
    Ok(())
}

fn token_id_bytes(id: &str) -> Option<[u8; 8]> {
    let fits = id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
    fits.then(|| u64::from_str_radix(id, 16).ok())
        .flatten()
        .map(u64::to_be_bytes)
}

/// The greatest hash before every one that starts with these bytes; `None` before all.
fn previous(start: [u8; 8]) -> Option<Vec<u8>> {
    let before = u64::from_be_bytes(start).checked_sub(1)?;
    Some([before.to_be_bytes().as_slice(), &[0xff; 24]].concat())
}

#[cfg(test)]
mod tests;
