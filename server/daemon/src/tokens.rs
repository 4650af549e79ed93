//! Enrolment tokens at rest: only the hash of the secret is kept, and a use is taken by the same
//! commit that notes which key took it.

use crate::clock::unix_ms;
use crate::storage::{Settled, audit_bytes, batch, commit, to_json};
use ringward_domain::command::Refusal;
use ringward_domain::{HostId, RequestId, Sha256, limits};
use ringward_server_core::event::AuditEntry;
use ringward_store::{AnyStore, Fence, Key, Store, StoreError};
use ringward_wire::token::{Secret, TokenSpec, TokenView};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::Mutex;

const TOKEN: &str = "token";
/// Which key took a use of which token, and the host it became: repeated, it gets the same answer.
const ENROLMENT: &str = "enrolment";
/// Which token a command made: repeated, it makes no second one.
const TOKEN_REQUEST: &str = "token-request";
/// Hosts that may join by one token.
const USES_MAX: u32 = 1_000_000;
/// Longest life of a token: a year; a secret that lives longer is a password.
const LIFE_MS_MAX: u64 = 365 * 86_400_000;
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
    pub async fn spend(&self, secret: &Secret, spender: Sha256) -> Result<Spent, TokenError> {
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

fn check_spec(spec: &TokenSpec) -> Result<(), TokenError> {
    if !(1..=USES_MAX).contains(&spec.uses) {
        return Err(invalid("spec.uses", "must be 1 to 1,000,000"));
    }
    if !(1_000..=LIFE_MS_MAX).contains(&spec.life_ms.0) {
        return Err(invalid("spec.life_ms", "must be 1 s to 365 days"));
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pki::random;
    use crate::storage::LEASE;
    use ringward_domain::Millis;

    async fn tokens() -> Tokens {
        let store = AnyStore::mem();
        let fence = store.lease(LEASE, "test", 0, 1_000).await.unwrap().unwrap();
        Tokens::new(Arc::new(store), fence)
    }

    fn order() -> Order {
        Order {
            request: RequestId(random()),
            actor: "ada".to_owned(),
            reason: "a test".to_owned(),
            dry_run: false,
        }
    }

    fn spec(uses: u32) -> TokenSpec {
        TokenSpec {
            uses,
            life_ms: Millis::hours(1),
            labels: [("site".to_owned(), "lab".to_owned())].into(),
            approve: true,
        }
    }

    fn fresh_secret() -> Secret {
        Secret::new(random())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_200_spends_at_once_exactly_one_wins() {
        let tokens = Arc::new(tokens().await);
        let secret = fresh_secret();
        tokens.create(&order(), spec(1), &secret).await.unwrap();
        let spends: Vec<_> = (0..200)
            .map(|_| {
                let (tokens, secret) = (Arc::clone(&tokens), secret.clone());
                tokio::spawn(async move { tokens.spend(&secret, Sha256(random())).await })
            })
            .collect();
        let mut won = 0;
        for spend in spends {
            match spend.await.unwrap() {
                Ok(_) => won += 1,
                Err(TokenError::UsedUp) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(won, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_replicas_of_one_store_spend_no_more_than_there_is() {
        let first = tokens().await;
        let second = Tokens::new(Arc::clone(&first.store), first.fence.clone());
        let secret = fresh_secret();
        first.create(&order(), spec(5), &secret).await.unwrap();
        let replicas = [Arc::new(first), Arc::new(second)];
        let spends: Vec<_> = (0..40)
            .map(|i| {
                let (tokens, secret) = (Arc::clone(&replicas[i % 2]), secret.clone());
                tokio::spawn(async move { tokens.spend(&secret, Sha256(random())).await.is_ok() })
            })
            .collect();
        let mut won = 0;
        for spend in spends {
            won += usize::from(spend.await.unwrap());
        }
        assert_eq!(won, 5);
    }

    #[tokio::test]
    async fn the_same_key_again_is_the_same_host_and_takes_no_use() {
        let tokens = tokens().await;
        let secret = fresh_secret();
        tokens.create(&order(), spec(1), &secret).await.unwrap();
        let key = Sha256(random());
        let first = tokens.spend(&secret, key).await.unwrap();
        let again = tokens.spend(&secret, key).await.unwrap();
        assert_eq!(first.host, again.host);
        assert!(again.repeated);
    }

    #[tokio::test]
    async fn wrong_expired_and_revoked_tokens_are_refused() {
        let tokens = tokens().await;
        let key = Sha256(random());
        assert!(matches!(
            tokens.spend(&fresh_secret(), key).await,
            Err(TokenError::Unknown)
        ));
        let secret = fresh_secret();
        let (view, _) = tokens.create(&order(), spec(1), &secret).await.unwrap();
        assert!(tokens.revoke(&order(), &view.id).await.unwrap().1);
        assert!(matches!(
            tokens.spend(&secret, key).await,
            Err(TokenError::Revoked)
        ));
        assert!(!tokens.revoke(&order(), &view.id).await.unwrap().1);
        let missing = tokens.revoke(&order(), &"0".repeat(16)).await;
        assert!(matches!(
            missing,
            Err(TokenError::Refused(Refusal::NotFound { .. }))
        ));
        let short = TokenSpec {
            life_ms: Millis(0),
            ..spec(1)
        };
        assert!(
            tokens
                .create(&order(), short, &fresh_secret())
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn a_repeated_order_makes_no_second_token_and_shows_no_secret() {
        let tokens = tokens().await;
        let order = order();
        let (first, made) = tokens
            .create(&order, spec(3), &fresh_secret())
            .await
            .unwrap();
        assert!(made);
        let (again, made) = tokens
            .create(&order, spec(3), &fresh_secret())
            .await
            .unwrap();
        assert!(!made);
        assert_eq!(first.id, again.id);
        assert_eq!(tokens.list(&[], 10).await.unwrap().0.len(), 1);
    }

    #[tokio::test]
    async fn the_secret_is_nowhere_in_the_store() {
        let tokens = tokens().await;
        let secret = fresh_secret();
        tokens.create(&order(), spec(3), &secret).await.unwrap();
        tokens.spend(&secret, Sha256(random())).await.unwrap();
        let hex = Sha256(*secret.expose()).to_string();
        for kind in [TOKEN, ENROLMENT, TOKEN_REQUEST] {
            for (key, value) in tokens.store.list(kind, None, 100).await.unwrap() {
                let text = String::from_utf8_lossy(&value.value).into_owned();
                assert!(!text.contains(&hex), "{kind}");
                assert!(
                    !value.value.windows(32).any(|w| w == secret.expose())
                        && !key.id.windows(32).any(|w| w == secret.expose())
                );
            }
        }
    }
}
