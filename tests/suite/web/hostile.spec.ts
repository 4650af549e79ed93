import { accessible, expect, open, test } from "./page";

test("names and reasons with markup, direction marks and 4 KiB are text, and nothing but text", async ({ page }) => {
  await open(page, "/fleet", "hostile");
  const grid = page.getByRole("grid", { name: "Hosts" });
  await expect(grid).toContainText('<script>alert("name")</script>');
  await expect(grid).toContainText("till-⟨U+202E⟩gnp.exe");
  await expect(grid).not.toContainText("\u202e");
  await open(page, "/", "hostile");
  await expect(page.getByRole("article").first()).toContainText('<b>bold</b> & "quoted" ⟨U+2066⟩reordered');
  await expect(page.getByRole("article").first()).toContainText("dana⟨U+202E⟩");
  expect(await page.locator("main img, main script, main b:text('bold')").count()).toBe(0);
  expect(await page.title()).not.toContain("owned");
  const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  expect(over).toBeLessThanOrEqual(0);
  await accessible(page, "hostile");
});

test("the page asks nobody but its own server for anything", async ({ page, baseURL }) => {
  const asked: string[] = [];
  page.on("request", (request) => asked.push(request.url()));
  await open(page, "/rollouts/r-0000000000005ea1", "halting");
  await expect(page.locator("canvas")).toBeVisible();
  expect(asked.filter((url) => !url.startsWith(baseURL!))).toEqual([]);
});

test("a browser clock that is an hour off changes no age", async ({ page }) => {
  await page.addInitScript(() => {
    const now = Date.now;
    Date.now = () => now() + 3_600_000;
  });
  await open(page, "/", "halting");
  await expect(page.getByRole("article").first()).toContainText(/started it 4 min/u);
});
