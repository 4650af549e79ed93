//! `cargo xtask windows-build` and `windows-test`: agent and guard for Windows, built on Linux.
//!
//! rustup's target is taken where it is installed. Else Debian's own compiler builds: it comes with the
//! source of its standard library, which is built once and kept outside of the clone. Where neither is
//! there, "skipped" and why.

use crate::wine::Wine;
use crate::{build, dist_msi};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

pub const TARGET: &str = "x86_64-pc-windows-gnu";
pub const LINKER: &str = "x86_64-w64-mingw32-gcc-win32";
const STRIP: &str = "x86_64-w64-mingw32-strip";
/// The crates that have a Windows side, and those beneath them whose tests must hold there, too.
const PROGRAMS: [&str; 2] = ["ringward-agent", "ringward-guard"];
const TESTED: [&str; 5] = [
    "ringward-domain",
    "ringward-evidence",
    "ringward-guard",
    "ringward-agent-core",
    "ringward-agent-os",
];
pub const PACKAGES: &str = "rustc-web cargo-web rust-web-src rust-web-clippy \
    gcc-mingw-w64-x86-64-win32 wine64 wine wixl msitools";

#[derive(clap::Args, Default)]
pub struct Args {
    /// As shipped: optimised, without debug information
    #[arg(long)]
    pub release: bool,
    /// Also lint
    #[arg(long)]
    pub clippy: bool,
}

/// Who compiles.
enum Toolchain {
    /// rustup's, with the target installed.
    Rustup,
    /// Debian's, with a standard library of our own making.
    Debian { sysroot: PathBuf },
}

/// `cargo xtask windows-build`.
pub fn run_build(args: &Args) -> Result<()> {
    let Some(toolchain) = ready(|| Ok(())) else {
        return Ok(());
    };
    if args.clippy {
        lint(&toolchain, &TESTED)?;
    }
    let folder = programs(&toolchain, args.release)?;
    println!("{}", folder.display());
    Ok(())
}

#[derive(clap::Args, Default)]
pub struct TestArgs {
    /// Only the crates' own tests
    #[arg(long, conflicts_with = "scenes")]
    pub crates: bool,
    /// Only the scenes: an agent from its MSI on, with a real server
    #[arg(long)]
    pub scenes: bool,
}

/// `cargo xtask windows-test`.
pub fn run_test(args: &TestArgs) -> Result<()> {
    let Some(toolchain) = ready(Wine::is_there) else {
        return Ok(());
    };
    if !args.scenes {
        test_crates(&toolchain, &TESTED)?;
    }
    if !args.crates {
        play_scenes(&toolchain)?;
    }
    Ok(())
}

/// What continuous integration has the time for: the crates' tests, where the standard library for
/// Windows lies ready (three minutes on two busy cores with warm caches). To build that first takes longer
/// than they do, and a machine that has no compiler for Windows is not changed for the sake of a test.
pub fn run_ci() -> Result<()> {
    match Toolchain::lies_ready() {
        Ok(true) => run_test(&TestArgs {
            crates: true,
            scenes: false,
        }),
        Ok(false) => {
            println!(
                "skipped: no standard library for {TARGET} lies ready; `cargo xtask windows-build` \
                 builds it once, and what it needs is installed by: apt-get install {PACKAGES}"
            );
            Ok(())
        }
        Err(why) => {
            println!("skipped: {why:#}");
            Ok(())
        }
    }
}

/// The compiler, where it and whatever else is asked for is there; else why not is said.
fn ready(more: impl FnOnce() -> Result<()>) -> Option<Toolchain> {
    let ready = Toolchain::find().and_then(|toolchain| more().map(|()| toolchain));
    ready.map_err(|why| println!("skipped: {why:#}")).ok()
}

fn test_crates(toolchain: &Toolchain, names: &[&str]) -> Result<()> {
    let wine = Wine::set_up(&target_dir()?.join("wine"))?;
    wine.start()?;
    let mut command = toolchain.cargo("test")?;
    for name in names {
        command.args(["-p", name]);
    }
    wine.settle(&mut command);
    let tested = build::run(&mut command);
    wine.end();
    tested
}

