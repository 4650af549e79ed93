//! `ringward-server init`: everything a first start needs, made once and never overwritten.

use crate::config::{
    AdminListenerFile, CertificatesFile, Config, ConfigFile, DashboardFile, LimitsFile,
    ListenerFile, RetentionFile, StoreFile, split_address,
};
use crate::data_dir::{DataDir, create_private_dir, read_bounded, write_whole};
use crate::error::ServerError;
use crate::pki::{self, Pki, ServerNames, Which, is_admin_name};
use crate::release_check::trust_root;
use serde::Serialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// Bytes of a ring policy.
const POLICY_BYTES_MAX: u64 = 256 * 1024;

/// What a person asks for.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The data directory; made, or empty.
    pub data: PathBuf,
    /// Address of the agents' listener as hosts reach it, `HOST:PORT`; port 0 takes a free one now.
    pub agent_address: String,
    /// Address of the admins' listener as people reach it, `HOST:PORT`; port 0 takes a free one now.
    pub admin_address: String,
    /// Name of the first admin.
    pub admin: String,
    /// Ring policy (TOML) to begin with; `None` for the default one.
    pub rings: Option<PathBuf>,
    /// Release root to trust from the start.
    pub release_root: Option<PathBuf>,
}

/// What was made.
#[derive(Debug, Clone)]
pub struct Initialised {
    /// The data directory.
    pub data: DataDir,
    /// The first admin's context file for `ringwardctl`.
    pub context: PathBuf,
    /// Address that hosts are told.
    pub agent_address: String,
    /// Address that admins are told.
    pub admin_address: String,
}

impl Initialised {
    /// What a person does next.
    pub fn next_steps(&self) -> String {
        let data = self.data.root().display();
        format!(
            "Made {data}. Hosts reach it at {agents}, admins at {admins}.\n\n\
             Next:\n  \
             ringwardctl keys init            # release keys, kept by people and never here\n  \
             ringward-server trust-root --data {data} release-keys/release-root.json\n  \
             ringward-server run --data {data}\n  \
             ringward-server login --data {data}   # a link that opens the dashboard, once\n  \
             export RINGWARD_CONTEXT={context}\n  \
             ringwardctl tokens create        # its text goes, on the new host, into\n  \
             ringward-agent enroll --token-stdin\n  \
             ringward-agent run\n\n\
             Keep {data}/pki/root.key offline: it is only needed for a new intermediate.",
            agents = self.agent_address,
            admins = self.admin_address,
            context = self.context.display(),
        )
    }
}

/// What `ringwardctl` needs to reach this server as one admin.
#[derive(Serialize)]
struct ContextFile<'a> {
    /// `HOST:PORT` of the admins' listener.
    server: &'a str,
    /// Root certificate, PEM.
    ca: &'a str,
    /// The admin's certificate with its intermediate, PEM.
    certificate: &'a str,
    /// Its private key, PEM.
    key: &'a str,
}

/// Makes a data directory.
///
/// # Errors
/// Where one lies there already, an address or name makes no sense, or a file cannot be written.
pub fn init(options: &InitOptions) -> Result<Initialised, ServerError> {
    let data = DataDir::new(&options.data);
    refuse_existing(&data)?;
    check_admin(&options.admin)?;
    let agents = listener("--agent-address", &options.agent_address)?;
    let admins = listener("--admin-address", &options.admin_address)?;
    if agents.listen == admins.listen {
        return Err(ServerError::refused(
            "agents and admins cannot share one address",
            "give --admin-address another port",
        ));
    }
    let policy = match &options.rings {
        None => ringward_server_core::policy::DEFAULT.to_owned(),
        Some(path) => read_policy(path)?,
    };
    create_private_dir(data.root())?;
    let pki = pki::create(
        &data.pki(),
        &server_names(&agents.address)?,
        &server_names(&admins.address)?,
    )?;
    write_whole(&data.rings(), policy.as_bytes(), 0o644)?;
    if let Some(file) = &options.release_root {
        trust_root(&data, file)?;
    }
    let certificates = CertificatesFile::default();
    let context = write_context(&data, &pki, &options.admin, &admins.address, &certificates)?;
    write_whole(
        &data.seats(),
        format!("{}\n", options.admin).as_bytes(),
        0o644,
    )?;
    let (agent_address, admin_address) = (agents.address.clone(), admins.address.clone());
    let file = ConfigFile {
        agents,
        admins: AdminListenerFile {
            listen: admins.listen,
            address: admins.address,
            certificate_only: false,
        },
        dashboard: Some(DashboardFile {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        }),
        store: StoreFile::default(),
        certificates,
        retention: RetentionFile::default(),
        limits: LimitsFile::default(),
        webhook: Vec::new(),
    };
    // Last: a directory with settings is a complete one.
    write_whole(&data.config(), config_text(&file)?.as_bytes(), 0o644)?;
    Ok(Initialised {
        data,
        context,
        agent_address,
        admin_address,
    })
}

