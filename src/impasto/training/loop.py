"""The one training loop, on Hugging Face ``accelerate``.

It knows nothing of pictures: a :class:`Task` gives a model, batches and losses. The loop adds mixed precision,
accumulation, clipping, a schedule, a moving average of the weights, sample sheets, TensorBoard, a log, and checkpoints
from which a killed run goes on exactly: weights, optimiser, average and step are stored together, written to a
temporary folder and then renamed; the learning rate is a function of the step, and where a schedule asks for it of
the losses so far, which are stored too; a batch is a function of the seed and its number.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator  # type: ignore[import-untyped]
from PIL import Image
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.tensorboard import SummaryWriter

from impasto.errors import TrainingError, UsageError
from impasto.training.recipe import ScheduleConfig

__all__ = ["Batch", "Progress", "Task", "Trained", "latest_checkpoint", "learning_rate_factor", "step_of", "train"]

Batch = dict[str, "np.ndarray[Any, Any]"]


class Task(Protocol):
    """What the loop needs to know of a training."""

    model: nn.Module
    steps: int

    def batch(self, step: int, index: int) -> Batch:
        """Micro-batch ``index`` (no other step or process has it), for ``step``; a pure function of seed and arguments.

        May be called from several threads at once.
        """

    def prepare(self, device: torch.device) -> None:
        """Move teachers to the device and calibrate them; called once before the first step."""

    def losses(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Weighted terms whose sum is minimised; called under autocast when the precision is mixed."""

    def sheet(self, model: nn.Module, device: torch.device) -> Image.Image:
        """A picture that shows what the averaged model does now."""


@dataclass(frozen=True)
class Progress:
    """State handed to the progress callback after every step."""

    step: int
    steps: int
    losses: dict[str, float]
    seconds_per_step: float


@dataclass(frozen=True)
class Trained:
    """What :func:`train` returns: the averaged model and the step it stands at."""

    model: nn.Module
    step: int


def learning_rate_factor(step: int, steps: int, schedule: ScheduleConfig) -> float:
    """Warm-up, plateau, linear decay: the factor on the learning rate at ``step`` (from 0)."""
    if step < schedule.warmup:
        return (step + 1) / schedule.warmup
    tail = max(1, round(steps * schedule.decay))
    left = (steps - step) / tail
    return 1.0 if left >= 1 else max(schedule.floor, schedule.floor + (1 - schedule.floor) * left)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint below ``folder``, or None."""
    found = _checkpoints(folder)
    return found[-1] if found else None


def step_of(checkpoint: Path) -> int:
    """The number of steps that lie behind a checkpoint, from its folder's name."""
    return int(checkpoint.name.removeprefix("step-"))


def _checkpoints(folder: Path) -> list[Path]:
    found = [p for p in (folder / "checkpoints").glob("step-*") if (p / "done.json").is_file()]
    return sorted(found, key=step_of)


def train(
    task: Task,
    schedule: ScheduleConfig,
    folder: Path,
    *,
    device: str | None = None,
    workers: int = 1,
    minutes: float | None = None,
    on_step: Callable[[Progress], None] | None = None,
) -> Trained:
    """Run or resume a training.

    Args:
        task: model, batches and losses.
        schedule: how the optimiser runs.
        folder: receives ``checkpoints/``, ``sheets/``, ``tensorboard/`` and ``log.jsonl``. When it holds a checkpoint,
            training goes on from there.
        device: ``cpu`` to stay off an accelerator; by default accelerate chooses.
        workers: threads that prepare batches.
        minutes: stop after this long, with a checkpoint; the next call goes on.
        on_step: called after every optimiser step, in the main process.

    Raises:
        TrainingError: a loss became NaN or infinite (the message names the step and the last good checkpoint; nothing
            of that step reaches the weights), or the checkpoint belongs to another network.
        UsageError: the device is not there, or cannot do the precision.
    """
    if workers < 1:
        raise UsageError(f"workers must be at least 1, not {workers}")
    accelerator = _accelerator(schedule, device)
    folder.mkdir(parents=True, exist_ok=True)
    bare = task.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(bare.parameters(), lr=schedule.learning_rate, betas=(0.9, schedule.beta2))
    # Copied before `prepare` wraps the model: the average is plain, in float32, and the same in every process.
    decay = get_ema_multi_avg_fn(schedule.ema)  # type: ignore[no-untyped-call]
    average = AveragedModel(bare, device=accelerator.device, multi_avg_fn=decay)
    model, optimiser = accelerator.prepare(bare, optimiser)
    position = _Position(_Plateau(schedule))
    accelerator.register_for_checkpointing(average, position)
    task.prepare(accelerator.device)
    _resume(accelerator, folder)

    begun = time.monotonic()
    recent: deque[float] = deque(maxlen=50)
    with contextlib.ExitStack() as stack:
        journal = stack.enter_context(_Journal(folder, position.step)) if accelerator.is_main_process else None
        numbers = range(position.step * schedule.accumulation, task.steps * schedule.accumulation)
        batches = stack.enter_context(contextlib.closing(_prefetch(task, numbers, workers, accelerator, schedule)))
        stopping = position.step >= task.steps
        while not stopping:
            started = time.perf_counter()
            rate = schedule.learning_rate * learning_rate_factor(position.step, task.steps, schedule)
            rate *= position.plateau.factor
            terms = _step(task, accelerator, model, optimiser, batches, position.step, rate, schedule, folder)
            average.update_parameters(bare)
            position.step += 1
            position.plateau.add(position.step, sum(terms.values()), accelerator)
            recent.append(time.perf_counter() - started)
            seconds = sum(recent) / len(recent)
            if journal is not None:
                journal.add(position.step, terms, rate, seconds, schedule.log_every)
            if on_step is not None and accelerator.is_main_process:
                on_step(Progress(position.step, task.steps, terms, seconds))
            stopping = _time_is_up(accelerator, begun, minutes) or position.step >= task.steps
            if accelerator.is_main_process and (position.step % schedule.sheet_every == 0 or stopping):
                _save_sheet(task, average.module, folder, position.step, accelerator.device)
            if position.step % schedule.checkpoint_every == 0 or stopping:
                _save_checkpoint(accelerator, folder, position.step, schedule.keep)
    averaged: nn.Module = average.module
    return Trained(averaged, position.step)


