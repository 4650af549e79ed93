/** What of a signal's evidence a person looks for first: the module and the stack. */
export interface Crash {
  module: string;
  frames: string[];
}

const FRAMES_MAX = 32;

/** The crash in the evidence of a signal; nothing where it tells of none. */
export function crashOf(evidence: string): Crash | undefined {
  let told: unknown;
  try {
    told = JSON.parse(evidence);
  } catch {
    return undefined;
  }
  if (typeof told !== "object" || told === null) return undefined;
  const of = told as Record<string, unknown>;
  const frames: unknown[] = [of.frames, of.stack].find((f): f is unknown[] => Array.isArray(f) && f.length > 0) ?? [];
  const module = [of.module, of.faulting_module].find((m): m is string => typeof m === "string") ?? "";
  if (frames.length === 0 && module === "") return undefined;
  return { module, frames: frames.slice(0, FRAMES_MAX).map((f) => (typeof f === "string" ? f : JSON.stringify(f))) };
}
