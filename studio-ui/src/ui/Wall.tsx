/** The wall: every style as a small painting of the user's own photograph. */

import { useRef, useState } from "preact/hooks";
import type { Preset } from "../api/types";
import { presetHint, presetTitle, styleTitle, t } from "../i18n";
import { only, ownKey, presetKey, type StyleKey, toggled } from "../state/look";
import {
  BASE,
  announcement,
  editPaint,
  engine,
  enginePresets,
  look,
  ownStyles,
  photo,
  region,
  takesPictures,
  target,
  targetPaint,
  thumbnails,
} from "../state/store";
import { addStyles, chooseFiles, removeStyle } from "./actions";
import { Icon } from "./Icon";

/** The picture that stands for a style, here and in the mix. */
export function stylePicture(key: StyleKey): string {
  const own = ownStyles.value.find((style) => ownKey(style.id) === key);
  if (own) return own.url;
  const name = key.slice("preset:".length);
  const shown = photo.value;
  const preset = enginePresets.value.find((one) => one.name === name);
  return (shown && thumbnails.value[`${shown.id}:${look.value.engine}:${name}`]) || preset?.thumbnail || "";
}

interface TileProps {
  style: StyleKey;
  hint: string;
  /** Whether the Tab key stops here; arrows reach the others. */
  stop: boolean;
  removable?: () => void;
}

function Tile({ style, hint, stop, removable }: TileProps) {
  const paint = targetPaint.value;
  const part = paint.parts.find((one) => one.style === style);
  const mixed = part !== undefined && paint.parts.length > 1;
  const name = styleTitle(style);
  const share = part ? Math.round(part.share * 100) : 0;
  const picture = stylePicture(style);
  const mix = () => editPaint((now) => toggled(now, style));
  return (
    <li class={part ? "tile tile-on" : "tile"}>
      <button
        type="button"
        class="tile-main"
        aria-pressed={part !== undefined}
        aria-label={mixed ? t("wall.share", { name, share }) : name}
        title={hint}
        data-style={style}
        tabIndex={stop ? 0 : -1}
        onClick={(event) => {
          if (event.shiftKey) return mix();
          editPaint((now) => only(now, style));
          announcement.value = t("said.style", { name });
        }}
      >
        <span class="tile-picture">{picture && <img src={picture} alt="" decoding="async" draggable={false} />}</span>
        <span class="tile-name">{name}</span>
      </button>
      {mixed && <span class="tile-share">{share}%</span>}
      {paint.parts.length > 0 && !(part && !mixed) && (
        <button
          type="button"
          class="tile-mix"
          tabIndex={-1}
          aria-label={t(part ? "wall.unmix" : "wall.mix", { name })}
          title={t(part ? "wall.unmix" : "wall.mix", { name })}
          onClick={mix}
        >
          <Icon name={part ? "minus" : "plus"} />
        </button>
      )}
      {removable && (
        <button
          type="button"
          class="tile-remove"
          tabIndex={-1}
          aria-label={t("wall.remove", { name })}
          title={t("wall.remove", { name })}
          onClick={removable}
        >
          <Icon name="close" />
        </button>
      )}
    </li>
  );
}

export function Wall() {
  const grid = useRef<HTMLDivElement>(null);
  const [focused, setFocused] = useState("");
  const presets: readonly Preset[] = enginePresets.value;
  const pictures = takesPictures.value;
  const own = pictures ? ownStyles.value.filter((style) => !style.hidden) : [];
  const keys = [...own.map((style) => ownKey(style.id)), ...presets.map((preset) => presetKey(preset.name))];
  const current = keys.includes(focused) ? focused : (targetPaint.value.parts[0]?.style ?? keys[0] ?? "");

  // One stop for the Tab key; arrows move inside.
  const onKeyDown = (event: KeyboardEvent) => {
    const tiles = [...(grid.current?.querySelectorAll<HTMLElement>(".tile-main") ?? [])];
    const here = tiles.indexOf(document.activeElement as HTMLElement);
    if (here < 0) return;
    const top = tiles[here]!.getBoundingClientRect().top;
    const left = tiles[here]!.getBoundingClientRect().left;
    const below = tiles.findIndex((tile, index) => index > here && tile.getBoundingClientRect().top > top && Math.abs(tile.getBoundingClientRect().left - left) < 4);
    const above = tiles.findLastIndex((tile, index) => index < here && tile.getBoundingClientRect().top < top && Math.abs(tile.getBoundingClientRect().left - left) < 4);
    const next: Record<string, number> = {
      ArrowRight: here + 1,
      ArrowLeft: here - 1,
      ArrowDown: below,
      ArrowUp: above,
      Home: 0,
      End: tiles.length - 1,
    };
    const style = tiles[here]!.dataset.style!;
    if (event.key in next) {
      event.preventDefault();
      const goal = tiles[next[event.key]!];
      goal?.focus();
      goal?.scrollIntoView({ block: "nearest" });
    } else if (event.key === "+" || event.key === "m") {
      event.preventDefault();
      editPaint((now) => toggled(now, style));
    } else if (event.key === "Delete" && style.startsWith("own:")) {
      removeStyle(style.slice(4));
    }
  };

  const area = region.value;
  return (
    <section class="panel wall" aria-labelledby="wall-title" data-drop="style">
      <header class="panel-head">
        <h2 id="wall-title">{t("wall.title")}</h2>
        {target.value !== BASE && area ? (
          <span class={`badge pigment-${area.pigment}`}>{t("areas.area", { number: area.number })}</span>
        ) : (
          photo.value && <span class="panel-note">{t("wall.hint")}</span>
        )}
      </header>
      <div
        class="wall-scroll"
        ref={grid}
        onKeyDown={onKeyDown}
        onFocusIn={(event) => {
          const style = (event.target as HTMLElement).dataset.style;
          if (style) setFocused(style);
        }}
      >
        <ul class="tiles" aria-label={t("wall.title")}>
          {pictures && (
            <li class="tile">
              <button type="button" class="tile-add" onClick={() => chooseFiles(addStyles, true)} title={t("wall.add")}>
                <span class="tile-picture">
                  <Icon name="plus" />
                </span>
                <span class="tile-name">{t("wall.addShort")}</span>
              </button>
            </li>
          )}
          {own.map((style) => (
            <Tile
              key={style.id}
              style={ownKey(style.id)}
              hint={style.name}
              stop={ownKey(style.id) === current}
              removable={() => removeStyle(style.id)}
            />
          ))}
          {presets.map((preset) => (
            <Tile
              key={preset.name}
              style={presetKey(preset.name)}
              hint={presetHint(preset) || presetTitle(preset.name)}
              stop={presetKey(preset.name) === current}
            />
          ))}
        </ul>
        {engine.value && keys.length === 0 && (
          <p class="wall-none">{t(pictures ? "wall.none" : "engine.noStyles", { engine: engine.value.name, name: engine.value.name })}</p>
        )}
      </div>
    </section>
  );
}

