/** The page's state, as signals, and the actions that change it. */

import { batch, computed, signal } from "@preact/signals";
import type { EngineInfo, Engines, Info, Preset } from "../api/types";
import type { Mask } from "../picture/mask";
import {
  EMPTY_LOOK,
  type Look,
  MAX_REGIONS,
  nextNumber,
  ownId,
  type Paint,
  presetKey,
  type Region,
  stylesOf,
  withPaint,
  withRegion,
} from "./look";

/** A picture of the user's: the file itself, and how the page shows it. */
export interface Photo {
  readonly id: string;
  /** The file as it came; this goes to the server. */
  readonly blob: Blob;
  /** What the browser can show: the file itself, or the server's copy of it. */
  readonly display: Blob;
  readonly name: string;
  readonly width: number;
  readonly height: number;
  /** Address of `display`. */
  readonly url: string;
}

export interface OwnStyle {
  readonly id: string;
  readonly blob: Blob;
  readonly display: Blob;
  readonly name: string;
  readonly url: string;
  /** Taken from the wall, but steps of the history may need it. */
  readonly hidden?: boolean;
}

export interface Step {
  readonly id: string;
  readonly look: Look;
  /** Small painting, as a data: URL; empty until it has been painted. */
  readonly thumbnail: string;
  readonly at: number;
}

export interface Painting {
  readonly url: string;
  readonly blob: Blob;
  /** sketch: brush in place of a slow engine; step: an intermediate picture. */
  readonly kind: "preview" | "full" | "sketch" | "step";
  readonly look: Look;
  readonly seconds: number;
  readonly job: string;
}

export interface RunningJob {
  readonly id: string;
  readonly look: Look;
  readonly started: number;
  readonly status: "sending" | "queued" | "running";
  readonly done: number;
  readonly step: number;
  readonly steps: number;
  readonly message: string;
  readonly position: number;
  readonly expected: number;
}

export type Tool = "none" | "brush" | "eraser" | "pick" | "box";
export type View = "result" | "split" | "side";
export type Tab = "styles" | "adjust" | "areas" | "engine" | "history";
export type Notice = { kind: "info" | "error"; key: string; detail?: string; serial: number };

export const BASE = "base";
const HISTORY_LENGTH = 60;

// What the server offers.
export const info = signal<Info | null>(null);
export const engines = signal<Engines | null>(null);
export const presets = signal<Record<string, readonly Preset[]>>({});
export const offline = signal(false);

// What the user has made.
export const photo = signal<Photo | null>(null);
export const ownStyles = signal<readonly OwnStyle[]>([]);
export const look = signal<Look>(EMPTY_LOOK);
export const steps = signal<readonly Step[]>([]);
export const cursor = signal(-1);
/** Masks by id: regions name them, undo brings old ones back. */
export const masks = new Map<string, Mask>();

// What the page shows.
export const painting = signal<Painting | null>(null);
export const busy = signal<"" | "preview" | "full">("");
export const job = signal<RunningJob | null>(null);
export const thumbnails = signal<Readonly<Record<string, string>>>({});
export const target = signal<string>(BASE);
export const tool = signal<Tool>("none");
export const brushSize = signal(60); // thousandths of the longer side
export const view = signal<View>("split");
export const tab = signal<Tab>("styles");
export const notice = signal<Notice | null>(null);
export const announcement = signal("");
export const opening = signal(false);
export const segmenting = signal(false);
/** The mask a stroke is being drawn on. */
export const wetMask = signal<Mask | null>(null);

export const engine = computed<EngineInfo | null>(
  () => engines.value?.engines.find((one) => one.name === look.value.engine) ?? null,
);
export const slow = computed(() => engine.value?.slow ?? false);
export const enginePresets = computed(() => presets.value[look.value.engine] ?? []);
/** Whether the chosen engine can paint from pictures of the user's. */
export const takesPictures = computed(() => engine.value?.capabilities.pictures ?? true);
/** Styles of the look that the chosen engine cannot use: presets of another one, or pictures. */
export const unusable = computed(() => {
  const known = new Set(enginePresets.value.map((preset) => presetKey(preset.name)));
  return stylesOf(look.value).filter((style) => (ownId(style) === null ? !known.has(style) : !takesPictures.value));
});
export const region = computed<Region | null>(() => look.value.regions.find((one) => one.id === target.value) ?? null);
export const targetPaint = computed<Paint>(() => region.value?.paint ?? look.value.base);
export const canUndo = computed(() => cursor.value > 0);
export const canRedo = computed(() => cursor.value < steps.value.length - 1);

let serial = 0;
export const newId = (): string => crypto.randomUUID?.() ?? `${Date.now().toString(36)}-${(serial += 1)}`;

export function tell(key: string, detail = "", kind: Notice["kind"] = "info"): void {
  notice.value = { kind, key, detail, serial: (serial += 1) };
}

export const complain = (key: string, detail = ""): void => tell(key, detail, "error");

/** Change the look. Without `commit` (a slider on its way) no step of the history is made. */
export function edit(change: (look: Look) => Look, commit = true): void {
  const next = change(look.value);
  batch(() => {
    look.value = next;
    if (commit) commitLook();
  });
}

export const editPaint = (change: (paint: Paint) => Paint, commit = true): void =>
  edit((now) => withPaint(now, target.value, change(targetPaint.value)), commit);

export function commitLook(): void {
  const current = steps.value[cursor.value];
  if (current?.look === look.value) return;
  const kept = steps.value.slice(Math.max(0, cursor.value + 2 - HISTORY_LENGTH), cursor.value + 1);
  steps.value = [...kept, { id: newId(), look: look.value, thumbnail: "", at: Date.now() }];
  cursor.value = steps.value.length - 1;
}

export function goTo(index: number): void {
  const step = steps.value[index];
  if (!step) return;
  batch(() => {
    cursor.value = index;
    look.value = step.look;
    if (!step.look.regions.some((one) => one.id === target.value)) leaveRegion();
  });
}

export const undo = (): void => goTo(cursor.value - 1);
export const redo = (): void => goTo(cursor.value + 1);

export function leaveRegion(): void {
  batch(() => {
    target.value = BASE;
    tool.value = "none";
  });
}

export function addRegion(): void {
  const now = look.value;
  if (now.regions.length >= MAX_REGIONS) return;
  const number = nextNumber(now);
  const id = newId();
  const made: Region = { id, number, pigment: (number - 1) % 6, paint: { parts: [], strength: 1 }, mask: "", feather: 6 };
  batch(() => {
    edit((old) => ({ ...old, regions: [...old.regions, made] }), false);
    target.value = id;
    tool.value = "brush";
  });
}

export function removeRegion(id: string): void {
  batch(() => {
    edit((now) => ({ ...now, regions: now.regions.filter((one) => one.id !== id) }));
    if (target.value === id) leaveRegion();
  });
}

export function setMask(id: string, mask: Mask): void {
  const key = newId();
  masks.set(key, mask);
  edit((now) => withRegion(now, id, { mask: key }));
}

export function setThumbnail(of: Look, thumbnail: string): void {
  const index = steps.value.findIndex((step) => step.look === of);
  if (index >= 0) steps.value = steps.value.map((step, here) => (here === index ? { ...step, thumbnail } : step));
}
