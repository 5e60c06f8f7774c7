import { render } from "preact";
import { effect, untracked } from "@preact/signals";
import { api, Offline, ServerError } from "./api/client";
import { keepSaving, restore } from "./state/persist";
import { explain, lostServer, previewTimes, refresh, resume, startRendering } from "./state/render";
import { complain, edit, engines, info, look, offline, presets } from "./state/store";
import { App } from "./ui/App";
import { resumeBatch } from "./ui/Batch";
import "./style/index.css";

const PRESETS_AGAIN = 5000; // milliseconds

declare global {
  interface Window {
    /** Milliseconds from each change to its preview, for benchmarks. */
    impastoPreviewTimes: readonly number[];
  }
}
window.impastoPreviewTimes = previewTimes;

/** `impasto studio` opens /#token=…: trade it for a cookie and take it out of the address. */
async function signIn(): Promise<void> {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", location.pathname);
  await api.session(token);
}

const asked = new Set<string>();

/** Presets of an engine. Its worker may be busy for long: then ask again until it has answered. */
async function loadPresets(engine: string): Promise<void> {
  if (presets.value[engine] || asked.has(engine)) return;
  asked.add(engine);
  try {
    const found = await api.presets(engine);
    presets.value = { ...presets.value, [engine]: found };
  } catch (error) {
    const busy = error instanceof Offline || (error instanceof ServerError && [429, 503, 504].includes(error.problem.status));
    if (busy) setTimeout(() => void loadPresets(engine), PRESETS_AGAIN);
    else presets.value = { ...presets.value, [engine]: [] };
  } finally {
    asked.delete(engine);
  }
}

async function askServer(): Promise<void> {
  const [about, offered] = await Promise.all([api.info(), api.engines()]);
  const named = offered.engines.filter((one) => one.available && !one.capabilities.pictures).map((one) => one.name);
  for (const engine of named) void loadPresets(engine); // of slow engines: nobody has to wait for their workers
  await loadPresets(offered.default);
  info.value = about;
  if (!offered.engines.some((one) => one.name === look.value.engine && one.available)) {
    edit((now) => ({ ...now, engine: offered.default }), false);
  }
  engines.value = offered;
}

async function start(): Promise<void> {
  render(<App />, document.getElementById("app")!);
  const running = await restore().catch(() => null);
  startRendering();
  keepSaving();
  try {
    await signIn();
    await askServer();
  } catch (error) {
    if (!(error instanceof Offline)) return explain(error);
    lostServer();
    effect(() => {
      if (!offline.value && !engines.value) untracked(() => void askServer().then(refresh, explain));
    });
  }
  effect(() => {
    const { engine } = look.value;
    if (engines.value) untracked(() => void loadPresets(engine));
  });
  if (running) void resume(running.id, running.look, running.started, running.expected);
  void resumeBatch();
}

start().catch((error: unknown) => complain("error.start", error instanceof Error ? error.message : String(error)));
