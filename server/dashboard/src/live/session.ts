/** Who is signed in. The cookie is out of this page's reach on purpose. */

export interface Session {
  actor: string;
  /** How: by a certificate in the browser, or by a one-time word. */
  by: "certificate" | "login";
  /** When it ends (Unix ms, the server's clock); absent with a certificate. */
  expires_unix_ms?: number;
}

const HEADERS = { "content-type": "application/json" };

/** The session, or nothing where one has to sign in. */
export async function current(): Promise<Session | undefined> {
  if (import.meta.env.MODE === "mock") return { actor: "dana", by: "login", expires_unix_ms: Date.now() + 8 * 3_600_000 };
  const response = await fetch("/session", { headers: HEADERS });
  return response.ok ? (((await response.json()) as Session | null) ?? undefined) : undefined;
}

/** Trades the one-time word for a session; answers why not. */
export async function signIn(word: string): Promise<string | undefined> {
  const response = await fetch("/login", { method: "POST", headers: HEADERS, body: JSON.stringify({ token: word.trim() }) });
  return response.ok ? undefined : (await response.text()).slice(0, 400) || `the server answered ${response.status}`;
}

export async function signOut(): Promise<void> {
  await fetch("/logout", { method: "POST", headers: HEADERS, body: "{}" });
}
