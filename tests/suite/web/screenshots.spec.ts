import { expect, open, test } from "./page";

const FOLDER = process.env.RINGWARD_SCREENSHOTS;
const SHOTS = [
  { name: "quiet", path: "/", scene: "quiet", scheme: "light", width: 1280, height: 720 },
  { name: "halting", path: "/rollouts/r-0000000000005ea1", scene: "halting", scheme: "light", width: 1200, height: 860 },
  { name: "disaster", path: "/", scene: "disaster", scheme: "light", width: 1280, height: 900 },
  { name: "disaster-dark", path: "/", scene: "disaster", scheme: "dark", width: 1200, height: 700 },
  { name: "halting-phone", path: "/", scene: "halting", scheme: "light", width: 390, height: 844 },
  { name: "orders", path: "/orders/o-00000000000000d1", scene: "disaster", scheme: "light", width: 1200, height: 760 },
  { name: "fleet", path: "/fleet", scene: "halting", hosts: 2_500, scheme: "light", width: 1200, height: 700 },
] as const;

for (const shot of SHOTS) {
  test(`screenshot ${shot.name}`, async ({ page }) => {
    test.skip(FOLDER === undefined, "no folder for screenshots was named");
    await page.emulateMedia({ colorScheme: shot.scheme, reducedMotion: "reduce" });
    await page.setViewportSize({ width: shot.width, height: shot.height });
    await open(page, shot.path, shot.scene, "hosts" in shot ? shot.hosts : 203);
    await expect(page.locator("main")).not.toContainText("Asking the server");
    await page.evaluate(() => document.fonts.ready);
    if (shot.path.startsWith("/rollouts")) await expect(page.locator("canvas")).toBeVisible();
    await page.screenshot({ path: `${FOLDER}/${shot.name}.png` });
  });
}
