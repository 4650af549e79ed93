//! Real identities by the thousand, by the real call.

use crate::call;
use crate::host;
use crate::line::Target;
use anyhow::{Context, Result};
use prost::Message as _;
use ringward_suite::hosts;
use ringward_wire::enrolment::{EnrolRequest, Enrolled};
use ringward_wire::pb;
use ringward_wire::tls::{Identity, client_config, enrolment_config};
use ringward_wire::token::EnrolmentToken;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::rustls::ClientConfig;

/// Enrolments under way at one time: below what one address may have waiting.
const AT_ONCE: usize = 128;

/// Further tries of one host.
const AGAIN: usize = 3;

/// One host as it is known to the server.
#[derive(Debug, Clone)]
pub struct Known {
    /// Issued by the server.
    pub host: ringward_domain::HostId,
    /// Its TLS identity.
    pub tls: Arc<ClientConfig>,
}

/// Keys and requests of so many hosts: the machine's time for them is not the server's.
pub fn requests(count: usize) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    (0..count)
        .map(|_| {
            let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
            let request = rcgen::CertificateParams::default().serialize_request(&key)?;
            Ok((key.serialize_der(), request.der().to_vec()))
        })
        .collect()
}

/// Enrols one host for each request.
///
/// # Errors
/// The server refuses one.
pub async fn enrol(
    target: Target,
    token: &str,
    requests: Vec<(Vec<u8>, Vec<u8>)>,
) -> Result<Vec<Known>> {
    let token: EnrolmentToken = token.trim().parse()?;
    let tls = Arc::new(enrolment_config(token.ca)?);
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks: JoinSet<Result<(usize, Known)>> = JoinSet::new();
    for (index, (key, csr_der)) in requests.into_iter().enumerate() {
        let (tls, turns) = (Arc::clone(&tls), Arc::clone(&turns));
        let request: pb::EnrollRequest = EnrolRequest {
            secret: token.secret.clone(),
            csr_der,
            facts: hosts::facts(&host::name(index)),
            agent_version: "0.1.0".to_owned(),
        }
        .into();
        tasks.spawn(async move {
            let _turn = turns.acquire_owned().await?;
            let ask = || call::ask(target, index, Arc::clone(&tls), "Enroll", &request);
            // As an agent does: the same key gets the same answer again.
            let mut answer = ask().await;
            for _ in 0..AGAIN {
                if answer.is_err() {
                    answer = ask().await;
                }
            }
            let answer = answer.with_context(|| format!("enrolling {}", host::name(index)))?;
            Ok((index, known(&answer, key)?))
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.push(done??);
    }
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().map(|(_, known)| known).collect())
}

fn known(answer: &[u8], key: Vec<u8>) -> Result<Known> {
    let enrolled = Enrolled::try_from(pb::EnrollResponse::decode(answer)?)?;
    let ders = |ders: Vec<Vec<u8>>| -> Vec<CertificateDer<'static>> {
        ders.into_iter().map(Into::into).collect()
    };
    let identity = Identity {
        chain: ders(enrolled.certificates.chain_der),
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)),
    };
    let roots = ders(enrolled.certificates.roots_der);
    Ok(Known {
        host: enrolled.host,
        tls: Arc::new(client_config(&roots, identity)?),
    })
}
