"""The training loop: one optimiser, validation every epoch, a checkpoint that resumes.

What is trained, on what, and what makes one epoch better than another is a task's: `asr.training.speech` and
`asr.training.language`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from asr.data.sampler import Order
from asr.training.averaging import Averaging, BestEpochs, Ema
from asr.training.devices import Accelerator, Precision, make_fabric, names_lost_process
from asr.training.guards import rehearse
from asr.training.memory import give_back_memory, keep_memory
from asr.training.metrics import Monitor
from asr.training.schedules import Schedule
from asr.training.session import Session
from asr.training.signals import StopSignals
from asr.training.task import Task


class Trainer:
    """Trains a model and keeps the weights of its best epoch on dev, or an average.

    Parameters
    ----------
    epochs : int
    batch_seconds : float
        Seconds of audio in a batch, padding counted in, of all devices together; of no account for text.
    order : {"shuffled", "sortagrad", "packed"}
        How utterances come into batches; see `asr.data.sampler.BatchSampler`. Of no account for text.
    accumulate : int
        Batches whose gradients make one step; the last step of an epoch may have fewer.
    gradient_clip : float or None
        Largest norm of the gradient, or largest value in it; null does not limit it.
    clip_by : {"norm", "value"}
    average : Ema or BestEpochs, optional
        Averages of weights; see `asr.training.averaging`.
    patience : int, optional
        Training ends early after so many epochs without one that is better on dev.
    precision : {"auto", "32-true", "bf16-mixed", "16-mixed"}
        "auto" takes bfloat16 where the hardware has it; float16 needs CUDA. Validation is always float32.
    accelerator : {"auto", "cpu", "cuda"}
        "auto" takes a CUDA device if there is one.
    devices : int
        Processes, each with a device of its own, that share every batch. Under torchrun or srun their
        number is what these have started.
    num_workers : int
        Processes that read and augment ahead, for each device, and make the frames if that is a CPU; of no
        account for text.
    shuffle_shards : int
        Tar shards whose utterances are shuffled together; of no account for other data.
    save_every_minutes : float
        The most that a kill costs; every epoch is saved as well.
    max_skipped_steps : int
        Training stops after so many steps in a row had to be skipped for a loss or gradient that is
        not finite.
    """

    def __init__(
        self,
        epochs: int = 30,
        batch_seconds: float = 60.0,
        order: Order = "shuffled",
        accumulate: int = 1,
        gradient_clip: float | None = 1.0,
        clip_by: Literal["norm", "value"] = "norm",
        average: Ema | BestEpochs | None = None,
        patience: int | None = None,
        precision: Precision = "auto",
        accelerator: Accelerator = "auto",
        devices: int = 1,
        num_workers: int = 0,
        shuffle_shards: int = 8,
        save_every_minutes: float = 10.0,
        max_skipped_steps: int = 20,
    ) -> None:
        for name, value in (
            ("epochs", epochs),
            ("batch_seconds", batch_seconds),
            ("accumulate", accumulate),
            ("gradient_clip", gradient_clip),
            ("patience", patience),
            ("devices", devices),
            ("shuffle_shards", shuffle_shards),
            ("save_every_minutes", save_every_minutes),
            ("max_skipped_steps", max_skipped_steps),
        ):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, found {value}")
        if num_workers < 0:
            raise ValueError(f"num_workers must be 0 or more, found {num_workers}")
        self.epochs = epochs
        self.batch_seconds = batch_seconds
        self.order = order
        self.accumulate = accumulate
        self.gradient_clip, self.clip_by = gradient_clip, clip_by
        self.average: Averaging = average or Averaging()
        self.patience = patience
        self.precision = precision
        self.accelerator, self.devices = accelerator, devices
        self.num_workers, self.shuffle_shards = num_workers, shuffle_shards
        self.save_every_minutes = save_every_minutes
        self.max_skipped_steps = max_skipped_steps

    def fit(
        self,
        task: Task,
        *,
        optimizer: Mapping[str, Any],
        scheduler: Schedule,
        output_dir: Path,
        config: dict[str, Any],
        monitor: Monitor,
    ) -> list[dict[str, Any]]:
        """Train, leaving ``model.asr`` (best on dev), ``checkpoint.pt`` and ``metrics.jsonl``.

        Goes on from ``checkpoint.pt`` if the folder has one; the caller sees to it that it is of the same
        run and that no other training writes there (`asr.training.folder`).

        Parameters
        ----------
        optimizer : mapping
            Configuration with ``_target_``; gets the model.
        scheduler : Schedule
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
            If too many steps in a row had no finite loss or gradient, or memory is too small for one example.
        TrainingInterrupted
            After Ctrl-C or SIGTERM.
        AsrError
            If another process of this training is lost.
        """
        fabric = make_fabric(self.accelerator, self.precision, self.devices)
        if fabric.device.type == "cpu":
            keep_memory()
        with StopSignals() as signals, contextlib.closing(task), names_lost_process(fabric):
            run = Session(self, fabric, task, optimizer, scheduler, output_dir, config, monitor, signals)
            run.resume()
            if not run.has_ended():
                rehearse(fabric, task, run.stepper.model, run.state.epoch, run.monitor)
            while not run.has_ended():
                for batches in run.rest_of_epoch():
                    run.step(batches)
                    run.save_if_due()
                run.finish_epoch()
            run.finish()
        give_back_memory()
        return run.state.history
