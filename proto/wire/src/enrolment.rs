//! How a host gets its identity, on the wire.

use crate::code::Coded;
use crate::error::DecodeError;
use crate::field::{clip, list, malformed, maybe, message, size, text};
use crate::pb;
use crate::token::Secret;
use ringward_domain::HostId;
use ringward_domain::host::{Facts, HostState};
use ringward_domain::limits::LABEL_BYTES_MAX;
use ringward_domain::manifest::ReleaseRoot;

/// Bytes of a certificate signing request, and of each certificate.
pub const CERTIFICATE_BYTES_MAX: usize = 8 * 1024;
/// Certificates in a chain or bundle.
pub const CERTIFICATES_MAX: usize = 8;

/// What an agent says to enrol.
#[derive(Debug)]
pub struct EnrolRequest {
    /// The token's secret.
    pub secret: Secret,
    /// Certificate signing request (PKCS #10, DER).
    pub csr_der: Vec<u8>,
    /// What the agent knows of its host.
    pub facts: Facts,
    /// The agent's own version.
    pub agent_version: String,
}

/// The identity an agent gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// The host's id.
    pub host: HostId,
    /// Certificates of the identity and its authorities.
    pub certificates: Certificates,
    /// The keys that may sign releases.
    pub release_root: Option<ReleaseRoot>,
    /// Whether the host takes part at once.
    pub state: HostState,
    /// Version of the bundle that the roots are; at least 1.
    pub authority_version: u64,
}

/// A certificate with what is needed to use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The host's chain (DER), leaf first, root left out; at least one.
    pub chain_der: Vec<Vec<u8>>,
    /// The roots by which the host knows its servers (DER); at least one.
    pub roots_der: Vec<Vec<u8>>,
}

fn certificates(field: &str, raw: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, DecodeError> {
    if raw.is_empty() {
        return Err(malformed(field, "needs at least one certificate"));
    }
    list(field, raw, CERTIFICATES_MAX, |der| {
        size("", der.len(), CERTIFICATE_BYTES_MAX, "bytes")?;
        Ok(der)
    })
}

impl Certificates {
    fn decode(chain: Vec<Vec<u8>>, roots: Vec<Vec<u8>>) -> Result<Self, DecodeError> {
        Ok(Self {
            chain_der: certificates("chain_der", chain)?,
            roots_der: certificates("roots_der", roots)?,
        })
    }
}

/// Reads the request of a renewal: the signing request (PKCS #10, DER).
///
/// # Errors
/// An absent or oversized signing request.
pub fn renewal(request: pb::RenewRequest) -> Result<Vec<u8>, DecodeError> {
    csr(request.csr_der)
}

fn csr(der: Vec<u8>) -> Result<Vec<u8>, DecodeError> {
    if der.is_empty() {
        return Err(DecodeError::new("csr_der", crate::error::Fault::Missing));
    }
    size("csr_der", der.len(), CERTIFICATE_BYTES_MAX, "bytes")?;
    Ok(der)
}

impl From<EnrolRequest> for pb::EnrollRequest {
    fn from(request: EnrolRequest) -> Self {
        Self {
            secret: request.secret.expose().to_vec(),
            csr_der: request.csr_der,
            facts: Some(request.facts.into()),
            agent_version: clip(request.agent_version, LABEL_BYTES_MAX),
        }
    }
}

impl TryFrom<pb::EnrollRequest> for EnrolRequest {
    type Error = DecodeError;
    fn try_from(request: pb::EnrollRequest) -> Result<Self, DecodeError> {
        let secret = request
            .secret
            .try_into()
            .map_err(|_| malformed("secret", "needs exactly 32 bytes"))?;
        Ok(Self {
            secret: Secret::new(secret),
            csr_der: csr(request.csr_der)?,
            facts: message("facts", request.facts)?,
            agent_version: text("agent_version", request.agent_version, LABEL_BYTES_MAX)?,
        })
    }
}

impl From<Enrolled> for pb::EnrollResponse {
    fn from(enrolled: Enrolled) -> Self {
        Self {
            host: enrolled.host.0,
            chain_der: enrolled.certificates.chain_der,
            roots_der: enrolled.certificates.roots_der,
            release_root: enrolled.release_root.map(Into::into),
            state: enrolled.state.code(),
            authority_version: enrolled.authority_version,
        }
    }
}

impl TryFrom<pb::EnrollResponse> for Enrolled {
    type Error = DecodeError;
    fn try_from(response: pb::EnrollResponse) -> Result<Self, DecodeError> {
        Ok(Self {
            host: HostId(response.host),
            certificates: Certificates::decode(response.chain_der, response.roots_der)?,
            release_root: maybe("release_root", response.release_root)?,
            state: HostState::decode("state", response.state)?,
            authority_version: response.authority_version.max(1),
        })
    }
}

impl From<Certificates> for pb::RenewResponse {
    fn from(certificates: Certificates) -> Self {
        Self {
            chain_der: certificates.chain_der,
            roots_der: certificates.roots_der,
        }
    }
}

impl TryFrom<pb::RenewResponse> for Certificates {
    type Error = DecodeError;
    fn try_from(response: pb::RenewResponse) -> Result<Self, DecodeError> {
        Self::decode(response.chain_der, response.roots_der)
    }
}
