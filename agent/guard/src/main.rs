//! `ringward-guard`: run once a boot, before the units of any release on trial.
//!
//! Exit status: 0 nothing to do or boot noted; 3 went back; 1 could not act (said on stderr,
//! nothing half done); 2 wrong arguments.

#[cfg(windows)]
mod service;

use ringward_domain::BootId;
use ringward_guard::loader::Entries;
use ringward_guard::run::{Did, run};
use ringward_guard::trial::{self, Settings};
use ringward_guard::{
    BootLoader, GuardAction, GuardError, LedgerStore, SystemFiles, rescue, staged,
};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// How long a person at the console has before an emergency shell is taken away.
const EMERGENCY_PAUSE: Duration = Duration::from_secs(30);

const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

const USAGE: &str =
    "usage: ringward-guard --root DIR (--boot-id HEX | --boot-id-file FILE | --service) [--initramfs]
       ringward-guard trial begin|end
       ringward-guard emergency DIR

Notes this boot in DIR/ledger while a release is on trial, and goes back to the release before it
after 2 boots that never became healthy. FILE is usually /proc/sys/kernel/random/boot_id.
While a release is on trial the kernel reboots 30 s after a panic, and where --initramfs says that
PID 1 is not started yet, it will feed the machine's watchdog.
--service (Windows): the service manager starts this; the boot is read from the registry.

trial begin, trial end: switch that on and off, the watchdog of the running PID 1 too, and for entries
whose tries systemd-boot counts. One that it gave up for another takes the release back at once.
emergency: reboot from an emergency shell after 30 s if a release is on trial in DIR.

exit status: 0 nothing to do, or boot noted; 3 went back; 1 could not act; 2 wrong arguments";

struct Arguments {
    root: PathBuf,
    boot: Boot,
    initramfs: bool,
}

enum Boot {
    Given(BootId),
    /// Found by the service itself.
    Service,
}

fn arguments() -> Result<Arguments, String> {
    let (mut root, mut boot, mut initramfs) = (None, None, false);
    let mut given = std::env::args_os().skip(1);
    while let Some(name) = given.next() {
        let name = name.to_string_lossy().into_owned();
        if name == "--service" {
            boot = Some(Boot::Service);
            continue;
        }
        if name == "--initramfs" {
            initramfs = true;
            continue;
        }
        let value = given
            .next()
            .ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--root" => root = Some(PathBuf::from(value)),
            "--boot-id" => {
                boot = Some(Boot::Given(boot_id("--boot-id", &value.to_string_lossy())?))
            }
            "--boot-id-file" => {
                let path = PathBuf::from(value);
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| format!("reading {}: {error}", path.display()))?;
                boot = Some(Boot::Given(boot_id(&path.display().to_string(), &text)?));
            }
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok(Arguments {
        root: root.ok_or("--root is missing")?,
        boot: boot.ok_or("--boot-id or --boot-id-file is missing")?,
        initramfs,
    })
}

/// A boot id with or without the dashes the kernel writes.
fn boot_id(of: &str, text: &str) -> Result<BootId, String> {
    let hex: String = text.trim().chars().filter(|c| *c != '-').collect();
    hex.parse().map_err(|error| format!("{of}: {error}"))
}

/// Switches on what lets the host come back by itself. What does not work is said and no failure:
/// the guard has done its own part by then.
fn begin_trial(initramfs: bool) {
    if cfg!(windows) {
        return;
    }
    let settings = Settings::default();
    if let Err(error) = settings.begin() {
        eprintln!("ringward-guard: this host will not reboot after a panic: {error}");
    }
    if initramfs && let Err(error) = settings.ask_for_watchdog() {
        eprintln!("ringward-guard: this host has no watchdog during the trial: {error}");
    }
}

fn trial(verb: &str) -> ExitCode {
    match verb {
        "begin" => {
            begin_trial(false);
            if let Err(error) = trial::watchdog::begin() {
                println!("ringward-guard: a hang of this host needs a person: {error}");
            }
            if let Err(error) = Entries::default().begin() {
                eprintln!("ringward-guard: a kernel that panics early waits for a person: {error}");
            }
            ExitCode::SUCCESS
        }
        "end" => {
            let ended = [
                Settings::default().end(),
                trial::watchdog::end(),
                Entries::default().end(),
            ];
            for error in ended.iter().filter_map(|ended| ended.as_ref().err()) {
                eprintln!(
                    "ringward-guard: settings of the trial stay until the next boot: {error}"
                );
            }
            ExitCode::from(u8::from(ended.iter().any(Result::is_err)))
        }
        _ => usage(&format!("trial {verb} is not known")),
    }
}

