//! The daemon on a scripted machine: each loss of power is followed by a boot, as on a real one.

use crate::config::Settings;
use crate::counters::Counters;
use crate::daemon::{self, Ended, StartError, stopped};
use ringward_agent_os::fake::ScriptedHost;
use ringward_agent_os::machine::Notifier;
use std::sync::Arc;
use tokio::sync::watch;

/// Run an agent on the scripted machine in its state folder until `stop` turns true.
///
/// # Errors
/// What stands in the way of a start.
pub async fn run(
    settings: &Settings,
    counters: Arc<Counters>,
    notifier: fn() -> Notifier,
    mut stop: watch::Receiver<bool>,
) -> Result<(), StartError> {
    let host = ScriptedHost::open(&settings.state_dir)?;
    loop {
        let up = tokio::select! {
            up = host.power_up() => up?,
            () = stopped(&mut stop) => return Ok(()),
        };
        tracing::info!(
            boots = up.boots,
            reverted = up.reverted,
            "the scripted machine is up"
        );
        let ended = daemon::run(
            settings,
            Arc::new(host.clone()),
            Arc::clone(&counters),
            notifier(),
            stop.clone(),
        )
        .await?;
        match ended {
            Ended::Stopped => return Ok(()),
            Ended::PowerLost => tracing::warn!("the scripted machine lost power"),
        }
    }
}
