import { describe, expect, test } from "vitest";
import { DIMENSIONS, Fleet, NO_FILTER, cells, filterFrom, filterSearch, type Filter } from "../fleet";
import { feed, host, idOf } from "../../mock/fleet";

const trouble = { dead: new Set([0, 1, 2]), hostile: false };
const fleetOf = (hosts: number) => {
  const fleet = new Fleet();
  for (const part of feed(hosts, trouble, (i) => (i < 10 ? "canary" : "broad"))) fleet.put(part);
  return fleet;
};

describe("a fleet in columns", () => {
  test("keeps every host once, also when it is told twice", () => {
    const fleet = fleetOf(9_000);
    const [again] = [...feed(3, trouble, () => "broad")];
    fleet.put({ ...again!, texts: [], systems: [0, 0, 0], rings: [0, 0, 0] });
    expect(fleet.length).toBe(9_000);
    expect(fleet.row(8_999).hostname).toBe(host(8_999, trouble).facts!.hostname);
    expect(fleet.row(1).ring).toBe("");
  });

  test("forgets what is gone, and everything when another picture begins", () => {
    const fleet = fleetOf(500);
    const [again] = [...feed(3, trouble, () => "broad")];
    const none = { ...again!, texts: [], hosts: [], hostnames: [], glances: [] };
    fleet.put({ ...none, gone: [idOf(0), idOf(999)] });
    expect(fleet.length).toBe(499);
    expect(fleet.select(NO_FILTER)).toHaveLength(499);
    expect(fleet.counts().attention).toBe(fleet.select({ ...NO_FILTER, glances: ["attention"] }).length);
    fleet.put({ ...again!, picture: 8n });
    expect(fleet.length).toBe(3);
    expect(fleet.row(2).ring).toBe("broad");
  });

  test("splits by system, ring and criticality without losing a host", () => {
    const fleet = fleetOf(500);
    const retired = fleet.counts().retired;
    for (const d of DIMENSIONS) {
      const shares = fleet.shares(d);
      expect(shares.reduce((n, s) => n + s.hosts, 0)).toBe(500 - retired);
      for (const s of shares) expect(fleet.select({ ...NO_FILTER, [d]: s.value })).toHaveLength(s.hosts);
    }
    expect(fleet.shares("ring").map((s) => s.value)).toEqual(["broad", "canary"]);
    expect(fleet.shares("criticality").map((s) => s.value)).toEqual(["low", "high"]);
  });

  test("names the hosts without a session, longest quiet first", () => {
    const silent = fleetOf(3_000).silent(5);
    expect(silent.length).toBe(5);
    for (const [i, row] of silent.entries()) expect(row.quietMs).toBeLessThanOrEqual(silent[Math.max(0, i - 1)]!.quietMs!);
  });

  test("lists the hosts that require attention first, and loses none", () => {
    const fleet = fleetOf(500);
    const all = fleet.select(NO_FILTER);
    expect(all).toHaveLength(500);
    expect(new Set(all).size).toBe(500);
    expect([...all.slice(0, 3)].sort()).toEqual([0, 1, 2]);
  });

  test("splits into what a filter shows and what it leaves out", () => {
    const fleet = fleetOf(500);
    const counts = fleet.counts();
    const shown = fleet.select({ ...NO_FILTER, glances: ["attention"] });
    expect(shown).toHaveLength(counts.attention);
    expect(Object.values(counts).reduce((a, b) => a + b)).toBe(500);
  });

  test("finds by name, id, label and system", () => {
    const fleet = fleetOf(500);
    const row = fleet.row(42);
    const one = (filter: Partial<Filter>) => [...fleet.select({ ...NO_FILTER, ...filter })];
    expect(one({ query: row.hostname.toUpperCase() })).toEqual([42]);
    expect(one({ query: `h-${idOf(42).toString(16).padStart(16, "0")}` })).toEqual([42]);
    expect(one({ label: "site=ber" }).length).toBeGreaterThan(10);
    expect(one({ os: row.osBuild })).toContain(42);
    expect(one({ os: "no such" })).toEqual([]);
  });

  test("is empty without hosts", () => {
    expect(new Fleet().select(NO_FILTER)).toHaveLength(0);
  });
});

test("a filter survives the address bar", () => {
  const filter: Filter = { query: "a b&c", glances: ["attention", "silent"], label: "site=ber", os: "Debian 12", ring: "canary", criticality: "high", running: "sensor 4.2.0" };
  expect(filterFrom(new URLSearchParams(filterSearch(filter)))).toEqual(filter);
  expect(filterSearch(NO_FILTER)).toBe("");
});

test("an address that names an unknown state narrows nothing", () => {
  expect(filterFrom(new URLSearchParams("state=<script>,attention")).glances).toEqual(["attention"]);
});

test("cells of a grid hold every host and fit where they can", () => {
  for (const hosts of [0, 1, 203, 5_000, 100_000]) {
    const layout = cells(hosts, 300, 380);
    expect(layout.columns * layout.rows).toBeGreaterThanOrEqual(hosts);
    expect(layout.columns * layout.size).toBeLessThanOrEqual(300);
  }
  expect(cells(203, 300, 380).size).toBe(14);
});
