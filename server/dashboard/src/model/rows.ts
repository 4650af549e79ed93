/** Which rows of a long table are drawn. */
export interface Span {
  from: number;
  to: number;
}

/** Rows drawn beyond each edge, so that a scroll by key never shows emptiness. */
const SPARE = 8;

export function visibleRows(total: number, rowPx: number, scrollPx: number, heightPx: number): Span {
  const first = Math.floor(Math.max(0, scrollPx) / rowPx);
  const last = Math.ceil((Math.max(0, scrollPx) + heightPx) / rowPx);
  const to = Math.min(total, last + SPARE);
  return { from: Math.max(0, Math.min(first - SPARE, to)), to };
}
