/** The keyboard's list. */

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { t } from "../i18n";
import { IconButton } from "./controls";

export const helpOpen = signal(false);

/** Follow a signal with a modal <dialog>, which keeps the focus inside and gives it back. */
export function useDialog(open: { value: boolean }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const wanted = open.value;
  useEffect(() => {
    const element = dialog.current!;
    if (wanted && !element.open) element.showModal();
    if (!wanted && element.open) element.close();
  }, [wanted]);
  return dialog;
}

export function Help() {
  const dialog = useDialog(helpOpen);
  const apple = /Mac|iPhone|iPad/.test(navigator.platform);
  const control = apple ? "⌘" : "Ctrl";
  const rows: [string, string[]][] = [
    [t("help.open"), [`${control} O`]],
    [t("help.download"), [`${control} S`]],
    [t("help.undo"), [`${control} Z`, `${control} ⇧ Z`]],
    [t("help.zoom"), ["+", "−"]],
    [t("help.fit"), ["0", "1", "2"]],
    [t("help.pan"), ["←", "→", "↑", "↓"]],
    [t("help.view"), ["P", "C", "V"]],
    [t("help.area"), ["A"]],
    [t("help.tools"), ["B", "E"]],
    [t("help.size"), ["[", "]"]],
    [t("help.draw"), ["Space"]],
    [t("help.mix"), ["M"]],
    [t("help.leave"), ["Esc"]],
  ];
  return (
    <dialog ref={dialog} class="dialog help-dialog" aria-labelledby="help-title" onClose={() => (helpOpen.value = false)}>
      <header class="dialog-head">
        <h2 id="help-title">{t("help.title")}</h2>
        <IconButton icon="close" label={t("help.close")} onClick={() => (helpOpen.value = false)} />
      </header>
      <dl class="keys">
        {rows.map(([words, keys]) => (
          <div key={words}>
            <dt>{words}</dt>
            <dd>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dd>
          </div>
        ))}
      </dl>
    </dialog>
  );
}
