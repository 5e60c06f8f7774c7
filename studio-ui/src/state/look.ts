/** A look: everything that decides how the photograph is painted. Looks are never changed, only replaced. */

import type { LookRequest, PictureRef, SettingValue, StyleRef } from "../api/types";

/** `preset:NAME` or `own:ID` of a style picture that was dropped. */
export type StyleKey = string;

export interface Part {
  readonly style: StyleKey;
  /** Shares of a paint sum to 1. */
  readonly share: number;
}

export interface Paint {
  readonly parts: readonly Part[];
  readonly strength: number;
}

export interface Region {
  readonly id: string;
  readonly number: number;
  /** Which of the six pigments marks it. */
  readonly pigment: number;
  readonly paint: Paint;
  /** Id of the mask in the picture store; empty before the first stroke. */
  readonly mask: string;
  /** Width of the soft border, in thousandths of the longer side. */
  readonly feather: number;
}

export interface Look {
  readonly engine: string;
  readonly base: Paint;
  readonly regions: readonly Region[];
  readonly settings: Readonly<Record<string, SettingValue>>;
  /** Options of each engine, so that a change of engine and back loses nothing. */
  readonly options: Readonly<Record<string, Readonly<Record<string, SettingValue>>>>;
}

export const MAX_PARTS = 6;
export const MAX_REGIONS = 12;
export const EMPTY_PAINT: Paint = { parts: [], strength: 1 };
export const EMPTY_LOOK: Look = { engine: "brush", base: EMPTY_PAINT, regions: [], settings: {}, options: {} };

const preset = (key: StyleKey): string | null => (key.startsWith("preset:") ? key.slice(7) : null);
export const presetName = preset;
export const presetKey = (name: string): StyleKey => `preset:${name}`;
export const ownId = (key: StyleKey): string | null => (key.startsWith("own:") ? key.slice(4) : null);
export const ownKey = (id: string): StyleKey => `own:${id}`;

/** One style alone. */
export const only = (paint: Paint, style: StyleKey): Paint => ({ ...paint, parts: [{ style, share: 1 }] });

/** A style more (or less, if it is there): it gets an equal share, the others keep their proportions. */
export function toggled(paint: Paint, style: StyleKey): Paint {
  const rest = paint.parts.filter((part) => part.style !== style);
  if (rest.length < paint.parts.length) return { ...paint, parts: normalised(rest) };
  if (rest.length >= MAX_PARTS) return paint;
  const share = 1 / (rest.length + 1);
  return { ...paint, parts: [...rest.map((part) => ({ ...part, share: part.share * (1 - share) })), { style, share }] };
}

function normalised(parts: readonly Part[]): Part[] {
  const total = parts.reduce((sum, part) => sum + part.share, 0);
  return parts.map((part) => ({ ...part, share: total > 0 ? part.share / total : 1 / parts.length }));
}

/** Move the border between part `index` and the next to `at` (0 to 1 along the whole bar). */
export function borderMoved(paint: Paint, index: number, at: number, smallest = 0.02): Paint {
  const before = paint.parts.slice(0, index).reduce((sum, part) => sum + part.share, 0);
  const pair = paint.parts[index]!.share + paint.parts[index + 1]!.share;
  const share = Math.min(pair - smallest, Math.max(smallest, at - before));
  const parts = paint.parts.map((part, here) =>
    here === index ? { ...part, share } : here === index + 1 ? { ...part, share: pair - share } : part,
  );
  return { ...paint, parts };
}

/** Give one part a share; the others keep their proportions. */
export function shareSet(paint: Paint, index: number, share: number): Paint {
  const rest = 1 - paint.parts[index]!.share;
  const parts = paint.parts.map((part, here) => {
    if (here === index) return { ...part, share };
    return { ...part, share: rest > 0 ? (part.share * (1 - share)) / rest : (1 - share) / (paint.parts.length - 1) };
  });
  return { ...paint, parts };
}

export const paintOf = (look: Look, target: string): Paint =>
  look.regions.find((region) => region.id === target)?.paint ?? look.base;

export function withPaint(look: Look, target: string, paint: Paint): Look {
  if (!look.regions.some((region) => region.id === target)) return { ...look, base: paint };
  return withRegion(look, target, { paint });
}

export const withRegion = (look: Look, id: string, change: Partial<Region>): Look => ({
  ...look,
  regions: look.regions.map((region) => (region.id === id ? { ...region, ...change } : region)),
});

/** The least number that no region has. */
export function nextNumber(look: Look): number {
  let number = 1;
  while (look.regions.some((region) => region.number === number)) number += 1;
  return number;
}

export const stylesOf = (look: Look): StyleKey[] => [
  ...new Set([look.base, ...look.regions.map((region) => region.paint)].flatMap((paint) => paint.parts.map((p) => p.style))),
];

/** Whether there is anything to paint. */
export const paintsAnything = (look: Look): boolean =>
  look.base.parts.length > 0 || look.regions.some((region) => region.mask !== "" && region.paint.parts.length > 0);

/** Ids under which the server holds the pictures of a look. */
export interface Uploaded {
  style(id: string): string;
  /** Empty for a region of which nothing can be seen. */
  mask(region: Region): string;
  /** A mask that is white everywhere; empty if the regions hide what is beneath them. */
  everywhere: string;
}

const refs = (paint: Paint, uploaded: Uploaded): StyleRef[] =>
  paint.parts.map(({ style, share }) => {
    const own = ownId(style);
    return own === null ? { preset: preset(style)!, weight: share } : { upload: uploaded.style(own), weight: share };
  });

/**
 * The look in the server's words. With regions the base becomes the lowest region, white everywhere: so each has a
 * strength of its own.
 */
export function requestOf(look: Look, uploaded: Uploaded, engine = look.engine): LookRequest {
  const regions = look.regions.filter((region) => uploaded.mask(region) !== "");
  const options = engine === look.engine ? { ...look.options[engine] } : {};
  const common = { engine, options };
  if (regions.length === 0) {
    return { ...common, styles: refs(look.base, uploaded), regions: [], settings: { ...look.settings, strength: look.base.strength } };
  }
  const ref = (upload: string): PictureRef => ({ upload });
  const lowest = { mask: ref(uploaded.everywhere), styles: refs(look.base, uploaded), strength: look.base.strength };
  const others = regions.map((region) => ({
    mask: ref(uploaded.mask(region)),
    styles: refs(region.paint, uploaded),
    strength: region.paint.strength,
  }));
  return {
    ...common,
    styles: [],
    regions: look.base.parts.length > 0 && uploaded.everywhere ? [lowest, ...others] : others,
    settings: { ...look.settings, strength: 1 },
  };
}