/// Issues a certificate for another person and writes the context file that carries it. It opens
/// nothing by itself: what its bearer may do is granted to the name (`ringwardctl people grant`).
///
/// # Errors
/// Where the name makes no sense, has a context file already, or a file cannot be written.
pub fn new_admin(config: &Config, name: &str) -> Result<PathBuf, ServerError> {
    if !is_admin_name(name) {
        return Err(ServerError::refused(
            format!("{name:?} cannot be a person's name"),
            "use 1-64 letters, digits and '._@-', starting with a letter or digit",
        ));
    }
    let data = &config.data;
    let path = data.admin_context(name);
    if path.exists() {
        return Err(ServerError::refused(
            format!("{} is there already", path.display()),
            "give it to its owner and remove it here; then a new one can be made",
        ));
    }
    if !data.seats().exists() {
        // A folder of before there were seats seats everybody with a context: not this one.
        let seats = data.first_people().join("\n");
        write_whole(&data.seats(), seats.as_bytes(), 0o644)?;
    }
    let pki = Pki::load(&data.pki())?;
    write_context(
        data,
        &pki,
        name,
        &config.admins.address,
        &config.certificates,
    )
}

pub(crate) fn refuse_existing(data: &DataDir) -> Result<(), ServerError> {
    let root = data.root();
    let occupied = match std::fs::read_dir(root) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(ServerError::file("looking into", root)(error)),
    };
    if occupied {
        return Err(ServerError::refused(
            format!("{} is not empty", root.display()),
            "init never overwrites: choose another directory, or move this one away",
        ));
    }
    Ok(())
}

