//! Commits one after the other, and what must be there after a crash.

use std::collections::BTreeMap;

use ringward_store::{Batch, Committed, Sled, Store};

use super::disk::Numbers;
use super::{batch, key, page};

/// The n-th commit of the workload with this seed: some hosts written and deleted, one audit entry,
/// signals; now and then as large as hundreds of pages.
pub fn commit(seed: u64, n: u64) -> Batch {
    let mut numbers = Numbers(seed.wrapping_mul(1_000_003).wrapping_add(n));
    let puts = if n % 7 == 3 { 40 } else { numbers.below(6) };
    let mut made = batch(n);
    for _ in 0..puts {
        let host = numbers.below(60) as u8;
        let len = numbers.below(if n.is_multiple_of(5) { 12_000 } else { 300 }) as usize;
        made.puts.push((key("host", [host]), vec![n as u8; len]));
    }
    for _ in 0..numbers.below(3) {
        let host = key("host", [numbers.below(60) as u8]);
        made.deletes.push(host);
    }
    made.audit.push(n.to_string().into_bytes());
    for seq in 0..numbers.below(4) {
        made.signals
            .push((numbers.below(9), n * 4 + seq, vec![n as u8; 100]));
    }
    made
}

/// What the first `commits` commits leave, or why the store holds something else. `acknowledged` of
/// them must be there, at most `issued`.
pub async fn check(store: &Sled, seed: u64, acknowledged: u64, issued: u64) -> Result<(), String> {
    let audit = store
        .audit(0, 100_000)
        .await
        .map_err(|why| why.to_string())?;
    let commits = audit.len() as u64;
    if commits < acknowledged || commits > issued {
        return Err(format!(
            "{commits} commits are there, {acknowledged} were acknowledged, {issued} issued"
        ));
    }
    let mut hosts = BTreeMap::new();
    let mut signals = BTreeMap::new();
    for n in 1..=commits {
        let made = commit(seed, n);
        hosts.extend(made.puts);
        for key in &made.deletes {
            hosts.remove(key);
        }
        for (host, seq, value) in made.signals {
            signals.insert((host, seq), value);
        }
        let entry = &audit[n as usize - 1];
        if entry.index != n - 1 || entry.entry != n.to_string().as_bytes() {
            return Err(format!("audit entry {entry:?} in place {n}"));
        }
        let again = store.commit(commit(seed, n)).await;
        if !matches!(again, Ok(Committed::Ok(seq)) if seq == n) {
            return Err(format!("commit {n} asked again: {again:?}"));
        }
    }
    let listed = store.list("host", None, 1000).await.unwrap();
    let listed: BTreeMap<_, _> = listed.into_iter().map(|(k, v)| (k, v.value)).collect();
    if listed != hosts {
        return Err(format!("the hosts are not those of {commits} commits"));
    }
    let stored = store.signals(None, None, 100_000).await.unwrap();
    let stored: BTreeMap<_, _> = stored
        .into_iter()
        .map(|s| ((s.host, s.seq), s.value))
        .collect();
    if stored != signals {
        return Err(format!("the signals are not those of {commits} commits"));
    }
    let newest = page(store.changes(0, 1_000_000).await)
        .last()
        .map_or(0, |c| c.0);
    if newest > commits {
        return Err(format!("the feed runs ahead to {newest}"));
    }
    Ok(())
}
