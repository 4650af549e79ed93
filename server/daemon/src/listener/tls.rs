//! TLS of the two listeners: 1.3 only, no resumption, and a client's leaf must be issued directly by
//! the intermediate of that listener.

use crate::error::ServerError;
use crate::pki::{Pki, ServerNames, Which, certificate_validity};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;
use std::time::Duration;

/// Verifies that the leaf itself was issued by our intermediate, whatever else a client sends along:
/// chains of a client's own making are not even looked at.
///
/// Of hosts a certificate that expired not long ago is let through: it opens the way to a renewal
/// and to nothing else.
#[derive(Debug)]
struct DirectlyIssued {
    inner: Arc<dyn ClientCertVerifier>,
    expired_s_max: u64,
}

/// How long an expired certificate may still be renewed.
const RENEWABLE_S: u64 = 180 * 86_400;

impl ClientCertVerifier for DirectlyIssued {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }
    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let refused = match self.inner.verify_client_cert(end_entity, &[], now) {
            Err(error) if self.expired_s_max > 0 && is_expired(&error) => error,
            verified => return verified,
        };
        let Some((_, end_s)) = certificate_validity(end_entity) else {
            return Err(refused);
        };
        if now.as_secs().saturating_sub(end_s) > self.expired_s_max {
            return Err(refused);
        }
        // Everything else about it is verified as of its last second.
        let end = UnixTime::since_unix_epoch(Duration::from_secs(end_s));
        self.inner.verify_client_cert(end_entity, &[], end)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signed)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signed)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn is_expired(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. }
        )
    )
}

/// TLS of the agents' listener: a client certificate is verified where one is shown; every call but
/// the enrolment asks for one.
///
/// # Errors
/// Where certificates or keys cannot be used.
pub fn agent_tls(pki: &Pki, names: &ServerNames) -> Result<Arc<ServerConfig>, ServerError> {
    server_config(pki, Which::Agents, names, &[b"h2"], false)
}

/// TLS of the admins' listener: an admin's certificate is verified where one is shown. Without one
/// every call asks for an API token or a session, unless `certificate_only`: then nobody gets as far.
///
/// # Errors
/// Where certificates or keys cannot be used.
pub fn admin_tls(
    pki: &Pki,
    names: &ServerNames,
    certificate_only: bool,
) -> Result<Arc<ServerConfig>, ServerError> {
    let protocols: &[&[u8]] = &[b"h2", b"http/1.1"];
    server_config(pki, Which::Admins, names, protocols, certificate_only)
}

fn server_config(
    pki: &Pki,
    which: Which,
    names: &ServerNames,
    protocols: &[&[u8]],
    certificate_only: bool,
) -> Result<Arc<ServerConfig>, ServerError> {
    let tls_error = |doing| move |source| ServerError::Tls { doing, source };
    let mut anchors = RootCertStore::empty();
    for anchor in pki.client_anchors(which)? {
        let added = anchors.add(anchor);
        added.map_err(tls_error("trusting the intermediate"))?;
    }
    let provider = ringward_wire::tls::provider();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(anchors), Arc::clone(&provider));
    let verifier = match certificate_only {
        false => verifier.allow_unauthenticated(),
        true => verifier,
    };
    let verifier = verifier.build().map_err(|error| {
        ServerError::refused(
            format!("client certificates cannot be verified: {error}"),
            "restore the pki folder from a backup",
        )
    })?;
    let (chain, key) = pki.server_certificate(which, names)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls_error("choosing TLS 1.3"))?
        .with_client_cert_verifier(Arc::new(DirectlyIssued {
            inner: verifier,
            expired_s_max: match which {
                Which::Agents => RENEWABLE_S,
                Which::Admins => 0,
            },
        }))
        .with_single_cert(chain, key)
        .map_err(tls_error("using the server certificate"))?;
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    // A resumed session would skip the client's certificate and with it its revocation.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}
