/**
 * Many photographs with the present look, and one zip at the end. They are sent one after the other into a batch that is
 * painted meanwhile; once all are sent, it goes on when the page is closed.
 */

import { signal } from "@preact/signals";
import { api, listen, Offline, ServerError } from "../api/client";
import type { Batch, Job, JobStatus } from "../api/types";
import { t } from "../i18n";
import { picturesIn } from "../picture/show";
import { type Look, paintsAnything, requestOf } from "../state/look";
import { rememberBatch, rememberedBatch } from "../state/persist";
import { explain, lostServer } from "../state/render";
import { announcement, info, look, newId, ownStyles, type Photo, tell } from "../state/store";
import { lookUploads, withUploads } from "../state/uploads";
import { output } from "../state/output";
import { chooseFiles } from "./actions";
import { IconButton } from "./controls";
import { useDialog } from "./Help";
import { describe } from "./History";
import { Icon } from "./Icon";
import { Notice } from "./Notice";
import { stylePicture } from "./Wall";

export const batchOpen = signal(false);

interface Item {
  id: string;
  name: string;
  file: File | null;
  url: string;
  job: Job | null;
  /** Why the server did not take it; empty if it did, or was not asked yet. */
  refused: string;
}

const TRIES = 40; // for one photograph, while the server is away or has no room
const REFUSALS = [400, 413, 415, 422]; // the photograph's own fault: the others go on

const items = signal<readonly Item[]>([]);
const batch = signal<Batch | null>(null);
const sending = signal(-1);
let stop: (() => void) | null = null;
let stopSending = false;
const heard = new Map<string, Job>(); // what events said last; they may be sooner than the answer to a photograph

function add(files: readonly File[]): void {
  const room = (info.value?.limits.batch ?? 500) - items.value.length;
  if (files.length > room) tell("batch.tooMany", String(info.value?.limits.batch ?? 500));
  const made = files.slice(0, room).map((file) => ({ id: newId(), name: file.name, file, url: URL.createObjectURL(file), job: null, refused: "" }));
  items.value = [...items.value, ...made];
}

function clear(): void {
  stop?.();
  for (const item of items.value) if (item.url) URL.revokeObjectURL(item.url);
  const old = batch.value;
  items.value = [];
  batch.value = null;
  sending.value = -1;
  void rememberBatch(null);
  if (old) void api.removeBatch(old.id).catch(() => undefined);
}

const change = (id: string, now: Partial<Item>): unknown =>
  (items.value = items.value.map((item) => (item.id === id ? { ...item, ...now } : item)));

async function start(): Promise<void> {
  stopSending = false;
  sending.value = 0;
  let made: Batch | null = null;
  try {
    made = await withUploads(async () => {
      const plain: Look = { ...look.value, regions: [] };
      const { regions: _, ...request } = requestOf(plain, await lookUploads({} as Photo, plain));
      return api.openBatch(request, output.value);
    });
    const { id } = made;
    watch(made);
    await whileHeld(id, () => sendAll(id));
  } catch (error) {
    explain(error);
  } finally {
    if (made) await finish(made.id).catch(explain);
    sending.value = -1;
  }
}

async function sendAll(id: string): Promise<void> {
  for (const item of items.value) {
    if (stopSending) return;
    try {
      const job = await sendOne(id, item);
      if (job) change(item.id, { job: heard.get(job.id) ?? job });
    } catch (error) {
      if (!(error instanceof ServerError) || !REFUSALS.includes(error.problem.status)) throw error;
      change(item.id, { refused: error.message });
    }
    sending.value += 1;
  }
}

/** Send one photograph; while the server has no room or does not answer, wait and try again. */
async function sendOne(id: string, item: Item): Promise<Job | null> {
  for (let tries = 1; ; tries += 1) {
    try {
      return (await api.addPhoto(id, item.file!, item.name)).jobs[0] ?? null;
    } catch (error) {
      const wait = error instanceof Offline ? 2 : error instanceof ServerError ? (error.problem.retry_after ?? 0) : 0;
      if (wait === 0 || tries === TRIES) throw error;
      for (let second = 0; second < wait; second += 1) {
        if (stopSending) return null;
        await new Promise((done) => setTimeout(done, 1000));
      }
      const job = error instanceof Offline ? await arrived(id) : null;
      if (job) return job;
    }
  }
}

