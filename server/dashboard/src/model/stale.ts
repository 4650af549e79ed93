/** How fresh what is shown is. All times come from a clock that only runs forwards. */
export type Link = "connecting" | "live" | "cut" | "signed-out";

/** Quiet for longer than this, and the page says so. */
export const STALE_AFTER_MS = 6_000;

export interface Freshness {
  words: string;
  stale: boolean;
}

export function freshness(link: Link, heardAtMs: number | undefined, nowMs: number): Freshness {
  if (link === "signed-out") return { words: "signed out", stale: true };
  if (heardAtMs === undefined) return { words: "connecting", stale: link === "cut" };
  const age = Math.max(0, nowMs - heardAtMs);
  if (link === "live" && age <= STALE_AFTER_MS) return { words: "live", stale: false };
  return { words: `stale since ${Math.floor(age / 1000)} s`, stale: true };
}

/** Wait before the next try: doubling to 10 s, spread by half so that pages do not come back together. */
export function retryMs(tries: number, random: number): number {
  const base = Math.min(10_000, 500 * 2 ** Math.min(tries, 5));
  return base * (0.5 + random / 2);
}
