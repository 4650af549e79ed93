//! The guard's decision, once a boot, before the release's own units start.

use ringward_domain::ledger::{Attempt, AttemptPhase, Installed, Ledger, RevertWhy, TrialBoot};
use ringward_domain::limits::BAD_BOOTS_MAX;
use ringward_domain::{AssignmentKind, BootId, PackageName, ReleaseDigest};

/// Boots a trial remembers.
const BOOTS_MAX: usize = BAD_BOOTS_MAX as usize + 2;

/// What the guard does in this boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuardAction {
    /// Nothing is on trial.
    Nothing,
    /// This boot stands in the ledger already.
    AlreadyNoted,
    /// Write this ledger, in which the boot counts as bad until the agent marks it.
    NoteBoot(Box<Ledger>),
    /// Write this ledger, then make `to` current.
    GoBack {
        /// With the reason and the bar.
        ledger: Box<Ledger>,
        /// The package.
        package: PackageName,
        /// What it runs again; `None` = nothing.
        to: Option<Installed>,
    },
    /// An earlier way back may not have been walked to its end: if the slot still holds `left`, make
    /// `to` current.
    FinishGoingBack {
        /// The package.
        package: PackageName,
        /// The release left.
        left: ReleaseDigest,
        /// What it runs again.
        to: Option<Installed>,
    },
}

/// What the boot loader has to say of the release on trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootLoader {
    /// Nothing.
    Silent,
    /// It counted the tries of the release's entry, and started another one when none was left.
    GaveUp,
}

/// Decides from the ledger and the loader's word. Deciding twice in one boot changes nothing.
#[must_use]
pub fn decide(ledger: &Ledger, boot: BootId, loader: BootLoader) -> GuardAction {
    let Some(attempt) = ledger.attempt.as_ref() else {
        return GuardAction::Nothing;
    };
    if let AttemptPhase::Reverted(_) = attempt.phase {
        return GuardAction::FinishGoingBack {
            package: attempt.package.clone(),
            left: attempt.to.release,
            to: attempt.from.clone(),
        };
    }
    let Some(risk) = risk(ledger, attempt) else {
        return GuardAction::Nothing;
    };
    if ledger.bars.contains(&risk.release) {
        return GuardAction::FinishGoingBack {
            package: attempt.package.clone(),
            left: risk.release,
            to: risk.back_to,
        };
    }
    let gave_up = loader == BootLoader::GaveUp;
    if !gave_up && attempt.boots.iter().any(|noted| noted.boot == boot) {
        return GuardAction::AlreadyNoted;
    }
    let mut noted = ledger.clone();
    let bad = u32::try_from(attempt.boots.iter().filter(|boot| !boot.healthy).count());
    if gave_up || bad.unwrap_or(u32::MAX) >= BAD_BOOTS_MAX {
        noted.bars.insert(risk.release);
        note(
            &mut noted,
            boot,
            Some(AttemptPhase::Reverted(RevertWhy::BadBoots)),
        );
        return GuardAction::GoBack {
            ledger: Box::new(noted),
            package: attempt.package.clone(),
            to: risk.back_to,
        };
    }
    note(&mut noted, boot, None);
    GuardAction::NoteBoot(Box::new(noted))
}

/// What a person's rescue does: the same way back, without counting boots. `committed` also takes
/// back a newest release that had proven itself.
#[must_use]
pub fn rescue(ledger: &Ledger, committed: bool) -> GuardAction {
    let Some(attempt) = ledger.attempt.as_ref() else {
        return GuardAction::Nothing;
    };
    let proven =
        attempt.kind == AssignmentKind::Install && attempt.phase == AttemptPhase::Committed;
    if !(proven && committed) && risk(ledger, attempt).is_none() {
        return match attempt.phase {
            AttemptPhase::Reverted(_) => GuardAction::FinishGoingBack {
                package: attempt.package.clone(),
                left: attempt.to.release,
                to: attempt.from.clone(),
            },
            _ => GuardAction::Nothing,
        };
    }
    let mut ledger = ledger.clone();
    let risk = risk(&ledger, attempt).unwrap_or(Risk {
        release: attempt.to.release,
        back_to: attempt.from.clone(),
    });
    let package = attempt.package.clone();
    if proven && let Some(known) = ledger.packages.get_mut(&package) {
        known
            .history
            .retain(|old| Some(old) != risk.back_to.as_ref());
        known.committed = risk.back_to.clone();
    }
    ledger.bars.insert(risk.release);
    if let Some(attempt) = ledger.attempt.as_mut()
        && attempt.kind == AssignmentKind::Install
    {
        attempt.phase = AttemptPhase::Reverted(RevertWhy::Rescue);
    }
    GuardAction::GoBack {
        ledger: Box::new(ledger),
        package,
        to: risk.back_to,
    }
}

