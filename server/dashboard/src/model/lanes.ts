/** A ring as a lane: every member in exactly one part, in the order a host walks. */
import type { RingView } from "../gen/ringward/v1/admin_pb";
import { MemberKind, RingState } from "../gen/ringward/v1/admin_pb";
import { AssignmentKind, RolloutState } from "../gen/ringward/v1/types_pb";
import type { RolloutView } from "../gen/ringward/v1/admin_pb";
import { rolloutName } from "./ids";
import { count, listed, whole } from "./text";
import { waitWhy } from "./words";

/** One look: colour, pattern and shape go by it everywhere on the page. */
export type Look =
  | "confirmed"
  | "soaking"
  | "flight"
  | "failed"
  | "silent"
  | "reverted"
  | "away"
  | "deferred"
  | "refused"
  | "waiting";

export interface Part {
  look: Look;
  /** What it is called. */
  name: string;
  hosts: number;
  /** The states that its link lists. */
  kinds: MemberKind[];
}

/** States of a host that counts as in flight. */
export const IN_FLIGHT_KINDS = [MemberKind.GRANTED, MemberKind.BEGUN, MemberKind.APPLIED, MemberKind.REBOOTING, MemberKind.SOAKING];
/** States of a host that was exposed. */
export const EXPOSED_KINDS = [
  MemberKind.BEGUN,
  MemberKind.APPLIED,
  MemberKind.REBOOTING,
  MemberKind.SOAKING,
  MemberKind.CONFIRMED,
  MemberKind.FAILED,
  MemberKind.REVERTED,
  MemberKind.SILENT,
  MemberKind.AWAY,
];
/** States of a host that a rollout harmed, as far as anybody knows. */
export const DEAD_KINDS = [MemberKind.FAILED, MemberKind.REVERTED, MemberKind.SILENT];

/** Where exactly the hosts are listed that a number of a rollout counts. */
export function membersOf(rollout: bigint, kinds: MemberKind[] = [], ring = ""): string {
  const search = new URLSearchParams();
  if (ring !== "") search.set("ring", ring);
  if (kinds.length > 0) search.set("kind", kinds.join(","));
  const asked = search.toString();
  return `/rollouts/${rolloutName(rollout)}${asked === "" ? "" : `?${asked}`}#members`;
}

const n = (value: bigint) => Number(value);

/** The parts of a ring. Their sum is the ring's members, unless the server counts something newer. */
export function parts(ring: RingView): Part[] {
  const soaking = n(ring.soaking);
  const flight = Math.max(0, n(ring.inFlight) - soaking);
  const part = (look: Look, name: string, hosts: number, ...kinds: MemberKind[]): Part => ({ look, name, hosts, kinds });
  return [
    part("confirmed", "confirmed", n(ring.confirmed) + n(ring.alreadyThere), MemberKind.CONFIRMED, MemberKind.ALREADY_THERE),
    part("soaking", "soaking", soaking, MemberKind.SOAKING),
    part("flight", "in flight", flight, MemberKind.GRANTED, MemberKind.BEGUN, MemberKind.APPLIED, MemberKind.REBOOTING),
    part("failed", "failed", n(ring.failed), MemberKind.FAILED),
    part("silent", "silent", n(ring.silent), MemberKind.SILENT),
    part("reverted", "went back", n(ring.reverted), MemberKind.REVERTED),
    part("away", "away", n(ring.away), MemberKind.AWAY),
    part("deferred", "deferred", n(ring.deferred), MemberKind.DEFERRED),
    part("refused", "refused", n(ring.refused), MemberKind.REFUSED),
    part("waiting", "waiting", n(ring.waiting), MemberKind.WAITING),
  ];
}

/** Up to this many members are drawn one by one. */
export const PIPS_MAX = 64;

/** Shares of a bar in per cent; a part with any host keeps at least `least`, so that one death shows. */
export function shares(hosts: number[], least = 0.7): number[] {
  const total = hosts.reduce((sum, h) => sum + h, 0);
  if (total === 0) return hosts.map(() => 0);
  const raw = hosts.map((h) => (h === 0 ? 0 : Math.max(least, (100 * h) / total)));
  const excess = raw.reduce((sum, r) => sum + r, 0) - 100;
  const largest = raw.indexOf(Math.max(...raw));
  return raw.map((r, i) => (i === largest ? Math.max(least, r - excess) : r));
}

