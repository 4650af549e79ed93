import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test } from "vitest";
import { OutcomeSchema } from "../../gen/ringward/v1/admin_pb";
import { TYPED_FROM, blocked, failed, mustType, send, type Stage } from "../order";

const plan = (hosts: number) =>
  create(OutcomeSchema, { summary: "x", hosts: [{ ring: "r", hosts: Array.from({ length: hosts }, (_, i) => BigInt(i)) }] });
let drawn = 0;
const draw = () => new Uint8Array(16).fill(++drawn);

test("a second click while an order is on its way sends nothing", () => {
  const sending = send({ at: "ready", plan: plan(1) }, draw)!;
  expect(sending.at).toBe("sending");
  expect(send(sending, draw)).toBeUndefined();
  expect(send({ at: "done", outcome: plan(1) }, draw)).toBeUndefined();
  expect(send({ at: "checking" }, draw)).toBeUndefined();
});

test("an order whose answer was lost goes out again under the same id", () => {
  const first = send({ at: "ready", plan: plan(1) }, draw)!;
  for (const code of [Code.Unavailable, Code.DeadlineExceeded, Code.Unauthenticated]) {
    const lost = failed(first, new ConnectError("gone", code));
    expect(lost.at).toBe("unknown");
    expect(send(lost, draw)!.request).toEqual(first.request);
  }
});

test("an order that the server refused is over, and a conflict is told as one", () => {
  const first = send({ at: "ready", plan: plan(1) }, draw)!;
  expect(failed(first, new ConnectError("no", Code.FailedPrecondition))).toEqual({ at: "refused", why: "no", conflict: true, sent: true });
  expect(failed(first, new ConnectError("no", Code.PermissionDenied))).toEqual({ at: "refused", why: "no", conflict: false, sent: true });
  expect(failed({ at: "checking" }, new ConnectError("no", Code.FailedPrecondition))).toEqual({ at: "refused", why: "no", conflict: true, sent: false });
});

test("a look that failed is no order, however it failed", () => {
  expect(failed({ at: "checking" }, new ConnectError("gone", Code.Unavailable)).at).toBe("refused");
});

test("large orders are typed out, brakes never are", () => {
  expect(mustType(plan(TYPED_FROM), false, "app 1.0")).toBe("app 1.0");
  expect(mustType(plan(TYPED_FROM - 1), false, "app 1.0")).toBeUndefined();
  expect(mustType(plan(TYPED_FROM), true, "app 1.0")).toBeUndefined();
});

test("an order without reason or with a wrong word is blocked with words", () => {
  const ready: Stage = { at: "ready", plan: plan(99) };
  expect(blocked(ready, " ", "", undefined)).toContain("reason");
  expect(blocked(ready, "because", "app", "app 1.0")).toContain("type app 1.0");
  expect(blocked(ready, "because", "app 1.0", "app 1.0")).toBeUndefined();
  expect(blocked(ready, "é".repeat(2_049), "", undefined)).toContain("4,096");
});
