//! Issuing: what goes into each kind of certificate.

use super::{BACKDATED_S, BRIDGE_DAYS, INTERMEDIATE_DAYS, ROOT_DAYS, SERVER_DAYS, random, sha256};
use crate::clock::unix_ms;
use crate::error::ServerError;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKey,
    PublicKeyData, SanType, SerialNumber, date_time_ymd,
};
use ringward_domain::{HostId, Sha256};
use rustls_pki_types::CertificateSigningRequestDer;
use std::net::IpAddr;
use std::time::Duration;

/// Names a listener's certificate is valid for, besides `ringward-server` and `localhost`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerNames {
    /// Host part of the address that agents or admins are told.
    pub given: Vec<String>,
}

/// A certificate authority with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

/// A certificate issued to a host.
#[derive(Debug, Clone)]
pub struct IssuedHost {
    /// The leaf, DER.
    pub der: Vec<u8>,
    /// Not valid after, Unix seconds.
    pub not_after_unix_s: u64,
}

/// A host's certificate request whose signature proved that the asker holds the private key. Of
/// everything else in it nothing is used.
#[derive(Debug)]
pub struct HostRequest {
    key: PublicKey,
}

impl HostRequest {
    /// Reads a request (PKCS #10, DER).
    ///
    /// # Errors
    /// Where it does not parse or its signature is wrong.
    pub fn read(der: &[u8]) -> Result<Self, ServerError> {
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
                .map_err(certificate_error("reading a certificate request"))?;
        Ok(Self {
            key: request.public_key,
        })
    }

    /// SHA-256 of the key it asks for (SubjectPublicKeyInfo).
    pub fn key_hash(&self) -> Sha256 {
        sha256(&self.key.subject_public_key_info())
    }
}

/// Wraps what rcgen said.
fn certificate_error(doing: impl Into<String>) -> impl FnOnce(rcgen::Error) -> ServerError {
    let doing = doing.into();
    move |source| ServerError::Certificate { doing, source }
}

fn blank(common_name: &str, days: u32) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    let now_s = unix_ms() / 1000;
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now_s.saturating_sub(BACKDATED_S));
    params.not_after = epoch + Duration::from_secs(now_s + u64::from(days) * 86_400);
    // 16 random bytes with the top bit clear: positive, and far above the 64 bits of entropy that
    // public authorities are held to.
    let mut serial = random::<16>();
    serial[0] &= 0x7f;
    serial[0] |= 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.use_authority_key_identifier_extension = true;
    params
}

