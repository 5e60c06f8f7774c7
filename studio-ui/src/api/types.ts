/** What the server says and understands; see docs/server.md and /openapi.json. */

export interface Problem {
  type: string;
  title: string;
  status: number;
  detail: string;
  errors?: { location: string; message: string }[];
  near?: string[];
  retry_after?: number;
  missing?: string;
}

export type SettingValue = number | string | boolean | null;

export interface Setting {
  name: string;
  type: "number" | "integer" | "string" | "boolean";
  default: SettingValue;
  minimum: number | null;
  maximum: number | null;
  choices: string[];
  unit: string;
  help: string;
  nullable: boolean;
}

export interface EngineInfo {
  name: string;
  summary: string;
  available: boolean;
  install: string;
  slow: boolean;
  /** pictures: any picture can be a style; else only the engine's own presets. */
  capabilities: { field: boolean; tiles: boolean; chance: boolean; gpu: boolean; pictures: boolean };
  options: Setting[];
}

export interface Engines {
  default: string;
  settings: Setting[];
  engines: EngineInfo[];
}

export interface Info {
  version: string;
  default_engine: string;
  segmentation: boolean;
  limits: { bytes: number; pixels: number; batch: number };
  formats: string[];
  reads: string[];
}

export interface Preset {
  name: string;
  title: string;
  credit: string;
  thumbnail: string | null;
}

export interface Upload {
  id: string;
  height: number;
  width: number;
  bytes: number;
  media_type: string;
  name: string;
}

export interface Estimate {
  seconds: number;
  memory: number;
}

export interface Progress {
  done: number;
  step: number;
  steps: number;
  message: string;
}

export type JobStatus = "queued" | "running" | "done" | "failed" | "cancelled";

export interface Job {
  id: string;
  status: JobStatus;
  engine: string;
  name: string;
  position: number | null;
  progress: Progress;
  preview: string | null;
  result: { url: string; media_type: string; bytes: number; height: number; width: number; seconds: number } | null;
  error: Problem | null;
}

export interface Batch {
  id: string;
  status: "open" | "running" | "done";
  total: number;
  done: number;
  failed: number;
  cancelled: number;
  progress: number;
  jobs: Job[];
  zip: string | null;
}

export interface PictureRef {
  upload: string;
}

export type StyleRef = ({ preset: string } | { upload: string }) & { weight: number; name?: string };

export interface RegionRef {
  mask: PictureRef;
  styles: StyleRef[];
  strength: number;
}

export type PictureFormat = "jpeg" | "png" | "webp";

export interface Output {
  format: PictureFormat;
  quality: number;
  strip: boolean;
}

/** The part of a request that the look decides. */
export interface LookRequest {
  styles: StyleRef[];
  regions: RegionRef[];
  engine: string;
  settings: Record<string, SettingValue>;
  options: Record<string, SettingValue>;
}
