//! `cargo xtask windows-build` and `windows-test`: agent and guard for Windows, built on Linux.
//!
//! rustup's target is taken where it is installed. Else Debian's own compiler builds: it comes with the
//! source of its standard library, which is built once and kept outside of the clone. Where neither is
//! there, "skipped" and why.

use crate::build;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub const TARGET: &str = "x86_64-pc-windows-gnu";
const LINKER: &str = "x86_64-w64-mingw32-gcc-win32";
/// The crates that have a Windows side, and those beneath them whose tests must hold there, too.
const PROGRAMS: [&str; 2] = ["ringward-agent", "ringward-guard"];
const TESTED: [&str; 4] = [
    "ringward-domain",
    "ringward-evidence",
    "ringward-guard",
    "ringward-agent-os",
];
const PACKAGES: &str = "rustc-web cargo-web rust-web-src rust-web-clippy \
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
    match Toolchain::find() {
        Ok(toolchain) => {
            if args.clippy {
                lint(&toolchain)?;
            }
            let folder = programs(&toolchain, args.release)?;
            println!("{}", folder.display());
        }
        Err(why) => println!("skipped: {why:#}"),
    }
    Ok(())
}

/// `cargo xtask windows-test`.
pub fn run_test() -> Result<()> {
    let ready = Toolchain::find().and_then(|toolchain| Ok((toolchain, Wine::set_up()?)));
    let (toolchain, wine) = match ready {
        Ok(ready) => ready,
        Err(why) => {
            println!("skipped: {why:#}");
            return Ok(());
        }
    };
    let mut command = toolchain.cargo("test")?;
    for name in TESTED {
        command.args(["-p", name]);
    }
    wine.settle(&mut command);
    let tested = build::run(&mut command);
    wine.end();
    tested
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

fn lint(toolchain: &Toolchain) -> Result<()> {
    let mut command = toolchain.cargo("clippy")?;
    for name in PROGRAMS.iter().chain(&TESTED) {
        command.args(["-p", name]);
    }
    build::run(command.args(["--all-targets", "--", "-D", "warnings"]))
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

fn answers(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}

impl Toolchain {
    fn find() -> Result<Self> {
        if answers(LINKER, "--version").is_none() {
            bail!("no linker for Windows ({LINKER}): apt-get install {PACKAGES}");
        }
        let installed = Command::new("rustup")
            .args(["target", "list", "--installed"])
            .output();
        let installed =
            installed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        if installed.is_ok_and(|targets| targets.lines().any(|line| line == TARGET)) {
            return Ok(Self::Rustup);
        }
        let version = answers("/usr/bin/rustc", "--version")
            .filter(|_| Path::new("/usr/lib/rustlib/src/rust/library/std").is_dir());
        let Some(version) = version else {
            bail!(
                "no standard library for {TARGET}: rustup target add {TARGET}, or on Debian \
                 apt-get install {PACKAGES}"
            );
        };
        // Another compiler reads nothing that this one made.
        let name: String = version
            .chars()
            .map(|c| {
                if c.is_alphanumeric() || c == '.' {
                    c
                } else {
                    '-'
                }
            })
            .collect();
        let sysroot = cache()?.join(format!("windows-sysroot-{}", name.trim_matches('-')));
        if !sysroot.join("complete").exists() {
            make_sysroot(&sysroot)?;
        }
        Ok(Self::Debian { sysroot })
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

/// A Windows of Wine's: a folder and a server of its own.
pub struct Wine {
    prefix: PathBuf,
}

/// What Wine 8 lacks and every Rust program asks for; made here, of use in tests alone.
const RANDOM_DLL: &str = "#include <windows.h>\n\
    BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);\n\
    __declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T count)\n\
    { return SystemFunction036(bytes, (ULONG)count); }\n";

impl Wine {
    pub fn set_up() -> Result<Self> {
        if answers("wine", "--version").is_none() {
            bail!("no Wine: apt-get install {PACKAGES}");
        }
        let wine = Self {
            prefix: target_dir()?.join("wine"),
        };
        if !wine.prefix.join("complete").exists() {
            std::fs::create_dir_all(&wine.prefix)?;
            wine.run(&["wineboot", "-i"])?;
            wine.run(&["winecfg", "-v", "win10"])?;
            wine.add_random()?;
            wine.end();
            std::fs::write(wine.prefix.join("complete"), "")?;
        }
        // Up before the tests, so that no server holds on to their output.
        wine.run(&["wineboot"])?;
        Ok(wine)
    }

    fn add_random(&self) -> Result<()> {
        let source = self.prefix.join("random.c");
        std::fs::write(&source, RANDOM_DLL)?;
        let dll = self
            .prefix
            .join("drive_c/windows/system32/bcryptprimitives.dll");
        build::run(
            Command::new(LINKER)
                .args(["-O2", "-shared", "-o"])
                .arg(dll)
                .arg(source)
                .arg("-ladvapi32"),
        )
    }

    /// Lets a command use this Windows.
    pub fn settle(&self, command: &mut Command) {
        command
            .env("WINEPREFIX", &self.prefix)
            .env("WINEDEBUG", "-all")
            .env_remove("DISPLAY");
    }

    fn run(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new("wine");
        self.settle(&mut command);
        let null = || File::options().write(true).open("/dev/null");
        build::run(
            command
                .args(words)
                .stdin(Stdio::null())
                .stdout(null()?)
                .stderr(null()?),
        )
    }

    /// Ends everything that runs in it.
    pub fn end(&self) {
        let mut command = Command::new("wineserver");
        self.settle(&mut command);
        // Nothing to end is an error to it, not to us.
        let _ = command.arg("-k").stderr(Stdio::null()).status();
    }
}
