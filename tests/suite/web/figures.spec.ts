// What looking at a large fleet costs, with the real server: `cargo xtask bench dashboard`. Figures,
// printed as a table; nothing is judged here, for the machine may be busy with other things.
import { execFile } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Browser, Page } from "@playwright/test";
import { PROGRAMS, startDemo, serverPid, type Demo } from "./demo";
import { expect, test } from "./page";
import { LONG_MS, traced, type Tasks } from "./tasks";

const CROWD = Number(process.env.RINGWARD_CROWD ?? "0");
/** Hosts in session beside them. */
const SESSIONS = Number(process.env.RINGWARD_SESSIONS ?? "403");
const DASHBOARDS = 10;
const LOADS = 5;
/** A rollout is lively for half a minute, at its best for ten seconds. */
const LIVELY_S = [10, 30];
/** Rollouts walked with ten dashboards, and as many without. */
const ROUNDS = Number(process.env.RINGWARD_ROUNDS ?? "1");
let demo: Demo;
const rows: [string, string, string][] = [];
/** Told at once too: a run that is cut short has shown what it saw. */
const row = (what: string, goal: string, seen: string) => {
  rows.push([what, goal, seen]);
  console.log(`${what} (${goal || "no goal"}): ${seen}`);
};

test.beforeAll(async () => {
  test.skip(CROWD === 0, "no fleet was asked for");
  test.setTimeout(400_000);
  demo = await startDemo(["--crowd", String(CROWD), "--sessions", String(SESSIONS)]);
});

test.afterAll(async () => {
  if (!demo) return;
  await demo.stop();
  const width = [0, 1, 2].map((i) => Math.max(...rows.map((r) => r[i]!.length)));
  const table = rows.map((r) => r.map((cell, i) => cell.padEnd(width[i]!)).join("  ")).join("\n");
  console.log(`${CROWD.toLocaleString("en")} hosts in the store only, beside ${SESSIONS.toLocaleString("en")} in session\n${table}`);
  const file = process.env.RINGWARD_FIGURES;
  if (file) writeFileSync(file, JSON.stringify(Object.fromEntries(rows.map(([what, goal, seen]) => [what, { goal, seen }])), null, 1));
});

const median = (of: number[]) => of.toSorted((a, b) => a - b)[Math.floor(of.length / 2)]!;
const tenths = (of: number[]) => `${median(of).toFixed(1)} (${of.map((n) => n.toFixed(1)).join(" ")})`;
const spread = (of: number[]) => `${median(of).toFixed(0)} (${Math.min(...of).toFixed(0)}-${Math.max(...of).toFixed(0)})`;

const load = () => readFileSync("/proc/loadavg", "utf8").split(" ")[0]!;

/** CPU time of a process in milliseconds, by the system's accounting. */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /u, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** Watches from the first moment: when rows show, when all are there, how often lanes change. */
async function watch(page: Page): Promise<void> {
  await page.addInitScript(() => {
    const seen = { first: 0, all: 0, changes: [] as number[], lanes: "" };
    (globalThis as never as { seen: typeof seen }).seen = seen;
    const look = () => {
      const main = document.querySelector("main");
      if (!main) return;
      if (seen.first === 0 && main.querySelectorAll("[role=grid] [role=row], article .lanes, tbody tr").length > 0 && !main.textContent!.startsWith("Connecting")) seen.first = performance.now();
      if (seen.all === 0 && /hosts? shown/u.test(main.textContent!) && !main.textContent!.includes("on their way")) seen.all = performance.now();
      const lanes = main.querySelector(".lanes")?.textContent ?? "";
      if (lanes !== seen.lanes) {
        seen.lanes = lanes;
        seen.changes.push(performance.now());
      }
    };
    new MutationObserver(look).observe(document, { childList: true, subtree: true, characterData: true });
  });
}

interface Seen {
  first: number;
  all: number;
  /** When lanes changed, on the page's clock. */
  changes: number[];
}
const seenBy = (page: Page) => page.evaluate(() => (globalThis as never as { seen: Seen }).seen);
const forget = (page: Page) =>
  page.evaluate(() => {
    const { seen } = globalThis as never as { seen: Seen };
    seen.changes.length = 0;
  });

/** Changes a second in the busiest so many seconds: a rollout begins with two hosts, and has little to tell then. */
function busiest(changes: number[], seconds: number): number {
  const within = changes.map((from) => changes.filter((at) => at >= from && at < from + seconds * 1_000).length);
  return Math.max(0, ...within) / seconds;
}
const rates = ({ changes }: Seen) => LIVELY_S.map((seconds) => busiest(changes, seconds).toFixed(1)).join(", ");

