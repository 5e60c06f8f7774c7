/** The picture: before and after, zoom, and painting of areas. */

import { effect, signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { api, isAbort } from "../api/client";
import { styleTitle, t } from "../i18n";
import { combined, copyOf, drawOverlay, emptyMask, isEmpty, type Mask, maskFromBlob, stroke } from "../picture/mask";
import { stylesOf } from "../state/look";
import {
  brushSize,
  busy,
  job,
  masks,
  painting,
  photo,
  region,
  segmenting,
  setMask,
  tell,
  tool,
  view,
  type View,
  wetMask,
} from "../state/store";
import { explain } from "../state/render";
import { photoUpload, withUploads } from "../state/uploads";
import { fitScale, pane, panBy, plane, resetCamera, scale, shownView, stage, zoomBy, zoomed, zoomTo } from "./camera";
import { IconButton, Segmented } from "./controls";
import { PaintButton } from "./Inspector";
import { JobBar } from "./JobBar";
import { PIGMENTS } from "./pigments";

/** The divider's place over the visible part of the picture, 0 to 1. */
const divider = signal(0.5);
/** The cross that keyboards paint with, 0 to 1 over the picture. */
const cross = signal<{ x: number; y: number } | null>(null);
const corner = signal<{ x: number; y: number } | null>(null);
const boxDrawn = signal<{ x0: number; y0: number; x1: number; y1: number } | null>(null);
const overlay = signal(0);

interface Point {
  x: number;
  y: number;
}

/** The part of the picture that its pane shows, in CSS pixels of the pane. */
function visible() {
  const { left, top, width, height } = plane.value;
  return {
    left: Math.max(0, left),
    right: Math.min(pane.value.width, left + width),
    top: Math.max(0, top),
    bottom: Math.min(pane.value.height, top + height),
  };
}

// -- areas -------------------------------------------------------------------------------------------------------

function startMask(): Mask | null {
  const area = region.value;
  const shown = photo.value;
  if (!area || !shown) return null;
  const held = masks.get(area.mask);
  return held ? copyOf(held) : emptyMask(shown.width, shown.height);
}

/** Draw from one point to another (0 to 1) on the wet mask. */
function drawTo(from: Point, to: Point, erase: boolean): void {
  const mask = wetMask.value;
  if (!mask) return;
  const radius = Math.max(1.5, ((brushSize.value / 1000) * Math.max(mask.width, mask.height)) / 2);
  stroke(mask, from.x * mask.width, from.y * mask.height, to.x * mask.width, to.y * mask.height, radius, erase);
  overlay.value += 1;
}

function dry(): void {
  const mask = wetMask.value;
  const area = region.value;
  wetMask.value = null;
  if (mask && area && !(isEmpty(mask) && !area.mask)) setMask(area.id, mask);
}

let seeking: AbortController | null = null;

async function segment(query: { box?: number[]; points?: { x: number; y: number; keep: boolean }[] }, erase: boolean): Promise<void> {
  const shown = photo.value;
  const area = region.value;
  const mask = startMask();
  if (!shown || !area || !mask) return;
  seeking?.abort();
  seeking = new AbortController();
  const { signal: abort } = seeking;
  segmenting.value = true;
  try {
    const blob = await withUploads(async () =>
      api.segment({ upload: await photoUpload(shown) }, query, Math.max(mask.width, mask.height), abort),
    );
    const found = await maskFromBlob(blob, mask.width, mask.height);
    if (isEmpty(found)) tell("notice.nothing");
    else if (region.value?.id === area.id) setMask(area.id, combined(mask, found, erase));
  } catch (error) {
    if (!isAbort(error)) explain(error);
  } finally {
    if (!abort.aborted) segmenting.value = false;
  }
}

function pickAt(point: Point, erase: boolean): void {
  const shown = photo.value;
  if (!shown) return;
  const x = Math.min(shown.width - 1, Math.floor(point.x * shown.width));
  const y = Math.min(shown.height - 1, Math.floor(point.y * shown.height));
  void segment({ points: [{ x, y, keep: true }] }, erase);
}

function boxOf(a: Point, b: Point, erase: boolean): void {
  const shown = photo.value;
  if (!shown) return;
  const at = (value: number, length: number) => Math.round(Math.min(1, Math.max(0, value)) * length);
  const box = [
    at(Math.min(a.x, b.x), shown.width),
    at(Math.min(a.y, b.y), shown.height),
    at(Math.max(a.x, b.x), shown.width),
    at(Math.max(a.y, b.y), shown.height),
  ];
  if (box[2]! - box[0]! >= 4 && box[3]! - box[1]! >= 4) void segment({ box }, erase);
}

function Overlay() {
  const canvas = useRef<HTMLCanvasElement>(null);
  const area = region.value;
  const mask = wetMask.value ?? (area ? masks.get(area.mask) : undefined);
  const count = overlay.value;
  useLayoutEffect(() => {
    const element = canvas.current;
    if (!element || !mask || !area) return;
    if (element.width !== mask.width || element.height !== mask.height) {
      element.width = mask.width;
      element.height = mask.height;
    }
    drawOverlay(element.getContext("2d")!, mask, PIGMENTS[area.pigment]!, wetMask.value ? 0.5 : 0.0);
  }, [mask, area, count]);
  return mask && area ? <canvas class="overlay" ref={canvas} style={planeStyle()} aria-hidden="true" /> : null;
}

// -- panes -------------------------------------------------------------------------------------------------------

function planeStyle() {
  const { left, top, width, height } = plane.value;
  return { transform: `translate(${left}px, ${top}px)`, width: `${width}px`, height: `${height}px` };
}

function Before({ label }: { label: boolean }) {
  const shown = photo.value!;
  return (
    <>
      <img class="picture" src={shown.url} alt={t("stage.photoAlt", { name: shown.name })} style={planeStyle()} draggable={false} />
      {label && <Tag side="left" text={t("stage.before")} />}
    </>
  );
}

function After({ cut, label }: { cut: number; label: boolean }) {
  const shown = painting.value;
  if (!shown) return null;
  const styles = stylesOf(shown.look).map(styleTitle).join(", ");
  return (
    <>
      <img
        class="picture"
        data-kind={shown.kind}
        src={shown.url}
        alt={t("stage.paintingAlt", { styles })}
        style={{ ...planeStyle(), "clip-path": cut > 0 ? `inset(0 0 0 ${cut}px)` : "none" }}
        draggable={false}
      />
      {label && <Tag side="right" text={t("stage.after")} />}
    </>
  );
}

/** "Before" and "After", in the corners of the visible picture. */
function Tag({ side, text }: { side: "left" | "right"; text: string }) {
  const seen = visible();
  const x = side === "left" ? { left: `${seen.left + 10}px` } : { right: `${pane.value.width - seen.right + 10}px` };
  return (
    <span class="stage-tag" style={{ ...x, bottom: `${pane.value.height - seen.bottom + 10}px` }}>
      {text}
    </span>
  );
}

function Divider() {
  const seen = visible();
  const at = seen.left + divider.value * (seen.right - seen.left);
  const move = (event: PointerEvent) => {
    const box = (event.currentTarget as HTMLElement).parentElement!.getBoundingClientRect();
    divider.value = Math.min(1, Math.max(0, (event.clientX - box.left - seen.left) / (seen.right - seen.left)));
  };
  return (
    <span
      class="divider"
      role="slider"
      tabIndex={0}
      aria-label={t("stage.divider")}
      aria-orientation="horizontal"
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(divider.value * 100)}
      aria-valuetext={`${Math.round(divider.value * 100)} %`}
      style={{ transform: `translateX(${at}px)`, top: `${seen.top}px`, height: `${seen.bottom - seen.top}px` }}
      onPointerDown={(event) => {
        event.stopPropagation();
        event.currentTarget.setPointerCapture(event.pointerId);
      }}
      onPointerMove={(event) => {
        if (event.currentTarget.hasPointerCapture(event.pointerId)) move(event);
      }}
      onDblClick={(event) => {
        event.stopPropagation();
        divider.value = 0.5;
      }}
      onKeyDown={(event) => {
        const by = { ArrowLeft: -0.02, ArrowRight: 0.02, PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1 }[event.key];
        if (by === undefined) return;
        event.preventDefault();
        event.stopPropagation();
        divider.value = Math.min(1, Math.max(0, divider.value + by));
      }}
    />
  );
}

