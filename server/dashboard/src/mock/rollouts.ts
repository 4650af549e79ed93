/** Made-up rollouts: quiet, halting, a disaster, nothing at all, and one that never rests. */
import { create } from "@bufbuild/protobuf";
import {
  MemberKind,
  MemberViewSchema,
  RingState,
  RingViewSchema,
  RolloutViewSchema,
  type MemberView,
  type RingView,
  type RolloutView,
} from "../gen/ringward/v1/admin_pb";
import { AssignmentKind, RolloutState, SignalKind, WaitKind } from "../gen/ringward/v1/types_pb";
import { NEW, OLD, digest, hostname, idOf, mix } from "./fleet";

export type Scene = "quiet" | "halting" | "disaster" | "empty" | "busy" | "stalled" | "hostile";

const unit = { $typeName: "ringward.v1.Unit" as const };

type RingInit = Partial<Omit<RingView, "$typeName" | "$unknown" | "waits">> & { waits?: [WaitKind, number][] };

function ring(name: string, members: number, init: RingInit): RingView {
  const { waits, ...rest } = init;
  return create(RingViewSchema, {
    name,
    members: BigInt(members),
    ...rest,
    waits: (waits ?? []).map(([kind, hosts]) => ({ why: { kind }, hosts: BigInt(hosts) })),
  } as never);
}

/** Three rings of a fleet: 1, 9 and 90 %. */
export function ringSizes(hosts: number): [number, number, number] {
  const first = Math.max(1, Math.ceil(hosts / 100));
  const second = Math.max(1, Math.ceil(hosts * 0.09));
  return [first, second, Math.max(0, hosts - first - second)];
}

function member(i: number, kind: MemberKind, forMs: number): MemberView {
  const failed = kind === MemberKind.FAILED;
  return create(MemberViewSchema, {
    host: idOf(i),
    hostname: hostname(i),
    state: { kind, detail: failed ? { case: "failed", value: { why: { case: "signal", value: SignalKind.BUGCHECK } } } : { case: undefined } },
    nonce: digest(i).slice(0, 16),
    forMs: BigInt(forMs),
  });
}

function base(hosts: number) {
  const [a, b, c] = ringSizes(hosts);
  return {
    sizes: [a, b, c] as const,
    verdict: { controlUnits: hosts * 0.9 + 36, p0: 1e-4, eThreshold: 1428.6, controlFailures: 0n },
  };
}

export function quiet(hosts: number, startedMs: number): RolloutView[] {
  const { sizes, verdict } = base(hosts);
  const [a, b, c] = sizes;
  const confirmed = Math.floor(b * 0.4);
  const soaking = Math.floor(b * 0.2);
  const flight = Math.max(1, Math.floor(b * 0.1));
  const running = create(RolloutViewSchema, {
    id: 0x5ea0n,
    kind: AssignmentKind.INSTALL,
    package: "sensor",
    version: "4.2.0",
    release: NEW,
    state: RolloutState.RUNNING,
    startedUnixMs: BigInt(startedMs - 47 * 60_000),
    startedBy: "dana",
    reason: "Sensor content update, ticket CHG-4711",
    rings: [
      ring("canary", a, { state: RingState.COMPLETE, confirmed: BigInt(a) }),
      ring("early", b, {
        state: RingState.OPEN,
        inFlight: BigInt(soaking + flight),
        soaking: BigInt(soaking),
        confirmed: BigInt(confirmed),
        waiting: BigInt(b - confirmed - soaking - flight),
        window: BigInt(soaking + flight),
        waits: [[WaitKind.WINDOW_FULL, Math.max(0, b - confirmed - soaking - flight - 1)], [WaitKind.PREPARING, 1]],
      }),
      ring("broad", c, { state: RingState.WAITING, waiting: BigInt(c), waits: [[WaitKind.EARLIER_RING, c]] }),
    ],
    verdict: {
      ...verdict,
      decision: { decision: { case: "continue", value: unit } },
      sentence: `0 of ${a + confirmed} exposed hosts failed; 0 failures in ${Math.round(verdict.controlUnits)} reboots and host-days without it: continue.`,
      confirmed: BigInt(a + confirmed),
      upperBound: 1 - Math.pow(0.05, 1 / (a + confirmed)),
      eValue: 0.61,
      maxFailed: 1n,
      smallestDetectableRate: 0.021,
      failuresToHalt: 2n,
    },
  });
  return [running, earlier(hosts, startedMs)];
}

