//! `cargo xtask web-test`: the dashboard in the system's Chromium, over a stand-in and over the real
//! server with the demo's fleet.

use crate::{build, dashboard};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names under which the browser is known.
const BROWSERS: &[&str] = &["chromium", "chromium-browser", "google-chrome"];

/// What the tests over the real server start.
const PROGRAMS: &[&str] = &[
    "ringward-server",
    "ringward-agent",
    "ringward-guard",
    "ringwardctl",
    "ringward-demo",
];

#[derive(clap::Args)]
pub struct FiguresArgs {
    /// Hosts in the server's store
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    pub hosts: u64,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct Args {
    /// Only over the stand-in: no server, no fleet
    #[arg(long)]
    pub stand_in: bool,
    /// Write the screenshots anew into .docs
    #[arg(long)]
    pub screenshots: bool,
    /// Passed on to Playwright
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    if let Err(dashboard::Missing(what)) = dashboard::tools() {
        println!("skipped: {what}");
        return Ok(());
    }
    let browser = match browser()? {
        Ok(path) => path,
        Err(why) => {
            println!("skipped: {why}");
            return Ok(());
        }
    };
    dashboard::run()?;
    let page = dashboard::folder();
    dashboard::npm(&page, &["run", "--silent", "test"])?;
    dashboard::npm(&page, &["run", "--silent", "build:mock"])?;
    let tests = crate::root().join("tests/suite/web");
    dashboard::install(&tests)?;
    let mut playwright = Command::new("npx");
    playwright
        .args(["--no-install", "playwright", "test"])
        .current_dir(&tests)
        .env("RINGWARD_CHROMIUM", &browser);
    if args.stand_in {
        playwright.args(["--project", "stand-in"]);
    } else {
        // After the page: the server embeds it.
        let programs = build::binaries(PROGRAMS)?;
        playwright
            .args(["--project", "stand-in", "--project", "server"])
            .env("RINGWARD_PROGRAMS", programs);
    }
    if args.screenshots {
        let folder = crate::root().join(".docs");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("making the folder {}", folder.display()))?;
        playwright.env("RINGWARD_SCREENSHOTS", folder);
    }
    build::run(playwright.args(&args.args))
}

/// `cargo xtask bench dashboard`: what looking at a large fleet costs page and server.
pub fn figures(args: &FiguresArgs) -> Result<()> {
    if let Err(dashboard::Missing(what)) = dashboard::tools() {
        println!("skipped: {what}");
        return Ok(());
    }
    let browser = match browser()? {
        Ok(path) => path,
        Err(why) => {
            println!("skipped: {why}");
            return Ok(());
        }
    };
    dashboard::run_if_due()?;
    let tests = crate::root().join("tests/suite/web");
    dashboard::install(&tests)?;
    let mut playwright = Command::new("npx");
    playwright
        .args(["--no-install", "playwright", "test", "--project", "figures"])
        .current_dir(&tests)
        .env("RINGWARD_CHROMIUM", &browser)
        .env("RINGWARD_PROGRAMS", build::release_binaries(PROGRAMS)?)
        .env("RINGWARD_CROWD", args.hosts.to_string());
    if let Some(file) = &args.json {
        playwright.env("RINGWARD_FIGURES", std::path::absolute(file)?);
    }
    build::run(&mut playwright)
}

/// The system's browser; installed where this runs as root on Debian. Inside: why there is none.
fn browser() -> Result<Result<PathBuf, String>> {
    if let Some(found) = on_path() {
        return Ok(Ok(found));
    }
    let apt = Path::new("/usr/bin/apt-get");
    if !is_root() || !apt.exists() {
        return Ok(Err(format!(
            "none of {} is here; on Debian: apt-get install chromium",
            BROWSERS.join(", ")
        )));
    }
    build::run(Command::new(apt).arg("update").stdout(Stdio::null()))?;
    build::run(
        Command::new(apt)
            .args(["install", "--yes", "--no-install-recommends", "chromium"])
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )?;
    match on_path() {
        Some(found) => Ok(Ok(found)),
        None => bail!("Debian's package chromium is installed but brought no program `chromium`"),
    }
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|folder| BROWSERS.iter().map(move |name| folder.join(name)))
        .find(|program| program.is_file())
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
