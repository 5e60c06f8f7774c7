/** How far a slow engine is, how long it will take, and the button that stops it. */

import { useEffect, useState } from "preact/hooks";
import { duration, t } from "../i18n";
import { cancelJob } from "../state/render";
import { job } from "../state/store";

export function JobBar() {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, []);
  const running = job.value;
  if (!running) return null;
  const spent = (now - running.started) / 1000;
  const left = running.done > 0.03 ? (spent / running.done) * (1 - running.done) : Math.max(0, running.expected - spent);
  const words = (() => {
    if (running.status === "sending") return t("job.sending");
    if (running.status === "queued") return running.position > 0 ? t("job.queued", { count: running.position }) : t("job.next");
    return running.message || (running.steps > 0 ? t("job.step", { step: running.step, steps: running.steps }) : t("job.running"));
  })();
  return (
    <div class="job">
      <div class="job-text">
        <span>{words}</span>
        {left > 0.5 && <span class="job-left">{t("job.left", { time: duration(left) })}</span>}
      </div>
      <progress aria-label={t("job.running")} max={1} value={running.status === "running" ? running.done : undefined} />
      <button type="button" class="button" disabled={!running.id} onClick={() => void cancelJob()}>
        {t("job.cancel")}
      </button>
    </div>
  );
}
