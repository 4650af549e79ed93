//! Arbitrary domain values, within the limits that an honest sender keeps.
#![allow(clippy::unwrap_used, dead_code)]

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use ringward_domain::desired::{Assignment, AssignmentKind, Desired};
use ringward_domain::host::{Arch, Facts, GuardTier, HostState, Labels, Os};
use ringward_domain::ids::*;
use ringward_domain::ledger::{FailWhy, NotSwitchedWhy, RevertWhy};
use ringward_domain::observed::*;
use ringward_domain::report::*;
use ringward_domain::session::*;
use ringward_domain::signal::{Signal, SignalKind};
use ringward_domain::{Absence, Millis, PackageName, Version};

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
    pick(&[NoBegun, BeginRefused, Restarted, Suspended, Superseded])
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
    )
        .prop_map(|(packages, preparing, attempt, bars)| Observed {
            packages,
            preparing,
            attempt,
            bars,
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
    )
        .prop_map(
            |((epoch, generation), assignments, bars, lifted, beat)| Desired {
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
    ]
    .boxed()
}

fn labels() -> BoxedStrategy<Labels> {
    btree_map("[a-z]{1,10}", words(), 0..4).boxed()
}

pub fn host_view() -> BoxedStrategy<HostView> {
    (
        host(),
        pick(&[HostState::Pending, HostState::Active, HostState::Retired]),
        facts(),
        labels(),
        words(),
        any::<bool>(),
        millis(),
        observed(),
        vec(words(), 0..3),
        vec(signal(), 0..3),
    )
        .prop_map(
            |(id, state, facts, labels, agent_version, connected, seen, o, attention, signals)| {
                HostView {
                    id,
                    state,
                    facts,
                    labels,
                    agent_version,
                    connected,
                    last_seen_ms: seen,
                    observed: o,
                    attention,
                    signals,
                }
            },
        )
        .boxed()
}

pub fn member_state() -> BoxedStrategy<MemberState> {
    use MemberState::*;
    let failure = prop_oneof![
        fail_why().prop_map(FailureWhy::Install),
        signal_kind().prop_map(FailureWhy::Signal),
        Just(FailureWhy::WrongRelease),
    ];
    prop_oneof![
        pick(&[
            Granted,
            Begun,
            Applied,
            Rebooting,
            Soaking,
            Confirmed,
            AlreadyThere,
            Silent
        ]),
        wait_why().prop_map(Waiting),
        failure.prop_map(Failed),
        revert_why().prop_map(Reverted),
        refuse_why().prop_map(Refused),
        not_switched_why().prop_map(Deferred),
        absence().prop_map(Away),
    ]
    .boxed()
}

pub fn member() -> BoxedStrategy<MemberView> {
    (
        host(),
        words(),
        member_state(),
        any::<bool>(),
        option::of(nonce()),
        millis(),
    )
        .prop_map(|(host, hostname, state, late, nonce, for_ms)| MemberView {
            host,
            hostname,
            state,
            late,
            nonce,
            for_ms,
        })
        .boxed()
}

fn number() -> BoxedStrategy<f64> {
    (0.0..1e9).boxed()
}

fn verdict() -> BoxedStrategy<VerdictReport> {
    use HoldWhy::*;
    let halt = prop_oneof![
        (number(), number())
            .prop_map(|(e_value, threshold)| HaltWhy::EvidenceOfHarm { e_value, threshold }),
        any::<(u64, u64)>()
            .prop_map(|(failed, max_failed)| HaltWhy::MaxFailed { failed, max_failed }),
        (words(), any::<u64>())
            .prop_map(|(signature, hosts)| HaltWhy::RepeatedSignature { signature, hosts }),
        any::<(u64, u64)>()
            .prop_map(|(confirmed, failed)| HaltWhy::RingBelowShare { confirmed, failed }),
    ];
    let decision = prop_oneof![
        Just(Decision::Continue),
        pick(&[NobodyExposed, SiteSilentWithoutControl, ReleaseExpired]).prop_map(Decision::Hold),
        halt.prop_map(Decision::Halt),
    ];
    (
        decision,
        words(),
        any::<[u64; 6]>(),
        [number(), number(), number(), number(), number()],
        option::of(number()),
    )
        .prop_map(|(decision, sentence, n, x, rate)| VerdictReport {
            decision,
            sentence,
            failed: n[0],
            confirmed: n[1],
            censored: n[2],
            control_failures: n[3],
            control_units: x[0],
            p0: x[1],
            upper_bound: x[2],
            e_value: x[3],
            e_threshold: x[4],
            max_failed: n[4],
            smallest_detectable_rate: rate,
            failures_to_halt: n[5],
        })
        .boxed()
}

fn ring() -> BoxedStrategy<RingView> {
    (
        "[a-z][a-z0-9-]{0,20}",
        pick(&[RingState::Waiting, RingState::Open, RingState::Complete]),
        any::<[u64; 14]>(),
        vec((wait_why(), any::<u64>()), 0..4),
    )
        .prop_map(|(name, state, n, waits)| RingView {
            name: name.parse().unwrap(),
            state,
            members: n[0],
            in_flight: n[1],
            window: n[2],
            waiting: n[3],
            soaking: n[4],
            confirmed: n[5],
            already_there: n[6],
            failed: n[7],
            reverted: n[8],
            silent: n[9],
            deferred: n[10],
            refused: n[11],
            away: n[12],
            stragglers: n[13],
            waits,
        })
        .boxed()
}

pub fn rollout_view() -> BoxedStrategy<RolloutView> {
    (
        (rollout(), package(), version(), release()),
        (
            pick(&[AssignmentKind::Install, AssignmentKind::Rollback]),
            option::of(version()),
            rollout_state(),
        ),
        [words(), words(), words()],
        any::<u64>(),
        vec(ring(), 0..4),
        verdict(),
        vec(member(), 0..3),
        vec(member(), 0..3),
        option::of(any::<u64>()),
        vec(words(), 0..3),
    )
        .prop_map(
            |(what, how, text, started, rings, verdict, silent, failed, ms, notes)| {
                let [state_reason, started_by, reason] = text;
                RolloutView {
                    id: what.0,
                    kind: how.0,
                    package: what.1,
                    version: what.2,
                    release: what.3,
                    leaves: how.1,
                    state: how.2,
                    state_reason,
                    started_unix_ms: started,
                    started_by,
                    reason,
                    rings,
                    verdict,
                    silent_hosts: silent,
                    failed_hosts: failed,
                    evidence_to_halt_ms: ms,
                    notes,
                }
            },
        )
        .boxed()
}

pub fn release_view() -> BoxedStrategy<ReleaseView> {
    (
        release(),
        package(),
        version(),
        pick(&[Standing::Unproven, Standing::Good, Standing::Bad]),
        any::<[u64; 3]>(),
        vec(words(), 0..3),
    )
        .prop_map(
            |(release, package, version, standing, n, signed_by)| ReleaseView {
                release,
                package,
                version,
                standing,
                published_unix_ms: n[0],
                signed_by,
                bytes: n[1],
                hosts_running: n[2],
            },
        )
        .boxed()
}

pub fn outcome() -> BoxedStrategy<ringward_domain::command::Outcome> {
    (
        words(),
        option::of(rollout()),
        vec((words(), vec(host(), 0..4)), 0..4),
        vec((host(), words()), 0..4),
        vec(words(), 0..4),
    )
        .prop_map(|(summary, rollout, hosts, left_out, warnings)| {
            ringward_domain::command::Outcome {
                summary,
                rollout,
                hosts,
                left_out,
                warnings,
            }
        })
        .boxed()
}
