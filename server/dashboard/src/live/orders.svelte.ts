/** Orders to hosts on offer, and what a second person may say. */
import type { ApprovalView, OrderSpec, OrderView } from "../gen/ringward/v1/people_pb";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { OrderSpecSchema } from "../gen/ringward/v1/people_pb";
import { openHosts, orderTo, orderVerb } from "../model/orders";
import { sentence, visible } from "../model/text";
import type { Offer } from "./acts.svelte";
import { live } from "./live.svelte";
import { me } from "./me.svelte";

/** How long hosts that are away may still take an order up. */
const LIFE_MS = 24n * 3_600_000n;
/** A quarantine ends by itself after a day of powered-on time. */
const QUARANTINE_MS = 24n * 3_600_000n;

type Kind = NonNullable<MessageInitShape<typeof OrderSpecSchema>["kind"]>;

export const QUARANTINE: Kind = { case: "quarantine", value: { allow: [], lifeMs: QUARANTINE_MS } };
export const UNIT = { $typeName: "ringward.v1.Unit" as const };

const WORDS: Record<string, string> = {
  quarantine: "The host is cut off from the network but for the control servers, for 24 h of powered-on time unless it is released before. It proves first that it still reaches the server.",
  release: "The host's network is restored exactly as it was.",
  reboot: "The host reboots, its guard armed first.",
  collect: "The host looks through its crash evidence anew and reports it.",
};

/** An order to one host. */
export function orderHost(host: bigint, name: string, kind: Kind, verb: string): Offer {
  const why = me.lacks("contain");
  if (why) return { why };
  const spec: OrderSpec = create(OrderSpecSchema, {
    kind,
    to: { to: { case: "hosts", value: { hosts: [host] } } },
    lifeMs: LIFE_MS,
  });
  return {
    order: {
      title: `${verb}: ${visible(name).slice(0, 60)}`,
      verb,
      words: WORDS[kind.case ?? ""] ?? "",
      brake: false,
      word: "",
      reason: "",
      call: (act) => live.clients.orders.place({ act, spec }),
    },
  };
}

export function cancel(order: OrderView): Offer {
  const why = me.lacks("contain");
  if (why) return { why };
  if (openHosts(order) === 0n) return { why: "nothing of it is left to do" };
  return {
    order: {
      title: `Cancel: ${orderVerb(order.spec)}, ${orderTo(order.spec)}`,
      verb: "Cancel it",
      words: "What is not done yet is not done. What is done stays.",
      brake: true,
      word: "",
      reason: "Cancelled",
      call: (act) => live.clients.orders.cancel({ act, order: order.id }),
    },
  };
}

export function approve(approval: ApprovalView): Offer {
  const why = me.lacks("approve") ?? (me.person && me.person.name === approval.author ? "you asked for it yourself" : undefined);
  if (why) return { why };
  return {
    order: {
      title: "Approve as the second person",
      verb: "Approve",
      words: sentence(visible(approval.summary)).slice(0, 300),
      brake: false,
      word: "approve",
      reason: "",
      call: (act) => live.clients.approvals.approve({ act, approval: approval.id, digest: approval.digest }),
    },
  };
}

export function deny(approval: ApprovalView): Offer {
  const why = me.lacks("approve");
  if (why) return { why };
  return {
    order: {
      title: "Say no",
      verb: "Deny",
      words: sentence(visible(approval.summary)).slice(0, 300),
      brake: true,
      word: "",
      reason: "Not like this",
      call: (act) => live.clients.approvals.deny({ act, approval: approval.id }),
    },
  };
}
