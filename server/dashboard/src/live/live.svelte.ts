/** One stream feeds the whole page; when it is cut it is resumed, and the page says how old it is. */
import type { Andon, RolloutView, StatusResponse } from "../gen/ringward/v1/admin_pb";
import { RolloutState } from "../gen/ringward/v1/types_pb";
import { retryMs, type Link } from "../model/stale";
import { connect, type Clients, type Heard } from "./clients";
import { current, type Session } from "./session";

/** Changes are drawn at most this often: eight a second is as fast as people see. */
const DRAW_EVERY_MS = 120;
/** The server is asked how it stands this often: a stream alone cannot tell silence from a cut. */
const ASK_EVERY_MS = 4_000;
const ASK_TIMEOUT_MS = 3_500;
/** Every so many askings the rollouts are listed too: what a stream lost comes right by itself. */
const LIST_EVERY = 3;
/** Askings without an answer after which the stream is taken for dead and opened anew. */
const CUT_AFTER = 2;
const NOTICES_MAX = 50;

export interface NoticeLine {
  atMs: number;
  line: string;
  rollout: bigint | undefined;
}

export function isOver(state: RolloutState): boolean {
  return state === RolloutState.COMPLETED || state === RolloutState.ABORTED;
}

class Live implements Heard {
  link = $state<Link>("connecting");
  session = $state.raw<Session | undefined>(undefined);
  /** A session was there and ended by itself: not by the person's own word. */
  ended = $state(false);
  /** By id; newest first. */
  rollouts = $state.raw<RolloutView[]>([]);
  andon = $state.raw<Andon | undefined>(undefined);
  status = $state.raw<StatusResponse | undefined>(undefined);
  notices = $state.raw<NoticeLine[]>([]);
  /** Everything that stood has been told at least once. */
  caughtUp = $state(false);
  /** On the clock that only runs forwards. */
  heardAtMs = $state<number | undefined>(undefined);
  nowMs = $state(performance.now());
  /** Server's wall clock minus this computer's. */
  offsetMs = $state(0);

  clients!: Clients;
  private watching = new AbortController();
  private byId = new Map<bigint, RolloutView>();
  private drawing = false;
  private drawnAtMs = -Infinity;
  /** The run that listens and asks now; one that was ended by a sign-out wakes up to see that it is over. */
  private running: object | undefined;

  async start(): Promise<void> {
    this.clients = await connect(this);
    setInterval(() => (this.nowMs = performance.now()), 1_000);
    await this.enter();
  }

  /** Looks who is signed in, and begins to listen. */
  async enter(): Promise<void> {
    try {
      this.session = await current();
    } catch {
      this.link = "cut";
    }
    if (this.session === undefined && this.link !== "cut") {
      this.link = "signed-out";
      return;
    }
    this.link = "connecting";
    this.ended = false;
    if (this.running) return;
    const run = {};
    this.running = run;
    void this.listen(run);
    void this.ask(run);
  }

  answered(serverUnixMs: number | undefined): void {
    this.heardAtMs = performance.now();
    // The header counts whole seconds: half a second is the middle of what it may mean.
    if (serverUnixMs !== undefined) this.offsetMs = serverUnixMs + 500 - Date.now();
  }

  /** The session is over; `asked`: because the person said so. */
  signedOut(asked = false): void {
    this.ended = !asked && (this.ended || this.session !== undefined);
    this.link = "signed-out";
    this.session = undefined;
  }

  /** The server's wall clock, as far as this page knows it. */
  serverNowMs(): number {
    return Date.now() + this.offsetMs;
  }

  rollout(id: bigint): RolloutView | undefined {
    return this.rollouts.find((r) => r.id === id);
  }

  private async listen(run: object): Promise<void> {
    let tries = 0;
    while (this.running === run) {
      try {
        // Nobody answered when the page was opened.
        this.session ??= await current();
        if (this.session === undefined) this.signedOut();
        if (this.stopped()) return;
        for await (const event of this.clients.watch.watch({}, { timeoutMs: 0, signal: this.watching.signal })) {
          tries = 0;
          this.link = "live";
          this.answered(undefined);
          this.take(event.event);
        }
      } catch {
        // Told by the link's state; the next try says more.
      }
      if (this.stopped()) return;
      this.link = "cut";
      await new Promise((wake) => setTimeout(wake, retryMs(tries, Math.random())));
      tries += 1;
    }
  }

  private stopped(): boolean {
    if (this.link !== "signed-out") return false;
    this.running = undefined;
    return true;
  }

  private take(event: import("../gen/ringward/v1/admin_pb").WatchEvent["event"]): void {
    switch (event.case) {
      case "rollout":
        this.put([event.value]);
        break;
      case "andon":
        this.andon = event.value.andon;
        break;
      case "notice":
        this.notices = [
          { atMs: this.serverNowMs(), line: event.value.line, rollout: event.value.rollout },
          ...this.notices,
        ].slice(0, NOTICES_MAX);
        break;
      case "caughtUp":
        this.draw();
        // Drawn before it is said: else the page would claim for a moment that there is nothing.
        void this.list().finally(() => {
          this.draw();
          this.caughtUp = true;
        });
        break;
    }
  }

  /** Takes views over, and draws them: at once where nothing was drawn just now. */
  put(views: RolloutView[]): void {
    for (const view of views) this.byId.set(view.id, view);
    if (this.drawing) return;
    this.drawing = true;
    setTimeout(() => {
      this.drawing = false;
      this.draw();
    }, Math.max(0, this.drawnAtMs + DRAW_EVERY_MS - performance.now()));
  }

  private draw(): void {
    this.drawnAtMs = performance.now();
    const newest = (a: RolloutView, b: RolloutView) =>
      a.startedUnixMs === b.startedUnixMs ? (a.id < b.id ? 1 : -1) : a.startedUnixMs < b.startedUnixMs ? 1 : -1;
    this.rollouts = [...this.byId.values()].sort(newest);
  }

  private async ask(run: object): Promise<void> {
    let unheard = 0;
    for (let round = 0; this.running === run; round += 1) {
      try {
        this.status = await this.clients.fleet.status({}, { timeoutMs: ASK_TIMEOUT_MS });
        unheard = 0;
        if (round % LIST_EVERY === LIST_EVERY - 1) await this.list();
      } catch {
        // The age of what is shown grows, and is shown. A stream over a connection that died without
        // a word would never end by itself.
        unheard += 1;
        if (unheard % CUT_AFTER === 0) {
          this.watching.abort();
          this.watching = new AbortController();
        }
      }
      await new Promise((wake) => setTimeout(wake, ASK_EVERY_MS));
    }
  }

  /** The newest rollouts and the andon, as they stand. */
  async list(): Promise<void> {
    const answer = await this.clients.rollouts.list({ pageSize: 50 }, { timeoutMs: ASK_TIMEOUT_MS });
    this.andon = answer.andon;
    this.put(answer.rollouts);
  }
}

export const live = new Live();
