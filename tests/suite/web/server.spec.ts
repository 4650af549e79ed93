// The real server with 203 hosts behind it: the demo's fleet, then a person at the page.
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Page } from "@playwright/test";
import { accessible, expect, listen, test } from "./page";

const PROGRAMS = process.env.RINGWARD_PROGRAMS;
/** A demo that is running already, for trying things out. */
const RUNNING = process.env.RINGWARD_DEMO_DIR;
let dir = RUNNING ?? "";
let demo: ChildProcess | undefined;

function program(name: string, ...args: string[]): string {
  return execFileSync(join(PROGRAMS!, name), args, { encoding: "utf8" }).trim();
}
const link = () => program("ringward-server", "login", "--data", join(dir, "server"));
const origin = () => new URL(link()).origin;

test.describe.configure({ mode: "serial" });

test.beforeAll(async () => {
  test.skip(PROGRAMS === undefined, "no folder with the built programs was named");
  if (RUNNING) return;
  test.setTimeout(300_000);
  dir = mkdtempSync(join(tmpdir(), "ringward-web-"));
  demo = spawn(join(PROGRAMS!, "ringward-demo"), ["--programs", PROGRAMS!, "--dir", dir], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise<void>((ready, broken) => {
    let told = "";
    demo!.stdout!.on("data", (text: Buffer) => {
      told += text.toString();
      if (told.includes("the server runs on")) ready();
    });
    demo!.on("exit", (code) => broken(new Error(`the demo ended with ${code}:\n${told.slice(-4000)}`)));
  });
});

test.afterAll(async () => {
  if (!demo) return;
  const over = new Promise((gone) => demo!.removeAllListeners("exit").on("exit", gone));
  demo.kill("SIGINT");
  await over;
  rmSync(dir, { recursive: true, force: true });
});

async function order(page: Page, verb: string, reason: string): Promise<void> {
  const dialog = page.getByRole("dialog");
  await expect(dialog.getByRole("button", { name: "Leave it" })).toBeVisible();
  await expect(dialog).not.toContainText("Asking the server");
  await dialog.getByLabel(/^Reason/u).fill(reason);
  const word = dialog.getByLabel(/This is large/u);
  if (await word.isVisible()) await word.fill((await dialog.locator("label code").innerText()).trim());
  await dialog.getByRole("button", { name: verb, exact: true }).click();
  await expect(dialog).toContainText("Done.");
  await dialog.getByRole("button", { name: "Close" }).click();
}

test("strangers get nothing: no session, another name, another origin, a used or made-up word", async ({ page, request }) => {
  const at = origin();
  const grpc = { "content-type": "application/grpc-web+proto", "x-grpc-web": "1" };
  const empty = Buffer.from([0, 0, 0, 0, 0]);
  const status = `${at}/ringward.v1.FleetService/Status`;
  expect((await request.post(status, { headers: grpc, data: empty })).headers()["grpc-status"]).toBe("16");
  expect((await request.get(at, { headers: { host: "evil.example" } })).status()).toBe(421);
  expect((await request.post(status, { headers: { ...grpc, origin: "http://evil.example" }, data: empty })).status()).toBe(403);
  expect((await request.post(status, { headers: { "content-type": "text/plain" }, data: empty })).status()).toBe(404);
  const login = (token: string) => request.post(`${at}/login`, { headers: { "content-type": "application/json" }, data: { token } });
  expect((await login("0".repeat(64))).status()).toBe(403);
  const word = new URL(link()).hash.replace("#login=", "");
  expect((await login(word)).status()).toBe(200);
  expect((await login(word)).status()).toBe(403);

  await page.goto(at);
  await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible();
  await accessible(page, "sign in");
});

test("the page is served under a policy without unsafe-inline, and its cookie is out of reach", async ({ page }) => {
  const response = await page.goto(origin());
  const policy = response!.headers()["content-security-policy"]!;
  expect(policy).toContain("default-src 'none'");
  expect(policy).not.toContain("unsafe");
  await page.goto(link());
  await expect(page.getByRole("button", { name: "Sign out" })).toBeVisible();
  expect(page.url()).not.toContain("login");
  const cookie = (await page.context().cookies()).find((c) => c.name.startsWith("ringward_"))!;
  expect(cookie).toMatchObject({ httpOnly: true, sameSite: "Strict" });
});

test("a person starts, pauses in two clicks, sees it halt by itself, and rolls back", async ({ page }) => {
  await page.goto(link());
  await expect(page.getByRole("button", { name: "Sign out" })).toBeVisible();

  // The demo left 1.1 barred: it killed hosts. Somebody insists.
  await page.getByRole("link", { name: "Releases" }).click();
  const row = page.getByRole("row").filter({ hasText: "endpoint-shield 1.1" });
  await expect(row.getByRole("button", { name: /Roll out.*it is barred/u })).toHaveAttribute("aria-disabled", "true");
  await row.getByRole("button", { name: /^Lift the bar/u }).click();
  await order(page, "Lift the bar", "somebody insists");
  await expect(row).not.toContainText("barred");
  await row.getByRole("button", { name: "Roll out…" }).click();
  await expect(page.getByRole("dialog")).toContainText("Exactly these hosts");
  await order(page, "Start the rollout", "once more");

  // Landing, and two clicks.
  await page.goto(origin());
  await page.getByRole("button", { name: "Pause…" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Pause", exact: true }).click();
  await expect(page.getByRole("dialog")).toContainText("Done.");
  await page.getByRole("button", { name: "Close" }).click();
  const lane = page.getByRole("article").first();
  await expect(lane).toContainText("Paused by a person");
  await lane.getByRole("button", { name: "Resume…" }).click();
  await order(page, "Resume", "seen enough");

  await expect(lane).toContainText("Stopped by itself", { timeout: 120_000 });
  await expect(lane).toContainText(/exposures failed|died the same way|may fail/u);
  await expect(lane.locator(".names a").first()).toBeVisible();
  await accessible(page, "halted");

  await lane.getByRole("button", { name: "Roll back…" }).click();
  await order(page, "Roll back", "it kills hosts");
  await expect(page.locator("main")).toContainText("Rolled back", { timeout: 5_000 }).catch(() => undefined);
  const over = page.getByRole("row").filter({ hasText: "rollback" }).first();
  await expect(over).toContainText("completed", { timeout: 120_000 });
});

for (const colorScheme of ["light", "dark"] as const) {
  test(`every page is accessible over real data, ${colorScheme}`, async ({ page }) => {
    await page.emulateMedia({ colorScheme });
    await page.goto(link());
    await expect(page.getByRole("button", { name: "Sign out" })).toBeVisible();
    await accessible(page, "landing");
    await page.getByRole("link", { name: /endpoint-shield 1\.1/u }).first().click();
    await expect(page.getByRole("heading", { name: "Evidence" })).toBeVisible();
    await accessible(page, "rollout");
    await page.getByRole("link", { name: "Fleet" }).click();
    await expect(page.getByRole("grid", { name: "Hosts" }).getByRole("row").nth(2)).toBeVisible();
    await accessible(page, "fleet");
    await page.getByRole("gridcell").getByRole("link").first().click();
    await expect(page.getByRole("heading", { name: "Signals, newest first" })).toBeVisible();
    await accessible(page, "host");
    await page.getByRole("link", { name: "Releases" }).click();
    await expect(page.getByRole("row").nth(1)).toBeVisible();
    await accessible(page, "releases");
  });
}

test.describe("a cut", () => {
  // A refused connection is an error in any console; here it is the point.
  test.use({ quiet: [async ({}, use) => use(), { auto: true }] });

  test("a server that stops answering makes the page say how old it is, and come back by itself", async ({ page }) => {
    const said = listen(page);
    await page.goto(link());
    const fresh = page.getByRole("status").first();
    await expect(fresh).toHaveText("live");
    const pid = serverPid();
    process.kill(pid, "SIGSTOP");
    try {
      await expect(fresh).toContainText(/stale since \d+ s/u, { timeout: 20_000 });
      await expect(page.locator("body")).toContainText("trying again by itself");
    } finally {
      process.kill(pid, "SIGCONT");
    }
    await expect(fresh).toHaveText("live", { timeout: 20_000 });
    expect(said.filter((line) => line.startsWith("uncaught"))).toEqual([]);
  });

  test("signing out ends the session on the server too", async ({ page }) => {
    await page.goto(link());
    await page.getByRole("button", { name: "Sign out" }).click();
    await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible();
    await page.goto(origin());
    await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible();
  });
});

/** The server of this demo, found by its data folder. */
function serverPid(): number {
  for (const pid of execFileSync("ls", ["/proc"], { encoding: "utf8" }).split("\n").filter((p) => /^\d+$/u.test(p))) {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      if (line[0]?.endsWith("ringward-server") && line.includes(join(dir, "server"))) return Number(pid);
    } catch {
      // It ended meanwhile.
    }
  }
  throw new Error("no server runs for this demo");
}
