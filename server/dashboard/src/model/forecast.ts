/** How long a clean walk would still take: an estimate from the window's own rule, nothing more. */
import { RingState, type RolloutView } from "../gen/ringward/v1/admin_pb";

/** Rounds looked ahead at most. */
const ROUNDS_MAX = 10_000;
/** The window bounds the expected excess loss in flight by this. */
const LOSS = 3;

/** One-sided 95 % upper bound of a failure rate with no failure in `n` exposures. */
export function cleanUpperBound(n: number): number {
  return n <= 0 ? 1 : 1 - Math.pow(0.05, 1 / n);
}

/** The window with no failure so far. */
export function cleanWindow(resolved: number, p0: number, start: number, confirmed: number, cap: number): number {
  const loss = LOSS / Math.max(cleanUpperBound(resolved) - p0, 1e-9);
  return Math.max(1, Math.floor(Math.min(loss, start + confirmed, cap)));
}

/**
 * Milliseconds of soak that are still to come if no host fails. `soakMs` names the soak of each ring.
 * Nothing where a ring's soak is not known or the walk already has failures.
 */
export function forecast(rollout: RolloutView, soakMs: Map<string, number>): number | undefined {
  if ((rollout.verdict?.failed ?? 0n) > 0n) return undefined;
  const p0 = rollout.verdict?.p0 ?? 0;
  let resolved = Number(rollout.verdict?.confirmed ?? 0n);
  let total = 0;
  let window = 1;
  for (const [index, ring] of rollout.rings.entries()) {
    if (ring.state === RingState.COMPLETE) continue;
    const soak = soakMs.get(ring.name);
    if (soak === undefined) return undefined;
    const members = Number(ring.members);
    let left = Number(ring.waiting) + Number(ring.inFlight);
    let confirmed = Number(ring.confirmed);
    const share = Math.ceil(members * 0.05);
    const first = Math.min(2, share);
    const cap = Math.max(first, Math.ceil(members * 0.2));
    const start = index === 0 ? first : Math.min(cap, Math.max(first, Math.floor(window / 4)));
    for (let round = 0; left > 0 && round < ROUNDS_MAX; round += 1) {
      window = cleanWindow(resolved, p0, start, confirmed, cap);
      const step = Math.min(left, window);
      left -= step;
      confirmed += step;
      resolved += step;
      total += soak;
    }
  }
  return total;
}
