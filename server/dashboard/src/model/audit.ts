/** Entries of the audit log as people read them. */
import type { AuditRecord } from "../gen/ringward/v1/admin_pb";

export interface Entry {
  index: number;
  atMs: number;
  actor: string;
  action: string;
  object: string;
  reason: string;
  /** Lower case, to look in. */
  words: string;
  /** Absent where the entry could be read. */
  raw?: string;
}

const text = (value: unknown): string => (typeof value === "string" ? value : "");

/** One entry; what cannot be read is shown as it is, never left out. */
export function entryOf(record: AuditRecord): Entry {
  const index = Number(record.index);
  const raw = new TextDecoder().decode(record.entry);
  let read: Record<string, unknown> = {};
  let whole = false;
  try {
    const value: unknown = JSON.parse(raw);
    if (typeof value === "object" && value !== null) {
      read = value as Record<string, unknown>;
      whole = true;
    }
  } catch {
    // Shown raw.
  }
  const at = read["at_unix_ms"];
  const entry = {
    index,
    atMs: typeof at === "number" ? at : 0,
    actor: text(read["actor"]),
    action: text(read["action"]),
    object: text(read["object"]),
    reason: text(read["reason"]),
    words: raw.toLowerCase(),
  };
  return whole ? entry : { ...entry, raw };
}

/** Every word of the query has to be in an entry. */
export function meets(entry: Entry, query: string): boolean {
  return query
    .toLowerCase()
    .split(/\s+/u)
    .every((word) => entry.words.includes(word));
}