/** Proportional memory of every renderer, in MiB. */
async function renderers(browser: Browser): Promise<number[]> {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  return processInfo
    .filter((p) => p.type === "renderer")
    .map((p) => Number(/^Pss:\s+(\d+)/mu.exec(readFileSync(`/proc/${p.id}/smaps_rollup`, "utf8"))?.[1] ?? "0") / 1024);
}

/** CPU time of the thread is what the page itself takes; the wall clock has in it whatever else ran. */
function longest(when: string, { wall, cpu, wallOver, cpuOver }: Tasks): void {
  row(`${when}: longest task, CPU ms`, `≤ ${LONG_MS}`, `${cpu.toFixed(0)} (${cpuOver} over ${LONG_MS})`);
  row(`${when}: longest task by the wall clock, ms (load ${load()})`, `≤ ${LONG_MS}`, `${wall.toFixed(0)} (${wallOver} over ${LONG_MS})`);
}

const execute = promisify(execFile);
const ctl = async (...args: string[]) => (await execute(join(PROGRAMS!, "ringwardctl"), ["--context", join(demo.dir, "server", "admin.context.toml"), ...args])).stdout;
const wait = (ms: number) => new Promise((over) => setTimeout(over, ms));
let version = 1;

/** A new release on its way: answers its rollout. */
async function begin(): Promise<string> {
  version += 1;
  const [bundle, releases] = [join(demo.dir, `walk-${version}`), join(demo.dir, "releases")];
  mkdirSync(bundle);
  writeFileSync(join(bundle, "behaviour"), "good");
  writeFileSync(join(bundle, "VERSION"), `${version}.0`);
  const key = join(demo.dir, "release-keys", "release-1.key");
  await ctl("releases", "sign", "--package", "endpoint-shield", "--version", `${version}.0`, "--probe", "unit:endpoint-shield.service", "--bundle", bundle, "--key", key, "--out", releases);
  await ctl("releases", "publish", join(releases, `endpoint-shield-${version}.0.release.json`), "--reason", "walk", "--yes");
  await ctl("rollouts", "start", `endpoint-shield@${version}.0`, "--reason", "walk", "--yes");
  return newest().then((r) => r.id);
}

interface Rollout {
  id: string;
  state: string;
  rings: { name: string; state: string; confirmed: number }[];
}

/** The newest rollout; a machine that loads ten pages may let a call wait too long. */
async function newest(tries = 5): Promise<Rollout> {
  try {
    return (JSON.parse(await ctl("rollouts", "list", "-o", "json")) as Rollout[])[0]!;
  } catch (error) {
    if (tries === 0) throw error;
    return newest(tries - 1);
  }
}
const abort = (id: string) => ctl("rollouts", "abort", id, "--reason", "the next one", "--yes");

interface Walked {
  seconds: number;
  /** Of a core, taken by the server meanwhile, in per cent. */
  cpu: number;
}

/** One rollout through the rings of all hosts in session, from its start to their end; then it is aborted. */
async function walk(pid: number): Promise<Walked> {
  const id = await begin();
  const [from, before] = [Date.now(), cpuMs(pid)];
  for (;;) {
    await wait(2_000);
    const { state, rings } = await newest();
    if (state === "halted") throw new Error("a good release was halted");
    const open = rings.some((ring) => ring.name !== "crowd" && ring.state !== "complete");
    const seconds = (Date.now() - from) / 1000;
    if (open) continue;
    const cpu = (cpuMs(pid) - before) / (seconds * 10);
    await abort(id);
    return { seconds, cpu };
  }
}

async function arrive(browser: Browser): Promise<Page> {
  const page = await (await browser.newContext()).newPage();
  await watch(page);
  await page.goto(demo.link());
  await expect(page.getByRole("button", { name: "Sign out" })).toBeVisible({ timeout: 60_000 });
  return page;
}

/** Nobody looks, and nobody has: what the server takes for the rollout itself. */
const alone: Walked[] = [];
test("a rollout walks and nobody looks", async () => {
  test.setTimeout(ROUNDS * 400_000);
  const pid = serverPid(demo.dir);
  while (alone.length < ROUNDS) alone.push(await walk(pid));
  row("server, a rollout walks, no dashboard, % of a core", "", tenths(alone.map((w) => w.cpu)));
});

