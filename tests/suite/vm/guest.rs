//! One machine under QEMU: its power, its console, a shell inside it.

use crate::Options;
use crate::image::Image;
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A boot takes 25 s emulated on an idle machine; on one that a dozen compilers share it took 400.
pub const BOOT_PATIENCE: Duration = Duration::from_secs(900);
const COMMAND_PATIENCE: Duration = Duration::from_secs(180);
/// Until a shell says that it listens.
const GREETING_PATIENCE: Duration = Duration::from_secs(10);
/// Debian's own settings: a kernel that says little, and waits after a panic. `no_timer_check` is for the
/// emulator alone: on a busy machine its timer ticks too late for the kernel's first look at it.
pub const COMMAND_LINE: &str = "root=/dev/vda ro quiet console=ttyS0 no_timer_check";
const PSTORE_BYTES: u64 = 256 * 1024;

/// What differs between machines.
#[derive(Default)]
pub struct Hardware {
    /// Boots the initramfs from before the package was installed.
    pub old_initrd: bool,
    /// Every block write is recorded here.
    pub record: Option<PathBuf>,
    /// Boots by UEFI from this disk, not by the emulator itself.
    pub boot_disk: Option<PathBuf>,
}

/// A machine that runs until it is dropped.
pub struct Guest {
    child: Child,
    folder: PathBuf,
}

/// A program of the tools with the libraries it was built with, whatever the machine has.
pub fn tool(tools: &Path, program: &str) -> Command {
    let libraries = tools.join("usr/lib/x86_64-linux-gnu");
    let private = ["", "pulseaudio", "blas", "lapack"];
    let path: Vec<String> = private
        .iter()
        .map(|folder| libraries.join(folder).display().to_string())
        .collect();
    // Whatever becomes of us, no machine is left behind.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(libraries.join("ld-linux-x86-64.so.2"))
        .arg("--library-path")
        .arg(path.join(":"))
        .arg(tools.join(program));
    command
}

fn qemu(tools: &Path) -> Command {
    let mut command = tool(tools, "usr/bin/qemu-system-x86_64");
    let modules = tools.join("usr/lib/x86_64-linux-gnu/qemu");
    command.env("QEMU_MODULE_DIR", modules);
    for firmware in ["share/seabios", "share/qemu", "lib/ipxe/qemu"] {
        command.arg("-L").arg(tools.join("usr").join(firmware));
    }
    command
}

