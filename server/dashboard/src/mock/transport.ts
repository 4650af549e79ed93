/** The admin API without a server: the same messages, made up. In builds for tests only. */
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createRouterTransport, type Interceptor, type Transport } from "@connectrpc/connect";
import {
  AuditService,
  FleetService,
  IncidentViewSchema,
  MemberKind,
  MemberViewSchema,
  OutcomeSchema,
  PolicyService,
  ReleaseService,
  ReleaseViewSchema,
  RolloutService,
  Standing,
  SuspectService,
  SuspectViewSchema,
  WatchService,
  type Act,
  type Andon,
  type MemberView,
  type Outcome,
  type ReleaseView,
  type RolloutView,
  type WatchEvent,
} from "../gen/ringward/v1/admin_pb";
import { OverviewService } from "../gen/ringward/v1/overview_pb";
import { ApprovalService, OrderService, PeopleService, Role } from "../gen/ringward/v1/people_pb";
import { RolloutState, SignalKind, WaitKind, WaitWhySchema } from "../gen/ringward/v1/types_pb";
import { hex, same } from "../model/ids";
import { isOpen } from "./door";
import { NEW, OLD, detailed, digest, feed, hostname, idOf, indexOf, mix } from "./fleet";
import { Orders } from "./orders";
import { advance, deadOf, disaster, halting, quiet, ringSizes, type Scene } from "./rollouts";

const AUDIT = [
  { actor: "dana", action: "token create", object: "token 5f0c", reason: "first hosts" },
  { actor: "dana", action: "release publish", object: "sensor 4.2.0", reason: "weekly" },
  { actor: "dana", action: "rollout start", object: "r-0000000000005ea1", reason: "weekly <b>update</b>" },
  { actor: "ringward", action: "rollout halt", object: "r-0000000000005ea1", reason: "2 of 3 resolved exposures failed" },
  { actor: "miguel", action: "host freeze", object: "h-00000000000000ff", reason: "needed for evidence \u202e" },
];
const SUSPECT = create(SuspectViewSchema, {
  changes: ["C-00000291*.sys sha256 9f3c20b1…", "sensor 4.2.0 → content 291", "service sensor restarted"],
  more: 1n,
  exposed: 22n,
  failed: 19n,
  others: 181n,
  othersFailed: 0n,
  chance: 2e-9,
  named: true,
  sentence: "19 of 22 hosts with C-00000291*.sys failed within 4 min; 0 of 181 without it",
});
const incident = (dead: Set<number>) =>
  create(IncidentViewSchema, {
    number: 3n,
    openedUnixMs: BigInt(Date.now() - 190_000),
    cause: "19 hosts failed within 4 min, where 0.1 were to be expected",
    failed: BigInt(dead.size),
    failedHosts: [...dead].map(idOf),
    suspects: [SUSPECT],
    atRisk: [30, 31, 32].map(idOf),
    atRiskCount: 3n,
    proposal: "roll back what they share: `ringwardctl rollouts rollback sensor@4.2.0 --reason 'incident 3'`",
  });
const SCENES: Scene[] = ["quiet", "halting", "disaster", "empty", "busy", "stalled", "hostile"];

class World {
  rollouts: RolloutView[] = [];
  releases: ReleaseView[] = [];
  andon: Andon | undefined;
  frozen = new Set<bigint>();
  done = new Map<string, Outcome>();
  orders = 0;
  hostOrders = new Orders();
  private waiting: (() => void)[] = [];

