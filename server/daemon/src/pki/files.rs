//! The authority on disk: `pki/<name>.crt` and `pki/<name>.key` (0600).

use super::authority::{Authority, ServerNames, certificate_validity};
use super::rotation::read_bundles;
use super::{SERVER_DAYS, sha256};
use crate::clock::unix_ms;
use crate::data_dir::{check_private, create_private_dir, read_bounded, write_whole};
use crate::error::ServerError;
use ringward_domain::Sha256;
use ringward_domain::manifest::Envelope;
use ringward_wire::authority::read;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};

/// Bytes of a certificate chain or key file.
const PEM_BYTES_MAX: u64 = 64 * 1024;

/// Which side a listener and its intermediate serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Hosts.
    Agents,
    /// People.
    Admins,
}

impl Which {
    /// As file names and logs say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::Admins => "admins",
        }
    }
}

/// Certificates and keys of a running server.
pub struct Pki {
    folder: PathBuf,
    root_pem: String,
    agents: Authority,
    admins: Authority,
    /// Common name of the agents' intermediate.
    agents_name: String,
    /// The authority that goes, while hosts follow to the new one.
    leaving: Option<Leaving>,
    /// Signed bundles of roots that hosts follow, in order; none before the first change.
    bundles: Vec<Envelope>,
}

/// Certificates of an authority that goes; its keys are gone already.
struct Leaving {
    root_pem: String,
    agents_pem: String,
    admins_pem: String,
    /// The new root, signed by the one that goes: who knows only that one believes the new one by it.
    bridge_pem: String,
}

pub(super) fn certificate_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.crt"))
}
pub(super) fn key_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.key"))
}

/// Names of the certificates of an authority that goes.
pub(super) const LEAVING_ROOT: &str = "leaving-root";
pub(super) const LEAVING_AGENTS: &str = "leaving-agents";
pub(super) const LEAVING_ADMINS: &str = "leaving-admins";
pub(super) const BRIDGE: &str = "bridge";

pub(super) fn write_pair(
    folder: &Path,
    name: &str,
    certificate: &str,
    key: &str,
) -> Result<(), ServerError> {
    // The key first: a certificate on disk says that its key is there too.
    write_whole(&key_file(folder, name), key.as_bytes(), 0o600)?;
    write_whole(
        &certificate_file(folder, name),
        certificate.as_bytes(),
        0o644,
    )
}

/// Makes a new authority in `folder`.
///
/// # Errors
/// Where something lies there already, or a file cannot be written.
pub fn create(
    folder: &Path,
    agent_names: &ServerNames,
    admin_names: &ServerNames,
) -> Result<Pki, ServerError> {
    create_private_dir(folder)?;
    let (root, root_key) = Authority::new_root(1)?;
    write_pair(folder, "root", root.certificate_pem(), &root_key)?;
    let intermediate = |which: Which| {
        let (authority, key) = root.new_intermediate(&format!("Ringward {}", which.name()))?;
        write_pair(folder, which.name(), authority.certificate_pem(), &key)?;
        Ok::<_, ServerError>(authority)
    };
    let (agents, admins) = (intermediate(Which::Agents)?, intermediate(Which::Admins)?);
    let agents_pem = agents.certificate_pem().to_owned();
    let pki = Pki {
        folder: folder.to_owned(),
        root_pem: root.certificate_pem().to_owned(),
        agents,
        agents_name: common_name(agents_pem.as_bytes()),
        admins,
        leaving: None,
        bundles: Vec::new(),
    };
    pki.write_server_certificates(agent_names, admin_names)?;
    Ok(pki)
}

