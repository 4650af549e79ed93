//! The life of an identity over real TLS: expiry and renewal, revocation in mid-stream, clones,
//! replays, a host that claims to be another, hosts taken in by hand.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Host, Server, act, facts, hello};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, PublicKeyData, SanType};
use ringward_domain::session::{Heartbeat, Hello, ToAgent, ToServer};
use ringward_domain::{AgentStart, BootId, Epoch, Generation, HostId, Millis};
use ringward_server::config::Engine;
use ringward_wire::enrolment::EnrolRequest;
use ringward_wire::pb;
use ringward_wire::pb::agent_service_client::AgentServiceClient;
use ringward_wire::pb::identity_service_client::IdentityServiceClient;
use ringward_wire::{client, tls};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tonic::{Code, Status};

const DAY: Duration = Duration::from_secs(86_400);

/// Enrols a host whose key the test holds too.
async fn enrol_with(server: &Server, key: &KeyPair, sans: &[&str]) -> Result<Host, Status> {
    let token = server.token(1).await;
    let config = tls::enrolment_config(token.ca).unwrap();
    let channel = client::channel(&token.addresses[0], Arc::new(config))
        .await
        .unwrap();
    let sans: Vec<String> = sans.iter().map(|san| (*san).to_owned()).collect();
    let csr = CertificateParams::new(sans).unwrap();
    let request = EnrolRequest {
        secret: token.secret.clone(),
        csr_der: csr.serialize_request(key).unwrap().der().to_vec(),
        facts: facts(),
        agent_version: "1.0".to_owned(),
    };
    let answer = AgentServiceClient::new(channel)
        .enroll(pb::EnrollRequest::from(request))
        .await?
        .into_inner();
    Ok(Host {
        id: HostId(answer.host),
        chain: answer.chain_der.into_iter().map(Into::into).collect(),
        roots: answer.roots_der.into_iter().map(Into::into).collect(),
        key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
    })
}

/// The same host with a certificate that ended so long ago, as the authority itself would have
/// issued it then.
fn aged(server: &Server, host: &Host, key: &KeyPair, ended: Duration) -> Host {
    let read = |end| std::fs::read_to_string(server.pki().join(format!("agents.{end}"))).unwrap();
    let issuer =
        Issuer::from_ca_cert_pem(&read("crt"), KeyPair::from_pem(&read("key")).unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(
        format!("ringward://host/{}", host.id).try_into().unwrap(),
    )];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let end = SystemTime::now() - ended;
    params.not_before = (end - 90 * DAY).into();
    params.not_after = end.into();
    // The authority must have been there in that last second: its own certificate is a day old.
    let certificate = params.signed_by(key, &issuer).unwrap();
    Host {
        id: host.id,
        chain: vec![certificate.der().clone()],
        roots: host.roots.clone(),
        key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
    }
}

async fn renew(server: &Server, host: &Host, key: &KeyPair) -> Result<pb::RenewResponse, Status> {
    let channel = server
        .channel(host)
        .await
        .map_err(|error| Status::unauthenticated(error.to_string()))?;
    let csr = CertificateParams::default().serialize_request(key).unwrap();
    let request = pb::RenewRequest {
        csr_der: csr.der().to_vec(),
    };
    let answer = AgentServiceClient::new(channel).renew(request).await?;
    Ok(answer.into_inner())
}

fn is_welcome(message: &ToAgent) -> Option<()> {
    matches!(message, ToAgent::Welcome { .. }).then_some(())
}

fn of(boot: u8, start: u8, boottime: u64) -> Hello {
    Hello {
        boot: BootId([boot; 16]),
        agent_start: AgentStart([start; 16]),
        boottime: Millis(boottime),
        ..hello()
    }
}

fn beat(boottime: u64) -> ToServer {
    ToServer::Heartbeat(Heartbeat {
        accepted: (Epoch(0), Generation(0)),
        boottime: Millis(boottime),
        soaked: None,
    })
}

