"""One training under way: its parts, how far it has come, and what it leaves in its folder.

The order in which files are written at the end of an epoch makes them agree whenever the program is killed:
the weights of the epoch, if it is among the best; the checkpoint, from which the best epochs follow;
``model.asr`` and ``metrics.jsonl``, which follow from these and are written anew when a training goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_fabric import Fabric

from asr.errors import DataError
from asr.models.ctc import num_parameters
from asr.training.averaging import mean_weights, swapped
from asr.training.checkpoint import (
    Stateful,
    TrainingState,
    random_state,
    read_checkpoint,
    restore,
    save_checkpoint,
)
from asr.training.devices import any_process, gather, pick_precision
from asr.training.folder import BestWeights
from asr.training.memory import give_back_memory, peak_memory
from asr.training.metrics import MetricsLog, Monitor, Silence, Totals
from asr.training.optimization import make_optimizer
from asr.training.schedules import Schedule
from asr.training.signals import StopNow, StopSignals, TrainingInterrupted
from asr.training.step import Stepper, StepResult
from asr.training.task import Task

if TYPE_CHECKING:
    from asr.training.loop import Trainer


class Session:
    """One training under way, in one of its processes.

    Parameters
    ----------
    trainer : Trainer
        The settings.
    fabric : Fabric
        Device, precision and the other processes.
    task, optimizer, scheduler, folder, config, monitor
        As `Trainer.fit` takes them.
    signals : StopSignals
        Entered.
    """

    def __init__(
        self,
        trainer: Trainer,
        fabric: Fabric,
        task: Task,
        optimizer: Mapping[str, Any],
        scheduler: Schedule,
        folder: Path,
        config: dict[str, Any],
        monitor: Monitor,
        signals: StopSignals,
    ) -> None:
        self.trainer, self.fabric, self.task, self.scheduler = trainer, fabric, task, scheduler
        self.folder, self.config, self.signals = folder, config, signals
        self.is_main = fabric.global_rank == 0
        self.monitor = monitor if self.is_main else Silence()
        task.share(fabric.world_size, fabric.global_rank)
        task.whole.to(fabric.device)
        model, self.optimizer = fabric.setup(task.model, make_optimizer(optimizer, task.model))
        for group in self.optimizer.param_groups:
            group["peak_lr"] = group["lr"]
        self.average = trainer.average
        self.average.start(task.model)
        self.stepper = Stepper(fabric, task, model, self.optimizer, trainer.gradient_clip, trainer.clip_by)
        self.state = TrainingState()
        self.totals = Totals(self.state.totals, task.speed)
        self.best_weights, self.log = BestWeights(folder), MetricsLog(folder)
        self.epoch_in_file = 0
        self.saved_at = time.monotonic()

    @property
    def _parts(self) -> dict[str, Stateful]:
        return {
            "model": self.task.whole,
            "optimizer": self.optimizer.optimizer,
            "scheduler": self.scheduler,
            "precision": self.fabric.strategy.precision,
            "average": self.average,
        }

    def resume(self) -> None:
        """Take up the folder's checkpoint, if it has one, and say what is trained on what."""
        content = read_checkpoint(self.folder)
        processes = self.fabric.world_size
        if content is not None:
            self.state = restore(content, self._parts, self.fabric.global_rank)
            self.monitor.note(
                f"{self.folder} holds a checkpoint; going on from epoch {self.state.epoch + 1}, "
                f"batch {self.state.batch + 1}"
            )
            if (saved := len(content["random"])) != processes:
                self.monitor.note(f"{processes} processes go on where {saved} stopped: dropout will differ")
            self._write_results()
        if processes > 1 and any("running_mean" in name for name, _ in self.task.model.named_buffers()):
            self.monitor.note("batch normalisation takes its statistics in each process alone")
        precision = pick_precision(self.trainer.precision, self._on_cuda)
        self.monitor.note(
            f"{self.task.description}, {num_parameters(self.task.model):,} parameters, "
            f"{self.fabric.device}{f' x {processes}' if processes > 1 else ''}, {precision}"
        )

    def has_ended(self) -> bool:
        """Tell whether all epochs are done, or so many without a better one that no more are to come."""
        state, patience = self.state, self.trainer.patience
        if patience and state.best and state.epoch - state.best["epoch"] >= patience:
            return True
        return state.epoch >= self.trainer.epochs

    def rest_of_epoch(self) -> Iterator[list[Any]]:
        """Yield the batches of each step of the epoch that is still to be done."""
        state = self.state
        if state.batch == 0:
            state.totals = {}
        self.totals = Totals(state.totals, self.task.speed)
        batches, num_left = self.task.batches(state.epoch, state.batch, pin_memory=self._on_cuda)
        self.num_batches = state.batch + num_left
        done = state.totals.get("size", 0.0)
        self.monitor.start_epoch(state.epoch, self.trainer.epochs, self.task.size, done)
        iterator = iter(batches)
        while num_left:
            self.started = time.perf_counter()
            group = [next(iterator) for _ in range(min(self.trainer.accumulate, num_left))]
            self.waited = time.perf_counter() - self.started
            num_left -= len(group)
            yield group

    def step(self, batches: list[Any]) -> None:
        """Make one optimiser step, or skip it with a note if its loss or gradient is not finite."""
        state = self.state
        done = (state.batch + len(batches)) / self.num_batches
        rate = self.scheduler((state.epoch + done) / self.trainer.epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * rate
        result = self.stepper(batches, state.epoch)
        state.batch += len(batches)
        state.step += 1
        if result.flaw:
            self._skip(result)
        else:
            self.average.update()
            state.skipped_in_a_row = 0
        self.totals.add(result, time.perf_counter() - self.started, self.waited)
        running = self.totals.metrics()
        size = result.sizes["size"]
        self.monitor.step(loss=running["train_loss"], lr=self._lr(), seconds=size, running=running)

    def _skip(self, result: StepResult) -> None:
        state = self.state
        state.skipped_in_a_row += 1
        if not result.overflow:
            self.monitor.note(f"step {state.step} skipped: {result.flaw}")
        if state.skipped_in_a_row >= self.trainer.max_skipped_steps:
            raise DataError(
                f"{state.skipped_in_a_row} steps in a row had no finite loss or gradient, the last: "
                f"{result.flaw}; {self.task.remedy}"
            )

    def save_if_due(self) -> None:
        """Save when it is time, or when the training is asked to stop.

        Raises
        ------
        TrainingInterrupted
        """
        late = time.monotonic() - self.saved_at > 60 * self.trainer.save_every_minutes
        stop, due = any_process(self.fabric, self.signals.requested, late and self.is_main)
        if stop or due:
            self.save()
        if stop:
            raise TrainingInterrupted

    def save(self) -> None:
        """Write the folder's checkpoint."""
        randoms = gather(self.fabric, random_state())
        if self.is_main:
            save_checkpoint(self.folder, self.state, self._parts, randoms, self.config)
        self.saved_at = time.monotonic()

    def finish_epoch(self) -> None:
        """Validate, move the state to the next epoch and save everything.

        Raises
        ------
        TrainingInterrupted
        """
        state, started = self.state, time.perf_counter()
        metrics = self.totals.metrics()
        try:
            with swapped(self.task.model, self.average.weights()):
                give_back_memory()
                dev = self._validate()
                give_back_memory()
                entry: dict[str, Any] = {
                    "epoch": state.epoch + 1,
                    "step": state.step,
                    "lr": self._lr(),
                    **metrics,
                    **dev,
                    "dev_seconds": time.perf_counter() - started,
                    "peak_memory_mib": peak_memory(),  # with validation, also in the first epoch
                }
                entry = self.fabric.broadcast(entry)
                state.history.append(entry)
                if self.is_main and entry in self._best_entries():
                    self.best_weights.write(entry["epoch"], self.task.model.state_dict())
        except StopNow as stop:
            self.save()  # at the end of the epoch's batches: what is resumed begins with validation
            raise TrainingInterrupted from stop
        state.epoch, state.batch = state.epoch + 1, 0
        state.best = self._best_entries()[0]
        self.scheduler.end_epoch(entry[self.task.criterion])
        self.save()
        self._write_results()
        if self.is_main:
            self.log.show(entry)
        self.monitor.end_epoch(entry)
        if not self.has_ended() and any_process(self.fabric, self.signals.requested)[0]:
            raise TrainingInterrupted

    def _validate(self) -> dict[str, float]:
        """Return the dev set's metrics, in the main process; if it is alone, a signal ends it at once."""
        if not self.is_main:
            return {}
        if self.fabric.world_size > 1:
            return self.task.validate()
        with self.signals.at_once():
            return self.task.validate()

    def _best_entries(self) -> list[dict[str, Any]]:
        """Return the entries of the epochs whose weights are kept, the best first."""
        return sorted(self.state.history, key=self._rank)[: self.average.keep]

    def _rank(self, entry: Mapping[str, Any]) -> tuple[float, ...]:
        return tuple(math.inf if math.isnan(value) else value for value in self.task.rank(entry))

    def _write_results(self) -> None:
        """Make the other files agree with the checkpoint."""
        if not self.is_main or not self.state.history:
            return
        self.best_weights.keep_only(entry["epoch"] for entry in self._best_entries())
        if self.epoch_in_file != self.state.best["epoch"]:
            self.epoch_in_file = self.state.best["epoch"]
            with swapped(self.task.model, self.best_weights.read(self.epoch_in_file)):
                self._write_model()
        self.log.write(self.state.history)

    def _write_model(self) -> None:
        best = self.state.best
        info = {"run": self.config, "epoch": best["epoch"], "dev": best}
        self.task.save(self.folder / "model.asr", info)

    def finish(self) -> None:
        """Average epochs if that is asked for, and note in the checkpoint that all is done."""
        if self.state.epoch < self.trainer.epochs:
            self.monitor.note(
                f"no epoch better than {self.state.best['epoch']} in {self.trainer.patience} epochs: stopped"
            )
        if self.is_main and len(self._best_entries()) > 1:
            self._average_epochs()
        self.state.finished = True
        self.save()
        if self.is_main:
            self.best_weights.keep_only(())
            self.log.close()

    def _average_epochs(self) -> None:
        """Put the average of the best epochs into ``model.asr`` if it is better on dev."""
        state, criterion = self.state, self.task.criterion
        epochs = [entry["epoch"] for entry in self._best_entries()]
        with swapped(self.task.model, mean_weights([self.best_weights.read(epoch) for epoch in epochs])):
            entry = state.best | self.task.validate() | {"averaged_epochs": sorted(epochs)}
            better = self._rank(entry) < self._rank(state.best)
            self.monitor.note(
                f"the average of epochs {', '.join(map(str, sorted(epochs)))} has {criterion} "
                f"{entry[criterion]:.4f}, epoch {epochs[0]} alone {state.best[criterion]:.4f}: "
                f"{'the average' if better else f'epoch {epochs[0]}'} is taken"
            )
            if better:
                state.best = entry
                self._write_model()

    def _lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    @property
    def _on_cuda(self) -> bool:
        return self.fabric.device.type == "cuda"
