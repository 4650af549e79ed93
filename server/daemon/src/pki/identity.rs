//! Who a peer is: read from its verified leaf certificate and from nothing else.

use super::sha256;
use ringward_domain::people::{Caller, Proof};
use ringward_domain::{HostId, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

/// What stands before a host's id in its certificate.
const HOST_URI: &str = "ringward://host/";
/// Longest admin name.
const ADMIN_NAME_BYTES_MAX: usize = 64;

/// A host as its certificate names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostIdentity {
    /// The host.
    pub host: HostId,
    /// SHA-256 of the certificate's public key (SubjectPublicKeyInfo).
    pub key: Sha256,
    /// Not valid after, Unix seconds.
    pub not_after_unix_s: u64,
    /// Common name of the authority that issued it.
    pub issuer: String,
}

/// An admin as the certificate names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminIdentity {
    /// Common name of the subject.
    pub name: String,
    /// SHA-256 of the certificate's public key; none where no certificate was shown.
    pub key: Option<Sha256>,
    /// How it was proved.
    pub by: Proof,
    /// Name of the API token that was shown.
    pub token: Option<String>,
}

impl AdminIdentity {
    /// How the audit log names who did something: a token's deeds are told from its owner's.
    pub fn signature(&self) -> String {
        match &self.token {
            None => self.name.clone(),
            Some(token) => format!("{} by token {token}", self.name),
        }
    }

    /// Somebody who signed in without a certificate.
    pub fn signed_in(name: String) -> Self {
        Self {
            name,
            key: None,
            by: Proof::Session,
            token: None,
        }
    }

    /// As the decisions know a caller.
    pub fn caller(&self, break_glass: bool) -> Caller {
        Caller {
            name: self.name.clone(),
            key: self.key,
            by: self.by.clone(),
            break_glass,
        }
    }
}

/// Why a verified certificate names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a certificate that can be read.
    #[error("the client certificate cannot be parsed")]
    Unreadable,
    /// Not issued for clients.
    #[error("the client certificate is not issued for client authentication")]
    WrongUsage,
    /// No host named, or more than one.
    #[error("the client certificate does not name exactly one host (`{HOST_URI}h-…`)")]
    NoHost,
    /// No admin named.
    #[error("the client certificate does not name an admin (subject common name)")]
    NoAdmin,
}

fn client_leaf(der: &[u8]) -> Result<X509Certificate<'_>, IdentityError> {
    let (rest, certificate) =
        x509_parser::parse_x509_certificate(der).map_err(|_| IdentityError::Unreadable)?;
    if !rest.is_empty() {
        return Err(IdentityError::Unreadable);
    }
    let usage = certificate
        .extended_key_usage()
        .map_err(|_| IdentityError::Unreadable)?
        .ok_or(IdentityError::WrongUsage)?;
    if !usage.value.client_auth || certificate.is_ca() {
        return Err(IdentityError::WrongUsage);
    }
    Ok(certificate)
}

/// The host that a verified leaf names.
///
/// # Errors
/// Where it names none, several, or is not for clients.
pub fn host_identity(der: &[u8]) -> Result<HostIdentity, IdentityError> {
    let certificate = client_leaf(der)?;
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| IdentityError::Unreadable)?
        .ok_or(IdentityError::NoHost)?;
    let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else {
        return Err(IdentityError::NoHost);
    };
    let host = uri
        .strip_prefix(HOST_URI)
        .and_then(|id| id.parse().ok())
        .ok_or(IdentityError::NoHost)?;
    Ok(HostIdentity {
        host,
        key: sha256(certificate.public_key().raw),
        not_after_unix_s: u64::try_from(certificate.validity().not_after.timestamp())
            .unwrap_or_default(),
        issuer: certificate
            .issuer()
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .unwrap_or_default()
            .to_owned(),
    })
}

/// The admin that a verified leaf names.
///
/// # Errors
/// Where it names none or is not for clients.
pub fn admin_identity(der: &[u8]) -> Result<AdminIdentity, IdentityError> {
    let certificate = client_leaf(der)?;
    let mut names = certificate.subject().iter_common_name();
    let name = names
        .next()
        .and_then(|name| name.as_str().ok())
        .ok_or(IdentityError::NoAdmin)?;
    if names.next().is_some() || !is_admin_name(name) {
        return Err(IdentityError::NoAdmin);
    }
    Ok(AdminIdentity {
        name: name.to_owned(),
        key: Some(sha256(certificate.public_key().raw)),
        by: Proof::Certificate,
        token: None,
    })
}

/// Admin names go into logs, file names and audit entries: 1-64 of letters, digits and `._@-`,
/// starting with a letter or digit.
pub(crate) fn is_admin_name(name: &str) -> bool {
    (1..=ADMIN_NAME_BYTES_MAX).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b))
}