function Box() {
  const drawn = boxDrawn.value;
  if (!drawn) return null;
  const { left, top, width, height } = plane.value;
  return (
    <span
      class="box-drawn"
      style={{
        left: `${left + Math.min(drawn.x0, drawn.x1) * width}px`,
        top: `${top + Math.min(drawn.y0, drawn.y1) * height}px`,
        width: `${Math.abs(drawn.x1 - drawn.x0) * width}px`,
        height: `${Math.abs(drawn.y1 - drawn.y0) * height}px`,
      }}
    />
  );
}

/** The round brush under the pointer, or the keyboard's cross. */
function Cursor() {
  const at = cross.value;
  const shown = photo.value;
  if (!at || !shown || tool.value === "none") return null;
  const { left, top, width, height } = plane.value;
  const round = tool.value === "brush" || tool.value === "eraser";
  const size = round ? Math.max(6, (brushSize.value / 1000) * Math.max(width, height)) : 18;
  return (
    <span
      class={round ? "brush-cursor" : "brush-cursor brush-cross"}
      style={{ transform: `translate(${left + at.x * width - size / 2}px, ${top + at.y * height - size / 2}px)`, width: `${size}px`, height: `${size}px` }}
    />
  );
}

// -- the hand ----------------------------------------------------------------------------------------------------

