/** Every state and reason of the wire in words. Unknown values are named as such, never hidden. */
import {
  Absence,
  Arch,
  AssignmentKind,
  FailWhy,
  GuardTier,
  HostState,
  NotSwitchedWhy,
  Os,
  PrepareError,
  RefuseWhy,
  RevertWhy,
  RolloutState,
  SignalKind,
  WaitKind,
  type PhaseObserved,
  type PrepareState,
  type WaitWhy,
} from "../gen/ringward/v1/types_pb";
import {
  HoldWhy,
  MemberKind,
  RingState,
  Standing,
  type Decision,
  type MemberState,
} from "../gen/ringward/v1/admin_pb";
import { count, percent, visible } from "./text";
import { span } from "./time";

function named<E extends number>(table: Partial<Record<E, string>>, what: string) {
  return (value: E): string => table[value] ?? `${what} ${value} (newer than this page)`;
}

export const rolloutState = named<RolloutState>(
  {
    [RolloutState.RUNNING]: "running",
    [RolloutState.HELD]: "on hold",
    [RolloutState.HALTED]: "halted",
    [RolloutState.PAUSED]: "paused",
    [RolloutState.COMPLETED]: "completed",
    [RolloutState.ABORTED]: "aborted",
  },
  "rollout state",
);

export const ringState = named<RingState>(
  {
    [RingState.WAITING]: "its turn has not come",
    [RingState.OPEN]: "open",
    [RingState.COMPLETE]: "complete",
  },
  "ring state",
);

export const assignment = named<AssignmentKind>(
  { [AssignmentKind.INSTALL]: "install", [AssignmentKind.ROLLBACK]: "rollback" },
  "rollout kind",
);

export const absence = named<Absence>(
  {
    [Absence.SUSPEND]: "asleep",
    [Absence.POWER_OFF]: "switched off",
    [Absence.USER_STOP]: "its agent was stopped by a person",
  },
  "absence",
);

export const revertWhy = named<RevertWhy>(
  {
    [RevertWhy.BAD_BOOTS]: "the guard counted too many bad boots",
    [RevertWhy.CRASH_LOOP]: "a service crash-looped",
    [RevertWhy.PROBES_FAILED]: "health probes did not pass in time",
    [RevertWhy.NETWORK_LOST]: "it lost its network after the switch",
    [RevertWhy.ORDERED]: "the server ordered it",
    [RevertWhy.RESCUE]: "a person ran the rescue command",
  },
  "revert reason",
);

export const failWhy = named<FailWhy>(
  { [FailWhy.INSTALL]: "the installer reported an error", [FailWhy.DISK]: "its disk is full or read-only" },
  "failure",
);

export const notSwitchedWhy = named<NotSwitchedWhy>(
  {
    [NotSwitchedWhy.NO_BEGUN]: "the server's word to begin did not arrive in time",
    [NotSwitchedWhy.BEGIN_REFUSED]: "the server refused the start",
    [NotSwitchedWhy.RESTARTED]: "it restarted in between",
    [NotSwitchedWhy.SUSPENDED]: "it slept in between",
    [NotSwitchedWhy.SUPERSEDED]: "what it should be changed in between",
    [NotSwitchedWhy.BUSY]: "another installer was at work",
  },
  "reason",
);

export const prepareError = named<PrepareError>(
  {
    [PrepareError.DOWNLOAD]: "no source delivered the artefact",
    [PrepareError.DIGEST]: "the content does not match its digest",
    [PrepareError.DISK]: "its disk is full or read-only",
  },
  "error",
);

export const refuseWhy = named<RefuseWhy>(
  {
    [RefuseWhy.SIGNATURE]: "its signatures do not meet the host's release keys",
    [RefuseWhy.MANIFEST]: "the manifest breaks a rule",
    [RefuseWhy.BUNDLE]: "the bundle breaks a rule",
    [RefuseWhy.PLATFORM]: "no artefact fits its system",
    [RefuseWhy.SECURITY_FLOOR]: "it is below the security floor",
    [RefuseWhy.EXPIRED]: "the manifest has expired",
    [RefuseWhy.BARRED]: "the host itself bars it",
    [RefuseWhy.UNKNOWN_HISTORY]: "it is not in the host's own signed history",
    [RefuseWhy.LOCAL_POLICY]: "the host's local policy forbids it",
  },
  "refusal",
);

