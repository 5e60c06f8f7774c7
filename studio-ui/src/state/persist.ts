/** What survives a reload and a restart of the server: pictures, masks, look and history, in this browser only. */

import { batch, computed, effect } from "@preact/signals";
import { type Mask, maskFromBlob, maskToBlob } from "../picture/mask";
import type { Look } from "./look";
import { type OwnStyle, type Photo, type Step, cursor, job, look, masks, ownStyles, painting, photo, steps } from "./store";

const NAME = "impasto-studio";
const VERSION = 1;
const KEEP_STEPS = 30;

interface Saved {
  photo: { id: string; name: string; width: number; height: number } | null;
  styles: { id: string; name: string; hidden?: boolean }[];
  look: Look;
  steps: Step[];
  cursor: number;
  masks: { id: string; width: number; height: number }[];
  job: { id: string; look: Look; started: number; expected: number } | null;
}

let database: Promise<IDBDatabase> | null = null;

function open(): Promise<IDBDatabase> {
  database ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, VERSION);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("blobs");
      request.result.createObjectStore("state");
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("no storage"));
  });
  return database;
}

function wait<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("no storage"));
  });
}

async function store(name: "blobs" | "state", mode: IDBTransactionMode): Promise<IDBObjectStore> {
  return (await open()).transaction(name, mode).objectStore(name);
}

const read = async <T>(name: "blobs" | "state", key: string): Promise<T | undefined> =>
  (await wait((await store(name, "readonly")).get(key))) as T | undefined;
const write = async (name: "blobs" | "state", key: string, value: unknown): Promise<unknown> =>
  wait((await store(name, "readwrite")).put(value, key));

const stored = new Set<string>();

async function keepBlob(id: string, blob: () => Promise<Blob> | Blob): Promise<void> {
  if (stored.has(id)) return;
  stored.add(id);
  await write("blobs", id, await blob());
}

interface Kept {
  readonly id: string;
  readonly blob: Blob;
  readonly display: Blob;
}

const displayId = (id: string): string => `${id}:display`;

async function keepPicture(picture: Kept): Promise<void> {
  await keepBlob(picture.id, () => picture.blob);
  if (picture.display !== picture.blob) await keepBlob(displayId(picture.id), () => picture.display);
}

async function readPicture(id: string): Promise<(Kept & { url: string }) | null> {
  const blob = await read<Blob>("blobs", id);
  if (!blob) return null;
  stored.add(id);
  const other = await read<Blob>("blobs", displayId(id));
  if (other) stored.add(displayId(id));
  const display = other ?? blob;
  return { id, blob, display, url: URL.createObjectURL(display) };
}

function usedMasks(kept: readonly Step[]): string[] {
  const looks = [look.value, ...kept.map((step) => step.look)];
  return [...new Set(looks.flatMap((one) => one.regions.map((region) => region.mask)))].filter((id) => masks.has(id));
}

/** A slow engine's painting is asked for again after a reload, while the server still has it. */
function finishedJob(): Saved["job"] {
  const shown = painting.value;
  if (shown?.kind !== "full" || !shown.job || shown.look !== look.value) return null;
  return { id: shown.job, look: shown.look, started: 0, expected: 0 };
}

async function save(): Promise<void> {
  const from = Math.max(0, Math.min(cursor.value - 1, steps.value.length - KEEP_STEPS));
  const kept = steps.value.slice(from, from + KEEP_STEPS);
  const maskIds = usedMasks(kept);
  const running = job.value;
  const saved: Saved = {
    photo: photo.value && {
      id: photo.value.id,
      name: photo.value.name,
      width: photo.value.width,
      height: photo.value.height,
    },
    styles: ownStyles.value.map(({ id, name, hidden }) => ({ id, name, hidden })),
    look: look.value,
    steps: kept,
    cursor: cursor.value - from,
    masks: maskIds.map((id) => ({ id, width: masks.get(id)!.width, height: masks.get(id)!.height })),
    job: running?.id ? { id: running.id, look: running.look, started: running.started, expected: running.expected } : finishedJob(),
  };
  const pictures = [...(photo.value ? [photo.value] : []), ...ownStyles.value];
  for (const picture of pictures) await keepPicture(picture);
  for (const id of maskIds) await keepBlob(id, () => maskToBlob(masks.get(id)!));
  await write("state", "session", saved);
  await forget(new Set([...pictures.flatMap(({ id }) => [id, displayId(id)]), ...maskIds]));
}

/** Remove pictures that nothing needs any more. */
async function forget(needed: ReadonlySet<string>): Promise<void> {
  for (const id of [...stored].filter((one) => !needed.has(one))) {
    stored.delete(id);
    await wait((await store("blobs", "readwrite")).delete(id));
  }
}

/** Bring the last session back. Answers the job that was running, if there was one. */
export async function restore(): Promise<Saved["job"]> {
  const saved = await read<Saved>("state", "session").catch(() => undefined);
  if (!saved) return null;
  const styles: OwnStyle[] = [];
  for (const { id, name, hidden } of saved.styles) {
    const kept = await readPicture(id);
    if (kept) styles.push({ ...kept, name, hidden });
  }
  for (const { id, width, height } of saved.masks) {
    const blob = await read<Blob>("blobs", id);
    if (!blob) continue;
    masks.set(id, (await maskFromBlob(blob, width, height)) as Mask);
    stored.add(id);
  }
  let shown: Photo | null = null;
  const kept = saved.photo && (await readPicture(saved.photo.id));
  if (saved.photo && kept) shown = { ...saved.photo, ...kept };
  batch(() => {
    ownStyles.value = styles;
    steps.value = shown ? saved.steps : [];
    cursor.value = shown ? saved.cursor : -1;
    look.value = saved.look;
    photo.value = shown;
  });
  return shown ? saved.job : null;
}

/** Save a moment after each change. Storage that is full or closed costs the memory of the session, nothing else. */
export function keepSaving(): void {
  let timer = 0;
  let saving: Promise<void> = Promise.resolve();
  // By themselves these change with every step of a job; only their ids are of interest.
  const running = computed(() => job.value?.id);
  const finished = computed(() => painting.value?.kind === "full" && painting.value.job);
  effect(() => {
    void [photo.value, ownStyles.value, look.value, steps.value, cursor.value, running.value, finished.value];
    clearTimeout(timer);
    timer = window.setTimeout(() => {
      saving = saving.then(save).catch(() => undefined);
    }, 250);
  });
}

/** For the address of a batch that runs on after the page was closed. */
export const rememberBatch = (id: string | null): Promise<unknown> => write("state", "batch", id).catch(() => null);
export const rememberedBatch = (): Promise<string | null> =>
  read<string | null>("state", "batch").then((id) => id ?? null).catch(() => null);
