/** Times for people. Ages come from durations and from clocks that only run forwards. */

/** "4 s", "12 min", "3 h 20 min", "2 d 4 h". */
export function span(ms: number | bigint): string {
  const s = Math.max(0, Math.floor(Number(ms) / 1000));
  if (s < 60) return `${s} s`;
  const min = Math.floor(s / 60);
  if (min < 60) return min < 10 && s % 60 > 0 ? `${min} min ${s % 60} s` : `${min} min`;
  const h = Math.floor(min / 60);
  if (h < 24) return min % 60 > 0 ? `${h} h ${min % 60} min` : `${h} h`;
  const d = Math.floor(h / 24);
  return h % 24 > 0 ? `${d} d ${h % 24} h` : `${d} d`;
}

/** The same in one unit, for where there is little room: "6 min". */
export function brief(ms: number | bigint): string {
  const s = Math.max(0, Math.floor(Number(ms) / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3_600) return `${Math.floor(s / 60)} min`;
  return s < 86_400 ? `${Math.floor(s / 3_600)} h` : `${Math.floor(s / 86_400)} d`;
}

/** Making a format costs a hundred times what using it does. */
const formats = new Map<string, Intl.DateTimeFormat>();

function format(ms: number, zone: string | undefined, day: boolean): string {
  const key = `${day} ${zone ?? ""}`;
  let known = formats.get(key);
  if (!known) {
    known = new Intl.DateTimeFormat("en-GB", {
      ...(day ? { year: "numeric", month: "short", day: "2-digit" } : {}),
      hour: "2-digit",
      minute: "2-digit",
      second: "2-digit",
      timeZoneName: "short",
      timeZone: zone,
    });
    formats.set(key, known);
  }
  return known.format(ms);
}

/** A wall-clock time with its zone; "unknown" for zero. */
export function at(unixMs: number | bigint, zone?: string): string {
  const ms = Number(unixMs);
  return ms <= 0 ? "unknown" : format(ms, zone, true);
}

/** Hour, minute and second with the zone: for lines of one day. */
export function clock(unixMs: number, zone?: string): string {
  return format(unixMs, zone, false);
}

/** A browser clock that is off by more than this is named. */
export const CLOCK_OFF_MS = 30_000;

/** What to say of a browser clock that differs from the server's; nothing while it agrees. */
export function clockWarning(offsetMs: number): string | undefined {
  if (Math.abs(offsetMs) < CLOCK_OFF_MS) return undefined;
  const way = offsetMs > 0 ? "behind" : "ahead of";
  return `This computer's clock is ${span(Math.abs(offsetMs))} ${way} the server's; times here follow the server.`;
}
