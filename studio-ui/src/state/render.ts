/**
 * From look to painting.
 *
 * Fast engines follow every change: a preview at 512 pixels, then, when the hand rests, the full picture. One preview is
 * on its way at a time; while a slider moves the newest look waits behind it (so the picture keeps moving), any other
 * change aborts it. Slow engines are sketched with brush and painted as a job when asked.
 */

import { effect, untracked } from "@preact/signals";
import { api, isAbort, listen, Offline, ServerError } from "../api/client";
import type { Job, LookRequest, Output, Progress } from "../api/types";
import { thumbnailOf } from "../picture/show";
import { output } from "./output";
import { type Look, ownId, paintsAnything, presetKey, requestOf, stylesOf } from "./look";
import {
  type Painting,
  type Photo,
  announcement,
  busy,
  complain,
  engine,
  enginePresets,
  engines,
  job,
  look,
  offline,
  painting,
  photo,
  presets,
  setThumbnail,
  slow,
  steps,
  tell,
  thumbnails,
  unusable,
} from "./store";
import { lookUploads, photoUpload, withUploads } from "./uploads";

export const PREVIEW_SIDE = 512;
const THUMBNAIL_SIDE = 224;
const REST = 350; // milliseconds without a change before the full picture is painted
const SKETCH_ENGINE = "brush";
const FULL_OUTPUT: Output = { format: "jpeg", quality: 95, strip: false };

let previewing: { abort: AbortController; look: Look; photo: Photo } | null = null;
let waiting = false;
let full: AbortController | null = null;
let restTimer = 0;
/** Time from a change to its preview on the screen, for who wants to measure. */
export const previewTimes: number[] = [];

/** The engine that can show this look at once: its own, or brush for a sketch; empty if neither can. */
function previewEngine(of: Look): string {
  if (!slow.value) return unusable.value.length === 0 ? of.engine : "";
  const known = new Set((presets.value[SKETCH_ENGINE] ?? []).map((preset) => presetKey(preset.name)));
  const able = stylesOf(of).every((style) => ownId(style) !== null || known.has(style));
  return able && engines.value?.engines.some((one) => one.name === SKETCH_ENGINE && one.available) ? SKETCH_ENGINE : "";
}

/** Nothing of the look can be seen: every visible area keeps the photograph. */
class Blank extends Error {}

async function send<T>(shown: Photo, of: Look, engineName: string, run: (ref: string, request: LookRequest) => Promise<T>): Promise<T> {
  return withUploads(async () => {
    const [content, uploaded] = await Promise.all([photoUpload(shown), lookUploads(shown, of)]);
    const request = requestOf(of, uploaded, engineName);
    if (![request, ...request.regions].some((layer) => layer.styles.length > 0)) throw new Blank();
    return run(content, request);
  });
}

/** Put a picture on the screen once it is decoded, so that nothing flickers. */
async function show(next: Omit<Painting, "url">): Promise<void> {
  const url = URL.createObjectURL(next.blob);
  const image = new Image();
  image.src = url;
  await image.decode().catch(() => undefined);
  const old = painting.value;
  painting.value = { ...next, url };
  if (old) setTimeout(() => URL.revokeObjectURL(old.url), 1000);
}

/** Errors in plain words; the look stays as it is, so nothing is lost. */
export function explain(error: unknown): void {
  if (isAbort(error)) return;
  if (error instanceof Blank) {
    painting.value = null;
  } else if (error instanceof Offline) {
    lostServer();
  } else if (error instanceof ServerError) {
    const { status, detail, type } = error.problem;
    const known = [401, 403, 404, 408, 413, 415, 422, 429, 501, 503, 504, 507];
    complain(type.endsWith("slow-engine") ? "error.slow" : known.includes(status) ? `error.${status}` : "error.other", detail);
  } else {
    complain("error.other", error instanceof Error ? error.message : String(error));
  }
}

/** The server is away: ask until it is back, then go on where we were. */
export function lostServer(): void {
  if (offline.value) return;
  offline.value = true;
  const ask = async () => {
    if (await api.alive()) {
      offline.value = false;
      tell("notice.back");
      refresh();
    } else {
      setTimeout(ask, 1500);
    }
  };
  setTimeout(ask, 1000);
}

const sameButSliders = (a: Look, b: Look): boolean => {
  const skeleton = (of: Look) =>
    JSON.stringify([of.engine, stylesOf(of), of.regions.map((one) => [one.id, one.mask]), of.settings.preserve_color]);
  return skeleton(a) === skeleton(b);
};

function onChange(shown: Photo, now: Look): void {
  if (job.value) return; // its steps have the screen; what changed meanwhile is painted afterwards
  full?.abort();
  full = null;
  clearTimeout(restTimer);
  if (busy.value === "full") busy.value = "";
  if (!paintsAnything(now)) {
    previewing?.abort.abort();
    waiting = false;
    busy.value = "";
    painting.value = null;
    return;
  }
  if (previewing) {
    waiting = true;
    if (previewing.photo !== shown || !sameButSliders(previewing.look, now)) previewing.abort.abort();
    return;
  }
  void preview(shown, now);
}

