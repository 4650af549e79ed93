//! Arbitrary domain values, within the limits that an honest sender keeps.
#![allow(clippy::unwrap_used, dead_code)]

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use ringward_domain::cause::{Cause, CauseCount};
use ringward_domain::desired::{Assignment, AssignmentKind, Desired};
use ringward_domain::host::{Arch, Facts, GuardTier, HostState, Labels, Os};
use ringward_domain::ids::*;
use ringward_domain::incident::*;
use ringward_domain::ledger::{FailWhy, NotSwitchedWhy, RevertWhy};
use ringward_domain::observed::*;
use ringward_domain::report::*;
use ringward_domain::session::*;
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{Absence, AuditHead, AuditShown, Millis, PackageName, Version};

mod orders;
mod reports;
pub use reports::*;

pub fn pick<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> BoxedStrategy<T> {
    proptest::sample::select(values.to_vec()).boxed()
}

pub fn words() -> BoxedStrategy<String> {
    "[ -~äß]{0,40}".boxed()
}
fn millis() -> BoxedStrategy<Millis> {
    any::<u64>().prop_map(Millis).boxed()
}
fn rollout() -> BoxedStrategy<RolloutId> {
    any::<u64>().prop_map(RolloutId).boxed()
}
fn host() -> BoxedStrategy<HostId> {
    any::<u64>().prop_map(HostId).boxed()
}
fn nonce() -> BoxedStrategy<Nonce> {
    any::<[u8; 16]>().prop_map(Nonce).boxed()
}
pub fn release() -> BoxedStrategy<ReleaseDigest> {
    any::<[u8; 32]>().prop_map(ReleaseDigest).boxed()
}
fn package() -> BoxedStrategy<PackageName> {
    "[a-z0-9][a-z0-9.+-]{0,20}"
        .prop_map(|text| text.parse().unwrap())
        .boxed()
}
fn version() -> BoxedStrategy<Version> {
    "[A-Za-z0-9][A-Za-z0-9._+:~-]{0,20}"
        .prop_map(|text| text.parse().unwrap())
        .boxed()
}
fn accepted() -> BoxedStrategy<(Epoch, Generation)> {
    any::<(u64, u64)>()
        .prop_map(|(e, g)| (Epoch(e), Generation(g)))
        .boxed()
}
pub fn absence() -> BoxedStrategy<Absence> {
    pick(&[Absence::Suspend, Absence::PowerOff, Absence::UserStop])
}
fn revert_why() -> BoxedStrategy<RevertWhy> {
    use RevertWhy::*;
    pick(&[
        BadBoots,
        CrashLoop,
        ProbesFailed,
        NetworkLost,
        Ordered,
        Rescue,
    ])
}
fn fail_why() -> BoxedStrategy<FailWhy> {
    pick(&[FailWhy::Install, FailWhy::Disk])
}
fn not_switched_why() -> BoxedStrategy<NotSwitchedWhy> {
    use NotSwitchedWhy::*;
    pick(&[
        NoBegun,
        BeginRefused,
        Restarted,
        Suspended,
        Superseded,
        Busy,
    ])
}
fn refuse_why() -> BoxedStrategy<RefuseWhy> {
    use RefuseWhy::*;
    pick(&[
        Signature,
        Manifest,
        Bundle,
        Platform,
        SecurityFloor,
        Expired,
        Barred,
        UnknownHistory,
        LocalPolicy,
    ])
}
fn rollout_state() -> BoxedStrategy<RolloutState> {
    use RolloutState::*;
    pick(&[Running, Held, Halted, Paused, Completed, Aborted])
}
fn signal_kind() -> BoxedStrategy<SignalKind> {
    use SignalKind::*;
    prop_oneof![
        pick(&[
            UncleanBoot,
            KernelPanic,
            Bugcheck,
            KernelOops,
            CrashLoop,
            ServiceFailed,
            OomKill,
            Coredump,
            DegradedBoot,
            ProbeFailed,
            GuardReverted,
            SelfReverted,
            Change,
            AuditFork,
            AgentDegraded,
        ]),
        (1000..i32::MAX).prop_map(Unknown),
    ]
    .boxed()
}

