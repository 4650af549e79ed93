/** The one order that is being looked at. There is never a second beside it. */
import type { RolloutView, Outcome } from "../gen/ringward/v1/admin_pb";
import { AssignmentKind, RolloutState } from "../gen/ringward/v1/types_pb";
import { failed, send, type Stage } from "../model/order";
import { visible } from "../model/text";
import { rolloutState } from "../model/words";
import { requestId } from "./clients";
import type { Permission } from "../model/people";
import { isOver, live } from "./live.svelte";
import { me } from "./me.svelte";

/** What goes with every order. */
export interface ActInit {
  requestId: Uint8Array<ArrayBuffer>;
  reason: string;
  dryRun: boolean;
  breakGlass: boolean;
}

/** What a person may add to an order beyond its usual bounds. */
export interface Widening {
  key: string;
  words: string;
}

/** Offered where a second person is needed: loud, bounded, marked. */
const GLASS = "breakGlass";

export interface Order {
  /** "Pause sensor 4.2.0" */
  title: string;
  /** What the button says: "Pause" */
  verb: string;
  /** What it means, in a sentence. */
  words: string;
  /** It only stops things: sent with few words. */
  brake: boolean;
  /** What is typed before a large one goes out. */
  word: string;
  /** A reason to begin with. */
  reason: string;
  /** What may be added to it. */
  wider?: Widening[];
  /** `chosen`: the keys of what was added. */
  call(act: ActInit, chosen: ReadonlySet<string>): Promise<Outcome>;
}

const LOOKING = "looking at what would happen";

class Acts {
  order = $state.raw<Order | undefined>(undefined);
  stage = $state.raw<Stage>({ at: "checking" });
  /** What was added to the order. */
  chosen = $state.raw<ReadonlySet<string>>(new Set());
  private turn = 0;

  open(order: Order): void {
    if (this.order && this.stage.at === "sending") return;
    this.order = order;
    this.chosen = new Set();
    void this.check();
  }

  close(): void {
    if (this.stage.at === "sending") return;
    this.order = undefined;
    this.turn += 1;
  }

  /** What may be added as things stand: to do it alone only where the server asks for a second person. */
  get wider(): Widening[] {
    const alone = this.stage.at === "ready" && this.stage.plan.approval !== undefined;
    return [
      ...(this.order?.wider ?? []),
      ...(alone || this.chosen.has(GLASS) ? [{ key: GLASS, words: "Break the glass: do it alone, now. It is marked as such and told to everybody" }] : []),
    ];
  }

  /** Adds to the order, or takes it away again; the server is asked anew. */
  widen(key: string): void {
    if (this.stage.at === "sending" || this.stage.at === "unknown" || this.stage.at === "done") return;
    const chosen = new Set(this.chosen);
    if (!chosen.delete(key)) chosen.add(key);
    this.chosen = chosen;
    void this.check();
  }

  private call(order: Order, requestId: Uint8Array<ArrayBuffer>, reason: string, dryRun: boolean): Promise<Outcome> {
    return order.call({ requestId, reason, dryRun, breakGlass: this.chosen.has(GLASS) }, this.chosen);
  }

  /** Asks the server what the order would do, by the same code that does it. */
  async check(): Promise<void> {
    const order = this.order;
    if (!order) return;
    const turn = (this.turn += 1);
    this.stage = { at: "checking" };
    let next: Stage;
    try {
      next = { at: "ready", plan: await this.call(order, requestId(), LOOKING, true) };
    } catch (error) {
      next = failed(this.stage, error);
    }
    if (turn === this.turn) this.stage = next;
  }

  async send(reason: string): Promise<void> {
    const order = this.order;
    const sending = send(this.stage, requestId);
    if (!order || !sending) return;
    this.stage = sending;
    try {
      const outcome = await this.call(order, sending.request, reason, false);
      this.stage = { at: "done", outcome };
      if (live.session === undefined) void live.enter();
    } catch (error) {
      this.stage = failed(sending, error);
    }
    live.list().catch(() => undefined);
  }
}

