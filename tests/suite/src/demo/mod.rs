//! The demo: 203 hosts, a good release, a lethal one that stops itself, and everybody's way back.

mod blows;
mod chaos;
mod crowd;
mod fleet;
mod outcome;
mod story;

pub use crowd::seed;

use crate::process::{Programs, wait_for};
use crate::slots;
use anyhow::{Context, Result};
use crowd::Crowd;
use fleet::{Demo, Release};
use outcome::{Bad, Events, Good, Outcome, Rollback};
use ringward_agent_os::fake::OnLethal;
use ringward_domain::report::{MemberState, MemberView, RolloutState, RolloutView};
use std::path::PathBuf;
use std::time::Duration;
use story::Story;

/// Simulated hosts beside the real agent processes.
const SIMULATED: usize = 200;
/// Real agent processes.
const REAL: usize = 3;
/// The ring policy of the demo: seconds where a real fleet has minutes and hours.
pub const POLICY: &str = include_str!("policy.toml");

/// What a person asks for.
#[derive(Debug, clap::Parser)]
#[command(
    name = "ringward-demo",
    about = "A good release, a lethal one, and everybody's way back"
)]
pub struct Options {
    /// Folder with the built programs
    #[arg(long, value_name = "DIR")]
    pub programs: PathBuf,
    /// End by itself and judge the outcome by the exit status
    #[arg(long)]
    pub headless: bool,
    /// Kill server and agent in the middle of each rollout, tear a spool, fill the server's disk
    #[arg(long)]
    pub chaos: bool,
    /// Write the outcome as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Beside them so many hosts that are only in the server's store: for measuring the dashboard
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub crowd: u64,
    /// Hosts with a session among such a crowd
    #[arg(long, value_name = "N", default_value_t = 403)]
    pub sessions: usize,
    /// Keep everything in this folder (default: a new one, removed at the end)
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Tells the whole story; `true` if everything went as promised.
///
/// # Errors
/// Something could not be started, or did not come about in time.
pub async fn run(options: Options) -> Result<bool> {
    let temporary = match &options.dir {
        Some(_) => None,
        None => Some(tempfile::tempdir().context("making a folder for the demo")?),
    };
    let dir = options
        .dir
        .clone()
        .or_else(|| temporary.as_ref().map(|t| t.path().to_owned()))
        .context("no folder for the demo")?;
    let mut story = Story::new(options.headless);
    let chaos = options.chaos.then(chaos::Chaos::default);
    let mut demo = Demo::set_up(
        Programs::new(options.programs.clone()),
        &dir,
        chaos,
        Crowd {
            hosts: options.crowd,
            sessions: options.sessions,
        },
        &mut story,
    )
    .await?;
    if options.crowd > 0 {
        return tell_crowd(demo, &mut story).await;
    }
    let outcome = tell(&mut demo, &mut story).await?;
    story.say(&outcome.table());
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&outcome)?;
        std::fs::write(file, text + "\n").with_context(|| format!("writing {}", file.display()))?;
    }
    let faults = outcome.faults();
    for fault in &faults {
        story.say(&format!("NOT AS PROMISED: {fault}"));
    }
    if !options.headless {
        story.say(&demo.invitation());
        tokio::signal::ctrl_c()
            .await
            .context("waiting for Ctrl-C")?;
    }
    demo.stop().await?;
    Ok(faults.is_empty())
}

/// Among a crowd somebody else tells the story: a release is there, and whoever looks starts it.
async fn tell_crowd(demo: Demo, story: &mut Story) -> Result<bool> {
    demo.publish("1.0", "good").await?;
    story.say(&demo.invitation());
    tokio::signal::ctrl_c()
        .await
        .context("waiting for Ctrl-C")?;
    demo.stop().await?;
    Ok(true)
}

