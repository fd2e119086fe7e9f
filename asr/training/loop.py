"""The training loop: one optimiser, validation every epoch, a checkpoint that resumes.

What is trained, on what, and what makes one epoch better than another is a task's: `asr.training.speech` and
`asr.training.language`.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric

from asr.build import build
from asr.errors import ConfigError, DataError
from asr.models.ctc import num_parameters
from asr.training.checkpoint import TrainingState, read_checkpoint, restore, save_checkpoint
from asr.training.metrics import MetricsLog, Monitor
from asr.training.task import Task

# "audio" is the size of what was trained on: seconds of audio, or tokens of text.
TOTALS = ("loss", "tokens", "audio", "time", "skipped", "grad_norm", "steps")


class TrainingInterrupted(Exception):  # noqa: N818 - nothing went wrong
    """Raised after Ctrl-C or SIGTERM, once the checkpoint is saved."""


def pick_precision(precision: str, on_cuda: bool) -> str:
    """Turn "auto" into bfloat16 autocast where the hardware computes in it, else float32."""
    if precision != "auto":
        return precision
    if on_cuda:
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    flags = _cpu_flags()
    return "bf16-mixed" if "amx_bf16" in flags or "avx512_bf16" in flags else "32-true"


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


class Trainer:
    """Trains a model and keeps the weights of its best epoch on dev.

    Parameters
    ----------
    epochs : int
    batch_seconds : float
        Seconds of audio in a batch, padding counted in; of no account for text.
    gradient_clip : float
        Largest norm of the gradient.
    precision : {"auto", "32-true", "bf16-mixed"}
        "auto" takes bfloat16 where the hardware has it. Validation is always float32.
    accelerator : {"auto", "cpu", "cuda"}
        "auto" takes a CUDA device if there is one.
    num_workers : int
        Processes that read audio ahead; of no account for text.
    max_skipped_steps : int
        Training stops after so many steps in a row had to be skipped for a loss or gradient that is
        not finite.
    """

    def __init__(
        self,
        epochs: int = 30,
        batch_seconds: float = 60.0,
        gradient_clip: float = 1.0,
        precision: Literal["auto", "32-true", "bf16-mixed"] = "auto",
        accelerator: Literal["auto", "cpu", "cuda"] = "auto",
        num_workers: int = 0,
        max_skipped_steps: int = 20,
    ) -> None:
        for name, value in (
            ("epochs", epochs),
            ("batch_seconds", batch_seconds),
            ("gradient_clip", gradient_clip),
            ("max_skipped_steps", max_skipped_steps),
        ):
            if not value > 0:
                raise ValueError(f"{name} must be positive, found {value}")
        if num_workers < 0:
            raise ValueError(f"num_workers must be 0 or more, found {num_workers}")
        self.epochs = epochs
        self.batch_seconds = batch_seconds
        self.gradient_clip = gradient_clip
        self.precision = precision
        self.accelerator = accelerator
        self.num_workers = num_workers
        self.max_skipped_steps = max_skipped_steps

    def fit(
        self,
        task: Task,
        *,
        optimizer: Mapping[str, Any],
        scheduler: Callable[[float], float],
        output_dir: Path,
        config: dict[str, Any],
        monitor: Monitor,
    ) -> list[dict[str, Any]]:
        """Train, leaving ``model.asr`` (best on dev), ``checkpoint.pt`` and ``metrics.jsonl``.

        Goes on from ``checkpoint.pt`` if the folder has one; the caller sees to it that it is of the same
        run (`asr.training.checkpoint.require_same_run`).

        Parameters
        ----------
        optimizer : mapping
            Configuration with ``_target_``; gets the parameters.
        scheduler : callable
            From the share of the training done to the share of the peak learning rate.
        config : dict
            The whole run's configuration, kept in the checkpoint.

        Returns
        -------
        list of dict
            The metrics of every epoch.

        Raises
        ------
        DataError
            If too many steps in a row had no finite loss or gradient.
        TrainingInterrupted
            After Ctrl-C or SIGTERM.
        """
        on_cuda = self.accelerator != "cpu" and torch.cuda.is_available()
        if self.accelerator == "cuda" and not on_cuda:
            raise ConfigError("trainer.accelerator: no CUDA device here; use cpu or auto")
        precision: Any = pick_precision(self.precision, on_cuda)
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it prints what is noted below
        fabric = Fabric(accelerator=self.accelerator, devices=1, precision=precision)
        run = _Run(self, fabric, task, optimizer, scheduler, monitor)
        run.resume(output_dir)
        monitor.note(
            f"{task.description}, {num_parameters(task.model):,} parameters, {fabric.device}, {precision}"
        )
        log = MetricsLog(output_dir)
        with _signals_as_flag() as interrupted:
            while run.state.epoch < self.epochs:
                for batch in run.rest_of_epoch():
                    run.step(batch)
                    if interrupted():
                        run.save(output_dir, config)
                        raise TrainingInterrupted
                entry = run.finish_epoch()
                if entry is run.state.best:
                    info = {"run": config, "epoch": entry["epoch"], "dev": entry}
                    task.save(output_dir / "model.asr", info)
                log.write(run.state.history)
                run.save(output_dir, config)
                monitor.end_epoch(entry)
                if interrupted() and run.state.epoch < self.epochs:
                    raise TrainingInterrupted
        log.close()
        return run.state.history


class _Run:
    """One training under way: the model, the optimiser, the data and how far it has come."""

    def __init__(
        self,
        trainer: Trainer,
        fabric: Fabric,
        task: Task,
        optimizer: Mapping[str, Any],
        scheduler: Callable[[float], float],
        monitor: Monitor,
    ) -> None:
        self.trainer, self.fabric, self.task, self.monitor = trainer, fabric, task, monitor
        self.scheduler = scheduler
        task.whole.to(fabric.device)
        self.model, self.optimizer = fabric.setup(
            task.model, build(optimizer, parameters=task.model.parameters())
        )
        for group in self.optimizer.param_groups:
            group["peak_lr"] = group["lr"]
        self.state = TrainingState()
        self.skipped_in_a_row = 0

    def resume(self, folder: Path) -> None:
        """Take up the folder's checkpoint, if it has one."""
        content = read_checkpoint(folder)
        if content is not None:
            self.state = restore(content, self.task.whole, self.optimizer.optimizer)
            if self.state.epoch < self.trainer.epochs:
                self.monitor.note(f"going on from epoch {self.state.epoch + 1}, batch {self.state.batch + 1}")

    def save(self, folder: Path, config: dict[str, Any]) -> None:
        """Write the folder's checkpoint."""
        save_checkpoint(folder, self.state, self.task.whole, self.optimizer.optimizer, config)

    def rest_of_epoch(self) -> Iterator[Any]:
        """Yield the epoch's batches that are still to be done, counting them and their time."""
        state = self.state
        batches, num_left = self.task.batches(state.epoch, state.batch, pin_memory=self._on_cuda)
        self.num_batches = state.batch + num_left
        if state.batch == 0:
            state.totals = dict.fromkeys(TOTALS, 0.0)
        self.monitor.start_epoch(state.epoch, self.trainer.epochs, self.task.size, state.totals["audio"])
        self.clock = time.perf_counter()
        yield from batches

    def step(self, batch: Any) -> None:
        """Make one optimiser step, or skip it with a note if its loss or gradient is not finite."""
        state, totals = self.state, self.state.totals
        progress = (state.epoch + (state.batch + 1) / self.num_batches) / self.trainer.epochs
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * self.scheduler(progress)
        flaw = self._update(batch)
        if flaw:
            self._skip(flaw)
        else:
            self.skipped_in_a_row = 0
        state.batch += 1
        state.step += 1
        now = time.perf_counter()
        totals["time"] += now - self.clock
        size = self.task.size_of(batch)
        totals["audio"] += size
        self.clock = now
        self.monitor.step(loss=totals["loss"] / max(1.0, totals["tokens"]), lr=self._lr(), seconds=size)

    def _update(self, batch: Any) -> str:
        """Compute loss and gradient and apply them; return what was wrong with them, or nothing."""
        self.model.train()
        losses, num_tokens = self.task.losses(self.model, batch, self.state.epoch)
        names = self.task.names(batch)
        finite = torch.isfinite(losses).tolist()
        if not all(finite):
            bad = [name for name, good in zip(names, finite, strict=True) if not good]
            return f"loss not finite for {', '.join(bad)}"
        self.optimizer.zero_grad()
        self.fabric.backward(losses.sum() / max(1, num_tokens))
        norm = torch.nn.utils.clip_grad_norm_(self.task.model.parameters(), self.trainer.gradient_clip).item()
        if not math.isfinite(norm):
            return f"gradient not finite in the batch of {', '.join(names)}"
        self.optimizer.step()
        totals = self.state.totals
        totals["loss"] += losses.sum().item()
        totals["tokens"] += num_tokens
        totals["grad_norm"] += norm
        totals["steps"] += 1
        return ""

    def _skip(self, flaw: str) -> None:
        self.skipped_in_a_row += 1
        self.state.totals["skipped"] += 1
        self.monitor.note(f"step {self.state.step + 1} skipped: {flaw}")
        if self.skipped_in_a_row >= self.trainer.max_skipped_steps:
            raise DataError(
                f"{self.skipped_in_a_row} steps in a row had no finite loss or gradient, the last: {flaw}; "
                f"{self.task.remedy}"
            )

    def finish_epoch(self) -> dict[str, Any]:
        """Validate and move the state to the next epoch; return the entry for the history."""
        started = time.perf_counter()
        dev = self.task.validate()
        state, totals = self.state, self.state.totals
        entry = {
            "epoch": state.epoch + 1,
            "step": state.step,
            "lr": self._lr(),
            "train_loss": totals["loss"] / max(1.0, totals["tokens"]),
            **dev,
            "grad_norm": totals["grad_norm"] / max(1.0, totals["steps"]),
            "skipped_steps": int(totals["skipped"]),
            "seconds": totals["time"],
            "dev_seconds": time.perf_counter() - started,
            self.task.speed: totals["audio"] / totals["time"],
        }
        state.history.append(entry)
        state.epoch, state.batch = state.epoch + 1, 0
        if not state.best or self.task.rank(entry) < self.task.rank(state.best):
            state.best = entry
        return entry

    def _lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    @property
    def _on_cuda(self) -> bool:
        return self.fabric.device.type == "cuda"


@contextmanager
def _signals_as_flag() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a flag that is looked at between steps."""
    caught = False

    def catch(*_: Any) -> None:
        nonlocal caught
        caught = True

    try:
        previous = {s: signal.signal(s, catch) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: leave the signals to it
        previous = {}
    try:
        yield lambda: caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
