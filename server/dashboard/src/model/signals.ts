/** Signals over time, put into bars that can be read. */
import type { SignalSeries } from "../gen/ringward/v1/overview_pb";
import { count } from "./text";
import { clock } from "./time";
import { signalKind } from "./words";

export interface Series {
  /** Start of each bar. */
  startsMs: number[];
  /** Most frequent first; the rest as one. */
  kinds: { name: string; counts: number[]; total: number }[];
  total: number;
  /** The whole in words. */
  words: string;
}

/** Bars drawn. */
const BARS = 48;
/** Kinds drawn apart. */
const KINDS = 7;
/** Widths that people think in. */
const STEPS_MS = [60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000];

export function seriesOf(told: SignalSeries): Series {
  const now = Number(told.nowUnixMs);
  const bucket = Number(told.bucketMs) || 60_000;
  const first = Math.min(Number(told.sinceUnixMs) || now, Number(told.buckets[0]?.startUnixMs ?? now));
  const wide = Math.max(now - Math.max(first, now - 86_400_000), 20 * bucket);
  const step = STEPS_MS.find((s) => s >= bucket && wide / s <= BARS) ?? STEPS_MS[STEPS_MS.length - 1]!;
  const end = Math.floor(now / step) * step;
  const bars = Math.min(BARS, Math.ceil(wide / step)) + 1;
  const startsMs = Array.from({ length: bars }, (_, i) => end - (bars - 1 - i) * step);
  const byKind = new Map<number, number[]>();
  for (const b of told.buckets) {
    const bar = Math.floor((Number(b.startUnixMs) - startsMs[0]!) / step);
    if (bar < 0 || bar >= bars) continue;
    for (const c of b.counts) {
      let counts = byKind.get(c.kind);
      if (!counts) byKind.set(c.kind, (counts = new Array<number>(bars).fill(0)));
      counts[bar]! += c.count;
    }
  }
  const sum = (counts: number[]) => counts.reduce((a, b) => a + b, 0);
  const all = [...byKind]
    .map(([kind, counts]) => ({ name: kind === 0 ? "others" : signalKind(kind), counts, total: sum(counts) }))
    .sort((a, b) => b.total - a.total || a.name.localeCompare(b.name));
  const kinds = all.slice(0, KINDS);
  const rest = all.slice(KINDS);
  if (rest.length > 0) {
    const counts = startsMs.map((_, i) => rest.reduce((n, k) => n + k.counts[i]!, 0));
    kinds.push({ name: "others", counts, total: sum(counts) });
  }
  const total = all.reduce((n, k) => n + k.total, 0);
  const since = clock(startsMs[0]!);
  const words = total === 0 ? `No signal since ${since}.` : `${count(total, "signal")} since ${since}: ${kinds.map((k) => `${k.total} ${k.name}`).join(", ")}.`;
  return { startsMs, kinds, total, words };
}