pub fn facts() -> BoxedStrategy<Facts> {
    (
        [words(), words(), words(), words(), words()],
        pick(&[Os::Linux, Os::Windows]),
        pick(&[Arch::X86_64, Arch::Aarch64]),
        any::<u64>(),
        any::<u32>(),
        pick(&[
            GuardTier::None,
            GuardTier::Service,
            GuardTier::Initramfs,
            GuardTier::BootLoader,
        ]),
    )
        .prop_map(|(text, os, arch, memory_mib, cpus, guard_tier)| {
            let [hostname, os_build, kernel, model, fingerprint] = text;
            Facts {
                hostname,
                os,
                os_build,
                arch,
                kernel,
                model,
                fingerprint,
                memory_mib,
                cpus,
                guard_tier,
            }
        })
        .boxed()
}

pub fn observed() -> BoxedStrategy<Observed> {
    let package_observed = (
        package(),
        option::of(release()),
        option::of(version()),
        option::of(release()),
        option::of(version()),
    )
        .prop_map(
            |(package, running, running_version, committed, committed_version)| PackageObserved {
                package,
                running,
                running_version,
                committed,
                committed_version,
            },
        );
    let prepare = prop_oneof![
        Just(PrepareState::Working),
        Just(PrepareState::Ready),
        pick(&[
            PrepareError::Download,
            PrepareError::Digest,
            PrepareError::Disk
        ])
        .prop_map(PrepareState::Retrying),
        refuse_why().prop_map(PrepareState::Refused),
    ];
    let preparing =
        (rollout(), release(), prepare).prop_map(|(rollout, release, state)| Preparing {
            rollout,
            release,
            state,
        });
    let phase = prop_oneof![
        pick(&[
            PhaseObserved::Switching,
            PhaseObserved::Applied,
            PhaseObserved::Rebooting,
            PhaseObserved::Committed
        ]),
        millis().prop_map(|soaked| PhaseObserved::Soaking { soaked }),
        revert_why().prop_map(PhaseObserved::Reverted),
        fail_why().prop_map(PhaseObserved::Failed),
        not_switched_why().prop_map(PhaseObserved::NotSwitched),
    ];
    let attempt = (nonce(), rollout(), package(), release(), phase).prop_map(
        |(nonce, rollout, package, release, phase)| AttemptObserved {
            nonce,
            rollout,
            package,
            release,
            phase,
        },
    );
    (
        vec(package_observed, 0..4),
        option::of(preparing),
        option::of(attempt),
        vec(release(), 0..4),
        orders::observed(),
    )
        .prop_map(|(packages, preparing, attempt, bars, orders)| Observed {
            packages,
            preparing,
            attempt,
            bars,
            orders,
        })
        .boxed()
}

pub fn signal() -> BoxedStrategy<Signal> {
    (
        1..u64::MAX,
        signal_kind(),
        any::<[u8; 16]>(),
        millis(),
        option::of(release()),
        [words(), words(), words(), words()],
    )
        .prop_map(|(seq, kind, boot, at_boottime, release, text)| {
            let [key, title, signature, evidence] = text;
            Signal {
                seq: SignalSeq(seq),
                kind,
                key,
                boot: BootId(boot),
                at_boottime,
                release,
                title,
                signature,
                evidence,
            }
        })
        .boxed()
}

fn hello() -> BoxedStrategy<Hello> {
    (
        any::<(u32, u32)>(),
        vec(words(), 0..4),
        words(),
        any::<([u8; 16], [u8; 16])>(),
        millis(),
        option::of(any::<bool>()),
        accepted(),
        any::<u64>(),
        facts(),
        observed(),
    )
        .prop_map(
            |(range, capabilities, agent_version, ids, boottime, clean, accepted, next, f, o)| {
                Hello {
                    protocol_min: range.0,
                    protocol_max: range.1,
                    capabilities,
                    agent_version,
                    boot: BootId(ids.0),
                    agent_start: AgentStart(ids.1),
                    boottime,
                    last_stop_clean: clean,
                    accepted,
                    next_signal: SignalSeq(next),
                    facts: f,
                    observed: o,
                }
            },
        )
        .boxed()
}

