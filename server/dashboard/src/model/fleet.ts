/**
 * The fleet in columns: a host costs about a hundred bytes here, where its message costs kilobytes.
 * 100,000 hosts fit into a page's memory this way, and a filter runs over them in milliseconds.
 */
import type { HostView } from "../gen/ringward/v1/admin_pb";
import { HostState } from "../gen/ringward/v1/types_pb";
import { hostName } from "./ids";

/** How a host looks at a glance, worst first. */
export const GLANCES = ["attention", "silent", "pending", "trial", "well", "retired"] as const;
export type Glance = (typeof GLANCES)[number];

export const GLANCE_WORDS: Record<Glance, string> = {
  attention: "requires attention",
  silent: "no session",
  pending: "pending approval",
  trial: "in trial",
  well: "well",
  retired: "retired",
};

export function glance(host: HostView): Glance {
  if (host.state === HostState.RETIRED) return "retired";
  if (host.attention.length > 0) return "attention";
  if (host.state === HostState.PENDING) return "pending";
  if (!host.connected) return "silent";
  switch (host.observed?.attempt?.phase?.phase.case) {
    case "switching":
    case "applied":
    case "rebooting":
    case "soaking":
      return "trial";
    default:
      return "well";
  }
}

/** Strings that recur are kept once. */
class Words {
  readonly all: string[] = [""];
  private readonly index = new Map<string, number>([["", 0]]);
  put(word: string): number {
    const known = this.index.get(word);
    if (known !== undefined) return known;
    // 65,535 distinct builds, versions or reasons: beyond that they are told by the host page only.
    if (this.all.length > 0xfffe) return 0;
    this.index.set(word, this.all.length);
    this.all.push(word);
    return this.all.length - 1;
  }
}

/** One host, taken out of the columns to be shown. */
export interface Row {
  index: number;
  id: bigint;
  hostname: string;
  glance: Glance;
  osBuild: string;
  labels: string;
  running: string;
  agent: string;
  attention: string;
  /** Heard of so long ago, when it was listed. */
  lastSeenMs: number;
}

/** What narrows the table; what is left empty does not narrow. Kept in the address bar. */
export interface Filter {
  query: string;
  glances: Glance[];
  /** `key=value`, or any part of a label. */
  label: string;
  os: string;
}

export const NO_FILTER: Filter = { query: "", glances: [], label: "", os: "" };

export class Fleet {
  length = 0;
  private ids = new BigUint64Array(1024);
  private glances = new Uint8Array(1024);
  private builds = new Uint16Array(1024);
  private labelSets = new Uint16Array(1024);
  private versions = new Uint16Array(1024);
  private agents = new Uint16Array(1024);
  private whys = new Uint16Array(1024);
  private seen = new Float64Array(1024);
  private readonly names: string[] = [];
  private readonly words = new Words();
  private readonly at = new Map<bigint, number>();
  /** Grows with each change. */
  revision = 0;

  /** Takes hosts in, or takes their newer state over. */
  put(hosts: HostView[]): void {
    for (const host of hosts) {
      let i = this.at.get(host.id);
      if (i === undefined) {
        i = this.length;
        this.length += 1;
        this.at.set(host.id, i);
        this.grow();
      }
      this.ids[i] = host.id;
      this.names[i] = host.facts?.hostname ?? "";
      this.glances[i] = GLANCES.indexOf(glance(host));
      this.builds[i] = this.words.put(host.facts?.osBuild ?? "");
      this.labelSets[i] = this.words.put(labelText(host.labels));
      this.versions[i] = this.words.put(runningText(host));
      this.agents[i] = this.words.put(host.agentVersion);
      this.whys[i] = this.words.put(host.attention.join("; "));
      this.seen[i] = Number(host.lastSeenMs);
    }
    this.revision += 1;
  }

  private grow(): void {
    if (this.length <= this.ids.length) return;
    const size = this.ids.length * 2;
    const wider = <T extends { set(from: never): void }>(to: T, from: T): T => {
      to.set(from as never);
      return to;
    };
    this.ids = wider(new BigUint64Array(size), this.ids);
    this.glances = wider(new Uint8Array(size), this.glances);
    this.builds = wider(new Uint16Array(size), this.builds);
    this.labelSets = wider(new Uint16Array(size), this.labelSets);
    this.versions = wider(new Uint16Array(size), this.versions);
    this.agents = wider(new Uint16Array(size), this.agents);
    this.whys = wider(new Uint16Array(size), this.whys);
    this.seen = wider(new Float64Array(size), this.seen);
  }

