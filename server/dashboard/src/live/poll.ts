/** Asks the server again and again while a part of the page is there. */
import { said } from "./clients";

/**
 * Loads at once and then `everyMs` after each answer; `told` hears what went wrong, or "" when all is
 * well. Answers how to stop; what comes after that is dropped.
 */
export function poll(everyMs: number | (() => number), load: (signal: AbortSignal) => Promise<() => void>, told: (problem: string) => void): () => void {
  const stop = new AbortController();
  let wake = 0;
  const again = async () => {
    try {
      const take = await load(stop.signal);
      if (stop.signal.aborted) return;
      take();
      told("");
    } catch (error) {
      if (stop.signal.aborted) return;
      told(said(error));
    }
    wake = window.setTimeout(again, typeof everyMs === "number" ? everyMs : everyMs());
  };
  void again();
  return () => {
    stop.abort();
    clearTimeout(wake);
  };
}
