/** Orders to hosts in words. */
import { OrderFailure, OrderOrigin, OrderRefusal, UndoneWhy, type ContainmentObserved, type OrderObserved } from "../gen/ringward/v1/types_pb";
import { CapKind, type OrderHostView, type OrderSpec, type OrderView } from "../gen/ringward/v1/people_pb";
import { hostName, short } from "./ids";
import type { Look } from "./lanes";
import { count, visible } from "./text";
import { span } from "./time";

/** What an order does, in a few words. */
export function orderVerb(spec: OrderSpec | undefined): string {
  const kind = spec?.kind;
  switch (kind?.case) {
    case "quarantine":
      return "quarantine";
    case "release":
      return "release from quarantine";
    case "rollback":
      return `roll back ${visible(kind.value.package)}${kind.value.to ? ` to ${visible(kind.value.to)}` : ""}`;
    case "freeze":
      return "freeze";
    case "unfreeze":
      return "unfreeze";
    case "pin":
      return `pin ${visible(kind.value)}`;
    case "unpin":
      return `unpin ${visible(kind.value)}`;
    case "reboot":
      return "reboot";
    case "collect":
      return "collect evidence";
    default:
      return "an order newer than this page";
  }
}

/** Whom it goes to. */
export function orderTo(spec: OrderSpec | undefined): string {
  const to = spec?.to?.to;
  switch (to?.case) {
    case "hosts":
      return to.value.hosts.length === 1 ? hostName(to.value.hosts[0]!) : count(to.value.hosts.length, "host");
    case "selector":
      return `hosts with ${visible(to.value)}`;
    case "ring":
      return `ring ${visible(to.value)}`;
    case "release":
      return `hosts that run ${short(to.value)}`;
    case "everything":
      return "the whole fleet";
    default:
      return "listed below";
  }
}

export const COUNTS: { name: string; look: Look }[] = [
  { name: "wait under a cap", look: "waiting" },
  { name: "pending", look: "waiting" },
  { name: "delivered", look: "flight" },
  { name: "done", look: "confirmed" },
  { name: "failed", look: "failed" },
  { name: "expired", look: "deferred" },
  { name: "cancelled", look: "refused" },
];

/** Under which of COUNTS a host is counted. */
export function countOf(host: OrderHostView): string {
  switch (host.progress.case) {
    case "overCap":
      return "wait under a cap";
    case "pending":
    case "delivered":
    case "done":
    case "expired":
    case "cancelled":
      return host.progress.case;
    default:
      return "failed";
  }
}

/** Hosts that it may still reach. */
export function openHosts(order: OrderView): bigint {
  return (order.counts[0] ?? 0n) + (order.counts[1] ?? 0n) + (order.counts[2] ?? 0n);
}

const CAPS: Record<CapKind, string> = {
  [CapKind.UNSPECIFIED]: "a cap",
  [CapKind.HOUR]: "hosts of the fleet an hour",
  [CapKind.RING]: "hosts of its ring an hour",
  [CapKind.GROUP]: "hosts of its redundancy group at once",
  [CapKind.SHARE]: "part of the fleet isolated at once",
};
const REFUSED: Record<OrderRefusal, string> = {
  [OrderRefusal.UNSPECIFIED]: "it did not say why",
  [OrderRefusal.LOCAL_POLICY]: "its local policy forbids it",
  [OrderRefusal.RATE_LIMIT]: "its local policy allows fewer in this time",
  [OrderRefusal.QUORUM]: "its local policy wants more endorsements",
  [OrderRefusal.NOT_NAMED]: "the endorsed order does not name it",
  [OrderRefusal.EXPIRED]: "its time has passed",
  [OrderRefusal.ALLOW_TOO_WIDE]: "the allow list is wider than its local policy permits",
  [OrderRefusal.UNSUPPORTED]: "it cannot do this",
};
const FAILED: Record<OrderFailure, string> = {
  [OrderFailure.UNSPECIFIED]: "it did not say why",
  [OrderFailure.SYSTEM]: "its system reported an error",
  [OrderFailure.DISK]: "its disk is full or read-only",
  [OrderFailure.INTERRUPTED]: "it restarted in between",
};
const UNDONE: Record<UndoneWhy, string> = {
  [UndoneWhy.UNSPECIFIED]: "it did not say why",
  [UndoneWhy.SERVER_UNREACHABLE]: "the server was reachable before and not after",
  [UndoneWhy.FIREWALL]: "its firewall took no rules",
  [UndoneWhy.DISK]: "its disk is full or read-only",
};