  constructor(
    readonly scene: Scene,
    readonly hosts: number,
  ) {
    const now = Date.now();
    if (scene !== "empty") {
      const of = { quiet, busy: quiet, stalled: quiet, halting, hostile: halting, disaster }[scene];
      this.rollouts = hosts > 0 ? of(hosts, now) : [];
      this.releases = [
        this.release(NEW, "4.2.0", scene === "disaster" ? Standing.BAD : Standing.UNPROVEN, now - 7_200_000, hosts > 100 ? 9 : 1),
        this.release(OLD, "4.1.3", Standing.GOOD, now - 6 * 86_400_000, hosts),
        this.release(digest(2), "4.0.9", Standing.GOOD, now - 40 * 86_400_000, 0),
      ];
    }
    if (scene === "hostile") {
      const bad = this.rollouts[0]!;
      bad.reason = `<img src=x onerror="document.title='owned'"> \u202eevil\u202c ${"r".repeat(4000)}`;
      bad.stateReason = `<b>bold</b> & "quoted" \u2066reordered\u2069`;
      bad.startedBy = "dana\u202e";
    }
    if (scene === "disaster") {
      this.hostOrders = Orders.ofDisaster(now);
      this.andon = { $typeName: "ringward.v1.Andon", actor: "dana", reason: "Hosts die on sensor 4.2.0", sinceUnixMs: BigInt(now - 70_000) };
    }
  }

  private release(release: Uint8Array<ArrayBuffer>, version: string, standing: Standing, at: number, running: number): ReleaseView {
    return create(ReleaseViewSchema, {
      release,
      package: "sensor",
      version,
      standing,
      publishedUnixMs: BigInt(at),
      signedBy: ["7c1f0a22", "b04e91d7"],
      bytes: 18_400_000n,
      hostsRunning: BigInt(running),
    });
  }

  changed(): void {
    for (const wake of this.waiting.splice(0)) wake();
  }

  async change(signal: AbortSignal): Promise<void> {
    await new Promise<void>((wake) => {
      this.waiting.push(wake);
      signal.addEventListener("abort", () => wake(), { once: true });
      if (this.scene === "busy" || this.scene === "stalled") setTimeout(wake, 100);
    });
  }

  /** Carries an order out once per request id. */
  act(act: Act | undefined, plan: Omit<Outcome, "$typeName" | "$unknown">, apply: () => void): Outcome {
    if (!act || act.requestId.length !== 16) throw new ConnectError("act.request_id: is not 16 bytes", Code.InvalidArgument);
    const known = this.done.get(hex(act.requestId));
    if (known) return known;
    const outcome = create(OutcomeSchema, plan);
    if (act.dryRun) return outcome;
    apply();
    this.orders += 1;
    document.documentElement.dataset.orders = String(this.orders);
    this.done.set(hex(act.requestId), outcome);
    this.changed();
    return outcome;
  }

  find(id: bigint): RolloutView {
    const found = this.rollouts.find((r) => r.id === id);
    if (!found) throw new ConnectError("this rollout does not exist; list them with `ringwardctl rollouts list`", Code.NotFound);
    return found;
  }

  set(id: bigint, state: RolloutState, reason: string): void {
    this.rollouts = this.rollouts.map((r) => (r.id === id ? { ...r, state, stateReason: reason } : r));
  }

  plan(summary: string, hosts: number): Omit<Outcome, "$typeName" | "$unknown"> {
    const [a, b] = ringSizes(hosts);
    const names = ["canary", "early", "broad"];
    const cut = [Math.min(a, hosts), Math.max(0, Math.min(b, hosts - a)), Math.max(0, hosts - a - b)];
    let next = 0;
    return {
      summary,
      hosts: names
        .map((ring, i) => ({ $typeName: "ringward.v1.RingHosts" as const, ring, hosts: Array.from({ length: Math.min(1000, cut[i]!) }, () => idOf(next++)) }))
        .filter((r) => r.hosts.length > 0),
      leftOut: [],
      warnings: [],
      rollout: undefined,
    };
  }
}

const number = (text: string | null, otherwise: number) => (text !== null && /^\d+$/u.test(text) ? Number(text) : otherwise);