async function preview(shown: Photo, now: Look): Promise<void> {
  const name = previewEngine(now);
  if (!name) painting.value = null;
  if (!name || offline.value) return;
  const abort = new AbortController();
  previewing = { abort, look: now, photo: shown };
  waiting = false;
  busy.value = "preview";
  const begun = performance.now();
  try {
    const side = Math.min(PREVIEW_SIDE, Math.max(shown.width, shown.height));
    const painted = await send(shown, now, name, (content, request) =>
      api.preview({ upload: content }, request, side, abort.signal),
    );
    if (photo.value === shown && !abort.signal.aborted) {
      const kind = name === now.engine ? "preview" : "sketch";
      await show({ blob: painted.blob, kind, look: now, seconds: painted.seconds, job: "" });
      previewTimes.push(performance.now() - begun);
      void thumbnailOf(painted.blob).then((url) => setThumbnail(now, url));
    }
  } catch (error) {
    if (error instanceof Offline && waiting) waiting = false;
    explain(error);
  } finally {
    previewing = null;
  }
  if (waiting && photo.value) {
    waiting = false;
    if (paintsAnything(look.value)) void preview(photo.value, look.value);
    else busy.value = "";
    return;
  }
  busy.value = "";
  if (!slow.value && !abort.signal.aborted && !offline.value) {
    restTimer = window.setTimeout(() => void paintFull(shown, look.value), REST);
  }
}

async function paintFull(shown: Photo, now: Look): Promise<void> {
  if (photo.value !== shown || painting.value?.look !== now) return;
  full = new AbortController();
  const { signal } = full;
  busy.value = "full";
  try {
    const painted = await send(shown, now, now.engine, (content, request) =>
      api.stylize({ upload: content }, request, FULL_OUTPUT, signal),
    );
    if (signal.aborted || photo.value !== shown) return;
    void paintMissingSteps(shown);
    await show({ blob: painted.blob, kind: "full", look: now, seconds: painted.seconds, job: "" });
    announcement.value = "said.done";
  } catch (error) {
    explain(error);
  } finally {
    if (!signal.aborted) busy.value = "";
  }
}

/** Steps that went by too quickly for a preview get their small painting afterwards. */
async function paintMissingSteps(shown: Photo): Promise<void> {
  for (const step of steps.value) {
    if (step.thumbnail || !paintsAnything(step.look) || step.look.engine !== look.value.engine) continue;
    if (busy.value || photo.value !== shown) return;
    try {
      const { blob } = await send(shown, step.look, step.look.engine, (content, request) =>
        api.preview({ upload: content }, request, THUMBNAIL_SIDE, new AbortController().signal),
      );
      setThumbnail(step.look, await thumbnailOf(blob));
    } catch {
      return; // a history without some of its pictures is no reason to complain
    }
  }
}

// -- jobs of slow engines ----------------------------------------------------------------------------------------

let stopListening: (() => void) | null = null;

/** Paint the present look with a slow engine. */
export async function startJob(expected: number): Promise<void> {
  const shown = photo.value;
  const now = look.value;
  if (!shown || job.value || !paintsAnything(now)) return;
  const begun = Date.now();
  const blank = { done: 0, step: 0, steps: 0, message: "", position: 0 };
  job.value = { id: "", look: now, started: begun, status: "sending", expected, ...blank };
  try {
    const made = await send(shown, now, now.engine, (content, request) =>
      api.createJob({ upload: content }, request, output.value),
    );
    job.value = { id: made.id, look: now, started: begun, status: "queued", expected, ...blank };
    announcement.value = "said.started";
    follow(made.id, now);
  } catch (error) {
    job.value = null;
    explain(error);
  }
}

/** Watch a job, also one that was begun before the page was loaded again. */
export function follow(id: string, of: Look): void {
  stopListening?.();
  const update = (part: Partial<Progress> & { status?: "queued" | "running"; position?: number }) => {
    if (job.value?.id === id) job.value = { ...job.value, ...part };
  };
  stopListening = listen(
    `/v1/jobs/${id}/events`,
    {
      job: (now: Job) => {
        if (now.status === "queued" || now.status === "running") {
          update({ ...now.progress, status: now.status, position: now.position ?? 0 });
          if (now.preview) void showStep(now.preview, id, of);
        } else {
          void finish(now, of);
        }
      },
      progress: (now: Progress) => update({ ...now, status: "running" }),
      preview: (now: { url: string }) => void showStep(now.url, id, of),
    },
    () => undefined,
  );
}

async function showStep(url: string, id: string, of: Look): Promise<void> {
  try {
    const response = await fetch(url);
    if (!response.ok) return;
    const blob = await response.blob();
    if (job.value?.id === id) await show({ blob, kind: "step", look: of, seconds: 0, job: id });
  } catch {
    // The next step will come.
  }
}