/** How an order stands on one host. */
export function progressOf(host: OrderHostView): { look: Look; words: string } {
  const p = host.progress;
  switch (p.case) {
    case "overCap":
      return { look: "waiting", words: `waits for room: ${CAPS[p.value] ?? "a cap"}` };
    case "pending":
      return { look: "waiting", words: "not told yet" };
    case "delivered":
      return { look: "flight", words: "it knows" };
    case "done":
      return { look: "confirmed", words: "done" };
    case "refused":
      return { look: "refused", words: `refused: ${REFUSED[p.value] ?? "for a reason newer than this page"}` };
    case "failed":
      return { look: "failed", words: `failed: ${FAILED[p.value] ?? "for a reason newer than this page"}` };
    case "undone":
      return { look: "reverted", words: `isolated itself and undid it: ${UNDONE[p.value] ?? "for a reason newer than this page"}` };
    case "superseded":
      return { look: "deferred", words: "a later order took its place" };
    case "retired":
      return { look: "deferred", words: "the host left the fleet" };
    case "expired":
      return { look: "deferred", words: "the order's life ended first" };
    case "cancelled":
      return { look: "refused", words: "cancelled first" };
    default:
      return { look: "waiting", words: "a state newer than this page" };
  }
}

const ORIGINS: Record<OrderOrigin, string> = {
  [OrderOrigin.UNSPECIFIED]: "",
  [OrderOrigin.AUTOMATIC]: "by the server itself",
  [OrderOrigin.PERSON]: "",
  [OrderOrigin.TWO_PERSONS]: "",
  [OrderOrigin.BREAK_GLASS]: "alone, where two were needed",
};

/** By whose word. */
export function byWhom(order: OrderView): string {
  const with_ = order.approvedBy ? `, approved by ${visible(order.approvedBy)}` : "";
  const how = ORIGINS[order.origin] ?? "";
  return `${visible(order.author)}${with_}${how ? `, ${how}` : ""}`;
}

/** "2 h 4 min left". */
export const leftOf = (ms: bigint): string => (ms === 0n ? "over" : `${span(ms)} left`);

/** How a host stands with its isolation; nothing where it is open and none was asked for. */
export function containmentOf(told: ContainmentObserved | undefined): { isolated: boolean; words: string; order?: bigint } | undefined {
  const state = told?.state;
  switch (state?.case) {
    case "closing":
      return { isolated: true, words: "closed, not proved yet", order: state.value };
    case "closed":
      return {
        isolated: true,
        words: state.value.leftMs === undefined ? "isolated until released" : `isolated for ${span(state.value.leftMs)} more`,
        order: state.value.order,
      };
    case "expired":
      return { isolated: false, words: "open; its isolation ended by itself", order: state.value };
    case "undone":
      return { isolated: false, words: `open; it isolated itself and undid it: ${UNDONE[state.value.why] ?? "for a reason newer than this page"}`, order: state.value.order };
    case "refused":
      return { isolated: false, words: `open; it refused: ${REFUSED[state.value.why] ?? "for a reason newer than this page"}`, order: state.value.order };
    default:
      return undefined;
  }
}

/** One order as its host sees it. */
export function observedOrder(o: OrderObserved): { look: Look; words: string } {
  switch (o.state.case) {
    case "taken":
      return { look: "waiting", words: "accepted, waits for its moment" };
    case "running":
      return { look: "flight", words: "under way" };
    case "done":
      return { look: "confirmed", words: "done" };
    case "failed":
      return { look: "failed", words: `failed: ${FAILED[o.state.value] ?? "for a reason newer than this page"}` };
    case "refused":
      return { look: "refused", words: `refused: ${REFUSED[o.state.value] ?? "for a reason newer than this page"}` };
    default:
      return { look: "waiting", words: "a state newer than this page" };
  }
}