/** A transport that answers by itself: `?scene=quiet&hosts=203`. */
export function mockTransport(search: URLSearchParams, interceptors: Interceptor[]): Transport {
  const asked = search.get("scene") as Scene;
  const scene = SCENES.includes(asked) ? asked : "quiet";
  const world = new World(scene, scene === "empty" ? 0 : number(search.get("hosts"), 203));
  const trouble = { dead: deadOf(scene, world.hosts), hostile: scene === "hostile" };
  const order = (id: bigint, act: Act | undefined, verb: string, from: RolloutState[], to: RolloutState) => {
    const now = world.find(id);
    if (!from.includes(now.state)) {
      throw new ConnectError(`${verb} is not possible now: the rollout is not in a state for it; look at how it stands`, Code.FailedPrecondition);
    }
    return world.act(act, world.plan(`${verb}: ${now.package} ${now.version}`, 0), () => world.set(id, to, `${act?.reason ?? ""} (dana)`));
  };
  const { RUNNING, HELD, HALTED, PAUSED, ABORTED } = RolloutState;
  return createRouterTransport(
    ({ service }) => {
      service(FleetService, {
        status: () => {
          if (!isOpen()) throw new ConnectError("the session is over: sign in again", Code.Unauthenticated);
          return { version: "0.1.0", hosts: BigInt(world.hosts), connected: BigInt(Math.max(0, world.hosts - trouble.dead.size)), epoch: 1n, fleetClockMs: 1n };
        },
        getHost: ({ host: id }) => {
          const i = indexOf(id);
          if (i < 0 || i >= world.hosts) throw new ConnectError("this host does not exist; list them with `ringwardctl hosts list`", Code.NotFound);
          const view = detailed(i, trouble);
          if (world.frozen.has(id)) view.attention.push("frozen by a person");
          return view;
        },
        freeze: ({ act, host: id }) => world.act(act, world.plan(`${hostname(indexOf(id))} takes no changes from now on`, 0), () => world.frozen.add(id)),
        unfreeze: ({ act, host: id }) => world.act(act, world.plan(`${hostname(indexOf(id))} takes changes again`, 0), () => world.frozen.delete(id)),
        approveHost: ({ act }) => world.act(act, world.plan("The host takes part", 0), () => {}),
        retireHost: ({ act }) => world.act(act, world.plan("The host leaves the fleet; its certificate is revoked", 0), () => {}),
      });
      service(ReleaseService, {
        list: () => ({ releases: world.releases }),
        get: ({ release }) => ({ view: world.releases.find((r) => same(r.release, release)) }),
        markGood: ({ act, release }) => world.act(act, world.plan("Standing: good", 0), () => void (world.releases = world.releases.map((r) => (same(r.release, release) ? { ...r, standing: Standing.GOOD } : r)))),
        markBad: ({ act, release }) => world.act(act, world.plan("Standing: bad; barred on the fleet", 0), () => void (world.releases = world.releases.map((r) => (same(r.release, release) ? { ...r, standing: Standing.BAD } : r)))),
        liftBar: ({ act, release }) => world.act(act, world.plan("Bars lifted", 0), () => void (world.releases = world.releases.map((r) => (same(r.release, release) ? { ...r, standing: Standing.UNPROVEN } : r)))),
      });
      service(RolloutService, {
        start: ({ act }) => world.act(act, { ...world.plan(`A rollout to ${world.hosts} hosts would start with 1 host of canary`, world.hosts), warnings: ["A fleet of this size detects failure rates above 2.1 %"] }, () => {}),
        rollback: ({ act }) =>
          world.act(act, world.plan(`Rolls 3 hosts back from sensor 4.2.0 to 4.1.3; 4.2.0 becomes bad`, 3), () => {
            world.rollouts = [disaster(Math.max(world.hosts, 40), Date.now())[0]!, ...world.rollouts.map((r) => (r.state === HALTED ? { ...r, state: ABORTED, stateReason: "Rolled back" } : r))];
          }),
        pause: ({ act, rollout }) => order(rollout, act, "Pause", [RUNNING, HELD], PAUSED),
        resume: ({ act, rollout }) => order(rollout, act, "Resume", [PAUSED, HALTED], RUNNING),
        abort: ({ act, rollout }) => order(rollout, act, "Abort", [RUNNING, HELD, HALTED, PAUSED], ABORTED),
        stopAll: ({ act }) =>
          world.act(act, world.plan(`Pauses ${world.rollouts.filter((r) => r.state === RUNNING).length} rollouts`, 0), () => {
            world.andon = { $typeName: "ringward.v1.Andon", actor: "dana", reason: act?.reason ?? "", sinceUnixMs: BigInt(Date.now()) };
          }),
        resumeAll: ({ act }) => world.act(act, world.plan("Lifts the andon", 0), () => void (world.andon = undefined)),
        list: () => ({ rollouts: world.rollouts, andon: world.andon }),
        get: ({ rollout }) => world.find(rollout),
        members: ({ rollout, ring, kinds, pageSize }) => {
          const view = world.find(rollout);
          const named = [...view.failedHosts, ...view.silentHosts];
          const sizes = ringSizes(world.hosts);
          const start = ring === "early" ? sizes[0] : ring === "broad" ? sizes[0] + sizes[1] : 0;
          const length = Number(view.rings.find((r) => r.name === ring)?.members ?? world.hosts);
          const rest: MemberView[] = Array.from({ length: Math.min(length, pageSize || 200) }, (_, i) => create(MemberViewSchema, {
            host: idOf(start + i),
            hostname: hostname(start + i),
            state: { kind: MemberKind.WAITING, detail: { case: "waiting", value: create(WaitWhySchema, { kind: WaitKind.EARLIER_RING }) } },
            forMs: 240_000n,
          }));
          const all = [...named, ...rest.filter((m) => !named.some((o) => o.host === m.host))];
          return { members: kinds.length > 0 ? all.filter((m) => kinds.includes(m.state!.kind)) : all };
        },
      });
      service(PolicyService, {
        get: () => ({
          rings: ["canary", "early", "broad"].map((name, i) => ({ name, matches: `${[1, 9, 90][i]} % of all hosts`, hosts: BigInt(ringSizes(world.hosts)[i]!), soakMs: 900_000n, verifyBoot: i === 0 })),
          appliedBy: "dana",
          appliedUnixMs: BigInt(Date.now() - 86_400_000),
        }),
      });
      service(OverviewService, {
        fleet: async function* ({ picture, revision }) {
          const [a, b] = ringSizes(world.hosts);
          if (picture === 7n && revision === 1n) yield { picture, revision, caughtUp: true, fleetClockMs: 90_000_000n };
          else yield* feed(world.hosts, trouble, (i) => (scene === "empty" ? "" : i < a ? "canary" : i < a + b ? "early" : "broad"));
        },
        signals: () => {
          const now = Math.floor(Date.now() / 60_000) * 60_000;
          const loud = trouble.dead.size;
          const kinds = [SignalKind.BUGCHECK, SignalKind.UNCLEAN_BOOT, SignalKind.SERVICE_FAILED, SignalKind.CHANGE];
          return {
            bucketMs: 60_000n,
            sinceUnixMs: BigInt(now - 6 * 3_600_000),
            nowUnixMs: BigInt(now + 20_000),
            buckets:
              scene === "empty"
                ? []
                : Array.from({ length: 360 }, (_, i) => ({
                    startUnixMs: BigInt(now - (359 - i) * 60_000),
                    counts: kinds.map((kind, k) => ({ kind, count: k < 2 ? (i > 352 ? Math.ceil(loud / 4) : 0) : mix(i * 7 + k) % 23 === 0 ? 1 : 0 })).filter((c) => c.count > 0),
                  })),
          };
        },
        history: ({ rollout }) => {
          const view = world.find(rollout);
          const begun = Number(view.startedUnixMs);
          const t = view.rings.reduce((n, r) => ({ confirmed: n.confirmed + Number(r.confirmed), dead: n.dead + Number(r.failed + r.silent + r.reverted), flight: n.flight + Number(r.inFlight) }), { confirmed: 0, dead: 0, flight: 0 });
          const span = Math.max(1, Date.now() - begun);
          const samples = Array.from({ length: 30 }, (_, i) => {
            const share = ((i + 1) / 30) ** 2;
            const late = Math.max(0, (i - 23) / 6);
            return {
              atUnixMs: BigInt(Math.floor(begun + (span * (i + 1)) / 30)),
              exposed: BigInt(Math.round((t.confirmed + t.dead + t.flight) * share)),
              confirmed: BigInt(Math.round(t.confirmed * share)),
              failed: BigInt(Math.round(t.dead * late)),
              signals: BigInt(Math.round(t.dead * late * 2)),
            };
          });
          const steps = [
            { atUnixMs: BigInt(begun), ring: "", words: "running" },
            { atUnixMs: BigInt(begun), ring: "canary", words: "open" },
            ...(t.dead > 0 ? [{ atUnixMs: BigInt(Date.now() - 20_000), ring: "canary", words: `${t.dead} more failed, ${t.dead} in all` }] : []),
            ...(view.stateReason ? [{ atUnixMs: BigInt(Date.now() - 19_000), ring: "", words: `halted: ${view.stateReason}` }] : []),
          ];
          return { samples, steps };
        },
      });
      service(PeopleService, {
        whoAmI: () => ({ name: "dana", grants: (search.get("role") === "viewer" ? [Role.VIEWER] : [Role.OPERATOR, Role.RESPONDER, Role.APPROVER, Role.ADMIN]).map((role) => ({ role })) }),
      });
      service(OrderService, {
        list: () => ({ orders: world.hostOrders.given }),
        get: ({ order: id }) => world.hostOrders.given.find((o) => o.id === id) ?? {},
        hosts: ({ order: id }) => ({ hosts: world.hostOrders.hostsOf(id) }),
        place: ({ act, spec }) => {
          const { outcome, apply } = world.hostOrders.plan(act, spec);
          return world.act(act, outcome, apply);
        },
        cancel: ({ act }) => world.act(act, world.plan("Cancels what is not done", 0), () => {}),
      });
      service(ApprovalService, {
        list: () => ({ approvals: world.hostOrders.approvals }),
        approve: ({ act, approval }) => world.act(act, world.plan("Quarantines 61 hosts", 61), () => world.hostOrders.settle(approval, "approved")),
        deny: ({ act, approval }) => world.act(act, world.plan("Denied", 0), () => world.hostOrders.settle(approval, "denied")),
      });
      service(SuspectService, {
        listIncidents: () => ({ incidents: scene === "disaster" ? [incident(trouble.dead)] : [] }),
        getIncident: () => incident(trouble.dead),
        listSuspects: () => ({ suspects: trouble.dead.size > 0 ? [SUSPECT] : [], hosts: BigInt(world.hosts), failed: BigInt(trouble.dead.size) }),
      });
      service(AuditService, {
        head: () => ({ size: scene === "empty" ? 0n : BigInt(AUDIT.length), root: digest(77) }),
        list: ({ from, pageSize }) => ({
          size: BigInt(AUDIT.length),
          entries: AUDIT.slice(Number(from), Number(from) + (pageSize || 200)).map((entry, i) => ({ index: from + BigInt(i), entry: new TextEncoder().encode(JSON.stringify({ at_unix_ms: Date.now() - (AUDIT.length - i) * 60_000, ...entry })), leafHash: digest(i) })),
        }),
      });
      service(WatchService, {
        watch: async function* (_request, context) {
          const event = (e: WatchEvent["event"]) => ({ event: e });
          const told = () => world.rollouts.map((value) => event({ case: "rollout", value }));
          yield event({ case: "andon", value: { $typeName: "ringward.v1.AndonChange", andon: world.andon } });
          yield* told();
          yield event({ case: "caughtUp", value: { $typeName: "ringward.v1.Unit" } });
          for (let tick = 0; !context.signal.aborted; tick += 1) {
            await world.change(context.signal);
            if (scene === "stalled") world.rollouts = world.rollouts.map((r) => advance(r, tick));
            if (scene === "stalled") continue;
            if (scene === "busy") world.rollouts = world.rollouts.map((r) => advance(r, tick));
            yield event({ case: "andon", value: { $typeName: "ringward.v1.AndonChange", andon: world.andon } });
            yield* told();
          }
        },
      });
    },
    { transport: { interceptors } },
  );
}
