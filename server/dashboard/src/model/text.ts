/** Text from hosts and people, made safe to look at. Nothing here makes markup. */

/** Characters that move, hide or reorder other text; shown as their code point instead. */
const HIDDEN =
  // eslint-disable-next-line no-control-regex
  /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/gu;

/** Longest text put into the page in one place; the rest is told by its length. */
export const SHOWN_CHARACTERS = 240;
/** Longest text put into a title. */
const TITLE_CHARACTERS = 1_000;

/** Control and direction characters as ⟨U+202E⟩, so that nobody is fooled by what cannot be seen. */
export function visible(text: string): string {
  return text.replace(HIDDEN, (c) => `⟨U+${c.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}⟩`);
}

/** What is shown, and what hovering tells where it was cut. */
export interface Clipped {
  shown: string;
  /** Absent where nothing was cut. */
  title?: string;
}

/** Cuts by characters, never inside one. */
export function clip(text: string, characters = SHOWN_CHARACTERS): Clipped {
  const safe = visible(text);
  if (safe.length <= characters) return { shown: safe };
  const all = Array.from(safe);
  if (all.length <= characters) return { shown: safe };
  return {
    shown: `${all.slice(0, characters - 1).join("")}…`,
    title:
      all.length <= TITLE_CHARACTERS
        ? safe
        : `${all.slice(0, TITLE_CHARACTERS).join("")}… (${all.length.toLocaleString("en")} characters)`,
  };
}

/** "1 host", "2,000 hosts". */
export function count(n: number | bigint, one: string, many = `${one}s`): string {
  return `${whole(n)} ${Number(n) === 1 ? one : many}`;
}

const NUMBERS = new Intl.NumberFormat("en");

/** A whole number with separators. */
export function whole(n: number | bigint): string {
  return NUMBERS.format(n);
}

/** "a, b and c". */
export function listed(words: string[]): string {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;
}

/** A rate as a percentage with as many digits as it needs to differ from 0 and 100. */
export function percent(rate: number): string {
  const p = rate * 100;
  if (!Number.isFinite(p)) return "unknown";
  if (p === 0 || p === 100) return `${p} %`;
  if (p >= 10) return `${p.toFixed(p > 99.5 ? 1 : 0)} %`;
  return `${Number(p.toPrecision(2))} %`;
}

/** Bytes in binary units. */
export function bytes(n: number | bigint): string {
  let value = Number(n);
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024) return `${unit === "B" ? value : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return `${value.toFixed(1)} TiB`;
}

/** The sentence with a capital at its start. */
export function sentence(text: string): string {
  return text === "" ? "" : text[0]!.toUpperCase() + text.slice(1);
}