fn play_scenes(toolchain: &Toolchain) -> Result<()> {
    if let Err(why) = dist_msi::can_make() {
        println!("skipped: {why:#}");
        return Ok(());
    }
    let folder = target_dir()?.join("scenes");
    let prefix = folder.join("machine");
    if prefix.exists() {
        std::fs::remove_dir_all(&prefix)?;
    }
    let built = stripped(&programs(toolchain, false)?, &folder)?;
    let mut packages = Vec::new();
    for version in ["0.1.0", "0.1.1"] {
        packages.push(dist_msi::make(version, &built, &folder)?);
    }
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0"] {
        dist_msi::make_product(version, &folder)?;
    }
    let wine = Wine::set_up(&prefix)?;
    wine.add_event_log()?;
    wine.end();
    let here = build::binaries(&["ringward-wine", "ringward-server", "ringwardctl"])?;
    let mut scenes = Command::new(here.join("ringward-wine"));
    scenes.arg("--programs").arg(&here);
    for (flag, path) in ["--first", "--second"].into_iter().zip(&packages) {
        scenes.arg(flag).arg(path);
    }
    scenes.arg("--products").arg(&folder);
    scenes.arg("--prefix").arg(&prefix);
    let played = build::run(scenes.arg("--work").arg(folder.join("work")));
    wine.end();
    played
}

/// Copies without what is for debuggers, which would be most of the MSI.
fn stripped(built: &Path, folder: &Path) -> Result<PathBuf> {
    let out = folder.join("programs");
    std::fs::create_dir_all(&out)?;
    for name in PROGRAMS {
        let file = format!("{name}.exe");
        let mut strip = Command::new(STRIP);
        build::run(strip.arg("-o").arg(out.join(&file)).arg(built.join(&file)))?;
    }
    Ok(out)
}

/// Builds agent and guard, and answers the folder they are in; an error where nothing can build them.
pub fn release_programs() -> Result<PathBuf> {
    programs(&Toolchain::find()?, true)
}

fn programs(toolchain: &Toolchain, release: bool) -> Result<PathBuf> {
    let mut command = toolchain.cargo("build")?;
    if release {
        command.arg("--release");
    }
    for name in PROGRAMS {
        command.args(["-p", name]);
    }
    build::run(&mut command)?;
    let profile = if release { "release" } else { "debug" };
    Ok(target_dir()?.join(TARGET).join(profile))
}

/// The programs, and these crates with their tests.
fn lint(toolchain: &Toolchain, tested: &[&str]) -> Result<()> {
    let clippy = |names: &[&str], targets: &[&str]| {
        let mut command = toolchain.cargo("clippy")?;
        for name in names {
            command.args(["-p", name]);
        }
        command.args(targets);
        build::run(command.args(["--", "-D", "warnings"]))
    };
    clippy(&PROGRAMS, &[])?;
    match tested.is_empty() {
        true => Ok(()),
        false => clippy(tested, &["--all-targets"]),
    }
}

/// Apart from the other builds: another compiler's files would take turns with theirs.
fn target_dir() -> Result<PathBuf> {
    Ok(build::target_dir()?.join("windows"))
}

/// Where things are kept that a new clone needs again.
fn cache() -> Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(home).context("HOME names no folder")?;
    Ok(cache.join("ringward"))
}

pub fn answers(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}

impl Toolchain {
    fn find() -> Result<Self> {
        if Self::is_rustups()? {
            return Ok(Self::Rustup);
        }
        let sysroot = debian_sysroot()?;
        if !sysroot.join("complete").exists() {
            make_sysroot(&sysroot)?;
        }
        Ok(Self::Debian { sysroot })
    }

    /// Whether [`Self::find`] has nothing to build.
    fn lies_ready() -> Result<bool> {
        Ok(Self::is_rustups()? || debian_sysroot()?.join("complete").exists())
    }

    fn is_rustups() -> Result<bool> {
        if answers(LINKER, "--version").is_none() {
            bail!("no linker for Windows ({LINKER}): apt-get install {PACKAGES}");
        }
        let installed = Command::new("rustup")
            .args(["target", "list", "--installed"])
            .output();
        let installed =
            installed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        Ok(installed.is_ok_and(|targets| targets.lines().any(|line| line == TARGET)))
    }

