//! `agent.toml`: read as written ([`File`]), completed ([`Merged`]), checked ([`Settings`]). An error
//! names the field and what would do; an unknown key is one.

use crate::order_policy::{IsolationFile, OrderSettings, OrdersFile};
use ringward_agent_os::machine::places;
use serde::Deserialize;
use std::path::{Path, PathBuf};

const SPOOL_MIB_DEFAULT: u64 = 16;

/// Why the settings are unusable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("reading the settings {path}; create it or name another one with --config")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("reading the settings {path}: {why}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and key.
        why: String,
    },
    /// A value cannot be what it is.
    #[error("settings: {field} {why}")]
    Invalid {
        /// The key's path.
        field: &'static str,
        /// What is wrong and what would do.
        why: String,
    },
}

/// The file as a person wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where ledger, slots, spool and identity live.
    pub state_dir: Option<PathBuf>,
    /// Which kind of host this is.
    pub adapter: Option<Adapter>,
    /// Servers to use instead of those of the enrolment, as `host:port`.
    pub servers: Option<Vec<String>>,
    /// Files and folders of others whose every change is told to the server.
    pub watch: Option<Vec<PathBuf>>,
    /// The signal spool.
    #[serde(default)]
    pub spool: SpoolFile,
    /// Further sources of artefacts.
    #[serde(default)]
    pub mirrors: MirrorsFile,
    /// What this host lets itself be ordered.
    #[serde(default)]
    pub orders: OrdersFile,
    /// How it is isolated.
    #[serde(default)]
    pub isolation: IsolationFile,
}

/// `[spool]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpoolFile {
    /// Disk for signals that wait; 1-1024 MiB.
    pub size_mib: Option<u64>,
}

/// `[mirrors]`: where artefacts are looked for before the server is asked. Nothing of a mirror is
/// believed but what has the manifest's digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorsFile {
    /// `https://host[:port]/folder` with a file `<sha256>` for each artefact; asked in this order, at
    /// most 8.
    #[serde(default)]
    pub urls: Vec<String>,
    /// The authorities that may vouch for mirrors (PEM); without it those of the system.
    pub ca_file: Option<PathBuf>,
}

/// Checked `[mirrors]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MirrorSettings {
    /// In the order in which they are asked.
    pub urls: Vec<hyper::Uri>,
    /// The authorities that may vouch for them; `None` for those of the system.
    pub ca_file: Option<PathBuf>,
}

/// Mirrors that one host asks at most.
const MIRRORS_MAX: usize = 8;

impl MirrorsFile {
    fn validate(self) -> Result<MirrorSettings, ConfigError> {
        let invalid = |why: String| ConfigError::Invalid {
            field: "mirrors.urls",
            why,
        };
        if self.urls.len() > MIRRORS_MAX {
            return Err(invalid(format!("holds more than {MIRRORS_MAX}")));
        }
        let mut urls = Vec::new();
        for text in self.urls {
            let url = text.parse::<hyper::Uri>().ok().filter(|url| {
                url.scheme_str() == Some("https")
                    && url.host().is_some_and(|host| !host.is_empty())
                    && url.query().is_none()
                    && !text.contains('@')
            });
            urls.push(url.ok_or_else(|| {
                invalid(format!("holds {text:?}, which is not https://host/folder"))
            })?);
        }
        Ok(MirrorSettings {
            urls,
            ca_file: self.ca_file,
        })
    }
}

/// Which kind of host the agent runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adapter {
    /// The machine this runs on.
    #[serde(alias = "linux", alias = "windows")]
    Machine,
    /// A scripted machine inside the process, for demo and tests.
    Scripted,
}

/// Every value decided, none checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    state_dir: PathBuf,
    adapter: Adapter,
    servers: Vec<String>,
    watch: Vec<PathBuf>,
    spool_mib: u64,
    mirrors: MirrorsFile,
    orders: OrdersFile,
    isolation: IsolationFile,
}

/// Checked settings: what the agent runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where ledger, slots, spool and identity live; absolute.
    pub state_dir: PathBuf,
    /// Which kind of host this is.
    pub adapter: Adapter,
    /// Servers to use instead of those of the enrolment; empty = those.
    pub servers: Vec<String>,
    /// Files and folders whose every change is told; absolute.
    pub watch: Vec<PathBuf>,
    /// Disk for signals that wait.
    pub spool_bytes_max: u64,
    /// Further sources of artefacts.
    pub mirrors: MirrorSettings,
    /// What this host lets itself be ordered, and how it is isolated.
    pub orders: OrderSettings,
}