/// An unproven release that runs, or may run.
struct Risk {
    release: ReleaseDigest,
    back_to: Option<Installed>,
}

fn risk(ledger: &Ledger, attempt: &Attempt) -> Option<Risk> {
    let committed = ledger.packages.get(&attempt.package);
    let committed = committed.and_then(|package| package.committed.as_ref());
    match (attempt.kind, attempt.phase) {
        (AssignmentKind::Install, AttemptPhase::Switching | AttemptPhase::Trial) => Some(Risk {
            release: attempt.to.release,
            back_to: attempt.from.clone(),
        }),
        // A rollback out of a trial that did not come about: the unproven release still runs, and
        // the way back is forward to what the rollback was for. A rollback that did come about runs
        // a release this host has proven: there is nothing better to go to.
        (
            AssignmentKind::Rollback,
            AttemptPhase::Switching | AttemptPhase::NotSwitched(_) | AttemptPhase::Failed(_),
        ) => attempt
            .from
            .as_ref()
            .filter(|from| Some(*from) != committed)
            .map(|from| Risk {
                release: from.release,
                back_to: Some(attempt.to.clone()),
            }),
        _ => None,
    }
}

fn note(ledger: &mut Ledger, boot: BootId, phase: Option<AttemptPhase>) {
    let Some(attempt) = ledger.attempt.as_mut() else {
        return;
    };
    if attempt.boots.iter().all(|noted| noted.boot != boot) {
        attempt.boots.push(TrialBoot {
            boot,
            healthy: false,
        });
    }
    while attempt.boots.len() > BOOTS_MAX {
        let oldest_healthy = attempt.boots.iter().position(|noted| noted.healthy);
        attempt.boots.remove(oldest_healthy.unwrap_or(0));
    }
    if let Some(phase) = phase
        && attempt.kind == AssignmentKind::Install
    {
        attempt.phase = phase;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ringward_domain::ledger::{NotSwitchedWhy, PackageLedger};
    use ringward_domain::{Millis, Nonce, RolloutId};

    fn release(n: u8) -> Installed {
        Installed {
            release: ReleaseDigest([n; 32]),
            version: format!("1.{n}").parse().unwrap(),
        }
    }

    fn ledger(kind: AssignmentKind, from: u8, to: u8, phase: AttemptPhase) -> Ledger {
        let package: PackageName = "demo".parse().unwrap();
        let known = PackageLedger {
            committed: Some(release(0)),
            history: Vec::new(),
        };
        Ledger {
            packages: [(package.clone(), known)].into(),
            attempt: Some(Attempt {
                nonce: Nonce([1; 16]),
                rollout: RolloutId(1),
                kind,
                package,
                to: release(to),
                from: Some(release(from)),
                boot_required: true,
                soak: Millis::secs(60),
                switched_in: BootId([0; 16]),
                boots: Vec::new(),
                phase,
            }),
            ..Ledger::default()
        }
    }

    /// Boots until the guard does something else than noting; answers that and the boots noted.
    fn boots(mut ledger: Ledger, healthy: &[bool]) -> (usize, GuardAction) {
        for n in 1..20u8 {
            match decide(&ledger, BootId([n; 16]), BootLoader::Silent) {
                GuardAction::NoteBoot(noted) => {
                    assert_eq!(
                        decide(&noted, BootId([n; 16]), BootLoader::Silent),
                        GuardAction::AlreadyNoted,
                        "twice in one boot"
                    );
                    ledger = *noted;
                    if let Some(true) = healthy.get(usize::from(n) - 1) {
                        let attempt = ledger.attempt.as_mut().unwrap();
                        attempt.boots.last_mut().unwrap().healthy = true;
                    }
                }
                other => return (usize::from(n) - 1, other),
            }
        }
        (19, GuardAction::Nothing)
    }

    #[test]
    fn a_release_whose_entry_the_loader_gave_up_goes_back_at_once() {
        let trial = ledger(AssignmentKind::Install, 0, 1, AttemptPhase::Trial);
        let boot = BootId([1; 16]);
        let GuardAction::NoteBoot(noted) = decide(&trial, boot, BootLoader::Silent) else {
            panic!("the guard of the initramfs notes it");
        };
        for before in [&trial, &*noted] {
            let GuardAction::GoBack { ledger, to, .. } = decide(before, boot, BootLoader::GaveUp)
            else {
                panic!("the loader was not heard");
            };
            assert_eq!(to, Some(release(0)));
            let attempt = ledger.attempt.unwrap();
            assert_eq!(attempt.boots.len(), 1);
            assert_eq!(attempt.phase, AttemptPhase::Reverted(RevertWhy::BadBoots));
        }
        let proven = ledger(AssignmentKind::Install, 0, 1, AttemptPhase::Committed);
        assert_eq!(
            decide(&proven, boot, BootLoader::GaveUp),
            GuardAction::Nothing,
            "a committed release"
        );
    }

    #[test]
    fn the_third_boot_after_two_bad_ones_goes_back_and_bars_the_release() {
        let trial = ledger(AssignmentKind::Install, 0, 1, AttemptPhase::Trial);
        let (noted, action) = boots(trial, &[]);
        assert_eq!(noted, 2);
        let GuardAction::GoBack { ledger, to, .. } = action else {
            panic!("{action:?}");
        };
        assert_eq!(to, Some(release(0)));
        assert!(ledger.bars.contains(&release(1).release));
        let phase = ledger.attempt.as_ref().unwrap().phase;
        assert_eq!(phase, AttemptPhase::Reverted(RevertWhy::BadBoots));
        assert!(matches!(
            decide(&ledger, BootId([99; 16]), BootLoader::Silent),
            GuardAction::FinishGoingBack { .. }
        ));
    }

    #[test]
    fn healthy_boots_never_lead_back() {
        let trial = ledger(AssignmentKind::Install, 0, 1, AttemptPhase::Trial);
        assert_eq!(boots(trial, &[true; 19]).0, 19);
    }

    #[test]
    fn a_healthy_boot_does_not_wipe_out_the_bad_one_before_it() {
        let trial = ledger(AssignmentKind::Install, 0, 1, AttemptPhase::Trial);
        assert_eq!(boots(trial, &[false, true, true, false]).0, 4);
    }

    #[test]
    fn a_rescue_goes_back_at_once_and_says_that_a_person_did_it() {
        let trial = ledger(AssignmentKind::Install, 0, 1, AttemptPhase::Trial);
        let GuardAction::GoBack { ledger, to, .. } = rescue(&trial, false) else {
            panic!("no way back");
        };
        assert_eq!(to, Some(release(0)));
        assert!(ledger.bars.contains(&release(1).release));
        let phase = ledger.attempt.as_ref().unwrap().phase;
        assert_eq!(phase, AttemptPhase::Reverted(RevertWhy::Rescue));
        assert!(matches!(
            rescue(&ledger, false),
            GuardAction::FinishGoingBack { .. }
        ));
    }

    #[test]
    fn a_rescue_takes_a_proven_release_back_only_when_told_to() {
        let mut proven = ledger(AssignmentKind::Install, 0, 1, AttemptPhase::Committed);
        let known = proven.packages.values_mut().next().unwrap();
        known.history = vec![release(0)];
        known.committed = Some(release(1));
        assert_eq!(rescue(&proven, false), GuardAction::Nothing);
        let GuardAction::GoBack { ledger, .. } = rescue(&proven, true) else {
            panic!("no way back");
        };
        let known = ledger.packages.values().next().unwrap();
        assert_eq!(known.committed, Some(release(0)));
        assert!(known.history.is_empty());
    }

    #[test]
    fn a_cut_in_the_middle_of_a_switch_is_guarded_like_a_trial() {
        let switching = ledger(AssignmentKind::Install, 0, 1, AttemptPhase::Switching);
        assert!(matches!(
            boots(switching, &[]).1,
            GuardAction::GoBack { .. }
        ));
    }

    #[test]
    fn committed_and_rolled_back_releases_are_left_alone() {
        for (kind, phase) in [
            (AssignmentKind::Install, AttemptPhase::Committed),
            (AssignmentKind::Rollback, AttemptPhase::Trial),
            (AssignmentKind::Rollback, AttemptPhase::Committed),
        ] {
            assert_eq!(boots(ledger(kind, 1, 0, phase), &[]).0, 0);
        }
    }

    #[test]
    fn a_rollback_that_never_came_about_is_finished_after_two_bad_boots() {
        let cut = AttemptPhase::NotSwitched(NotSwitchedWhy::Restarted);
        let (noted, action) = boots(ledger(AssignmentKind::Rollback, 1, 0, cut), &[]);
        assert_eq!(noted, 2);
        let GuardAction::GoBack { ledger, to, .. } = action else {
            panic!("{action:?}");
        };
        assert_eq!(to, Some(release(0)));
        assert!(ledger.bars.contains(&release(1).release));
    }
}
