import { expect, open, test } from "./page";

// Figures, not judgements: what a machine manages is printed as a table; what is asserted holds on any.
test("100,000 hosts load, filter and scroll, with few of their rows in the page", async ({ page }) => {
  test.setTimeout(120_000);
  await page.addInitScript(() => {
    const long: number[] = ((globalThis as never as { long: number[] }).long = []);
    new PerformanceObserver((list) => list.getEntries().forEach((e) => long.push(e.duration))).observe({ type: "longtask", buffered: true });
  });
  const begun = Date.now();
  await open(page, "/fleet", "busy", 100_000);
  const grid = page.getByRole("grid", { name: "Hosts" });
  await expect(grid.getByRole("row").nth(3)).toBeVisible();
  const firstMs = Date.now() - begun;
  await expect(page.locator("main")).toContainText("100,000 hosts shown", { timeout: 90_000 });
  const allMs = Date.now() - begun;
  expect(await grid.getByRole("row").count()).toBeLessThan(80);
  await grid.focus();
  await page.keyboard.press("End");
  await expect(grid).toHaveAttribute("aria-activedescendant", "host-99999");
  await page.getByRole("button", { name: /requires attention/u }).click();
  await expect(page.locator("main")).toContainText("filtered out");

  await open(page, "/", "busy", 100_000);
  await page.evaluate(() => ((globalThis as never as { long: number[] }).long.length = 0));
  const confirmed = page.locator(".counts").first();
  const seen = new Set<string>();
  const until = Date.now() + 5_000;
  while (Date.now() < until) {
    seen.add(await page.locator(".lanes").first().innerText());
    await confirmed.isVisible();
  }
  expect(seen.size).toBeGreaterThan(2);
  const session = await page.context().newCDPSession(page);
  const longest = await page.evaluate(() => Math.max(0, ...(globalThis as never as { long: number[] }).long));
  await session.send("HeapProfiler.collectGarbage");
  const { usedSize } = await session.send("Runtime.getHeapUsage");
  console.log(
    [
      "100,000 hosts (messages made in the page itself)",
      `  first rows          ${firstMs} ms`,
      `  all rows            ${allMs} ms`,
      `  views drawn in 5 s  ${seen.size}`,
      `  longest task        ${longest.toFixed(0)} ms`,
      `  script memory       ${(usedSize / 2 ** 20).toFixed(0)} MiB`,
    ].join("\n"),
  );
});

test("no host at all is a page that says how to get one", async ({ page }) => {
  await open(page, "/fleet", "empty", 0);
  await expect(page.locator("main")).toContainText("ringwardctl tokens create");
  await open(page, "/", "empty", 0);
  await expect(page.locator("main")).toContainText("ringwardctl rollouts start");
});
