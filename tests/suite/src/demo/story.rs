//! The story as it happens: bars on a terminal, lines elsewhere; each wait and halt with its reason.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use ringward_domain::report::{RingState, RingView, RolloutState, RolloutView};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Lines about one ring come at most this often.
const LINE_EVERY: Duration = Duration::from_secs(3);

/// Tells what happens.
pub struct Story {
    bars: MultiProgress,
    rings: BTreeMap<String, (ProgressBar, Instant, String)>,
    lines: bool,
    begun: Instant,
    state: Option<(RolloutState, String)>,
}

impl Story {
    /// Bars where a person looks on, lines elsewhere.
    #[must_use]
    pub fn new(headless: bool) -> Self {
        let lines = headless || !std::io::stderr().is_terminal();
        let target = if lines {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
            rings: BTreeMap::new(),
            lines,
            begun: Instant::now(),
            state: None,
        }
    }

    /// One line, or several.
    pub fn say(&self, text: &str) {
        let at = self.begun.elapsed().as_secs_f64();
        for (i, line) in text.lines().enumerate() {
            let line = if i == 0 && !line.starts_with('┌') {
                format!("{at:6.1} s  {line}")
            } else {
                format!("          {line}")
            };
            if self.lines {
                println!("{line}");
            } else {
                let _ = self.bars.println(line);
            }
        }
    }

    /// A new part of the story.
    pub fn chapter(&mut self, title: &str) {
        for (_, (bar, _, _)) in std::mem::take(&mut self.rings) {
            bar.finish();
        }
        self.state = None;
        self.say("");
        self.say(title);
    }

    /// A rollout as it stands.
    pub fn rollout(&mut self, view: &RolloutView) {
        for ring in &view.rings {
            self.ring(ring);
        }
        let state = (view.state, view.state_reason.clone());
        if self.state.as_ref() != Some(&state) {
            if view.state != RolloutState::Running || self.state.is_some() {
                let reason = if view.state_reason.is_empty() {
                    String::new()
                } else {
                    format!(": {}", view.state_reason)
                };
                self.say(&format!(
                    "{} {} is {}{reason}",
                    view.package,
                    view.version,
                    view.state.to_string().to_uppercase()
                ));
            }
            self.state = Some(state);
        }
    }

    fn ring(&mut self, ring: &RingView) {
        let name = ring.name.to_string();
        let status = status(ring);
        if !self.rings.contains_key(&name) {
            let style = ProgressStyle::with_template(
                "          {prefix:>7} {bar:30} {pos:>3}/{len:<3} {wide_msg}",
            )
            .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = self.bars.add(
                ProgressBar::new(ring.members)
                    .with_style(style)
                    .with_prefix(name.clone()),
            );
            self.rings
                .insert(name.clone(), (bar, self.begun, String::new()));
        }
        let Some((bar, said_at, said)) = self.rings.get_mut(&name) else {
            return;
        };
        bar.set_position(ring.confirmed + ring.already_there);
        bar.set_message(status.clone());
        let due = said_at.elapsed() >= LINE_EVERY || ring.state == RingState::Complete;
        if self.lines && due && ring.state != RingState::Waiting && *said != status {
            (*said_at, *said) = (Instant::now(), status.clone());
            self.say(&format!(
                "{name:>7}: {:>3}/{} {status}",
                ring.confirmed + ring.already_there,
                ring.members
            ));
        }
    }
}

fn status(ring: &RingView) -> String {
    let counts = [
        (ring.soaking, "soaking"),
        (ring.failed, "failed"),
        (ring.reverted, "reverted by themselves"),
        (ring.silent, "silent"),
        (ring.deferred, "deferred"),
        (ring.refused, "refused"),
        (ring.away, "away"),
    ];
    let counts = counts
        .iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what}"));
    let mut words: Vec<String> = match ring.state {
        RingState::Waiting => vec!["waits for the ring before it".to_owned()],
        RingState::Open => vec![format!(
            "{} in flight, window {}",
            ring.in_flight, ring.window
        )],
        RingState::Complete => vec!["complete".to_owned()],
    };
    words.extend(counts);
    if let (RingState::Open, Some((why, hosts))) = (ring.state, ring.waits.first()) {
        words.push(format!("{hosts} wait: {why}"));
    }
    words.join(", ")
}
