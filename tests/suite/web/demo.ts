// The demo's fleet and the real server behind it.
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Folder with the built programs; nothing where none was named. */
export const PROGRAMS = process.env.RINGWARD_PROGRAMS;

export interface Demo {
  dir: string;
  /** A one-time link into the page. */
  link(): string;
  origin(): string;
  stop(): Promise<void>;
}

export function program(name: string, ...args: string[]): string {
  return execFileSync(join(PROGRAMS!, name), args, { encoding: "utf8" }).trim();
}

/** Starts the demo and waits until its server may be looked at; or takes one that runs already. */
export async function startDemo(args: string[] = []): Promise<Demo> {
  const running = process.env.RINGWARD_DEMO_DIR;
  const dir = running ?? mkdtempSync(join(tmpdir(), "ringward-web-"));
  const link = (admin?: string) => program("ringward-server", "login", "--data", join(dir, "server"), ...(admin ? ["--admin", admin] : []));
  const there = { dir, link, origin: () => new URL(link()).origin };
  if (running) return { ...there, stop: async () => {} };
  const demo = spawn(join(PROGRAMS!, "ringward-demo"), ["--programs", PROGRAMS!, "--dir", dir, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise<void>((ready, broken) => {
    let told = "";
    demo.stdout.on("data", (text: Buffer) => {
      told += text.toString();
      if (told.includes("the server runs on")) ready();
    });
    demo.on("exit", (code) => broken(new Error(`the demo ended with ${code}:\n${told.slice(-4000)}`)));
  });
  const stop = async () => {
    const over = new Promise((gone) => demo.removeAllListeners("exit").on("exit", gone));
    demo.kill("SIGINT");
    await over;
    rmSync(dir, { recursive: true, force: true });
  };
  return { ...there, stop };
}

/** The server of a demo, found by its data folder. */
export function serverPid(dir: string): number {
  for (const pid of readdirSync("/proc").filter((p) => /^\d+$/u.test(p))) {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
      if (line[0]?.endsWith("ringward-server") && line.includes(join(dir, "server"))) return Number(pid);
    } catch {
      // It ended meanwhile.
    }
  }
  throw new Error("no server runs for this demo");
}
