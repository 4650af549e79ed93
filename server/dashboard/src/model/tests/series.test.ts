import { expect, test } from "vitest";
import { create } from "@bufbuild/protobuf";
import { AuditRecordSchema } from "../../gen/ringward/v1/admin_pb";
import { SignalSeriesSchema } from "../../gen/ringward/v1/overview_pb";
import { entryOf, meets } from "../audit";
import { seriesOf } from "../signals";

const minute = 60_000n;

test("every signal of the day is in exactly one bar", () => {
  for (const hours of [0n, 1n, 7n, 24n]) {
    const now = 1_700_000_000_000n / minute * minute;
    const since = now - hours * 60n * minute;
    const buckets = Array.from({ length: Number(hours) * 60 + 1 }, (_, i) => ({ startUnixMs: since + BigInt(i) * minute, counts: [{ kind: 2, count: 1 }, { kind: i % 12, count: 2 }] }));
    const series = seriesOf(create(SignalSeriesSchema, { bucketMs: minute, sinceUnixMs: since, nowUnixMs: now + 30_000n, buckets }));
    const drawn = series.kinds.reduce((n, k) => n + k.total, 0);
    expect(drawn).toBe(series.total);
    expect(drawn).toBeGreaterThan((buckets.length - 61) * 3);
    expect(series.startsMs.length).toBeLessThanOrEqual(49);
    expect(series.kinds.length).toBeLessThanOrEqual(8);
  }
});

test("no signal is said to be none", () => {
  const series = seriesOf(create(SignalSeriesSchema, { bucketMs: minute, sinceUnixMs: 0n, nowUnixMs: 1_700_000_000_000n }));
  expect(series.total).toBe(0);
  expect(series.words).toContain("No signal since");
});

test("an audit entry is read, searched by every word, and shown raw where it cannot be read", () => {
  const record = (text: string) => create(AuditRecordSchema, { index: 4n, entry: new TextEncoder().encode(text) });
  const entry = entryOf(record(JSON.stringify({ at_unix_ms: 5, actor: "dana", action: "rollout start", object: "r-1", reason: "Weekly" })));
  expect(entry).toMatchObject({ index: 4, atMs: 5, actor: "dana", action: "rollout start" });
  expect(meets(entry, "weekly dana")).toBe(true);
  expect(meets(entry, "weekly miguel")).toBe(false);
  expect(entryOf(record("{broken")).raw).toBe("{broken");
});