let finishing = "";

async function finish(ended: Job, of: Look): Promise<void> {
  if (job.value?.id !== ended.id || finishing === ended.id) return;
  finishing = ended.id;
  stopListening?.();
  stopListening = null;
  try {
    if (ended.status === "done") {
      const painted = await api.jobResult(ended.id);
      job.value = null;
      await show({ blob: painted.blob, kind: "full", look: of, seconds: ended.result?.seconds ?? 0, job: ended.id });
      void thumbnailOf(painted.blob).then((made) => setThumbnail(of, made));
      announcement.value = "said.done";
      if (look.value !== of) refresh();
      return;
    }
    job.value = null;
    if (ended.status === "failed") complain("error.job", ended.error?.detail ?? "");
    else tell("notice.cancelled");
    refresh();
  } catch (error) {
    job.value = null;
    explain(error);
  } finally {
    finishing = "";
  }
}

export async function cancelJob(): Promise<void> {
  const running = job.value;
  if (!running?.id) return;
  try {
    const ended = await api.cancelJob(running.id);
    if (ended.status === "cancelled") await finish(ended, running.look);
  } catch (error) {
    if (error instanceof ServerError && [404, 409].includes(error.problem.status)) {
      job.value = null;
      stopListening?.();
    } else {
      explain(error);
    }
  }
}

/** Go on with a job from before a reload. */
export async function resume(id: string, of: Look, started: number, expected: number): Promise<void> {
  const blank = { done: 0, step: 0, steps: 0, message: "", position: 0 };
  job.value = { id, look: of, started, status: "queued", expected, ...blank };
  try {
    await api.job(id);
    follow(id, of);
  } catch (error) {
    if (error instanceof Offline) follow(id, of);
    else job.value = null;
  }
}

// -- downloads -----------------------------------------------------------------------------------------------------

/** The present painting as a file, in full size and with its recipe. */
export async function finished(output: Output, signal: AbortSignal): Promise<Blob> {
  const shown = photo.value!;
  const now = look.value;
  const current = painting.value;
  if (slow.value) {
    if (current?.kind !== "full" || !current.job) throw new ServerError({ type: "", title: "", status: 409, detail: "" });
    return (await api.jobResult(current.job, output, signal)).blob;
  }
  const same = JSON.stringify(output) === JSON.stringify(FULL_OUTPUT);
  if (same && current?.kind === "full" && current.look === now) return current.blob;
  return (
    await send(shown, now, now.engine, (content, request) => api.stylize({ upload: content }, request, output, signal))
  ).blob;
}

// -- the wall --------------------------------------------------------------------------------------------------------

let wall: AbortController | null = null;

/** Paint the user's own photograph in every preset, small, one after another, while nothing else is wanted. */
async function paintWall(shown: Photo, engineName: string, names: readonly string[]): Promise<void> {
  wall?.abort();
  wall = new AbortController();
  const { signal } = wall;
  const idle = () => new Promise((resolve) => setTimeout(resolve, 60));
  for (const name of names) {
    const key = `${shown.id}:${engineName}:${name}`;
    if (thumbnails.peek()[key]) continue;
    while (busy.peek() && !signal.aborted) await idle();
    if (signal.aborted || offline.peek()) return;
    try {
      const content = await photoUpload(shown);
      const request: LookRequest = { styles: [{ preset: name, weight: 1 }], regions: [], engine: engineName, settings: {}, options: {} };
      const { blob } = await withUploads(() => api.preview({ upload: content }, request, THUMBNAIL_SIDE, signal));
      thumbnails.value = { ...thumbnails.peek(), [key]: URL.createObjectURL(blob) };
    } catch (error) {
      if (isAbort(error)) return;
      if (error instanceof Offline) return lostServer();
      if (error instanceof ServerError && error.problem.status === 429) await new Promise((go) => setTimeout(go, 1000));
    }
  }
}

/** Paint again whatever the page shows. */
export function refresh(): void {
  if (photo.value) onChange(photo.value, look.value);
  startWall();
}

function startWall(): void {
  const shown = photo.value;
  const used = new Set(stylesOf(look.value));
  const first = (preset: string) => (used.has(presetKey(preset)) ? 0 : 1);
  const names = enginePresets.value.map((preset) => preset.name).sort((a, b) => first(a) - first(b));
  const name = look.value.engine;
  if (shown && names.length > 0 && !(engine.value?.slow ?? true)) void paintWall(shown, name, names);
}

/** Start following the state. */
export function startRendering(): void {
  effect(() => {
    const shown = photo.value;
    const now = look.value;
    if (!engines.value) return;
    untracked(() => {
      if (!shown) return;
      if (painting.value?.kind === "full" && painting.value.look === now) return;
      onChange(shown, now);
    });
  });
  effect(() => {
    void [photo.value, enginePresets.value, engine.value?.name];
    untracked(startWall);
  });
}
