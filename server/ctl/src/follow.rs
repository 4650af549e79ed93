//! Follows a rollout until it is over.

use crate::client::{Client, Watch};
use crate::error::Error;
use crate::ui::note;
use crate::views::tree;
use ringward_domain::report::{RolloutState, RolloutView};
use ringward_domain::{Millis, RolloutId};
use ringward_wire::watch::WatchEvent;
use std::io::{IsTerminal, Write};
use std::time::Duration;
use tokio::time::Instant;
use tonic::Status;

/// Lost connections in a row after which following ends.
const TRIES_MAX: u32 = 20;
/// Pause before the connection is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Where the width of the terminal is not known.
const WIDTH_DEFAULT: usize = 100;

/// Whether a rollout goes no further by itself, and how that is told.
///
/// # Errors
/// A rollout that halted or was aborted.
pub fn over(rollout: &RolloutView) -> Result<bool, Error> {
    match rollout.state {
        RolloutState::Running | RolloutState::Held | RolloutState::Paused => Ok(false),
        RolloutState::Completed => Ok(true),
        RolloutState::Halted | RolloutState::Aborted => Err(Error::Stopped {
            rollout: rollout.id,
            state: rollout.state,
            reason: rollout.state_reason.clone(),
        }),
    }
}

/// Follows a rollout until it completes.
///
/// A watch that the server ends is taken up again; a server that is gone is asked again, at most
/// 20 times a second apart.
///
/// # Errors
/// A rollout that halted, was aborted or is not over in time; a server that stays away.
pub async fn until_over(
    client: &Client,
    rollout: RolloutId,
    timeout: Option<Millis>,
    mut show: Option<Show>,
) -> Result<RolloutView, Error> {
    let started = Instant::now();
    let deadline = timeout.map(|limit| started + Duration::from_millis(limit.0));
    let mut state = RolloutState::Running;
    let mut tries = 0;
    loop {
        let ended = async {
            let mut watch = client.watch(&[rollout]).await?;
            until_lost(&mut watch, rollout, &mut show, &mut state, &mut tries).await
        };
        let ended = match deadline {
            Some(deadline) => match tokio::time::timeout_at(deadline, ended).await {
                Ok(ended) => ended,
                Err(_) => {
                    return Err(Error::Timeout {
                        rollout,
                        state,
                        waited_s: started.elapsed().as_secs(),
                    });
                }
            },
            None => ended.await,
        };
        match ended {
            Ok(Some(view)) => return Ok(view),
            Ok(None) if tries < TRIES_MAX => {}
            Ok(None) => return Err(ends_watches()),
            Err(error) if error.is_unreachable() && tries < TRIES_MAX => {}
            Err(error) => return Err(error),
        }
        tries += 1;
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

fn ends_watches() -> Error {
    Error::Server {
        doing: "watching",
        status: Box::new(Status::unavailable("the server ends every watch at once")),
    }
}

async fn until_lost(
    watch: &mut Watch,
    rollout: RolloutId,
    show: &mut Option<Show>,
    state: &mut RolloutState,
    tries: &mut u32,
) -> Result<Option<RolloutView>, Error> {
    while let Some(event) = watch.next().await? {
        *tries = 0;
        let view = match event {
            WatchEvent::Rollout(view) if view.id == rollout => view,
            WatchEvent::Notice { line, .. } => {
                if let Some(show) = show {
                    show.notice(&line);
                }
                continue;
            }
            WatchEvent::Rollout(_) | WatchEvent::Andon(_) | WatchEvent::CaughtUp => continue,
        };
        *state = view.state;
        if let Some(show) = show {
            show.rollout(&view);
        }
        if over(&view)? {
            return Ok(Some(*view));
        }
    }
    Ok(None)
}

/// Where a rollout is shown as it goes.
#[derive(Debug)]
pub struct Show {
    live: bool,
    drawn: usize,
    last: String,
}

impl Show {
    /// A live tree where standard error is a terminal, lines elsewhere. Standard output stays free
    /// for the answer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            live: std::io::stderr().is_terminal(),
            drawn: 0,
            last: String::new(),
        }
    }

    fn rollout(&mut self, view: &RolloutView) {
        if self.live {
            let width = terminal_size::terminal_size_of(std::io::stderr())
                .map_or(WIDTH_DEFAULT, |(width, _)| usize::from(width.0));
            self.draw(&tree::tree(view, width));
        } else {
            let line = tree::line(view);
            if line != self.last {
                note(&line);
                self.last = line;
            }
        }
    }

    fn notice(&mut self, line: &str) {
        let line = crate::words::clean(line);
        if self.live {
            self.draw(&[line]);
            // What comes next is drawn below: the notice stays.
            self.drawn = 0;
        } else {
            note(&line);
        }
    }

    /// Draws over what was drawn last (ECMA-48: cursor up, erase below).
    fn draw(&mut self, lines: &[String]) {
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\u{1b}[{}A\u{1b}[J", self.drawn));
        }
        for line in lines {
            text.push_str(line);
            text.push('\n');
        }
        // A terminal that is gone has nobody to tell.
        let _ = std::io::stderr().write_all(text.as_bytes());
        self.drawn = lines.len();
    }
}

impl Default for Show {
    fn default() -> Self {
        Self::new()
    }
}
