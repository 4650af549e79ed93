//! A server on this machine and its admin, for tests that wait without async: whole machines beneath
//! QEMU or Wine are what takes the time there.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);

/// A server that runs until it is dropped.
pub struct Control {
    programs: PathBuf,
    folder: PathBuf,
    child: Child,
}

/// Runs a program to its end and answers what it said.
fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {words}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(words)
}

impl Control {
    /// Makes and starts a server of these programs in `folder`, with this policy, which hosts reach at
    /// the address `here`.
    ///
    /// # Errors
    /// A program cannot be started, or the server does not answer.
    pub fn start(programs: &Path, folder: &Path, here: &str, policy: &str) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (data, rings, keys) = (
            folder.join("server"),
            folder.join("rings.toml"),
            folder.join("keys"),
        );
        std::fs::write(&rings, policy)?;
        let program = |name: &str| Command::new(programs.join(name));
        output(
            program("ringwardctl")
                .args(["keys", "init", "--dir"])
                .arg(&keys),
        )?;
        output(
            program("ringward-server")
                .args(["init", "--agent-address", &format!("{here}:0")])
                .args(["--admin-address", "127.0.0.1:0", "--data"])
                .arg(&data)
                .arg("--rings")
                .arg(&rings)
                .arg("--release-root")
                .arg(keys.join("release-root.json")),
        )?;
        let log = std::fs::File::create(folder.join("server.log"))?;
        let child = program("ringward-server")
            .args(["run", "--data"])
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("starting ringward-server")?;
        let control = Self {
            programs: programs.to_owned(),
            folder: folder.to_owned(),
            child,
        };
        control.wait_for("an answer of the server", PATIENCE, |control| {
            Ok(control.ctl(&["hosts", "list"]).is_ok().then_some(()))
        })?;
        Ok(control)
    }

    /// Runs `ringwardctl`; answers its JSON.
    ///
    /// # Errors
    /// It fails, or says no JSON.
    pub fn ctl(&self, args: &[&str]) -> Result<Value> {
        let words = output(
            Command::new(self.programs.join("ringwardctl"))
                .arg("--context")
                .arg(self.folder.join("server/admin.context.toml"))
                .args(["-o", "json"])
                .args(args),
        )?;
        serde_json::from_str(&words).with_context(|| format!("{words:?} is no JSON"))
    }

    /// Asks until there is an answer.
    ///
    /// # Errors
    /// There is none within `patience`.
    pub fn wait_for<T>(
        &self,
        what: &str,
        patience: Duration,
        mut ask: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        crate::wait::until(what, patience, Duration::from_millis(500), || ask(self))
    }

    /// A token for one host.
    ///
    /// # Errors
    /// The server refuses.
    pub fn token(&self) -> Result<String> {
        let made = self.ctl(&["tokens", "create", "--uses", "1"])?;
        Ok(made["token"].as_str().context("no token")?.to_owned())
    }

    /// Signs and publishes a release of what `bundle` names (`[OS=]FOLDER`), with these further options
    /// of `releases sign`.
    ///
    /// # Errors
    /// Signing or publishing failed.
    pub fn publish(
        &self,
        package: &str,
        version: &str,
        bundle: &OsStr,
        options: &[&str],
    ) -> Result<()> {
        let out = self.folder.join("releases").join(version);
        let mut sign = Command::new(self.programs.join("ringwardctl"));
        sign.args([
            "releases",
            "sign",
            "--package",
            package,
            "--version",
            version,
        ])
        .arg("--bundle")
        .arg(bundle)
        .arg("--key")
        .arg(self.folder.join("keys/release-1.key"))
        .arg("--out")
        .arg(&out)
        .args(options);
        output(&mut sign)?;
        let file = out.join(format!("{package}-{version}.release.json"));
        let file = file.display().to_string();
        self.ctl(&["releases", "publish", &file, "--reason", "test", "--yes"])?;
        Ok(())
    }

    /// The newest rollout, as JSON.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn rollout(&self) -> Result<Value> {
        self.ctl(&["rollouts", "show"])
    }

    /// Waits until the newest rollout is in this state; answers it.
    ///
    /// # Errors
    /// It is not, within `patience`.
    pub fn rollout_is(&self, state: &str, patience: Duration) -> Result<Value> {
        self.wait_for(&format!("a rollout that is {state}"), patience, |control| {
            let shown = control.rollout()?;
            match find(&shown, "state").and_then(Value::as_str) == Some(state) {
                true => Ok(Some(shown)),
                false => bail!("it is {:?}", find(&shown, "state")),
            }
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first field of this name, wherever it is; the outermost wins.
#[must_use]
pub fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let children: Vec<&Value> = match value {
        Value::Object(fields) => match fields.get(name) {
            Some(found) => return Some(found),
            None => fields.values().collect(),
        },
        Value::Array(items) => items.iter().collect(),
        _ => return None,
    };
    children.into_iter().find_map(|child| find(child, name))
}
