/** Identifiers as people read them. */

const hex16 = (id: bigint) => id.toString(16).padStart(16, "0");

/** `h-` and 16 digits. */
export const hostName = (id: bigint): string => `h-${hex16(id)}`;
/** `r-` and 16 digits. */
export const rolloutName = (id: bigint): string => `r-${hex16(id)}`;

/** `o-` and 16 digits. */
export const orderName = (id: bigint): string => `o-${hex16(id)}`;

/** The number in `h-…`, `r-…` or `o-…`; nothing where it is not one. */
export function parseId(prefix: "h" | "r" | "o", text: string): bigint | undefined {
  const found = new RegExp(`^${prefix}-([0-9a-f]{16})$`, "u").exec(text);
  return found ? BigInt(`0x${found[1]}`) : undefined;
}

/** Bytes as hexadecimal digits. */
export function hex(value: Uint8Array | undefined): string {
  return Array.from(value ?? [], (b) => b.toString(16).padStart(2, "0")).join("");
}

/** The first 12 digits of a digest: enough to tell releases apart. */
export const short = (value: Uint8Array | undefined): string => hex(value).slice(0, 12);

/** Whether two digests are the same. */
export const same = (a: Uint8Array | undefined, b: Uint8Array | undefined): boolean => hex(a) === hex(b);

/** Hexadecimal digits as bytes; nothing where they are not. */
export function unhex(text: string): Uint8Array | undefined {
  if (!/^(?:[0-9a-f]{2})+$/u.test(text)) return undefined;
  return Uint8Array.from(text.match(/../gu)!, (pair) => Number.parseInt(pair, 16));
}
