//! From what a parser found to a signal of this host.

use ringward_domain::limits::EVIDENCE_BYTES_MAX;
use ringward_domain::signal::{SignalDraft, SignalKind};
use ringward_domain::{BootId, Millis};
use ringward_evidence::finding::Finding;
use ringward_evidence::windows::bugcheck::Bugcheck;
use serde::Deserialize;
use serde_json::{Map, Value};

/// A finding as the child that parses writes it: one line of `inspect --json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Found {
    /// See [`Finding`].
    pub(crate) kind: String,
    /// See [`Finding`].
    pub(crate) key: String,
    /// See [`Finding`].
    pub(crate) title: String,
    /// See [`Finding`].
    #[serde(default)]
    pub(crate) module: Option<String>,
    /// See [`Finding`].
    #[serde(default)]
    pub(crate) function: Option<String>,
    /// See [`Finding`].
    #[serde(default)]
    pub(crate) evidence: Map<String, Value>,
}

impl From<Finding> for Found {
    fn from(finding: Finding) -> Self {
        Self {
            kind: finding.kind.to_owned(),
            key: finding.key,
            title: finding.title,
            module: finding.module,
            function: finding.function,
            evidence: finding.evidence,
        }
    }
}

impl Found {
    /// Whether it tells of the end of the boot before this one.
    #[cfg(any(windows, test))]
    pub(crate) fn is_of_a_boot_that_died(&self) -> bool {
        matches!(
            self.signal_kind(),
            Some(SignalKind::Bugcheck | SignalKind::UncleanBoot | SignalKind::KernelPanic)
        )
    }

    fn flag(&self, name: &str) -> bool {
        self.evidence.get(name).and_then(Value::as_bool) == Some(true)
    }

    /// What it is to the fleet; `None` for what is no signal of its own (boots told by the marker,
    /// single restarts).
    pub(crate) fn signal_kind(&self) -> Option<SignalKind> {
        Some(match self.kind.as_str() {
            "unit-crash-loop" => SignalKind::CrashLoop,
            "unit-failed" => SignalKind::ServiceFailed,
            "unit-restart" => return None,
            "coredump" => SignalKind::Coredump,
            "oom-kill" => SignalKind::OomKill,
            "degraded-boot" => SignalKind::DegradedBoot,
            "kernel-panic" => SignalKind::KernelPanic,
            "bugcheck" => SignalKind::Bugcheck,
            // The marker tells of unclean stops; what explains one adds to it.
            "power-button-hold" | "power-loss" | "unclean-stop" => SignalKind::UncleanBoot,
            "boots-without-log" => SignalKind::UncleanBoot,
            "dump-write-failed" | "crash-dump-unavailable" => SignalKind::AgentDegraded,
            "service-crash-loop" | "service-exit-loop" | "service-start-loop" => {
                SignalKind::CrashLoop
            }
            "service-start-storm" => SignalKind::ServiceFailed,
            "application-crash" => SignalKind::Coredump,
            _ if self.key.starts_with("kernel:") && self.flag("panicked") => {
                SignalKind::KernelPanic
            }
            _ if self.key.starts_with("kernel:") => SignalKind::KernelOops,
            _ => return None,
        })
    }

    /// What recurs on other hosts with the same cause.
    fn signature(&self) -> String {
        let text = |name: &str| self.evidence.get(name).and_then(Value::as_str);
        match self.kind.as_str() {
            // Which driver, and how; a bugcheck that nobody is blamed for recurs under its code.
            "bugcheck" => {
                let code = text("code").map_or_else(|| "unknown".to_owned(), bare_code);
                let module = self.module.as_deref().unwrap_or("nobody");
                return format!("bugcheck:{code}:{module}");
            }
            "service-crash-loop" | "service-exit-loop" | "service-start-loop" => {
                return format!("service:{}", text("service").unwrap_or_default());
            }
            "application-crash" => {
                let part = |name| text(name).unwrap_or_default();
                return format!("program:{}:{}", part("program"), part("faulting_module"));
            }
            _ => {}
        }
        match (&self.function, text("unit")) {
            (_, Some(unit)) => format!("unit:{unit}"),
            (Some(function), _) => {
                let module = self.module.as_deref().unwrap_or("kernel");
                format!("{}:{module}:{function}", self.kind)
            }
            (None, None) => text("hash").map_or_else(String::new, |hash| format!("kernel:{hash}")),
        }
    }

