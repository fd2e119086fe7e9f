"""Training a recogniser with CTC; the best epoch has the lowest dev word error rate."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from asr.augment import Augmentation
from asr.data.dataset import SpeechDataset
from asr.data.loader import make_loader
from asr.data.manifest import durations
from asr.data.sampler import BatchSampler, Order
from asr.errors import AsrError, ConfigError, DataError
from asr.evaluation import recognize_utterances
from asr.features import FrontEnd
from asr.model_file import save_model
from asr.models.ctc import BLANK, ctc_loss
from asr.recognizer import Recognizer
from asr.scoring.wer import score
from asr.text import CharacterTokenizer
from asr.types import Batch, Utterance


class FrameMaker:
    """Makes of what was read the frames that the model reads: front end and augmentation of frames.

    Parameters
    ----------
    features : FrontEnd
    augmentation : Augmentation
    """

    def __init__(self, features: FrontEnd, augmentation: Augmentation) -> None:
        self.features, self.augmentation = features, augmentation

    @torch.no_grad()
    def __call__(self, batch: Batch, epoch: int) -> Batch:
        """Return the batch with its frames, on the front end's device; as it is, if it has them already."""
        if batch.finished:
            return batch
        extractor = self.features.extractor
        device = extractor.window.device
        frames, lengths = self.features(
            batch.inputs.to(device, non_blocking=True),
            batch.input_lengths.to(device, non_blocking=True),
            self.augmentation.frames(extractor, epoch, batch.ids),
        )
        frames = self.augmentation.mask(frames, lengths, epoch, batch.ids)
        return dataclasses.replace(batch, inputs=frames, input_lengths=lengths, finished=True)


