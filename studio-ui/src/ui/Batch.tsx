/** Many photographs with the present look, and one zip at the end. The batch goes on when the page is closed. */

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
}

const items = signal<readonly Item[]>([]);
const batch = signal<Batch | null>(null);
const sending = signal(-1);
let stop: (() => void) | null = null;
let stopSending = false;

function add(files: readonly File[]): void {
  const room = (info.value?.limits.batch ?? 500) - items.value.length;
  if (files.length > room) tell("batch.tooMany", String(info.value?.limits.batch ?? 500));
  const made = files.slice(0, room).map((file) => ({ id: newId(), name: file.name, file, url: URL.createObjectURL(file), job: null }));
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

async function start(): Promise<void> {
  const files = items.value;
  stopSending = false;
  sending.value = 0;
  try {
    const made = await withUploads(async () => {
      const contents: string[] = [];
      for (const item of files) {
        if (stopSending) return null;
        contents.push((await api.upload(item.file!, item.name)).id);
        sending.value = contents.length;
      }
      const plain: Look = { ...look.value, regions: [] };
      const { regions: _, ...request } = requestOf(plain, await lookUploads({} as Photo, plain));
      return api.createBatch(contents.map((upload) => ({ upload })), request, output.value);
    });
    if (made) watch(made);
  } catch (error) {
    explain(error);
  } finally {
    sending.value = -1;
  }
}

/** Merge what the server says of single jobs into the list; jobs have the order of the photographs. */
function take(jobs: readonly Job[]): void {
  const now = [...items.value];
  jobs.forEach((job, index) => {
    now[index] ??= { id: job.id, name: job.name, file: null, url: "", job };
    now[index] = { ...now[index]!, job };
  });
  items.value = now;
}

function watch(made: Batch): void {
  batch.value = made;
  take(made.jobs);
  void rememberBatch(made.id);
  stop?.();
  stop = listen(
    `/v1/batches/${made.id}/events`,
    {
      batch: (now: Batch) => (batch.value = { ...now, jobs: [] }),
      job: (job: Job) => (items.value = items.value.map((item) => (item.job?.id === job.id ? { ...item, job } : item))),
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
    watch(await api.batch(id));
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
  const state: State = item.job?.status ?? "waiting";
  const picture = state === "done" && item.job ? api.jobThumbnail(item.job.id) : item.url;
  return (
    <li class={`batch-item batch-${state}`}>
      <span class="batch-picture">{picture && <img src={picture} alt="" loading="lazy" decoding="async" />}</span>
      <span class="batch-name" title={item.name}>
        {item.name}
      </span>
      <span class="batch-state" title={item.job?.error?.detail}>
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
    if (now.failed + now.cancelled > 0) return t("batch.failed", { done: now.done, failed: now.failed + now.cancelled });
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
              value={now ? (ended ? 1 : now.progress) : sending.value / Math.max(1, count)}
            />
          )}
        </div>
        {now && !ended && (
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
