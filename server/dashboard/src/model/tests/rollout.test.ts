import { describe, expect, test } from "vitest";
import { AssignmentKind, RolloutState } from "../../gen/ringward/v1/types_pb";
import { disaster, halting, quiet } from "../../mock/rollouts";
import { advice, headline, laneSentence, parts, rollbackOf, shares, totals } from "../lanes";
import { decision, memberWhy, number } from "../words";

const NOW = 1_700_000_000_000;

describe("a ring as a lane", () => {
  test("has every member in exactly one part", () => {
    for (const view of [...quiet(203, NOW), ...halting(203, NOW), ...quiet(100_000, NOW)]) {
      for (const ring of view.rings) {
        expect(parts(ring).reduce((sum, p) => sum + p.hosts, 0)).toBe(Number(ring.members));
      }
    }
  });

  test("shows one death among many, and fills its width", () => {
    const widths = shares([89_999, 1]);
    expect(widths[1]).toBeGreaterThanOrEqual(0.7);
    expect(widths.reduce((a, b) => a + b)).toBeCloseTo(100);
    expect(shares([0, 0])).toEqual([0, 0]);
  });

  test("says what it waits for", () => {
    const [running] = quiet(203, NOW);
    expect(laneSentence(running!.rings[1]!, running!.state)).toContain("window is full");
    expect(laneSentence(running!.rings[2]!, running!.state)).toBe("Waiting: 181 for an earlier ring.");
    const [halted] = halting(203, NOW);
    expect(laneSentence(halted!.rings[0]!, halted!.state)).toContain("No further host is exposed");
  });
});

describe("what to do", () => {
  test("after a halt is the rollback, until one is under way", () => {
    const all = disaster(203, NOW);
    const halted = all.find((r) => r.state === RolloutState.HALTED)!;
    expect(advice(halted, false).order).toBe("rollback");
    expect(advice(halted, true).order).toBe("rollback");
    const back = rollbackOf(halted, all);
    expect(back?.kind).toBe(AssignmentKind.ROLLBACK);
    expect(advice(halted, true, true).words).toContain("rollback is bringing");
    expect(rollbackOf(back!, all)).toBeUndefined();
  });

  test("under the andon is to find out why", () => {
    expect(advice(quiet(203, NOW)[0]!, true).order).toBe("resume-all");
  });

  test("is nothing while it walks", () => {
    expect(advice(quiet(203, NOW)[0]!, false).order).toBeUndefined();
    expect(headline(quiet(203, NOW)[0]!)).toBe("Rolling out");
  });
});

test("totals count failed, silent and reverted as dead", () => {
  const t = totals(halting(203, NOW)[0]!);
  expect(t).toMatchObject({ dead: 2, failed: 1, silent: 1, exposed: 3, members: 203 });
});

test("the decision and the reasons read as words", () => {
  const [halted] = halting(203, NOW);
  expect(decision(halted!.verdict!.decision)).toContain("2 hosts died the same way (0x50 sensor.sys)");
  expect(memberWhy(halted!.failedHosts[0]!.state)).toBe("bugcheck during the trial");
  expect(memberWhy(halted!.silentHosts[0]!.state)).toContain("not heard of");
  expect(decision(undefined)).toBe("none yet");
  expect(number(25_100_000)).toBe("25.1 million");
  expect(number(Number.POSITIVE_INFINITY)).toBe("beyond measure");
});