  row(i: number): Row {
    const word = (column: Uint16Array) => this.words.all[column[i]!]!;
    return {
      index: i,
      id: this.ids[i]!,
      hostname: this.names[i]!,
      glance: this.glance(i),
      osBuild: word(this.builds),
      labels: word(this.labelSets),
      running: word(this.versions),
      agent: word(this.agents),
      attention: word(this.whys),
      lastSeenMs: this.seen[i]!,
    };
  }

  glance(i: number): Glance {
    return GLANCES[this.glances[i]!]!;
  }

  /** The name of a host by its id; the id itself where it is not loaded. */
  nameOf(id: bigint): string {
    const i = this.at.get(id);
    return (i === undefined ? "" : this.names[i]) || hostName(id);
  }

  /** Hosts by how they look. */
  counts(): Record<Glance, number> {
    const counts = new Array<number>(GLANCES.length).fill(0);
    for (let i = 0; i < this.length; i += 1) counts[this.glances[i]!]! += 1;
    return Object.fromEntries(GLANCES.map((g, at) => [g, counts[at]!])) as Record<Glance, number>;
  }

  /** The builds there are, most frequent first. */
  osBuilds(): { build: string; hosts: number }[] {
    const counts = new Map<number, number>();
    for (let i = 0; i < this.length; i += 1) counts.set(this.builds[i]!, (counts.get(this.builds[i]!) ?? 0) + 1);
    return [...counts]
      .map(([word, hosts]) => ({ build: this.words.all[word]!, hosts }))
      .filter((b) => b.build !== "")
      .sort((a, b) => b.hosts - a.hosts || a.build.localeCompare(b.build))
      .slice(0, 50);
  }

  /** The hosts that meet a filter, worst first, then by name. */
  select(filter: Filter): Uint32Array {
    const query = filter.query.trim().toLowerCase();
    const wanted = filter.glances.map((g) => GLANCES.indexOf(g));
    const label = filter.label.trim().toLowerCase();
    const labelFits = this.fits((word) => word.toLowerCase().includes(label), label === "");
    const osFits = this.fits((word) => word === filter.os, filter.os === "");
    const found: number[] = [];
    for (let i = 0; i < this.length; i += 1) {
      if (wanted.length > 0 && !wanted.includes(this.glances[i]!)) continue;
      if (!labelFits(this.labelSets[i]!) || !osFits(this.builds[i]!)) continue;
      if (query !== "" && !this.names[i]!.toLowerCase().includes(query) && !hostName(this.ids[i]!).startsWith(query)) continue;
      found.push(i);
    }
    const buckets: number[][] = GLANCES.map(() => []);
    for (const i of found) buckets[this.glances[i]!]!.push(i);
    return Uint32Array.from(buckets.flat());
  }

  /** A test of words that looks at each word once. */
  private fits(test: (word: string) => boolean, always: boolean): (word: number) => boolean {
    if (always) return () => true;
    const known: boolean[] = [];
    return (word) => (known[word] ??= test(this.words.all[word]!));
  }
}

export function labelText(labels: Record<string, string>): string {
  return Object.keys(labels)
    .sort()
    .map((key) => `${key}=${labels[key]}`)
    .join(" ");
}

function runningText(host: HostView): string {
  return (host.observed?.packages ?? [])
    .map((p) => `${p.package} ${p.runningVersion ?? "?"}`)
    .join(", ");
}

/** The filter that an address names. */
export function filterFrom(search: URLSearchParams): Filter {
  const glances = (search.get("state") ?? "").split(",").filter((g): g is Glance => (GLANCES as readonly string[]).includes(g));
  return {
    query: search.get("q") ?? "",
    glances,
    label: search.get("label") ?? "",
    os: search.get("os") ?? "",
  };
}

/** The address of a filter; empty parts are left out. */
export function filterSearch(filter: Filter): string {
  const search = new URLSearchParams();
  if (filter.query) search.set("q", filter.query);
  if (filter.glances.length > 0) search.set("state", filter.glances.join(","));
  if (filter.label) search.set("label", filter.label);
  if (filter.os) search.set("os", filter.os);
  const text = search.toString();
  return text === "" ? "" : `?${text}`;
}

/** Where the cells of a grid of hosts lie: as large as fits, at most 14, at least 3 pixels. */
export function cells(hosts: number, width: number, height: number): { size: number; columns: number; rows: number } {
  for (let size = 14; size > 3; size -= 1) {
    const columns = Math.max(1, Math.floor(width / size));
    const rows = Math.ceil(hosts / columns);
    if (rows * size <= height) return { size, columns, rows };
  }
  const columns = Math.max(1, Math.floor(width / 3));
  return { size: 3, columns, rows: Math.ceil(hosts / columns) };
}
