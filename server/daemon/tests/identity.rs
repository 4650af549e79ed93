//! Who gets in, and who does not, over real TLS.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Server, act, hello};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use ringward_domain::session::ToAgent;
use ringward_server::config::Engine;
use ringward_wire::pb::agent_service_client::AgentServiceClient;
use ringward_wire::pb::fleet_service_client::FleetServiceClient;
use ringward_wire::{client, pb, tls};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use tonic::Code;
use tonic::transport::Channel;

async fn list_hosts(channel: Channel) -> Result<pb::ListHostsResponse, tonic::Status> {
    FleetServiceClient::new(channel)
        .list_hosts(pb::ListHostsRequest::default())
        .await
        .map(tonic::Response::into_inner)
}

fn is_welcome(message: &ToAgent) -> Option<()> {
    matches!(message, ToAgent::Welcome { .. }).then_some(())
}

/// Issues a certificate for a host's name from the named authority of the server, or a strange one.
fn forge(server: &Server, authority: Option<&str>, usage: ExtendedKeyUsagePurpose) -> common::Host {
    let key = KeyPair::generate().unwrap();
    let host = ringward_domain::HostId(7);
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(
        format!("ringward://host/{host}").try_into().unwrap(),
    )];
    params.extended_key_usages = vec![usage];
    let certificate = match authority {
        Some(name) => {
            let read = |end| std::fs::read_to_string(server.pki().join(format!("{name}.{end}")));
            let issuer_key = KeyPair::from_pem(&read("key").unwrap()).unwrap();
            let issuer = Issuer::from_ca_cert_pem(&read("crt").unwrap(), issuer_key).unwrap();
            params.signed_by(&key, &issuer).unwrap()
        }
        None => params.self_signed(&key).unwrap(),
    };
    common::Host {
        id: host,
        chain: vec![certificate.der().clone()],
        roots: server.root(),
        key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
    }
}

