"""The training loop: one optimiser, CTC, validation every epoch, a checkpoint that resumes."""

from __future__ import annotations

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
from asr.models.ctc import ctc_loss
from asr.recognizer import Recognizer
from asr.scoring.wer import score
from asr.training.checkpoint import TrainingState, read_checkpoint, restore, save_checkpoint
from asr.training.metrics import MetricsLog, Monitor
from asr.types import Batch, Utterance


class TrainingInterrupted(Exception):
    """Raised after Ctrl-C or SIGTERM, once the checkpoint is saved."""


def pick_precision(precision: str) -> str:
    """Turn "auto" into bfloat16 autocast where the hardware computes in it, else float32."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
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
    accelerator : str
        Fabric's: "auto", "cpu", "cuda".
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
        accelerator: str = "auto",
        num_workers: int = 0,
        max_skipped_steps: int = 20,
    ) -> None:
        if epochs < 1 or gradient_clip <= 0:
            raise ValueError(f"epochs and gradient_clip must be positive, found {epochs}, {gradient_clip}")
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

        Goes on from ``checkpoint.pt`` if the folder has one.

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
        fabric = Fabric(
            accelerator=self.accelerator,
            devices=1,
            precision=pick_precision(self.precision),  # type: ignore[arg-type]
        )
        recognizer.to(fabric.device)
        model, adam = fabric.setup(
            recognizer.model, build(optimizer, parameters=recognizer.model.parameters())
        )
        base_lrs = [group["lr"] for group in adam.param_groups]
        dataset = SpeechDataset(
            train,
            recognizer.normalizer,
            recognizer.tokenizer,
            recognizer.sample_rate,
            transform=speed,
            fits=recognizer.fits,
            seed=seed,
        )
        sampler = BatchSampler(
            [u.duration for u in train], batch_seconds=self.batch_seconds, shuffle=True, seed=seed
        )
        loader = make_loader(
            dataset, sampler, num_workers=self.num_workers, pin_memory=fabric.device.type == "cuda"
        )
        state = TrainingState()
        content = read_checkpoint(output_dir)
        if content is not None:
            _require_same(content["config"], config, output_dir)
            state = restore(content, recognizer, adam.optimizer)
            base_lrs = [group["initial_lr"] for group in adam.param_groups]
        for group, lr in zip(adam.param_groups, base_lrs, strict=True):
            group["initial_lr"] = lr

        log = MetricsLog(output_dir)
        skipped_in_a_row = 0
        with _signals_as_flag() as interrupted:
            while state.epoch < self.epochs:
                sampler.set_position(state.epoch, state.batch)
                num_batches = state.batch + len(sampler)
                if state.batch == 0:
                    state.totals = dict.fromkeys(
                        ("loss", "tokens", "utterances", "audio", "time", "skipped", "grad_norm", "steps"),
                        0.0,
                    )
                total_seconds = sum(u.duration for u in train)
                monitor.start_epoch(state.epoch, self.epochs, total_seconds, state.totals["audio"])
                model.train()
                clock = time.perf_counter()
                for batch in loader:
                    progress = (state.epoch + state.batch / num_batches) / self.epochs
                    scale = scheduler(progress + 1 / num_batches / self.epochs)
                    for group in adam.param_groups:
                        group["lr"] = group["initial_lr"] * scale
                    bad = self._step(fabric, recognizer, model, adam, batch, spec_augment, seed, state)
                    if bad:
                        skipped_in_a_row += 1
                        state.totals["skipped"] += 1
                        monitor.note(f"step {state.step} skipped: {bad}")
                        if skipped_in_a_row >= self.max_skipped_steps:
                            raise DataError(
                                f"{skipped_in_a_row} steps in a row had no finite loss or gradient, the last: "
                                f"{bad}; lower optimizer.lr or run 'asr check' on the training manifest"
                            )
                    else:
                        skipped_in_a_row = 0
                    state.batch += 1
                    state.step += 1
                    state.totals["audio"] += batch.seconds
                    now = time.perf_counter()
                    state.totals["time"] += now - clock
                    clock = now
                    monitor.step(
                        loss=state.totals["loss"] / max(1.0, state.totals["tokens"]),
                        lr=adam.param_groups[0]["lr"],
                        seconds=batch.seconds,
                    )
                    if interrupted():
                        save_checkpoint(output_dir, state, recognizer, adam.optimizer, config)
                        raise TrainingInterrupted
                entry = self._finish_epoch(state, recognizer, dev, adam.param_groups[0]["lr"], monitor)
                if entry is state.best:
                    save_model(
                        output_dir / "model.asr",
                        recognizer,
                        {"run": config, "epoch": entry["epoch"], "dev": entry},
                    )
                log.write(state.history)
                save_checkpoint(output_dir, state, recognizer, adam.optimizer, config)
                monitor.end_epoch(entry)
                if interrupted() and state.epoch < self.epochs:
                    raise TrainingInterrupted
        log.close()
        return state.history

    def _step(
        self,
        fabric: Fabric,
        recognizer: Recognizer,
        model: torch.nn.Module,
        optimizer: Any,
        batch: Batch,
        spec_augment: SpecAugment | None,
        seed: int,
        state: TrainingState,
    ) -> str:
        """Make one optimiser step; return why it was skipped, or nothing."""
        with torch.no_grad():
            frames, lengths = recognizer.features(
                batch.inputs.to(fabric.device), batch.input_lengths.to(fabric.device)
            )
            if spec_augment is not None:
                rngs = [utterance_rng(seed, state.epoch, name, purpose=1) for name in batch.ids]
                frames = spec_augment(frames, lengths, rngs)
        log_probs, out_lengths = model(frames, lengths)
        losses = ctc_loss(log_probs, out_lengths, batch.targets.to(fabric.device), batch.target_lengths)
        finite = torch.isfinite(losses)
        if not finite.all():
            names = [name for name, good in zip(batch.ids, finite.tolist(), strict=True) if not good]
            return f"loss not finite for {', '.join(names)}"
        num_tokens = int(batch.target_lengths.sum())
        optimizer.zero_grad()
        fabric.backward(losses.sum() / max(1, num_tokens))
        norm = torch.nn.utils.clip_grad_norm_(recognizer.model.parameters(), self.gradient_clip).item()
        if not math.isfinite(norm):
            return f"gradient not finite in the batch of {', '.join(batch.ids)}"
        optimizer.step()
        totals = state.totals
        totals["loss"] += losses.sum().item()
        totals["tokens"] += num_tokens
        totals["utterances"] += len(batch.ids)
        totals["grad_norm"] += norm
        totals["steps"] += 1
        return ""

    def _finish_epoch(
        self,
        state: TrainingState,
        recognizer: Recognizer,
        dev: Sequence[Utterance],
        lr: float,
        monitor: Monitor,
    ) -> dict[str, Any]:
        """Validate and move the state to the next epoch; return the entry for the history."""
        started = time.perf_counter()

        def failed(utterance: Utterance, error: AsrError) -> None:
            raise DataError(f"dev utterance {utterance.id}: {error}")

        results = list(recognize_utterances(recognizer, dev, on_error=failed))
        dev_score = score([r.reference for r in results], [r.hypothesis.text for r in results])
        tokens = sum(r.num_tokens for r in results)
        totals = state.totals
        entry = {
            "epoch": state.epoch + 1,
            "step": state.step,
            "lr": lr,
            "train_loss": totals["loss"] / max(1.0, totals["tokens"]),
            "dev_loss": sum(r.loss for r in results) / max(1, tokens),
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


def _rank(entry: Mapping[str, Any]) -> tuple[float, float, float]:
    """Order epochs by dev word errors, then character errors, then loss."""
    return entry["dev_wer"], entry["dev_cer"], entry["dev_loss"]


def _require_same(saved: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> None:
    """Refuse to resume a run with other settings than it was started with."""
    differing = sorted(key for key in {*saved, *config} - {"output_dir"} if saved.get(key) != config.get(key))
    if differing:
        raise ConfigError(
            f"{folder} holds a training with other settings for {', '.join(differing)}; "
            "choose another output_dir, or delete that folder to start again"
        )


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