    /// The signal of a boot; `at` is zero where unknown.
    pub(crate) fn draft(self, boot: BootId, at: Millis) -> Option<SignalDraft> {
        let kind = self.signal_kind()?;
        let signature = self.signature();
        let mut facts = self.evidence;
        for (name, value) in [("module", self.module), ("function", self.function)] {
            if let Some(value) = value {
                facts.insert(name.to_owned(), value.into());
            }
        }
        let mut evidence = Value::Object(facts.clone()).to_string();
        // The longest lists go first; a title and a signature are worth more than a stack.
        for name in ["stack", "frames", "modules"] {
            if evidence.len() > EVIDENCE_BYTES_MAX {
                facts.remove(name);
                evidence = Value::Object(facts.clone()).to_string();
            }
        }
        Some(SignalDraft {
            kind,
            key: self.key,
            boot,
            at_boottime: at,
            title: self.title,
            signature,
            evidence,
        })
    }
}

/// A bugcheck's code as every source tells it: minidumps add a bit to those of some exceptions.
fn bare_code(told: &str) -> String {
    let code = told
        .strip_prefix("0x")
        .map(|hex| u32::from_str_radix(hex, 16));
    match code {
        Some(Ok(code)) => format!("{:#x}", Bugcheck { code, params: None }.bare_code()),
        _ => told.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ringward_evidence::linux::klog;

    fn found(log: &str) -> Vec<Found> {
        klog::read(log.as_bytes())
            .iter()
            .filter_map(|item| item.finding().cloned().map(Found::from))
            .collect()
    }

    #[test]
    fn a_panic_is_a_panic_and_recurs_under_its_function() {
        let log = "[    5.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000\n\
                   [    5.000001] RIP: 0010:bad_init+0x12/0x20 [badmod]\n\
                   [    5.000002] Call Trace:\n\
                   [    5.000003]  do_one_initcall+0x50/0x200\n\
                   [    5.000004] ---[ end trace 0000000000000000 ]---\n\
                   [    5.000005] Kernel panic - not syncing: Fatal exception\n";
        let found = found(log);
        let draft = found[0]
            .clone()
            .draft(BootId([1; 16]), Millis::ZERO)
            .unwrap();
        assert_eq!(draft.kind, SignalKind::KernelPanic);
        assert!(draft.signature.contains("badmod:bad_init"), "{draft:?}");
    }

    #[test]
    fn a_bugcheck_recurs_under_its_driver_and_code_from_whatever_source() {
        for (code, told) in [
            ("0x1000007e", "bugcheck:0x7e:amdppm.sys"),
            ("0x7e", "bugcheck:0x7e:amdppm.sys"),
            ("0xc000021a", "bugcheck:0xc000021a:amdppm.sys"),
        ] {
            let found: Found = serde_json::from_value(serde_json::json!({
                "kind": "bugcheck", "key": "k", "title": "t", "module": "amdppm.sys",
                "evidence": {"code": code, "params": ["0x1", "0x2", "0x3", "0x4"]},
            }))
            .unwrap();
            let draft = found.draft(BootId([1; 16]), Millis::ZERO).unwrap();
            assert_eq!(draft.kind, SignalKind::Bugcheck);
            assert_eq!(draft.signature, told);
        }
    }

    #[test]
    fn evidence_fits_what_the_server_takes() {
        let mut found = found("[    5.0] Kernel panic - not syncing: x\n").remove(0);
        let long: Vec<Value> = (0..EVIDENCE_BYTES_MAX)
            .map(|n| n.to_string().into())
            .collect();
        found.evidence.insert("stack".to_owned(), long.into());
        let draft = found.draft(BootId([1; 16]), Millis::ZERO).unwrap();
        assert!(draft.evidence.len() <= EVIDENCE_BYTES_MAX);
        assert!(draft.evidence.contains("hash"));
    }
}
