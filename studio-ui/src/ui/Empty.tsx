/** The page before a photograph: one still life, painted in six styles at once, and three ways to begin. */

import { useEffect, useState } from "preact/hooks";
import { api } from "../api/client";
import { presetTitle, t } from "../i18n";
import { engines, info, opening, presets } from "../state/store";
import { chooseFiles, openPhoto, openSample } from "./actions";
import { Icon } from "./Icon";

const FAVOURITES = ["ukiyo-e", "sunflowers", "ink-wash", "fauvism", "nocturne", "stained-glass", "pink-hills", "tarot"];
const STRIPS = 6;
const SIDE = 800;

interface Strip {
  name: string;
  url: string;
}

/** Painted once for the life of the page. */
let painted: Promise<void> | null = null;

async function paintStrips(engine: string, names: string[], show: (strips: Strip[]) => void): Promise<void> {
  const photo = await (await fetch("/sample.jpg")).blob();
  const upload = (await api.upload(photo, "still-life.jpg")).id;
  const strips: Strip[] = [];
  for (const name of names) {
    const look = { styles: [{ preset: name, weight: 1 }], regions: [], engine, settings: {}, options: {} };
    const { blob } = await api.preview({ upload }, look, SIDE, new AbortController().signal);
    strips.push({ name, url: URL.createObjectURL(blob) });
    show([...strips]);
  }
}

let kept: Strip[] = [];

export function Empty() {
  const [strips, setStrips] = useState<Strip[]>(kept);
  const engine = info.value?.default_engine ?? "";
  const known = (presets.value[engine] ?? []).map((preset) => preset.name);
  const usable = engines.value !== null && known.length > 0;
  useEffect(() => {
    if (!usable || painted) return;
    const favourites = FAVOURITES.filter((name) => known.includes(name));
    const names = [...new Set([...favourites, ...known])].slice(0, STRIPS);
    painted = paintStrips(engine, names, (now) => {
      kept = now;
      setStrips(now);
    }).catch(() => undefined);
  }, [usable]);
  return (
    <div class="empty" data-drop="photo">
      <figure class="hero">
        <img src="/sample.jpg" alt="" width={1200} height={900} fetchpriority="high" />
        {Array.from({ length: STRIPS }, (_, index) => {
          const strip = strips[index];
          return strip && <img key={index} class={`strip strip-${index}`} src={strip.url} alt="" width={1200} height={900} />;
        })}
        <figcaption class="hidden">
          {t("empty.caption")}: {strips.map((strip) => presetTitle(strip.name)).join(", ")}
        </figcaption>
      </figure>
      <div class="welcome">
        <h2>{t("empty.title")}</h2>
        <p>{t("empty.text")}</p>
        <div class="row">
          <button type="button" class="button primary large" disabled={opening.value} onClick={() => chooseFiles(openPhoto)}>
            <Icon name="open" />
            {t("empty.choose")}
          </button>
          <button type="button" class="button large" disabled={opening.value} onClick={() => void openSample()}>
            {t("empty.sample")}
          </button>
        </div>
        <p class="quiet" role="status">
          {opening.value ? t("empty.opening") : t("empty.private")}
        </p>
      </div>
    </div>
  );
}
