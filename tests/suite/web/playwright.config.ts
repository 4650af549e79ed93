import { defineConfig } from "@playwright/test";

/** The system's Chromium; `cargo xtask web-test` names it. */
const executablePath = process.env.RINGWARD_CHROMIUM ?? "/usr/bin/chromium";
const port = Number(process.env.RINGWARD_STAND_IN_PORT ?? "47113");

export default defineConfig({
  testDir: ".",
  outputDir: ".results",
  workers: 1,
  retries: 0,
  timeout: 60_000,
  expect: { timeout: 10_000 },
  reporter: [["list"]],
  use: {
    browserName: "chromium",
    launchOptions: { executablePath, args: process.getuid?.() === 0 ? ["--no-sandbox"] : [] },
    timezoneId: "Europe/Berlin",
    viewport: { width: 1440, height: 900 },
  },
  projects: [
    { name: "stand-in", testMatch: /(pages|signin|orders|hostile|large|screenshots)\.spec\.ts/u, use: { baseURL: `http://127.0.0.1:${port}` } },
    { name: "server", testMatch: /server\.spec\.ts/u, timeout: 400_000 },
    { name: "figures", testMatch: /figures\.spec\.ts/u },
  ],
  webServer: {
    command: `node stand-in.mjs ../../../server/dashboard/.mock ../../../server/daemon/src/web/headers.txt ${port}`,
    port,
    reuseExistingServer: false,
  },
});