function earlier(hosts: number, startedMs: number): RolloutView {
  const { sizes, verdict } = base(hosts);
  return create(RolloutViewSchema, {
    id: 0x5e90n,
    kind: AssignmentKind.INSTALL,
    package: "sensor",
    version: "4.1.3",
    release: OLD,
    state: RolloutState.COMPLETED,
    startedUnixMs: BigInt(startedMs - 6 * 86_400_000),
    startedBy: "dana",
    reason: "Monthly sensor release",
    rings: ["canary", "early", "broad"].map((name, i) =>
      ring(name, sizes[i]!, { state: RingState.COMPLETE, confirmed: BigInt(sizes[i]!) }),
    ),
    verdict: {
      ...verdict,
      decision: { decision: { case: "continue", value: unit } },
      sentence: `0 of ${hosts} exposed hosts failed.`,
      confirmed: BigInt(hosts),
      upperBound: 1 - Math.pow(0.05, 1 / Math.max(1, hosts)),
      eValue: 0.02,
      maxFailed: 2n,
      smallestDetectableRate: 0.004,
      failuresToHalt: 2n,
    },
  });
}

/** Hosts that die in a scene: the first of the fleet. */
export function deadOf(scene: Scene, hosts: number): Set<number> {
  const n = scene === "halting" || scene === "hostile" ? Math.min(2, hosts) : scene === "disaster" ? Math.min(19, Math.floor(hosts / 8)) : 0;
  return new Set(Array.from({ length: n }, (_, i) => i));
}

export function halting(hosts: number, startedMs: number): RolloutView[] {
  const { sizes, verdict } = base(hosts);
  const [a, b, c] = sizes;
  const halted = create(RolloutViewSchema, {
    id: 0x5ea1n,
    kind: AssignmentKind.INSTALL,
    package: "sensor",
    version: "4.2.0",
    release: NEW,
    state: RolloutState.HALTED,
    stateReason: "2 hosts died the same way (0x50 sensor.sys) with 2 of 3 exposed hosts failed; 1 may fail in this ring",
    startedUnixMs: BigInt(startedMs - 4 * 60_000),
    startedBy: "dana",
    reason: "Sensor content update, ticket CHG-4711",
    rings: [
      ring("canary", a, {
        state: RingState.OPEN,
        inFlight: 1n,
        soaking: 1n,
        failed: 1n,
        silent: 1n,
        waiting: BigInt(Math.max(0, a - 3)),
        waits: a > 3 ? [[WaitKind.NOT_RUNNING, a - 3]] : [],
      }),
      ring("early", b, { state: RingState.WAITING, waiting: BigInt(b), waits: [[WaitKind.EARLIER_RING, b]] }),
      ring("broad", c, { state: RingState.WAITING, waiting: BigInt(c), waits: [[WaitKind.EARLIER_RING, c]] }),
    ],
    verdict: {
      ...verdict,
      decision: {
        decision: {
          case: "halt",
          value: { $typeName: "ringward.v1.HaltWhy", why: { case: "repeatedSignature", value: { $typeName: "ringward.v1.RepeatedSignature", signature: "0x50 sensor.sys", hosts: 2n } } },
        },
      },
      sentence: `2 of 2 exposed hosts that came to an end failed; 0 failures in ${Math.round(verdict.controlUnits)} reboots and host-days without it: halt.`,
      failed: 2n,
      upperBound: 1,
      eValue: 25_100_000,
      maxFailed: 1n,
      smallestDetectableRate: 0.021,
    },
    failedHosts: [member(0, MemberKind.FAILED, 61_000)],
    silentHosts: [member(1, MemberKind.SILENT, 48_000)],
    evidenceToHaltMs: 3n,
  });
  return [halted, earlier(hosts, startedMs)];
}

