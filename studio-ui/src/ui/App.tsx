/** The page: styles on the left, the picture in the middle, settings on the right; one below the other on phones. */

import { useEffect, useState } from "preact/hooks";
import { t } from "../i18n";
import { picturesIn } from "../picture/show";
import { photo, type Tab, tab, tell } from "../state/store";
import { addStyles, openPhoto } from "./actions";
import { BatchDialog, batchOpen, openBatch } from "./Batch";
import { Empty } from "./Empty";
import { Help } from "./Help";
import { History } from "./History";
import { Icon, type IconName } from "./Icon";
import { Adjust, Areas, EnginePanel, Mix } from "./Inspector";
import { onKey } from "./keys";
import { Notice } from "./Notice";
import { narrow } from "./screen";
import { Stage } from "./Stage";
import { TopBar } from "./TopBar";
import { Wall } from "./Wall";

const TABS: readonly { tab: Tab; icon: IconName }[] = [
  { tab: "styles", icon: "style" },
  { tab: "adjust", icon: "sliders" },
  { tab: "areas", icon: "brush" },
  { tab: "engine", icon: "engine" },
  { tab: "history", icon: "history" },
];

function Tabs() {
  const move = (event: KeyboardEvent) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const here = TABS.findIndex((one) => one.tab === tab.value);
    tab.value = TABS[(here + by + TABS.length) % TABS.length]!.tab;
    requestAnimationFrame(() => document.getElementById(`tab-${tab.value}`)?.focus());
  };
  return (
    <div class="tabs" role="tablist" aria-label={t("tab.label")} onKeyDown={move}>
      {TABS.map((one) => (
        <button
          key={one.tab}
          type="button"
          role="tab"
          id={`tab-${one.tab}`}
          aria-selected={tab.value === one.tab}
          aria-controls="tab-panel"
          tabIndex={tab.value === one.tab ? 0 : -1}
          onClick={() => (tab.value = one.tab)}
        >
          <Icon name={one.icon} />
          <span>{t(`tab.${one.tab}`)}</span>
        </button>
      ))}
    </div>
  );
}

/** Where dropped pictures go: to the wall as styles, elsewhere as the photograph. */
function useDrops(): string {
  const [over, setOver] = useState("");
  useEffect(() => {
    const place = (event: DragEvent) =>
      (event.target as HTMLElement).closest<HTMLElement>("[data-drop]")?.dataset.drop ?? "photo";
    const onOver = (event: DragEvent) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      setOver(place(event));
    };
    const onLeave = (event: DragEvent) => {
      if (event.relatedTarget === null) setOver("");
    };
    const onDrop = (event: DragEvent) => {
      event.preventDefault();
      setOver("");
      const goal = place(event);
      if (goal === "batch") return;
      const files = picturesIn(event.dataTransfer);
      if (files.length === 0) tell("notice.noPicture");
      else if (goal === "style") void addStyles(files);
      else if (files.length > 1) openBatch(files);
      else void openPhoto(files);
    };
    const onPaste = (event: ClipboardEvent) => {
      const files = picturesIn(event.clipboardData);
      if (files.length === 0 || batchOpen.value) return;
      event.preventDefault();
      if (document.activeElement?.closest("[data-drop=style]")) void addStyles(files);
      else void openPhoto(files);
    };
    addEventListener("dragover", onOver);
    addEventListener("dragleave", onLeave);
    addEventListener("drop", onDrop);
    addEventListener("paste", onPaste);
    addEventListener("keydown", onKey);
    return () => {
      removeEventListener("dragover", onOver);
      removeEventListener("dragleave", onLeave);
      removeEventListener("drop", onDrop);
      removeEventListener("paste", onPaste);
      removeEventListener("keydown", onKey);
    };
  }, []);
  return over;
}

function Panels() {
  if (!narrow.value) {
    return (
      <>
        <aside class="left" aria-label={t("wall.title")}>
          <Wall />
        </aside>
        <aside class="right" aria-label={t("adjust.title")}>
          <Mix />
          <Adjust />
          <Areas />
          <EnginePanel />
        </aside>
      </>
    );
  }
  return (
    <aside class="bottom" aria-label={t("tab.label")}>
      <Tabs />
      <div class="tab-panel" role="tabpanel" id="tab-panel" aria-labelledby={`tab-${tab.value}`} tabIndex={-1}>
        {tab.value === "styles" && <Wall />}
        {tab.value === "adjust" && (
          <>
            <Mix />
            <Adjust />
          </>
        )}
        {tab.value === "areas" && <Areas />}
        {tab.value === "engine" && <EnginePanel />}
        {tab.value === "history" && <History />}
      </div>
    </aside>
  );
}

export function App() {
  const over = useDrops();
  const shown = photo.value !== null;
  return (
    <div class={`app ${shown ? "app-open" : "app-empty"}`} data-over={over || undefined}>
      <TopBar />
      <main class="main" id="main">
        {shown ? <Stage /> : <Empty />}
        {shown && !narrow.value && <History />}
      </main>
      {shown && <Panels />}
      {!shown && !narrow.value && (
        <aside class="left" aria-label={t("wall.title")}>
          <Wall />
        </aside>
      )}
      <BatchDialog />
      <Help />
      {!batchOpen.value && <Notice />}
    </div>
  );
}
