/**
 * An order from the first look to its end. One click is one request id: an order whose answer was
 * lost is asked for again under the same id, and the server answers what it did first.
 */
import { Code, ConnectError } from "@connectrpc/connect";
import type { Outcome } from "../gen/ringward/v1/admin_pb";

export type Stage =
  | { at: "checking" }
  /** `sent`: it was possible when it was looked at, and no longer when it came. */
  | { at: "refused"; why: string; conflict: boolean; sent: boolean }
  | { at: "ready"; plan: Outcome }
  | { at: "sending"; plan: Outcome; request: Uint8Array<ArrayBuffer> }
  /** Nobody knows whether it was done; only the same id may be sent again. */
  | { at: "unknown"; plan: Outcome; request: Uint8Array<ArrayBuffer>; why: string }
  | { at: "done"; outcome: Outcome };

/** An order may be sent from these stages only; whatever else a click hits does nothing. */
export function send(stage: Stage, draw: () => Uint8Array<ArrayBuffer>): Extract<Stage, { at: "sending" }> | undefined {
  switch (stage.at) {
    case "ready":
      return { at: "sending", plan: stage.plan, request: draw() };
    case "unknown":
      return { at: "sending", plan: stage.plan, request: stage.request };
    default:
      return undefined;
  }
}

/** What a failed call means for the order. */
export function failed(stage: Stage, error: unknown): Stage {
  const e = ConnectError.from(error);
  const why = e.rawMessage;
  if (stage.at === "sending" && isUncertain(e.code)) {
    return { at: "unknown", plan: stage.plan, request: stage.request, why };
  }
  const conflict = [Code.FailedPrecondition, Code.Aborted, Code.AlreadyExists].includes(e.code);
  return { at: "refused", why, conflict, sent: stage.at === "sending" };
}

/** Answers after which the server may or may not have carried the order out. */
function isUncertain(code: Code): boolean {
  return [Code.Unavailable, Code.DeadlineExceeded, Code.Unknown, Code.Canceled, Code.Internal, Code.Unauthenticated].includes(code);
}

/** From this many hosts on an order is typed out. */
export const TYPED_FROM = 50;

/** Hosts that a plan concerns. */
export function hostsOf(plan: Outcome): number {
  return plan.hosts.reduce((sum, ring) => sum + ring.hosts.length, 0);
}

/** What must be typed before a large order goes out; nothing for small ones and for brakes. */
export function mustType(plan: Outcome, brake: boolean, word: string): string | undefined {
  return !brake && hostsOf(plan) >= TYPED_FROM ? word : undefined;
}

/** Why the button cannot be pressed, in words; nothing where it can. */
export function blocked(stage: Stage, reason: string, typed: string, wanted: string | undefined): string | undefined {
  switch (stage.at) {
    case "checking":
      return "asking the server what would happen";
    case "refused":
      return stage.why;
    case "sending":
      return "sent, waiting for the answer";
    case "done":
      return "done";
    case "unknown":
      return undefined;
    case "ready":
      if (reason.trim() === "") return "write a reason first";
      if (new TextEncoder().encode(reason).length > 4096) return "the reason is longer than 4,096 bytes";
      if (wanted !== undefined && typed.trim() !== wanted) return `type ${wanted} to confirm`;
      return undefined;
  }
}