    fn cargo(&self, verb: &str) -> Result<Command> {
        let mut command = match self {
            Self::Rustup => build::cargo(),
            Self::Debian { sysroot } => debian_cargo(sysroot, verb),
        };
        command
            .arg(verb)
            .args(["--target", TARGET, "--locked"])
            .env("CARGO_TARGET_DIR", target_dir()?)
            .env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER", LINKER)
            .env("CC_x86_64_pc_windows_gnu", LINKER)
            .env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER", "wine")
            .current_dir(crate::root());
        Ok(command)
    }
}

/// Where the standard library lies that Debian's compiler builds, or will.
fn debian_sysroot() -> Result<PathBuf> {
    let version = answers("/usr/bin/rustc", "--version")
        .filter(|_| Path::new("/usr/lib/rustlib/src/rust/library/std").is_dir());
    let Some(version) = version else {
        bail!(
            "no standard library for {TARGET}: rustup target add {TARGET}, or on Debian \
             apt-get install {PACKAGES}"
        );
    };
    // Another compiler reads nothing that this one made.
    let is_plain = |c: char| c.is_alphanumeric() || c == '.';
    let name: String = version
        .chars()
        .map(|c| if is_plain(c) { c } else { '-' })
        .collect();
    Ok(cache()?.join(format!("windows-sysroot-{}", name.trim_matches('-'))))
}

/// Debian's cargo with Debian's compiler, whatever rustup's settings say.
fn debian_cargo(sysroot: &Path, verb: &str) -> Command {
    // cargo looks for its verbs in CARGO_HOME first, and would find rustup's clippy there.
    let program = match verb {
        "clippy" => "/usr/bin/cargo-clippy",
        _ => "/usr/bin/cargo",
    };
    let mut command = Command::new(program);
    let flag = format!("--sysroot={}", sysroot.display());
    command
        .env("PATH", "/usr/bin:/bin")
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTDOC", "/usr/bin/rustdoc")
        .env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUSTFLAGS", &flag)
        .env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUSTDOCFLAGS", &flag);
    // Set, even to nothing, the first two hide the target's own flags.
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTUP_TOOLCHAIN",
        "CARGO",
        "RUSTC_WRAPPER",
    ] {
        command.env_remove(name);
    }
    command
}

/// Builds the standard library from the compiler's own source: two minutes, 120 MB, once.
fn make_sysroot(sysroot: &Path) -> Result<()> {
    eprintln!(
        "building the standard library for {TARGET} into {}",
        sysroot.display()
    );
    let work = sysroot.with_extension("work");
    let source = work.join("src");
    std::fs::create_dir_all(&source).with_context(|| format!("making {}", source.display()))?;
    std::fs::write(source.join("lib.rs"), "")?;
    std::fs::write(
        work.join("Cargo.toml"),
        "[package]\nname = \"mkstd\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\
         [profile.release]\ndebug = \"line-tables-only\"\ncodegen-units = 1\n[workspace]\n",
    )?;
    let mut command = debian_cargo(sysroot, "build");
    command
        .args(["build", "--release", "--target", TARGET])
        .arg("-Zbuild-std=std,panic_unwind,panic_abort,proc_macro,test")
        .arg("--target-dir")
        .arg(work.join("target"))
        .current_dir(&work)
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUSTFLAGS",
            "-Cembed-bitcode=yes",
        );
    build::run(&mut command)?;
    let rustlib = sysroot.join("lib/rustlib");
    let library = rustlib.join(TARGET).join("lib");
    std::fs::create_dir_all(&library)?;
    std::fs::create_dir_all(rustlib.join("etc"))?;
    let built = work.join("target").join(TARGET).join("release/deps");
    for entry in built
        .read_dir()
        .with_context(|| format!("listing {}", built.display()))?
    {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".rlib") && !name.starts_with("libmkstd") {
            std::fs::copy(&path, library.join(name.as_ref()))?;
        }
    }
    // The same sysroot serves build scripts and macros, which run here.
    let host = rustlib.join("x86_64-unknown-linux-gnu");
    if host.symlink_metadata().is_err() {
        std::os::unix::fs::symlink("/usr/lib/rustlib/x86_64-unknown-linux-gnu", &host)?;
    }
    std::fs::remove_dir_all(&work)?;
    std::fs::write(sysroot.join("complete"), "")?;
    Ok(())
}
