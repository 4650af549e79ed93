/**
 * What this page saw of a rollout since it was opened: the server keeps no series, so nothing is
 * invented for the time before.
 */
import type { RolloutView } from "../gen/ringward/v1/admin_pb";
import { totals } from "./lanes";
import { ringState, rolloutState } from "./words";

export interface Sample {
  /** Server time. */
  atMs: number;
  exposed: number;
  confirmed: number;
  dead: number;
}

export interface Step {
  atMs: number;
  /** The ring, or empty for the rollout. */
  ring: string;
  words: string;
}

/** Samples kept; when full, every second one of the older half goes. */
export const SAMPLES_MAX = 600;
const STEPS_MAX = 200;

export class History {
  readonly samples: Sample[] = [];
  readonly steps: Step[] = [];
  private last: RolloutView | undefined;

  see(view: RolloutView, atMs: number): void {
    this.step(view, atMs);
    this.sample(view, atMs);
    this.last = view;
  }

  private sample(view: RolloutView, atMs: number): void {
    const t = totals(view);
    const previous = this.samples.at(-1);
    if (previous && previous.exposed === t.exposed && previous.confirmed === t.confirmed && previous.dead === t.dead) return;
    this.samples.push({ atMs, exposed: t.exposed, confirmed: t.confirmed, dead: t.dead });
    if (this.samples.length <= SAMPLES_MAX) return;
    const half = SAMPLES_MAX / 2;
    const older = this.samples.splice(0, half).filter((_, i) => i % 2 === 0);
    this.samples.unshift(...older);
  }

  private step(view: RolloutView, atMs: number): void {
    const say = (ring: string, words: string) => {
      this.steps.push({ atMs, ring, words });
      if (this.steps.length > STEPS_MAX) this.steps.shift();
    };
    const last = this.last;
    if (!last) {
      say("", `${rolloutState(view.state)} when this page first saw it`);
      return;
    }
    if (last.state !== view.state) {
      say("", view.stateReason === "" ? rolloutState(view.state) : `${rolloutState(view.state)}: ${view.stateReason}`);
    }
    for (const ring of view.rings) {
      const before = last.rings.find((r) => r.name === ring.name);
      if (before && before.state !== ring.state) say(ring.name, ringState(ring.state));
      const dead = Number(ring.failed + ring.silent + ring.reverted);
      const deadBefore = before ? Number(before.failed + before.silent + before.reverted) : 0;
      if (before && dead > deadBefore) say(ring.name, `${dead - deadBefore} more failed (${dead} in all)`);
    }
  }
}
