//! Counters of the server, in Prometheus' text format. A handful of atomics serves better here than a
//! registry with dynamic labels: every series is known at compile time, so none can grow in number.

use ringward_server_core::webhooks::Kind;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add_one(&self) {
        self.add(1);
    }
    /// So many more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    /// As it stands.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
    /// As it stands.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
    /// One more for as long as the guard lives.
    pub fn hold(&self) -> GaugeGuard<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        GaugeGuard(self)
    }
}

/// See [`Gauge::hold`].
#[derive(Debug)]
pub struct GaugeGuard<'a>(&'a Gauge);

impl Drop for GaugeGuard<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Times in milliseconds, in fixed buckets.
#[derive(Debug, Default)]
pub struct Times {
    inner: Mutex<TimesInner>,
}

#[derive(Debug, Default)]
struct TimesInner {
    buckets: [u64; BUCKETS_MS.len()],
    count: u64,
    sum_ms: f64,
}

const BUCKETS_MS: [f64; 12] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0, 30_000.0,
];

impl Times {
    /// One more.
    pub fn record_ms(&self, ms: f64) {
        let mut inner = self.inner.lock().unwrap_or_else(|e| e.into_inner());
        inner.count += 1;
        inner.sum_ms += ms;
        for (bucket, top) in inner.buckets.iter_mut().zip(BUCKETS_MS) {
            if ms <= top {
                *bucket += 1;
            }
        }
    }
}

/// Everything the server counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// Connections open now.
    pub connections_open: Gauge,
    /// Failures of `accept` itself.
    pub accept_errors: Counter,
    /// Connections closed at once: too many in all.
    pub shed_connections: Counter,
    /// Connections closed at once: too many unauthenticated ones of one address.
    pub shed_unauthenticated: Counter,
    /// Connections closed while they waited for a handshake.
    pub shed_handshake_wait: Counter,
    /// TLS handshakes that failed.
    pub handshakes_failed: Counter,
    /// TLS handshakes that took too long.
    pub handshakes_timed_out: Counter,
    /// Connections that ended because the peer broke a rule of HTTP/2, or went silent.
    pub connections_broken: Counter,
    /// Connections closed in an orderly way because of their age.
    pub connections_aged: Counter,
    /// Sessions opened with a certificate of the authority that goes.
    pub connections_leaving_authority: Counter,
    /// Calls refused for lack of an identity.
    pub calls_unauthenticated: Counter,
    /// Calls that took too long.
    pub calls_timed_out: Counter,
    /// Sessions open now.
    pub sessions_open: Gauge,
    /// Sessions closed because the host read too slowly.
    pub sessions_slow: Counter,
    /// Sessions replaced by a newer one of the same host.
    pub sessions_replaced: Counter,
    /// Sessions refused or closed because the host is retired.
    pub sessions_revoked: Counter,
    /// Sessions refused because two machines use the host's identity.
    pub sessions_fenced: Counter,
    /// Hellos refused because the host had said newer things since.
    pub hellos_stale: Counter,
    /// Flushes of when hosts were heard of that failed.
    pub heard_unflushed: Counter,
    /// Session messages held back by the rate limit.
    pub messages_delayed: Counter,
    /// Session messages that were too large, or none at all: the session is closed.
    pub messages_refused: Counter,
    /// Session messages received.
    pub messages_received: Counter,
    /// Messages sent to hosts.
    pub messages_sent: Counter,
    /// Signals made durable (repetitions count again).
    pub signals_durable: Counter,
    /// Batches made durable.
    pub commits: Counter,
    /// Attempts to commit that failed and were tried again.
    pub commit_failures: Counter,
    /// Whether the store fails now.
    pub store_failing: Gauge,
    /// Time from a commit's start until it was durable.
    pub commit_ms: Times,
    /// Time from the deciding event to the halt durable and told.
    pub halt_ms: Times,
    /// Rollouts halted.
    pub halts: Counter,
    /// Signals that were older than the policy keeps them.
    pub signals_trimmed: Counter,
    /// Hosts enrolled.
    pub enrolled: Counter,
    /// Enrolments refused.
    pub enrolments_refused: Counter,
    /// Artefact downloads under way.
    pub downloads_open: Gauge,
    /// Artefact downloads refused: too many at once.
    pub downloads_refused: Counter,
    /// Artefact bytes sent.
    pub artefact_bytes_sent: Counter,
    /// Rollouts that expose hosts now.
    pub rollouts_running: Gauge,
    /// Hosts known.
    pub hosts: Gauge,
    /// Alerts that stand, in the order of [`Kind::ALL`].
    pub alerts: [Gauge; Kind::ALL.len()],
}