/// Whether this certificate opens a session; refused in the handshake or by the call.
async fn gets_in(server: &Server, host: &common::Host) -> bool {
    match server.channel(host).await {
        Ok(channel) => match common::open(channel, hello()).await {
            Ok(mut session) => session.inbox.message().await.is_ok_and(|m| m.is_some()),
            Err(_) => false,
        },
        Err(_) => false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_enrols_by_token_and_opens_a_session_by_certificate() {
    let server = Server::start(Engine::Mem).await;
    let token = server.token(1).await;
    let host = server.enrol(&token).await.unwrap();
    let mut session = server.session(&host, hello()).await.unwrap();
    session.until(is_welcome).await;
    let hosts = list_hosts(server.admin().await).await.unwrap().hosts;
    assert_eq!(hosts.len(), 1);
    assert_eq!(hosts[0].id, host.id.0);
    assert!(hosts[0].connected);
    assert_eq!(hosts[0].labels["site"], "lab");
    let second = server.enrol(&token).await.map(|host| host.id).unwrap_err();
    assert_eq!(second.code(), Code::PermissionDenied);
    assert!(second.message().contains("used up"), "{second}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_only_enrolment_answers() {
    let server = Server::start(Engine::Mem).await;
    let token = server.token(1).await;
    let config = Arc::new(tls::enrolment_config(token.ca).unwrap());
    let channel = client::channel(&server.agents(), Arc::clone(&config))
        .await
        .unwrap();
    let refused = common::open(channel.clone(), hello()).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut agent = AgentServiceClient::new(channel);
    let fetch = pb::FetchArtifactRequest::default();
    let refused = agent.fetch_artifact(fetch).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let refused = agent.get_release(pb::GetReleaseRequest::default()).await;
    assert_eq!(refused.err().unwrap().code(), Code::Unauthenticated);
    let refused = agent.renew(pb::RenewRequest::default()).await;
    assert_eq!(refused.err().unwrap().code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_authority_is_noticed_before_the_secret_is_sent() {
    let server = Server::start(Engine::Mem).await;
    let other = ringward_domain::Sha256([9; 32]);
    let config = Arc::new(tls::enrolment_config(other).unwrap());
    assert!(client::channel(&server.agents(), config).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_nested_and_misused_certificates_are_refused() {
    let server = Server::start(Engine::Mem).await;
    let token = server.token(1).await;
    let host = server.enrol(&token).await.unwrap();
    let client_auth = ExtendedKeyUsagePurpose::ClientAuth;
    let named = [
        ("self-signed", forge(&server, None, client_auth.clone())),
        (
            "by the admins' intermediate",
            forge(&server, Some("admins"), client_auth.clone()),
        ),
        (
            "by the root itself",
            forge(&server, Some("root"), client_auth.clone()),
        ),
        (
            "for servers",
            forge(&server, Some("agents"), ExtendedKeyUsagePurpose::ServerAuth),
        ),
        (
            "of a host that never enrolled",
            forge(&server, Some("agents"), client_auth),
        ),
    ];
    for (what, forged) in named {
        assert!(!gets_in(&server, &forged).await, "{what}");
    }
    // A certificate that a host issued itself under its own, with the whole chain sent along.
    let key = KeyPair::generate().unwrap();
    let issuer_key = KeyPair::try_from(host.key.secret_der()).unwrap();
    let issuer = Issuer::from_ca_cert_der(&host.chain[0], issuer_key).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(
        format!("ringward://host/{}", host.id).try_into().unwrap(),
    )];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let nested = params.signed_by(&key, &issuer).unwrap();
    let mut chain = vec![nested.der().clone()];
    chain.extend(host.chain.clone());
    let nested = common::Host {
        id: host.id,
        chain,
        roots: server.root(),
        key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
    };
    assert!(!gets_in(&server, &nested).await, "nested");
    assert!(gets_in(&server, &host).await, "the honest one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_listener_takes_admins_only() {
    for server in [
        Server::start(Engine::Mem).await,
        Server::start_certificate_only(Engine::Mem).await,
    ] {
        takes_admins_only(&server).await;
    }
}

async fn takes_admins_only(server: &Server) {
    assert!(list_hosts(server.admin().await).await.is_ok());
    let token = server.token(1).await;
    let host = server.enrol(&token).await.unwrap();
    let identity = tls::Identity {
        chain: host.chain.clone(),
        key: host.key.clone_key(),
    };
    let as_host = tls::client_config(&host.roots, identity).unwrap();
    let nobody = tls::enrolment_config(token.ca).unwrap();
    for (who, config) in [("a host", as_host), ("nobody", nobody)] {
        // TLS 1.3 tells the client of a refused certificate only after its own handshake.
        let refused = match client::channel(&server.admins(), Arc::new(config)).await {
            Ok(channel) => list_hosts(channel).await.is_err(),
            Err(_) => true,
        };
        assert!(refused, "{who}");
    }
    let as_admin = Arc::new(server.admin_tls());
    let refused = match client::channel(&server.agents(), as_admin).await {
        Ok(channel) => common::open(channel, hello()).await.is_err(),
        Err(_) => true,
    };
    assert!(refused, "an admin at the agents' listener");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_host_is_cut_off_at_once_and_stays_out() {
    let server = Server::start(Engine::Mem).await;
    let token = server.token(1).await;
    let host = server.enrol(&token).await.unwrap();
    let mut session = server.session(&host, hello()).await.unwrap();
    session.until(is_welcome).await;
    server
        .fleet()
        .await
        .retire_host(pb::HostCommand {
            act: act("stolen"),
            host: host.id.0,
        })
        .await
        .unwrap();
    session.ended().await;
    let refused = server.session(&host, hello()).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = AgentServiceClient::new(server.channel(&host).await.unwrap())
        .fetch_artifact(pb::FetchArtifactRequest {
            sha256: vec![0; 32],
            offset: 0,
        })
        .await;
    assert_eq!(refused.err().unwrap().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_certificate_opens_a_session() {
    let server = Server::start(Engine::Mem).await;
    let token = server.token(1).await;
    let mut host = server.enrol(&token).await.unwrap();
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let answer = AgentServiceClient::new(server.channel(&host).await.unwrap())
        .renew(pb::RenewRequest {
            csr_der: csr.der().to_vec(),
        })
        .await
        .unwrap()
        .into_inner();
    host.chain = answer
        .chain_der
        .into_iter()
        .map(CertificateDer::from)
        .collect();
    host.key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    let mut session = server.session(&host, hello()).await.unwrap();
    session.until(is_welcome).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_hosts_behind_one_address_enrol_at_once() {
    let server = Arc::new(Server::start(Engine::Sled).await);
    let token = Arc::new(server.token(200).await);
    let enrolling: Vec<_> = (0..200)
        .map(|_| {
            let (server, token) = (Arc::clone(&server), Arc::clone(&token));
            tokio::spawn(async move { server.enrol(&token).await.map(|host| host.id) })
        })
        .collect();
    let mut ids = std::collections::BTreeSet::new();
    for enrolled in enrolling {
        ids.insert(enrolled.await.unwrap().unwrap());
    }
    assert_eq!(ids.len(), 200);
}