const touches = new Map<number, Point>();
let last: Point | null = null;
let erasing = false;

function pointOf(event: MouseEvent, element: HTMLElement): { inPane: Point; inPicture: Point } {
  const box = (element.querySelector(".pane") ?? element).getBoundingClientRect();
  let x = event.clientX - box.left;
  let y = event.clientY - box.top;
  if (x > pane.value.width) x -= pane.value.width + 8; // the second pane of "side by side"
  if (y > pane.value.height) y -= pane.value.height + 8;
  const { left, top, width, height } = plane.value;
  return { inPane: { x, y }, inPicture: { x: (x - left) / width, y: (y - top) / height } };
}

function onPointerDown(event: PointerEvent): void {
  const element = event.currentTarget as HTMLElement;
  if (event.button > 1 || (event.target as HTMLElement).closest("button, [role=slider]")) return;
  element.setPointerCapture(event.pointerId);
  touches.set(event.pointerId, { x: event.clientX, y: event.clientY });
  const { inPicture } = pointOf(event, element);
  if (touches.size > 1) {
    wetMask.value = null; // a second finger: pinch, do not paint
    last = null;
    return;
  }
  if (event.button === 1) return;
  erasing = tool.value === "eraser" || event.altKey;
  if (tool.value === "brush" || tool.value === "eraser") {
    wetMask.value = startMask();
    last = inPicture;
    cross.value = inPicture;
    drawTo(inPicture, inPicture, erasing);
  } else if (tool.value === "box") {
    boxDrawn.value = { x0: inPicture.x, y0: inPicture.y, x1: inPicture.x, y1: inPicture.y };
  } else if (tool.value === "pick") {
    pickAt(inPicture, erasing);
  }
}

function onPointerMove(event: PointerEvent): void {
  const element = event.currentTarget as HTMLElement;
  const { inPicture } = pointOf(event, element);
  if (tool.value !== "none" && event.pointerType !== "touch") cross.value = inPicture;
  const before = touches.get(event.pointerId);
  if (!before) return;
  const now = { x: event.clientX, y: event.clientY };
  if (touches.size === 2) {
    pinch(event.pointerId, before, now, element);
  } else if (wetMask.value && last) {
    for (const part of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) {
      const point = pointOf(part, element).inPicture;
      drawTo(last, point, erasing);
      last = point;
    }
    cross.value = inPicture;
  } else if (boxDrawn.value) {
    boxDrawn.value = { ...boxDrawn.value, x1: inPicture.x, y1: inPicture.y };
  } else if (tool.value === "none" || event.buttons === 4) {
    panBy(now.x - before.x, now.y - before.y);
  }
  touches.set(event.pointerId, now);
}

function pinch(id: number, before: Point, now: Point, element: HTMLElement): void {
  const other = [...touches].find(([key]) => key !== id)![1];
  const box = element.getBoundingClientRect();
  const reach = (point: Point) => Math.hypot(point.x - other.x, point.y - other.y);
  zoomBy(reach(now) / Math.max(1, reach(before)), (now.x + other.x) / 2 - box.left, (now.y + other.y) / 2 - box.top);
  panBy((now.x - before.x) / 2, (now.y - before.y) / 2);
}

function onPointerUp(event: PointerEvent): void {
  touches.delete(event.pointerId);
  if (wetMask.value) dry();
  last = null;
  const drawn = boxDrawn.value;
  if (drawn && event.type === "pointerup") boxOf({ x: drawn.x0, y: drawn.y0 }, { x: drawn.x1, y: drawn.y1 }, erasing);
  boxDrawn.value = null;
  if (event.pointerType === "touch") cross.value = null;
}

const ARROWS: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

/** Keys while the picture has the focus: arrows pan, or move the cross of a tool; space uses the tool. */
function onKeyDown(event: KeyboardEvent): void {
  if ((event.target as HTMLElement).getAttribute("role") === "slider") return;
  const arrow = ARROWS[event.key];
  if (arrow) {
    event.preventDefault();
    if (tool.value === "none") return panBy(-arrow[0] * 40, -arrow[1] * 40);
    const by = event.shiftKey ? 0.05 : 0.01;
    const from = cross.value ?? { x: 0.5, y: 0.5 };
    const to = { x: clamp(from.x + arrow[0] * by), y: clamp(from.y + arrow[1] * by) };
    cross.value = to;
    if (wetMask.value) drawTo(from, to, tool.value === "eraser");
    return;
  }
  if (event.key !== " " && event.key !== "Enter") return;
  if (tool.value === "none") return;
  event.preventDefault();
  const at = cross.value ?? { x: 0.5, y: 0.5 };
  cross.value = at;
  if (tool.value === "pick") return pickAt(at, event.altKey);
  if (tool.value === "box") {
    if (corner.value) {
      boxOf(corner.value, at, event.altKey);
      corner.value = null;
    } else {
      corner.value = at;
    }
    return;
  }
  if (event.repeat) return;
  wetMask.value ??= startMask();
  drawTo(at, at, tool.value === "eraser");
}

