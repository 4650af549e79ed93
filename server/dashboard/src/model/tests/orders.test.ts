import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { OrderHostViewSchema } from "../../gen/ringward/v1/people_pb";
import { ContainmentObservedSchema, OrderFailure, UndoneWhy } from "../../gen/ringward/v1/types_pb";
import { crashOf } from "../crash";
import { COUNTS, containmentOf, countOf, progressOf } from "../orders";

const at = (progress: object) => create(OrderHostViewSchema, { progress } as never);

describe("an order to hosts", () => {
  test("counts each host where the server counts it", () => {
    const cases: [object, string][] = [
      [{ case: "overCap", value: 1 }, "wait under a cap"],
      [{ case: "done", value: {} }, "done"],
      [{ case: "undone", value: UndoneWhy.DISK }, "failed"],
      [{ case: "superseded", value: 4n }, "failed"],
      [{ case: "retired", value: {} }, "failed"],
      [{ case: "cancelled", value: {} }, "cancelled"],
    ];
    for (const [progress, name] of cases) expect(countOf(at(progress))).toBe(name);
    for (const [, name] of cases) expect(COUNTS.map((c) => c.name)).toContain(name);
  });

  test("says why it was not done, also for reasons newer than this page", () => {
    expect(progressOf(at({ case: "failed", value: OrderFailure.DISK })).words).toContain("full or read-only");
    expect(progressOf(at({ case: "failed", value: 99 })).words).toContain("newer than this page");
  });

  test("a host that tried and undid its isolation is open, and says so", () => {
    const told = create(ContainmentObservedSchema, { state: { case: "undone", value: { order: 7n, why: UndoneWhy.SERVER_UNREACHABLE } } });
    expect(containmentOf(told)).toMatchObject({ isolated: false, order: 7n });
    expect(containmentOf(create(ContainmentObservedSchema, { state: { case: "closed", value: { order: 7n } } }))?.isolated).toBe(true);
    expect(containmentOf(undefined)).toBeUndefined();
  });
});

test("module and frames are taken out of evidence, and nothing out of what is none", () => {
  expect(crashOf('{"module":"sensor.sys","frames":["a+0x1","b+0x2"]}')).toEqual({ module: "sensor.sys", frames: ["a+0x1", "b+0x2"] });
  expect(crashOf('{"faulting_module":"x.dll"}')).toEqual({ module: "x.dll", frames: [] });
  for (const none of ["{}", "null", "[]", "not json", '{"frames":[]}', '{"module":7}']) expect(crashOf(none)).toBeUndefined();
});