impl Pki {
    /// Reads what [`create`] wrote; the root's key may be elsewhere.
    ///
    /// # Errors
    /// Where a file is missing, damaged, or a key may be read by others.
    pub fn load(folder: &Path) -> Result<Self, ServerError> {
        let agents = load_authority(folder, Which::Agents.name())?;
        Ok(Self {
            folder: folder.to_owned(),
            root_pem: read_text(&certificate_file(folder, "root"))?,
            agents_name: common_name(agents.certificate_pem().as_bytes()),
            agents,
            admins: load_authority(folder, Which::Admins.name())?,
            leaving: Leaving::load(folder)?,
            bundles: read_bundles(folder)?,
        })
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The certificates of both listeners, anew.
    pub(super) fn write_server_certificates(
        &self,
        agent_names: &ServerNames,
        admin_names: &ServerNames,
    ) -> Result<(), ServerError> {
        self.write_server_certificate(Which::Agents, agent_names)?;
        self.write_server_certificate(Which::Admins, admin_names)
    }

    /// Whether an authority goes and another comes.
    pub fn is_changing(&self) -> bool {
        self.leaving.is_some()
    }

    /// Bundles of roots that hosts follow, in order.
    pub fn bundles(&self) -> &[Envelope] {
        &self.bundles
    }

    /// Version of the roots in force; 1 before the first change.
    pub fn bundle_version(&self) -> u64 {
        let newest = self.bundles.last().and_then(|signed| read(signed).ok());
        newest.map_or(1, |bundle| bundle.version)
    }

    /// Whether hosts' certificates by an authority of this name will end with the change under way.
    pub fn is_leaving(&self, issuer: &str) -> bool {
        self.leaving.is_some() && issuer != self.agents_name
    }

    /// Certificates that vouch for clients of one side: the intermediate, and the one that goes.
    ///
    /// # Errors
    /// Where one does not parse.
    pub fn client_anchors(
        &self,
        which: Which,
    ) -> Result<Vec<CertificateDer<'static>>, ServerError> {
        let mut anchors = vec![self.intermediate_der(which)?];
        if let Some(leaving) = &self.leaving {
            let (pem, name) = match which {
                Which::Agents => (&leaving.agents_pem, LEAVING_AGENTS),
                Which::Admins => (&leaving.admins_pem, LEAVING_ADMINS),
            };
            let path = certificate_file(&self.folder, name);
            anchors.extend(parse_certificates(pem, &path)?.into_iter().take(1));
        }
        Ok(anchors)
    }

