import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [svelte()],
  build: {
    target: "es2022",
    // What app.css asks for: light-dark() and container queries, as they are.
    cssTarget: ["chrome123", "firefox120", "safari17.5"],
    // The policy of the page allows no inline anything: no asset may become a data: script or style.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // Six KiB for all pages: one that is opened later must not be drawn before its style is there.
    cssCodeSplit: false,
    sourcemap: false,
    reportCompressedSize: true,
    chunkSizeWarningLimit: 900,
  },
});
