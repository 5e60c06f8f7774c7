/** The page's language: chosen by the browser, changed by the user, remembered. */

import { effect, signal } from "@preact/signals";
import type { EngineInfo, Preset, Setting } from "../api/types";
import { ownId, type StyleKey } from "../state/look";
import { ownStyles } from "../state/store";
import { en, type Key } from "./en";
import { zh, zhPresets } from "./zh";
import { zhEngines, zhSettings } from "./zh-engines";

export type { Key } from "./en";
export type Language = "en" | "zh";

const TABLES: Record<Language, Record<Key, string>> = { en, zh };
const STORED = "impasto.language";

const remembered = (): string => {
  try {
    return localStorage.getItem(STORED) ?? navigator.language;
  } catch {
    return navigator.language;
  }
};

export const language = signal<Language>(remembered().startsWith("zh") ? "zh" : "en");

effect(() => {
  document.documentElement.lang = language.value === "zh" ? "zh-Hans" : "en";
  document.title = TABLES[language.value]["app.title"];
});

export function setLanguage(next: Language): void {
  language.value = next;
  try {
    localStorage.setItem(STORED, next);
  } catch {
    // Not remembered then.
  }
}

/** The words for a key, with `{name}` replaced. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  return TABLES[language.value][key].replace(/\{(\w+)\}/g, (_, name: string) => String(values[name] ?? ""));
}

export const isKey = (key: string): key is Key => key in en;

/** `bold-blocks` as people read it. */
export function presetTitle(name: string): string {
  if (language.value === "zh" && zhPresets[name]) return zhPresets[name];
  const words = name.replace(/[-_]/g, " ").replace(/\bukiyo e\b/, "ukiyo-e");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

export const presetHint = (preset: Preset): string => [preset.title, preset.credit].filter(Boolean).join(" · ");

export function styleTitle(key: StyleKey): string {
  const own = ownId(key);
  if (own === null) return presetTitle(key.slice("preset:".length));
  return ownStyles.value.find((style) => style.id === own)?.name.replace(/\.[^.]+$/, "") ?? "?";
}

const sentence = (text: string): string => (text ? `${text.charAt(0).toUpperCase()}${text.slice(1)}` : "");

/** A setting's name: ours if it has one, else the server's in readable form. */
export function settingTitle(name: string): string {
  const key = `setting.${name}`;
  if (isKey(key)) return t(key);
  const translated = language.value === "zh" ? zhSettings[name]?.title : undefined;
  return translated ?? sentence(name.replace(/_/g, " "));
}

export function settingHelp(setting: Setting): string {
  const translated = language.value === "zh" ? zhSettings[setting.name]?.help : undefined;
  return translated ?? sentence(setting.help);
}

export const engineSummary = (engine: EngineInfo): string =>
  (language.value === "zh" ? zhEngines[engine.name] : undefined) ?? sentence(engine.summary);

export function choiceTitle(setting: string, choice: string): string {
  const key = `setting.${setting}.${choice}`;
  return isKey(key) ? t(key) : choice;
}

export function duration(seconds: number): string {
  if (seconds < 0.95) return t("unit.s", { value: Math.max(0.1, seconds).toFixed(1) });
  if (seconds < 90) return t("unit.s", { value: Math.round(seconds) });
  return t("unit.min", { value: seconds < 600 ? (seconds / 60).toFixed(1) : Math.round(seconds / 60) });
}

export function memory(bytes: number): string {
  const megabytes = bytes / 1e6;
  if (megabytes < 950) return t("unit.MB", { value: Math.round(megabytes / 10) * 10 || 10 });
  return t("unit.GB", { value: (megabytes / 1000).toFixed(1) });
}
