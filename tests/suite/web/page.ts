// What every test of a page needs: it fails on any word in the console, and axe looks at it.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test as base, expect, type Page } from "@playwright/test";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

export const test = base.extend<{ quiet: void }>({
  quiet: [
    async ({ page }, use) => {
      const said = listen(page);
      await use();
      expect(said, "the console stays empty").toEqual([]);
    },
    { auto: true },
  ],
});

/** Collects what a page complains of: errors, warnings, and what its security policy stopped. */
export function listen(page: Page): string[] {
  const said: string[] = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) said.push(`${message.type()}: ${message.text()} ${message.location().url}`);
  });
  page.on("pageerror", (error) => said.push(`uncaught: ${error.message} on ${page.url()}`));
  return said;
}

/** axe-core over the page as it stands; run past the page's policy by the browser's own debugger. */
export async function accessible(page: Page, what: string): Promise<void> {
  // The script is put in through the debugger, which the page's policy does not bind.
  await page.evaluate(axe);
  const found = await page.evaluate(async () => {
    const result = await (globalThis as never as { axe: { run(context: object, options: object): Promise<{ violations: { id: string; impact: string; nodes: { html: string; failureSummary: string }[] }[] }> } }).axe.run(
      document,
      { resultTypes: ["violations"] },
    );
    return result.violations.map((v) => `${v.id} (${v.impact}): ${v.nodes.slice(0, 3).map((n) => `${n.html.slice(0, 160)} — ${n.failureSummary.slice(0, 240)}`).join(" | ")}`);
  });
  expect(found, `axe on ${what}`).toEqual([]);
}

/** A scene of the stand-in. */
export async function open(page: Page, path: string, scene: string, hosts = 203): Promise<void> {
  const address = new URL(path, "http://x");
  address.searchParams.set("scene", scene);
  address.searchParams.set("hosts", String(hosts));
  await page.goto(address.pathname + address.search);
  await expect(page.getByRole("status").filter({ hasText: "live" })).toBeVisible();
}

export { expect };