export const signalKind = named<SignalKind>(
  {
    [SignalKind.UNCLEAN_BOOT]: "unclean boot",
    [SignalKind.KERNEL_PANIC]: "kernel panic",
    [SignalKind.BUGCHECK]: "bugcheck",
    [SignalKind.KERNEL_OOPS]: "kernel oops",
    [SignalKind.CRASH_LOOP]: "crash loop",
    [SignalKind.SERVICE_FAILED]: "service failed",
    [SignalKind.OOM_KILL]: "out-of-memory kill",
    [SignalKind.COREDUMP]: "core dump",
    [SignalKind.DEGRADED_BOOT]: "degraded boot",
    [SignalKind.PROBE_FAILED]: "probe failed",
    [SignalKind.GUARD_REVERTED]: "guard took it back",
    [SignalKind.SELF_REVERTED]: "agent took it back",
    [SignalKind.CHANGE]: "change by others",
    [SignalKind.AUDIT_FORK]: "audit log contradicts",
    [SignalKind.AGENT_DEGRADED]: "agent degraded",
  },
  "signal",
);

export const hostState = named<HostState>(
  {
    [HostState.PENDING]: "pending approval",
    [HostState.ACTIVE]: "active",
    [HostState.RETIRED]: "retired",
  },
  "host state",
);

export const guardTier = named<GuardTier>(
  {
    [GuardTier.UNSPECIFIED]: "unknown",
    [GuardTier.NONE]: "none: cannot self-heal",
    [GuardTier.SERVICE]: "service, before the release's units",
    [GuardTier.INITRAMFS]: "initramfs hook",
    [GuardTier.BOOT_LOADER]: "boot loader's counter",
  },
  "guard tier",
);

export const os = named<Os>({ [Os.UNSPECIFIED]: "unknown", [Os.LINUX]: "Linux", [Os.WINDOWS]: "Windows" }, "OS");
export const arch = named<Arch>(
  { [Arch.UNSPECIFIED]: "unknown", [Arch.X86_64]: "x86-64", [Arch.AARCH64]: "arm64" },
  "architecture",
);

export const standing = named<Standing>(
  { [Standing.UNPROVEN]: "unproven", [Standing.GOOD]: "good", [Standing.BAD]: "bad, barred" },
  "standing",
);

export const holdWhy = named<HoldWhy>(
  {
    [HoldWhy.NOBODY_EXPOSED]: "every host of the ring is exhausted and none was exposed",
    [HoldWhy.SITE_SILENT_WITHOUT_CONTROL]: "a whole site went silent and has no host to compare with",
    [HoldWhy.RELEASE_EXPIRED]: "the release's manifest expired",
  },
  "hold",
);

/** "still downloading or verifying", said of hosts that wait. */
export function waitWhy(why: WaitWhy | undefined): string {
  switch (why?.kind) {
    case WaitKind.WINDOW_FULL:
      return "for room in the window";
    case WaitKind.EARLIER_RING:
      return "for an earlier ring";
    case WaitKind.NOT_ITS_TURN:
      return "behind hosts that come first";
    case WaitKind.UNREACHABLE:
      return "without a session";
    case WaitKind.PREPARING:
      return "still downloading or verifying";
    case WaitKind.PREPARE_FAILING:
      return "whose preparing fails and is tried again";
    case WaitKind.AWAY:
      return `away (${absence(why.absence)})`;
    case WaitKind.FROZEN:
      return "frozen by a person";
    case WaitKind.BARRED:
      return "barred from this release";
    case WaitKind.OTHER_TRIAL:
      return "soaking another release";
    case WaitKind.CAPPED:
      return "for the hourly cap";
    case WaitKind.NOT_RUNNING:
      return `because the rollout is ${rolloutState(why.rolloutState)}`;
    case WaitKind.SERVER_STARTING:
      return "for agents to come back to a server that just started";
    case WaitKind.REDUNDANCY_GROUP:
      return "for another host of the same redundancy group";
    case WaitKind.NOT_ACTIVE:
      return "pending approval or retired";
    case WaitKind.OUTSIDE_MAINTENANCE:
      return "outside their maintenance windows";
    default:
      return `for reason ${why?.kind ?? 0} (newer than this page)`;
  }
}

