//! Waiting on a state, with a limit.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Asks every so often until there is an answer; `ask` may fail for a while, as on a machine that boots.
///
/// # Errors
/// No answer within `patience`: what was waited for, and the last failure.
pub fn until<T>(
    what: &str,
    patience: Duration,
    every: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + patience;
    let mut why = String::new();
    loop {
        match ask() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => {}
            Err(error) => why = format!(" ({error:#})"),
        }
        if Instant::now() >= end {
            bail!(
                "{what} did not come about within {} s{why}",
                patience.as_secs()
            );
        }
        std::thread::sleep(every);
    }
}
