/**
 * How many hosts carry each text of a column, by how they look. Kept host by host as they change: to
 * count 100,000 of them anew at each change took the page's main thread some 30 ms a column.
 */
export class Tally {
  private counts: Int32Array;

  /** `looks`: how many ways there are to look. */
  constructor(private readonly looks: number) {
    this.counts = new Int32Array(64 * looks);
  }

  /** Counts one host more (`by` 1) or less (-1). */
  count(text: number, look: number, by: 1 | -1): void {
    const at = text * this.looks + look;
    if (at >= this.counts.length) {
      const wider = new Int32Array(Math.max(at + 1, this.counts.length * 2));
      wider.set(this.counts);
      this.counts = wider;
    }
    this.counts[at]! += by;
  }

  clear(): void {
    this.counts.fill(0);
  }

  /** Every text that some host carries, with its counts by look; do not keep them. */
  each(take: (text: number, counts: Int32Array) => void): void {
    for (let from = 0, text = 0; from < this.counts.length; from += this.looks, text += 1) {
      const counts = this.counts.subarray(from, from + this.looks);
      if (counts.some((n) => n > 0)) take(text, counts);
    }
  }
}
