// The real server with 203 hosts behind it: the demo's fleet, then a person at the page.
import type { Browser, Locator, Page } from "@playwright/test";
import { PROGRAMS, serverPid, startDemo, type Demo } from "./demo";
import { accessible, expect, listen, test } from "./page";

let demo: Demo;
const link = (admin?: string) => demo.link(admin);
const origin = () => demo.origin();

/** What somebody writes who means no good; 4 KiB of it. */
const NASTY = `<script>alert(1)</script> \u202eevil\u202c ${"r".repeat(4096)}`.slice(0, 4000);

test.describe.configure({ mode: "serial" });

test.beforeAll(async () => {
  test.skip(PROGRAMS === undefined, "no folder with the built programs was named");
  test.setTimeout(300_000);
  demo = await startDemo();
});

test.afterAll(async () => {
  await demo?.stop();
});

/** A person at a page of their own. */
async function arrive(browser: Browser, admin?: string): Promise<Page> {
  const page = await (await browser.newContext()).newPage();
  await page.goto(link(admin));
  await expect(page.getByRole("button", { name: "Sign out" })).toBeVisible();
  return page;
}

/** Fills a dialog in and sends it; `answer`: how the dialog ends. */
async function order(page: Page, verb: string, reason: string, answer = "Done."): Promise<void> {
  const dialog = page.getByRole("dialog");
  await expect(dialog.getByRole("button", { name: "Leave it" })).toBeVisible();
  await expect(dialog).not.toContainText("Asking the server");
  await dialog.getByLabel(/^Reason/u).fill(reason);
  const word = dialog.getByLabel(/This is large/u);
  if (await word.isVisible()) await word.fill((await dialog.locator("label code").innerText()).trim());
  await dialog.getByRole("button", { name: verb, exact: true }).click();
  await expect(dialog).toContainText(answer);
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

test("a person starts, pauses in two clicks, sees it halt by itself, learns that a second person was faster, and rolls back", async ({ page, browser }) => {
  await page.goto(link());
  await expect(page.getByRole("button", { name: "Sign out" })).toBeVisible();

  // The demo left 1.1 halted and barred: it killed hosts. Somebody insists.
  await page.getByRole("article").filter({ hasText: "endpoint-shield 1.1" }).getByRole("button", { name: "Abort…" }).click();
  await order(page, "Abort for good", "to begin anew");
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

  // Two look at the same; the second one's order no longer fits.
  const address = await lane.getByRole("heading").getByRole("link").first().getAttribute("href");
  await lane.getByRole("button", { name: "Resume…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel(/^Reason/u).fill("it will be fine");
  const second = await arrive(browser, "bea");
  await second.getByRole("article").first().getByRole("button", { name: "Abort…" }).click();
  await order(second, "Abort for good", "it kills hosts");
  await second.context().close();
  const word = dialog.getByLabel(/This is large/u);
  if (await word.isVisible()) await word.fill((await dialog.locator("label code").innerText()).trim());
  await dialog.getByRole("button", { name: "Resume", exact: true }).click();
  await expect(dialog.getByRole("alert")).toContainText("Somebody else may have been faster");
  await dialog.getByRole("button", { name: "Close" }).click();

  await page.goto(origin() + address!);
  await expect(page.getByRole("heading", { name: /Aborted by a person/u })).toBeVisible();
  await expect(page.getByRole("region", { name: "Timeline" })).toContainText("Halted: ");
  await page.getByRole("button", { name: "Roll back…" }).click();
  await order(page, "Roll back", "it kills hosts");
  await page.goto(origin());
  await expect(page.locator("main")).toContainText("Rolled back", { timeout: 5_000 }).catch(() => undefined);
  const over = page.getByRole("row").filter({ hasText: "rollback" }).first();
  await expect(over).toContainText("completed", { timeout: 120_000 });
});

test("a quarantine of a protected host waits for a second person, who approves exactly it", async ({ page, browser }) => {
  const [protectedHost, open] = ["sim-007", "sim-008"];
  demo.ctl("hosts", "label", protectedHost, "protected=holds-the-keys", "--reason", "nobody isolates it alone");
  await page.goto(link());
  await expect(page.getByRole("button", { name: "Sign out" })).toBeVisible();
  await page.goto(`${origin()}/fleet?q=${protectedHost}`);
  await page.getByRole("gridcell").getByRole("link").first().click();
  await page.getByRole("button", { name: "Quarantine…" }).click();
  const dialog = page.getByRole("dialog");
  await expect(dialog.getByRole("alert")).toContainText("protected: holds-the-keys");
  await dialog.getByRole("checkbox", { name: /^Protected hosts too/u }).check();
  await expect(dialog).toContainText("it will wait for a second person");
  await expect(dialog.getByRole("checkbox", { name: /^Break the glass/u })).toBeVisible();
  await order(page, "Quarantine", NASTY, "Nothing was done yet.");
  const host = page.url();

  await page.getByRole("link", { name: "Orders" }).click();
  await expect(page.getByRole("button", { name: /^Approve….*not possible: you asked for it yourself/u })).toBeVisible();
  expect(demo.ctl("orders", "list", "-o", "json")).not.toContain("quarantine");

  const second = await arrive(browser, "bea");
  await second.getByRole("link", { name: "Orders" }).click();
  const waiting = second.getByRole("article").filter({ hasText: "Waits for a second person" });
  await expect(waiting).toContainText(protectedHost);
  await expect(waiting).toContainText("<script>alert(1)</script>");
  await expect(waiting).not.toContainText("\u202e");
  await accessible(second, "an approval");
  await waiting.getByRole("button", { name: "Approve…" }).click();
  await order(second, "Approve", "seen, it is right");
  await expect(second.locator("main")).toContainText("approved by bea");
  await second.context().close();

  // Without a word of hers the first session sees it: approved, carried out, proved by the host.
  await expect(page.getByRole("row").filter({ hasText: "quarantine" }).first()).toContainText("1 done", { timeout: 30_000 });
  await page.getByRole("link", { name: "1 done" }).first().click();
  await expect(page.getByRole("grid", { name: "Hosts of this order" })).toContainText(protectedHost);
  await accessible(page, "an order");
  await page.goto(host);
  await expect(page.locator("main")).toContainText("isolated for", { timeout: 30_000 });
  await page.getByRole("button", { name: "Release…" }).click();
  await order(page, "Release from quarantine", "all is well");
  await expect(page.getByRole("button", { name: "Quarantine…" })).toBeVisible({ timeout: 30_000 });

  // One that is not protected needs nobody else.
  await page.goto(`${origin()}/fleet?q=${open}`);
  await expect(page.locator("main")).toContainText("1 host shown");
  await page.getByRole("button", { name: "Order to these 1 host…" }).click();
  await expect(dialog).toContainText(open);
  await dialog.getByRole("button", { name: "Leave it" }).click();
});

for (const colorScheme of ["light", "dark"] as const) {
  test(`every page is accessible over real data, ${colorScheme}`, async ({ page }) => {
    await page.emulateMedia({ colorScheme });
    await page.goto(link());
    await expect(page.getByRole("button", { name: "Sign out" })).toBeVisible();
    const look = async (name: string, seen: Locator) => {
      await expect(seen).toBeVisible();
      await accessible(page, `${name}, ${colorScheme}`);
    };
    await look("landing", page.getByRole("heading", { name: "Over" }));
    await page.getByRole("link", { name: /endpoint-shield 1\.1/u }).first().click();
    await look("rollout", page.getByRole("heading", { name: "Evidence" }));
    await page.getByRole("link", { name: "Fleet" }).click();
    await look("fleet", page.getByRole("grid", { name: "Hosts" }).getByRole("row").nth(2));
    await page.getByRole("gridcell").getByRole("link").first().click();
    await look("host", page.getByRole("heading", { name: "Signals, newest first" }));
    await page.getByRole("link", { name: "Incidents" }).click();
    await look("incidents", page.getByText(/\d+ incidents? open/u));
    await page.getByRole("link", { name: "Orders" }).click();
    await look("orders", page.getByRole("row").nth(1));
    await page.getByRole("link", { name: "Releases" }).click();
    await look("releases", page.getByRole("row").nth(1));
    await page.getByRole("link", { name: "Audit" }).click();
    await look("audit", page.getByRole("grid", { name: "Audit log" }).getByText("rollout halt").first());
    await page.goto(`${origin()}/fleet/none`);
    await look("nowhere", page.getByRole("heading", { name: "Nothing is here" }));
    await page.getByRole("button", { name: "Stop everything…" }).click();
    await look("an order's dialog", page.getByRole("dialog").getByRole("button", { name: "Leave it" }));
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
    const pid = serverPid(demo.dir);
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

  test("a session that ends in the middle of an order carries nothing out, and says so", async ({ page }) => {
    await page.goto(link());
    await page.getByRole("button", { name: "Stop everything…" }).click();
    const dialog = page.getByRole("dialog");
    await expect(dialog.getByRole("button", { name: "Stop everything", exact: true })).toHaveAttribute("aria-disabled", "false");
    await page.evaluate(() => fetch("/logout", { method: "POST", headers: { "content-type": "application/json" }, body: "{}" }));
    await dialog.getByRole("button", { name: "Stop everything", exact: true }).click();
    await expect(dialog).toContainText("the order was not carried out");
    await page.goto(link());
    await expect(page.getByRole("button", { name: "Stop everything…" })).toBeVisible();
  });

  test("a server that is killed and comes back carries out an order whose answer was lost, once", async ({ page }) => {
    const said = listen(page);
    await page.goto(link());
    await page.getByRole("button", { name: "Stop everything…" }).click();
    const dialog = page.getByRole("dialog");
    const go = dialog.getByRole("button", { name: "Stop everything", exact: true });
    await expect(go).toHaveAttribute("aria-disabled", "false");
    const entries = () => demo.ctl("audit", "list", "-o", "json").split('fleet stop-all').length - 1;
    const before = entries();
    demo.kill();
    await go.click();
    await expect(dialog).toContainText("The answer was lost.", { timeout: 30_000 });
    await expect(page.getByRole("status").first()).toContainText(/stale since \d+ s/u, { timeout: 30_000 });
    await demo.restart();
    // Sessions end with their server: the page says so and keeps the order under its id.
    await expect(dialog).toContainText("You are signed out", { timeout: 30_000 });
    const tab = await page.context().newPage();
    await tab.goto(link());
    await expect(tab.getByRole("button", { name: "Sign out" })).toBeVisible();
    await dialog.getByRole("button", { name: "Send again" }).click();
    await expect(dialog).toContainText("Done.");
    await dialog.getByRole("button", { name: "Close" }).click();
    await expect(page.getByRole("alert").first()).toContainText("Everything is stopped");
    expect(entries()).toBe(before + 1);
    expect(said.filter((line) => line.startsWith("uncaught"))).toEqual([]);
  });

  test("a person signs in by name and password, and a wrong one is told in the server's words", async ({ page }) => {
    const at = origin();
    const refused = await page.request.post(`${at}/login`, { headers: { "content-type": "application/json" }, data: { name: "nobody", password: "nobody's password" } });
    expect(refused.status()).toBe(403);
    const password = "a horse that is right";
    demo.ctlWith(`${password}\n`, "people", "password", "admin", "--reason", "to sign in by it");
    const said = listen(page);
    await page.goto(at);
    await page.getByLabel("Name", { exact: true }).fill("admin");
    await page.getByLabel("Password", { exact: true }).fill("a horse that is wrong");
    await page.keyboard.press("Enter");
    await expect(page.getByRole("alert")).toContainText((await refused.text()).trim());
    await expect(page.getByLabel("Password", { exact: true })).toBeFocused();
    await page.keyboard.type(password);
    await page.keyboard.press("Enter");
    await expect(page.getByRole("banner")).toContainText("admin");
    await expect(page.getByRole("status").first()).toHaveText("live");
    const cookie = (await page.context().cookies()).find((c) => c.name.startsWith("ringward_"))!;
    expect(cookie).toMatchObject({ httpOnly: true, sameSite: "Strict" });
    await page.getByRole("button", { name: "Sign out" }).click();
    await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible();
    expect(await (await page.request.get(`${at}/session`)).json()).toBeNull();
    expect(said.filter((line) => !/status of 403/u.test(line))).toEqual([]);
  });

  test("signing out ends the session on the server too", async ({ page }) => {
    await page.goto(link());
    await page.getByRole("button", { name: "Sign out" }).click();
    await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible();
    await page.goto(origin());
    await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible();
  });
});
