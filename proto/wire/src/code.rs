//! Enums by number. Zero is never a value, so that a field left out cannot pass for one.

use crate::error::{DecodeError, Fault};
use crate::field::Result;
use crate::pb;
use crate::report::MemberKind;
use ringward_domain::observed::{PrepareError, RefuseWhy};
use ringward_domain::report::{HoldWhy, RingState, RolloutState, Standing};
use ringward_domain::session::BeginRefusal;
use ringward_domain::signal::SignalKind;
use ringward_domain::{Absence, AssignmentKind};
use ringward_domain::{host, ledger, order, order_spec, people};

/// A domain enum with a number on the wire.
pub(crate) trait Coded: Sized {
    /// Its number; never 0.
    fn code(self) -> i32;
    /// The value of a number, if this version knows it.
    fn from_code(code: i32) -> Option<Self>;
    /// The value of a field that must be set.
    fn decode(field: &str, code: i32) -> Result<Self> {
        if code == 0 {
            return Err(DecodeError::new(field, Fault::Missing));
        }
        Self::from_code(code).ok_or_else(|| DecodeError::new(field, Fault::Unknown { value: code }))
    }
}

macro_rules! coded {
    ($domain:ty = $pb:ident: $($variant:ident)+) => {
        impl Coded for $domain {
            fn code(self) -> i32 {
                match self {
                    $(Self::$variant => pb::$pb::$variant as i32,)+
                }
            }
            fn from_code(code: i32) -> Option<Self> {
                match pb::$pb::try_from(code).ok()? {
                    pb::$pb::Unspecified => None,
                    $(pb::$pb::$variant => Some(Self::$variant),)+
                }
            }
        }
    };
}

coded!(host::Os = Os: Linux Windows);
coded!(host::GuardTier = GuardTier: None Service Initramfs BootLoader);
coded!(host::HostState = HostState: Pending Active Retired);
coded!(Absence = Absence: Suspend PowerOff UserStop);
coded!(AssignmentKind = AssignmentKind: Install Rollback);
coded!(ledger::RevertWhy = RevertWhy:
    BadBoots CrashLoop ProbesFailed NetworkLost Ordered Rescue);
coded!(ledger::FailWhy = FailWhy: Install Disk);
coded!(ledger::NotSwitchedWhy = NotSwitchedWhy:
    NoBegun BeginRefused Restarted Suspended Superseded Busy);
coded!(PrepareError = PrepareError: Download Digest Disk);
coded!(RefuseWhy = RefuseWhy:
    Signature Manifest Bundle Platform SecurityFloor Expired Barred UnknownHistory LocalPolicy);
coded!(BeginRefusal = BeginRefusal:
    NoGrant Expired Superseded NotRunning Barred Frozen OtherBoot);
coded!(order_spec::CapKind = CapKind: Hour Ring Group Share);
coded!(people::Role = Role: Viewer Operator Responder Approver Admin);
coded!(people::Permission = Permission:
    Read Stop Rollout Host Contain Approve Policy People Agent Enrol Themselves);
coded!(order::Once = OnceAct: Reboot Collect);
coded!(order::Origin = OrderOrigin: Automatic Person TwoPersons BreakGlass);
coded!(order::UndoneWhy = UndoneWhy: ServerUnreachable Firewall Disk);
coded!(order::OrderFailure = OrderFailure: System Disk Interrupted);
coded!(order::OrderRefusal = OrderRefusal:
    LocalPolicy RateLimit Quorum NotNamed Expired AllowTooWide Unsupported);
coded!(RolloutState = RolloutState: Running Held Halted Paused Completed Aborted);
coded!(RingState = RingState: Waiting Open Complete);
coded!(HoldWhy = HoldWhy: NobodyExposed SiteSilentWithoutControl ReleaseExpired);
coded!(Standing = Standing: Unproven Good Bad);
coded!(MemberKind = MemberKind:
    Waiting Granted Begun Applied Rebooting Soaking Confirmed AlreadyThere Failed Reverted Silent
    Refused Deferred Away);

impl Coded for host::Arch {
    fn code(self) -> i32 {
        match self {
            Self::X86_64 => pb::Arch::X8664 as i32,
            Self::Aarch64 => pb::Arch::Aarch64 as i32,
        }
    }
    fn from_code(code: i32) -> Option<Self> {
        match pb::Arch::try_from(code).ok()? {
            pb::Arch::Unspecified => None,
            pb::Arch::X8664 => Some(Self::X86_64),
            pb::Arch::Aarch64 => Some(Self::Aarch64),
        }
    }
}

macro_rules! signal_kinds {
    ($($variant:ident)+) => {
        /// The number of a kind of signal; unknown ones are passed on as they came.
        pub(crate) fn signal_code(kind: SignalKind) -> i32 {
            match kind {
                $(SignalKind::$variant => pb::SignalKind::$variant as i32,)+
                SignalKind::Unknown(code) => code,
            }
        }
        /// The kind of a number; the unknown are kept.
        pub(crate) fn signal_kind(code: i32) -> SignalKind {
            match pb::SignalKind::try_from(code) {
                $(Ok(pb::SignalKind::$variant) => SignalKind::$variant,)+
                Ok(pb::SignalKind::Unspecified) | Err(_) => SignalKind::Unknown(code),
            }
        }
    };
}

signal_kinds!(
    UncleanBoot KernelPanic Bugcheck KernelOops CrashLoop ServiceFailed OomKill Coredump
    DegradedBoot ProbeFailed GuardReverted SelfReverted Change AuditFork AgentDegraded
);
