//! Everybody fetches a large artefact at once; what the server's memory does meanwhile.

use super::release::publish;
use super::{Fleet, Outcome, target};
use crate::call::Call;
use crate::enrol::Known;
use crate::line::Target;
use crate::subject::PATIENCE;
use anyhow::{Context, Result, bail, ensure};
use prost::Message as _;
use ringward_suite::account::Process;
use ringward_wire::pb;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The size that DESIGN's bench names.
const BYTES: usize = 20_000_000;
/// Hosts that come at once: at 20 MB each, 10,000 would be 200 GB of loopback for the same answer.
const HOSTS_MAX: usize = 1_000;
/// How often the server's memory is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The pause of a host whose download was refused or ended early: half of it to one and a half times.
const PAUSE_MS: u64 = 1_000;

struct Download {
    target: Target,
    content: Arc<Vec<u8>>,
    request: pb::FetchArtifactRequest,
    refused: Arc<AtomicU64>,
}

/// Lets the hosts fetch 20 MB each.
///
/// # Errors
/// Somebody does not get the whole of it, byte for byte.
pub async fn run(outcome: &mut Outcome, fleet: &Fleet) -> Result<()> {
    let mut content = vec![0; BYTES];
    fastrand::Rng::with_seed(20).fill(&mut content);
    let (sha256, file) = publish(&fleet.lab, "9.20", &content).await?.artefact;
    let download = Arc::new(Download {
        target: target(&fleet.lab)?,
        content: Arc::new(std::fs::read(file)?),
        request: pb::FetchArtifactRequest {
            sha256: sha256.0.to_vec(),
            offset: 0,
        },
        refused: Arc::default(),
    });
    let hosts = fleet.known.iter().take(HOSTS_MAX);
    let server = Process::of_server(&fleet.lab)?;
    let (before_kib, before_s) = (server.rss_kib()?, server.settled_cpu_s().await?);
    let (began, mut most_kib) = (Instant::now(), before_kib);
    let mut under_way = JoinSet::new();
    for (index, known) in hosts.cloned().enumerate() {
        let download = Arc::clone(&download);
        under_way.spawn(async move { download.until_whole(index, known).await });
    }
    let count = under_way.len() as f64;
    while !under_way.is_empty() {
        tokio::select! {
            Some(done) = under_way.join_next() => done??,
            () = sleep(LOOK) => most_kib = most_kib.max(server.rss_kib()?),
        }
    }
    let wall_s = began.elapsed().as_secs_f64();
    let megabytes = count * download.content.len() as f64 / 1e6;
    outcome.note("artefact_hosts", &[count]);
    outcome.note("artefact_mb_per_s", &[megabytes / wall_s]);
    let cpu_s = server.settled_cpu_s().await? - before_s;
    outcome.note("artefact_mb_per_core_s", &[megabytes / cpu_s]);
    outcome.note(
        "artefact_rss_growth_mib",
        &[(most_kib - before_kib) / 1024.0],
    );
    let refused = download.refused.load(Relaxed);
    outcome.note("artefact_turns_refused", &[refused as f64]);
    Ok(())
}

impl Download {
    /// As an agent does: what was refused, or cut, is asked for again from where it ended.
    async fn until_whole(&self, index: usize, known: Known) -> Result<()> {
        let mut random = fastrand::Rng::with_seed(index as u64);
        let fetched = async {
            let mut got = 0;
            while got < self.content.len() {
                if let Err(error) = self.go_on(index, &known, &mut got).await {
                    ensure!(error.downcast_ref::<Wrong>().is_none(), "{error:#}");
                }
                if got < self.content.len() {
                    self.refused.fetch_add(1, Relaxed);
                    sleep(Duration::from_millis(PAUSE_MS / 2 + random.u64(..PAUSE_MS))).await;
                }
            }
            Ok(())
        };
        let waited = timeout(PATIENCE, fetched).await;
        waited.with_context(|| format!("host {index} waits for its artefact"))?
    }

    async fn go_on(&self, index: usize, known: &Known, got: &mut usize) -> Result<()> {
        let request = pb::FetchArtifactRequest {
            offset: *got as u64,
            ..self.request.clone()
        };
        let tls = Arc::clone(&known.tls);
        let mut call = Call::open(self.target, index, tls, "FetchArtifact", &request).await?;
        while let Some(chunk) = call.next().await? {
            let chunk = pb::ArtefactChunk::decode(chunk.as_slice())?;
            let end = *got + chunk.data.len();
            let wanted = self.content.get(*got..end);
            if chunk.offset != *got as u64 || wanted != Some(&chunk.data[..]) {
                bail!(Wrong(*got));
            }
            *got = end;
        }
        Ok(())
    }
}

/// The server sent other bytes than were published, from here on.
#[derive(Debug)]
struct Wrong(usize);

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "other bytes than were published, from {} on", self.0)
    }
}
