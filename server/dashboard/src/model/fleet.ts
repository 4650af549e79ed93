/**
 * The fleet in columns, as the server tells it: a host costs about a hundred bytes here. 100,000 hosts
 * fit into a page's memory this way, and a filter runs over them in milliseconds.
 */
import { HostGlance, type FleetFeed } from "../gen/ringward/v1/overview_pb";
import { hostName } from "./ids";
import { Tally } from "./tally";

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

/** One host, taken out of the columns to be shown. */
export interface Row {
  index: number;
  id: bigint;
  hostname: string;
  glance: Glance;
  osBuild: string;
  labels: string;
  running: string;
  ring: string;
  attention: string;
  /** Heard of so long ago; 0 while it has a session, nothing where not since the server started. */
  quietMs: number | undefined;
}

/** What narrows the table; what is left empty does not narrow. Kept in the address bar. */
export interface Filter {
  query: string;
  glances: Glance[];
  /** `key=value`, or any part of a label. */
  label: string;
  os: string;
  ring: string;
  criticality: string;
  /** A package and its version, as in "sensor 4.2.0". */
  running: string;
}

export const NO_FILTER: Filter = { query: "", glances: [], label: "", os: "", ring: "", criticality: "", running: "" };

/** By what the fleet is broken down. */
export const DIMENSIONS = ["os", "ring", "criticality"] as const;
export type Dimension = (typeof DIMENSIONS)[number];
/** What is narrowed by a link rather than by a field of the page. */
export const LINKED = ["ring", "criticality", "running"] as const;
/** What an empty value is called, and looked for as. */
export const NONE = "none";

/** Hosts that share a value. */
export interface Share {
  value: string;
  hosts: number;
  /** By how they look, in the order of GLANCES. */
  glances: number[];
}

const GLANCE_OF: Record<HostGlance, Glance> = {
  [HostGlance.UNSPECIFIED]: "attention",
  [HostGlance.ATTENTION]: "attention",
  [HostGlance.SILENT]: "silent",
  [HostGlance.PENDING]: "pending",
  [HostGlance.TRIAL]: "trial",
  [HostGlance.WELL]: "well",
  [HostGlance.RETIRED]: "retired",
};
/** A place whose host is gone. */
const GONE = 255;
const SILENT = GLANCES.indexOf("silent");
const RETIRED = GLANCES.indexOf("retired");

/** Hosts of a selection that look the same: from this place in it to before that one. */
export interface Run {
  glance: Glance;
  from: number;
  to: number;
}

export class Fleet {
  /** Hosts there are. */
  length = 0;
  /** To name when asking for what changed. */
  picture = 0n;
  revision = 0n;
  /** Texts told so far. */
  get told(): number {
    return this.texts.length - 1;
  }
  private places = 0;
  private clockMs = 0;
  private ids = new BigUint64Array(1024);
  private glances = new Uint8Array(1024);
  private systems = new Uint32Array(1024);
  private labels = new Uint32Array(1024);
  private running = new Uint32Array(1024);
  private attention = new Uint32Array(1024);
  private rings = new Uint32Array(1024);
  private heard = new Float64Array(1024);
  private names: string[] = [];
  private texts: string[] = [""];
  private readonly at = new Map<bigint, number>();
  private readonly looks = new Int32Array(GLANCES.length);
  private readonly tallies: Record<Dimension, Tally> = { os: new Tally(GLANCES.length), ring: new Tally(GLANCES.length), criticality: new Tally(GLANCES.length) };

  /** Takes a part over; one of another picture ends what was known. */
  put(part: FleetFeed): void {
    if (part.picture !== this.picture) this.clear(part.picture);
    this.clockMs = Number(part.fleetClockMs);
    for (const text of part.texts) this.texts.push(text);
    for (const id of part.gone) this.drop(id);
    for (const [from, id] of part.hosts.entries()) {
      const known = this.at.get(id);
      const i = known ?? this.newPlace(id);
      if (known !== undefined) this.count(i, -1);
      this.names[i] = part.hostnames[from] ?? "";
      this.glances[i] = GLANCES.indexOf(GLANCE_OF[part.glances[from] ?? HostGlance.UNSPECIFIED] ?? "attention");
      this.systems[i] = part.systems[from] ?? 0;
      this.labels[i] = part.labels[from] ?? 0;
      this.running[i] = part.running[from] ?? 0;
      this.attention[i] = part.attention[from] ?? 0;
      this.rings[i] = part.rings[from] ?? 0;
      this.heard[i] = Number(part.heardMs[from] ?? 0n);
      this.count(i, 1);
    }
    if (part.caughtUp) this.revision = part.revision;
  }

