/** Name of the photo, undo, download, and what is needed seldom. */

import { language, setLanguage, t } from "../i18n";
import type { PictureFormat } from "../api/types";
import { busy, canRedo, canUndo, info, job, painting, photo, redo, slow, undo } from "../state/store";
import { announcement } from "../state/store";
import { output, setOutput } from "../state/output";
import { chooseFiles, download, openPhoto, saving } from "./actions";
import { batchOpen } from "./Batch";
import { helpOpen } from "./Help";
import { Segmented, Slider, IconButton } from "./controls";
import { Icon, Mark } from "./Icon";
import { dark, toggleTheme } from "./screen";

const NAMES: Record<PictureFormat, string> = { jpeg: "JPEG", png: "PNG", webp: "WebP" };

export function TopBar() {
  const shown = photo.value;
  const painted = painting.value !== null && (!slow.value || painting.value.kind === "full");
  const ready = shown !== null && painted && !saving.value && job.value === null;
  return (
    <header class="top">
      <h1 class="brand">
        <Mark />
        <span>impasto</span>
      </h1>
      {shown && (
        <p class="document" title={shown.name}>
          <span class="document-name">{shown.name}</span>
          <span class="document-size">
            {shown.width} × {shown.height}
          </span>
        </p>
      )}
      <div class="top-tools">
        {shown && (
          <>
            <IconButton
              icon="undo"
              label={t("top.undo")}
              keys="Control+Z"
              disabled={!canUndo.value}
              onClick={() => {
                undo();
                announcement.value = t("said.undo");
              }}
            />
            <IconButton
              icon="redo"
              label={t("top.redo")}
              keys="Control+Shift+Z"
              disabled={!canRedo.value}
              onClick={() => {
                redo();
                announcement.value = t("said.redo");
              }}
            />
            <IconButton icon="open" class="wide-only" label={t("top.open")} keys="Control+O" onClick={() => chooseFiles(openPhoto)} />
          </>
        )}
        <button type="button" class="button wide-only" onClick={() => (batchOpen.value = true)}>
          <Icon name="stack" />
          {t("top.batch")}
        </button>
        <span class="wide-only tools-group">
          <Preferences />
        </span>
        <IconButton icon="more" class="narrow-only" label={t("top.more")} popovertarget="more-menu" />
        <div id="more-menu" class="popover" popover="auto">
          {shown && (
            <button type="button" class="menu-item" onClick={() => chooseFiles(openPhoto)}>
              <Icon name="open" /> {t("top.open")}
            </button>
          )}
          <button type="button" class="menu-item" onClick={() => (batchOpen.value = true)}>
            <Icon name="stack" /> {t("top.batch")}
          </button>
          <button type="button" class="menu-item" onClick={() => setLanguage(language.value === "en" ? "zh" : "en")}>
            <Icon name="language" /> {t("top.language")}
          </button>
          <button type="button" class="menu-item" onClick={toggleTheme}>
            <Icon name={dark.value ? "sun" : "moon"} /> {t(dark.value ? "top.theme.light" : "top.theme.dark")}
          </button>
        </div>
        {shown && (
          <div class="split-button">
            <button
              type="button"
              class="button primary"
              disabled={!ready}
              aria-keyshortcuts="Control+S"
              aria-busy={saving.value || busy.value === "full"}
              onClick={() => void download()}
            >
              <Icon name="download" />
              <span class="wide-only">{saving.value ? t("download.busy") : t("top.download")}</span>
              <span class="hidden narrow-only">{t("top.download")}</span>
            </button>
            <button type="button" class={`button caret ${ready ? "primary" : ""}`} aria-label={`${NAMES[output.value.format]}: ${t("top.settings")}`} title={t("top.settings")} popovertarget="download-menu">
              <span class="format">{NAMES[output.value.format]}</span>
              <Icon name="chevron" />
            </button>
          </div>
        )}
        <div id="download-menu" class="popover" popover="auto">
          <Segmented<PictureFormat>
            label={t("download.format")}
            value={output.value.format}
            choices={((info.value?.formats ?? ["jpeg", "png", "webp"]) as PictureFormat[]).map((value) => ({ value, text: NAMES[value] }))}
            onChange={(format) => setOutput({ format })}
          />
          {output.value.format !== "png" && (
            <Slider
              label={t("download.quality")}
              value={output.value.quality}
              min={50}
              max={100}
              step={1}
              text={String(output.value.quality)}
              onInput={(quality) => setOutput({ quality })}
            />
          )}
          {!slow.value && (
            <label class="switch">
              <input
                type="checkbox"
                role="switch"
                checked={!output.value.strip}
                aria-describedby="recipe-help"
                onChange={(event) => setOutput({ strip: !event.currentTarget.checked })}
              />
              <span>{t("download.recipe")}</span>
            </label>
          )}
          <p class="help" id="recipe-help">
            {t("download.recipeHelp")}
          </p>
        </div>
      </div>
    </header>
  );
}

function Preferences() {
  return (
    <>
      <button
        type="button"
        class="button plain"
        lang={language.value === "en" ? "zh-Hans" : "en"}
        title={t("top.languageHelp")}
        onClick={() => setLanguage(language.value === "en" ? "zh" : "en")}
      >
        {t("top.language")}
      </button>
      <IconButton icon="keyboard" label={t("top.help")} keys="?" onClick={() => (helpOpen.value = true)} />
      <IconButton icon={dark.value ? "sun" : "moon"} label={t(dark.value ? "top.theme.light" : "top.theme.dark")} onClick={toggleTheme} />
    </>
  );
}
