//! The power goes at many moments of an update and of the way back: each disk that a cut can leave is
//! made from the recorded writes, examined, and booted.

use crate::Options;
use crate::control;
use crate::guest::{BOOT_PATIENCE, Guest, Hardware};
use crate::image::{self, Image, STATE};
use crate::replay::Log;
use crate::scenes::enrol;
use anyhow::{Context, Result, bail, ensure};
use ringward_domain::BootId;
use ringward_guard::{BootLoader, LedgerStore, SystemFiles};
use ringward_suite::trial::{PACKAGE, running};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const NAME: &str = "cuts";
/// Cuts while 1.1 is applied, and as many while it is taken back.
const MOMENTS: usize = 12;
/// So many of all are booted in the tier that is not the full one.
const BOOTED: usize = 3;
const PATIENCE: Duration = Duration::from_secs(600);
/// Files of the release, so that half a tree is no rare thing.
const FILES: usize = 40;
const FILE_BYTES: usize = 16 * 1024;
/// Which of the writes that were not flushed a cut loses; printed, so that a failure can be repeated.
const SEED: u64 = 7;

fn tree(version: &str, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("version"), version)?;
    std::fs::write(folder.join("start"), "exit 0\n")?;
    let text = format!("{version}\n").repeat(FILE_BYTES / 4);
    for n in 0..FILES {
        std::fs::write(folder.join(format!("file-{n}")), &text)?;
    }
    Ok(())
}

/// The recorded session: from `apply` on 1.1 is applied, from `back` on it is taken back.
struct Session {
    log: Log,
    apply: usize,
    back: usize,
    end: usize,
}

fn record(options: &Options, image: &Image) -> Result<Session> {
    let writes = options.work.join(NAME).join("writes");
    std::fs::File::create(&writes)?;
    let control = control::start(options, NAME)?;
    let hardware = Hardware {
        record: Some(writes.clone()),
        ..Hardware::default()
    };
    let mut guest = Guest::start(options, image, &hardware)?;
    guest.wait_booted()?;
    enrol(&mut guest, &control)?;
    for version in ["1.0", "1.1"] {
        let folder = options.work.join(NAME).join(version);
        tree(version, &folder)?;
        control.publish(PACKAGE, version, folder.as_os_str(), &[])?;
    }
    let order = |verb: &str, release: &str| {
        control.ctl(&["rollouts", verb, release, "--reason", "test", "--yes"])?;
        control.rollout_is("completed", PATIENCE)
    };
    order("start", &format!("{PACKAGE}@1.0"))?;
    let apply = Log::open(&writes)?.len();
    order("start", &format!("{PACKAGE}@1.1"))?;
    let back = Log::open(&writes)?.len();
    order("rollback", &format!("{PACKAGE}@1.1"))?;
    guest.say("sync")?;
    let log = Log::open(&writes)?;
    let end = log.len();
    drop(guest);
    Ok(Session {
        log,
        apply,
        back,
        end,
    })
}

/// The cuts, in the order of time: evenly over both ways, every other one right after a flush.
fn moments(session: &Session) -> Vec<usize> {
    let spread = |from: usize, to: usize| {
        (0..MOMENTS).map(move |n| from + (to - from) * (n + 1) / (MOMENTS + 1))
    };
    let cuts = spread(session.apply, session.back).chain(spread(session.back, session.end));
    let mut cuts: Vec<usize> = cuts
        .enumerate()
        .map(|(n, at)| match n % 2 {
            0 => at,
            _ => (session.log.flush_after(at) + 1).min(session.end),
        })
        .collect();
    cuts.sort_unstable();
    cuts
}

/// Copies a disk; its holes stay holes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    image::run(
        Command::new("cp")
            .args(["--sparse=always", "--reflink=auto"])
            .arg(from)
            .arg(to),
    )
}

