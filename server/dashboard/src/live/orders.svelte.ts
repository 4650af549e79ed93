/** Orders to hosts on offer, and what a second person may say. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { OrderSpecSchema, type ApprovalView, type OrderView } from "../gen/ringward/v1/people_pb";
import { openHosts, orderTo, orderVerb } from "../model/orders";
import { clip, sentence, visible } from "../model/text";
import type { Offer, Widening } from "./acts.svelte";
import { live } from "./live.svelte";
import { me } from "./me.svelte";

/** How long hosts that are away may still take an order up. */
const LIFE_MS = 24n * 3_600_000n;
/** A quarantine ends by itself after a day of powered-on time. */
const QUARANTINE_MS = 24n * 3_600_000n;

type Kind = NonNullable<MessageInitShape<typeof OrderSpecSchema>["kind"]>;
const UNIT = { $typeName: "ringward.v1.Unit" as const };

export type ManyKind = "quarantine" | "release" | "reboot" | "collect" | "freeze" | "unfreeze";

interface What {
  kind: ManyKind;
  verb: string;
  words: string;
  /** What cannot be taken back by a click is typed out for many. */
  disrupts: boolean;
}

/** What the page orders; a rollback is a rollout's page's, a pin is `ringwardctl`'s. */
export const MANY: What[] = [
  {
    kind: "quarantine",
    verb: "Quarantine",
    words: "Cut off from the network but for the control servers, for 24 h of powered-on time unless released before. A host proves first that it still reaches the server.",
    disrupts: true,
  },
  { kind: "release", verb: "Release from quarantine", words: "The network is restored exactly as it was.", disrupts: false },
  { kind: "reboot", verb: "Reboot", words: "It reboots, its guard armed first.", disrupts: true },
  { kind: "collect", verb: "Collect evidence", words: "It looks through its crash evidence anew and reports it.", disrupts: false },
  { kind: "freeze", verb: "Freeze", words: "It takes no changes until it is unfrozen.", disrupts: false },
  { kind: "unfreeze", verb: "Unfreeze", words: "It takes changes again.", disrupts: false },
];

/** What a person may add to an order that disrupts; the server asks for a second person then. */
const WIDER: Widening[] = [
  { key: "includeProtected", words: "Protected hosts too; a second person has to approve" },
  { key: "overCap", words: "Beyond the hourly caps; a second person has to approve" },
];

function kindOf(what: ManyKind): Kind {
  return what === "quarantine" ? { case: what, value: { allow: [], lifeMs: QUARANTINE_MS } } : { case: what, value: UNIT };
}

/** An order to hosts; `named` says to whom, in words. */
export function orderHosts(hosts: () => bigint[], named: string, kind: ManyKind): Offer {
  const why = me.lacks("contain");
  if (why) return { why };
  const what = MANY.find((m) => m.kind === kind)!;
  return {
    order: {
      title: `${what.verb}: ${clip(named, 60).shown}`,
      verb: what.verb,
      words: what.words,
      brake: false,
      word: what.verb.toLowerCase(),
      reason: "",
      wider: what.disrupts ? WIDER : [],
      call: (act, chosen) =>
        live.clients.orders.place({
          act,
          spec: create(OrderSpecSchema, {
            kind: kindOf(kind),
            to: { to: { case: "hosts", value: { hosts: hosts() } } },
            lifeMs: LIFE_MS,
            includeProtected: chosen.has("includeProtected"),
            overCap: chosen.has("overCap"),
          }),
        }),
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
      words: clip(sentence(visible(approval.summary)), 300).shown,
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
      words: clip(sentence(visible(approval.summary)), 300).shown,
      brake: true,
      word: "",
      reason: "Not like this",
      call: (act) => live.clients.approvals.deny({ act, approval: approval.id }),
    },
  };
}
