// How long the main thread of a page was taken at a time, by Chrome's own tracing: by the wall clock, and
// in CPU time of the thread, which other work of the machine does not lengthen.
import type { Browser, Page } from "@playwright/test";

/** Where a task is over this, a person notices. */
export const LONG_MS = 100;

export interface Tasks {
  /** The longest, ms. */
  wall: number;
  cpu: number;
  /** Those over `LONG_MS`. */
  wallOver: number;
  cpuOver: number;
}

interface Event {
  name: string;
  ph: string;
  pid: number;
  tid: number;
  dur?: number;
  tdur?: number;
  args?: { name?: string };
}

/** Names the renderers of our pages: the browser has some for its own use. */
const MARK = "ringward page";

/** Traces while something is done. */
export async function traced(browser: Browser, pages: Page[], act: () => Promise<void>): Promise<Tasks> {
  const session = await browser.newBrowserCDPSession();
  const events: Event[] = [];
  session.on("Tracing.dataCollected", ({ value }) => events.push(...(value as unknown as Event[]).filter(isOurs)));
  await session.send("Tracing.start", {
    transferMode: "ReportEvents",
    traceConfig: {
      recordMode: "recordContinuously",
      includedCategories: ["disabled-by-default-devtools.timeline", "blink.user_timing"],
      excludedCategories: ["*"],
    },
  });
  await act();
  for (const page of pages) await page.evaluate((mark) => performance.mark(mark), MARK);
  const over = new Promise<void>((told) => session.once("Tracing.tracingComplete", () => told()));
  await session.send("Tracing.end");
  await over;
  await session.detach();
  return tasksOf(events);
}

const isOurs = (event: Event) => event.name === "RunTask" || event.name === MARK || event.name === "thread_name";

function tasksOf(events: Event[]): Tasks {
  const pages = new Set(events.filter((e) => e.name === MARK).map((e) => e.pid));
  const mains = new Set(events.filter((e) => e.name === "thread_name" && e.args?.name === "CrRendererMain" && pages.has(e.pid)).map((e) => e.tid));
  const tasks = events.filter((e) => e.name === "RunTask" && e.ph === "X" && mains.has(e.tid));
  if (tasks.length === 0) throw new Error("the trace holds no task of a page's main thread");
  const [wall, cpu] = [tasks.map((e) => (e.dur ?? 0) / 1000), tasks.map((e) => (e.tdur ?? 0) / 1000)];
  const over = (of: number[]) => of.filter((ms) => ms > LONG_MS).length;
  const longest = (of: number[]) => of.reduce((a, b) => Math.max(a, b), 0);
  return { wall: longest(wall), cpu: longest(cpu), wallOver: over(wall), cpuOver: over(cpu) };
}
