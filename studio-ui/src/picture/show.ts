/** Pictures that come in, and small ones for the page. */

import { api, ServerError } from "../api/client";
import { type OwnStyle, type Photo, newId } from "../state/store";
import { alreadySent } from "../state/uploads";

/** Size of a picture as the browser shows it (upright), or null if it cannot. */
async function sizeOf(url: string): Promise<{ width: number; height: number } | null> {
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
    return { width: image.naturalWidth, height: image.naturalHeight };
  } catch {
    return null;
  }
}

/**
 * A photograph from a file. What the browser can show appears at once; for what only the server can read (TIFF, say) its
 * copy is shown.
 */
export async function photoFrom(file: Blob, name: string): Promise<Photo> {
  const id = newId();
  const url = URL.createObjectURL(file);
  const size = await sizeOf(url);
  if (size && size.width > 0) return { id, blob: file, display: file, name, url, ...size };
  URL.revokeObjectURL(url);
  const upload = await api.upload(file, name);
  const response = await fetch(api.uploadPicture(upload.id, 4096));
  if (!response.ok) throw new ServerError({ type: "", title: "", status: 422, detail: name });
  const display = await response.blob();
  const copy = URL.createObjectURL(display);
  const photo = { id, blob: file, display, name, url: copy, width: upload.width, height: upload.height };
  alreadySent(photo, upload.id);
  return photo;
}

export async function styleFrom(file: Blob, name: string): Promise<OwnStyle> {
  const { id, blob, display, url } = await photoFrom(file, name);
  return { id, blob, display, name, url };
}

/** A small copy as a data: URL, which needs no book-keeping in the history. */
export async function thumbnailOf(blob: Blob, side = 120): Promise<string> {
  const bitmap = await createImageBitmap(blob);
  const factor = side / Math.min(bitmap.width, bitmap.height);
  const canvas = document.createElement("canvas");
  canvas.width = side;
  canvas.height = side;
  const context = canvas.getContext("2d")!;
  context.imageSmoothingQuality = "high";
  const width = bitmap.width * factor;
  const height = bitmap.height * factor;
  context.drawImage(bitmap, (side - width) / 2, (side - height) / 2, width, height);
  bitmap.close();
  return canvas.toDataURL("image/jpeg", 0.8);
}

/** Let the browser save a file. */
export function saveAs(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export const PICTURE_TYPES = "image/*,.tif,.tiff,.avif";

/** The pictures among what was dropped or pasted. */
export function picturesIn(data: DataTransfer | null): File[] {
  return [...(data?.files ?? [])].filter(
    (file) => file.type.startsWith("image/") || /\.(tiff?|avif|webp|jpe?g|png|bmp|gif)$/i.test(file.name),
  );
}