pub fn to_server() -> BoxedStrategy<ToServer> {
    let beat = (accepted(), millis(), option::of((nonce(), millis()))).prop_map(
        |(accepted, boottime, soaked)| Heartbeat {
            accepted,
            boottime,
            soaked,
        },
    );
    let request =
        (nonce(), rollout(), release()).prop_map(|(nonce, rollout, release)| RequestGrant {
            nonce,
            rollout,
            release,
        });
    prop_oneof![
        hello().prop_map(|hello| ToServer::Hello(Box::new(hello))),
        beat.prop_map(ToServer::Heartbeat),
        vec(signal(), 0..6).prop_map(ToServer::Signals),
        observed().prop_map(|observed| ToServer::Observed(Box::new(observed))),
        request.prop_map(ToServer::RequestGrant),
        nonce().prop_map(|nonce| ToServer::Begin(Begin { nonce })),
        absence().prop_map(ToServer::Absent),
        any::<u64>().prop_map(|size| ToServer::AuditKnown { size }),
    ]
    .boxed()
}

fn desired() -> BoxedStrategy<Desired> {
    let assignment = (
        rollout(),
        pick(&[AssignmentKind::Install, AssignmentKind::Rollback]),
        release(),
        version(),
        millis(),
        any::<(bool, bool)>(),
    );
    (
        accepted(),
        btree_map(package(), assignment, 0..4),
        vec(release(), 0..4),
        vec(release(), 0..4),
        1..u64::MAX,
        orders::desired(),
    )
        .prop_map(
            |((epoch, generation), assignments, bars, lifted, beat, orders)| Desired {
                epoch,
                generation,
                assignments: assignments
                    .into_iter()
                    .map(
                        |(package, (rollout, kind, release, version, soak, flags))| Assignment {
                            rollout,
                            kind,
                            package,
                            release,
                            version,
                            soak,
                            verify_boot: flags.0,
                            invited: flags.1,
                        },
                    )
                    .collect(),
                bars,
                lifted,
                heartbeat: Millis(beat),
                orders,
                stopped: beat % 2 == 0,
            },
        )
        .boxed()
}

pub fn wait_why() -> BoxedStrategy<WaitWhy> {
    use WaitWhy::*;
    prop_oneof![
        pick(&[
            WindowFull,
            EarlierRing,
            NotItsTurn,
            Unreachable,
            Preparing,
            PrepareFailing,
            Frozen,
            Barred,
            OtherTrial,
            Capped,
            ServerStarting,
            RedundancyGroup,
            NotActive,
            OutsideMaintenance,
        ]),
        absence().prop_map(Away),
        rollout_state().prop_map(NotRunning),
    ]
    .boxed()
}

pub fn to_agent() -> BoxedStrategy<ToAgent> {
    use BeginRefusal::*;
    prop_oneof![
        any::<u32>().prop_map(|protocol| ToAgent::Welcome { protocol }),
        desired().prop_map(|desired| ToAgent::Desired(Box::new(desired))),
        (nonce(), millis()).prop_map(|(nonce, life)| ToAgent::Grant { nonce, life }),
        (nonce(), wait_why(), millis()).prop_map(|(nonce, why, retry_after)| ToAgent::Wait {
            nonce,
            why,
            retry_after
        }),
        nonce().prop_map(|nonce| ToAgent::Begun { nonce }),
        (
            nonce(),
            pick(&[
                NoGrant, Expired, Superseded, NotRunning, Barred, Frozen, OtherBoot
            ])
        )
            .prop_map(|(nonce, why)| ToAgent::BeginRefused { nonce, why }),
        any::<u64>().prop_map(|seq| ToAgent::SignalsDurable {
            through: SignalSeq(seq)
        }),
        millis().prop_map(|after| ToAgent::ComeBack { after }),
        (any::<(u64, [u8; 32], u64)>(), vec(any::<[u8; 32]>(), 0..66)).prop_map(
            |((size, root, from), proof)| {
                ToAgent::AuditHead(Box::new(AuditShown {
                    head: AuditHead {
                        size,
                        root: Sha256(root),
                    },
                    from,
                    proof: proof.into_iter().map(Sha256).collect(),
                }))
            },
        ),
    ]
    .boxed()
}