async fn retire(server: &Server, host: &Host) {
    let order = pb::HostCommand {
        act: act("stolen"),
        host: host.id.0,
    };
    server.fleet().await.retire_host(order).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_renews_itself_and_opens_nothing_else() {
    let server = Server::start(Engine::Mem).await;
    let key = KeyPair::generate().unwrap();
    let host = enrol_with(&server, &key, &[]).await.unwrap();
    let expired = aged(&server, &host, &key, DAY / 2);
    let channel = server.channel(&expired).await.unwrap();
    let refused = common::open(channel.clone(), hello()).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("expired"), "{refused}");
    let fetch = AgentServiceClient::new(channel)
        .get_release(pb::GetReleaseRequest::default())
        .await;
    assert_eq!(fetch.err().unwrap().code(), Code::Unauthenticated);
    let answer = renew(&server, &expired, &key).await.unwrap();
    let renewed = Host {
        chain: answer
            .chain_der
            .into_iter()
            .map(CertificateDer::from)
            .collect(),
        ..expired
    };
    let mut session = server.session(&renewed, hello()).await.unwrap();
    session.until(is_welcome).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate_does_not_renew_for_another_key_a_stranger_or_a_retired_host() {
    let server = Server::start(Engine::Mem).await;
    let key = KeyPair::generate().unwrap();
    let host = enrol_with(&server, &key, &[]).await.unwrap();
    let expired = aged(&server, &host, &key, DAY / 2);
    let other = KeyPair::generate().unwrap();
    let refused = renew(&server, &expired, &other).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let stolen_name = aged(&server, &host, &other, DAY / 2);
    let refused = renew(&server, &stolen_name, &other).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let nobody = Host {
        id: HostId(77),
        ..aged(&server, &host, &key, DAY / 2)
    };
    let nobody = aged(&server, &nobody, &key, DAY / 2);
    let refused = renew(&server, &nobody, &key).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    retire(&server, &host).await;
    let refused = renew(&server, &expired, &key).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_expired_too_long_ago_renews_nothing() {
    let server = Server::start(Engine::Mem).await;
    let key = KeyPair::generate().unwrap();
    let host = enrol_with(&server, &key, &[]).await.unwrap();
    let expired = aged(&server, &host, &key, 181 * DAY);
    assert!(renew(&server, &expired, &key).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_names_another_host_gets_a_host_of_its_own() {
    let server = Server::start(Engine::Mem).await;
    let key = KeyPair::generate().unwrap();
    let victim = enrol_with(&server, &key, &[]).await.unwrap();
    let claim = format!("ringward://host/{}", victim.id);
    let thief_key = KeyPair::generate().unwrap();
    let thief = enrol_with(&server, &thief_key, &[&claim]).await.unwrap();
    assert_ne!(thief.id, victim.id);
    let (_, leaf) = x509_parser::parse_x509_certificate(&thief.chain[0]).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    let named = format!("{:?}", names.value.general_names);
    assert!(named.contains(&thief.id.to_string()) && !named.contains(&victim.id.to_string()));
    // What it says is taken for its own, whoever it says it is.
    let mut session = server.session(&thief, hello()).await.unwrap();
    session.until(is_welcome).await;
    let view = |host: &Host| pb::GetHostRequest { host: host.id.0 };
    let mut fleet = server.fleet().await;
    let answer = fleet.get_host(view(&victim)).await.unwrap().into_inner();
    assert!(!answer.connected);
    assert_eq!(thief_key.subject_public_key_info(), leaf.public_key().raw);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_revoked_in_the_middle_of_a_download_is_cut_off_within_five_seconds() {
    let server = Server::start(Engine::Mem).await;
    let key = KeyPair::generate().unwrap();
    let host = enrol_with(&server, &key, &[]).await.unwrap();
    let content = vec![7; 4 * 1024 * 1024];
    let sha256 = server.publish_content("1.0", &content).await;
    let mut client = AgentServiceClient::new(server.channel(&host).await.unwrap());
    let fetch = pb::FetchArtifactRequest {
        sha256: sha256.0.to_vec(),
        offset: 0,
    };
    let mut chunks = client.fetch_artifact(fetch).await.unwrap().into_inner();
    assert!(chunks.message().await.unwrap().is_some());
    // Not read on: the windows are full, the download stands in the middle.
    retire(&server, &host).await;
    let cut = async {
        let counted = "ringward_sessions_revoked_total 1\n";
        while !common::page(&server, "/metrics").await.contains(counted) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), cut)
        .await
        .expect("cut off within five seconds");
    let mut got = 0;
    let end = loop {
        match chunks.message().await {
            Ok(Some(chunk)) => got += chunk.data.len(),
            Ok(None) => break None,
            Err(status) => break Some(status.code()),
        }
    };
    assert!(got < content.len() / 2, "{got} bytes came after the cut");
    assert!(
        matches!(end, None | Some(Code::PermissionDenied)),
        "{end:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_hello_of_an_older_session_is_refused_and_the_session_goes_on() {
    let server = Server::start(Engine::Mem).await;
    let key = KeyPair::generate().unwrap();
    let host = enrol_with(&server, &key, &[]).await.unwrap();
    let mut old = server.session(&host, of(1, 1, 9_000)).await.unwrap();
    old.until(is_welcome).await;
    let mut session = server.session(&host, of(2, 2, 1_000)).await.unwrap();
    session.until(is_welcome).await;
    old.ended().await;
    let refused = server.session(&host, of(1, 1, 9_500)).await.err().unwrap();
    assert_eq!(refused.code(), Code::Aborted);
    session.send(ToServer::AuditKnown { size: 0 }).await;
    let alive = |message: &ToAgent| matches!(message, ToAgent::AuditHead(_)).then_some(());
    session.until(alive).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_machines_with_one_identity_are_both_fenced_until_a_person_lifts_it() {
    let server = Server::start(Engine::Mem).await;
    let key = KeyPair::generate().unwrap();
    let host = enrol_with(&server, &key, &[]).await.unwrap();
    // Two copies of one machine, memory and all: same boot, same agent.
    let mut first = server.session(&host, of(1, 1, 10_000)).await.unwrap();
    first.until(is_welcome).await;
    let mut second = server.session(&host, of(1, 1, 10_500)).await.unwrap();
    second.until(is_welcome).await;
    first.send(beat(14_000)).await;
    first.ended().await;
    second.ended().await;
    for hello in [of(1, 1, 20_000), of(3, 3, 100)] {
        let refused = server.session(&host, hello).await.err().unwrap();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(refused.message().contains("generalize"), "{refused}");
    }
    let refused = renew(&server, &host, &key).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut identities = IdentityServiceClient::new(server.admin().await);
    let order = || pb::HostCommand {
        act: act("the copy is generalised"),
        host: host.id.0,
    };
    identities.unfence(order()).await.unwrap();
    assert!(
        identities.unfence(order()).await.is_err(),
        "nothing to lift"
    );
    let mut session = server.session(&host, of(1, 1, 30_000)).await.unwrap();
    session.until(is_welcome).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_left_for_a_newer_one_fences_nobody() {
    let server = Server::start(Engine::Mem).await;
    let key = KeyPair::generate().unwrap();
    let host = enrol_with(&server, &key, &[]).await.unwrap();
    for i in 0..5 {
        let at = 10_000 + i * 1_000;
        let mut session = server.session(&host, of(1, 1, at)).await.unwrap();
        session.until(is_welcome).await;
        session.send(beat(at + 500)).await;
    }
    let mut session = server.session(&host, of(1, 1, 60_000)).await.unwrap();
    session.until(is_welcome).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_enrolled_again_waits_for_a_person_who_says_that_it_is_the_same() {
    let mut server = Server::start(Engine::Sled).await;
    let (first, second) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let old = enrol_with(&server, &first, &[]).await.unwrap();
    let new = enrol_with(&server, &second, &[]).await.unwrap();
    server.restart().await;
    let view = pb::GetHostRequest { host: new.id.0 };
    let view = server
        .fleet()
        .await
        .get_host(view)
        .await
        .unwrap()
        .into_inner();
    let says = view.attention.join("\n");
    assert!(says.contains(&old.id.to_string()), "{says}");
    let order = pb::HostCommand {
        act: act("new disk"),
        host: new.id.0,
    };
    let mut identities = IdentityServiceClient::new(server.admin().await);
    identities.replace(order).await.unwrap();
    let refused = server.session(&old, hello()).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut session = server.session(&new, hello()).await.unwrap();
    session.until(is_welcome).await;
}