/// Where to listen for an address that clients are told: a loopback address stays one, everything
/// else is reached through some interface of this machine.
fn listener(option: &'static str, address: &str) -> Result<ListenerFile, ServerError> {
    let (host, port) = split_address(address).map_err(|why| {
        ServerError::refused(format!("{option} {address:?} {why}"), "write HOST:PORT")
    })?;
    let ip = match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_loopback() => ip,
        Ok(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        Ok(IpAddr::V4(_)) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Err(_) if host == "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Err(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let port = if port == 0 { free_port(ip)? } else { port };
    let shown = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    Ok(ListenerFile {
        listen: SocketAddr::new(ip, port),
        address: shown,
    })
}

/// A port that is free now. Taken for good, so that hosts find the server again after a restart.
fn free_port(ip: IpAddr) -> Result<u16, ServerError> {
    TcpListener::bind((ip, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| ServerError::Listen {
            address: format!("{ip}:0"),
            who: "a trial",
            source,
        })
}

/// Names in a listener's certificate for an address that clients are told.
///
/// # Errors
/// Where the address makes no sense.
pub(crate) fn server_names(address: &str) -> Result<ServerNames, ServerError> {
    let (host, _) = split_address(address).map_err(|why| {
        ServerError::refused(format!("address {address:?} {why}"), "write HOST:PORT")
    })?;
    Ok(ServerNames { given: vec![host] })
}

fn read_policy(path: &Path) -> Result<String, ServerError> {
    let bytes = read_bounded(path, POLICY_BYTES_MAX)?;
    let text = String::from_utf8(bytes).map_err(|_| {
        ServerError::refused(format!("{} is not UTF-8", path.display()), "write it anew")
    })?;
    ringward_server_core::policy::Policy::parse(&text).map_err(|error| {
        ServerError::refused(
            format!("{}: {error}", path.display()),
            "mend it, or leave --rings out for the default policy",
        )
    })?;
    Ok(text)
}

fn write_context(
    data: &DataDir,
    pki: &Pki,
    admin: &str,
    address: &str,
    certificates: &CertificatesFile,
) -> Result<PathBuf, ServerError> {
    let authority = pki.authority(Which::Admins);
    let (leaf, key) = authority.issue_admin(admin, certificates.admin_days)?;
    let chain = format!("{leaf}{}", authority.certificate_pem());
    let file = ContextFile {
        server: address,
        ca: pki.root_pem(),
        certificate: &chain,
        key: &key,
    };
    let path = data.admin_context(admin);
    write_whole(&path, toml_text(&file)?.as_bytes(), 0o600)?;
    Ok(path)
}

/// Makes another context file for an admin, by the present authority.
///
/// # Errors
/// Where the name cannot be one, or the file cannot be written.
pub fn admin_context(config: &Config, admin: &str) -> Result<PathBuf, ServerError> {
    check_admin(admin)?;
    let pki = Pki::load(&config.data.pki())?;
    let address = &config.admins.address;
    write_context(&config.data, &pki, admin, address, &config.certificates)
}

/// Begins or ends the change to another authority; answers what a person does next.
///
/// # Errors
/// Where it cannot be begun or ended; everything stays as it was.
pub fn rotate_authority(
    config: &Config,
    root_key: Option<&Path>,
    finish: bool,
) -> Result<String, ServerError> {
    let agents = server_names(&config.agents.address)?;
    let admins = server_names(&config.admins.address)?;
    let (folder, data) = (config.data.pki(), config.data.root().display());
    if finish {
        let done = pki::finish_rotation(&folder, &agents, &admins)?;
        return Ok(format!(
            "From the next start on only the new authority vouches (bundle {}).\n\n\
             Next:\n  restart ringward-server",
            done.version
        ));
    }
    let begun = pki::begin_rotation(&folder, root_key, &agents, &admins)?;
    Ok(format!(
        "From the next start on a new authority vouches beside the old one (bundle {version}, root {root}).\n\n\
         Next:\n  \
         keep {data}/pki/root.key offline, and destroy copies of the old one\n  \
         restart ringward-server\n  \
         ringward-server admin-context --data {data} --admin NAME   # for each admin\n  \
         wait until ringward_connections_leaving_authority_total grows no more (days, for laptops)\n  \
         ringward-server rotate-authority --data {data} --finish",
        version = begun.version,
        root = begun.root,
    ))
}

fn check_admin(name: &str) -> Result<(), ServerError> {
    match is_admin_name(name) {
        true => Ok(()),
        false => Err(ServerError::refused(
            format!("{name:?} cannot be an admin's name"),
            "use 1-64 letters, digits and '._@-', starting with a letter or digit",
        )),
    }
}

fn toml_text<T: Serialize>(value: &T) -> Result<String, ServerError> {
    toml::to_string(value).map_err(|error| ServerError::Inconsistent {
        what: format!("a settings file cannot be written as TOML: {error}"),
    })
}

/// The settings, with every default written out so that a person sees what there is to turn.
fn config_text(file: &ConfigFile) -> Result<String, ServerError> {
    let text = toml_text(file)?;
    Ok(format!(
        "# Settings of ringward-server. A line left out takes its default; a changed one counts from\n\
         # the next start.\n\n{text}"
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::data_dir::check_private;

    fn options(data: &Path) -> InitOptions {
        InitOptions {
            data: data.to_owned(),
            agent_address: "127.0.0.1:0".to_owned(),
            admin_address: "localhost:0".to_owned(),
            admin: "ada".to_owned(),
            rings: None,
            release_root: None,
        }
    }

    #[test]
    fn init_makes_what_run_needs_and_keeps_it_private() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let made = init(&options(&data)).unwrap();
        let config = Config::load(made.data.clone()).unwrap();
        assert_ne!(config.agents.listen.port(), 0);
        assert!(
            made.agent_address
                .ends_with(&config.agents.listen.port().to_string())
        );
        check_private(&data).unwrap();
        check_private(&data.join("pki")).unwrap();
        check_private(&made.context).unwrap();
        assert!(made.next_steps().contains("trust-root"));
    }

    #[test]
    fn init_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let made = init(&options(&data)).unwrap();
        let before = std::fs::read(made.data.pki().join("root.crt")).unwrap();
        let error = init(&options(&data)).unwrap_err();
        assert!(error.to_string().contains("not empty"), "{error}");
        assert_eq!(
            std::fs::read(made.data.pki().join("root.crt")).unwrap(),
            before
        );
    }

    #[test]
    fn another_person_gets_a_certificate_once_and_by_a_name_that_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let made = init(&options(&dir.path().join("data"))).unwrap();
        let config = Config::load(made.data.clone()).unwrap();
        let path = new_admin(&config, "bea").unwrap();
        check_private(&path).unwrap();
        let (hers, first) = (
            std::fs::read_to_string(path).unwrap(),
            std::fs::read_to_string(made.context).unwrap(),
        );
        assert_ne!(hers, first);
        assert!(new_admin(&config, "bea").is_err());
        assert!(new_admin(&config, "../bea").is_err());
    }

    #[test]
    fn nonsense_is_refused_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        for broken in [
            InitOptions {
                admin: "../ada".to_owned(),
                ..options(&data)
            },
            InitOptions {
                agent_address: "nowhere".to_owned(),
                ..options(&data)
            },
            InitOptions {
                agent_address: "10.0.0.1:7443".to_owned(),
                admin_address: "10.0.0.1:7443".to_owned(),
                ..options(&data)
            },
            InitOptions {
                rings: Some(dir.path().join("absent.toml")),
                ..options(&data)
            },
        ] {
            assert!(init(&broken).is_err(), "{broken:?}");
            assert!(!data.exists());
        }
    }

    #[test]
    fn a_listener_is_bound_where_its_address_can_be_reached() {
        for (address, ip) in [
            ("127.0.0.1:1", "127.0.0.1"),
            ("localhost:1", "127.0.0.1"),
            ("[::1]:1", "::1"),
            ("192.0.2.1:1", "0.0.0.0"),
            ("[2001:db8::1]:1", "::"),
            ("ringward.example:1", "0.0.0.0"),
        ] {
            let made = listener("--agent-address", address).unwrap();
            assert_eq!(made.listen.ip().to_string(), ip, "{address}");
        }
    }
}
