import { accessible, expect, open, test } from "./page";

test("an order to what the table shows names exactly these hosts, and is typed out when large", async ({ page }) => {
  await open(page, "/fleet", "quiet");
  const order = page.getByRole("button", { name: /^Order….*not possible: narrow the list first/u });
  await expect(order).toHaveAttribute("aria-disabled", "true");
  await page.getByLabel("Label", { exact: true }).fill("site=ber");
  const told = await page.locator("main").getByText(/hosts shown/u).innerText();
  const hosts = /^(\d+) hosts/u.exec(told)![1]!;
  await page.getByLabel("What to order").selectOption({ label: "Collect evidence" });
  await page.getByRole("button", { name: `Order to these ${hosts} hosts…` }).click();
  const dialog = page.getByRole("dialog");
  await expect(dialog).toContainText(`Exactly these hosts (${hosts} listed)`);
  await dialog.getByLabel(/^Reason/u).fill("who knows");
  if (Number(hosts) >= 50) await dialog.getByLabel(/This is large/u).fill("collect evidence");
  await dialog.getByRole("button", { name: "Collect evidence", exact: true }).click();
  await expect(dialog).toContainText("Done.");
  await dialog.getByRole("link", { name: "Follow it live" }).click();
  await expect(page.getByRole("heading", { name: /^Collect evidence:/u })).toBeVisible();
  await expect(page.getByRole("grid", { name: "Hosts of this order" })).toContainText("not told yet");
});

test("a protected host is left out, or waits for a second person, or is done by breaking the glass", async ({ page }) => {
  await open(page, "/fleet?label=protected", "quiet");
  await page.getByRole("gridcell").getByRole("link").first().click();
  await page.getByRole("button", { name: "Quarantine…" }).click();
  const dialog = page.getByRole("dialog");
  await expect(dialog.getByRole("alert")).toContainText("protected: holds the keys");
  await expect(dialog.getByRole("checkbox", { name: /^Break the glass/u })).toHaveCount(0);
  await dialog.getByRole("checkbox", { name: /^Protected hosts too/u }).check();
  await expect(dialog).toContainText("it will wait for a second person");
  await accessible(page, "an order that needs two");
  await dialog.getByLabel(/^Reason/u).fill("it talks to a strange address");
  await dialog.getByRole("button", { name: "Quarantine", exact: true }).click();
  await expect(dialog).toContainText("Nothing was done yet.");
  await dialog.getByRole("link", { name: "See what waits" }).click();
  await expect(page.getByRole("article").filter({ hasText: "Waits for a second person" })).toContainText("1 of the hosts are protected");
  await expect(page.getByRole("button", { name: /^Approve….*not possible: you asked for it yourself/u })).toBeVisible();

  await page.goBack();
  await page.getByRole("button", { name: "Quarantine…" }).click();
  await dialog.getByRole("checkbox", { name: /^Protected hosts too/u }).check();
  await dialog.getByRole("checkbox", { name: /^Break the glass/u }).check();
  await expect(dialog).not.toContainText("it will wait for a second person");
  await dialog.getByLabel(/^Reason/u).fill("nobody else is awake");
  await dialog.getByRole("button", { name: "Quarantine", exact: true }).click();
  await expect(dialog).toContainText("Done.");
  await dialog.getByRole("button", { name: "Close" }).click();
  await page.getByRole("link", { name: "Orders" }).click();
  await expect(page.getByRole("row").nth(1)).toContainText("alone, where two were needed");
});

test("a number of an order leads to exactly its hosts", async ({ page }) => {
  await open(page, "/orders", "disaster");
  const row = page.getByRole("row").filter({ hasText: "quarantine" });
  await row.getByRole("link", { name: "1 delivered" }).click();
  await expect(page).toHaveURL(/far=delivered/u);
  const grid = page.getByRole("grid", { name: "Hosts of this order" });
  await expect(grid.getByRole("row")).toHaveCount(2);
  await expect(grid).toContainText("it knows");
  await page.getByRole("link", { name: "all 2" }).click();
  await expect(grid.getByRole("row")).toHaveCount(3);
});

test("the hosts that run a release are what its number leads to", async ({ page }) => {
  await open(page, "/releases", "halting");
  const row = page.getByRole("row").filter({ hasText: "sensor 4.2.0" });
  await row.getByRole("link", { name: /hosts?$/u }).click();
  await expect(page).toHaveURL(/running=sensor\+4.2.0/u);
  const grid = page.getByRole("grid", { name: "Hosts" });
  await expect(grid.getByRole("row").nth(1)).toContainText("sensor 4.2.0");
  await expect(grid).not.toContainText("sensor 4.1.3");
  await page.getByRole("button", { name: /runs: sensor 4.2.0/u }).click();
  await expect(page.locator("main")).toContainText("203 hosts shown");
});

test("a stream that tells nothing any more is made up for by asking", async ({ page }) => {
  await open(page, "/", "stalled");
  const lanes = page.locator(".lanes").first();
  // The first change is the listing at the beginning, the second one was asked for.
  for (const _ of ["listed", "asked"]) {
    const before = await lanes.innerText();
    await expect(lanes).not.toHaveText(before, { timeout: 30_000 });
  }
});

test("the stack and the module of a crash are told in words", async ({ page }) => {
  await open(page, "/fleet?state=attention", "halting");
  await page.getByRole("gridcell").getByRole("link").first().click();
  const frames = page.getByRole("list", { name: "Stack, innermost first" }).first();
  await expect(frames.getByRole("listitem")).toHaveCount(3);
  await expect(page.locator("main")).toContainText("sensor.sys");
});

test("no cell of the fleet's table is cut off at its right edge, however wide the window", async ({ page }) => {
  for (const width of [360, 700, 1000, 1200, 1366, 1440, 1920]) {
    await page.setViewportSize({ width, height: 800 });
    await open(page, "/fleet", "halting");
    const grid = page.getByRole("grid", { name: "Hosts" });
    await expect(grid.getByRole("row").nth(2)).toBeVisible();
    const over = await grid.evaluate((box) => {
      const edge = box.getBoundingClientRect().left + box.clientWidth;
      const last = [...box.querySelectorAll(".c-seen")] as HTMLElement[];
      return last.filter((cell) => cell.getBoundingClientRect().right > edge + 0.5 || cell.scrollWidth > cell.clientWidth).map((cell) => cell.textContent);
    });
    expect(over, `${width} px`).toEqual([]);
  }
});

test("nothing moves while a page fills", async ({ page }) => {
  await page.addInitScript(() => {
    const moved = { by: 0 };
    (globalThis as never as { moved: typeof moved }).moved = moved;
    new PerformanceObserver((list) => list.getEntries().forEach((e) => (moved.by += (e as never as { value: number; hadRecentInput: boolean }).hadRecentInput ? 0 : (e as never as { value: number }).value))).observe({
      type: "layout-shift",
      buffered: true,
    });
  });
  for (const path of ["/", "/rollouts/r-0000000000005ea1", "/fleet", "/releases", "/incidents", "/orders", "/audit"]) {
    await open(page, path, "halting");
    await expect(page.locator("main")).not.toContainText("Asking the server");
    await page.evaluate(() => document.fonts.ready);
    const by = await page.evaluate(() => (globalThis as never as { moved: { by: number } }).moved.by);
    // What Web Vitals calls good is 0.1.
    expect(by, path).toBeLessThan(0.1);
  }
});