class SpeechTask:
    """A recogniser and the utterances that it is trained and validated on; see `asr.training.task.Task`.

    Parameters
    ----------
    recognizer : Recognizer
    train, dev : sequence of Utterance
    batch_seconds : float
        Seconds of audio in a batch, padding counted in.
    num_workers : int
        Processes that read and augment ahead, and make the frames if the model is on a CPU.
    augmentation : Augmentation
        Of the training utterances.
    seed : int
    order : {"shuffled", "sortagrad", "packed"}
        Of the batches; see `asr.data.sampler.BatchSampler`.
    shuffle_shards : int
        Shards whose utterances are shuffled together, if the training set lies in tar shards.
    delay_penalty : float
        Nats that every frame costs between a word's last letter and its space; see `asr.models.ctc.ctc_loss`.
        The training loss contains it, the dev loss does not.

    Raises
    ------
    ConfigError
        A delay is to be penalised, and the recogniser's tokens have no space of their own.
    """

    speed = "audio_seconds_per_second"
    criterion = "dev_wer"
    remedy = "lower optimizer.lr, or run 'asr check' on the training manifest"

    def __init__(
        self,
        recognizer: Recognizer,
        train: Sequence[Utterance],
        dev: Sequence[Utterance],
        *,
        batch_seconds: float,
        num_workers: int,
        augmentation: Augmentation,
        seed: int,
        order: Order = "shuffled",
        shuffle_shards: int = 8,
        delay_penalty: float = 0.0,
    ) -> None:
        self.recognizer, self.dev, self.delay_penalty = recognizer, dev, delay_penalty
        self.space: int | None = None
        if delay_penalty:
            if not isinstance(recognizer.tokenizer, CharacterTokenizer):
                raise ConfigError("delay_penalty: the tokens have no space of their own; leave it out")
            self.space = recognizer.tokenizer.pieces.index(" ")
        self.whole: nn.Module = recognizer
        self.model: nn.Module = recognizer.model
        self.make_frames, self.num_workers = FrameMaker(recognizer.features, augmentation), num_workers
        seconds = durations(train)
        self.size = float(seconds.sum())
        self.description = f"{len(train)} utterances of {self.size / 3600:.2f} h"
        self.dataset = SpeechDataset(
            train,
            recognizer.normalizer,
            recognizer.tokenizer,
            recognizer.sample_rate,
            recognizer.num_features,
            transform=augmentation.inputs,
            fits=recognizer.fits,
            factor=None if augmentation.speed is None else augmentation.speed.factor,
            seed=seed,
        )
        self.sampler = BatchSampler(
            seconds,
            batch_seconds=batch_seconds,
            shuffle=True,
            seed=seed,
            order=order,
            stretch=self.dataset.stretch,
            shards=getattr(train, "shards", None),
            window=shuffle_shards,
        )
        self.loader: Any = None

    def share(self, num_replicas: int, rank: int) -> None:
        """From now on give only this process's share of every batch."""
        self.sampler.share(num_replicas, rank)

    def batches(self, epoch: int, start: int, *, pin_memory: bool) -> tuple[Iterator[Batch], int]:
        """Return the rest of an epoch."""
        if self.loader is None:
            # A GPU makes frames beside the processors; where the model has only these, the workers do.
            on_cpu = self.recognizer.device.type == "cpu"
            self.loader = make_loader(
                self.dataset,
                self.sampler,
                finish=self.make_frames if on_cpu else None,
                num_workers=self.num_workers,
                pin_memory=pin_memory,
            )
        self.sampler.set_position(epoch, start)
        return self._read(), len(self.sampler)

    def _read(self) -> Iterator[Batch]:
        for batch in self.loader:
            if isinstance(batch, AsrError):
                raise batch
            yield batch

    def largest(self, epoch: int) -> Batch:
        """Return this process's share of the largest batch of an epoch."""
        return self.dataset.batch(self.sampler.largest(epoch))

    def size_of(self, batch: Batch) -> float:
        """Return seconds of audio."""
        return batch.seconds

    def padding_of(self, batch: Batch) -> tuple[float, float]:
        """Return samples or frames, without padding and with it."""
        longest = float(batch.input_lengths.max())
        return float(batch.input_lengths.sum()), longest * len(batch.ids)

    def num_tokens(self, batch: Batch) -> int:
        """Return the number of tokens of all utterances."""
        return int(batch.target_lengths.sum())

    def names(self, batch: Batch) -> Sequence[str]:
        """Return the utterances' ids."""
        return batch.ids

    def split(self, batch: Batch) -> list[Batch]:
        """Divide a batch in two, or return it alone if it has one utterance."""
        size = len(batch.ids)
        if size == 1:
            return [batch]
        share = batch.seconds / size  # of no account but for the speed
        return [
            dataclasses.replace(
                batch,
                ids=batch.ids[part],
                inputs=batch.inputs[part, : int(batch.input_lengths[part].max())],
                input_lengths=batch.input_lengths[part],
                targets=batch.targets[part],
                target_lengths=batch.target_lengths[part],
                texts=batch.texts[part],
                seconds=share * len(batch.ids[part]),
            )
            for part in (slice(0, size // 2), slice(size // 2, size))
        ]

    def losses(self, model: nn.Module, batch: Batch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the CTC loss of each utterance, and in how many of all frames blank is the likeliest."""
        device = self.recognizer.device
        batch = self.make_frames(batch, epoch)
        targets = batch.targets.to(device, non_blocking=True)
        target_lengths = batch.target_lengths.to(device, non_blocking=True)
        log_probs, out_lengths = model(batch.inputs, batch.input_lengths)
        losses = ctc_loss(
            *(log_probs, out_lengths, targets, target_lengths),
            delay_penalty=self.delay_penalty,
            delayed=self.space,
        )
        with torch.no_grad():
            inside = torch.arange(log_probs.shape[1], device=device) < out_lengths[:, None]
            blanks = (log_probs.argmax(dim=2) == BLANK) & inside
        return losses, {"blank_frames": blanks.sum(), "frames": out_lengths.sum()}

    def close(self) -> None:
        """End the processes that read audio; left to themselves, they may hold up the end of the program."""
        iterator = getattr(self.loader, "_iterator", None)
        if iterator is not None and self.num_workers > 0:
            iterator._shutdown_workers()
        self.loader = None

    def validate(self) -> dict[str, float]:
        """Decode the dev set."""

        def failed(utterance: Utterance, error: AsrError) -> None:
            raise DataError(f"dev utterance {utterance.id}: {error}")

        results = list(recognize_utterances(self.recognizer, self.dev, on_error=failed))
        references, texts = [r.reference for r in results], [r.hypothesis.text for r in results]
        dev_score = score(references, texts, alternatives=False)
        return {
            "dev_loss": sum(r.loss for r in results) / max(1, sum(r.num_tokens for r in results)),
            "dev_wer": dev_score.wer,
            "dev_cer": dev_score.cer,
        }

    def rank(self, entry: Mapping[str, Any]) -> tuple[float, float, float]:
        """Order epochs by dev word errors, then character errors, then loss."""
        return entry["dev_wer"], entry["dev_cer"], entry["dev_loss"]

    def save(self, path: Path, info: Mapping[str, Any]) -> None:
        """Write the recogniser."""
        save_model(path, self.recognizer, info)