impl Guest {
    /// Switches a machine on.
    pub fn start(options: &Options, image: &Image, hardware: &Hardware) -> Result<Self> {
        let folder = image
            .disk
            .parent()
            .context("the disk lies nowhere")?
            .to_owned();
        let at = |name: &str| folder.join(name).display().to_string();
        for stale in ["control", "monitor"] {
            let _ = std::fs::remove_file(folder.join(stale));
        }
        let mut command = qemu(&options.tools);
        command.args("-nodefaults -no-user-config -display none".split(' '));
        command.args("-accel tcg,tb-size=128 -machine q35 -cpu Nehalem -m 512 -smp 1".split(' '));
        command.args(["-serial", &format!("file:{}", at("console.log"))]);
        control_line(&mut command, &at("control"), hardware.boot_disk.is_some());
        command.args([
            "-monitor",
            &format!("unix:{},server=on,wait=off", at("monitor")),
        ]);
        // What the firmware keeps for the kernel's last words, over every reset.
        command.args([
            "-object",
            &format!(
                "memory-backend-file,id=erst,size={PSTORE_BYTES},share=on,mem-path={}",
                at("erst.bin")
            ),
            "-device",
            "acpi-erst,memdev=erst",
            "-netdev",
            "user,id=n0",
            "-device",
            "virtio-net-pci,netdev=n0,id=net0",
            "-device",
            "i6300esb",
        ]);
        disk(&mut command, 0, &image.disk, hardware.record.as_deref());
        if let Some(var) = &image.var {
            disk(&mut command, 1, var, None);
        }
        match &hardware.boot_disk {
            Some(boot) => by_uefi(&mut command, &options.tools, &folder, boot)?,
            None => {
                let initrd = match hardware.old_initrd {
                    true => &image.initrd_before,
                    false => &image.initrd,
                };
                command.arg("-kernel").arg(&image.kernel);
                command.arg("-initrd").arg(initrd);
                command.args(["-append", COMMAND_LINE]);
            }
        }
        let words = std::fs::File::create(folder.join("qemu.log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(words.try_clone()?)
            .stderr(words)
            .spawn()
            .context("starting QEMU")?;
        Ok(Self { child, folder })
    }

    /// Everything the machine wrote to its first serial line since it was switched on.
    pub fn console(&self) -> String {
        let bytes = std::fs::read(self.folder.join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Kernel panics that the console has shown.
    pub fn panics(&self) -> usize {
        let console = self.console();
        let begun = |line: &&str| {
            // A kernel that stays where it is says so in the same words.
            line.contains("Kernel panic - not syncing") && !line.contains("---[ end")
        };
        console.lines().filter(begun).count()
    }

    /// Asks until there is an answer.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        patience: Duration,
        mut ask: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let end = Instant::now() + patience;
        let mut why = String::new();
        loop {
            match ask(self) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(error) => why = format!(" ({error:#})"),
            }
            if let Some(status) = self.child.try_wait()? {
                let words = std::fs::read_to_string(self.folder.join("qemu.log"));
                bail!("QEMU ended with {status}: {}", words.unwrap_or_default());
            }
            if Instant::now() >= end {
                bail!(
                    "{what} did not come about within {} s{why}; the console ends with:\n{}",
                    patience.as_secs(),
                    self.last_words()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn last_words(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Waits until systemd has come to rest; answers how.
    pub fn wait_booted(&mut self) -> Result<String> {
        self.wait_for("a booted system", BOOT_PATIENCE, |guest| {
            let state = guest.say("systemctl is-system-running || true")?;
            let state = state.trim().to_owned();
            Ok(matches!(state.as_str(), "running" | "degraded").then_some(state))
        })
    }

    /// Runs a shell line inside; its failure is an error with its words.
    pub fn say(&self, line: &str) -> Result<String> {
        let mut stream = UnixStream::connect(self.folder.join("control"))
            .context("connecting to the machine's second serial line")?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        let mark = format!("{:08x}", fastrand::u32(..));
        greet(&mut stream, &mark)?;
        // The marks are broken up by quotes, so that an echo of the line is not taken for its answer.
        let asked = format!(
            "\nstty -echo 2>/dev/null; echo B''{mark}; {{ {line}\n}} 2>&1; echo E''{mark}:$?\n"
        );
        stream.write_all(asked.as_bytes())?;
        let (begin, end) = (format!("B{mark}\n"), format!("E{mark}:"));
        let heard = hear(&mut stream, COMMAND_PATIENCE, |heard| {
            heard
                .find(&end)
                .is_some_and(|at| heard[at..].contains('\n'))
        })
        .with_context(|| format!("`{line}` was not answered"))?;
        let from = heard.find(&begin).context("no begin of the answer")? + begin.len();
        let to = heard.find(&end).context("no end of the answer")?;
        let words = heard[from.min(to)..to].to_owned();
        let status = heard[to + end.len()..].lines().next().unwrap_or_default();
        match status.trim() {
            "0" => Ok(words),
            status => bail!("`{line}` ended with {status}: {words}"),
        }
    }

    /// Says something to QEMU's monitor.
    pub fn monitor(&self, line: &str) -> Result<()> {
        let mut stream = UnixStream::connect(self.folder.join("monitor"))?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        let prompts = |n: usize| move |heard: &str| heard.matches("(qemu)").count() >= n;
        hear(&mut stream, COMMAND_PATIENCE, prompts(1))?;
        stream.write_all(format!("{line}\n").as_bytes())?;
        hear(&mut stream, COMMAND_PATIENCE, prompts(1)).map(drop)
    }

    /// Plugs the network cable in or out.
    pub fn cable(&self, plugged: bool) -> Result<()> {
        let state = if plugged { "on" } else { "off" };
        self.monitor(&format!("set_link net0 {state}"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn disk(command: &mut Command, number: usize, file: &Path, record: Option<&Path>) {
    let open = |name: String, path: &Path| {
        format!(
            "driver=file,node-name={name},cache.no-flush=on,filename={}",
            path.display()
        )
    };
    command.args(["-blockdev", &open(format!("f{number}"), file)]);
    let raw = match record {
        None => format!("driver=raw,node-name=d{number},file=f{number}"),
        Some(record) => {
            command.args(["-blockdev", &open(format!("l{number}"), record)]);
            format!(
                "driver=blklogwrites,node-name=d{number},file=f{number},log=l{number},log-super-update-interval=64"
            )
        }
    };
    command.args(["-blockdev", &raw]);
    command.args(["-device", &format!("virtio-blk-pci,drive=d{number}")]);
}

/// The line of the root shell. The firmware listens on every serial line, and a word from us would stop
/// its boot; of a virtio console it knows nothing.
fn control_line(command: &mut Command, socket: &str, has_firmware: bool) {
    let line = format!("socket,id=control,server=on,wait=off,path={socket}");
    command.args(["-chardev", &line]);
    match has_firmware {
        false => command.args(["-serial", "chardev:control"]),
        true => command
            .args(["-device", "virtio-serial-pci"])
            .args(["-device", "virtconsole,chardev=control"]),
    };
}

/// The firmware, with variables of its own that last as long as the machine, and the disk it boots.
fn by_uefi(command: &mut Command, tools: &Path, folder: &Path, boot: &Path) -> Result<()> {
    let firmware = tools.join("usr/share/OVMF");
    let variables = folder.join("variables.fd");
    std::fs::copy(firmware.join("OVMF_VARS_4M.fd"), &variables)
        .context("the tools hold no firmware")?;
    for (file, access) in [
        (firmware.join("OVMF_CODE_4M.fd"), "readonly=on"),
        (variables, "readonly=off"),
    ] {
        let drive = format!("if=pflash,format=raw,{access},file={}", file.display());
        command.args(["-drive", &drive]);
    }
    disk(command, 1, boot, None);
    Ok(())
}

fn greet(stream: &mut UnixStream, mark: &str) -> Result<()> {
    let end = Instant::now() + GREETING_PATIENCE;
    let answer = format!("R{mark}\n");
    let mut heard = String::new();
    while Instant::now() < end {
        stream.write_all(format!("\necho R''{mark}\n").as_bytes())?;
        heard.push_str(&some(stream)?);
        if heard.contains(&answer) {
            return Ok(());
        }
    }
    bail!("no shell answers on the second serial line")
}

/// What there is to read now, without carriage returns.
fn some(stream: &mut UnixStream) -> Result<String> {
    let mut buffer = [0; 65_536];
    match stream.read(&mut buffer) {
        Ok(0) => bail!("the machine is gone"),
        Ok(n) => Ok(String::from_utf8_lossy(&buffer[..n]).replace('\r', "")),
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ) =>
        {
            Ok(String::new())
        }
        Err(error) => Err(error.into()),
    }
}

fn hear(
    stream: &mut UnixStream,
    patience: Duration,
    enough: impl Fn(&str) -> bool,
) -> Result<String> {
    let end = Instant::now() + patience;
    let mut heard = String::new();
    while Instant::now() < end {
        heard.push_str(&some(stream)?);
        if enough(&heard) {
            return Ok(heard);
        }
    }
    bail!("nothing more within {} s: {heard}", patience.as_secs())
}
