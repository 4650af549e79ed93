/** A made-up fleet: the same seed, the same hosts. */
import { create } from "@bufbuild/protobuf";
import { HostViewSchema, type HostView } from "../gen/ringward/v1/admin_pb";
import { FleetFeedSchema, HostGlance, type FleetFeed } from "../gen/ringward/v1/overview_pb";
import { labelText } from "../model/fleet";
import { Arch, AttemptObservedSchema, GuardTier, HostState, Os, SignalKind, SignalSchema } from "../gen/ringward/v1/types_pb";

const BUILDS = ["Debian 12", "Debian 13", "Ubuntu 24.04", "RHEL 9.6", "10.0.22631", "10.0.26100"];
const SITES = ["ber", "lis", "osl", "sin", "yyz"];
const ROLES = ["kiosk", "desk", "till", "edge", "db", "web"];
const MODELS = ["OptiPlex 7010", "ThinkCentre M70q", "KVM", "ProLiant DL360"];

export const digest = (seed: number): Uint8Array<ArrayBuffer> =>
  Uint8Array.from({ length: 32 }, (_, i) => (seed * 131 + i * 29 + ((seed * i) % 17)) & 0xff);

export const OLD = digest(4);
export const NEW = digest(9);

/** Spreads small numbers over 32 bits: a fleet that looks like one, without a random source. */
export function mix(n: number): number {
  let x = (n + 0x9e3779b9) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
  return (x ^ (x >>> 15)) >>> 0;
}

/** The host that needs two people to be disrupted. */
export const PROTECTED = 7;
export const idOf = (i: number): bigint => (BigInt(mix(i + 77)) << 32n) | BigInt(i + 1);
export const indexOf = (id: bigint): number => Number(id & 0xffffffffn) - 1;

export function hostname(i: number): string {
  const m = mix(i);
  return `${SITES[m % SITES.length]}-${ROLES[(m >>> 8) % ROLES.length]}-${String(i + 1).padStart(3, "0")}`;
}

const HOSTILE = [
  `<script>alert("name")</script><img src=x onerror=alert(1)>`,
  "till-\u202egnp.exe\u202c-7",
  `edge-${"x".repeat(4096)}`,
  "desk\u0000\u0007\u001b[31m-red",
  "שולחן-12 ‏קופה",
];

export interface Trouble {
  /** Indexes of hosts that died. */
  dead: Set<number>;
  hostile: boolean;
}

export function host(i: number, trouble: Trouble): HostView {
  const m = mix(i);
  const build = BUILDS[(m >>> 4) % BUILDS.length]!;
  const windows = build.startsWith("10.");
  const dead = trouble.dead.has(i);
  const silent = dead && m % 3 !== 0;
  const strange = !dead && m % 197 === 3;
  const name = trouble.hostile && i < HOSTILE.length ? HOSTILE[i]! : hostname(i);
  const attention: string[] = [];
  if (silent) attention.push("silent since it began 4.2.0");
  else if (dead) attention.push("failed on 4.2.0: bugcheck");
  else if (strange) attention.push("cannot self-heal: no guard tier");
  return create(HostViewSchema, {
    id: idOf(i),
    state: m % 401 === 7 ? HostState.PENDING : HostState.ACTIVE,
    facts: {
      hostname: name,
      os: windows ? Os.WINDOWS : Os.LINUX,
      osBuild: build,
      arch: m % 11 === 0 ? Arch.AARCH64 : Arch.X86_64,
      kernel: windows ? "10.0" : "6.12.41",
      model: MODELS[(m >>> 12) % MODELS.length]!,
      fingerprint: m.toString(16).padStart(64, "5"),
      memoryMib: BigInt(4096 << (m % 4)),
      cpus: 2 << (m % 4),
      guardTier: strange ? GuardTier.NONE : m % 3 === 0 ? GuardTier.BOOT_LOADER : GuardTier.SERVICE,
    },
    labels: { site: SITES[m % SITES.length]!, criticality: m % 9 === 0 ? "high" : "low", ...(i === PROTECTED ? { protected: "holds the keys" } : {}) },
    agentVersion: "0.1.0",
    connected: !silent && m % 173 !== 5,
    lastSeenMs: BigInt(silent ? 412_000 : m % 173 === 5 ? 86_400_000 : m % 9_000),
    observed: {
      packages: [
        { package: "sensor", running: dead ? NEW : OLD, runningVersion: dead ? "4.2.0" : "4.1.3", committed: OLD, committedVersion: "4.1.3" },
      ],
    },
    attention,
  });
}