export const acts = new Acts();

/** An order on offer: what it would do, or why it cannot be given. */
export type Offer = { order: Order; why?: undefined } | { order?: undefined; why: string };

/** The order, where the person's role carries it. */
export function may(permission: Permission, offer: Offer): Offer {
  const why = me.lacks(permission);
  return why ? { why } : offer;
}

const name = (r: RolloutView) => `${visible(r.package)} ${visible(r.version)}`;

export function pause(r: RolloutView): Offer {
  const not = me.lacks("stop");
  if (not) return { why: not };
  if (![RolloutState.RUNNING, RolloutState.HELD].includes(r.state)) return { why: `it is ${rolloutState(r.state)}` };
  return {
    order: {
      title: `Pause ${name(r)}`,
      verb: "Pause",
      words: "No further host is exposed. Exposures under way go on to their end.",
      brake: true,
      word: "",
      reason: "Paused to look closer",
      call: (act) => live.clients.rollouts.pause({ act, rollout: r.id }),
    },
  };
}

export function resume(r: RolloutView): Offer {
  const not = me.lacks("rollout");
  if (not) return { why: not };
  if (![RolloutState.PAUSED, RolloutState.HALTED].includes(r.state)) return { why: `it is ${rolloutState(r.state)}` };
  return {
    order: {
      title: `Resume ${name(r)}`,
      verb: "Resume",
      words:
        r.state === RolloutState.HALTED
          ? "Ringward stopped this by itself because hosts failed. Resuming exposes further hosts."
          : "Further hosts are exposed again, as fast as hosts survive it.",
      brake: false,
      word: name(r),
      reason: "",
      call: (act) => live.clients.rollouts.resume({ act, rollout: r.id }),
    },
  };
}

export function abort(r: RolloutView): Offer {
  const not = me.lacks("stop");
  if (not) return { why: not };
  if (isOver(r.state)) return { why: `it is ${rolloutState(r.state)}` };
  return {
    order: {
      title: `Abort ${name(r)}`,
      verb: "Abort for good",
      words: "The rollout ends for good. Hosts that took the release keep it, unless you roll back.",
      brake: false,
      word: name(r),
      reason: "",
      call: (act) => live.clients.rollouts.abort({ act, rollout: r.id }),
    },
  };
}

export function rollback(r: RolloutView): Offer {
  const not = me.lacks("rollout");
  if (not) return { why: not };
  if (r.kind === AssignmentKind.ROLLBACK) return { why: "this is a rollback itself" };
  return {
    order: {
      title: `Roll back from ${name(r)}`,
      verb: "Roll back",
      words: "Every host on the release, or begun on it, goes back to the newest good version. The release becomes bad.",
      brake: false,
      word: name(r),
      reason: "",
      call: (act) => live.clients.rollouts.rollback({ act, leave: r.release }),
    },
  };
}

export function stopAll(): Offer {
  const not = me.lacks("stop");
  if (not) return { why: not };
  if (live.andon) return { why: "everything is stopped already" };
  return {
    order: {
      title: "Stop everything",
      verb: "Stop everything",
      words: "Every rollout pauses, and none can start. Rollbacks go on.",
      brake: true,
      word: "",
      reason: "Stopped to look closer",
      call: (act) => live.clients.rollouts.stopAll({ act }),
    },
  };
}

export function resumeAll(): Offer {
  const not = me.lacks("rollout");
  if (not) return { why: not };
  if (!live.andon) return { why: "nothing is stopped" };
  return {
    order: {
      title: "Let everything go on",
      verb: "Let it go on",
      words: "Rollouts that were running run again. Paused and halted ones stay as they are.",
      brake: false,
      word: "go on",
      reason: "",
      call: (act) => live.clients.rollouts.resumeAll({ act }),
    },
  };
}