fn authority_params(common_name: &str, days: u32, below: BasicConstraints) -> CertificateParams {
    let mut params = blank(common_name, days);
    params.is_ca = IsCa::Ca(below);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A name that no authority of another version has.
pub(super) fn numbered(name: &str, version: u64) -> String {
    match version {
        0 | 1 => name.to_owned(),
        later => format!("{name} {later}"),
    }
}

impl Authority {
    /// A new root with a new key, and that key as PEM. Its version is that of the bundle it comes with.
    ///
    /// # Errors
    /// Where the key or certificate cannot be made.
    pub fn new_root(version: u64) -> Result<(Self, String), ServerError> {
        let key = new_key("the root")?;
        let name = numbered("Ringward root", version);
        let params = authority_params(&name, ROOT_DAYS, BasicConstraints::Constrained(1));
        let certificate = params
            .self_signed(&key)
            .map_err(certificate_error("signing the root certificate"))?;
        let key_pem = key.serialize_pem();
        let authority = Self {
            issuer: Issuer::new(params, key),
            certificate_pem: certificate.pem(),
        };
        Ok((authority, key_pem))
    }

    /// This root's name and key in a certificate that another root signs: who believes that one believes
    /// this one by it. PEM.
    ///
    /// # Errors
    /// Where it cannot be signed.
    pub fn bridge_from(&self, other: &Self, version: u64) -> Result<String, ServerError> {
        let name = numbered("Ringward root", version);
        let params = authority_params(&name, BRIDGE_DAYS, BasicConstraints::Constrained(1));
        params
            .signed_by(self.issuer.key(), &other.issuer)
            .map(|certificate| certificate.pem())
            .map_err(certificate_error("signing the new root by the old one"))
    }

    /// A new intermediate under this root, and its key as PEM.
    ///
    /// # Errors
    /// Where the key or certificate cannot be made.
    pub fn new_intermediate(&self, common_name: &str) -> Result<(Self, String), ServerError> {
        let key = new_key(common_name)?;
        let mut params = authority_params(
            common_name,
            INTERMEDIATE_DAYS,
            BasicConstraints::Constrained(0),
        );
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(certificate_error(format!("signing {common_name}")))?;
        let key_pem = key.serialize_pem();
        let authority = Self {
            issuer: Issuer::new(params, key),
            certificate_pem: certificate.pem(),
        };
        Ok((authority, key_pem))
    }

    /// Reads an authority back.
    ///
    /// # Errors
    /// Where certificate or key cannot be read.
    pub fn from_pem(certificate_pem: String, key_pem: &str) -> Result<Self, ServerError> {
        let key = KeyPair::from_pem(key_pem)
            .map_err(certificate_error("reading an authority's private key"))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)
            .map_err(certificate_error("reading an authority's certificate"))?;
        Ok(Self {
            issuer,
            certificate_pem,
        })
    }

    /// The authority's own certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Issues a certificate to a host for the key of its request.
    ///
    /// # Errors
    /// Where it cannot be signed.
    pub fn issue_host(
        &self,
        host: HostId,
        request: &HostRequest,
        days: u32,
    ) -> Result<IssuedHost, ServerError> {
        let mut params = blank(&host.to_string(), days);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let uri = format!("ringward://host/{host}")
            .try_into()
            .map_err(certificate_error("naming a host in its certificate"))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        let not_after_unix_s = u64::try_from(params.not_after.unix_timestamp()).unwrap_or_default();
        let certificate =
            params
                .signed_by(&request.key, &self.issuer)
                .map_err(certificate_error(format!(
                    "signing the certificate of {host}"
                )))?;
        Ok(IssuedHost {
            der: certificate.der().to_vec(),
            not_after_unix_s,
        })
    }

    /// Issues a certificate to an admin; answers certificate and key, both PEM.
    ///
    /// # Errors
    /// Where the key or certificate cannot be made.
    pub fn issue_admin(&self, name: &str, days: u32) -> Result<(String, String), ServerError> {
        let key = new_key("an admin")?;
        let mut params = blank(name, days);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(certificate_error(format!(
                "signing the certificate of {name}"
            )))?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Issues a listener's own certificate; answers certificate and key, both PEM.
    ///
    /// # Errors
    /// Where a name cannot stand in a certificate.
    pub fn issue_server(&self, names: &ServerNames) -> Result<(String, String), ServerError> {
        let key = new_key("the server")?;
        let mut params = blank("ringward-server", SERVER_DAYS);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let mut wanted = vec!["ringward-server".to_owned(), "localhost".to_owned()];
        for name in &names.given {
            if !wanted.contains(name) {
                wanted.push(name.clone());
            }
        }
        for name in wanted {
            let san = match name.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(certificate_error(
                    format!("putting {name:?} into the server's certificate"),
                ))?),
            };
            params.subject_alt_names.push(san);
        }
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(certificate_error("signing the server's certificate"))?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

fn new_key(of: &str) -> Result<KeyPair, ServerError> {
    KeyPair::generate().map_err(certificate_error(format!("making a key for {of}")))
}

/// When a certificate (DER) starts and ends, Unix seconds; `None` where it does not parse.
pub fn certificate_validity(der: &[u8]) -> Option<(u64, u64)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let validity = certificate.validity();
    Some((
        u64::try_from(validity.not_before.timestamp()).ok()?,
        u64::try_from(validity.not_after.timestamp()).ok()?,
    ))
}
