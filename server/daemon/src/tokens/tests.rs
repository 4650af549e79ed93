//! Tokens on a store in memory.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::pki::random;
use crate::storage::LEASE;
use ringward_domain::Millis;
use ringward_domain::host::{Arch, GuardTier, Os};

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
        ephemeral_ms: None,
        networks: Vec::new(),
        only: String::new(),
    }
}

fn facts() -> Facts {
    Facts {
        hostname: "till-1".to_owned(),
        os: Os::Linux,
        os_build: String::new(),
        arch: Arch::X86_64,
        kernel: String::new(),
        model: String::new(),
        fingerprint: String::new(),
        memory_mib: 1,
        cpus: 1,
        guard_tier: GuardTier::None,
    }
}

async fn spend(tokens: &Tokens, secret: &Secret, spender: Sha256) -> Result<Spent, TokenError> {
    let from = IpAddr::from([10, 2, 0, 7]);
    tokens.spend(secret, spender, from, &facts()).await
}

fn fresh_secret() -> Secret {
    Secret::new(random())
}

/// The race: through one process the spends queue up, so four replicas of one store spend too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_200_spends_at_once_exactly_one_wins_in_each_of_100_rounds() {
    let first = tokens().await;
    let replicas: Vec<_> = (0..4)
        .map(|_| Arc::new(Tokens::new(Arc::clone(&first.store), first.fence.clone())))
        .collect();
    for round in 0..100 {
        let secret = fresh_secret();
        first.create(&order(), spec(1), &secret).await.unwrap();
        let spends: Vec<_> = (0..200)
            .map(|i| {
                let (tokens, secret) = (Arc::clone(&replicas[i % 4]), secret.clone());
                tokio::spawn(async move { spend(&tokens, &secret, Sha256(random())).await })
            })
            .collect();
        let mut won = 0;
        for spend in spends {
            match spend.await.unwrap() {
                Ok(_) => won += 1,
                Err(TokenError::UsedUp) => {}
                Err(other) => panic!("round {round}: {other}"),
            }
        }
        assert_eq!(won, 1, "round {round}");
    }
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
            tokio::spawn(async move { spend(&tokens, &secret, Sha256(random())).await.is_ok() })
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
    let first = spend(&tokens, &secret, key).await.unwrap();
    let again = spend(&tokens, &secret, key).await.unwrap();
    assert_eq!(first.host, again.host);
    assert!(again.repeated);
}

#[tokio::test]
async fn wrong_expired_and_revoked_tokens_are_refused() {
    let tokens = tokens().await;
    let key = Sha256(random());
    assert!(matches!(
        spend(&tokens, &fresh_secret(), key).await,
        Err(TokenError::Unknown)
    ));
    let secret = fresh_secret();
    let (view, _) = tokens.create(&order(), spec(1), &secret).await.unwrap();
    assert!(tokens.revoke(&order(), &view.id).await.unwrap().1);
    assert!(matches!(
        spend(&tokens, &secret, key).await,
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
    spend(&tokens, &secret, Sha256(random())).await.unwrap();
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

#[tokio::test]
async fn an_expired_token_is_refused_whoever_shows_it() {
    let tokens = tokens().await;
    let secret = fresh_secret();
    tokens.create(&order(), spec(5), &secret).await.unwrap();
    let key = Sha256(random());
    spend(&tokens, &secret, key).await.unwrap();
    let at = super::key(TOKEN, &secret.hash().0);
    let stored = tokens.store.get(&at).await.unwrap().unwrap();
    let mut record = read(&stored.value).unwrap();
    record.expires_unix_ms = unix_ms() - 1;
    let mut write = batch(&tokens.fence);
    write.puts = vec![(at, to_json(&record))];
    commit(&tokens.store, write).await.unwrap();
    for who in [Sha256(random()), key] {
        let late = spend(&tokens, &secret, who).await;
        assert!(matches!(late, Err(TokenError::Expired)), "{late:?}");
    }
}

#[tokio::test]
async fn a_token_lets_in_only_whom_it_is_meant_for() {
    let tokens = tokens().await;
    let try_with = async |networks: &[&str], only: &str| {
        let secret = fresh_secret();
        let spec = TokenSpec {
            networks: networks.iter().map(|n| (*n).to_owned()).collect(),
            only: only.to_owned(),
            ..spec(1)
        };
        tokens.create(&order(), spec, &secret).await?;
        spend(&tokens, &secret, Sha256(random())).await
    };
    for (networks, only) in [
        (&["10.0.0.0/8"][..], "os=linux"),
        (&["192.0.2.0/24", "10.2.0.7/32"][..], ""),
        (&[][..], "hostname in (till-1,till-2),arch=x86-64"),
    ] {
        assert!(
            try_with(networks, only).await.is_ok(),
            "{networks:?} {only}"
        );
    }
    let elsewhere = try_with(&["192.0.2.0/24", "2001:db8::/32"], "").await;
    assert!(matches!(elsewhere, Err(TokenError::Elsewhere { .. })));
    let other = try_with(&[], "os=windows").await;
    assert!(matches!(other, Err(TokenError::NotMeant { .. })));
    for (networks, only, field) in [
        (&["10.0.0.0/33"][..], "", "spec.networks"),
        (&["everywhere"][..], "", "spec.networks"),
        (&[][..], "os=", "spec.only"),
    ] {
        let refused = try_with(networks, only).await.unwrap_err().to_string();
        assert!(refused.contains(field), "{refused}");
    }
}
