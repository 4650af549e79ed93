/** How a rollout went, as the server wrote it down. */
import type { RolloutHistory } from "../gen/ringward/v1/overview_pb";

export interface Sample {
  /** Server time. */
  atMs: number;
  exposed: number;
  confirmed: number;
  dead: number;
  /** Failure signals blamed on its release. */
  signals: number;
}

export interface Step {
  atMs: number;
  /** The ring, or empty for the rollout. */
  ring: string;
  words: string;
}

export interface History {
  samples: Sample[];
  steps: Step[];
}

export function historyOf(told: RolloutHistory): History {
  return {
    samples: told.samples.map((s) => ({
      atMs: Number(s.atUnixMs),
      exposed: Number(s.exposed),
      confirmed: Number(s.confirmed),
      dead: Number(s.failed),
      signals: Number(s.signals),
    })),
    steps: told.steps.map((s) => ({ atMs: Number(s.atUnixMs), ring: s.ring, words: s.words })),
  };
}