/** One host as its own page shows it. */
export function detailed(i: number, trouble: Trouble): HostView {
  const view = host(i, trouble);
  const boot = digest(i + 3).slice(0, 16);
  const before = digest(i + 5).slice(0, 16);
  const dead = trouble.dead.has(i);
  const signal = (seq: number, kind: SignalKind, title: string, signature: string, evidence: object, of: Uint8Array<ArrayBuffer>) => create(SignalSchema, {
    seq: BigInt(seq),
    kind,
    key: `k${seq}`,
    boot: of,
    atBoottimeMs: BigInt(18_000 + seq * 700),
    release: dead ? NEW : undefined,
    title,
    signature,
    evidence: JSON.stringify(evidence),
  });
  view.signals = [];
  if (dead) {
    const frames = ["csagent+0xe14ed", "csagent+0xd6f31", "nt!KiPageFault+0x369"];
    view.signals.push(
      signal(9, SignalKind.UNCLEAN_BOOT, "Boot without a clean stop before it", "", { previous: "unclean" }, boot),
      signal(8, SignalKind.BUGCHECK, "PAGE_FAULT_IN_NONPAGED_AREA in sensor.sys", "0x50 sensor.sys", { code: "0x50", module: "sensor.sys", frames }, before),
    );
    view.observed!.attempt = create(AttemptObservedSchema, {
      nonce: digest(i).slice(0, 16),
      rollout: 0x5ea1n,
      package: "sensor",
      release: NEW,
      phase: { phase: { case: "rebooting", value: {} } },
    });
  }
  view.signals.push(
    signal(4, SignalKind.SERVICE_FAILED, "cups.service failed and stays down", "cups.service exit-code", { unit: "cups.service", result: "exit-code" }, before),
    signal(3, SignalKind.CHANGE, "libssl3 3.0.16 → 3.0.17 by apt", "", { package: "libssl3", from: "3.0.16", to: "3.0.17" }, before),
  );
  return view;
}

function glance(host: HostView): HostGlance {
  if (host.state === HostState.RETIRED) return HostGlance.RETIRED;
  if (host.state === HostState.PENDING) return HostGlance.PENDING;
  if (host.attention.length > 0) return HostGlance.ATTENTION;
  return host.connected ? HostGlance.WELL : HostGlance.SILENT;
}

const PART = 4_000;
const CLOCK_MS = 90_000_000;

/** The whole fleet as the overview tells it, part by part. */
export function* feed(hosts: number, trouble: Trouble, rings: (i: number) => string): Generator<FleetFeed> {
  const texts = new Map<string, number>([["", 0]]);
  for (let from = 0; from < Math.max(hosts, 1); from += PART) {
    const part = create(FleetFeedSchema, { picture: 7n, fleetClockMs: BigInt(CLOCK_MS) });
    const text = (of: string): number => {
      const known = texts.get(of);
      if (known !== undefined) return known;
      texts.set(of, texts.size);
      part.texts.push(of);
      return texts.size - 1;
    };
    for (let i = from; i < Math.min(hosts, from + PART); i += 1) {
      const view = host(i, trouble);
      part.hosts.push(view.id);
      part.hostnames.push(view.facts!.hostname.slice(0, 253));
      part.glances.push(glance(view));
      part.systems.push(text(`${view.facts!.os === Os.WINDOWS ? "Windows" : "Linux"} ${view.facts!.osBuild}`));
      part.labels.push(text(labelText(view.labels)));
      part.running.push(text(view.observed!.packages.map((p) => `${p.package} ${p.runningVersion}`).join(", ")));
      part.attention.push(text(view.attention.join("; ")));
      part.rings.push(text(rings(i)));
      part.heardMs.push(view.connected ? 0n : BigInt(Math.max(1, CLOCK_MS - Number(view.lastSeenMs))));
    }
    part.caughtUp = from + PART >= hosts;
    part.revision = part.caughtUp ? 1n : 0n;
    yield part;
  }
}
