//! Who a client takes for its server, over real TCP connections.
#![allow(clippy::unwrap_used)]

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair,
};
use ringward_domain::Sha256;
use ringward_wire::{client, tls};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::error::Error;
use std::sync::Arc;
use tokio::net::TcpListener;

struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        Self {
            root: CertifiedIssuer::self_signed(ca("root"), key).unwrap(),
        }
    }

    fn spki(&self) -> Sha256 {
        tls::spki_sha256(self.root.der()).unwrap()
    }

    /// A chain leaf, intermediate, root for a server of this name, with the leaf's key.
    fn server(&self, name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let middle_key = KeyPair::generate().unwrap();
        let middle = CertifiedIssuer::signed_by(ca("agents"), middle_key, &*self.root).unwrap();
        let (leaf, key) = leaf(name, ExtendedKeyUsagePurpose::ServerAuth, &middle);
        let chain = vec![
            leaf.der().clone(),
            middle.der().clone(),
            self.root.der().clone(),
        ];
        (chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }
}

fn leaf(
    name: &str,
    usage: ExtendedKeyUsagePurpose,
    issuer: &Issuer<'_, KeyPair>,
) -> (Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![usage];
    (params.signed_by(&key, issuer).unwrap(), key)
}

/// Serves handshakes (nothing else) at the address returned.
async fn serve(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> String {
    let mut config = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![tls::ALPN.to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut tls) = acceptor.accept(tcp).await {
                    let _ = tokio::io::copy(&mut tls, &mut tokio::io::sink()).await;
                }
            });
        }
    });
    address
}

async fn enrol_at(address: &str, pin: Sha256) -> Result<(), String> {
    let config = Arc::new(tls::enrolment_config(pin).unwrap());
    match client::channel(address, config).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text.push_str(": ");
                text.push_str(&cause.to_string());
                source = cause.source();
            }
            Err(text)
        }
    }
}

#[tokio::test]
async fn a_host_that_enrols_accepts_the_chain_of_the_pinned_root() {
    let ours = Authority::new();
    let (chain, key) = ours.server(tls::SERVER_NAME);
    let address = serve(chain, key).await;
    assert_eq!(enrol_at(&address, ours.spki()).await, Ok(()));
}

#[tokio::test]
async fn a_host_that_enrols_refuses_the_chain_of_another_root() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (chain, key) = theirs.server(tls::SERVER_NAME);
    let address = serve(chain, key).await;
    let error = enrol_at(&address, ours.spki()).await.unwrap_err();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn showing_the_pinned_root_beside_another_chain_does_not_help() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (mut chain, key) = theirs.server(tls::SERVER_NAME);
    chain.push(ours.root.der().clone());
    let address = serve(chain, key).await;
    let error = enrol_at(&address, ours.spki()).await.unwrap_err();
    assert!(error.contains("invalid peer certificate"), "{error}");
}

#[tokio::test]
async fn a_leaf_of_the_pinned_root_with_another_name_is_refused() {
    let ours = Authority::new();
    let (chain, key) = ours.server("somebody-else");
    let address = serve(chain, key).await;
    let error = enrol_at(&address, ours.spki()).await.unwrap_err();
    assert!(error.contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_client_with_an_identity_knows_its_server_by_root_and_name() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (own, own_key) = leaf("host", ExtendedKeyUsagePurpose::ClientAuth, &ours.root);
    let (chain, key) = ours.server(tls::SERVER_NAME);
    let address = serve(chain, key).await;
    for (root, welcome) in [(&ours, true), (&theirs, false)] {
        let config = tls::client_config_from_pem(
            root.root.pem().as_bytes(),
            own.pem().as_bytes(),
            own_key.serialize_pem().as_bytes(),
        )
        .unwrap();
        let channel = client::channel(&address, Arc::new(config)).await;
        assert_eq!(channel.is_ok(), welcome);
    }
}

#[test]
fn a_pem_text_without_its_part_is_an_error_that_names_it() {
    let error = tls::certificates("the root", b"no pem").unwrap_err();
    assert_eq!(
        error.to_string(),
        "reading the root: it holds no certificate"
    );
    assert!(tls::Identity::from_pem(b"", b"").is_err());
}
