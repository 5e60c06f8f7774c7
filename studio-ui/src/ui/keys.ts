/** Keys that work everywhere on the page, except while a text is being written. */

import { addRegion, brushSize, leaveRegion, look, photo, redo, region, tool, undo, view } from "../state/store";
import { chooseFiles, download, openPhoto } from "./actions";
import { batchOpen } from "./Batch";
import { zoomBy, zoomTo } from "./camera";
import { helpOpen } from "./Help";

const PLAIN: Record<string, () => void> = {
  "+": () => zoomBy(1.25),
  "=": () => zoomBy(1.25),
  "-": () => zoomBy(1 / 1.25),
  "0": () => zoomTo(null),
  "1": () => zoomTo(1),
  "2": () => zoomTo(2),
  p: () => (view.value = "result"),
  c: () => (view.value = "split"),
  v: () => (view.value = "side"),
  a: addRegion,
  b: () => region.value && (tool.value = "brush"),
  e: () => region.value && (tool.value = "eraser"),
  "[": () => (brushSize.value = Math.max(5, Math.round(brushSize.value / 1.2))),
  "]": () => (brushSize.value = Math.min(250, Math.round(brushSize.value * 1.2) + 1)),
};

export function onKey(event: KeyboardEvent): void {
  const within = event.target as HTMLElement;
  if (batchOpen.value || helpOpen.value || event.defaultPrevented) return;
  const writing = within.matches("input:not([type=range], [type=radio], [type=checkbox]), textarea, select");
  if (event.ctrlKey || event.metaKey) {
    const key = event.key.toLowerCase();
    const act: Record<string, (() => void) | undefined> = {
      z: writing ? undefined : event.shiftKey ? redo : undo,
      y: writing ? undefined : redo,
      s: () => void download(),
      o: () => chooseFiles(openPhoto),
    };
    if (act[key]) {
      event.preventDefault();
      act[key]();
    }
    return;
  }
  if (writing || event.altKey) return;
  if (event.key === "?") {
    helpOpen.value = true;
  } else if (event.key === "Escape") {
    if (!document.querySelector(":popover-open") && look.value.regions.length > 0) leaveRegion();
  } else if (photo.value && PLAIN[event.key]) {
    event.preventDefault();
    PLAIN[event.key]!();
  }
}
