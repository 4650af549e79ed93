// What looking at a large fleet costs, with the real server: `cargo xtask bench dashboard`. Figures,
// printed as a table; nothing is judged here, for the machine may be busy with other things.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Browser, Page } from "@playwright/test";
import { startDemo, serverPid, type Demo } from "./demo";
import { expect, test } from "./page";

const CROWD = Number(process.env.RINGWARD_CROWD ?? "0");
const DASHBOARDS = 10;
const LOADS = 5;
const WATCH_S = 20;
let demo: Demo;
const rows: [string, string, string][] = [];
const row = (what: string, goal: string, seen: string) => rows.push([what, goal, seen]);

test.describe.configure({ mode: "serial" });

test.beforeAll(async () => {
  test.skip(CROWD === 0, "no fleet was asked for");
  test.setTimeout(300_000);
  demo = await startDemo(["--crowd", String(CROWD)]);
});

test.afterAll(async () => {
  if (!demo) return;
  await demo.stop();
  const width = [0, 1, 2].map((i) => Math.max(...rows.map((r) => r[i]!.length)));
  const table = rows.map((r) => r.map((cell, i) => cell.padEnd(width[i]!)).join("  ")).join("\n");
  console.log(`${CROWD.toLocaleString("en")} hosts in the store, 203 in session, one rollout under way\n${table}`);
  const file = process.env.RINGWARD_FIGURES;
  if (file) writeFileSync(file, JSON.stringify(Object.fromEntries(rows.map(([what, goal, seen]) => [what, { goal, seen }])), null, 1));
});

const median = (of: number[]) => of.toSorted((a, b) => a - b)[Math.floor(of.length / 2)]!;
const spread = (of: number[]) => `${median(of).toFixed(0)} (${Math.min(...of).toFixed(0)}-${Math.max(...of).toFixed(0)})`;

/** CPU time of a process in milliseconds, by the system's accounting. */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /u, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** Watches from the first moment: when rows show, when all are there, long tasks, how often lanes change. */
async function watch(page: Page): Promise<void> {
  await page.addInitScript(() => {
    const seen = { first: 0, all: 0, long: [] as number[], changes: 0, lanes: "" };
    (globalThis as never as { seen: typeof seen }).seen = seen;
    new PerformanceObserver((list) => list.getEntries().forEach((e) => seen.long.push(e.duration))).observe({ type: "longtask", buffered: true });
    const look = () => {
      const main = document.querySelector("main");
      if (!main) return;
      if (seen.first === 0 && main.querySelectorAll("[role=grid] [role=row], article .lanes").length > 0 && !main.textContent!.startsWith("Connecting")) seen.first = performance.now();
      if (seen.all === 0 && /hosts? shown/u.test(main.textContent!) && !main.textContent!.includes("on their way")) seen.all = performance.now();
      const lanes = main.querySelector(".lanes")?.textContent ?? "";
      if (lanes !== seen.lanes) {
        seen.lanes = lanes;
        seen.changes += 1;
      }
    };
    new MutationObserver(look).observe(document, { childList: true, subtree: true, characterData: true });
  });
}

interface Seen {
  first: number;
  all: number;
  long: number[];
  changes: number;
}
const seenBy = (page: Page) => page.evaluate(() => (globalThis as never as { seen: Seen }).seen);
const forget = (page: Page) =>
  page.evaluate(() => {
    const { seen } = globalThis as never as { seen: Seen };
    seen.long.length = 0;
    seen.changes = 0;
  });

/** Proportional memory of every renderer, in MiB. */
async function renderers(browser: Browser): Promise<number[]> {
  const session = await browser.newBrowserCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  return processInfo
    .filter((p) => p.type === "renderer")
    .map((p) => Number(/^Pss:\s+(\d+)/mu.exec(readFileSync(`/proc/${p.id}/smaps_rollup`, "utf8"))?.[1] ?? "0") / 1024);
}

