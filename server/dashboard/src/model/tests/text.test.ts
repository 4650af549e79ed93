import { expect, test } from "vitest";
import { bytes, clip, listed, percent, visible } from "../text";

test("characters that hide or reorder text are shown as code points", () => {
  expect(visible("till\u202egpj.exe")).toBe("till⟨U+202E⟩gpj.exe");
  expect(visible("a\u0000b\u001b[31m")).toBe("a⟨U+0000⟩b⟨U+001B⟩[31m");
  expect(visible("zero\u200bwidth")).toBe("zero⟨U+200B⟩width");
});

test("letters of every script stay as they are", () => {
  expect(visible("שולחן 机 é")).toBe("שולחן 机 é");
});

test("a name of 4 KiB is cut, and its title tells how long it is", () => {
  const cut = clip("x".repeat(4096), 60);
  expect(Array.from(cut.shown)).toHaveLength(60);
  expect(cut.title).toContain("4,096 characters");
});

test("a cut never falls into a character", () => {
  const cut = clip("😀".repeat(50), 10);
  expect(cut.shown).toBe("😀".repeat(9) + "…");
});

test("a rate close to a bound does not read as the bound", () => {
  expect(percent(0)).toBe("0 %");
  expect(percent(0.0001)).toBe("0.01 %");
  expect(percent(0.999)).toBe("99.9 %");
  expect(percent(0.42)).toBe("42 %");
});

test("lists and sizes read as people write them", () => {
  expect(listed(["a"])).toBe("a");
  expect(listed(["a", "b", "c"])).toBe("a, b and c");
  expect(bytes(18_400_000n)).toBe("17.5 MiB");
});
