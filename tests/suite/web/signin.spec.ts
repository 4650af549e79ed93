import { accessible, expect, listen, test } from "./page";

// What the server answers to a wrong password is an error in any console; here it is the point.
const REFUSED = /status of (403|429)/u;

const arrive = async (page: import("@playwright/test").Page, path = "/", door = "shut") => {
  await page.goto(`${path}?scene=quiet&hosts=203&door=${door}`);
  await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible();
};

for (const colorScheme of ["light", "dark"] as const) {
  test(`axe finds nothing on the sign-in page, ${colorScheme}`, async ({ page }) => {
    await page.emulateMedia({ colorScheme });
    await arrive(page);
    await accessible(page, `sign in, ${colorScheme}`);
    await page.getByText("No password? Use a one-time word").click();
    await page.getByLabel("Name", { exact: true }).fill("bea");
    await page.getByLabel("Password", { exact: true }).fill("wrong");
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
    await expect(page.getByRole("alert")).toHaveText("Name or password is wrong.");
    await accessible(page, `refused, ${colorScheme}`);
  });
}

test("a person signs in by keyboard alone, and lands where the address led", async ({ page }) => {
  await arrive(page, "/releases");
  await page.getByLabel("Name", { exact: true }).focus();
  await page.keyboard.type("bea");
  await page.keyboard.press("Tab");
  await page.keyboard.type("right horse battery");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: "Releases" })).toBeVisible();
  await expect(page.getByRole("banner")).toContainText("bea");
  await expect(page.getByRole("status").first()).toHaveText("live");
});

test("nothing is asked of the server while a field is empty; the empty one gets the focus", async ({ page }) => {
  await arrive(page);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await expect(page.getByLabel("Name", { exact: true })).toBeFocused();
  await page.keyboard.type("bea");
  await page.keyboard.press("Enter");
  await expect(page.getByLabel("Password", { exact: true })).toBeFocused();
  await expect(page.getByRole("alert")).toHaveCount(0);
});

test("a wrong password is told in the server's words, emptied and asked again; too many are told, too", async ({ page }) => {
  const said = listen(page);
  await arrive(page);
  const password = page.getByLabel("Password", { exact: true });
  await page.getByLabel("Name", { exact: true }).fill("bea");
  for (let tries = 0; tries < 5; tries += 1) {
    await password.fill(`guess ${tries}`);
    await page.keyboard.press("Enter");
    await expect(page.getByRole("alert")).toHaveText("Name or password is wrong.");
    await expect(password).toBeFocused();
    await expect(password).toHaveValue("");
  }
  await password.fill("right horse battery");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("alert")).toContainText("Wait 15 minutes");
  expect(said.filter((line) => !REFUSED.test(line))).toEqual([]);
});

test("a one-time word signs in as well, typed or by its link, which leaves the address", async ({ page }) => {
  await arrive(page);
  await page.getByText("No password? Use a one-time word").click();
  await page.getByLabel("One-time word").fill("0123456789abcdef".repeat(4));
  await page.keyboard.press("Enter");
  await expect(page.getByRole("button", { name: "Sign out" })).toBeVisible();
  await page.getByRole("button", { name: "Sign out" }).click();
  await expect(page.getByRole("heading", { name: "Sign in" })).toBeVisible();
  await expect(page.getByRole("alert")).toHaveCount(0);
  await page.goto(`/?scene=quiet&hosts=203&door=shut#login=${"0123456789abcdef".repeat(4)}`);
  await expect(page.getByRole("button", { name: "Sign out" })).toBeVisible();
  expect(page.url()).not.toContain("login=");
});

test("a session that ends is told as one that ended, and signing in again goes on where one was", async ({ page }) => {
  await page.goto("/fleet?scene=quiet&hosts=203&state=attention&door=brief");
  await page.getByLabel("Name", { exact: true }).fill("bea");
  await page.getByLabel("Password", { exact: true }).fill("right horse battery");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: "Fleet" })).toBeVisible();
  await expect(page.getByRole("alert")).toContainText("Your session is over", { timeout: 20_000 });
  await expect(page).toHaveURL(/state=attention/u);
  await accessible(page, "a session that is over");
  await page.getByLabel("Name", { exact: true }).fill("bea");
  await page.getByLabel("Password", { exact: true }).fill("right horse battery");
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: "Fleet" })).toBeVisible();
  await expect(page.getByRole("button", { name: /requires attention/u })).toHaveAttribute("aria-pressed", "true");
});

test("the sign-in page fits a phone", async ({ page }) => {
  await page.setViewportSize({ width: 360, height: 740 });
  await arrive(page);
  await page.getByText("No password? Use a one-time word").click();
  expect(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(0);
});