impl File {
    /// Read a settings file.
    ///
    /// # Errors
    /// It cannot be read, or holds something unknown; the error names the key.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            why: error.to_string(),
        })
    }

    /// Complete it: command line before file before default.
    #[must_use]
    pub fn merge(self, state_dir: Option<PathBuf>) -> Merged {
        Merged {
            state_dir: state_dir
                .or(self.state_dir)
                .unwrap_or_else(places::state_dir),
            adapter: self.adapter.unwrap_or(Adapter::Machine),
            servers: self.servers.unwrap_or_default(),
            watch: self.watch.unwrap_or_default(),
            spool_mib: self.spool.size_mib.unwrap_or(SPOOL_MIB_DEFAULT),
            mirrors: self.mirrors,
            orders: self.orders,
            isolation: self.isolation,
        }
    }
}

impl Merged {
    /// Check every value.
    ///
    /// # Errors
    /// Names the field and what would do.
    pub fn validate(self) -> Result<Settings, ConfigError> {
        let invalid = |field, why: &str| ConfigError::Invalid {
            field,
            why: why.to_owned(),
        };
        let state_dir = std::path::absolute(&self.state_dir)
            .map_err(|error| invalid("state_dir", &format!("is no path: {error}")))?;
        if !(1..=1024).contains(&self.spool_mib) {
            return Err(invalid("spool.size_mib", "must be 1-1024"));
        }
        if self.servers.len() > 16 {
            return Err(invalid("servers", "holds more than 16 addresses"));
        }
        if let Some(bad) = self.servers.iter().find(|server| !is_address(server)) {
            return Err(invalid(
                "servers",
                &format!("holds {bad:?}, which is not host:port"),
            ));
        }
        if self.watch.len() > 64 || self.watch.iter().any(|path| !path.is_absolute()) {
            return Err(invalid("watch", "must be at most 64 absolute paths"));
        }
        Ok(Settings {
            state_dir,
            adapter: self.adapter,
            servers: self.servers,
            watch: self.watch,
            spool_bytes_max: self.spool_mib * 1024 * 1024,
            mirrors: self.mirrors.validate()?,
            orders: self.orders.validate(self.isolation)?,
        })
    }
}

impl Settings {
    /// All defaults around a state folder: what tests and fleets of scripted hosts use.
    ///
    /// # Errors
    /// The folder's path cannot be made absolute.
    pub fn scripted(state_dir: &Path) -> Result<Self, ConfigError> {
        let file = File {
            adapter: Some(Adapter::Scripted),
            ..File::default()
        };
        file.merge(Some(state_dir.to_owned())).validate()
    }
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let host_fits = !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._[]:%".contains(&b));
    host_fits && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(text: &str) -> Result<Settings, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        File::read(&path)?.merge(None).validate()
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let settings = settings("").unwrap();
        assert_eq!(settings.state_dir, places::state_dir());
        assert_eq!(settings.adapter, Adapter::Machine);
        assert_eq!(settings.spool_bytes_max, 16 * 1024 * 1024);
    }

    #[test]
    fn every_bad_value_is_named() {
        for (text, field) in [
            ("stat_dir = '/x'", "stat_dir"),
            ("adapter = 'dos'", "adapter"),
            ("[spool]\nsize = 1", "size"),
            ("[spool]\nsize_mib = 0", "spool.size_mib"),
            ("watch = ['drivers']", "watch"),
            ("servers = ['nowhere']", "servers"),
            ("servers = ['h:0']", "servers"),
            ("servers = ['h h:1']", "servers"),
            ("[mirrors]\nurls = ['http://plain/x']", "mirrors.urls"),
            ("[mirrors]\nurls = ['https://']", "mirrors.urls"),
            ("[mirrors]\nurls = ['https://u:p@h/x']", "mirrors.urls"),
            ("[mirrors]\nurl = 'https://h/x'", "url"),
        ] {
            let error = settings(text).unwrap_err().to_string();
            assert!(error.contains(field), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let file = File {
            state_dir: Some(PathBuf::from("/from/file")),
            ..File::default()
        };
        let settings = file
            .merge(Some(PathBuf::from("/from/line")))
            .validate()
            .unwrap();
        assert_eq!(settings.state_dir, Path::new("/from/line"));
    }

    #[test]
    fn a_missing_file_says_what_to_do() {
        let error = File::read(Path::new("/nowhere/agent.toml")).unwrap_err();
        assert!(error.to_string().contains("--config"), "{error}");
    }
}