/** The job of a photograph that did arrive, although the answer was lost. */
async function arrived(id: string): Promise<Job | null> {
  const known = new Set(items.value.map((item) => item.job?.id));
  const now = await api.batch(id).catch(() => null);
  return now?.jobs.find((job) => !known.has(job.id)) ?? null;
}

/** All that can be sent is: let the batch end; or take back what was stopped. */
async function finish(id: string): Promise<void> {
  if (items.value.some((item) => item.job)) {
    await (stopSending ? api.cancelBatch(id) : api.closeBatch(id));
    return;
  }
  stop?.();
  batch.value = null;
  void rememberBatch(null);
  await api.removeBatch(id);
}

const lockOf = (id: string): string => `impasto-batch-${id}`;

/** Hold a lock that goes with the page, so that another one can see whether somebody still sends. */
async function whileHeld(id: string, act: () => Promise<void>): Promise<void> {
  if (!navigator.locks) return act(); // not over plain HTTP from another machine
  await navigator.locks.request(lockOf(id), act);
}

/** Close a batch whose page went away before everything was sent. */
async function closeAbandoned(now: Batch): Promise<void> {
  const close = async () => {
    await (now.total > 0 ? api.closeBatch(now.id) : api.removeBatch(now.id));
  };
  if (!navigator.locks) return close();
  await navigator.locks.request(lockOf(now.id), { ifAvailable: true }, (lock) => (lock ? close() : undefined));
}

/** Merge what the server says of single jobs into the list. */
function take(jobs: readonly Job[]): void {
  const now = [...items.value];
  for (const job of jobs) {
    const index = now.findIndex((item) => item.job?.id === job.id);
    if (index >= 0) now[index] = { ...now[index]!, job };
    else now.push({ id: job.id, name: job.name, file: null, url: "", job, refused: "" });
  }
  items.value = now;
}

function watch(made: Batch): void {
  batch.value = made;
  heard.clear();
  take(made.jobs);
  void rememberBatch(made.id);
  stop?.();
  stop = listen(
    `/v1/batches/${made.id}/events`,
    {
      batch: (now: Batch) => (batch.value = { ...now, jobs: [] }),
      job: (job: Job) => {
        if ("jobs" in job) return; // the end of the stream, which is the batch
        heard.set(job.id, job);
        if (sending.value < 0) take([job]);
        else items.value = items.value.map((item) => (item.job?.id === job.id ? { ...item, job } : item));
      },
    },
    () => {
      void api.batch(made.id).then((now) => {
        take(now.jobs);
        batch.value = now;
        announcement.value = t("batch.done", { total: now.total });
      }, explain);
    },
  );
}

/** Take up a batch from before a reload. */
export async function resumeBatch(): Promise<void> {
  const id = await rememberedBatch();
  if (!id) return;
  try {
    const found = await api.batch(id);
    if (found.status === "open") await closeAbandoned(found);
    if (found.status !== "open" || found.total > 0) watch(found);
    else void rememberBatch(null);
  } catch (error) {
    if (error instanceof ServerError) void rememberBatch(null);
    if (error instanceof Offline) lostServer();
  }
}

/** Files that were dropped or chosen for a batch. */
export function openBatch(files: readonly File[]): void {
  if (batch.value === null) add(files);
  batchOpen.value = true;
}

type State = JobStatus | "waiting";

function Row({ item }: { item: Item }) {
  const unsent = item.refused ? "failed" : batch.value?.status === "done" ? "cancelled" : "waiting";
  const state: State = item.job?.status ?? unsent;
  const picture = state === "done" && item.job ? api.jobThumbnail(item.job.id) : item.url;
  return (
    <li class={`batch-item batch-${state}`}>
      <span class="batch-picture">{picture && <img src={picture} alt="" loading="lazy" decoding="async" />}</span>
      <span class="batch-name" title={item.name}>
        {item.name}
      </span>
      <span class="batch-state" title={item.job?.error?.detail ?? item.refused}>
        {t(`batch.state.${state}`)}
      </span>
      {item.job === null && sending.value < 0 && (
        <IconButton
          icon="close"
          class="small tile-remove"
          label={t("batch.remove", { name: item.name })}
          onClick={() => {
            URL.revokeObjectURL(item.url);
            items.value = items.value.filter((one) => one.id !== item.id);
          }}
        />
      )}
    </li>
  );
}

