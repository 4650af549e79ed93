//! The process and its service manager.

use std::io;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Turns true on SIGTERM and SIGINT.
///
/// # Errors
/// The signals cannot be waited for.
pub fn stop_requested() -> io::Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
        // The sender lives on, so that nobody takes its end for another stop.
        std::future::pending::<()>().await;
    });
    Ok(stopped)
}

/// Runs the program; systemd starts a service like any other process.
pub fn under_service_manager(program: fn() -> ExitCode) -> ExitCode {
    program()
}

/// Where the next line of the log goes: journald takes up what a service writes here.
#[must_use]
pub fn log_writer() -> io::Stderr {
    io::stderr()
}
