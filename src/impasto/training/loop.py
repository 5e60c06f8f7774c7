"""The one training loop, on Hugging Face ``accelerate``.

It knows nothing of pictures: a :class:`Task` gives a model, batches and losses. The loop adds mixed precision,
accumulation, clipping, a schedule, a moving average of the weights, sample sheets, TensorBoard, a log, and checkpoints
from which a killed run goes on exactly: weights, optimiser, schedule, average and step are stored together, written to a
temporary folder and then renamed, and batch ``n`` is a function of the seed and ``n``.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from impasto.errors import TrainingError
from impasto.training.recipe import ScheduleConfig

__all__ = ["Batch", "Progress", "Task", "latest_checkpoint", "learning_rate_factor", "train"]

Batch = dict[str, "np.ndarray[Any, Any]"]


class Task(Protocol):
    """What the loop needs to know of a training."""

    model: nn.Module
    steps: int

    def batch(self, index: int) -> Batch:
        """Micro-batch ``index``, a pure function of the seed and the index; may be called from several threads."""

    def prepare(self, device: torch.device) -> None:
        """Move teachers to the device and calibrate them; called once before the first step."""

    def losses(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Weighted terms whose sum is minimised."""

    def sheet(self, model: nn.Module, device: torch.device) -> Image.Image:
        """A picture that shows what the averaged model does now."""


@dataclass(frozen=True)
class Progress:
    """State handed to the progress callback after every step."""

    step: int
    steps: int
    losses: dict[str, float]
    seconds_per_step: float


