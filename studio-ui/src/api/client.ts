/** Every call to the server. Errors are {@link ServerError} (the server said no) or {@link Offline} (it did not answer). */

import type {
  Batch,
  Engines,
  Estimate,
  Info,
  Job,
  LookRequest,
  Output,
  PictureRef,
  Preset,
  Problem,
  SettingValue,
  Upload,
} from "./types";

export class ServerError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail || problem.title);
    this.name = "ServerError";
  }
}

export class Offline extends Error {
  constructor() {
    super("the server does not answer");
    this.name = "Offline";
  }
}

export const isAbort = (error: unknown): boolean => error instanceof DOMException && error.name === "AbortError";

async function problemOf(response: Response): Promise<Problem> {
  const fallback: Problem = { type: "about:blank", title: response.statusText, status: response.status, detail: "" };
  try {
    return { ...fallback, ...(await response.json()) };
  } catch {
    return fallback;
  }
}

async function call(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...init });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Offline();
  }
  if (!response.ok) throw new ServerError(await problemOf(response));
  return response;
}

async function json<T>(path: string, init?: RequestInit): Promise<T> {
  return (await (await call(path, init)).json()) as T;
}

const body = (value: unknown, signal?: AbortSignal): RequestInit => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(value),
  signal,
});

/** A picture and the seconds that painting it took on the server. */
export interface Painted {
  blob: Blob;
  seconds: number;
  /** The server's own words on what it is called. */
  name: string;
}

async function picture(path: string, init: RequestInit): Promise<Painted> {
  const response = await call(path, init);
  const disposition = response.headers.get("Content-Disposition") ?? "";
  const name = /filename="?([^";]+)"?/.exec(disposition)?.[1] ?? "";
  return { blob: await response.blob(), seconds: Number(response.headers.get("X-Impasto-Seconds") ?? 0), name };
}

export const api = {
  session: (token: string) => call("/v1/session", { method: "POST", headers: { Authorization: `Bearer ${token}` } }),
  alive: async (): Promise<boolean> => {
    try {
      return (await fetch("/readyz", { cache: "no-store" })).ok;
    } catch {
      return false;
    }
  },
  info: () => json<Info>("/v1/info"),
  engines: () => json<Engines>("/v1/engines"),
  presets: async (engine: string) =>
    (await json<{ presets: Preset[] }>(`/v1/presets?engine=${encodeURIComponent(engine)}`)).presets,

  upload: (file: Blob, name: string, signal?: AbortSignal) => {
    const form = new FormData();
    form.append("file", new Blob([file]), name); // without a type: browsers guess it from the name, the server looks
    return json<Upload>("/v1/uploads", { method: "POST", body: form, signal });
  },
  uploadPicture: (id: string, size: number) => `/v1/uploads/${id}/picture?size=${size}&format=webp`,

  estimate: (
    engine: string,
    height: number,
    width: number,
    styles: number,
    settings: Record<string, SettingValue>,
    options: Record<string, SettingValue>,
    signal?: AbortSignal,
  ) => json<Estimate>("/v1/estimate", body({ engine, height, width, styles, settings, options }, signal)),

  preview: (content: PictureRef, look: LookRequest, longerSide: number, signal: AbortSignal) =>
    picture(
      "/v1/previews",
      body({ content, ...look, longer_side: longerSide, format: longerSide < 300 ? "webp" : "jpeg", quality: 88 }, signal),
    ),
  stylize: (content: PictureRef, look: LookRequest, output: Output, signal: AbortSignal) =>
    picture("/v1/stylize", body({ content, ...look, output }, signal)),

  createJob: (content: PictureRef, look: LookRequest, output: Output) =>
    json<Job>("/v1/jobs", body({ content, ...look, output })),
  job: (id: string) => json<Job>(`/v1/jobs/${id}`),
  jobResult: (id: string, output?: Output, signal?: AbortSignal) =>
    picture(
      `/v1/jobs/${id}/result${output ? `?format=${output.format}&quality=${output.quality}&strip=${output.strip}` : ""}`,
      { signal },
    ),
  jobThumbnail: (id: string) => `/v1/jobs/${id}/result?size=320&format=webp`,
  cancelJob: (id: string) => json<Job>(`/v1/jobs/${id}/cancel`, { method: "POST" }),
  removeJob: (id: string) => call(`/v1/jobs/${id}`, { method: "DELETE" }),

  openBatch: (look: Omit<LookRequest, "regions">, output: Output) =>
    json<Batch>("/v1/batches", body({ open: true, ...look, output })),
  /** The answer has the new jobs only. */
  addPhoto: (id: string, file: Blob, name: string) => {
    const form = new FormData();
    form.append("content", new Blob([file]), name); // without a type, as with uploads
    return json<Batch>(`/v1/batches/${id}/photos`, { method: "POST", body: form });
  },
  closeBatch: (id: string) => json<Batch>(`/v1/batches/${id}/close`, { method: "POST" }),
  batch: (id: string) => json<Batch>(`/v1/batches/${id}`),
  cancelBatch: (id: string) => json<Batch>(`/v1/batches/${id}/cancel`, { method: "POST" }),
  removeBatch: (id: string) => call(`/v1/batches/${id}`, { method: "DELETE" }),

  segment: async (
    content: PictureRef,
    query: { box?: number[]; points?: { x: number; y: number; keep: boolean }[] },
    longerSide: number,
    signal?: AbortSignal,
  ) =>
    (
      await picture(
        "/v1/segment",
        body({ content, box: query.box ?? null, points: query.points ?? [], longer_side: longerSide }, signal),
      )
    ).blob,
};

/** Listen to server-sent events until `end`, through restarts of the server; the answer stops listening. */
export function listen(path: string, on: Record<string, (data: never) => void>, ended: () => void): () => void {
  let source: EventSource | null = null;
  let timer = 0;
  let closed = false;
  const close = () => {
    closed = true;
    clearTimeout(timer);
    source?.close();
  };
  const open = () => {
    source = new EventSource(path);
    for (const [name, act] of Object.entries(on)) {
      source.addEventListener(name, (event) => act(JSON.parse((event as MessageEvent<string>).data) as never));
    }
    source.addEventListener("end", (event) => {
      close();
      on.job?.(JSON.parse((event as MessageEvent<string>).data) as never);
      on.batch?.(JSON.parse((event as MessageEvent<string>).data) as never);
      ended();
    });
    source.onerror = () => {
      if (closed || source?.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
      timer = window.setTimeout(open, 1500);
    };
  };
  open();
  return close;
}
