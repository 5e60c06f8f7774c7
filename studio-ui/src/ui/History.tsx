/** Every step with its settings, as small paintings; a click goes back to it. */

import { useEffect, useRef } from "preact/hooks";
import { choiceTitle, settingTitle, styleTitle, t } from "../i18n";
import type { Look } from "../state/look";
import { cursor, goTo, photo, steps } from "../state/store";

/** A look in a few words. */
export function describe(of: Look): string {
  const paint = of.base.parts.map((part) =>
    of.base.parts.length > 1 ? `${styleTitle(part.style)} ${Math.round(part.share * 100)}%` : styleTitle(part.style),
  );
  const words = [paint.join(" + ") || t("history.photo")];
  if (of.base.parts.length > 0 && of.base.strength < 1) words.push(`${Math.round(of.base.strength * 100)} %`);
  if (of.regions.length > 0) {
    words.push(of.regions.length === 1 ? t("history.oneArea") : t("history.areas", { count: of.regions.length }));
  }
  for (const [name, value] of Object.entries(of.settings)) {
    words.push(`${settingTitle(name)} ${typeof value === "string" ? choiceTitle(name, value) : String(value ?? t("adjust.auto"))}`);
  }
  if (of.engine !== "brush") words.push(of.engine);
  return words.join(" · ");
}

/** The step's painting; while it has none, the newest one before it. */
function Thumbnail({ index }: { index: number }) {
  const known = steps.value.slice(0, index + 1).findLast((step) => step.thumbnail)?.thumbnail ?? photo.value?.url;
  return known ? <img src={known} alt="" /> : null;
}

export function History() {
  const list = useRef<HTMLOListElement>(null);
  const here = cursor.value;
  useEffect(() => {
    const item = list.current?.children[here] as HTMLElement | undefined;
    const box = list.current;
    if (!item || !box) return;
    box.scrollTo({ left: item.offsetLeft - box.clientWidth + item.offsetWidth + 12, top: item.offsetTop - box.clientHeight / 2 });
  }, [here]);
  return (
    <section class="panel history" aria-label={t("history.title")}>
      {steps.value.length === 0 && <p class="quiet">{t("history.empty")}</p>}
      <ol ref={list}>
        {steps.value.map((step, index) => {
          const text = describe(step.look);
          return (
            <li key={step.id} class={index > here ? "later" : undefined}>
              <button
                type="button"
                aria-current={index === here ? "step" : undefined}
                aria-label={t("history.step", { number: index + 1, text })}
                title={text}
                onClick={() => goTo(index)}
              >
                <Thumbnail index={index} />
              </button>
              <span class="history-text" aria-hidden="true">
                {text}
              </span>
            </li>
          );
        })}
      </ol>
    </section>
  );
}
