/** What buttons, keys and drops do. */

import { batch, signal } from "@preact/signals";
import { photoFrom, PICTURE_TYPES, saveAs, styleFrom } from "../picture/show";
import { isAbort } from "../api/client";
import { EMPTY_LOOK, ownKey, ownId, type Paint, stylesOf, toggled, only, type Look } from "../state/look";
import {
  announcement,
  commitLook,
  cursor,
  edit,
  editPaint,
  job,
  leaveRegion,
  look,
  opening,
  ownStyles,
  painting,
  photo,
  steps,
  tell,
} from "../state/store";
import { output } from "../state/output";
import { cancelJob, explain, finished } from "../state/render";
import { t } from "../i18n";

/** Kept in the page while its dialog is open: browsers may drop an input that hangs nowhere. */
let picker: HTMLInputElement | null = null;

/** Open the browser's file dialog. */
export function chooseFiles(then: (files: File[]) => unknown, several = false): void {
  picker?.remove();
  const input = document.createElement("input");
  input.type = "file";
  input.accept = PICTURE_TYPES;
  input.multiple = several;
  input.hidden = true;
  input.addEventListener("change", () => {
    input.remove();
    void then([...(input.files ?? [])]);
  });
  document.body.append(input);
  picker = input;
  input.click();
}

/** Open a photograph; styles and settings stay, regions belong to the old photo and go. */
export async function openPhoto(files: readonly Blob[], name?: string): Promise<void> {
  const file = files[0];
  if (!file) return;
  if (files.length > 1) tell("notice.manyPhotos");
  opening.value = true;
  try {
    const opened = await photoFrom(file, name ?? (file as File).name ?? "photo");
    const old = photo.value;
    if (job.value) await cancelJob();
    batch(() => {
      leaveRegion();
      painting.value = null;
      steps.value = [];
      cursor.value = -1;
      look.value = { ...look.value, regions: [] };
      photo.value = opened;
      commitLook();
    });
    if (old) URL.revokeObjectURL(old.url);
    announcement.value = t("said.photo");
  } catch (error) {
    explain(error);
  } finally {
    opening.value = false;
  }
}

/** The still life that comes with the page. */
export async function openSample(): Promise<void> {
  const response = await fetch("/sample.jpg");
  if (response.ok) await openPhoto([await response.blob()], "still-life.jpg");
}

export function closePhoto(): void {
  const old = photo.value;
  if (job.value) void cancelJob();
  batch(() => {
    leaveRegion();
    photo.value = null;
    painting.value = null;
    steps.value = [];
    cursor.value = -1;
    look.value = { ...EMPTY_LOOK, engine: look.value.engine };
  });
  if (old) URL.revokeObjectURL(old.url);
}

/** Take pictures in as styles; the first one is used at once. */
export async function addStyles(files: readonly File[]): Promise<void> {
  for (const [index, file] of files.slice(0, 12).entries()) {
    try {
      const style = await styleFrom(file, file.name || "picture");
      ownStyles.value = [...ownStyles.value, style];
      const key = ownKey(style.id);
      const use = (paint: Paint): Paint => (index === 0 ? only(paint, key) : paint);
      if (photo.value) editPaint(use);
      announcement.value = t("said.style", { name: style.name });
    } catch (error) {
      explain(error);
    }
  }
}

export function removeStyle(id: string): void {
  const key = ownKey(id);
  const without = (paint: Paint): Paint => (paint.parts.some((part) => part.style === key) ? toggled(paint, key) : paint);
  batch(() => {
    if (stylesOf(look.value).includes(key)) {
      edit((now) => ({
        ...now,
        base: without(now.base),
        regions: now.regions.map((region) => ({ ...region, paint: without(region.paint) })),
      }));
    }
    // Older steps of the history may still need it: it only leaves the wall.
    ownStyles.value = ownStyles.value.map((style) => (style.id === id ? { ...style, hidden: true } : style));
  });
}

export const saving = signal(false);

const plain = (text: string): string => text.replace(/\.[^.]+$/, "").replace(/[^\p{L}\p{N}._-]+/gu, "-");

const SUFFIX: Record<string, string> = { "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp" };

/** `photo.ukiyo-e.jpg` */
function fileName(of: Look, type: string): string {
  const styles = stylesOf(of).map((key) => {
    const own = ownId(key);
    return own === null ? key.slice("preset:".length) : plain(ownStyles.value.find((one) => one.id === own)?.name ?? "style");
  });
  return [plain(photo.value?.name ?? "photo"), styles.slice(0, 3).join("+"), SUFFIX[type] ?? output.value.format].join(".");
}

export async function download(): Promise<void> {
  if (saving.value || !photo.value) return;
  saving.value = true;
  try {
    const blob = await finished(output.value, new AbortController().signal);
    const name = fileName(look.value, blob.type);
    saveAs(blob, name);
    tell("download.saved", name);
  } catch (error) {
    if (!isAbort(error)) explain(error);
  } finally {
    saving.value = false;
  }
}