    /// The roots by which hosts know this server, DER: the present one first.
    ///
    /// # Errors
    /// Where one does not parse.
    pub fn roots_der(&self) -> Result<Vec<CertificateDer<'static>>, ServerError> {
        let mut roots = vec![self.root_der()?];
        if let Some(leaving) = &self.leaving {
            let path = certificate_file(&self.folder, LEAVING_ROOT);
            roots.extend(
                parse_certificates(&leaving.root_pem, &path)?
                    .into_iter()
                    .take(1),
            );
        }
        Ok(roots)
    }

    /// The intermediate of one side.
    pub fn authority(&self, which: Which) -> &Authority {
        match which {
            Which::Agents => &self.agents,
            Which::Admins => &self.admins,
        }
    }

    /// The root certificate, PEM: what agents and admins trust.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// SHA-256 of the root's SubjectPublicKeyInfo: what a token pins.
    ///
    /// # Errors
    /// Where the root certificate does not parse.
    pub fn root_key_hash(&self) -> Result<Sha256, ServerError> {
        let der = self.root_der()?;
        x509_parser::parse_x509_certificate(&der)
            .map(|(_, certificate)| sha256(certificate.public_key().raw))
            .map_err(|_| self.damaged("root"))
    }

    /// The root certificate, DER.
    ///
    /// # Errors
    /// Where it does not parse.
    pub fn root_der(&self) -> Result<CertificateDer<'static>, ServerError> {
        parse_certificates(&self.root_pem, &certificate_file(&self.folder, "root"))?
            .into_iter()
            .next()
            .ok_or_else(|| self.damaged("root"))
    }

    /// An intermediate's certificate, DER.
    ///
    /// # Errors
    /// Where it does not parse.
    pub fn intermediate_der(&self, which: Which) -> Result<CertificateDer<'static>, ServerError> {
        let path = certificate_file(&self.folder, which.name());
        parse_certificates(self.authority(which).certificate_pem(), &path)?
            .into_iter()
            .next()
            .ok_or_else(|| self.damaged(which.name()))
    }

    /// A listener's chain (leaf, intermediate, root) and key; renewed when less than a third of its
    /// life is left or the names are others.
    ///
    /// # Errors
    /// Where files cannot be read or written.
    pub fn server_certificate(
        &self,
        which: Which,
        names: &ServerNames,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ServerError> {
        let name = server_name(which);
        let (certificate_path, key_path) = (
            certificate_file(&self.folder, &name),
            key_file(&self.folder, &name),
        );
        let chain = parse_certificates(&read_text(&certificate_path)?, &certificate_path)?;
        let now_s = unix_ms() / 1000;
        let validity = chain.first().and_then(|leaf| certificate_validity(leaf));
        // One that begins later was issued under a clock that was wrong; nobody would believe it.
        let begun = validity.filter(|(begin, _)| *begin <= now_s);
        let left_s = begun.map_or(0, |(_, end)| end.saturating_sub(now_s));
        if left_s < u64::from(SERVER_DAYS) * 86_400 / 3 {
            tracing::info!(listener = which.name(), "renewing the server certificate");
            self.write_server_certificate(which, names)?;
        }
        check_private(&key_path)?;
        let chain = parse_certificates(&read_text(&certificate_path)?, &certificate_path)?;
        let key = PrivateKeyDer::from_pem_slice(&read_bounded(&key_path, PEM_BYTES_MAX)?)
            .map_err(|_| self.damaged(&name))?;
        Ok((chain, key))
    }

    fn write_server_certificate(
        &self,
        which: Which,
        names: &ServerNames,
    ) -> Result<(), ServerError> {
        let (leaf, key) = self.authority(which).issue_server(names)?;
        let chain = format!(
            "{leaf}{}{}{}",
            self.authority(which).certificate_pem(),
            self.root_pem,
            self.leaving.as_ref().map_or_else(String::new, |leaving| {
                format!("{}{}", leaving.bridge_pem, leaving.root_pem)
            }),
        );
        write_pair(&self.folder, &server_name(which), &chain, &key)
    }

    fn damaged(&self, name: &str) -> ServerError {
        ServerError::refused(
            format!("{}/{name}.crt or .key is damaged", self.folder.display()),
            "restore the pki folder from a backup",
        )
    }
}

impl Leaving {
    fn load(folder: &Path) -> Result<Option<Self>, ServerError> {
        if !certificate_file(folder, LEAVING_ROOT).exists() {
            return Ok(None);
        }
        let read = |name| read_text(&certificate_file(folder, name));
        Ok(Some(Self {
            root_pem: read(LEAVING_ROOT)?,
            agents_pem: read(LEAVING_AGENTS)?,
            admins_pem: read(LEAVING_ADMINS)?,
            bridge_pem: read(BRIDGE)?,
        }))
    }
}

/// Common name of a certificate's subject; empty where there is none.
fn common_name(pem: &[u8]) -> String {
    let der = CertificateDer::from_pem_slice(pem).ok();
    der.and_then(|der| {
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
        let name = certificate.subject().iter_common_name().next()?;
        Some(name.as_str().ok()?.to_owned())
    })
    .unwrap_or_default()
}

fn server_name(which: Which) -> String {
    format!("{}-server", which.name())
}

fn load_authority(folder: &Path, name: &str) -> Result<Authority, ServerError> {
    let key = key_file(folder, name);
    check_private(&key)?;
    Authority::from_pem(
        read_text(&certificate_file(folder, name))?,
        &read_text(&key)?,
    )
}

pub(super) fn read_text(path: &Path) -> Result<String, ServerError> {
    String::from_utf8(read_bounded(path, PEM_BYTES_MAX)?).map_err(|_| {
        ServerError::refused(
            format!("{} is not text", path.display()),
            "restore it from a backup",
        )
    })
}

