/** Masks of regions: one byte a pixel, painted with a soft round brush. */

/** Longer side of a mask; the server scales it to the photograph. */
export const MASK_SIDE = 768;

export interface Mask {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

export interface Rectangle {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

export function emptyMask(photoWidth: number, photoHeight: number, value = 0): Mask {
  const factor = MASK_SIDE / Math.max(photoWidth, photoHeight);
  const width = Math.max(1, Math.round(photoWidth * factor));
  const height = Math.max(1, Math.round(photoHeight * factor));
  return { width, height, data: new Uint8Array(width * height).fill(value) };
}

export const copyOf = (mask: Mask): Mask => ({ ...mask, data: mask.data.slice() });

export const isEmpty = (mask: Mask): boolean => !mask.data.some((value) => value > 0);

/** Part of the picture under the mask, 0 to 1. */
export const coverage = (mask: Mask): number =>
  mask.data.reduce((sum, value) => sum + value, 0) / (255 * Math.max(1, mask.data.length));

/**
 * Draw one piece of a stroke, from (x0, y0) to (x1, y1), into the mask itself.
 *
 * The brush is solid up to half its radius and falls off smoothly to its edge. Overlapping pieces take the larger
 * value, so a slow hand paints no darker than a quick one. Returns the rectangle that changed.
 */
export function stroke(mask: Mask, x0: number, y0: number, x1: number, y1: number, radius: number, erase: boolean): Rectangle {
  const { width, height, data } = mask;
  const left = Math.max(0, Math.floor(Math.min(x0, x1) - radius));
  const right = Math.min(width, Math.ceil(Math.max(x0, x1) + radius) + 1);
  const top = Math.max(0, Math.floor(Math.min(y0, y1) - radius));
  const bottom = Math.min(height, Math.ceil(Math.max(y0, y1) + radius) + 1);
  const dx = x1 - x0;
  const dy = y1 - y0;
  const square = dx * dx + dy * dy;
  const solid = Math.max(0, Math.min(radius * 0.75, radius - 1.5));
  for (let y = top; y < bottom; y += 1) {
    for (let x = left; x < right; x += 1) {
      const along = square === 0 ? 0 : Math.min(1, Math.max(0, ((x - x0) * dx + (y - y0) * dy) / square));
      const distance = Math.hypot(x - x0 - along * dx, y - y0 - along * dy);
      if (distance >= radius) continue;
      const t = distance <= solid ? 1 : (radius - distance) / (radius - solid);
      const value = Math.round(255 * t * t * (3 - 2 * t));
      const index = y * width + x;
      data[index] = erase ? Math.min(data[index]!, 255 - value) : Math.max(data[index]!, value);
    }
  }
  return { left, top, right, bottom };
}

/** The mask with a soft border: three box filters, which is nearly a Gaussian. */
export function feathered(mask: Mask, radius: number): Mask {
  const reach = Math.round(radius);
  if (reach < 1) return mask;
  let data = Float32Array.from(mask.data);
  for (let pass = 0; pass < 3; pass += 1) {
    data = boxRows(data, mask.width, mask.height, reach);
    data = boxColumns(data, mask.width, mask.height, reach);
  }
  return { ...mask, data: Uint8Array.from(data, (value) => Math.round(value)) };
}

function boxRows(source: Float32Array<ArrayBuffer>, width: number, height: number, reach: number): Float32Array<ArrayBuffer> {
  const result = new Float32Array(source.length);
  const scale = 1 / (2 * reach + 1);
  for (let y = 0; y < height; y += 1) {
    const row = y * width;
    const at = (x: number) => source[row + Math.min(width - 1, Math.max(0, x))]!;
    let sum = 0;
    for (let x = -reach; x <= reach; x += 1) sum += at(x);
    for (let x = 0; x < width; x += 1) {
      result[row + x] = sum * scale;
      sum += at(x + reach + 1) - at(x - reach);
    }
  }
  return result;
}

function boxColumns(source: Float32Array<ArrayBuffer>, width: number, height: number, reach: number): Float32Array<ArrayBuffer> {
  const result = new Float32Array(source.length);
  const scale = 1 / (2 * reach + 1);
  const sums = new Float32Array(width);
  const row = (y: number) => Math.min(height - 1, Math.max(0, y)) * width;
  for (let y = -reach; y <= reach; y += 1) for (let x = 0; x < width; x += 1) sums[x]! += source[row(y) + x]!;
  for (let y = 0; y < height; y += 1) {
    const next = row(y + reach + 1);
    const last = row(y - reach);
    for (let x = 0; x < width; x += 1) {
      result[y * width + x] = sums[x]! * scale;
      sums[x]! += source[next + x]! - source[last + x]!;
    }
  }
  return result;
}

/** Add what another mask holds (or take it away). */
export function combined(mask: Mask, other: Mask, erase: boolean): Mask {
  const result = copyOf(mask);
  other.data.forEach((value, index) => {
    result.data[index] = erase ? Math.min(result.data[index]!, 255 - value) : Math.max(result.data[index]!, value);
  });
  return result;
}

export const inverted = (mask: Mask): Mask => ({ ...mask, data: mask.data.map((value) => 255 - value) });

/** Which masks of a pile (lowest first) can be seen at all, and whether anything shows through beneath them. */
export function visibleIn(pile: readonly Mask[]): { masks: boolean[]; beneath: boolean } {
  const length = pile[0]?.data.length ?? 0;
  const open = new Uint8Array(length).fill(1);
  const seen = pile.map(() => false);
  for (let layer = pile.length - 1; layer >= 0; layer -= 1) {
    const { data } = pile[layer]!;
    for (let index = 0; index < length; index += 1) {
      if (open[index] === 0) continue;
      if (data[index]! > 0) seen[layer] = true;
      if (data[index] === 255) open[index] = 0;
    }
  }
  return { masks: seen, beneath: length === 0 || open.includes(1) };
}

/** Tint for the overlay: the region's colour, more opaque where the mask is whiter, with its outline. */
export function drawOverlay(
  target: CanvasRenderingContext2D,
  mask: Mask,
  colour: readonly [number, number, number],
  fill: number,
  area: Rectangle = { left: 0, top: 0, right: mask.width, bottom: mask.height },
): void {
  const left = Math.max(0, area.left - 2);
  const top = Math.max(0, area.top - 2);
  const right = Math.min(mask.width, area.right + 2);
  const bottom = Math.min(mask.height, area.bottom + 2);
  if (right <= left || bottom <= top) return;
  const image = target.createImageData(right - left, bottom - top);
  const { data, width, height } = mask;
  const inside = (x: number, y: number) => x >= 0 && y >= 0 && x < width && y < height && data[y * width + x]! >= 128;
  let index = 0;
  for (let y = top; y < bottom; y += 1) {
    for (let x = left; x < right; x += 1) {
      const value = data[y * width + x]!;
      const edge =
        value >= 128 && !(inside(x - 1, y) && inside(x + 1, y) && inside(x, y - 1) && inside(x, y + 1) && inside(x - 2, y) && inside(x, y - 2));
      image.data[index] = colour[0];
      image.data[index + 1] = colour[1];
      image.data[index + 2] = colour[2];
      image.data[index + 3] = edge ? 255 : value * fill;
      index += 4;
    }
  }
  target.putImageData(image, left, top);
}

export function maskToBlob(mask: Mask): Promise<Blob> {
  const canvas = document.createElement("canvas");
  canvas.width = mask.width;
  canvas.height = mask.height;
  const context = canvas.getContext("2d")!;
  const image = context.createImageData(mask.width, mask.height);
  mask.data.forEach((value, index) => image.data.set([value, value, value, 255], 4 * index));
  context.putImageData(image, 0, 0);
  return new Promise((resolve, reject) =>
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("the mask could not be encoded"))), "image/png"),
  );
}

export async function maskFromBlob(blob: Blob, width: number, height: number): Promise<Mask> {
  const bitmap = await createImageBitmap(blob);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  context.drawImage(bitmap, 0, 0, width, height);
  bitmap.close();
  const pixels = context.getImageData(0, 0, width, height).data;
  return { width, height, data: Uint8Array.from({ length: width * height }, (_, index) => pixels[4 * index]!) };
}
