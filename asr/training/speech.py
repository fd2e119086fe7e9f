"""Training a recogniser with CTC; the best epoch has the lowest dev word error rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from asr.augment import SpecAugment, utterance_rng
from asr.data.dataset import SpeechDataset, make_loader
from asr.data.sampler import BatchSampler
from asr.errors import AsrError, DataError
from asr.evaluation import recognize_utterances
from asr.model_file import save_model
from asr.models.ctc import ctc_loss
from asr.recognizer import Recognizer
from asr.scoring.wer import score
from asr.types import Batch, Utterance


class SpeechTask:
    """A recogniser and the utterances that it is trained and validated on; see `asr.training.task.Task`.

    Parameters
    ----------
    recognizer : Recognizer
    train, dev : sequence of Utterance
    batch_seconds : float
        Seconds of audio in a batch, padding counted in.
    num_workers : int
        Processes that read audio ahead.
    speed, spec_augment
        From `asr.augment`; None leaves them out.
    seed : int
    """

    speed = "audio_seconds_per_second"
    remedy = "lower optimizer.lr, or run 'asr check' on the training manifest"

    def __init__(
        self,
        recognizer: Recognizer,
        train: Sequence[Utterance],
        dev: Sequence[Utterance],
        *,
        batch_seconds: float,
        num_workers: int,
        speed: Any | None,
        spec_augment: SpecAugment | None,
        seed: int,
    ) -> None:
        self.recognizer, self.dev = recognizer, dev
        self.whole: nn.Module = recognizer
        self.model: nn.Module = recognizer.model
        self.spec_augment, self.seed, self.num_workers = spec_augment, seed, num_workers
        durations = [u.duration for u in train]
        self.size = sum(durations)
        self.description = f"{len(train)} utterances of {self.size / 3600:.2f} h"
        self.sampler = BatchSampler(durations, batch_seconds=batch_seconds, shuffle=True, seed=seed)
        self.dataset = SpeechDataset(
            train,
            recognizer.normalizer,
            recognizer.tokenizer,
            recognizer.sample_rate,
            recognizer.num_features,
            transform=speed,
            fits=recognizer.fits,
            seed=seed,
        )
        self.loader: Any = None

    def batches(self, epoch: int, start: int, *, pin_memory: bool) -> tuple[Iterator[Batch], int]:
        """Return the rest of an epoch."""
        if self.loader is None:
            self.loader = make_loader(
                self.dataset, self.sampler, num_workers=self.num_workers, pin_memory=pin_memory
            )
        self.sampler.set_position(epoch, start)
        return self._read(), len(self.sampler)

    def _read(self) -> Iterator[Batch]:
        for batch in self.loader:
            if isinstance(batch, AsrError):
                raise batch
            yield batch

    def size_of(self, batch: Batch) -> float:
        """Return seconds of audio."""
        return batch.seconds

    def names(self, batch: Batch) -> Sequence[str]:
        """Return the utterances' ids."""
        return batch.ids

    def losses(self, model: nn.Module, batch: Batch, epoch: int) -> tuple[Tensor, int]:
        """Return the CTC loss of each utterance."""
        device = self.recognizer.device
        with torch.no_grad():
            frames, lengths = self.recognizer.features(
                batch.inputs.to(device), batch.input_lengths.to(device)
            )
            if self.spec_augment is not None:
                rngs = [utterance_rng(self.seed, epoch, name, purpose=1) for name in batch.ids]
                frames = self.spec_augment(frames, lengths, rngs)
        log_probs, out_lengths = model(frames, lengths)
        losses = ctc_loss(log_probs, out_lengths, batch.targets.to(device), batch.target_lengths.to(device))
        return losses, int(batch.target_lengths.sum())

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
