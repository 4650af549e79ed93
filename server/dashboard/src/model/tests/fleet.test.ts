import { describe, expect, test } from "vitest";
import { Fleet, NO_FILTER, cells, filterFrom, filterSearch, type Filter } from "../fleet";
import { host, idOf } from "../../mock/fleet";

const trouble = { dead: new Set([0, 1, 2]), hostile: false };
const fleetOf = (hosts: number) => {
  const fleet = new Fleet();
  fleet.put(Array.from({ length: hosts }, (_, i) => host(i, trouble)));
  return fleet;
};

describe("a fleet in columns", () => {
  test("keeps every host once, also when it is told twice", () => {
    const fleet = fleetOf(3_000);
    fleet.put([host(7, trouble), host(2_999, trouble)]);
    expect(fleet.length).toBe(3_000);
    expect(fleet.row(2_999).hostname).toBe(host(2_999, trouble).facts!.hostname);
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
  const filter: Filter = { query: "a b&c", glances: ["attention", "silent"], label: "site=ber", os: "Debian 12" };
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