export function BatchDialog() {
  const dialog = useDialog(batchOpen);
  const now = batch.value;
  const count = items.value.length;
  const ready = paintsAnything({ ...look.value, regions: [] });
  const ended = now?.status === "done";
  const words = (() => {
    if (sending.value >= 0) return t("batch.sending", { done: sending.value, total: count });
    if (!now) return "";
    if (!ended) return t("batch.running", { done: now.done, total: now.total });
    if (now.done < count) return t("batch.failed", { done: now.done, failed: count - now.done });
    return t("batch.done", { total: now.total });
  })();
  void ownStyles.value;
  return (
    <dialog
      ref={dialog}
      class="dialog batch-dialog"
      aria-labelledby="batch-title"
      data-drop="batch"
      onClose={() => (batchOpen.value = false)}
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        event.stopPropagation();
        if (!now && sending.value < 0) add(picturesIn(event.dataTransfer));
      }}
    >
      <header class="dialog-head">
        <h2 id="batch-title">{t("batch.title")}</h2>
        <IconButton icon="close" label={t("batch.close")} onClick={() => (batchOpen.value = false)} />
      </header>
      <p class="quiet">{t("batch.text")}</p>
      <div class="batch-look">
        {ready ? (
          <>
            <span class="swatches" aria-hidden="true">
              {look.value.base.parts.map((part) => (
                <img key={part.style} src={stylePicture(part.style)} alt="" />
              ))}
            </span>
            <span>{describe({ ...look.value, regions: [] })}</span>
          </>
        ) : (
          <span>{t("batch.noStyle")}</span>
        )}
      </div>
      {count === 0 ? (
        <div class="batch-empty">
          <Icon name="stack" />
          <p>
            {t("batch.drop")}{" "}
            <button type="button" class="link" onClick={() => chooseFiles(add, true)}>
              {t("batch.choose")}
            </button>
          </p>
        </div>
      ) : (
        <ul class="batch-list" tabIndex={0} aria-label={t("batch.title")}>
          {items.value.map((item) => (
            <Row key={item.id} item={item} />
          ))}
          {!now && sending.value < 0 && (
            <li class="batch-item">
              <button type="button" class="tile-add" onClick={() => chooseFiles(add, true)}>
                <span class="batch-picture">
                  <Icon name="plus" />
                </span>
                <span class="tile-name">{t("wall.addShort")}</span>
              </button>
            </li>
          )}
        </ul>
      )}
      <footer class="dialog-foot">
        <div class="batch-progress">
          <span role="status">{words}</span>
          {(now || sending.value >= 0) && (
            <progress
              aria-label={t("batch.progress")}
              max={1}
              value={ended ? 1 : now ? (now.progress * now.total) / Math.max(1, count) : 0}
            />
          )}
        </div>
        {now && !ended && sending.value < 0 && (
          <button type="button" class="button" onClick={() => void api.cancelBatch(now.id).catch(explain)}>
            {t("batch.cancel")}
          </button>
        )}
        {sending.value >= 0 && (
          <button type="button" class="button" onClick={() => (stopSending = true)}>
            {t("batch.cancel")}
          </button>
        )}
        {ended && (
          <button type="button" class="button" onClick={clear}>
            {t("batch.again")}
          </button>
        )}
        {ended && now.zip && (
          <a class="button primary" href={now.zip} download>
            <Icon name="download" />
            {t("batch.zip")}
          </a>
        )}
        {!now && sending.value < 0 && (
          <button type="button" class="button primary" disabled={!ready || count === 0} onClick={() => void start()}>
            {count === 0 ? t("batch.startNone") : count === 1 ? t("batch.startOne") : t("batch.start", { count })}
          </button>
        )}
      </footer>
      {batchOpen.value && <Notice />}
    </dialog>
  );
}
