/** Signing in without a server, by the shape of the server's: somebody is in already, or has to sign in (`door=`). */
import type { Proof, Session } from "../live/session";

const PASSWORD = "right horse battery";
const WORD = "0123456789abcdef".repeat(4);
const TRIES_MAX = 5;
const KEY = "door";
/** How long the first session of a `brief` door lasts. */
const BRIEF_MS = 3_000;
let tries = 0;
let endsAtMs = Infinity;

const text = (status: number, words: string) => new Response(`${words}\n`, { status });

const door = () => new URLSearchParams(location.search).get("door");

function session(): Session | null {
  const inside = sessionStorage.getItem(KEY);
  if (inside === "") return null;
  if (inside === null && door() !== null) return null;
  return { actor: inside ?? "dana", by: "login", expires_unix_ms: Date.now() + 8 * 3_600_000 };
}

/** Whether calls of the session are answered. */
export function isOpen(): boolean {
  if (performance.now() > endsAtMs) sessionStorage.setItem(KEY, "");
  return session() !== null;
}

export function answer(path: string, init: RequestInit): Response {
  if (path === "/session") return Response.json(session());
  if (path === "/logout") {
    sessionStorage.setItem(KEY, "");
    return Response.json(null);
  }
  const proof = JSON.parse(String(init.body)) as Proof;
  tries += 1;
  if (tries > TRIES_MAX) return text(429, "Too many tried. Wait 15 minutes, or ask for a one-time word.");
  const good = "token" in proof ? proof.token === WORD : proof.password === PASSWORD && proof.name === "bea";
  if (!good) return text(403, "token" in proof ? "This word is not good." : "Name or password is wrong.");
  tries = 0;
  endsAtMs = door() === "brief" && endsAtMs === Infinity ? performance.now() + BRIEF_MS : Infinity;
  sessionStorage.setItem(KEY, "token" in proof ? "dana" : proof.name);
  return Response.json({ actor: "bea" });
}
