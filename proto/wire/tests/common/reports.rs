//! Strategies for what people read.

use super::*;

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

pub fn cause() -> BoxedStrategy<Cause> {
    (
        signal_kind(),
        [words(), words()],
        [option::of(words()), option::of(words())],
    )
        .prop_map(|(kind, [signature, title], [module, function])| Cause {
            kind,
            signature,
            title,
            module,
            function,
        })
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
        option::of(cause()),
    )
        .prop_map(
            |(host, hostname, state, late, nonce, for_ms, cause)| MemberView {
                host,
                hostname,
                state,
                late,
                nonce,
                for_ms,
                cause,
            },
        )
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
            assumed: n[5] % 2 == 0,
            strata: vec![StratumView {
                dimension: "model".to_owned(),
                value: "m".to_owned(),
                failed: n[0],
                trials: n[1],
                e_value: x[0],
            }],
        })
        .boxed()
}

pub fn suspect() -> BoxedStrategy<SuspectView> {
    (
        vec(words(), 0..4),
        any::<[u64; 5]>(),
        number(),
        any::<bool>(),
        words(),
    )
        .prop_map(|(changes, n, chance, named, sentence)| SuspectView {
            changes,
            more: n[0],
            exposed: n[1],
            failed: n[2],
            others: n[3],
            others_failed: n[4],
            chance,
            named,
            sentence,
        })
        .boxed()
}

pub fn incident() -> BoxedStrategy<IncidentView> {
    (
        any::<[u64; 4]>(),
        any::<bool>(),
        [words(), words()],
        vec(host(), 0..4),
        vec(suspect(), 0..3),
        vec(host(), 0..4),
    )
        .prop_map(
            |(n, closed, [cause, proposal], failed_hosts, suspects, at_risk)| IncidentView {
                number: n[0],
                opened_unix_ms: n[1],
                closed,
                cause,
                failed: n[2],
                failed_hosts,
                suspects,
                at_risk,
                at_risk_count: n[3],
                proposal,
            },
        )
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
        (
            vec(words(), 0..3),
            vec(suspect(), 0..3),
            vec((cause(), any::<u64>()), 0..=3),
            option::of(option::of(millis())),
            words(),
        ),
    )
        .prop_map(
            |(what, how, text, started, rings, verdict, silent, failed, ms, rest)| {
                let (notes, suspects, causes, remaining, limited) = rest;
                let causes = causes.into_iter();
                let forecast = (remaining, limited);
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
                    suspects,
                    proposal: forecast.1.clone(),
                    forecast: forecast.0.map(|remaining| ForecastView {
                        remaining_ms: remaining,
                        limited_by: forecast.1,
                        not_counted: started,
                    }),
                    causes: causes
                        .map(|(cause, hosts)| CauseCount { cause, hosts })
                        .collect(),
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
        option::of(any::<u64>()),
        option::of(any::<(u64, [u8; 32])>()),
    )
        .prop_map(
            |(summary, rollout, hosts, left_out, warnings, order, approval)| {
                ringward_domain::command::Outcome {
                    summary,
                    rollout,
                    hosts,
                    left_out,
                    warnings,
                    order: order.map(OrderId),
                    approval: approval.map(|(id, digest)| (ApprovalId(id), Sha256(digest))),
                }
            },
        )
        .boxed()
}
