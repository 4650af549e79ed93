//! The embedded store against the one in memory: any sequence of operations, closed and opened again
//! anywhere, is answered alike and leaves the same.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Kind, Rig, batch, key};
use proptest::collection::vec;
use proptest::prelude::*;
use ringward_store::{Batch, Bounds, Fence, HOST_ATTRIBUTES, Key, Store};

const KINDS: [&str; 2] = ["host", "hosts"];
const BOUNDS: Bounds = Bounds {
    requests: 8,
    changes: 12,
};

#[derive(Debug, Clone, Copy)]
enum Check {
    Absent,
    Current,
    Stale,
}

#[derive(Debug, Clone)]
struct Commit {
    request: u64,
    /// The token's distance from the lease's.
    fence: Option<u64>,
    checks: Vec<(u8, Check)>,
    puts: Vec<(u8, usize)>,
    deletes: Vec<u8>,
    audit: Vec<usize>,
    signals: Vec<(u64, u64, usize)>,
}

#[derive(Debug, Clone)]
enum Op {
    Commit(Commit),
    Hosts(Vec<(u8, usize)>),
    Signals(Vec<(u64, u64, usize)>),
    Lease { holder: u8, wait_ms: u64 },
    Trim { kind: u8, back: u64 },
    Reopen,
}

fn len() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 0..200_usize, 1 => 4000..4200_usize, 1 => 8000..30_000_usize]
}

fn signals() -> impl Strategy<Value = Vec<(u64, u64, usize)>> {
    vec((0..3_u64, 0..12_u64, len()), 0..4)
}

fn commit() -> impl Strategy<Value = Commit> {
    let check = prop_oneof![
        1 => Just(Check::Absent),
        6 => Just(Check::Current),
        1 => Just(Check::Stale),
    ];
    (
        1..30_u64,
        prop::option::weighted(0.2, prop_oneof![3 => Just(0_u64), 1 => Just(1)]),
        vec((0..16_u8, check), 0..3),
        vec((0..16_u8, len()), 0..4),
        vec(0..16_u8, 0..2),
        vec(len(), 0..3),
        signals(),
    )
        .prop_map(
            |(request, fence, checks, puts, deletes, audit, signals)| Commit {
                request,
                fence,
                checks,
                puts,
                deletes,
                audit,
                signals,
            },
        )
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => commit().prop_map(Op::Commit),
        1 => vec((0..5_u8, len()), 0..4).prop_map(Op::Hosts),
        2 => signals().prop_map(Op::Signals),
        2 => (0..2_u8, 0..9_u64).prop_map(|(holder, wait_ms)| Op::Lease { holder, wait_ms }),
        2 => (0..4_u8, 0..12_u64).prop_map(|(kind, back)| Op::Trim { kind, back }),
        2 => Just(Op::Reopen),
    ]
}

fn host(n: u8) -> Key {
    key(KINDS[usize::from(n % 2)], [n / 2])
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i + len) as u8).collect()
}

struct Pair {
    model: Rig,
    sled: Rig,
    now_ms: u64,
    newest: u64,
    token: u64,
}

impl Pair {
    async fn batch(&self, commit: &Commit) -> Batch {
        let mut made = batch(commit.request);
        made.fence = commit.fence.map(|off| Fence {
            name: "planner".into(),
            token: self.token + off,
        });
        for (at, check) in &commit.checks {
            let stored = self.model.store().get(&host(*at)).await.unwrap();
            let version = match check {
                Check::Absent => None,
                Check::Current => stored.map(|stored| stored.version),
                Check::Stale => Some(stored.map_or(1, |stored| stored.version + 1)),
            };
            made.checks.push((host(*at), version));
        }
        let puts = commit.puts.iter();
        made.puts = puts.map(|(at, len)| (host(*at), bytes(*len))).collect();
        made.deletes = commit.deletes.iter().map(|at| host(*at)).collect();
        made.audit = commit.audit.iter().map(|len| bytes(*len)).collect();
        made.signals = signals_of(&commit.signals);
        made
    }

    async fn run(&mut self, op: &Op) {
        let (model, sled) = (self.model.store(), self.sled.store());
        match op {
            Op::Commit(commit) => {
                let made = self.batch(commit).await;
                let expected = model.commit(made.clone()).await.unwrap();
                assert_eq!(sled.commit(made).await.unwrap(), expected);
                if let ringward_store::Committed::Ok(seq) = expected {
                    self.newest = self.newest.max(seq);
                }
            }
            Op::Hosts(hosts) => {
                let hosts = hosts.iter().map(|(id, len)| (vec![*id], bytes(*len)));
                let hosts: Vec<_> = hosts.collect();
                model.put_hosts(hosts.clone()).await.unwrap();
                sled.put_hosts(hosts).await.unwrap();
            }
            Op::Signals(signals) => {
                model.add_signals(signals_of(signals)).await.unwrap();
                sled.add_signals(signals_of(signals)).await.unwrap();
            }
            Op::Lease { holder, wait_ms } => {
                self.now_ms += wait_ms;
                let (holder, now) = (holder.to_string(), self.now_ms);
                let expected = model.lease("planner", &holder, now, 10).await.unwrap();
                let taken = sled.lease("planner", &holder, now, 10).await.unwrap();
                assert_eq!(taken, expected);
                self.token = expected.map_or(self.token, |fence| fence.token);
            }
            Op::Trim { kind, back } => {
                let kind = ["signal", "change", "request", "audit"][usize::from(*kind)];
                let before = self.newest.saturating_sub(*back);
                let expected = model.trim(kind, before).await.ok();
                assert_eq!(sled.trim(kind, before).await.ok(), expected);
            }
            Op::Reopen => {
                self.sled.reopen();
                self.compare().await;
            }
        }
    }

    async fn compare(&self) {
        let (model, sled) = (self.model.store(), self.sled.store());
        for kind in [KINDS[0], KINDS[1], HOST_ATTRIBUTES] {
            let expected = model.list(kind, None, 1000).await.unwrap();
            assert_eq!(sled.list(kind, None, 1000).await.unwrap(), expected);
        }
        let expected = model.signals(None, None, 1000).await.unwrap();
        assert_eq!(sled.signals(None, None, 1000).await.unwrap(), expected);
        let counted = sled.count_signals().await.unwrap();
        assert_eq!(counted, model.count_signals().await.unwrap());
        assert_eq!(counted, expected.len() as u64);
        let expected = model.audit(0, 1000).await.unwrap();
        assert_eq!(sled.audit(0, 1000).await.unwrap(), expected);
        for after in self.newest.saturating_sub(14)..=self.newest {
            let expected = model.changes(after, 3).await.unwrap();
            assert_eq!(sled.changes(after, 3).await.unwrap(), expected);
        }
    }
}

fn signals_of(signals: &[(u64, u64, usize)]) -> Vec<(u64, u64, Vec<u8>)> {
    let signals = signals.iter();
    signals.map(|(h, s, len)| (*h, *s, bytes(*len))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn sled_answers_like_the_model(ops in vec(op(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair {
                model: Rig::bounded(Kind::Mem, BOUNDS),
                sled: Rig::bounded(Kind::Sled, BOUNDS),
                now_ms: 0,
                newest: 0,
                token: 0,
            };
            for op in &ops {
                pair.run(op).await;
            }
            pair.compare().await;
            pair.run(&Op::Reopen).await;
        });
    }
}