def learning_rate_factor(step: int, steps: int, schedule: ScheduleConfig) -> float:
    """Warm-up, plateau, linear decay: the factor on the learning rate at ``step`` (from 0)."""
    if step < schedule.warmup:
        return (step + 1) / schedule.warmup
    tail = max(1, round(steps * schedule.decay))
    left = (steps - step) / tail
    return 1.0 if left >= 1 else max(schedule.floor, schedule.floor + (1 - schedule.floor) * left)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint below ``folder``, or None."""
    found = sorted(p for p in (folder / "checkpoints").glob("step-*") if (p / "done.json").is_file())
    return found[-1] if found else None


def train(
    task: Task,
    schedule: ScheduleConfig,
    folder: Path,
    *,
    device: str | None = None,
    workers: int = 1,
    minutes: float | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> nn.Module:
    """Run or resume a training and return the averaged model.

    Args:
        task: model, batches and losses.
        schedule: how the optimiser runs.
        folder: receives ``checkpoints/``, ``sheets/``, ``tensorboard/`` and ``log.jsonl``. When it holds a checkpoint,
            training goes on from there.
        device: ``cpu`` to stay off an accelerator; by default accelerate chooses.
        workers: threads that prepare batches.
        minutes: stop after this long, with a checkpoint; the next call goes on.
        on_step: called after every optimiser step.

    Raises:
        TrainingError: a loss became NaN or infinite; the message names the step and the last good checkpoint.
    """
    accelerator = Accelerator(
        mixed_precision=schedule.precision,
        gradient_accumulation_steps=schedule.accumulation,
        cpu=device == "cpu",
    )
    folder.mkdir(parents=True, exist_ok=True)
    model = task.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(model.parameters(), lr=schedule.learning_rate, betas=(0.9, schedule.beta2))
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: learning_rate_factor(step, task.steps, schedule)
    )
    model, optimiser = accelerator.prepare(model, optimiser)
    average = AveragedModel(accelerator.unwrap_model(model), multi_avg_fn=get_ema_multi_avg_fn(schedule.ema))  # type: ignore[no-untyped-call]
    accelerator.register_for_checkpointing(average, rate)
    task.prepare(accelerator.device)

    step = 0
    checkpoint = latest_checkpoint(folder)
    if checkpoint is not None:
        accelerator.load_state(str(checkpoint))
        step = json.loads((checkpoint / "done.json").read_text())["step"]

    writer = SummaryWriter(str(folder / "tensorboard")) if accelerator.is_main_process else None  # type: ignore[no-untyped-call]
    batches = _prefetch(task, step * schedule.accumulation, workers, accelerator)
    begun = time.monotonic()
    recent: deque[float] = deque(maxlen=50)
    while step < task.steps:
        started = time.perf_counter()
        terms = _step(task, accelerator, model, optimiser, batches, step, schedule)
        rate.step()
        step += 1
        average.update_parameters(accelerator.unwrap_model(model))
        total = sum(terms.values())
        if not math.isfinite(total):
            good = latest_checkpoint(folder)
            raise TrainingError(f"the loss is {total} at step {step}; last good checkpoint: {good or 'none'}")
        recent.append(time.perf_counter() - started)
        _report(folder, writer, step, terms, optimiser.param_groups[0]["lr"], schedule, recent)
        if on_step is not None:
            on_step(Progress(step, task.steps, terms, sum(recent) / len(recent)))
        stopping = step == task.steps or (minutes is not None and time.monotonic() - begun > 60 * minutes)
        if accelerator.is_main_process and (step % schedule.sheet_every == 0 or stopping):
            _save_sheet(task, average, folder, step, accelerator.device)
        if step % schedule.checkpoint_every == 0 or stopping:
            _save_checkpoint(accelerator, folder, step, schedule.keep)
        if stopping:
            break
    if writer is not None:
        writer.close()  # type: ignore[no-untyped-call]
    averaged: nn.Module = average.module
    return averaged


def _prefetch(
    task: Task, first: int, workers: int, accelerator: Accelerator
) -> Iterator[dict[str, Tensor]]:
    """Batches in order, prepared ahead by threads; every process takes its own share of the indices."""
    world, rank = accelerator.num_processes, accelerator.process_index
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="batches") as pool:
        waiting: deque[Future[Batch]] = deque()
        index = first
        while True:
            while len(waiting) < 2 * workers + 1:
                waiting.append(pool.submit(task.batch, index * world + rank))
                index += 1
            batch = waiting.popleft().result()
            yield {
                name: torch.from_numpy(array).to(accelerator.device, non_blocking=True) for name, array in batch.items()
            }


def _step(
    task: Task,
    accelerator: Accelerator,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: Iterator[dict[str, Tensor]],
    step: int,
    schedule: ScheduleConfig,
) -> dict[str, float]:
    """One optimiser step over all its micro-batches; the mean of each loss term."""
    sums: dict[str, Tensor] = {}
    for _ in range(schedule.accumulation):
        with accelerator.accumulate(model):
            terms = task.losses(model, next(batches), step)
            accelerator.backward(torch.stack(list(terms.values())).sum())
            if accelerator.sync_gradients and schedule.clip > 0:
                accelerator.clip_grad_norm_(model.parameters(), schedule.clip)
            optimiser.step()
            optimiser.zero_grad()
        for name, value in terms.items():
            sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach()
    return {name: float(value) / schedule.accumulation for name, value in sums.items()}


def _report(
    folder: Path,
    writer: SummaryWriter | None,
    step: int,
    terms: dict[str, float],
    learning_rate: float,
    schedule: ScheduleConfig,
    recent: deque[float],
) -> None:
    if writer is None or step % schedule.log_every:
        return
    seconds = sum(recent) / len(recent)
    line = {"step": step, "lr": learning_rate, "seconds": round(seconds, 4)}
    with (folder / "log.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(line | {name: round(value, 5) for name, value in terms.items()}) + "\n")
    for name, value in terms.items():
        writer.add_scalar(f"loss/{name}", value, step)  # type: ignore[no-untyped-call]
    writer.add_scalar("learning_rate", learning_rate, step)  # type: ignore[no-untyped-call]


def _save_sheet(task: Task, average: AveragedModel, folder: Path, step: int, device: torch.device) -> None:
    (folder / "sheets").mkdir(exist_ok=True)
    average.module.eval()
    with torch.no_grad():
        sheet = task.sheet(average.module, device)
    average.module.train()
    sheet.save(folder / "sheets" / f"step-{step:07d}.jpg", quality=92)


def _save_checkpoint(accelerator: Accelerator, folder: Path, step: int, keep: int) -> None:
    final = folder / "checkpoints" / f"step-{step:07d}"
    partial = final.with_name(f".{final.name}.partial")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    if accelerator.is_main_process:
        (partial / "done.json").write_text(json.dumps({"step": step}))
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in sorted((folder / "checkpoints").glob("step-*"))[:-keep]:
            shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()