test("a page over the whole fleet", async ({ page, browser }) => {
  test.setTimeout(400_000);
  const id = await begin();
  await expect.poll(async () => (await newest()).rings[0]?.confirmed ?? 0, { timeout: 200_000 }).toBeGreaterThan(0);
  await page.goto(demo.link());
  await expect(page.getByRole("button", { name: "Sign out" })).toBeVisible();
  for (const [name, path] of [["landing", "/"], ["fleet", "/fleet"]] as const) {
    const first: number[] = [];
    const all: number[] = [];
    const cpu: number[] = [];
    for (let round = 0; round < LOADS; round += 1) {
      const fresh = await page.context().newPage();
      await watch(fresh);
      const session = await page.context().newCDPSession(fresh);
      await session.send("Performance.enable", { timeDomain: "threadTicks" });
      await fresh.goto(demo.origin() + path);
      await expect.poll(async () => (await seenBy(fresh)).first, { timeout: 60_000 }).toBeGreaterThan(0);
      if (path === "/fleet") await expect.poll(async () => (await seenBy(fresh)).all, { timeout: 60_000 }).toBeGreaterThan(0);
      const seen = await seenBy(fresh);
      first.push(seen.first);
      all.push(seen.all);
      const { metrics } = await session.send("Performance.getMetrics");
      cpu.push(1000 * (metrics.find((m) => m.name === "TaskDuration")?.value ?? 0));
      await fresh.close();
    }
    row(`${name}: first meaningful view, ms (load ${load()})`, "≤ 1,500", spread(first));
    if (path === "/fleet") row("fleet: all hosts there, ms", "", spread(all));
    row(`${name}: main thread CPU until then, ms`, "", spread(cpu));
  }

  const fleet = await page.context().newPage();
  await watch(fleet);
  await fleet.goto(`${demo.origin()}/fleet`);
  await expect.poll(async () => (await seenBy(fleet)).all, { timeout: 60_000 }).toBeGreaterThan(0);
  await fleet.getByRole("grid", { name: "Hosts" }).focus();
  const worked = await traced(browser, [fleet], async () => {
    await fleet.keyboard.press("End");
    await fleet.getByRole("button", { name: "ring", exact: true }).click();
    await fleet.getByLabel("Name or id").fill("ber-desk-0012");
    await expect(fleet.locator("main")).toContainText("filtered out");
    await fleet.getByLabel("Name or id").fill("");
    await fleet.getByRole("button", { name: /without|no session/u }).first().click();
    await expect(fleet.locator("main")).toContainText("filtered out");
  });
  longest("fleet, filtered and scrolled", worked);
  const session = await page.context().newCDPSession(fleet);
  await session.send("HeapProfiler.collectGarbage");
  const { usedSize } = await session.send("Runtime.getHeapUsage");
  row("fleet: script memory, MiB", "", (usedSize / 2 ** 20).toFixed(0));
  row("fleet: renderer's memory (PSS), MiB", "≤ 250", Math.max(...(await renderers(browser))).toFixed(0));
  await fleet.close();
  await abort(id);
});

test("updates while a rollout walks, and ten dashboards at once", async ({ browser }) => {
  test.setTimeout((ROUNDS + 1) * 400_000);
  const pid = serverPid(demo.dir);
  const pages = [await arrive(browser)];
  await forget(pages[0]!);
  let one: Walked | undefined;
  const tasks = await traced(browser, pages, async () => {
    one = await walk(pid);
  });
  row(`one dashboard: views drawn a second in the busiest ${LIVELY_S.join(", ")} s`, "≥ 4", rates(await seenBy(pages[0]!)));
  longest("one dashboard while a rollout walks", tasks);
  row("server with one dashboard, % of a core", "", one!.cpu.toFixed(1));

  while (pages.length < DASHBOARDS) pages.push(await arrive(browser));
  // They have the whole fleet by then; that is loading, not looking.
  await wait(10_000);
  const ten: Walked[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const page of pages) await forget(page);
    ten.push(await walk(pid));
  }
  const all = await Promise.all(pages.map(seenBy));
  row(`${DASHBOARDS} dashboards: the same of each (load ${load()})`, "", all.map(rates).sort().join("; "));
  for (const page of pages) await page.context().close();
  const percent = (of: Walked[]) => of.map((w) => w.cpu);
  row("seconds of such a rollout: alone, with one, with ten", "", [alone, [one!], ten].map((of) => spread(of.map((w) => w.seconds))).join("; "));
  row(`server, the same with ${DASHBOARDS} dashboards, % of a core`, "", tenths(percent(ten)));
  row(`server, on top for ${DASHBOARDS} dashboards, % of a core`, "≤ 5", (median(percent(ten)) - median(percent(alone))).toFixed(1));
});