  private count(i: number, by: 1 | -1): void {
    const look = this.glances[i]!;
    this.looks[look]! += by;
    for (const d of DIMENSIONS) this.tallies[d].count(this.column(d)[i]!, look, by);
  }

  private clear(picture: bigint): void {
    this.picture = picture;
    this.revision = 0n;
    this.length = 0;
    this.places = 0;
    this.names = [];
    this.texts = [""];
    this.at.clear();
    this.looks.fill(0);
    for (const d of DIMENSIONS) this.tallies[d].clear();
  }

  private drop(id: bigint): void {
    const i = this.at.get(id);
    if (i === undefined) return;
    this.at.delete(id);
    this.count(i, -1);
    this.glances[i] = GONE;
    this.length -= 1;
  }

  private newPlace(id: bigint): number {
    const i = this.places;
    this.places += 1;
    this.length += 1;
    this.at.set(id, i);
    this.grow();
    this.ids[i] = id;
    return i;
  }

  private grow(): void {
    if (this.places <= this.ids.length) return;
    const size = this.ids.length * 2;
    const wider = <T extends { set(from: never): void }>(to: T, from: T): T => {
      to.set(from as never);
      return to;
    };
    this.ids = wider(new BigUint64Array(size), this.ids);
    this.glances = wider(new Uint8Array(size), this.glances);
    this.systems = wider(new Uint32Array(size), this.systems);
    this.labels = wider(new Uint32Array(size), this.labels);
    this.running = wider(new Uint32Array(size), this.running);
    this.attention = wider(new Uint32Array(size), this.attention);
    this.rings = wider(new Uint32Array(size), this.rings);
    this.heard = wider(new Float64Array(size), this.heard);
  }

  row(i: number): Row {
    const text = (column: Uint32Array) => this.texts[column[i]!] ?? "";
    return {
      index: i,
      id: this.ids[i]!,
      hostname: this.names[i]!,
      glance: this.glance(i),
      osBuild: text(this.systems),
      labels: text(this.labels),
      running: text(this.running),
      ring: text(this.rings),
      attention: text(this.attention),
      quietMs: this.quietMs(i),
    };
  }

  private quietMs(i: number): number | undefined {
    const heard = this.heard[i]!;
    if (heard === 0) return 0;
    return heard === 1 ? undefined : Math.max(0, this.clockMs - heard);
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
    return Object.fromEntries(GLANCES.map((g, at) => [g, this.looks[at]!])) as Record<Glance, number>;
  }

  /** The fleet by one dimension, most hosts first; retired ones are not counted. */
  shares(dimension: Dimension): Share[] {
    const value = this.valueOf(dimension);
    const found = new Map<string, Share>();
    this.tallies[dimension].each((text, counts) => {
      const name = value(text);
      const share = found.get(name) ?? { value: name, hosts: 0, glances: GLANCES.map(() => 0) };
      for (const [look, hosts] of counts.entries()) {
        if (look === RETIRED) continue;
        share.hosts += hosts;
        share.glances[look]! += hosts;
      }
      if (share.hosts > 0) found.set(name, share);
    });
    return [...found.values()].sort((a, b) => b.hosts - a.hosts || a.value.localeCompare(b.value));
  }

  private column(dimension: Dimension): Uint32Array {
    return { os: this.systems, ring: this.rings, criticality: this.labels }[dimension];
  }

  /** The value of a dimension in a text of its column. */
  private valueOf(dimension: Dimension): (text: number) => string {
    if (dimension !== "criticality") return (text) => this.texts[text] || NONE;
    return (text) => /(?:^| )criticality=(\S+)/u.exec(this.texts[text] ?? "")?.[1] ?? NONE;
  }

  /** The hosts without a session, longest quiet first. */
  silent(most: number): Row[] {
    const found: number[] = [];
    for (let i = 0; i < this.places; i += 1) {
      if (this.glances[i] !== SILENT) continue;
      if (found.length === most && this.heard[found[most - 1]!]! <= this.heard[i]!) continue;
      // A handful is kept in order: a whole fleet may be silent, and sorting it is slow.
      let at = found.length;
      while (at > 0 && this.heard[found[at - 1]!]! > this.heard[i]!) at -= 1;
      found.splice(at, 0, i);
      if (found.length > most) found.pop();
    }
    return found.map((i) => this.row(i));
  }

