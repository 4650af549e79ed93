import { accessible, expect, open, test } from "./page";

const SCENES: [string, string, string][] = [
  ["landing, quiet", "/", "quiet"],
  ["landing, halted", "/", "halting"],
  ["landing, disaster", "/", "disaster"],
  ["landing, empty", "/", "empty"],
  ["rollout, halted", "/rollouts/r-0000000000005ea1", "halting"],
  ["rollout, quiet", "/rollouts/r-0000000000005ea0", "quiet"],
  ["fleet", "/fleet", "halting"],
  ["fleet, empty", "/fleet", "empty"],
  ["releases", "/releases", "disaster"],
  ["releases, empty", "/releases", "empty"],
  ["incidents", "/incidents", "disaster"],
  ["incidents, none", "/incidents", "quiet"],
  ["orders", "/orders/o-00000000000000d1", "disaster"],
  ["orders, none", "/orders", "quiet"],
  ["audit", "/audit", "quiet"],
  ["audit, empty", "/audit", "empty"],
  ["nowhere", "/fleet/none", "quiet"],
];

for (const colorScheme of ["light", "dark"] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme });
    for (const [name, path, scene] of SCENES) {
      test(`axe finds nothing on ${name}`, async ({ page }) => {
        await open(page, path, scene);
        await expect(page.locator("main")).not.toContainText("Asking the server");
        await accessible(page, `${name}, ${colorScheme}`);
      });
    }
    test("axe finds nothing on a host and on an order", async ({ page }) => {
      await open(page, "/fleet?state=attention", "halting");
      await page.getByRole("gridcell").getByRole("link").first().click();
      await expect(page.getByRole("heading", { name: "Signals, newest first" })).toBeVisible();
      await accessible(page, `host, ${colorScheme}`);
      await page.getByRole("link", { name: "Rollouts" }).click();
      await page.getByRole("button", { name: /^Roll back/u }).first().click();
      await expect(page.getByRole("dialog")).toContainText("Rolls 3 hosts back");
      await accessible(page, `order, ${colorScheme}`);
    });
  });
}

