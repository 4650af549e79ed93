//! A Windows of Wine's, for tests.

use crate::build;
use crate::windows::{LINKER, PACKAGES, answers};
use anyhow::{Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
    /// Whether there is a Wine; an error says what to install.
    pub fn is_there() -> Result<()> {
        if answers("wine", "--version").is_none() {
            bail!("no Wine: apt-get install {PACKAGES}");
        }
        Ok(())
    }

    /// The Windows in this folder, made where it is not there.
    pub fn set_up(prefix: &Path) -> Result<Self> {
        let wine = Self {
            prefix: prefix.to_owned(),
        };
        if !wine.prefix.join("complete").exists() {
            std::fs::create_dir_all(&wine.prefix)?;
            wine.run(&["wineboot", "-i"])?;
            wine.run(&["winecfg", "-v", "win10"])?;
            wine.add_random()?;
            wine.end();
            std::fs::write(wine.prefix.join("complete"), "")?;
        }
        Ok(wine)
    }

    fn add_random(&self) -> Result<()> {
        let source = self.prefix.join("random.c");
        std::fs::write(&source, RANDOM_DLL)?;
        self.add_library(&source, "bcryptprimitives.dll", &["-ladvapi32"])
    }

    /// Puts an event log that answers from a file in the place of the one that only pretends.
    pub fn add_event_log(&self) -> Result<()> {
        let source = crate::root().join("tests/suite/wine/event_log.c");
        self.add_library(&source, "wevtapi.dll", &[])?;
        let overrides = r"HKCU\Software\Wine\DllOverrides";
        self.run(&[
            "reg", "add", overrides, "/v", "wevtapi", "/d", "native", "/f",
        ])
    }

    fn add_library(&self, source: &Path, name: &str, with: &[&str]) -> Result<()> {
        let library = self.prefix.join("drive_c/windows/system32").join(name);
        build::run(
            Command::new(LINKER)
                .args(["-O2", "-shared", "-o"])
                .arg(library)
                .arg(source)
                .args(with),
        )
    }

    /// Lets a command use this Windows.
    pub fn settle(&self, command: &mut Command) {
        command
            .env("WINEPREFIX", &self.prefix)
            .env("WINEDEBUG", "-all")
            .env_remove("DISPLAY");
    }

    /// Power on until [`Self::end`]. A server that ends by itself when nothing runs may do so just when the
    /// next program comes, which then fails. Started by a program it would hold on to that one's output.
    pub fn start(&self) -> Result<()> {
        let mut server = Command::new("wineserver");
        self.settle(&mut server);
        let null = || File::options().write(true).open("/dev/null");
        server.arg("-p").stdin(Stdio::null());
        build::run(server.stdout(null()?).stderr(null()?))?;
        self.run(&["wineboot"])
    }

    /// Runs a program of Windows to its end.
    pub fn run(&self, words: &[&str]) -> Result<()> {
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
