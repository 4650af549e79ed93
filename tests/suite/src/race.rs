//! One-use tokens spent by many hosts in the same moment, on the real server and its disk.

use crate::hosts;
use crate::lab::Lab;
use crate::process::Programs;
use anyhow::{Context, Result, ensure};
use ringward_wire::client;
use ringward_wire::enrolment::{EnrolRequest, Enrolled};
use ringward_wire::pb;
use ringward_wire::pb::agent_service_client::AgentServiceClient;
use ringward_wire::tls::enrolment_config;
use ringward_wire::token::EnrolmentToken;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// What a person asks for.
#[derive(Debug, Clone, clap::Parser)]
pub struct Options {
    /// Tokens, each good for one host
    #[arg(long, default_value_t = 100)]
    pub tokens: usize,
    /// Hosts that spend each of them at once
    #[arg(long, default_value_t = 200)]
    pub spends: usize,
    /// Write the outcome as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Tokens good for two hosts, which this harness has to find
    #[arg(long, hide = true)]
    pub sabotage: bool,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// Tokens raced for.
    pub tokens: usize,
    /// Hosts at each.
    pub spends: usize,
    /// How often a token had so many winners.
    pub winners: BTreeMap<usize, usize>,
    /// Refusals by code and words.
    pub refusals: BTreeMap<String, usize>,
    /// Hosts that the server has at the end.
    pub hosts: usize,
    /// Those it has and that never had its answer.
    pub unanswered: usize,
}

impl Outcome {
    /// What is not as promised.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (winners, tokens) in self.winners.iter().filter(|(winners, _)| **winners != 1) {
            faults.push(format!(
                "{tokens} tokens had {winners} winners instead of 1"
            ));
        }
        for (words, times) in &self.refusals {
            if !words.starts_with("PermissionDenied") {
                faults.push(format!("{times} times the answer was {words}"));
            }
        }
        if self.hosts != self.tokens {
            let (hosts, tokens) = (self.hosts, self.tokens);
            faults.push(format!("{tokens} tokens made {hosts} hosts"));
        }
        if self.unanswered > 0 {
            faults.push(format!("{} hosts never heard of it", self.unanswered));
        }
        faults
    }
}

/// Races.
///
/// # Errors
/// The server does not come up or ends.
pub async fn run(programs: Programs, dir: &Path, options: &Options) -> Result<Outcome> {
    // All of them come from one address and hold their connections until everybody has one.
    let settings = [("unauthenticated_per_address", 2 * options.spends)];
    let policy = "[[ring]]\nname = \"all\"\n";
    let mut lab = Lab::set_up_with(programs, dir, Some("warn"), policy, &settings).await?;
    let mut outcome = Outcome {
        tokens: options.tokens,
        spends: options.spends,
        ..Outcome::default()
    };
    let mut answered = BTreeSet::new();
    for round in 0..options.tokens {
        let token = lab.token(if options.sabotage { 2 } else { 1 }).await?;
        let token: EnrolmentToken = token.parse()?;
        let mut won = 0;
        for answer in race(&lab, &token, round, options.spends).await? {
            match answer {
                Ok(answer) => {
                    won += 1;
                    answered.insert(Enrolled::try_from(answer)?.host.to_string());
                }
                Err(status) => {
                    let words = format!("{:?}: {}", status.code(), status.message());
                    *outcome.refusals.entry(words).or_default() += 1;
                }
            }
        }
        *outcome.winners.entry(won).or_default() += 1;
        lab.check()?;
    }
    let listed = lab.ctl(&["hosts", "list", "-o", "json"]).await?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let listed = listed.as_array().context("hosts list prints no list")?;
    outcome.hosts = listed.len();
    let known = |host: &&serde_json::Value| {
        let id = host["id"].as_str().unwrap_or_default();
        !answered.contains(id)
    };
    outcome.unanswered = listed.iter().filter(known).count();
    lab.stop().await?;
    Ok(outcome)
}

type Answer = Result<pb::EnrollResponse, tonic::Status>;

/// Everybody connects first; then all ask at once.
async fn race(
    lab: &Lab,
    token: &EnrolmentToken,
    round: usize,
    spends: usize,
) -> Result<Vec<Answer>> {
    let tls = Arc::new(enrolment_config(token.ca)?);
    let address = lab.addresses()?.agents.to_string();
    let start = Arc::new(Barrier::new(spends));
    let mut asking: JoinSet<Result<Answer>> = JoinSet::new();
    for index in 0..spends {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let request = rcgen::CertificateParams::default().serialize_request(&key)?;
        let request: pb::EnrollRequest = EnrolRequest {
            secret: token.secret.clone(),
            csr_der: request.der().to_vec(),
            facts: hosts::facts(&format!("racer-{round}-{index}")),
            agent_version: "0.1.0".to_owned(),
        }
        .into();
        let (tls, start, address) = (Arc::clone(&tls), Arc::clone(&start), address.clone());
        asking.spawn(async move {
            let channel = client::channel(&address, tls).await?;
            start.wait().await;
            let answer = AgentServiceClient::new(channel).enroll(request).await;
            Ok(answer.map(tonic::Response::into_inner))
        });
    }
    let mut answers = Vec::new();
    while let Some(answer) = asking.join_next().await {
        answers.push(answer??);
    }
    ensure!(answers.len() == spends, "somebody got no turn");
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn raced() -> Outcome {
        Outcome {
            tokens: 3,
            spends: 9,
            winners: BTreeMap::from([(1, 3)]),
            refusals: BTreeMap::from([(format!("{:?}: spent", Code::PermissionDenied), 24)]),
            hosts: 3,
            unanswered: 0,
        }
    }

    #[test]
    fn two_winners_a_lost_answer_and_another_refusal_are_faults() {
        assert_eq!(raced().faults(), Vec::<String>::new());
        let mut twice = raced();
        twice.winners = BTreeMap::from([(1, 2), (2, 1)]);
        twice.hosts = 4;
        assert_eq!(twice.faults().len(), 2);
        let mut cut = raced();
        cut.refusals.insert("Unavailable: cut".to_owned(), 1);
        cut.unanswered = 1;
        assert_eq!(cut.faults().len(), 2);
    }
}
