"""Training a recurrent language model; the best epoch has the lowest dev perplexity."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from asr.build import build
from asr.data.sampler import BatchSampler
from asr.errors import DataError
from asr.files import make_folder
from asr.lm.rnn import RnnLm, load_language_model, make_batch, save_language_model
from asr.text import train_tokenizer
from asr.training.checkpoint import is_finished, read_checkpoint, set_seed
from asr.training.folder import require_same_run, sole_training
from asr.training.loop import Trainer
from asr.training.metrics import Monitor


@dataclass(frozen=True)
class TextBatch:
    """Sentences padded to one length.

    Attributes
    ----------
    names : tuple of str, length B
    inputs, targets : Tensor, int64, (B, T)
        What is read and what is to be predicted.
    lengths : Tensor, int64, (B,)
        Tokens with the end of the sentence.
    """

    names: tuple[str, ...]
    inputs: Tensor
    targets: Tensor
    lengths: Tensor


class LanguageTask:
    """A language model and the text that it is trained and validated on; see `asr.training.task.Task`.

    Parameters
    ----------
    lm : RnnLm
    train, dev : sequence of str
        Normalised sentences, none blank.
    batch_tokens : int
        Tokens in a batch, padding counted in.
    seed : int
    """

    speed = "tokens_per_second"
    criterion = "dev_ppl"
    remedy = "lower the learning rate"

    def __init__(
        self, lm: RnnLm, train: Sequence[str], dev: Sequence[str], *, batch_tokens: int, seed: int
    ) -> None:
        self.lm, self.dev = lm, dev
        self.whole: nn.Module = lm
        self.model: nn.Module = lm
        self.sequences = [lm.encode(text) for text in train]
        lengths = [len(ids) + 1 for ids in self.sequences]
        self.size = float(sum(lengths))
        self.description = f"{len(train):,} sentences of {sum(lengths):,} tokens, {lm.size} different ones"
        self.sampler = BatchSampler(lengths, batch_seconds=batch_tokens, shuffle=True, seed=seed)

    def share(self, num_replicas: int, rank: int) -> None:
        """From now on give only this process's share of every batch."""
        self.sampler.share(num_replicas, rank)

    def batches(self, epoch: int, start: int, *, pin_memory: bool) -> tuple[Iterator[TextBatch], int]:
        """Return the rest of an epoch."""
        self.sampler.set_position(epoch, start)
        return map(self._batch, self.sampler), len(self.sampler)

    def largest(self, epoch: int) -> TextBatch:
        """Return this process's share of the largest batch of an epoch."""
        return self._batch(self.sampler.largest(epoch))

    def _batch(self, keys: Sequence[tuple[int, int]]) -> TextBatch:
        names = tuple(f"sentence {index + 1}" for _, index in keys)
        return TextBatch(names, *make_batch([self.sequences[index] for _, index in keys]))

    def size_of(self, batch: TextBatch) -> float:
        """Return the number of tokens."""
        return float(batch.lengths.sum())

    def padding_of(self, batch: TextBatch) -> tuple[float, float]:
        """Return tokens, without padding and with it."""
        return float(batch.lengths.sum()), float(batch.inputs.numel())

    def num_tokens(self, batch: TextBatch) -> int:
        """Return the number of tokens."""
        return int(batch.lengths.sum())

    def names(self, batch: TextBatch) -> Sequence[str]:
        """Return the sentences' numbers."""
        return batch.names

    def split(self, batch: TextBatch) -> list[TextBatch]:
        """Divide a batch in two, or return it alone if it has one sentence."""
        size = len(batch.names)
        halves = (slice(0, size // 2), slice(size // 2, size)) if size > 1 else (slice(0, 1),)
        return [
            TextBatch(batch.names[part], batch.inputs[part], batch.targets[part], batch.lengths[part])
            for part in halves
        ]

    def losses(self, model: nn.Module, batch: TextBatch, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative log-probability of each sentence."""
        device = self.lm.device
        lengths = batch.lengths.to(device)
        log_probs = model(batch.inputs.to(device), lengths)
        picked = log_probs.gather(2, batch.targets.to(device)[:, :, None])[:, :, 0]
        beyond = torch.arange(picked.shape[1], device=device) >= lengths[:, None]
        return -picked.masked_fill(beyond, 0.0).sum(dim=1), {}

    def close(self) -> None:
        """Do nothing: no other process reads."""

    def validate(self) -> dict[str, float]:
        """Compute the perplexity of the dev text, a token and a word."""
        found = self.lm.perplexity(self.dev)
        tokens = found.num_words + found.num_sentences
        return {
            "dev_loss": -found.log10_prob * math.log(10) / tokens,
            "dev_ppl": found.ppl,
            "dev_ppl_per_word": found.ppl_per_text_word,
        }

    def rank(self, entry: Mapping[str, Any]) -> tuple[float]:
        """Order epochs by dev perplexity."""
        return (entry["dev_loss"],)

    def save(self, path: Path, info: Mapping[str, Any]) -> None:
        """Write the language model."""
        save_language_model(path, self.lm, info)


def train_language_model(
    config: dict[str, Any], train: Iterable[str], dev: Iterable[str], output_dir: Path, monitor: Monitor
) -> RnnLm:
    """Train as `config` says; return the best model, which is ``model.asr`` in the output folder.

    A folder that holds the checkpoint of the same run goes on from there.

    Parameters
    ----------
    config : dict
        ``seed``, ``batch_tokens``; ``text``, ``tokenizer``, ``encoder``, ``embedding_size`` as in
        `RnnLm.from_config`, the tokenizer perhaps still to be trained; ``optimizer``, ``scheduler`` and
        ``trainer`` as for speech.
    train, dev : iterable of str
        Normalised sentences; blank ones are left out.

    Raises
    ------
    ConfigError, DataError, ModelError
    """
    train, dev = _sentences(train, "training"), _sentences(dev, "dev")
    make_folder(output_dir)
    with sole_training(output_dir, option="--output"):
        return _train(config, train, dev, output_dir, monitor)


def _train(
    config: dict[str, Any], train: list[str], dev: list[str], output_dir: Path, monitor: Monitor
) -> RnnLm:
    digest = hashlib.sha256("\n".join(train).encode()).hexdigest()
    identity = config | {"training_data": digest}
    content = read_checkpoint(output_dir)
    if content is not None:
        require_same_run(content, identity, output_dir, option="--output")
    trainer = build(config["trainer"], Trainer)
    if is_finished(content, trainer.epochs):
        monitor.note(f"{output_dir} holds the finished training")
        return load_language_model(output_dir / "model.asr")
    tokenizer = train_tokenizer(config["tokenizer"], train)
    set_seed(config["seed"])
    lm = RnnLm.from_config(config | {"tokenizer": tokenizer.to_config()})
    task = LanguageTask(lm, train, dev, batch_tokens=config["batch_tokens"], seed=config["seed"])
    _note_unknown(task, monitor)
    trainer.fit(
        task,
        optimizer=config["optimizer"],
        scheduler=build(config["scheduler"]),
        output_dir=output_dir,
        config=identity,
        monitor=monitor,
    )
    return load_language_model(output_dir / "model.asr")


def _sentences(lines: Iterable[str], name: str) -> list[str]:
    found = [" ".join(line.split()) for line in lines if line.strip()]
    if not found:
        raise DataError(f"there is no {name} text for a language model: every line is blank")
    return found


def _note_unknown(task: LanguageTask, monitor: Monitor) -> None:
    for name, sequences in (
        ("training", task.sequences),
        ("dev", [task.lm.encode(text) for text in task.dev]),
    ):
        count = sum(ids.count(task.lm.unknown_id) for ids in sequences)
        if count:
            total = sum(map(len, sequences))
            monitor.note(f"{count} of {total} tokens of the {name} text are unknown to the tokenizer")
