/** The screen: its width class and the theme. */

import { signal } from "@preact/signals";

function matches(query: string) {
  const list = matchMedia(query);
  const result = signal(list.matches);
  list.addEventListener("change", () => (result.value = list.matches));
  return result;
}

/** Phones and small tablets: one panel at a time below the picture. */
export const narrow = matches("(max-width: 900px)");
const prefersDark = matches("(prefers-color-scheme: dark)");

const STORED = "impasto.theme";
const chosen = signal<string>(document.documentElement.dataset.theme ?? "");

export const dark = {
  get value(): boolean {
    return chosen.value ? chosen.value === "dark" : prefersDark.value;
  },
};

export function toggleTheme(): void {
  chosen.value = dark.value ? "light" : "dark";
  document.documentElement.dataset.theme = chosen.value;
  try {
    localStorage.setItem(STORED, chosen.value);
  } catch {
    // Not remembered then.
  }
}
