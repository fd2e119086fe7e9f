"""The training loop: one optimiser, CTC, validation every epoch, a checkpoint that resumes."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric import Fabric

from asr.augment import SpecAugment, utterance_rng
from asr.build import build
from asr.data.dataset import SpeechDataset, make_loader
from asr.data.sampler import BatchSampler
from asr.errors import AsrError, ConfigError, DataError
from asr.evaluation import recognize_utterances
from asr.model_file import save_model
from asr.models.ctc import ctc_loss, num_parameters
from asr.recognizer import Recognizer
from asr.scoring.wer import score
from asr.training.checkpoint import TrainingState, read_checkpoint, restore, save_checkpoint
from asr.training.metrics import MetricsLog, Monitor
from asr.types import Batch, Utterance

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
    """Trains a recogniser and keeps the weights with the lowest dev word error rate.

    Parameters
    ----------
    epochs : int
    batch_seconds : float
        Seconds of audio in a batch, padding counted in.
    gradient_clip : float
        Largest norm of the gradient.
    precision : {"auto", "32-true", "bf16-mixed"}
        "auto" takes bfloat16 where the hardware has it. Validation is always float32.
    accelerator : {"auto", "cpu", "cuda"}
        "auto" takes a CUDA device if there is one.
    num_workers : int
        Processes that read audio ahead.
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
        recognizer: Recognizer,
        train: Sequence[Utterance],
        dev: Sequence[Utterance],
        *,
        optimizer: Mapping[str, Any],
        scheduler: Callable[[float], float],
        speed: Any | None,
        spec_augment: SpecAugment | None,
        seed: int,
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
        speed, spec_augment
            From `asr.augment`; None leaves them out.
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
        run = _Run(self, fabric, recognizer, train, optimizer, scheduler, speed, spec_augment, seed, monitor)
        run.resume(output_dir)
        monitor.note(
            f"{len(train)} utterances of {run.seconds / 3600:.2f} h, {num_parameters(recognizer.model):,} "
            f"parameters, {fabric.device}, {precision}"
        )
        log = MetricsLog(output_dir)
        with _signals_as_flag() as interrupted:
            while run.state.epoch < self.epochs:
                for batch in run.rest_of_epoch():
                    run.step(batch)
                    if interrupted():
                        run.save(output_dir, config)
                        raise TrainingInterrupted
                entry = run.finish_epoch(dev)
                if entry is run.state.best:
                    info = {"run": config, "epoch": entry["epoch"], "dev": entry}
                    save_model(output_dir / "model.asr", recognizer, info)
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
        recognizer: Recognizer,
        train: Sequence[Utterance],
        optimizer: Mapping[str, Any],
        scheduler: Callable[[float], float],
        speed: Any | None,
        spec_augment: SpecAugment | None,
        seed: int,
        monitor: Monitor,
    ) -> None:
        self.trainer, self.fabric, self.monitor = trainer, fabric, monitor
        self.recognizer = recognizer.to(fabric.device)
        self.scheduler, self.spec_augment, self.seed = scheduler, spec_augment, seed
        self.model, self.optimizer = fabric.setup(
            recognizer.model, build(optimizer, parameters=recognizer.model.parameters())
        )
        for group in self.optimizer.param_groups:
            group["peak_lr"] = group["lr"]
        durations = [u.duration for u in train]
        self.seconds = sum(durations)
        self.sampler = BatchSampler(durations, batch_seconds=trainer.batch_seconds, shuffle=True, seed=seed)
        dataset = SpeechDataset(
            train,
            recognizer.normalizer,
            recognizer.tokenizer,
            recognizer.sample_rate,
            recognizer.num_features,
            transform=speed,
            fits=recognizer.fits,
            seed=seed,
        )
        self.loader = make_loader(
            dataset,
            self.sampler,
            num_workers=trainer.num_workers,
            pin_memory=fabric.device.type == "cuda",
        )
        self.state = TrainingState()
        self.skipped_in_a_row = 0

    def resume(self, folder: Path) -> None:
        """Take up the folder's checkpoint, if it has one."""
        content = read_checkpoint(folder)
        if content is not None:
            self.state = restore(content, self.recognizer, self.optimizer.optimizer)
            if self.state.epoch < self.trainer.epochs:
                self.monitor.note(f"going on from epoch {self.state.epoch + 1}, batch {self.state.batch + 1}")

    def save(self, folder: Path, config: dict[str, Any]) -> None:
        """Write the folder's checkpoint."""
        save_checkpoint(folder, self.state, self.recognizer, self.optimizer.optimizer, config)

    def rest_of_epoch(self) -> Iterator[Batch]:
        """Yield the epoch's batches that are still to be done, counting them and their time."""
        state = self.state
        self.sampler.set_position(state.epoch, state.batch)
        self.num_batches = state.batch + len(self.sampler)
        if state.batch == 0:
            state.totals = dict.fromkeys(TOTALS, 0.0)
        self.monitor.start_epoch(state.epoch, self.trainer.epochs, self.seconds, state.totals["audio"])
        self.clock = time.perf_counter()
        for batch in self.loader:
            if isinstance(batch, AsrError):
                raise batch
            yield batch

    def step(self, batch: Batch) -> None:
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
        totals["audio"] += batch.seconds
        self.clock = now
        self.monitor.step(
            loss=totals["loss"] / max(1.0, totals["tokens"]), lr=self._lr(), seconds=batch.seconds
        )

    def _update(self, batch: Batch) -> str:
        """Compute loss and gradient and apply them; return what was wrong with them, or nothing."""
        device = self.fabric.device
        self.model.train()
        with torch.no_grad():
            frames, lengths = self.recognizer.features(
                batch.inputs.to(device), batch.input_lengths.to(device)
            )
            if self.spec_augment is not None:
                rngs = [utterance_rng(self.seed, self.state.epoch, name, purpose=1) for name in batch.ids]
                frames = self.spec_augment(frames, lengths, rngs)
        log_probs, out_lengths = self.model(frames, lengths)
        losses = ctc_loss(log_probs, out_lengths, batch.targets.to(device), batch.target_lengths.to(device))
        finite = torch.isfinite(losses).tolist()
        if not all(finite):
            names = [name for name, good in zip(batch.ids, finite, strict=True) if not good]
            return f"loss not finite for {', '.join(names)}"
        num_tokens = int(batch.target_lengths.sum())
        self.optimizer.zero_grad()
        self.fabric.backward(losses.sum() / max(1, num_tokens))
        norm = torch.nn.utils.clip_grad_norm_(
            self.recognizer.model.parameters(), self.trainer.gradient_clip
        ).item()
        if not math.isfinite(norm):
            return f"gradient not finite in the batch of {', '.join(batch.ids)}"
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
                "lower optimizer.lr, or run 'asr check' on the training manifest"
            )

    def finish_epoch(self, dev: Sequence[Utterance]) -> dict[str, Any]:
        """Validate and move the state to the next epoch; return the entry for the history."""
        started = time.perf_counter()

        def failed(utterance: Utterance, error: AsrError) -> None:
            raise DataError(f"dev utterance {utterance.id}: {error}")

        results = list(recognize_utterances(self.recognizer, dev, on_error=failed))
        dev_score = score([r.reference for r in results], [r.hypothesis.text for r in results])
        state, totals = self.state, self.state.totals
        entry = {
            "epoch": state.epoch + 1,
            "step": state.step,
            "lr": self._lr(),
            "train_loss": totals["loss"] / max(1.0, totals["tokens"]),
            "dev_loss": sum(r.loss for r in results) / max(1, sum(r.num_tokens for r in results)),
            "dev_wer": dev_score.wer,
            "dev_cer": dev_score.cer,
            "grad_norm": totals["grad_norm"] / max(1.0, totals["steps"]),
            "skipped_steps": int(totals["skipped"]),
            "seconds": totals["time"],
            "dev_seconds": time.perf_counter() - started,
            "audio_seconds_per_second": totals["audio"] / totals["time"],
        }
        state.history.append(entry)
        state.epoch, state.batch = state.epoch + 1, 0
        if not state.best or _rank(entry) < _rank(state.best):
            state.best = entry
        return entry

    def _lr(self) -> float:
        return self.optimizer.param_groups[0]["lr"]


def _rank(entry: Mapping[str, Any]) -> tuple[float, float, float]:
    """Order epochs by dev word errors, then character errors, then loss."""
    return entry["dev_wer"], entry["dev_cer"], entry["dev_loss"]


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
