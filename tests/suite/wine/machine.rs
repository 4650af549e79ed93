//! A Windows of Wine's as a machine: it boots, runs services, and loses its power.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What Wine does within this, it does at all.
const PATIENCE_S: &str = "180";
/// The state folder of an installed agent, beneath the volume.
pub const STATE: &str = "ProgramData/Ringward/state";

/// A prefix: its folder is the machine's disk, its `wineserver` the machine's power.
pub struct Machine {
    prefix: PathBuf,
    /// The newest record of the event log.
    record: u64,
}

impl Machine {
    /// The machine whose disk is this prefix; it is off.
    pub fn new(prefix: &Path) -> Result<Self> {
        let machine = Self {
            prefix: prefix.to_owned(),
            record: 0,
        };
        machine.power_cut()?;
        Ok(machine)
    }

    /// A file of the volume C:, by its path with `/`.
    pub fn file(&self, path: &str) -> PathBuf {
        self.prefix.join("drive_c").join(path)
    }

    /// What stands in a file of the volume C:; nothing, where it is not there.
    pub fn text(&self, path: &str) -> String {
        let bytes = std::fs::read(self.file(path)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The agent's own log.
    pub fn agent_log(&self) -> String {
        self.text(&format!("{STATE}/agent.log"))
    }

    /// What a person would ask for after a failure.
    pub fn last_words(&self) -> String {
        let log = self.agent_log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(30);
        format!(
            "the agent's log ends with\n{}\nthe guard: {}",
            lines[from..].join("\n"),
            self.text(&format!("{STATE}/guard.last"))
        )
    }

    fn settled(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("WINEPREFIX", &self.prefix)
            .env("WINEDEBUG", "-all")
            .env_remove("DISPLAY")
            .stdin(Stdio::null());
        command
    }

    /// Runs a program of Windows to its end; answers how it ended and what it said. Its words go to a
    /// file: a server of Wine's that outlives it holds on to a pipe.
    pub fn ask(&self, words: &[&str]) -> Result<(i32, String)> {
        let told = self.prefix.join("told.txt");
        let mut command = self.settled("timeout");
        command.args([PATIENCE_S, "wine"]).args(words);
        let status = command
            .stdout(File::create(&told)?)
            .stderr(Stdio::null())
            .status()
            .with_context(|| format!("starting wine {}", words.join(" ")))?;
        let bytes = std::fs::read(&told)?;
        Ok((
            status.code().unwrap_or(-1),
            String::from_utf8_lossy(&bytes).into_owned(),
        ))
    }

    /// The same, and its failure is ours.
    pub fn say(&self, words: &[&str]) -> Result<String> {
        match self.ask(words)? {
            (0, said) => Ok(said),
            (code, said) => bail!("`{}` ended with {code}: {said}", words.join(" ")),
        }
    }

    /// Power on: services that start by themselves start. What the kernel would write into the event
    /// log at a start is written before.
    pub fn boot(&mut self, end: &Ending) -> Result<()> {
        self.log_start(end)?;
        let status = self.settled("wineserver").arg("-p").status();
        status.context("starting wineserver")?;
        self.say(&["wineboot"])?;
        Ok(())
    }

    /// Everything ends at once.
    pub fn power_cut(&self) -> Result<()> {
        // Nothing that runs is an error to it, not to us.
        let end = |word: &str| {
            self.settled("wineserver")
                .arg(word)
                .stderr(Stdio::null())
                .status()
        };
        end("-k").context("starting wineserver")?;
        end("-w").context("waiting for the end of wineserver")?;
        Ok(())
    }

    /// The state of a service as its manager tells it (`RUNNING`), or that there is none.
    pub fn service(&self, name: &str) -> Result<String> {
        let (code, said) = self.ask(&["sc", "query", name])?;
        if code != 0 {
            return Ok("NONE".to_owned());
        }
        let line = said.lines().find(|line| line.contains("STATE"));
        let state = line.and_then(|line| line.split_whitespace().last());
        Ok(state.unwrap_or("UNKNOWN").to_owned())
    }

    /// Asks until there is an answer.
    pub fn wait_for<T>(
        &self,
        what: &str,
        patience: Duration,
        mut ask: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let every = Duration::from_millis(500);
        ringward_suite::wait::until(what, patience, every, || ask(self))
    }

    fn log(&mut self, provider: &str, id: u32, data: &str) -> Result<()> {
        use std::io::Write;
        self.record += 1;
        let line = format!(
            "<Event xmlns='http://schemas.microsoft.com/win/2004/08/events/event'><System>\
             <Provider Name='{provider}'/><EventID>{id}</EventID>\
             <TimeCreated SystemTime='{}'/><EventRecordID>{}</EventRecordID>\
             <Channel>System</Channel><Computer>wine</Computer></System>\
             <EventData>{data}</EventData></Event>\n",
            now()?,
            self.record
        );
        let path = self.file("ringward-events.xml");
        let mut log = File::options().create(true).append(true).open(path)?;
        log.write_all(line.as_bytes())?;
        Ok(())
    }

    /// What a real machine writes while it starts, the end of the boot before included.
    fn log_start(&mut self, end: &Ending) -> Result<()> {
        let power = "Microsoft-Windows-Kernel-Power";
        if let Ending::Clean = end {
            self.log("EventLog", 6006, "")?;
            self.log("Microsoft-Windows-Kernel-General", 13, "")?;
        }
        self.log("Microsoft-Windows-Kernel-General", 12, "")?;
        self.log("EventLog", 6009, "")?;
        self.log("EventLog", 6005, "")?;
        match end {
            Ending::Clean => Ok(()),
            Ending::Bugcheck { code, params, dump } => {
                self.log(power, 41, &kernel_power(*code, *params))?;
                let [p1, p2, p3, p4] = params.map(|param| format!("{param:#018x}"));
                let told = format!(
                    "<Data Name='param1'>{code:#010x} ({p1}, {p2}, {p3}, {p4})</Data>\
                     <Data Name='param2'>{dump}</Data><Data Name='param3'></Data>"
                );
                let reporter = "Microsoft-Windows-WER-SystemErrorReporting";
                self.log(reporter, 1001, &told)
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What is left running would be of no use to anybody.
        let _ = self.power_cut();
    }
}

/// How the boot before ended.
pub enum Ending {
    /// Shut down.
    Clean,
    /// By a bugcheck, whose dump lies here.
    Bugcheck {
        /// Its code, as the event log has it.
        code: u32,
        /// Its parameters.
        params: [u64; 4],
        /// Path of the dump on the machine.
        dump: String,
    },
}

fn kernel_power(code: u32, params: [u64; 4]) -> String {
    let mut data = format!("<Data Name='BugcheckCode'>{code}</Data>");
    for (index, param) in params.iter().enumerate() {
        data += &format!(
            "<Data Name='BugcheckParameter{}'>{param:#x}</Data>",
            index + 1
        );
    }
    data + "<Data Name='SleepInProgress'>0</Data><Data Name='PowerButtonTimestamp'>0</Data>"
}

/// Now, as the event log writes it.
fn now() -> Result<String> {
    let told = Command::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M:%S.%3NZ"])
        .output();
    let told = told.context("asking `date` for the time")?.stdout;
    Ok(String::from_utf8(told)?.trim().to_owned())
}