pub(super) fn parse_certificates(
    pem: &str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| {
            ServerError::refused(
                format!("{} holds no PEM certificates", path.display()),
                "restore it from a backup",
            )
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::pki::{HostRequest, admin_identity, host_identity};
    use ringward_domain::HostId;
    use std::os::unix::fs::PermissionsExt;

    fn names(given: &[&str]) -> ServerNames {
        ServerNames {
            given: given.iter().map(|n| (*n).to_owned()).collect(),
        }
    }

    fn request(key: &rcgen::KeyPair, sans: &[&str]) -> Vec<u8> {
        let sans: Vec<String> = sans.iter().map(|s| (*s).to_owned()).collect();
        rcgen::CertificateParams::new(sans)
            .unwrap()
            .serialize_request(key)
            .unwrap()
            .der()
            .to_vec()
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    #[test]
    fn an_authority_reads_back_what_it_wrote_and_keys_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("pki");
        let made = create(&folder, &names(&["192.0.2.7"]), &names(&["admin.example"])).unwrap();
        let read = Pki::load(&folder).unwrap();
        assert_eq!(made.root_pem(), read.root_pem());
        assert_eq!(made.root_key_hash().unwrap(), read.root_key_hash().unwrap());
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "key") {
                let mode = std::fs::metadata(&path).unwrap().permissions().mode();
                assert_eq!(mode & 0o777, 0o600, "{}", path.display());
            }
        }
        let (chain, _) = read.server_certificate(Which::Agents, &names(&[])).unwrap();
        assert_eq!(chain.len(), 3, "leaf, intermediate, root");
    }

    #[test]
    fn a_request_gives_its_key_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let pki = create(dir.path(), &names(&[]), &names(&[])).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let host = HostId(7);
        let asked = request(&key, &["ringward-server", "admin.example"]);
        let asked = HostRequest::read(&asked).unwrap();
        let issued = pki
            .authority(Which::Agents)
            .issue_host(host, &asked, 90)
            .unwrap();
        let leaf = CertificateDer::from(issued.der);
        let identity = host_identity(&leaf).unwrap();
        assert_eq!(identity.host, host);
        assert_eq!(identity.key, asked.key_hash());
        assert_eq!(identity.not_after_unix_s, issued.not_after_unix_s);
        let (_, parsed) = x509_parser::parse_x509_certificate(&leaf).unwrap();
        let sans = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(sans.value.general_names.len(), 1);
        assert!(!parsed.is_ca());
        assert_eq!(
            parsed.public_key().subject_public_key.data.as_ref(),
            key.public_key_raw()
        );
    }

    #[test]
    fn a_request_whose_signature_is_wrong_is_refused() {
        let mut asked = request(&rcgen::KeyPair::generate().unwrap(), &[]);
        let last = asked.len() - 1;
        asked[last] ^= 1;
        assert!(HostRequest::read(&asked).is_err());
    }

    #[test]
    fn an_admin_is_no_host_and_a_host_no_admin_by_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let pki = create(dir.path(), &names(&[]), &names(&[])).unwrap();
        let (admin, _) = pki
            .authority(Which::Admins)
            .issue_admin("ada@example.org", 365)
            .unwrap();
        assert_eq!(
            admin_identity(&der(&admin)).unwrap().name,
            "ada@example.org"
        );
        assert!(host_identity(&der(&admin)).is_err());
        let (server, _) = pki
            .authority(Which::Agents)
            .issue_server(&names(&[]))
            .unwrap();
        assert!(host_identity(&der(&server)).is_err());
        assert!(admin_identity(&der(&server)).is_err());
    }

    #[test]
    fn a_key_that_others_may_read_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        create(dir.path(), &names(&[]), &names(&[])).unwrap();
        let key = dir.path().join("agents.key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Pki::load(dir.path()).is_err());
    }
}