/** What a ring does and waits for, in one sentence. */
export function laneSentence(ring: RingView, state: RolloutState): string {
  if (ring.state === RingState.COMPLETE) {
    const left = n(ring.stragglers);
    return left > 0
      ? `Complete; ${count(left, "straggler")} never exposed, taken along when back.`
      : "Complete.";
  }
  const waits = ring.waits
    .filter((w) => w.hosts > 0n)
    .slice(0, 4)
    .map((w) => `${whole(w.hosts)} ${waitWhy(w.why)}`);
  const waiting = waits.length > 0 ? `Waiting: ${listed(waits)}.` : "";
  if (ring.state === RingState.WAITING) return waiting || "Its turn has not come.";
  const open = n(ring.window) - n(ring.inFlight);
  if (state === RolloutState.RUNNING && n(ring.window) > 0) {
    const room =
      open > 0
        ? `${count(open, "more host")} may start now`
        : "the window is full; the next host starts when one is confirmed";
    return `${n(ring.inFlight)} of ${n(ring.window)} in flight: ${room}. ${waiting}`.trim();
  }
  const goOn = n(ring.inFlight) > 0 ? `${count(ring.inFlight, "exposure")} under way ${n(ring.inFlight) === 1 ? "goes" : "go"} on to the end. ` : "";
  return `No further host is exposed. ${goOn}${waiting}`.trim();
}

/** Sums over all rings. */
export interface Totals {
  members: number;
  exposed: number;
  inFlight: number;
  soaking: number;
  confirmed: number;
  alreadyThere: number;
  failed: number;
  silent: number;
  reverted: number;
  waiting: number;
  /** failed + silent + reverted */
  dead: number;
}

export function totals(rollout: RolloutView): Totals {
  const sum = (pick: (ring: RingView) => bigint) => rollout.rings.reduce((all, ring) => all + n(pick(ring)), 0);
  const t = {
    members: sum((r) => r.members),
    inFlight: sum((r) => r.inFlight),
    soaking: sum((r) => r.soaking),
    confirmed: sum((r) => r.confirmed),
    alreadyThere: sum((r) => r.alreadyThere),
    failed: sum((r) => r.failed),
    silent: sum((r) => r.silent),
    reverted: sum((r) => r.reverted),
    waiting: sum((r) => r.waiting),
  };
  const dead = t.failed + t.silent + t.reverted;
  const away = sum((r) => r.away);
  return { ...t, dead, exposed: t.inFlight + t.confirmed + dead + away };
}

/** How the whole rollout looks. */
export type Mood = "running" | "held" | "halted" | "paused" | "done" | "aborted";

export function mood(state: RolloutState): Mood {
  switch (state) {
    case RolloutState.HELD:
      return "held";
    case RolloutState.HALTED:
      return "halted";
    case RolloutState.PAUSED:
      return "paused";
    case RolloutState.COMPLETED:
      return "done";
    case RolloutState.ABORTED:
      return "aborted";
    default:
      return "running";
  }
}

/** The headline: what happens, in a few words. */
export function headline(rollout: RolloutView): string {
  const back = rollout.kind === AssignmentKind.ROLLBACK;
  switch (mood(rollout.state)) {
    case "halted":
      return back ? "The rollback stopped by itself" : "Stopped by itself";
    case "held":
      return "On hold; lifts by itself";
    case "paused":
      return "Paused by a person";
    case "done":
      return back ? "Rolled back" : "Completed";
    case "aborted":
      return "Aborted by a person";
    case "running":
      return back ? "Rolling back" : "Rolling out";
  }
}

/** What a person would do next, and which order that is. */
export interface Advice {
  words: string;
  order?: "rollback" | "resume" | "pause" | "resume-all";
}

/** The rollback under way that leaves this rollout's release. */
export function rollbackOf(rollout: RolloutView, all: RolloutView[]): RolloutView | undefined {
  return all.find(
    (r) =>
      r.kind === AssignmentKind.ROLLBACK &&
      r.package === rollout.package &&
      r.leaves === rollout.version &&
      rollout.kind !== AssignmentKind.ROLLBACK &&
      r.state !== RolloutState.COMPLETED &&
      r.state !== RolloutState.ABORTED,
  );
}

export function advice(rollout: RolloutView, andon: boolean, rollingBack = false): Advice {
  const t = totals(rollout);
  const back = rollout.kind === AssignmentKind.ROLLBACK;
  if (rollingBack) return { words: "A rollback is bringing its hosts back." };
  if (andon && !back && mood(rollout.state) !== "halted" && mood(rollout.state) !== "done") {
    return { words: "Everything is stopped. Find out why before anything goes on.", order: "resume-all" };
  }
  switch (mood(rollout.state)) {
    case "halted":
      return back
        ? { words: "Hosts die on the way back too. Look at the failed hosts before going on." }
        : { words: `Roll the ${count(t.exposed, "exposed host")} back.`, order: "rollback" };
    case "paused":
      return t.dead > 0 && !back
        ? { words: "Hosts failed before the pause. Roll back, or look closer and resume.", order: "rollback" }
        : { words: "Nothing new is exposed. Resume when you have seen enough.", order: "resume" };
    case "held":
      return { words: "Wait, or look at what is missing." };
    case "running":
      return t.dead > 0 && !back
        ? { words: "Hosts failed, within what the evidence allows. Pause if you know better.", order: "pause" }
        : { words: "Nothing. It walks by itself, and stops by itself." };
    case "done":
    case "aborted":
      return { words: "Nothing: it is over." };
  }
}
