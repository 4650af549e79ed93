/** Who is signed in. The cookie is out of this page's reach on purpose. */

export interface Session {
  actor: string;
  /** How: by a certificate in the browser, or by a one-time word or a password. */
  by: "certificate" | "login";
  /** When it ends (Unix ms, the server's clock); absent with a certificate. */
  expires_unix_ms?: number;
}

/** What a person shows: a password, or a one-time word. */
export type Proof = { name: string; password: string } | { token: string };

const HEADERS = { "content-type": "application/json" };

/** The server's door, or the stand-in's in builds for tests. */
async function ask(path: string, init: RequestInit): Promise<Response> {
  if (import.meta.env.MODE === "mock") return (await import("../mock/door")).answer(path, init);
  return fetch(path, init);
}

/** The session, or nothing where one has to sign in. */
export async function current(): Promise<Session | undefined> {
  const response = await ask("/session", { headers: HEADERS });
  return response.ok ? (((await response.json()) as Session | null) ?? undefined) : undefined;
}

/** Trades a proof for a session; answers why not. */
export async function signIn(proof: Proof): Promise<string | undefined> {
  const response = await ask("/login", { method: "POST", headers: HEADERS, body: JSON.stringify(proof) });
  return response.ok ? undefined : (await response.text()).trim().slice(0, 400) || `The server answered ${response.status}.`;
}

export async function signOut(): Promise<void> {
  await ask("/logout", { method: "POST", headers: HEADERS, body: "{}" });
}