// First, while the rollout is young and nobody looked yet.
test("updates while a rollout walks, and ten dashboards at once", async ({ browser }) => {
  test.setTimeout(300_000);
  const pid = serverPid(demo.dir);
  let before = cpuMs(pid);
  await new Promise((over) => setTimeout(over, WATCH_S * 1000));
  const alone = (cpuMs(pid) - before) / (WATCH_S * 10);

  const contexts = [];
  const pages: Page[] = [];
  for (let i = 0; i < DASHBOARDS; i += 1) {
    const context = await browser.newContext();
    contexts.push(context);
    const one = await context.newPage();
    await watch(one);
    await one.goto(demo.link());
    await expect(one.getByRole("button", { name: "Sign out" })).toBeVisible({ timeout: 60_000 });
    pages.push(one);
  }
  await new Promise((over) => setTimeout(over, 5_000));
  for (const one of pages) await forget(one);
  before = cpuMs(pid);
  await new Promise((over) => setTimeout(over, WATCH_S * 1000));
  const together = (cpuMs(pid) - before) / (WATCH_S * 10);
  const seen = await Promise.all(pages.map(seenBy));
  row(`server, no dashboard, % of a core over ${WATCH_S} s`, "", alone.toFixed(1));
  row(`server, ${DASHBOARDS} dashboards, % of a core on top`, "≤ 5", (together - alone).toFixed(1));
  row("views drawn a second and page", "≥ 4 on offer", spread(seen.map((s) => s.changes / WATCH_S)));
  row("longest task while they are drawn, ms", "≤ 100", Math.max(0, ...seen.flatMap((s) => s.long)).toFixed(0));
  row("tasks over 100 ms, all pages", "0", String(seen.flatMap((s) => s.long).filter((ms) => ms > 100).length));
  const load = execFileSync("cat", ["/proc/loadavg"], { encoding: "utf8" }).split(" ")[0]!;
  row("load of this machine meanwhile", "", load);
  for (const context of contexts) await context.close();
});

test("a page over the whole fleet", async ({ page, browser }) => {
  test.setTimeout(240_000);
  await page.goto(demo.link());
  await expect(page.getByRole("button", { name: "Sign out" })).toBeVisible();
  for (const [name, path] of [["landing", "/"], ["fleet", "/fleet"]] as const) {
    const first: number[] = [];
    const all: number[] = [];
    const cpu: number[] = [];
    for (let load = 0; load < LOADS; load += 1) {
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
    row(`${name}: first meaningful view, ms`, "≤ 1,500", spread(first));
    if (path === "/fleet") row("fleet: all hosts there, ms", "", spread(all));
    row(`${name}: main thread CPU until then, ms`, "", spread(cpu));
  }

  const fleet = await page.context().newPage();
  await watch(fleet);
  await fleet.goto(`${demo.origin()}/fleet`);
  await expect.poll(async () => (await seenBy(fleet)).all, { timeout: 60_000 }).toBeGreaterThan(0);
  await fleet.getByRole("grid", { name: "Hosts" }).focus();
  await forget(fleet);
  await fleet.keyboard.press("End");
  await fleet.getByRole("button", { name: "ring", exact: true }).click();
  await fleet.getByLabel("Name or id").fill("ber-desk-0012");
  await expect(fleet.locator("main")).toContainText("filtered out");
  row("fleet: longest task while it is filtered and scrolled, ms", "≤ 100", Math.max(0, ...(await seenBy(fleet)).long).toFixed(0));
  const session = await page.context().newCDPSession(fleet);
  await session.send("HeapProfiler.collectGarbage");
  const { usedSize } = await session.send("Runtime.getHeapUsage");
  row("fleet: script memory, MiB", "", (usedSize / 2 ** 20).toFixed(0));
  row("fleet: renderer's memory (PSS), MiB", "≤ 250", Math.max(...(await renderers(browser))).toFixed(0));
  await fleet.close();
});
