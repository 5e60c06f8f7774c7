/** Pictures on the server. It may forget them (an hour, a restart): then they are sent again. */

import { api, ServerError } from "../api/client";
import { type Mask, emptyMask, feathered, maskToBlob, visibleIn } from "../picture/mask";
import { type Look, type Region, type Uploaded, ownId, stylesOf } from "./look";
import { masks, ownStyles, type Photo } from "./store";

const sent = new Map<string, Promise<string>>();

function send(key: string, make: () => Promise<Blob> | Blob, name: string): Promise<string> {
  let id = sent.get(key);
  if (!id) {
    id = Promise.resolve(make()).then((blob) => api.upload(blob, name)).then((upload) => upload.id);
    id.catch(() => sent.delete(key));
    sent.set(key, id);
  }
  return id;
}

export const photoUpload = (photo: Photo): Promise<string> => send(`photo:${photo.id}`, () => photo.blob, photo.name);

/** The server already has this picture under that id. */
export const alreadySent = (photo: Photo, upload: string): unknown => sent.set(`photo:${photo.id}`, Promise.resolve(upload));

const maskKey = (region: Region): string => `mask:${region.mask}:${region.feather}`;

const softened = new Map<string, Mask>();
const KEPT = 24;

/** The mask of a region with its soft border. */
function soft(region: Region): Mask {
  const key = maskKey(region);
  let result = softened.get(key);
  if (!result) {
    const mask = masks.get(region.mask)!;
    result = feathered(mask, (region.feather / 1000) * Math.max(mask.width, mask.height));
    softened.set(key, result);
    if (softened.size > KEPT) softened.delete(softened.keys().next().value!);
  }
  return result;
}

/** Send what a look needs, and answer under which ids. */
export async function lookUploads(photo: Photo, look: Look): Promise<Uploaded> {
  const styles = new Map<string, string>();
  const areas = new Map<string, string>();
  const wanted: Promise<unknown>[] = [];
  for (const key of stylesOf(look)) {
    const id = ownId(key);
    const style = ownStyles.value.find((one) => one.id === id);
    if (style) wanted.push(send(`style:${style.id}`, () => style.blob, style.name).then((ref) => styles.set(style.id, ref)));
  }
  let everywhere = "";
  const regions = look.regions.filter((region) => masks.has(region.mask));
  const { masks: seen, beneath } = visibleIn(regions.map(soft));
  const shown = regions.filter((_, index) => seen[index]);
  for (const region of shown) {
    const key = maskKey(region);
    wanted.push(send(key, () => maskToBlob(soft(region)), `area-${region.number}.png`).then((ref) => areas.set(key, ref)));
  }
  if (shown.length > 0 && beneath) {
    const white = () => maskToBlob(emptyMask(photo.width, photo.height, 255));
    wanted.push(
      send(`white:${photo.width}x${photo.height}`, white, "everywhere.png").then((ref) => (everywhere = ref)),
    );
  }
  await Promise.all(wanted);
  return { style: (id) => styles.get(id) ?? "", mask: (region) => areas.get(maskKey(region)) ?? "", everywhere };
}

/** Run what needs uploads; if the server has lost some, send everything again, once. */
export async function withUploads<T>(run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (!(error instanceof ServerError) || error.problem.status !== 404 || error.problem.near?.length) throw error;
    sent.clear();
    return run();
  }
}
