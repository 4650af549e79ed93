import { expect, test } from "vitest";
import { hostName, parseId, unhex } from "../ids";
import { route } from "../route";
import { visibleRows } from "../rows";
import { STALE_AFTER_MS, freshness, retryMs } from "../stale";
import { at, clockWarning, span } from "../time";

const go = (path: string, search = "") => route(path, new URLSearchParams(search));

test("addresses lead to pages, and nonsense leads nowhere", () => {
  expect(go("/")).toEqual({ page: "rollouts" });
  expect(go("/rollouts/r-00000000000000ff", "ring=canary&kind=9")).toEqual({ page: "rollout", id: 255n, ring: "canary", kind: "9" });
  expect(go("/hosts/h-ffffffffffffffff")).toEqual({ page: "host", id: 0xffffffffffffffffn });
  for (const path of ["/rollouts/1", "/hosts", "/hosts/h-xyz", "/fleet/extra", "/a/b/c"]) expect(go(path).page).toBe("nowhere");
});

test("identifiers read and write the same", () => {
  expect(parseId("h", hostName(0xdeadn))).toBe(0xdeadn);
  expect(parseId("r", "h-0000000000000001")).toBeUndefined();
  expect(unhex("00ff")).toEqual(Uint8Array.of(0, 255));
  expect(unhex("0")).toBeUndefined();
});

test("only the rows in sight exist, at any length", () => {
  for (const total of [0, 1, 203, 100_000]) {
    for (const scroll of [0, 100, 32 * total]) {
      const { from, to } = visibleRows(total, 32, scroll, 640);
      expect(from).toBeGreaterThanOrEqual(0);
      expect(to).toBeLessThanOrEqual(total);
      expect(to - from).toBeLessThanOrEqual(40);
    }
  }
});

test("a cut stream is called stale with its age, by a clock that only runs forwards", () => {
  expect(freshness("live", 1_000, 2_000)).toEqual({ words: "live", stale: false });
  expect(freshness("live", 1_000, 1_001 + STALE_AFTER_MS).stale).toBe(true);
  expect(freshness("cut", 1_000, 13_000)).toEqual({ words: "stale since 12 s", stale: true });
  expect(freshness("signed-out", 1_000, 13_000).stale).toBe(true);
});

test("tries to come back spread out, and never wait longer than ten seconds", () => {
  for (let tries = 0; tries < 50; tries += 1) {
    expect(retryMs(tries, 0)).toBeGreaterThan(0);
    expect(retryMs(tries, 1)).toBeLessThanOrEqual(10_000);
  }
});

test("a wrong browser clock is named, a right one is not", () => {
  expect(clockWarning(2_000)).toBeUndefined();
  expect(clockWarning(300_000)).toContain("5 min behind");
  expect(clockWarning(-300_000)).toContain("5 min ahead of");
});

test("times carry their zone, and spans two units at most", () => {
  expect(at(1_700_000_000_000, "Europe/Berlin")).toBe("14 Nov 2023, 23:13:20 CET");
  expect(at(0)).toBe("unknown");
  expect(span(0)).toBe("0 s");
  expect(span(-5)).toBe("0 s");
  expect(span(3_725_000)).toBe("1 h 2 min");
  expect(span(90_000_000)).toBe("1 d 1 h");
});
