/** One line at the bottom: what went wrong, or what was done; and the voice for screen readers. */

import { useEffect } from "preact/hooks";
import { isKey, t } from "../i18n";
import { announcement, notice, offline } from "../state/store";
import { IconButton } from "./controls";

const SHOWN = 7000;

export function Notice() {
  const now = notice.value;
  useEffect(() => {
    if (!now || now.kind === "error") return undefined;
    const timer = setTimeout(() => (notice.value = null), SHOWN);
    return () => clearTimeout(timer);
  }, [now]);
  const said = announcement.value;
  return (
    <div class="notices">
      <p class="hidden" role="status" aria-live="polite">
        {isKey(said) ? t(said) : said}
      </p>
      <div role="alert">
        {offline.value && <div class="notice notice-error">{t("notice.offline")}</div>}
        {now && !offline.value && (
          <div key={now.serial} class={`notice notice-${now.kind}`}>
            <span>
              {isKey(now.key) ? t(now.key, { name: now.detail ?? "", count: now.detail ?? "" }) : now.key}
              {now.kind === "error" && now.detail && <small>{now.detail}</small>}
            </span>
            <IconButton icon="close" class="small" label={t("notice.close")} onClick={() => (notice.value = null)} />
          </div>
        )}
      </div>
    </div>
  );
}
