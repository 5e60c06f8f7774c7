/** Zoom and position of the picture; both panes of "side by side" use the same one, so they move together. */

import { computed, signal } from "@preact/signals";
import { narrow } from "./screen";
import { photo, tool, view } from "../state/store";

export const MAX_ZOOM = 2;
const MAX_FIT = 2; // small photographs are enlarged up to this to fill the stage
const GAP = 8;

/** The stage in CSS pixels. */
export const stage = signal({ width: 0, height: 0 });
/** Screen pixels per pixel of the photograph; null fits it to the stage. */
export const zoom = signal<number | null>(null);
/** The point of the picture (0 to 1) in the middle of a pane. */
export const centre = signal({ x: 0.5, y: 0.5 });

export const shownView = computed(() => (tool.value === "none" ? view.value : "result"));

/** Size of one pane: the stage, or half of it. */
export const pane = computed(() => {
  const { width, height } = stage.value;
  if (shownView.value !== "side") return { width, height };
  return narrow.value ? { width, height: (height - GAP) / 2 } : { width: (width - GAP) / 2, height };
});

export const fitScale = computed(() => {
  const shown = photo.value;
  const { width, height } = pane.value;
  if (!shown || width <= 0 || height <= 0) return 1;
  return Math.min(width / shown.width, height / shown.height, MAX_FIT);
});

const largest = computed(() => Math.max(MAX_ZOOM, fitScale.value));
export const scale = computed(() => Math.min(largest.value, Math.max(fitScale.value, zoom.value ?? fitScale.value)));
export const zoomed = computed(() => scale.value > fitScale.value * 1.001);

/** Where the picture lies in its pane. */
export const plane = computed(() => {
  const shown = photo.value;
  const width = (shown?.width ?? 1) * scale.value;
  const height = (shown?.height ?? 1) * scale.value;
  const place = (length: number, room: number, middle: number) =>
    length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, room / 2 - middle * length));
  return {
    width,
    height,
    left: place(width, pane.value.width, centre.value.x),
    top: place(height, pane.value.height, centre.value.y),
  };
});

function settle(): void {
  const { width, height, left, top } = plane.value;
  centre.value = { x: (pane.value.width / 2 - left) / width, y: (pane.value.height / 2 - top) / height };
}

export function panBy(dx: number, dy: number): void {
  if (!zoomed.value) return;
  const { width, height } = plane.value;
  centre.value = { x: centre.value.x - dx / width, y: centre.value.y - dy / height };
  settle();
}

/** Change the zoom; the point of the pane at (x, y) keeps its place. */
export function zoomTo(next: number | null, x = pane.value.width / 2, y = pane.value.height / 2): void {
  const before = plane.value;
  const point = { x: (x - before.left) / before.width, y: (y - before.top) / before.height };
  zoom.value = next === null || next <= fitScale.value * 1.001 ? null : Math.min(next, largest.value);
  if (zoom.value === null) {
    centre.value = { x: 0.5, y: 0.5 };
    return;
  }
  const { width, height } = plane.value;
  centre.value = { x: point.x + (pane.value.width / 2 - x) / width, y: point.y + (pane.value.height / 2 - y) / height };
  settle();
}

export const zoomBy = (factor: number, x?: number, y?: number): void => zoomTo(scale.value * factor, x, y);

export function resetCamera(): void {
  zoom.value = null;
  centre.value = { x: 0.5, y: 0.5 };
}
