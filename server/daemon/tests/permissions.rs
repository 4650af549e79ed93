//! Every call × every principal on a live server: exactly what `deploy/permissions.md` says, which
//! `ringward-wire` generates from the protocol.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{Server, act};
use ringward_server::config::Engine;
use ringward_wire::pb::approval_service_client::ApprovalServiceClient;
use ringward_wire::pb::people_service_client::PeopleServiceClient;
use ringward_wire::token::sha256;
use ringward_wire::{client, pb, permission, tls};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

const ROLES: [(&str, pb::Role); 5] = [
    ("viewer", pb::Role::Viewer),
    ("operator", pb::Role::Operator),
    ("responder", pb::Role::Responder),
    ("approver", pb::Role::Approver),
    ("admin", pb::Role::Admin),
];

/// A token is never the second person, and becomes nobody who could be.
const NEVER_BY_TOKEN: [&str; 5] = [
    "PeopleService/SetPassword",
    "OrderService/Endorse",
    "ApprovalService/Approve",
    "ApprovalService/Deny",
    "PeopleService/CreateApiToken",
];

/// What the document says: by call, who may.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/permissions.md");
    let text = std::fs::read_to_string(path).unwrap();
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut rows = text.lines().filter(|line| line.starts_with('|'));
    let head = cells(rows.next().unwrap());
    rows.skip(1)
        .map(|line| {
            let row = cells(line);
            let may = head
                .iter()
                .zip(&row)
                .skip(1)
                .filter(|(_, may)| *may == "yes");
            (row[0].clone(), may.map(|(who, _)| who.clone()).collect())
        })
        .collect()
}

/// Makes a call with an empty message, which no call carries out; whether it got past the gate.
async fn passes(channel: Option<&Channel>, path: &str, bearer: Option<&str>) -> bool {
    let Some(channel) = channel else {
        return false;
    };
    let mut request = Request::new(());
    if let Some(bearer) = bearer {
        let bearer = format!("Bearer {bearer}").parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
    }
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    if grpc.ready().await.is_err() {
        return false;
    }
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let answer = grpc.server_streaming(request, path.parse().unwrap(), codec);
    match answer.await.map_err(|status: Status| status.code()) {
        Ok(_) => true,
        Err(Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition) => true,
        Err(Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented) => false,
        // No certificate, or one of the other authority: the connection ends in the handshake.
        Err(Code::Unavailable | Code::Unknown | Code::Internal) => false,
        Err(other) => panic!("{path}: {other:?}"),
    }
}

struct Principals {
    /// By name in the document: channels to the agents' and to the admins' listener.
    known: Vec<(&'static str, Option<Channel>, Option<Channel>)>,
    /// A certificate without any grant.
    stranger: Channel,
    /// A certificate of Ada's, who holds every role.
    ada: Channel,
    /// No certificate: tokens alone are shown here.
    anonymous: Channel,
    /// API tokens of Ada: by the one role each carries.
    tokens: Vec<(&'static str, String)>,
}

fn whole(role: pb::Role) -> pb::RoleGrant {
    pb::RoleGrant {
        role: role.into(),
        ..pb::RoleGrant::default()
    }
}

/// Somebody with one role, given by Ada and approved by Bea.
async fn grant(name: &str, role: pb::Role, ada: &Channel, bea: &Channel) {
    let asked = PeopleServiceClient::new(ada.clone())
        .grant(pb::GrantRequest {
            act: act("matrix"),
            person: name.to_owned(),
            grants: vec![whole(role)],
        })
        .await
        .unwrap()
        .into_inner();
    let waits = asked.approval.expect("a role needs a second person");
    ApprovalServiceClient::new(bea.clone())
        .approve(pb::ApproveRequest {
            act: act("matrix"),
            approval: waits.id,
            digest: waits.digest,
        })
        .await
        .unwrap();
}

async fn principals(server: &Server) -> Principals {
    let ada = server.admin().await;
    let bea = server.admin_as(&server.person("bea")).await;
    let token = server.token(1).await;
    let host = server.enrol(&token).await.unwrap();
    let nobody = Arc::new(tls::enrolment_config(token.ca).unwrap());
    let anonymous = server.anonymous().await.unwrap();
    let mut known = vec![
        (
            "no certificate",
            client::channel(&server.agents(), nobody).await.ok(),
            Some(anonymous.clone()),
        ),
        ("agent", server.channel(&host).await.ok(), None),
    ];
    let mut tokens = Vec::new();
    for (name, role) in ROLES {
        grant(name, role, &ada, &bea).await;
        let channel = server.admin_as(&server.person(name)).await;
        known.push((name, None, Some(channel)));
        let made = PeopleServiceClient::new(ada.clone())
            .create_api_token(pb::CreateApiTokenRequest {
                act: act("matrix"),
                label: name.to_owned(),
                grants: vec![whole(role)],
                life_ms: 600_000,
            })
            .await
            .unwrap();
        tokens.push((name, made.into_inner().token));
    }
    Principals {
        known,
        stranger: server.admin_as(&server.person("mallory")).await,
        anonymous,
        ada,
        tokens,
    }
}

#[tokio::test]
async fn every_call_lets_in_exactly_whom_the_document_names() {
    let server = Server::start_with(Engine::Mem, &["bea"]).await;
    let all = principals(&server).await;
    let documented = documented();
    assert_eq!(documented.len(), permission::calls().count());
    let mut wrong = Vec::new();
    let mut calls = 0;
    let mut note = |who: String, path: &str, is: bool, should: bool| {
        calls += 1;
        if is != should {
            wrong.push(format!("{path} by {who}: {is}"));
        }
    };
    for (path, _) in permission::calls() {
        let call = path.trim_start_matches("/ringward.v1.");
        let may = &documented[call];
        let of_agents = call.starts_with("AgentService/") || call.starts_with("TrustService/");
        for (who, agents, admins) in &all.known {
            let (right, other) = match of_agents {
                true => (agents, admins),
                false => (admins, agents),
            };
            let in_right = passes(right.as_ref(), path, None).await;
            note((*who).to_owned(), path, in_right, may.contains(*who));
            // No call is answered on the listener that is not its own.
            let in_other = passes(other.as_ref(), path, None).await;
            note(format!("{who}, other listener"), path, in_other, false);
        }
        let stranger = passes(Some(&all.stranger), path, None).await;
        note("somebody without a role".to_owned(), path, stranger, false);
        for (role, token) in &all.tokens {
            let should = may.contains(*role) && !NEVER_BY_TOKEN.contains(&call);
            for (how, channel) in [("alone", &all.anonymous), ("under a certificate", &all.ada)] {
                let is = passes(Some(channel), path, Some(token)).await;
                note(format!("a token of {role} {how}"), path, is, should);
            }
        }
        let forged = format!("rwapi_{}", sha256(path.as_bytes()));
        for channel in [&all.anonymous, &all.ada] {
            let is = passes(Some(channel), path, Some(&forged)).await;
            note("a forged token".to_owned(), path, is, false);
        }
    }
    assert!(wrong.is_empty(), "{} of {calls}: {wrong:#?}", wrong.len());
    println!("{calls} calls made");
}

#[tokio::test]
async fn what_no_call_is_named_like_is_nobodys() {
    let server = Server::start(Engine::Mem).await;
    let ada = server.admin().await;
    for path in [
        "/ringward.v1.FleetService/Nothing",
        "/x/y",
        "/ringward.v1.FleetService/",
    ] {
        assert!(!passes(Some(&ada), path, None).await, "{path}");
    }
}
