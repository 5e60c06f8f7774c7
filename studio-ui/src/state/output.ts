/** The file format of downloads: chosen once, remembered. */

import { signal } from "@preact/signals";
import type { Output } from "../api/types";

const STORED_OUTPUT = "impasto.output";

function rememberedOutput(): Output {
  const standard: Output = { format: "jpeg", quality: 95, strip: false };
  try {
    return { ...standard, ...JSON.parse(localStorage.getItem(STORED_OUTPUT) ?? "{}") };
  } catch {
    return standard;
  }
}

export const output = signal<Output>(rememberedOutput());

export function setOutput(change: Partial<Output>): void {
  output.value = { ...output.value, ...change };
  try {
    localStorage.setItem(STORED_OUTPUT, JSON.stringify(output.value));
  } catch {
    // Not remembered then.
  }
}