/// Whether leaving an emergency shell by a reboot leads anywhere: a release is on trial and this very
/// boot stands in the ledger. What is not counted could go on for ever.
fn leads_back(root: &Path) -> Result<bool, String> {
    let file = LedgerStore::new(SystemFiles, root).read();
    let Some(ledger) = file.map_err(|error| error.to_string())?.map(|f| f.ledger) else {
        return Ok(false);
    };
    let text = std::fs::read_to_string(BOOT_ID_FILE)
        .map_err(|error| format!("reading {BOOT_ID_FILE}: {error}"))?;
    let boot = boot_id(BOOT_ID_FILE, &text)?;
    let mut noted = ledger.attempt.iter().flat_map(|attempt| &attempt.boots);
    let is_noted = noted.any(|noted| noted.boot == boot);
    Ok(is_noted && matches!(rescue(&ledger, false), GuardAction::GoBack { .. }))
}

/// Called when an emergency shell is about to start. Not before a trial, nor after one: a person at
/// the console is not disturbed.
fn emergency(root: &Path) -> ExitCode {
    match leads_back(root) {
        Ok(true) => {}
        Ok(false) => return ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("ringward-guard: {why}");
            return ExitCode::SUCCESS;
        }
    }
    println!(
        "ringward-guard: a release is on trial; this host reboots in {} s to go back by itself. \
         `systemctl stop emergency.service` keeps it here.",
        EMERGENCY_PAUSE.as_secs()
    );
    std::thread::sleep(EMERGENCY_PAUSE);
    let asked = Command::new("/usr/bin/systemctl")
        .args(["--force", "reboot"])
        .status();
    ExitCode::from(u8::from(!asked.is_ok_and(|status| status.success())))
}

fn usage(why: &str) -> ExitCode {
    eprintln!("ringward-guard: {why}\n\n{USAGE}");
    ExitCode::from(2)
}

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    match given.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["trial", verb] => return trial(verb),
        ["emergency", root] => return emergency(Path::new(root)),
        _ => {}
    }
    match arguments() {
        Ok(arguments) => guard(&arguments),
        Err(why) => usage(&why),
    }
}

fn guard(arguments: &Arguments) -> ExitCode {
    let boot = match arguments.boot {
        Boot::Given(boot) => boot,
        Boot::Service => return serve(&arguments.root),
    };
    match run(SystemFiles, &arguments.root, boot, BootLoader::Silent)
        .and_then(|did| after_the_loader(arguments, boot, did))
    {
        Ok(did) => {
            println!("ringward-guard: {did}");
            hold_units(&arguments.root);
            match did {
                Did::WentBack { .. } => ExitCode::from(3),
                Did::NothingOnTrial => ExitCode::SUCCESS,
                Did::NotedBefore | Did::Noted { .. } => {
                    begin_trial(arguments.initramfs);
                    ExitCode::SUCCESS
                }
            }
        }
        Err(error) => {
            eprintln!("ringward-guard: {}", chain(&error));
            // A ledger that cannot be written is no reason to stand still after a panic.
            begin_trial(arguments.initramfs);
            ExitCode::FAILURE
        }
    }
}

/// Goes back at once where the boot loader gave the release's entry up. Its file system is not mounted
/// in an initramfs, and only a trial is worth the look.
fn after_the_loader(arguments: &Arguments, boot: BootId, did: Did) -> Result<Did, GuardError> {
    let on_trial = matches!(did, Did::NotedBefore | Did::Noted { .. });
    if cfg!(windows) || arguments.initramfs || !on_trial {
        return Ok(did);
    }
    match Entries::default().gave_up() {
        Ok(true) => {
            println!("ringward-guard: the boot loader gave the release's entry up");
            run(SystemFiles, &arguments.root, boot, BootLoader::GaveUp)
        }
        Ok(false) => Ok(did),
        Err(error) => {
            eprintln!("ringward-guard: what the boot loader says is not known: {error}");
            Ok(did)
        }
    }
}

/// Of a package that went back while the system still has the release it left.
fn hold_units(root: &Path) {
    if cfg!(windows) {
        return;
    }
    let held = LedgerStore::new(SystemFiles, root).read().and_then(|file| {
        let ledger = file.unwrap_or_default().ledger;
        let Some(package) = staged::held(SystemFiles, root, &ledger)? else {
            return Ok(None);
        };
        staged::hold(SystemFiles, Path::new(staged::HELD), &package)?;
        Ok(Some(package))
    });
    match held {
        Ok(None) => {}
        Ok(Some(package)) => {
            println!("ringward-guard: units of {package} wait for the package before it");
        }
        Err(error) => eprintln!("ringward-guard: units are not held: {}", chain(&error)),
    }
}

#[cfg(windows)]
fn serve(root: &std::path::Path) -> ExitCode {
    match service::start(root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("ringward-guard: {why}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(windows))]
fn serve(_root: &std::path::Path) -> ExitCode {
    eprintln!("ringward-guard: --service is for Windows");
    ExitCode::from(2)
}

/// An error with everything beneath it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        line.push_str(&format!(": {deeper}"));
        cause = deeper.source();
    }
    line
}
