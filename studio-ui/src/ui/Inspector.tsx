/** The right-hand panels: mix, adjust, areas, engine. */

import { useEffect, useState } from "preact/hooks";
import { api } from "../api/client";
import type { EngineInfo, Estimate, SettingValue } from "../api/types";
import { duration, engineSummary, memory, styleTitle, t } from "../i18n";
import { borderMoved, MAX_REGIONS, type Paint, shareSet, stylesOf, toggled, withRegion } from "../state/look";
import { emptyMask, inverted, coverage } from "../picture/mask";
import {
  addRegion,
  BASE,
  brushSize,
  commitLook,
  edit,
  editPaint,
  engine,
  enginePresets,
  engines,
  info,
  job,
  leaveRegion,
  look,
  masks,
  painting,
  photo,
  presets,
  region,
  removeRegion,
  segmenting,
  setMask,
  slow,
  takesPictures,
  target,
  targetPaint,
  tool,
  type Tool,
  unusable,
} from "../state/store";
import { startJob } from "../state/render";
import { IconButton, Segmented, SettingField, Slider } from "./controls";
import { Icon } from "./Icon";
import { stylePicture } from "./Wall";

// -- mix ---------------------------------------------------------------------------------------------------------

function MixBar({ paint }: { paint: Paint }) {
  let edge = 0;
  const borders = paint.parts.slice(0, -1).map((part) => (edge += part.share));
  const drag = (index: number) => (event: PointerEvent) => {
    const handle = event.currentTarget as HTMLElement;
    const bar = handle.parentElement!.getBoundingClientRect();
    handle.setPointerCapture(event.pointerId);
    const move = (at: PointerEvent) => editPaint((now) => borderMoved(now, index, (at.clientX - bar.left) / bar.width), false);
    handle.addEventListener("pointermove", move);
    handle.addEventListener(
      "lostpointercapture",
      () => {
        handle.removeEventListener("pointermove", move);
        commitLook();
      },
      { once: true },
    );
  };
  const key = (index: number) => (event: KeyboardEvent) => {
    const by = { ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02, PageDown: -0.1, PageUp: 0.1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    editPaint((now) => borderMoved(now, index, borders[index]! + by));
  };
  return (
    <div class="mix-bar" role="group" aria-label={t("mix.bar")}>
      {paint.parts.map((part) => (
        <span key={part.style} class="mix-segment" style={{ "flex-grow": part.share }}>
          <img src={stylePicture(part.style)} alt="" draggable={false} />
        </span>
      ))}
      {borders.map((at, index) => (
        <span
          key={index}
          class="mix-handle"
          role="slider"
          tabIndex={0}
          style={{ left: `${at * 100}%` }}
          aria-label={t("mix.border", {
            left: styleTitle(paint.parts[index]!.style),
            right: styleTitle(paint.parts[index + 1]!.style),
          })}
          aria-orientation="horizontal"
          aria-valuemin={0}
          aria-valuemax={100}
          aria-valuenow={Math.round(paint.parts[index]!.share * 100)}
          aria-valuetext={`${Math.round(paint.parts[index]!.share * 100)} %, ${Math.round(paint.parts[index + 1]!.share * 100)} %`}
          onPointerDown={drag(index)}
          onKeyDown={key(index)}
        />
      ))}
    </div>
  );
}

export function Mix() {
  const paint = targetPaint.value;
  const area = region.value;
  return (
    <section class="panel" aria-labelledby="mix-title">
      <header class="panel-head">
        <h2 id="mix-title">{t("mix.title")}</h2>
        {area && <span class={`badge pigment-${area.pigment}`}>{t("areas.area", { number: area.number })}</span>}
      </header>
      {paint.parts.length === 0 && <p class="quiet mix-empty">{t(area ? "mix.emptyArea" : "mix.empty")}</p>}
      {paint.parts.length > 1 && <MixBar paint={paint} />}
      {paint.parts.length > 0 && (
        <ul class="mix-list">
          {paint.parts.map((part, index) => {
            const name = styleTitle(part.style);
            return (
              <li key={part.style}>
                <img src={stylePicture(part.style)} alt="" />
                <span class="mix-name">{name}</span>
                {paint.parts.length > 1 && (
                  <label class="mix-share">
                    <span class="hidden">{t("mix.share", { name })}</span>
                    <input
                      type="number"
                      min={2}
                      max={98}
                      value={Math.round(part.share * 100)}
                      onChange={(event) => {
                        const share = Math.min(98, Math.max(2, event.currentTarget.valueAsNumber || 2)) / 100;
                        editPaint((now) => shareSet(now, index, share));
                      }}
                    />
                    <span aria-hidden="true">%</span>
                  </label>
                )}
                <IconButton
                  icon="close"
                  class="small"
                  label={t("mix.remove", { name })}
                  onClick={() => editPaint((now) => toggled(now, part.style))}
                />
              </li>
            );
          })}
        </ul>
      )}
      <Slider
        label={t(area ? "adjust.strengthArea" : "adjust.strength")}
        value={paint.strength}
        min={0}
        max={1}
        step={0.01}
        text={`${Math.round(paint.strength * 100)} %`}
        onInput={(strength) => editPaint((now) => ({ ...now, strength }), false)}
        onCommit={commitLook}
      />
    </section>
  );
}

// -- adjust ------------------------------------------------------------------------------------------------------

const FIRST = ["style_scale", "preserve_color"];
const ELSEWHERE = ["strength"];

export function Adjust() {
  const settings = engines.value?.settings ?? [];
  const able = engine.value?.capabilities;
  const change = (name: string) => (value: SettingValue) =>
    edit((now) => ({ ...now, settings: { ...now.settings, [name]: value } }), false);
  const field = (name: string, help: boolean) => {
    const setting = settings.find((one) => one.name === name);
    if (!setting) return null;
    return (
      <SettingField key={name} setting={setting} value={look.value.settings[name]} help={help} onInput={change(name)} onCommit={commitLook} />
    );
  };
  const rest = settings
    .map((setting) => setting.name)
    .filter((name) => ![...FIRST, ...ELSEWHERE].includes(name))
    .filter((name) => (name === "seed" ? able?.chance : name === "tile" ? able?.tiles : true));
  return (
    <section class="panel" aria-labelledby="adjust-title">
      <header class="panel-head">
        <h2 id="adjust-title">{t("adjust.title")}</h2>
        {Object.keys(look.value.settings).length > 0 && (
          <button type="button" class="link" onClick={() => edit((now) => ({ ...now, settings: {} }))}>
            {t("adjust.reset")}
          </button>
        )}
      </header>
      {FIRST.map((name) => field(name, false))}
      <details class="more">
        <summary>{t("adjust.more")}</summary>
        {rest.map((name) => field(name, true))}
      </details>
    </section>
  );
}

// -- areas -------------------------------------------------------------------------------------------------------

export function Areas() {
  const now = look.value;
  const active = region.value;
  const can = info.value?.segmentation ?? false;
  const tools: { value: Tool; text: string; icon: "brush" | "eraser" | "pick" | "box" }[] = [
    { value: "brush", text: t("areas.brush"), icon: "brush" },
    { value: "eraser", text: t("areas.eraser"), icon: "eraser" },
    ...(can
      ? ([
          { value: "pick", text: t("areas.pick"), icon: "pick" },
          { value: "box", text: t("areas.box"), icon: "box" },
        ] as const)
      : []),
  ];
  const mask = active ? masks.get(active.mask) : undefined;
  return (
    <section class="panel" aria-labelledby="areas-title">
      <header class="panel-head">
        <h2 id="areas-title">{t("areas.title")}</h2>
        <button type="button" class="link" disabled={!photo.value || now.regions.length >= MAX_REGIONS} onClick={addRegion}>
          <Icon name="plus" />
          {t("areas.add")}
        </button>
      </header>
      {now.regions.length === 0 && <p class="quiet">{t("areas.help")}</p>}
      {now.regions.length > 0 && (
        <ul class="areas" aria-label={t("areas.title")}>
          <li>
            <button type="button" class="area" aria-pressed={target.value === BASE} onClick={leaveRegion}>
              <span class="area-dot" />
              <span class="area-name">{t("areas.whole")}</span>
              <Swatches paint={now.base} />
            </button>
          </li>
          {now.regions.map((one) => {
            const name = t("areas.area", { number: one.number });
            const held = masks.get(one.mask);
            return (
              <li key={one.id}>
                <button
                  type="button"
                  class="area"
                  aria-pressed={target.value === one.id}
                  onClick={() => {
                    target.value = one.id;
                    tool.value = "brush";
                  }}
                >
                  <span class={`area-dot pigment-${one.pigment}`} />
                  <span class="area-name">
                    {name}
                    <small>{held ? t("areas.covers", { share: Math.round(coverage(held) * 100) }) : t("areas.empty")}</small>
                  </span>
                  <Swatches paint={one.paint} />
                </button>
                <IconButton icon="close" class="small" label={t("areas.remove", { name })} onClick={() => removeRegion(one.id)} />
              </li>
            );
          })}
        </ul>
      )}
      {active && (
        <div class="area-tools" role="group" aria-label={t("areas.tools", { name: t("areas.area", { number: active.number }) })}>
          <Segmented label={t("areas.title")} hideLabel value={tool.value} choices={tools} onChange={(next) => (tool.value = next)} />
          <p class="quiet" role="status">
            {segmenting.value ? t("areas.finding") : tool.value === "none" ? "" : t(`areas.how.${tool.value}`)}
          </p>
          <Slider
            label={t("areas.size")}
            value={brushSize.value}
            min={5}
            max={250}
            step={1}
            text={`${(brushSize.value / 10).toFixed(1)} %`}
            onInput={(value) => (brushSize.value = value)}
            quiet
          />
          <Slider
            label={t("areas.feather")}
            value={active.feather}
            min={0}
            max={80}
            step={1}
            text={`${(active.feather / 10).toFixed(1)} %`}
            onInput={(feather) => edit((old) => withRegion(old, active.id, { feather }), false)}
            onCommit={commitLook}
            quiet
          />
          <div class="row">
            <button
              type="button"
              class="button"
              disabled={!photo.value}
              onClick={() => {
                const shown = photo.value!;
                setMask(active.id, mask ? inverted(mask) : emptyMask(shown.width, shown.height, 255));
              }}
            >
              {t(mask ? "areas.invert" : "areas.fill")}
            </button>
            <button type="button" class="button" disabled={!mask} onClick={() => edit((old) => withRegion(old, active.id, { mask: "" }))}>
              {t("areas.clear")}
            </button>
            <button type="button" class="button primary" onClick={leaveRegion}>
              {t("areas.done")}
            </button>
          </div>
        </div>
      )}
    </section>
  );
}

function Swatches({ paint }: { paint: Paint }) {
  return (
    <span class="swatches" aria-hidden="true">
      {paint.parts.slice(0, 3).map((part) => (
        <img key={part.style} src={stylePicture(part.style)} alt="" />
      ))}
    </span>
  );
}

// -- engine ------------------------------------------------------------------------------------------------------

/** What an engine will need for the present photo and look, asked for once they rest. */
export function useEstimate(name: string): Estimate | null {
  const [estimate, setEstimate] = useState<Estimate | null>(null);
  const shown = photo.value;
  const { settings, options } = look.value;
  const mine = options[name];
  const styles = Math.max(1, stylesOf(look.value).length);
  const working = job.value !== null;
  useEffect(() => {
    if (!shown || !name) return setEstimate(null);
    if (working) return; // the answer would wait for the job, and hold one of the browser's few connections
    const abort = new AbortController();
    const timer = setTimeout(() => {
      api
        .estimate(name, shown.height, shown.width, styles, { ...settings }, { ...mine }, abort.signal)
        .then(setEstimate)
        .catch(() => undefined);
    }, 250);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [name, shown, styles, settings, mine, working]);
  return estimate;
}

function EngineCard({ one }: { one: EngineInfo }) {
  const able = one.available && (one.capabilities.pictures || (presets.value[one.name]?.length ?? 0) > 0);
  const estimate = useEstimate(able ? one.name : "");
  return (
    <label class={able ? "engine" : "engine engine-missing"}>
      <input
        type="radio"
        name="engine"
        value={one.name}
        checked={look.value.engine === one.name}
        disabled={!able || job.value !== null}
        onChange={() => edit((now) => ({ ...now, engine: one.name }))}
      />
      <span class="engine-text">
        <span class="engine-name">
          {one.name}
          <span class={one.slow ? "tag tag-slow" : "tag"}>{t(one.slow ? "engine.minutes" : "engine.live")}</span>
        </span>
        <span class="engine-summary">{engineSummary(one)}</span>
        <span class="engine-facts">
          {!one.available && (
            <>
              {t("engine.install")} <code>{one.install}</code>
            </>
          )}
          {one.available && !able && t("engine.noStyles", { name: one.name })}
          {estimate && t("engine.estimate", { time: duration(estimate.seconds), memory: memory(estimate.memory) })}
        </span>
      </span>
    </label>
  );
}

export function EnginePanel() {
  const chosen = engine.value;
  const options = chosen?.options ?? [];
  const name = chosen?.name ?? "";
  const change = (option: string) => (value: SettingValue) =>
    edit((now) => ({ ...now, options: { ...now.options, [name]: { ...now.options[name], [option]: value } } }), false);
  const values = look.value.options[name] ?? {};
  return (
    <section class="panel" aria-labelledby="engine-title">
      <header class="panel-head">
        <h2 id="engine-title">{t("engine.title")}</h2>
      </header>
      <div class="engines" role="radiogroup" aria-label={t("engine.choose")}>
        {(engines.value?.engines ?? []).map((one) => (
          <EngineCard key={one.name} one={one} />
        ))}
      </div>
      {options.length > 0 && (
        <details class="more" open={slow.value}>
          <summary>{t("engine.options", { name })}</summary>
          {Object.keys(values).length > 0 && (
            <button
              type="button"
              class="link"
              onClick={() => edit((now) => ({ ...now, options: { ...now.options, [name]: {} } }))}
            >
              {t("adjust.reset")}
            </button>
          )}
          {options.map((option) => (
            <SettingField key={option.name} setting={option} value={values[option.name]} help onInput={change(option.name)} onCommit={commitLook} />
          ))}
        </details>
      )}
    </section>
  );
}

/** The button that starts a slow engine, with what it will cost. */
export function PaintButton() {
  const name = look.value.engine;
  const estimate = useEstimate(name);
  const done = painting.value?.kind === "full" && painting.value.look === look.value;
  if (job.value) return null;
  if (stylesOf(look.value).length === 0) return <p class="stage-note">{t("stage.choose")}</p>;
  if (unusable.value.length > 0) {
    const why = takesPictures.value ? "needsPicture" : enginePresets.value.length > 0 ? "needsPreset" : "noStyles";
    return <p class="stage-note">{t(`engine.${why}`, { name })}</p>;
  }
  if (!slow.value) return null;
  if (done) return null;
  return (
    <button type="button" class="button primary" onClick={() => void startJob(estimate?.seconds ?? 0)}>
      {t("engine.paint", { name })}
      {estimate && <span class="button-note">{duration(estimate.seconds)}</span>}
    </button>
  );
}
