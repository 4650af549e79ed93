//! An authority for the anchors: mutual TLS with P-256 keys, as Ringward has it.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
};
use ringward_wire::tls::{Identity, SERVER_NAME, client_config};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::ClientConfig;

/// A certificate's name, which must not be its issuer's: OpenSSL would take it for self-signed.
fn named(name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params)
}

fn key() -> Result<KeyPair> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

/// Writes `ca.pem`, `server.pem` and `server.key`, and makes so many clients.
pub fn make(folder: &Path, clients: usize) -> Result<Vec<Arc<ClientConfig>>> {
    let mut params = named("anchors")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, key()?)?;
    let server_key = key()?;
    let mut params = named(SERVER_NAME)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = params.signed_by(&server_key, &ca)?;
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("ca.pem"), ca.pem())?;
    std::fs::write(folder.join("server.pem"), server.pem())?;
    std::fs::write(folder.join("server.key"), server_key.serialize_pem())?;
    let roots = [ca.der().clone()];
    (0..clients)
        .map(|index| {
            let key = key()?;
            let mut params = named(&format!("client-{index}"))?;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            let identity = Identity {
                chain: vec![params.signed_by(&key, &ca)?.der().clone()],
                key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            };
            Ok(Arc::new(client_config(&roots, identity)?))
        })
        .collect()
}