test("a person pauses within two clicks of landing", async ({ page }) => {
  await open(page, "/", "quiet");
  await page.getByRole("button", { name: "Pause…" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Pause", exact: true }).click();
  await expect(page.getByRole("dialog")).toContainText("Done.");
  await page.getByRole("button", { name: "Close" }).click();
  await expect(page.getByRole("article").first()).toContainText("Paused by a person");
});

test("clicking twice as fast as can be gives one order", async ({ page }) => {
  await open(page, "/", "quiet");
  await page.getByRole("button", { name: "Stop everything…" }).click();
  const button = page.getByRole("dialog").getByRole("button", { name: "Stop everything", exact: true });
  await expect(button).toHaveAttribute("aria-disabled", "false");
  await button.evaluate((b: HTMLButtonElement) => {
    for (let i = 0; i < 5; i += 1) b.click();
  });
  await expect(page.getByRole("alert").first()).toContainText("Everything is stopped");
  await expect(page.locator("html")).toHaveAttribute("data-orders", "1");
});

test("an order says exactly whom it concerns, wants a reason, and a large one is typed out", async ({ page }) => {
  await open(page, "/releases", "quiet");
  await page.getByRole("button", { name: "Roll out…" }).first().click();
  const dialog = page.getByRole("dialog");
  await expect(dialog).toContainText("Exactly these hosts (203 listed)");
  await expect(dialog).toContainText("Know this:");
  const go = dialog.getByRole("button", { name: "Start the rollout" });
  await expect(go).toHaveAttribute("aria-disabled", "true");
  await expect(dialog).toContainText("write a reason first");
  await dialog.getByLabel(/^Reason/u).fill("it is time");
  await expect(dialog).toContainText("type sensor 4.2.0 to confirm");
  await dialog.getByLabel(/This is large/u).fill("sensor 4.2.0");
  await expect(go).toHaveAttribute("aria-disabled", "false");
});

test("an order that is not possible stays reachable and says why", async ({ page }) => {
  await open(page, "/releases", "disaster");
  const button = page.getByRole("button", { name: /Roll out.*not possible: everything is stopped/u }).first();
  await expect(button).toHaveAttribute("aria-disabled", "true");
  await button.click({ force: true });
  await expect(page.getByRole("dialog")).toBeHidden();
});

test("of two people the second learns that the first was faster", async ({ page }) => {
  await open(page, "/", "quiet");
  await page.getByRole("button", { name: "Pause…" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("button", { name: "Pause", exact: true }).click();
  await expect(dialog).toContainText("Done.");
  await dialog.getByRole("button", { name: "Close" }).click();
  // What the second person's page showed before the first one's order reached it.
  await page.getByRole("button", { name: "Resume…" }).click();
  await dialog.getByLabel(/^Reason/u).fill("seen enough");
  await dialog.getByRole("button", { name: "Resume", exact: true }).click();
  await expect(dialog).toContainText("Done.");
});

test("a number links to exactly its hosts", async ({ page }) => {
  await open(page, "/", "halting");
  await page.getByRole("link", { name: "1 silent" }).click();
  await expect(page).toHaveURL(/ring=canary&kind=11/u);
  const rows = page.getByRole("grid", { name: "Hosts of this rollout" }).getByRole("row");
  await expect(rows).toHaveCount(2);
  await expect(rows.nth(1)).toContainText("silent");
});

test("the filter lives in the address and survives a reload", async ({ page }) => {
  await open(page, "/fleet", "halting");
  await page.getByRole("button", { name: /requires attention/u }).click();
  await expect(page).toHaveURL(/state=attention/u);
  const told = page.locator("main").getByText(/filtered out/u);
  await expect(told).toBeVisible();
  const before = await told.textContent();
  await page.reload();
  await expect(told).toHaveText(before!);
});

test("the fleet by ring leads to exactly the hosts of a ring, and the filter says so", async ({ page }) => {
  await open(page, "/fleet", "halting");
  await page.getByRole("button", { name: "ring", exact: true }).click();
  const row = page.getByRole("row").filter({ has: page.getByRole("rowheader", { name: "canary" }) });
  const hosts = await row.getByRole("cell").first().innerText();
  await row.getByRole("cell").first().getByRole("link").click();
  await expect(page).toHaveURL(/ring=canary/u);
  await expect(page.locator("main")).toContainText(`${hosts} hosts shown`);
  await page.getByRole("button", { name: /ring: canary/u }).click();
  await expect(page.locator("main")).toContainText("203 hosts shown");
});

test("hosts without a session are named", async ({ page }) => {
  await open(page, "/fleet", "halting", 3_000);
  await expect(page.locator("main")).toContainText("Without a session:");
  await page.getByRole("link", { name: /^all \d+/u }).click();
  await expect(page).toHaveURL(/state=silent/u);
});

test("a second person approves exactly what is shown", async ({ page }) => {
  await open(page, "/orders", "disaster");
  await page.getByRole("button", { name: "Approve…" }).click();
  const dialog = page.getByRole("dialog");
  await expect(dialog).toContainText("Quarantine 61 hosts");
  await dialog.getByLabel(/^Reason/u).fill("seen, it is right");
  const go = dialog.getByRole("button", { name: "Approve", exact: true });
  await expect(go).toHaveAttribute("aria-disabled", "true");
  await dialog.getByLabel(/This is large/u).fill("approve");
  await go.click();
  await expect(dialog).toContainText("Done.");
  await dialog.getByRole("button", { name: "Close" }).click();
  await expect(page.locator("main")).toContainText("approved by dana");
});

test("what a role does not allow stays reachable and says so", async ({ page }) => {
  await page.goto("/?scene=quiet&hosts=203&role=viewer");
  const stop = page.getByRole("button", { name: /Stop everything.*not possible: it needs any role but viewer; you are viewer/u });
  await expect(stop).toHaveAttribute("aria-disabled", "true");
  await stop.click({ force: true });
  await expect(page.getByRole("dialog")).toBeHidden();
});

test("an incident names suspects with their counts and the hosts at risk", async ({ page }) => {
  await open(page, "/incidents", "disaster");
  const incident = page.getByRole("article", { name: /Incident 3/u });
  await expect(incident).toContainText("19 of 22 failed");
  await expect(incident).toContainText("0 of 181 failed");
  await expect(incident.getByRole("list", { name: "Hosts at risk" }).getByRole("link")).toHaveCount(3);
  await expect(incident).toContainText("ringwardctl rollouts rollback sensor@4.2.0");
});

test("the audit log is searched by every word, and the search is in the address", async ({ page }) => {
  await open(page, "/audit", "quiet");
  const log = page.getByRole("grid", { name: "Audit log" });
  await expect(log.getByRole("row")).toHaveCount(6);
  await page.keyboard.press("/");
  await page.keyboard.type("halt ringward");
  await expect(log.getByRole("row")).toHaveCount(2);
  await page.reload();
  await expect(log.getByRole("row")).toHaveCount(2);
  await expect(log).toContainText("rollout halt");
});

test("everything is reached by keyboard", async ({ page }) => {
  await open(page, "/", "halting");
  await page.keyboard.press("g");
  await page.keyboard.press("f");
  await expect(page.getByRole("heading", { name: "Fleet" })).toBeVisible();
  const grid = page.getByRole("grid", { name: "Hosts" });
  await grid.focus();
  await page.keyboard.press("End");
  await expect(grid).toHaveAttribute("aria-activedescendant", "host-202");
  await page.keyboard.press("Home");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: "Signals, newest first" })).toBeVisible();
});

test("the page fits a phone without a sideways scroll", async ({ page }) => {
  await page.setViewportSize({ width: 360, height: 740 });
  for (const path of ["/", "/rollouts/r-0000000000005ea1", "/fleet", "/releases", "/audit", "/incidents", "/orders"]) {
    await open(page, path, "halting");
    const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    expect(over, path).toBeLessThanOrEqual(0);
  }
});

test("a person's choice of colours beats the system's, and lasts", async ({ page }) => {
  await open(page, "/", "quiet");
  const before = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  await page.getByRole("button", { name: /dark and light/u }).click();
  await page.reload();
  await expect.poll(() => page.evaluate(() => getComputedStyle(document.body).backgroundColor)).not.toBe(before);
});