/// What the file system holds after its own journal was replayed.
fn examine(disk: &Path, out: &Path) -> Result<String> {
    let status = Command::new("e2fsck")
        .args(["-f", "-y"])
        .arg(disk)
        .output()
        .context("starting e2fsck")?;
    // 1: it mended something, which a cut may ask for.
    ensure!(
        matches!(status.status.code(), Some(0 | 1)),
        "e2fsck: {}",
        String::from_utf8_lossy(&status.stdout)
    );
    if out.exists() {
        std::fs::remove_dir_all(out)?;
    }
    std::fs::create_dir_all(out)?;
    let request = format!("rdump /{STATE} {}", out.display());
    image::run(Command::new("debugfs").arg("-R").arg(request).arg(disk))?;
    let state = out.join("ringward-agent");
    let version = whole(&state)?;
    // Three boots without an agent: however they end, a whole tree runs.
    for boot in 1..=3 {
        ringward_guard::run::run(SystemFiles, &state, BootId([boot; 16]), BootLoader::Silent)?;
        whole(&state)?;
    }
    Ok(version)
}

/// The version that is current; its ledger can be read, and every file of it is of that version.
fn whole(state: &Path) -> Result<String> {
    LedgerStore::new(SystemFiles, state).read()?;
    let version = running(state)?;
    let current = state.join("slots").join(PACKAGE).join("current");
    let text = format!("{version}\n").repeat(FILE_BYTES / 4);
    for n in 0..FILES {
        let file = current.join(format!("file-{n}"));
        let found = std::fs::read_to_string(&file)
            .with_context(|| format!("{version} lacks {}", file.display()))?;
        ensure!(found == text, "{} is not of {version}", file.display());
    }
    Ok(version)
}

/// The machine comes up, its agent runs, and a whole release is current.
fn boots(options: &Options, image: &Image, disk: PathBuf) -> Result<()> {
    let image = Image {
        disk,
        var: None,
        kernel: image.kernel.clone(),
        initrd: image.initrd.clone(),
        initrd_before: image.initrd_before.clone(),
    };
    let mut guest = Guest::start(options, &image, &Hardware::default())?;
    let line = format!(
        "systemctl is-active ringward-agent && cd /{STATE}/slots/{PACKAGE}/current && v=$(cat version) && test $(cat file-* | sort -u) = $v && test $(cat file-* | wc -l) = {} && ringward-agent doctor | grep ledger",
        FILES * (FILE_BYTES / 4)
    );
    guest.wait_for("a healthy boot", BOOT_PATIENCE, |guest| {
        let said = guest.say(&line)?;
        match said.contains("ok    ledger") {
            true => Ok(Some(())),
            false => bail!("{said}"),
        }
    })
}

pub fn play(options: &Options) -> Result<String> {
    let image = image::make(options, NAME, false, |_| Ok(()))?;
    let work = options.work.join(NAME);
    let (progress, moment) = (work.join("progress.raw"), work.join("moment.raw"));
    copy(&image.disk, &progress)?;
    let session = record(options, &image)?;
    let cuts = moments(&session);
    let every = match options.full {
        true => 1,
        false => cuts.len().div_ceil(BOOTED),
    };
    let disk = std::fs::OpenOptions::new().write(true).open(&progress)?;
    let mut random = fastrand::Rng::with_seed(SEED);
    let (mut played, mut booted) = (0, 0);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (n, cut) in cuts.iter().copied().enumerate() {
        let base = session.log.flush_before(cut).max(played);
        session.log.play(&disk, played, base)?;
        played = base;
        copy(&progress, &moment)?;
        let torn = std::fs::OpenOptions::new().write(true).open(&moment)?;
        session.log.play_torn(&torn, base, cut, |_| random.bool())?;
        let place = || format!("cut before write {cut} of {} (seed {SEED})", session.end);
        if n % every == 0 {
            let disk = work.join("booted.raw");
            copy(&moment, &disk)?;
            boots(options, &image, disk).with_context(place)?;
            booted += 1;
        }
        let version = examine(&moment, &work.join("state")).with_context(place)?;
        *seen.entry(version).or_default() += 1;
    }
    ensure!(
        seen.len() == 2,
        "both versions must be met, or the cuts missed the switch: {seen:?}"
    );
    Ok(format!(
        "{} cuts among {} writes, each wholly old or wholly new ({seen:?}), {booted} booted",
        cuts.len(),
        session.end - session.apply
    ))
}