  /** The hosts that meet a filter, worst first. */
  select(filter: Filter): Uint32Array {
    const fits = this.test(filter);
    const met = new Uint32Array(this.places);
    const looks = new Uint32Array(GLANCES.length);
    let hosts = 0;
    for (let i = 0; i < this.places; i += 1) {
      if (this.glances[i] === GONE || !fits(i)) continue;
      met[hosts] = i;
      hosts += 1;
      looks[this.glances[i]!]! += 1;
    }
    // Sorted by counting: each look's hosts have their place reserved.
    const next = new Uint32Array(GLANCES.length);
    for (let look = 1; look < GLANCES.length; look += 1) next[look] = next[look - 1]! + looks[look - 1]!;
    const selected = new Uint32Array(hosts);
    for (let at = 0; at < hosts; at += 1) {
      const look = this.glances[met[at]!]!;
      selected[next[look]!] = met[at]!;
      next[look]! += 1;
    }
    return selected;
  }

  /** A selection by how its hosts look. */
  runs(selected: Uint32Array): Run[] {
    const runs: Run[] = [];
    for (let from = 0; from < selected.length; ) {
      const look = this.glances[selected[from]!]!;
      let [low, high] = [from + 1, selected.length];
      while (low < high) {
        const middle = (low + high) >>> 1;
        if (this.glances[selected[middle]!]! <= look) low = middle + 1;
        else high = middle;
      }
      runs.push({ glance: GLANCES[look]!, from, to: low });
      from = low;
    }
    return runs;
  }

  /** The ids of a selection. */
  idsOf(selected: Uint32Array): bigint[] {
    return Array.from(selected, (i) => this.ids[i]!);
  }

  /** Whether a place meets a filter; the cheap questions come first. */
  private test(filter: Filter): (i: number) => boolean {
    const wanted = new Set(filter.glances.map((g) => GLANCES.indexOf(g)));
    const label = filter.label.trim().toLowerCase();
    const query = filter.query.trim().toLowerCase();
    // Ids are large numbers: they are written out only for a query that can be one.
    const isId = /^h-[0-9a-f]*$/u.test(query);
    const tests = [
      wanted.size === 0 ? undefined : (i: number) => wanted.has(this.glances[i]!),
      this.fits(this.labels, (text) => this.texts[text]!.toLowerCase().includes(label), label === ""),
      this.fits(this.running, (text) => this.texts[text]!.split(", ").includes(filter.running), filter.running === ""),
      ...DIMENSIONS.map((d) => {
        const value = this.valueOf(d);
        return this.fits(this.column(d), (text) => value(text) === filter[d], filter[d] === "");
      }),
      query === "" ? undefined : (i: number) => this.names[i]!.toLowerCase().includes(query) || (isId && hostName(this.ids[i]!).startsWith(query)),
    ].filter((test) => test !== undefined);
    return (i) => tests.every((test) => test(i));
  }

  /** A test of places that looks at each text once; nothing where it lets all through. */
  private fits(column: Uint32Array, test: (text: number) => boolean, always: boolean): ((i: number) => boolean) | undefined {
    if (always) return undefined;
    const known: boolean[] = [];
    return (i) => (known[column[i]!] ??= test(column[i]!));
  }
}

export function labelText(labels: Record<string, string>): string {
  return Object.keys(labels)
    .sort()
    .map((key) => `${key}=${labels[key]}`)
    .join(" ");
}

/** The filter that an address names. */
export function filterFrom(search: URLSearchParams): Filter {
  const glances = (search.get("state") ?? "").split(",").filter((g): g is Glance => (GLANCES as readonly string[]).includes(g));
  return {
    query: search.get("q") ?? "",
    glances,
    label: search.get("label") ?? "",
    os: search.get("os") ?? "",
    ring: search.get("ring") ?? "",
    criticality: search.get("criticality") ?? "",
    running: search.get("running") ?? "",
  };
}

/** The address of a filter; empty parts are left out. */
export function filterSearch(filter: Filter): string {
  const search = new URLSearchParams();
  if (filter.query) search.set("q", filter.query);
  if (filter.glances.length > 0) search.set("state", filter.glances.join(","));
  if (filter.label) search.set("label", filter.label);
  for (const d of ["os", ...LINKED] as const) if (filter[d]) search.set(d, filter[d]);
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