impl Metrics {
    /// All of it in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(8 * 1024);
        for (name, help, counter) in self
            .listener_counters()
            .into_iter()
            .chain(self.work_counters())
        {
            series(&mut out, name, "counter", help, counter.get());
        }
        for (name, help, gauge) in self.gauges() {
            series(&mut out, name, "gauge", help, gauge.get());
        }
        self.alerts(&mut out);
        histogram(
            &mut out,
            "ringward_commit_ms",
            "Time from a commit's start until it was durable.",
            &self.commit_ms,
        );
        histogram(
            &mut out,
            "ringward_evidence_to_halt_ms",
            "Time from the deciding event to the halt durable and told.",
            &self.halt_ms,
        );
        out
    }

    fn alerts(&self, out: &mut String) {
        let name = "ringward_alerts";
        let help = "Alerts that stand now, as webhooks tell them.";
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (kind, gauge) in Kind::ALL.into_iter().zip(&self.alerts) {
            let _ = writeln!(out, "{name}{{kind=\"{kind}\"}} {}", gauge.get());
        }
    }

    // One line a series: a table that is read as one.
    #[rustfmt::skip]
    fn listener_counters(&self) -> Vec<Row<'_, Counter>> {
        vec![
            ("ringward_connections_accepted_total", "Connections accepted.", &self.connections_accepted),
            ("ringward_accept_errors_total", "Failures of accept itself.", &self.accept_errors),
            ("ringward_shed_connections_total", "Connections closed: too many in all.", &self.shed_connections),
            ("ringward_shed_unauthenticated_total", "Connections closed: too many without identity from one address.", &self.shed_unauthenticated),
            ("ringward_shed_handshake_wait_total", "Connections closed while waiting for a handshake.", &self.shed_handshake_wait),
            ("ringward_connections_leaving_authority_total", "Sessions opened with a certificate of the authority that goes.", &self.connections_leaving_authority),
            ("ringward_handshakes_failed_total", "TLS handshakes that failed.", &self.handshakes_failed),
            ("ringward_handshakes_timed_out_total", "TLS handshakes that took too long.", &self.handshakes_timed_out),
            ("ringward_connections_broken_total", "Connections ended by a broken rule of HTTP/2 or a silent peer.", &self.connections_broken),
            ("ringward_connections_aged_total", "Connections closed because of their age.", &self.connections_aged),
            ("ringward_calls_unauthenticated_total", "Calls refused for lack of an identity.", &self.calls_unauthenticated),
            ("ringward_calls_timed_out_total", "Calls that took too long.", &self.calls_timed_out),
        ]
    }

    #[rustfmt::skip]
    fn work_counters(&self) -> Vec<Row<'_, Counter>> {
        vec![
            ("ringward_sessions_slow_total", "Sessions closed because the host read too slowly.", &self.sessions_slow),
            ("ringward_sessions_replaced_total", "Sessions replaced by a newer one of the same host.", &self.sessions_replaced),
            ("ringward_sessions_revoked_total", "Sessions refused or closed because the host is retired.", &self.sessions_revoked),
            ("ringward_messages_delayed_total", "Session messages held back by the rate limit.", &self.messages_delayed),
            ("ringward_messages_refused_total", "Session messages too large or malformed; the session is closed.", &self.messages_refused),
            ("ringward_messages_received_total", "Session messages received.", &self.messages_received),
            ("ringward_messages_sent_total", "Messages sent to hosts.", &self.messages_sent),
            ("ringward_signals_durable_total", "Signals made durable, repetitions included.", &self.signals_durable),
            ("ringward_commits_total", "Batches made durable.", &self.commits),
            ("ringward_commit_failures_total", "Attempts to commit that failed and were tried again.", &self.commit_failures),
            ("ringward_halts_total", "Rollouts halted.", &self.halts),
            ("ringward_sessions_fenced_total", "Sessions refused because two machines use the host's identity.", &self.sessions_fenced),
            ("ringward_hellos_stale_total", "Hellos refused because the host had said newer things since.", &self.hellos_stale),
            ("ringward_heard_unflushed_total", "Flushes of when hosts were heard of that failed.", &self.heard_unflushed),
            ("ringward_signals_trimmed_total", "Signals that were older than the policy keeps them.", &self.signals_trimmed),
            ("ringward_enrolled_total", "Hosts enrolled.", &self.enrolled),
            ("ringward_enrolments_refused_total", "Enrolments refused.", &self.enrolments_refused),
            ("ringward_downloads_refused_total", "Artefact downloads refused: too many at once.", &self.downloads_refused),
            ("ringward_artefact_bytes_sent_total", "Artefact bytes sent.", &self.artefact_bytes_sent),
        ]
    }

    #[rustfmt::skip]
    fn gauges(&self) -> Vec<Row<'_, Gauge>> {
        vec![
            ("ringward_connections_open", "Connections open now.", &self.connections_open),
            ("ringward_sessions_open", "Sessions open now.", &self.sessions_open),
            ("ringward_store_failing", "1 while the store fails and is tried again.", &self.store_failing),
            ("ringward_downloads_open", "Artefact downloads under way.", &self.downloads_open),
            ("ringward_rollouts_running", "Rollouts that expose hosts now.", &self.rollouts_running),
            ("ringward_hosts", "Hosts known.", &self.hosts),
        ]
    }
}

/// Name, help and value of a series.
type Row<'a, T> = (&'static str, &'static str, &'a T);

fn series(out: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    let _ = writeln!(
        out,
        "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}"
    );
}

fn histogram(out: &mut String, name: &str, help: &str, times: &Times) {
    let inner = times.inner.lock().unwrap_or_else(|e| e.into_inner());
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
    for (bucket, top) in inner.buckets.iter().zip(BUCKETS_MS) {
        let _ = writeln!(out, "{name}_bucket{{le=\"{top}\"}} {bucket}");
    }
    let (count, sum) = (inner.count, inner.sum_ms);
    let _ = writeln!(
        out,
        "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_gauges_fall_back() {
        let metrics = Metrics::default();
        metrics.halt_ms.record_ms(4.0);
        metrics.halt_ms.record_ms(40.0);
        drop(metrics.sessions_open.hold());
        let text = metrics.render();
        assert!(text.contains("ringward_evidence_to_halt_ms_bucket{le=\"5\"} 1\n"));
        assert!(text.contains("ringward_evidence_to_halt_ms_bucket{le=\"50\"} 2\n"));
        assert!(text.contains("ringward_evidence_to_halt_ms_count 2\n"));
        assert!(text.contains("ringward_sessions_open 0\n"));
    }
}