export function disaster(hosts: number, startedMs: number): RolloutView[] {
  const dead = deadOf("disaster", hosts).size;
  const [, b] = ringSizes(hosts);
  const [halted, past] = halting(hosts, startedMs) as [RolloutView, RolloutView];
  const a = Number(halted.rings[0]!.members);
  halted.rings[0] = ring("canary", a, { state: RingState.COMPLETE, confirmed: BigInt(a) });
  const failed = Math.floor(dead / 3);
  halted.rings[1] = ring("early", b, {
    state: RingState.OPEN,
    failed: BigInt(failed),
    silent: BigInt(dead - failed),
    waiting: BigInt(Math.max(0, b - dead)),
    waits: [[WaitKind.NOT_RUNNING, Math.max(0, b - dead)]],
  });
  halted.stateReason = `${dead} of ${a + dead} exposed hosts failed, ${dead - failed} of them silent; the evidence of harm crossed its threshold`;
  halted.verdict!.failed = BigInt(dead);
  halted.verdict!.confirmed = BigInt(a);
  halted.verdict!.sentence = `${dead} of ${a + dead} exposed hosts failed; 0 failures without it: halt.`;
  halted.failedHosts = Array.from({ length: failed }, (_, i) => member(i, MemberKind.FAILED, 100_000 + (mix(i) % 90_000)));
  halted.silentHosts = Array.from({ length: dead - failed }, (_, i) => member(failed + i, MemberKind.SILENT, 60_000 + (mix(i) % 90_000)));
  const back = create(RolloutViewSchema, {
    id: 0x5ea2n,
    kind: AssignmentKind.ROLLBACK,
    package: "sensor",
    version: "4.1.3",
    leaves: "4.2.0",
    release: OLD,
    state: RolloutState.RUNNING,
    startedUnixMs: BigInt(startedMs - 60_000),
    startedBy: "dana",
    reason: "4.2.0 kills hosts: all back to 4.1.3",
    rings: [
      ring("canary", a, { state: RingState.OPEN, inFlight: 1n, soaking: 0n, window: 2n, alreadyThere: 1n, waiting: BigInt(Math.max(0, a - 2)), waits: [[WaitKind.WINDOW_FULL, Math.max(0, a - 2)]] }),
      ring("early", dead, { state: RingState.WAITING, waiting: BigInt(dead), waits: [[WaitKind.EARLIER_RING, failed], [WaitKind.UNREACHABLE, dead - failed]] }),
    ],
    verdict: {
      decision: { decision: { case: "continue", value: unit } },
      sentence: "Nothing came to an end yet: continue.",
      p0: 1e-4,
      upperBound: 1,
      eValue: 1,
      eThreshold: 1428.6,
      maxFailed: 1n,
      failuresToHalt: 2n,
    },
  });
  return [back, halted, past];
}

/** One more host exposed or confirmed: what a stream tells several times a second. */
export function advance(view: RolloutView, tick: number): RolloutView {
  const open = view.rings.findIndex((r) => r.state === RingState.OPEN);
  const found = view.rings[open];
  if (!found || view.state !== RolloutState.RUNNING) return view;
  const step = BigInt(Math.max(1, Math.floor(Number(found.members) / 400)));
  const next = { ...found };
  if (tick % 2 === 0 && next.soaking >= step) {
    next.soaking -= step;
    next.inFlight -= step;
    next.confirmed += step;
  } else if (next.waiting >= step) {
    next.waiting -= step;
    next.inFlight += step;
    next.soaking += step;
  }
  return { ...view, rings: view.rings.with(open, next) };
}
