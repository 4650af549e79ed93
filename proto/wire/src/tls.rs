//! TLS as both sides use it: version 1.3 only, one crypto provider, one name for every server.

use crate::token::sha256;
use ringward_domain::Sha256;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::sync::{Arc, LazyLock};

/// The name in every server's certificate and the one that clients ask for, whatever address they
/// dial: so addresses may be IP addresses, and may change.
pub const SERVER_NAME: &str = "ringward-server";

/// Application protocol negotiated on every connection (RFC 7301): HTTP/2.
pub const ALPN: &[u8] = b"h2";

/// The one place that chooses who does the cryptography.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::ring::default_provider()));
    PROVIDER.clone()
}

/// Why TLS could not be set up from what was given.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key cannot be read.
    #[error("reading {what}: {why}")]
    Unreadable {
        /// Which certificate or key.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Certificates and key were read and do not fit each other or TLS.
    #[error("setting up TLS with {what}: {why}")]
    Unusable {
        /// What was used.
        what: &'static str,
        /// What is wrong with it.
        why: rustls::Error,
    },
}

/// A client's certificate chain (leaf first) and its key.
#[derive(Debug)]
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    /// From PEM texts (RFC 7468).
    ///
    /// # Errors
    /// A text without certificate, or without private key.
    pub fn from_pem(chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, TlsError> {
        Ok(Self {
            chain: certificates("the client certificate", chain_pem)?,
            key: PrivateKeyDer::from_pem_slice(key_pem).map_err(|e| TlsError::Unreadable {
                what: "the client's private key",
                why: e.to_string(),
            })?,
        })
    }
}

/// Every certificate of a PEM text; `what` names it in errors.
///
/// # Errors
/// A damaged certificate, or none.
pub fn certificates(
    what: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |why: String| TlsError::Unreadable { what, why };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| unreadable(e.to_string()))?;
    if certificates.is_empty() {
        return Err(unreadable("it holds no certificate".to_owned()));
    }
    Ok(certificates)
}

/// TLS of a client that has an identity: an agent, or an admin's tool.
///
/// # Errors
/// Roots or an identity that cannot be used.
pub fn client_config(
    roots: &[CertificateDer<'static>],
    identity: Identity,
) -> Result<ClientConfig, TlsError> {
    let verifier = verifier(roots)?;
    let config = builder()?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(identity.chain, identity.key)
        .map_err(|why| TlsError::Unusable {
            what: "the client's certificate and key",
            why,
        })?;
    Ok(finish(config))
}

/// [`client_config`] from PEM texts.
///
/// # Errors
/// A text that holds not what it should, or what cannot be used.
pub fn client_config_from_pem(
    roots_pem: &[u8],
    chain_pem: &[u8],
    key_pem: &[u8],
) -> Result<ClientConfig, TlsError> {
    let roots = certificates("the server's root certificate", roots_pem)?;
    client_config(&roots, Identity::from_pem(chain_pem, key_pem)?)
}

/// TLS of a client that shows no certificate: it proves who it is inside, by an API token.
///
/// # Errors
/// A text that holds no root, or one that cannot be used.
pub fn anonymous_config_from_pem(roots_pem: &[u8]) -> Result<ClientConfig, TlsError> {
    let roots = certificates("the server's root certificate", roots_pem)?;
    let config = builder()?.with_webpki_verifier(verifier(&roots)?);
    Ok(finish(config.with_no_client_auth()))
}

/// TLS of a host that enrols: it has no identity yet, and knows of the server only the hash of its
/// root's public key ([`spki_sha256`]). The root must be in the chain that the server presents, and
/// the whole chain, its dates and [`SERVER_NAME`] are verified against it.
///
/// # Errors
/// A provider that does not speak TLS 1.3.
pub fn enrolment_config(root_spki: Sha256) -> Result<ClientConfig, TlsError> {
    let config = builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedRoot { root_spki }))
        .with_no_client_auth();
    Ok(finish(config))
}

/// SHA-256 over a certificate's SubjectPublicKeyInfo (DER): how a token names its root.
///
/// # Errors
/// Bytes that are no X.509 certificate.
pub fn spki_sha256(certificate: &CertificateDer<'_>) -> Result<Sha256, TlsError> {
    let parsed = ParsedCertificate::try_from(certificate).map_err(|why| TlsError::Unusable {
        what: "a certificate",
        why,
    })?;
    Ok(sha256(parsed.subject_public_key_info().as_ref()))
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|why| TlsError::Unusable {
            what: "the crypto provider",
            why,
        })
}

fn finish(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN.to_vec()];
    // The agents' listener resumes nothing, and admins connect seldom: no tickets kept in memory.
    config.resumption = rustls::client::Resumption::disabled();
    config
}

fn verifier(roots: &[CertificateDer<'static>]) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|why| TlsError::Unusable {
            what: "the server's root certificate",
            why,
        })?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider())
        .build()
        .map_err(|why| TlsError::Unreadable {
            what: "the server's root certificates",
            why: why.to_string(),
        })
}

/// Accepts a chain that ends in the pinned root, which must itself be presented.
#[derive(Debug)]
struct PinnedRoot {
    root_spki: Sha256,
}

impl ServerCertVerifier for PinnedRoot {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The leaf is never taken for the root: a server that presents a self-signed leaf of the
        // pinned key holds the root's key itself, which no server of ours should.
        let root = intermediates
            .iter()
            .find(|candidate| spki_sha256(candidate).is_ok_and(|hash| hash == self.root_spki))
            .ok_or(CertificateError::UnknownIssuer)?;
        verifier(&[root.clone().into_owned()])
            .map_err(|e| rustls::Error::General(e.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 is required".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
