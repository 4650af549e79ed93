// The demo's fleet and the real server behind it.
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Folder with the built programs; nothing where none was named. */
export const PROGRAMS = process.env.RINGWARD_PROGRAMS;

export interface Demo {
  dir: string;
  /** A one-time link into the page. */
  link(admin?: string): string;
  origin(): string;
  /** Runs `ringwardctl` as the first admin. */
  ctl(...args: string[]): string;
  /** The same with words on its standard input. */
  ctlWith(input: string, ...args: string[]): string;
  /** Kills the server without a goodbye. */
  kill(): void;
  /** Starts it again at the addresses it had; answers when it listens. */
  restart(): Promise<void>;
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
  const data = join(dir, "server");
  const origin = () => new URL(link()).origin;
  let again: ChildProcess | undefined;
  const there = {
    dir,
    link,
    origin,
    ctlWith: (input: string, ...args: string[]) =>
      execFileSync(join(PROGRAMS!, "ringwardctl"), ["--context", join(data, "admin.context.toml"), ...args], { encoding: "utf8", input }),
    ctl: (...args: string[]) => program("ringwardctl", "--context", join(data, "admin.context.toml"), ...args),
    kill: () => {
      // A page that comes back looks for the server where it was.
      const settings = join(data, "server.toml");
      writeFileSync(settings, readFileSync(settings, "utf8").replace("127.0.0.1:0", new URL(origin()).host));
      process.kill(serverPid(dir), "SIGKILL");
    },
    restart: async () => {
      const log = openSync(join(dir, "server.log"), "a");
      again = spawn(join(PROGRAMS!, "ringward-server"), ["run", "--data", data], { stdio: ["ignore", log, log] });
      const at = `${origin()}/session`;
      for (const until = Date.now() + 60_000; Date.now() < until; ) {
        const answer = await fetch(at).catch(() => undefined);
        if (answer?.ok) return;
        await new Promise((wake) => setTimeout(wake, 100));
      }
      throw new Error("the server did not come back within a minute");
    },
  };
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
    again?.kill("SIGKILL");
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