class _Plateau:
    """Torch's ``ReduceLROnPlateau`` on means of the total loss: a factor on the learning rate, 1 when switched off.

    The scheduler works on an optimiser of its own, so that the loop's rate stays a product of what is known.
    """

    def __init__(self, schedule: ScheduleConfig) -> None:
        self.window, self.after = schedule.plateau_window, schedule.plateau_after
        self.optimiser = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        self.scheduler = None
        if schedule.plateau_factor < 1:
            self.scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
                self.optimiser,
                factor=schedule.plateau_factor,
                patience=schedule.plateau_patience,
                threshold=schedule.plateau_threshold,
            )
        self.seen: list[float] = []

    @property
    def factor(self) -> float:
        return float(self.optimiser.param_groups[0]["lr"])

    def add(self, step: int, loss: float, accelerator: Accelerator) -> None:
        """The loss of a step that was made; every process comes to the same factor."""
        if self.scheduler is None or step <= self.after:
            return
        self.seen.append(loss)
        if len(self.seen) < self.window:
            return
        mean = torch.tensor(sum(self.seen) / len(self.seen), device=accelerator.device)
        self.seen.clear()
        self.scheduler.step(float(accelerator.reduce(mean, reduction="mean")))

    def state_dict(self) -> dict[str, Any]:
        if self.scheduler is None:
            return {}
        return {"seen": list(self.seen), "factor": self.factor, **_readings(self.scheduler)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what was read; settings are those of the recipe, not of the checkpoint."""
        if self.scheduler is None or not state:
            return
        self.seen = list(state["seen"])
        self.optimiser.param_groups[0]["lr"] = float(state["factor"])
        self.scheduler.best, self.scheduler.num_bad_epochs = state["best"], state["bad"]


def _readings(scheduler: torch.optim.lr_scheduler.ReduceLROnPlateau) -> dict[str, float]:
    return {"best": scheduler.best, "bad": scheduler.num_bad_epochs}


class _Position:
    """The number of finished steps and the plateau's readings, as an object that accelerate stores with the rest."""

    def __init__(self, plateau: _Plateau) -> None:
        self.step = 0
        self.plateau = plateau

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "plateau": self.plateau.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # Early checkpoints held a learning-rate scheduler in this place; it counted the same steps.
        self.step = int(state["step"] if "step" in state else state["last_epoch"])
        self.plateau.load_state_dict(state.get("plateau", {}))


def _accelerator(schedule: ScheduleConfig, device: str | None) -> Accelerator:
    try:
        accelerator = Accelerator(
            mixed_precision=schedule.precision,
            gradient_accumulation_steps=schedule.accumulation,
            cpu=device == "cpu",
        )
    except ValueError as error:  # fp16 without a GPU, bf16 where it is not supported
        raise UsageError(f"schedule.precision '{schedule.precision}' cannot be used here: {error}") from error
    if device is not None and accelerator.device.type != device.partition(":")[0]:
        raise UsageError(
            f"the device '{device}' is not there; accelerate found '{accelerator.device.type}'. "
            "Leave the device out to use what is found"
        )
    return accelerator


def _resume(accelerator: Accelerator, folder: Path) -> None:
    """Load the newest checkpoint, if there is one, and clear away what a killed run left half written."""
    if accelerator.is_main_process:
        for partial in (folder / "checkpoints").glob(".step-*.partial"):
            shutil.rmtree(partial, ignore_errors=True)
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        return
    try:
        accelerator.load_state(str(checkpoint))
    except Exception as error:  # safetensors, pickle and torch each have their own
        raise TrainingError(
            f"the checkpoint '{checkpoint}' does not load; it is damaged or of another network "
            f"(delete it to go on from the one before, or choose another folder): {error}"
        ) from error
    accelerator.step = 0  # accelerate counts micro-batches; `schedule.accumulation` may have changed meanwhile


def _time_is_up(accelerator: Accelerator, begun: float, minutes: float | None) -> bool:
    """Whether any process is over the time; all of them get the same answer, or they would wait for each other."""
    if minutes is None:
        return False
    if time.monotonic() - begun > 60 * minutes:
        accelerator.set_trigger()
    return bool(accelerator.check_trigger())


def _prefetch(
    task: Task, numbers: range, workers: int, accelerator: Accelerator, schedule: ScheduleConfig
) -> Generator[dict[str, Tensor], None, None]:
    """Batches in order, prepared ahead by threads; every process takes its own share of the indices."""
    world, rank, device = accelerator.num_processes, accelerator.process_index, accelerator.device
    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="batches") as pool:
        try:
            for number in numbers:
                waiting.append(pool.submit(task.batch, number // schedule.accumulation, number * world + rank))
                if len(waiting) > 2 * workers:
                    yield _to_device(waiting.popleft().result(), device)
            while waiting:
                yield _to_device(waiting.popleft().result(), device)
        finally:
            for future in waiting:
                future.cancel()


def _to_device(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
    if device.type == "cuda":  # only pinned memory is copied while the GPU works
        return {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in tensors.items()}
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def _step(
    task: Task,
    accelerator: Accelerator,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: Iterator[dict[str, Tensor]],
    step: int,
    rate: float,
    schedule: ScheduleConfig,
    folder: Path,
) -> dict[str, float]:
    """One optimiser step over all its micro-batches; the mean of each loss term.

    The optimiser runs only after losses and gradients were found to be finite. The check comes after the backward
    pass, so that a process with a bad loss does not leave the others waiting for its gradients.
    """
    sums: dict[str, Tensor] = {}
    norm = torch.zeros(())
    for _ in range(schedule.accumulation):
        with accelerator.accumulate(model):
            with accelerator.autocast():
                terms = task.losses(model, next(batches), step)
            accelerator.backward(torch.stack(list(terms.values())).sum())
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(model.parameters(), schedule.clip or math.inf)
        for name, value in terms.items():
            sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach()
    *values, gradient = torch.stack([*sums.values(), norm.to(accelerator.device)]).tolist()  # the step's one sync
    found = {name: value / schedule.accumulation for name, value in zip(sums, values, strict=True)}
    scaled = accelerator.scaler is not None  # fp16: the scaler skips steps with infinite gradients by itself
    _check_finite(found if scaled else {**found, "gradient": gradient}, step + 1, folder)
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    optimiser.zero_grad()
    return found


def _check_finite(values: dict[str, float], step: int, folder: Path) -> None:
    bad = [f"{name} {value}" for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise TrainingError(
            f"not finite at step {step}: {', '.join(bad)}; "
            f"last good checkpoint: {latest_checkpoint(folder) or 'none'}. "
            "Lower schedule.learning_rate or use another schedule.precision, and run again to go on from it"
        )


class _Journal:
    """``log.jsonl`` and TensorBoard; every line holds the mean of each term since the line before.

    Means, because some terms are not computed at every step: one step in fifty might never meet them.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self.path = folder / "log.jsonl"
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
        self.seen: dict[str, list[float]] = {}

    def __enter__(self) -> _Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def add(self, step: int, terms: dict[str, float], rate: float, seconds: float, every: int) -> None:
        for name, value in terms.items():
            self.seen.setdefault(name, []).append(value)
        if step % every:
            return
        means = {name: sum(values) / len(values) for name, values in self.seen.items()}
        self.seen.clear()
        line = {"step": step, "lr": rate, "seconds": round(seconds, 4)}
        with self.path.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(line | {name: round(value, 5) for name, value in means.items()}) + "\n")
        for name, value in means.items():
            self.writer.add_scalar(f"loss/{name}", value, step)
        self.writer.add_scalar("learning_rate", rate, step)


def _save_sheet(task: Task, averaged: nn.Module, folder: Path, step: int, device: torch.device) -> None:
    (folder / "sheets").mkdir(exist_ok=True)
    averaged.eval()
    with torch.no_grad():
        sheet = task.sheet(averaged, device)
    averaged.train()
    sheet.save(folder / "sheets" / f"step-{step:07d}.jpg", quality=92)


def _save_checkpoint(accelerator: Accelerator, folder: Path, step: int, keep: int) -> None:
    """Write to a hidden folder, rename it when every process has finished, remove the oldest."""
    final = folder / "checkpoints" / f"step-{step:07d}"
    partial = final.with_name(f".{final.name}.partial")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (partial / "done.json").write_text(json.dumps({"step": step}))
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in _checkpoints(folder)[: -max(1, keep)]:
            shutil.rmtree(old, ignore_errors=True)
    accelerator.wait_for_everyone()
