//! Which server, and as whom: the context file that `ringward-server init` writes.

use crate::error::Error;
use ringward_wire::tls;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tonic::metadata::{Ascii, MetadataValue};

/// Bytes of a context file, and of each file it names.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// A context as it lies on disk. `ca`, `certificate` and `key` are PEM texts, or paths of PEM files
/// relative to the context file. An API token, or the path of a file with one, stands for the last two.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextFile {
    server: String,
    ca: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// What an API token's text starts with.
const TOKEN_PREFIX: &str = "rwapi_";

/// How a context proves who calls.
#[derive(Clone)]
enum Credentials {
    Certificate { pem: Vec<u8>, key_pem: Vec<u8> },
    Token(String),
}

/// A context, ready to connect with.
#[derive(Clone)]
pub struct Context {
    /// Where it was read from.
    pub path: PathBuf,
    /// `host:port` of the admins' listener.
    pub server: String,
    /// Where root certificate and certificate and key, or token, come from, for people: by name.
    pub sources: Vec<(&'static str, String)>,
    ca_pem: Vec<u8>,
    credentials: Credentials,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("path", &self.path)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Reads the context file: the one named, or `~/.config/ringward/context.toml`.
    ///
    /// # Errors
    /// A file that is missing, readable by others, or not what it should be.
    pub fn load(named: Option<&Path>) -> Result<Self, Error> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => default_path()?,
        };
        let text = read(&path, &path)?;
        let text = String::from_utf8(text)
            .map_err(|_| wrong(&path, "it is not UTF-8 text", "write it anew"))?;
        let file: ContextFile = toml::from_str(&text).map_err(|e| {
            wrong(
                &path,
                &e.to_string(),
                "it needs server, ca, and certificate and key or token; `ringward-server init` writes one",
            )
        })?;
        // The file may hold the key itself.
        private(&path, &path)?;
        let (ca_pem, ca) = pem(&path, &file.ca)?;
        let mut sources = vec![("ca", ca)];
        let credentials = match (&file.certificate, &file.key, &file.token) {
            (Some(certificate), Some(key), None) => {
                let (pem, certificate) = self::pem(&path, certificate)?;
                let (key_pem, source) = self::pem(&path, key)?;
                if !is_pem(key) {
                    private(&path, &beside(&path, key))?;
                }
                sources.extend([("certificate", certificate), ("key", source)]);
                Credentials::Certificate { pem, key_pem }
            }
            (None, None, Some(token)) => {
                let (token, source) = read_token(&path, token)?;
                sources.push(("token", source));
                Credentials::Token(token)
            }
            _ => {
                let why = "it names neither certificate and key nor a token, or both";
                return Err(wrong(&path, why, "keep one of the two"));
            }
        };
        Ok(Self {
            path,
            server: file.server,
            sources,
            ca_pem,
            credentials,
        })
    }

    /// TLS as this admin.
    ///
    /// # Errors
    /// Certificates or a key that cannot be used.
    pub fn client_config(&self) -> Result<ClientConfig, Error> {
        Ok(match &self.credentials {
            Credentials::Certificate { pem, key_pem } => {
                tls::client_config_from_pem(&self.ca_pem, pem, key_pem)?
            }
            Credentials::Token(_) => tls::anonymous_config_from_pem(&self.ca_pem)?,
        })
    }

    /// The token that goes along with each call, where one stands for the certificate.
    ///
    /// # Errors
    /// A text that no header takes.
    pub fn bearer(&self) -> Result<Option<MetadataValue<Ascii>>, Error> {
        let Credentials::Token(token) = &self.credentials else {
            return Ok(None);
        };
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
            .parse()
            .map_err(|_| wrong(&self.path, "its token is none", "copy it again"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The text of a context for the same server with this token.
    ///
    /// # Errors
    /// Where it cannot be written as TOML.
    pub fn with_token(&self, token: &str) -> Result<String, Error> {
        let file = ContextFile {
            server: self.server.clone(),
            ca: String::from_utf8_lossy(&self.ca_pem).into_owned(),
            certificate: None,
            key: None,
            token: Some(token.to_owned()),
        };
        toml::to_string(&file).map_err(|error| wrong(&self.path, &error.to_string(), "report this"))
    }
}

fn read_token(context: &Path, value: &str) -> Result<(String, String), Error> {
    let (text, source) = match value.starts_with(TOKEN_PREFIX) {
        true => (value.to_owned(), "in the context file".to_owned()),
        false => {
            let file = beside(context, value);
            let bytes = read(context, &file)?;
            private(context, &file)?;
            let text = String::from_utf8_lossy(&bytes).trim().to_owned();
            (text, file.display().to_string())
        }
    };
    match text.starts_with(TOKEN_PREFIX) {
        true => Ok((text, source)),
        false => Err(wrong(
            context,
            &format!("{source} holds no API token"),
            "make one with `ringwardctl people token`",
        )),
    }
}

fn default_path() -> Result<PathBuf, Error> {
    let config = std::env::var_os("XDG_CONFIG_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".config")));
    let config = config.ok_or_else(|| {
        Error::usage(
            "no context: there is no home folder to look in",
            "name the file with --context or RINGWARD_CONTEXT",
        )
    })?;
    Ok(config.join("ringward").join("context.toml"))
}

fn wrong(context: &Path, why: &str, next: &str) -> Error {
    Error::Context {
        path: context.to_owned(),
        why: why.to_owned(),
        next: next.to_owned(),
    }
}

fn is_pem(value: &str) -> bool {
    value.trim_start().starts_with("-----BEGIN")
}

fn beside(context: &Path, value: &str) -> PathBuf {
    context.parent().unwrap_or(Path::new("")).join(value)
}

fn pem(context: &Path, value: &str) -> Result<(Vec<u8>, String), Error> {
    if is_pem(value) {
        return Ok((value.as_bytes().to_vec(), "in the context file".to_owned()));
    }
    let file = beside(context, value);
    Ok((read(context, &file)?, file.display().to_string()))
}

fn read(context: &Path, file: &Path) -> Result<Vec<u8>, Error> {
    let reading = |e: std::io::Error| {
        let next = "copy the file that `ringward-server init` wrote there, or name another with \
                    --context or RINGWARD_CONTEXT";
        wrong(context, &format!("reading {}: {e}", file.display()), next)
    };
    let size = std::fs::metadata(file).map_err(reading)?.len();
    if size > FILE_BYTES_MAX {
        let why = format!("{} has {size} bytes", file.display());
        return Err(wrong(
            context,
            &why,
            "at most 262144 are read; check the file",
        ));
    }
    std::fs::read(file).map_err(reading)
}

#[cfg(unix)]
fn private(context: &Path, file: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(file)
        .map_err(Error::file("reading", file))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        let why = format!(
            "{} holds a secret and others can read it (mode {:o})",
            file.display(),
            mode & 0o777
        );
        return Err(wrong(
            context,
            &why,
            &format!("run `chmod 600 {}`", file.display()),
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn private(_context: &Path, _file: &Path) -> Result<(), Error> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn write(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("context.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    const INLINE: &str = "server = 'a:1'\nca = '-----BEGIN x'\ncertificate = '-----BEGIN y'\n\
                          key = '-----BEGIN z'\n";

    #[test]
    fn pem_texts_may_stand_in_the_context_itself() {
        let (_dir, path) = write(INLINE, 0o600);
        let context = Context::load(Some(&path)).unwrap();
        assert_eq!(context.server, "a:1");
        let sources: Vec<_> = context.sources.iter().map(|(name, _)| *name).collect();
        assert_eq!(sources, ["ca", "certificate", "key"]);
        assert!(!format!("{context:?}").contains("BEGIN"));
    }

    #[test]
    fn a_context_that_others_can_read_is_refused() {
        let (_dir, path) = write(INLINE, 0o644);
        let error = Context::load(Some(&path)).unwrap_err();
        assert!(error.render().contains("chmod 600"), "{}", error.render());
        assert_eq!(error.exit_code(), crate::error::exit::UNREACHABLE);
    }

    #[test]
    fn paths_are_taken_from_where_the_context_lies() {
        let text = INLINE.replace("'-----BEGIN x'", "'ca.pem'");
        let (dir, path) = write(&text, 0o600);
        std::fs::write(dir.path().join("ca.pem"), "root").unwrap();
        assert_eq!(Context::load(Some(&path)).unwrap().ca_pem, b"root");
    }

    #[test]
    fn a_token_stands_for_certificate_and_key_and_is_not_shown() {
        let token = format!("rwapi_{}", "a".repeat(64));
        let inline = format!("server = 'a:1'\nca = '-----BEGIN x'\ntoken = '{token}'\n");
        let (_dir, path) = write(&inline, 0o600);
        let context = Context::load(Some(&path)).unwrap();
        let bearer = context.bearer().unwrap().unwrap();
        assert_eq!(bearer.to_str().unwrap(), format!("Bearer {token}"));
        assert!(!format!("{context:?} {bearer:?}").contains("aaaa"));
        let (_dir, again) = write(&context.with_token(&token).unwrap(), 0o600);
        assert_eq!(Context::load(Some(&again)).unwrap().server, "a:1");
        let (dir, path) = write(&inline.replace(&token, "token"), 0o600);
        let file = dir.path().join("token");
        std::fs::write(&file, format!("{token}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Context::load(Some(&path)).unwrap_err().render();
        assert!(error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Context::load(Some(&path)).is_ok());
        std::fs::write(&file, "something else").unwrap();
        assert!(Context::load(Some(&path)).is_err());
    }

    #[test]
    fn a_context_proves_who_calls_in_one_way() {
        for text in [
            format!("{INLINE}token = 'rwapi_x'\n"),
            INLINE.replace("key = '-----BEGIN z'\n", ""),
        ] {
            let (_dir, path) = write(&text, 0o600);
            let error = Context::load(Some(&path)).unwrap_err().render();
            assert!(error.contains("keep one of the two"), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_and_a_missing_file_say_what_to_do() {
        let (dir, path) = write(&format!("{INLINE}port = 1\n"), 0o600);
        let error = Context::load(Some(&path)).unwrap_err().render();
        assert!(error.contains("port") && error.contains("next:"), "{error}");
        let error = Context::load(Some(&dir.path().join("none"))).unwrap_err();
        assert!(error.render().contains("ringward-server init"));
    }
}