export const memberKind = named<MemberKind>(
  {
    [MemberKind.WAITING]: "waiting",
    [MemberKind.GRANTED]: "granted",
    [MemberKind.BEGUN]: "switching",
    [MemberKind.APPLIED]: "applied",
    [MemberKind.REBOOTING]: "rebooting",
    [MemberKind.SOAKING]: "soaking",
    [MemberKind.CONFIRMED]: "confirmed",
    [MemberKind.ALREADY_THERE]: "already there",
    [MemberKind.FAILED]: "failed",
    [MemberKind.REVERTED]: "reverted",
    [MemberKind.SILENT]: "silent",
    [MemberKind.REFUSED]: "refused",
    [MemberKind.DEFERRED]: "deferred",
    [MemberKind.AWAY]: "away",
  },
  "state",
);

/** Why a host of a rollout stands where it does; empty where the state says it all. */
export function memberWhy(state: MemberState | undefined): string {
  const detail = state?.detail;
  switch (detail?.case) {
    case "waiting":
      return waitWhy(detail.value);
    case "failed": {
      const why = detail.value.why;
      if (why.case === "install") return failWhy(why.value);
      if (why.case === "signal") return `${signalKind(why.value)} during the trial`;
      if (why.case === "wrongRelease") return "came back on another release, without a word";
      return "";
    }
    case "reverted":
      return revertWhy(detail.value);
    case "refused":
      return refuseWhy(detail.value);
    case "deferred":
      return notSwitchedWhy(detail.value);
    case "away":
      return absence(detail.value);
    default:
      return state?.kind === MemberKind.SILENT ? "began, and was not heard of until its deadline" : "";
  }
}

/** The decision of the evidence in one clause. */
export function decision(of: Decision | undefined): string {
  const d = of?.decision;
  switch (d?.case) {
    case "continue":
      return "continue";
    case "hold":
      return `hold: ${holdWhy(d.value)}`;
    case "halt": {
      const why = d.value.why;
      switch (why.case) {
        case "evidenceOfHarm":
          return `halt: the evidence of harm reached ${number(why.value.eValue)}, at ${number(why.value.threshold)} a rollout stops`;
        case "maxFailed":
          return `halt: ${why.value.failed} failed in the ring, ${why.value.maxFailed} may`;
        case "repeatedSignature":
          return `halt: ${count(why.value.hosts, "host")} died the same way (${visible(why.value.signature)})`;
        case "ringBelowShare":
          return `halt: only ${why.value.confirmed} of ${why.value.confirmed + why.value.failed} exposed hosts of the ring were confirmed`;
        default:
          return "halt, for a reason newer than this page";
      }
    }
    default:
      return "none yet";
  }
}

/** A value of the e-process: three digits, thousands marked. */
export function number(value: number): string {
  if (!Number.isFinite(value)) return "beyond measure";
  if (value >= 1e15) return "more than 10^15";
  if (value >= 1e6) return new Intl.NumberFormat("en", { notation: "compact", compactDisplay: "long", maximumSignificantDigits: 3 }).format(value);
  return value.toLocaleString("en", value < 1000 ? { maximumSignificantDigits: 3 } : { maximumFractionDigits: 0 });
}

export function prepareState(state: PrepareState | undefined): string {
  const s = state?.state;
  switch (s?.case) {
    case "working":
      return "downloading and verifying";
    case "ready":
      return "ready to switch";
    case "retrying":
      return `failing, tried again: ${prepareError(s.value)}`;
    case "refused":
      return `refused: ${refuseWhy(s.value)}`;
    default:
      return "unknown";
  }
}

export function phase(of: PhaseObserved | undefined): string {
  const p = of?.phase;
  switch (p?.case) {
    case "switching":
      return "switching";
    case "applied":
      return "applied, waits for its first healthy round";
    case "rebooting":
      return "rebooting";
    case "soaking":
      return `soaking, healthy for ${span(p.value.soakedMs)}`;
    case "committed":
      return "soaked in full and committed";
    case "reverted":
      return `went back: ${revertWhy(p.value)}`;
    case "failed":
      return `failed: ${failWhy(p.value)}`;
    case "notSwitched":
      return `never switched: ${notSwitchedWhy(p.value)}`;
    default:
      return "unknown";
  }
}

/** "1 of 500" instead of a bare rate where that is easier to grasp. */
export function oneIn(rate: number): string {
  if (rate <= 0) return "none";
  if (rate >= 0.2) return percent(rate);
  return `1 of ${Math.round(1 / rate).toLocaleString("en")}`;
}