function onKeyUp(event: KeyboardEvent): void {
  if ((event.key === " " || event.key === "Enter") && wetMask.value) dry();
}

const clamp = (value: number): number => Math.min(1, Math.max(0, value));

// A new photograph starts fitted, with the divider in the middle.
effect(() => {
  void photo.value?.id;
  resetCamera();
  divider.value = 0.5;
});

export function Stage() {
  const element = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const watch = new ResizeObserver(([entry]) => {
      const { width, height } = entry!.contentRect;
      stage.value = { width, height };
    });
    watch.observe(element.current!);
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    const surface = element.current!;
    const onWheel = (event: WheelEvent) => {
      event.preventDefault();
      const { inPane } = pointOf(event, surface);
      zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0018)), inPane.x, inPane.y);
    };
    surface.addEventListener("wheel", onWheel, { passive: false });
    return () => surface.removeEventListener("wheel", onWheel);
  }, []);
  const kind = shownView.value;
  const seen = visible();
  const cut = kind === "split" ? seen.left + divider.value * (seen.right - seen.left) - plane.value.left : 0;
  const size = { width: `${pane.value.width}px`, height: `${pane.value.height}px` };
  return (
    <div class="stage-wrap">
      <div
        class={`stage stage-${kind} tool-${tool.value} ${zoomed.value ? "stage-zoomed" : ""}`}
        ref={element}
        role="group"
        tabIndex={0}
        aria-label={t("stage.label")}
        data-drop="photo"
        onPointerDown={onPointerDown}
        onPointerMove={onPointerMove}
        onPointerUp={onPointerUp}
        onPointerCancel={onPointerUp}
        onPointerLeave={() => touches.size === 0 && (cross.value = null)}
        onDblClick={(event) => {
          if (tool.value !== "none") return;
          const { inPane } = pointOf(event, event.currentTarget);
          zoomTo(zoomed.value ? null : Math.max(1, fitScale.value * 2), inPane.x, inPane.y);
        }}
        onKeyDown={onKeyDown}
        onKeyUp={onKeyUp}
      >
        {kind === "side" && (
          <div class="pane" style={size}>
            <Before label />
          </div>
        )}
        <div class="pane" style={size}>
          {kind !== "side" && <Before label={kind === "split" && painting.value !== null} />}
          <After cut={cut} label={kind !== "result"} />
          <Overlay />
          {kind === "split" && painting.value && <Divider />}
          <Box />
          <Cursor />
        </div>
      </div>
      <StageBar />
    </div>
  );
}

function StageBar() {
  return (
    <div class="stage-bar">
      <Segmented<View>
        label={t("stage.view")}
        hideLabel
        value={shownView.value}
        choices={[
          { value: "result", text: t("stage.result"), icon: "result" },
          { value: "split", text: t("stage.split"), icon: "split" },
          { value: "side", text: t("stage.side"), icon: "side" },
        ]}
        onChange={(next) => {
          view.value = next;
          tool.value = "none";
        }}
      />
      <div class="stage-middle">{job.value ? <JobBar /> : <Status />}</div>
      <div class="zoom" role="group" aria-label={t("stage.zoom", { percent: Math.round(scale.value * 100) })}>
        <IconButton icon="minus" label={t("stage.zoomOut")} keys="-" disabled={!zoomed.value} onClick={() => zoomBy(1 / 1.25)} />
        <button type="button" class="zoom-value" title={`${t("stage.fit")} (0)`} onClick={() => zoomTo(zoomed.value ? null : 1)}>
          {Math.round(scale.value * 100)}%
        </button>
        <IconButton icon="plus" label={t("stage.zoomIn")} keys="+" onClick={() => zoomBy(1.25)} />
      </div>
    </div>
  );
}

function Status() {
  const shown = painting.value;
  const button = <PaintButton />;
  const words = (() => {
    if (busy.value === "full") return t("stage.refining");
    if (!shown) return "";
    if (shown.kind === "sketch") return t("stage.sketch");
    const what = t(shown.kind === "full" ? "stage.full" : "stage.preview");
    return shown.seconds > 0 ? `${what} · ${t("stage.seconds", { seconds: shown.seconds.toFixed(2) })}` : what;
  })();
  return (
    <>
      <span class={busy.value ? "stage-status stage-busy" : "stage-status"}>{words}</span>
      {button}
    </>
  );
}
