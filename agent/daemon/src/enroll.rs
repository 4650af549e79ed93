//! Turning a token into an identity. The key is made here and never leaves the host.

use crate::AGENT_VERSION;
use crate::identity::{self, HostFile, IdentityError};
use ringward_domain::host::{Facts, HostState};
use ringward_domain::{HostId, Sha256};
use ringward_wire::client::{self, ConnectError};
use ringward_wire::enrolment::{EnrolRequest, Enrolled};
use ringward_wire::pb::agent_service_client::AgentServiceClient;
use ringward_wire::tls::{self, TlsError};
use ringward_wire::token::{EnrolmentToken, TokenError};
use rustls::pki_types::CertificateDer;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The server answers an enrolment within this, or is tried no longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Why a host did not get an identity.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The token's text is none.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// There is an identity already.
    #[error(
        "this host is {host} already; remove the identity folder in its state folder to enrol it anew"
    )]
    Enrolled {
        /// Who it is.
        host: HostId,
    },
    /// No server of the token was reached.
    #[error("no server of the token was reached; check the network and the server's agent address")]
    Unreachable(#[source] ConnectError),
    /// The server refused.
    #[error("the server refuses the enrolment: {why}; {next}")]
    Refused {
        /// In its words.
        why: String,
        /// What to do next.
        next: String,
    },
    /// The server answered something that cannot be right.
    #[error("the server's answer cannot be used: {0}; check that server and agent versions fit")]
    Answer(String),
    /// TLS could not be set up.
    #[error("setting up TLS for the enrolment")]
    Tls(#[from] TlsError),
    /// The key could not be made.
    #[error("making the host's key")]
    Key(#[from] rcgen::Error),
    /// The identity could not be kept.
    #[error("keeping the identity")]
    Keep(#[from] IdentityError),
}

/// A fresh key (PEM) and its certificate signing request (DER).
///
/// # Errors
/// The random source or the library failed.
pub(crate) fn key_and_request() -> Result<(String, Vec<u8>), rcgen::Error> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let request = rcgen::CertificateParams::default().serialize_request(&key)?;
    Ok((key.serialize_pem(), request.der().to_vec()))
}

/// A certificate signing request (DER) for a key that is there (PEM).
///
/// # Errors
/// The text is no key.
pub(crate) fn request_for(key_pem: &str) -> Result<Vec<u8>, rcgen::Error> {
    let key = rcgen::KeyPair::from_pem(key_pem)?;
    let request = rcgen::CertificateParams::default().serialize_request(&key)?;
    Ok(request.der().to_vec())
}

/// Enrol this host: the server is known by the hash in the token, everything is kept in `state_dir`.
///
/// # Errors
/// Nothing was kept; a refused or unreachable server leaves the token as it was.
pub async fn enroll(
    state_dir: &Path,
    token: &str,
    facts: Facts,
) -> Result<(HostId, HostState), EnrollError> {
    let token: EnrolmentToken = token.parse()?;
    if identity::exists(state_dir) {
        let host = HostFile::load(state_dir)?.host;
        return Err(EnrollError::Enrolled { host });
    }
    let (key_pem, csr_der) = key_and_request()?;
    let request = EnrolRequest {
        secret: token.secret.clone(),
        csr_der,
        facts,
        agent_version: AGENT_VERSION.to_owned(),
    };
    let enrolled = ask(&token, request).await?;
    check_roots(&enrolled, token.ca)?;
    if let Some(root) = &enrolled.release_root {
        identity::state_folder(state_dir)?;
        identity::keep_release_root(state_dir, root)?;
    }
    let host = HostFile {
        host: enrolled.host,
        servers: token.addresses.clone(),
    };
    identity::keep(
        state_dir,
        &host,
        &enrolled.certificates,
        enrolled.authority_version,
        &key_pem,
    )?;
    Ok((enrolled.host, enrolled.state))
}

async fn ask(token: &EnrolmentToken, request: EnrolRequest) -> Result<Enrolled, EnrollError> {
    let config = Arc::new(tls::enrolment_config(token.ca)?);
    let mut last = None;
    for address in &token.addresses {
        match client::channel(address, Arc::clone(&config)).await {
            Ok(channel) => {
                let mut client = AgentServiceClient::new(channel);
                let call = client.enroll(tonic::Request::new(request.into()));
                // Spent on one server only: the token may be good for a single use.
                return answer(timeout(ANSWER_TIMEOUT, call).await);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(
        || EnrollError::Answer("the token names no server".to_owned()),
        EnrollError::Unreachable,
    ))
}

type Answer = Result<tonic::Response<ringward_wire::pb::EnrollResponse>, tonic::Status>;

fn answer(answer: Result<Answer, tokio::time::error::Elapsed>) -> Result<Enrolled, EnrollError> {
    let response = answer
        .map_err(|_| {
            let seconds = ANSWER_TIMEOUT.as_secs();
            EnrollError::Answer(format!("it did not come within {seconds} s"))
        })?
        .map_err(|status| EnrollError::Refused {
            why: status.message().to_owned(),
            next: ringward_wire::status::next(&status).unwrap_or_else(|| {
                "make another token with `ringwardctl tokens create`".to_owned()
            }),
        })?;
    Enrolled::try_from(response.into_inner())
        .map_err(|error| EnrollError::Answer(error.to_string()))
}

/// The roots to trust from now on have to hold the one that the token named.
fn check_roots(enrolled: &Enrolled, pinned: Sha256) -> Result<(), EnrollError> {
    let known = enrolled.certificates.roots_der.iter().any(|der| {
        let certificate = CertificateDer::from_slice(der);
        tls::spki_sha256(&certificate).is_ok_and(|hash| hash == pinned)
    });
    if known {
        Ok(())
    } else {
        Err(EnrollError::Answer(
            "its roots do not hold the one that the token names".to_owned(),
        ))
    }
}