async fn tell(demo: &mut Demo, story: &mut Story) -> Result<Outcome> {
    let hosts = (SIMULATED + REAL) as u64;
    story.chapter("Release 1.0 is good: it walks three rings, each as fast as hosts survive it");
    let good_release = demo.publish("1.0", "good").await?;
    let walked = demo.start(&good_release, story).await?;
    let good = Good {
        confirmed: confirmed(demo, &walked, &good_release).await?,
        halted: walked.state == RolloutState::Halted,
    };

    story.chapter("Release 1.1 is lethal: hosts that take it crash-loop or go silent");
    let bad_release = demo.publish("1.1", "lethal").await?;
    let canaries = demo.script_canaries(&bad_release).await?;
    story.say(&format!("the script: {canaries}"));
    let halted = demo.start(&bad_release, story).await?;
    let bad = judge_bad(demo, &halted).await?;

    story.chapter("The operator rolls back; hosts that went dark come back by themselves, healed by their guard");
    demo.roll_back(&bad_release, story).await?;
    let back = wait_for(
        "every host back on 1.0",
        Duration::from_secs(60),
        async || {
            let running = demo.running(&good_release);
            Ok((running == hosts && demo.connected().await? == hosts).then_some(running))
        },
    )
    .await?;
    let events = drain(demo).await?;
    let chaos = demo.chaos_report();
    Ok(Outcome {
        hosts,
        good,
        bad,
        rollback: Rollback { back_on_good: back },
        events,
        chaos,
    })
}

/// Hosts that the server counts as confirmed and whose own slots say so.
async fn confirmed(demo: &Demo, walked: &RolloutView, release: &Release) -> Result<u64> {
    let members = demo.client().members(walked.id, None, Vec::new()).await?;
    let on_release = members.iter().filter(|member| {
        member.state == MemberState::Confirmed
            && demo
                .root_of(&member.hostname)
                .is_some_and(|root| slots::running(root, &demo.package) == Some(release.digest))
    });
    Ok(on_release.count() as u64)
}

fn was_exposed(member: &MemberView) -> bool {
    match member.state {
        MemberState::Waiting(_)
        | MemberState::AlreadyThere
        | MemberState::Refused(_)
        | MemberState::Granted => false,
        MemberState::Begun
        | MemberState::Applied
        | MemberState::Rebooting
        | MemberState::Soaking
        | MemberState::Confirmed
        | MemberState::Failed(_)
        | MemberState::Reverted(_)
        | MemberState::Silent
        | MemberState::Deferred(_)
        | MemberState::Away(_) => true,
    }
}

async fn judge_bad(demo: &Demo, halted: &RolloutView) -> Result<Bad> {
    let members = demo.client().members(halted.id, None, Vec::new()).await?;
    let exposed: Vec<&MemberView> = members
        .iter()
        .filter(|member| was_exposed(member))
        .collect();
    let went_dark = exposed
        .iter()
        .filter(|member| demo.script_of(&member.hostname) == Some(OnLethal::GoDark));
    let named = |member: &&&MemberView| {
        halted
            .silent_hosts
            .iter()
            .any(|silent| silent.host == member.host)
    };
    let sum = |count: fn(&ringward_domain::report::RingView) -> u64| {
        halted.rings.iter().map(count).sum::<u64>()
    };
    let verdict = &halted.verdict;
    let suspect = halted.suspects.first();
    let named_release = format!("release {} {}", halted.package, halted.version);
    Ok(Bad {
        exposed: exposed.len() as u64,
        failed: sum(|ring| ring.failed + ring.reverted + ring.silent),
        silent_scripted: went_dark.clone().count() as u64,
        silent_named: went_dark.filter(named).count() as u64,
        first_window: demo.first_window,
        halted: halted.state == RolloutState::Halted,
        reason: halted.state_reason.clone(),
        evidence: format!(
            "{} of {} exposures failed where {} of {:.1} control units did{}; e-value {:.0}, it halts at {:.0}",
            verdict.failed,
            verdict.failed + verdict.confirmed,
            verdict.control_failures,
            verdict.control_units,
            if verdict.assumed {
                " (too few: a ceiling stands in)"
            } else {
                ""
            },
            verdict.e_value,
            verdict.e_threshold,
        ),
        suspect: suspect.map(|s| s.sentence.clone()).unwrap_or_default(),
        suspect_is_release: suspect.is_some_and(|s| {
            s.changes
                .first()
                .is_some_and(|change| change.starts_with(&named_release))
        }),
        proposal: halted.proposal.clone(),
        ms_from_evidence_to_halt: halted.evidence_to_halt_ms,
    })
}

/// Signals counted by the agents before spooling, and found in the store by a scan of its keys.
async fn drain(demo: &Demo) -> Result<Events> {
    let settled = wait_for("every signal stored", Duration::from_secs(20), async || {
        let (sent, stored) = (demo.sent()?, demo.stored().await?);
        Ok((sent == stored).then_some(Events { sent, stored }))
    })
    .await;
    match settled {
        Ok(events) => Ok(events),
        Err(_) => Ok(Events {
            sent: demo.sent()?,
            stored: demo.stored().await?,
        }),
    }
}
