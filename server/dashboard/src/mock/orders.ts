/** Orders to hosts without a server: caps, a protected host and a second person, as the server has them. */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { OutcomeSchema, type Act, type Outcome } from "../gen/ringward/v1/admin_pb";
import { ApprovalViewSchema, OrderHostViewSchema, OrderViewSchema, type ApprovalView, type OrderHostView, type OrderSpec, type OrderView } from "../gen/ringward/v1/people_pb";
import { OrderOrigin } from "../gen/ringward/v1/types_pb";
import { orderVerb } from "../model/orders";
import { PROTECTED, digest, hostname, idOf, indexOf } from "./fleet";

/** Hosts that one order may disrupt alone. */
const CAP = 10;
const UNIT = { $typeName: "ringward.v1.Unit" as const };

export class Orders {
  given: OrderView[] = [];
  approvals: ApprovalView[] = [];
  private hosts = new Map<bigint, OrderHostView[]>();
  private next = 0xe0n;

  /** What stands on the day of the disaster. */
  static ofDisaster(now: number): Orders {
    const orders = new Orders();
    orders.approvals = [
      create(ApprovalViewSchema, {
        id: 0xa1n,
        digest: digest(5),
        summary: "quarantine 61 hosts of ring early",
        needs: ["61 hosts are more than the cap of 2 an hour"],
        author: "miguel",
        reason: "they talk to a strange address",
        state: { case: "waiting", value: UNIT },
        leftMs: 840_000n,
        hosts: Array.from({ length: 61 }, (_, i) => idOf(i + 3)),
      }),
    ];
    orders.given = [
      create(OrderViewSchema, {
        id: 0xd1n,
        spec: { kind: { case: "quarantine", value: { allow: [], lifeMs: 86_400_000n } }, to: { to: { case: "hosts", value: { hosts: [idOf(0), idOf(1)] } } } },
        author: "dana",
        reason: "needed for evidence",
        origin: OrderOrigin.PERSON,
        issuedUnixMs: BigInt(now - 60_000),
        counts: [0n, 0n, 1n, 1n, 0n, 0n, 0n],
        leftMs: 3_600_000n,
      }),
    ];
    orders.hosts.set(0xd1n, [orders.host(idOf(0), "done"), orders.host(idOf(1), "delivered")]);
    return orders;
  }

  hostsOf(order: bigint): OrderHostView[] {
    return this.hosts.get(order) ?? [];
  }

  /** What an order would do, and how it is done. */
  plan(act: Act | undefined, spec: OrderSpec | undefined): { outcome: Outcome; apply: () => void } {
    const named = spec?.to?.to.case === "hosts" ? spec.to.to.value.hosts : [];
    const disrupts = ["quarantine", "reboot"].includes(spec?.kind.case ?? "");
    const held = disrupts ? named.filter((id) => indexOf(id) === PROTECTED) : [];
    const hosts = spec?.includeProtected ? named : named.filter((id) => !held.includes(id));
    if (hosts.length === 0) {
      throw new ConnectError(`ordering a ${orderVerb(spec)} is not possible now: none of ${named.length} hosts is left: protected: holds the keys; look at what it names with --dry-run`, Code.FailedPrecondition);
    }
    const beyond = disrupts ? Math.max(0, hosts.length - CAP) : 0;
    const needs = [
      ...(spec?.includeProtected && held.length > 0 ? [`${held.length} of the hosts are protected`] : []),
      ...(spec?.overCap && beyond > 0 ? [`${beyond} hosts go beyond a cap`] : []),
    ];
    const summary = `${orderVerb(spec)} for ${hosts.length} hosts`;
    const outcome = create(OutcomeSchema, {
      summary,
      hosts: [{ ring: "now", hosts: hosts.slice(0, 1000) }],
      leftOut: spec?.includeProtected ? [] : held.map((host) => ({ host, why: "protected: holds the keys" })),
      warnings: beyond > 0 && !spec?.overCap ? [`${beyond} hosts wait for room under the cap of ${CAP} an hour`] : [],
    });
    const id = (this.next += 1n);
    if (needs.length > 0 && !act?.breakGlass) {
      outcome.summary = `waits for a second person: ${summary}`;
      outcome.approval = { $typeName: "ringward.v1.PendingApproval", id, digest: digest(Number(id)) };
      outcome.warnings.push(...needs);
      const waiting = create(ApprovalViewSchema, { id, digest: digest(Number(id)), summary, needs, author: "dana", reason: act?.reason, state: { case: "waiting", value: UNIT }, leftMs: 900_000n, hosts });
      return { outcome, apply: () => void (this.approvals = [waiting, ...this.approvals]) };
    }
    outcome.order = id;
    const view = create(OrderViewSchema, {
      id,
      spec,
      author: "dana",
      reason: act?.reason,
      origin: act?.breakGlass ? OrderOrigin.BREAK_GLASS : OrderOrigin.PERSON,
      issuedUnixMs: BigInt(Date.now()),
      counts: [0n, BigInt(hosts.length), 0n, 0n, 0n, 0n, 0n],
      leftMs: spec?.lifeMs,
    });
    return {
      outcome,
      apply: () => {
        this.given = [view, ...this.given];
        this.hosts.set(id, hosts.map((host) => this.host(host, "pending")));
      },
    };
  }

  settle(id: bigint, how: "approved" | "denied"): void {
    this.approvals = this.approvals.map((a) => (a.id === id ? { ...a, state: { case: how, value: "dana" } } : a));
  }

  private host(host: bigint, progress: "pending" | "delivered" | "done"): OrderHostView {
    return create(OrderHostViewSchema, { host, hostname: hostname(indexOf(host)), progress: { case: progress, value: UNIT } });
  }
}
