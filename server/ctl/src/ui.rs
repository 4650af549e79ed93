//! What goes to the person, and what the person answers.

use crate::args::{Format, Order};
use crate::error::Error;
use crate::views::{Width, outcome};
use crate::words;
use ringward_domain::command::Outcome;
use serde::Serialize;
use std::io::{BufRead, IsTerminal, Write};

/// How the person reads.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    /// How to print.
    pub format: Format,
}

impl Ui {
    /// How much a table shows.
    #[must_use]
    pub fn width(&self) -> Width {
        match self.format {
            Format::Wide => Width::Wide,
            Format::Table | Format::Json => Width::Table,
        }
    }

    /// Prints a value as JSON, or as the text that `view` makes of it.
    ///
    /// # Errors
    /// Standard output that cannot be written to.
    pub fn print<T: Serialize + ?Sized>(
        &self,
        value: &T,
        view: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        match self.format {
            Format::Table | Format::Wide => write(&view()),
            Format::Json => {
                let text = serde_json::to_string_pretty(value).map_err(|e| {
                    Error::usage(
                        format!("the answer cannot be written as JSON: {e}"),
                        "report it",
                    )
                })?;
                write(&format!("{}\n", words::clean_json(&text)))
            }
        }
    }

    /// Prints what a command did or would do.
    ///
    /// # Errors
    /// Standard output that cannot be written to.
    pub fn outcome(&self, done: &Outcome, dry_run: bool) -> Result<(), Error> {
        self.print(done, || outcome::show(done, dry_run))
    }
}

/// Writes to standard output; a reader that went away ends the work in peace.
fn write(text: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Error::file("writing", "standard output".as_ref())),
    }
}

/// A line for the person beside the answer proper.
pub fn note(text: &str) {
    // Nobody can be told that standard error is gone.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Shows whom an order would touch and asks, on a terminal; elsewhere only `--yes` says yes.
///
/// # Errors
/// Anything but a yes.
pub fn confirm(order: &Order, would: &Outcome) -> Result<(), Error> {
    let hosts = outcome::hosts(would);
    if order.yes || hosts <= 1 {
        return Ok(());
    }
    note(outcome::show(would, true).trim_end());
    match asked(&format!("Go on with {hosts} hosts?")) {
        true => Ok(()),
        false => Err(Error::Unconfirmed { hosts }),
    }
}

/// Asks whether to do what was shown, on a terminal; elsewhere only `--yes` says yes.
///
/// # Errors
/// Anything but a yes.
pub fn sure(order: &Order, question: &str) -> Result<(), Error> {
    match order.yes || asked(question) {
        true => Ok(()),
        false => Err(Error::usage(
            "nobody said yes",
            "look at what it says, then say --yes",
        )),
    }
}

fn asked(question: &str) -> bool {
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return false;
    }
    let _ = write!(std::io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    let answer = answer.trim().to_ascii_lowercase();
    read.is_ok() && (answer == "y" || answer == "yes")
}
