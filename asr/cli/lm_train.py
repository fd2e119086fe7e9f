"""`asr lm train`: n-gram and recurrent language models."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import ConfigError

if TYPE_CHECKING:
    from asr.lm import Perplexity

KENLM_ORDERS = (2, 6)
"""The orders that the KenLM within flashlight-text reads."""

RNN_DEFAULTS: dict[str, tuple[Any, Any, str]] = {
    "cell": (str, "lstm", "lstm or gru"),
    "hidden_size": (int, 256, "units a layer"),
    "num_layers": (int, 1, "layers"),
    "embedding_size": (int, 64, "size of a token's embedding"),
    "dropout": (float, 0.5, "share of units left out while training"),
    "vocabulary_size": (int, 256, "number of pieces with --unit bpe"),
    "epochs": (int, 40, "times that the text is read"),
    "batch_tokens": (int, 1000, "tokens in a batch"),
    "lr": (float, 0.003, "peak learning rate"),
    "seed": (int, 1, "of weights, batches and dropout"),
    "device": (str, "auto", "auto, cpu or cuda"),
}
"""Options of recurrent models: type, default, help."""

_NGRAM_OPTIONS = ("order", "prune", "vocabulary", "closed")


def run_train(args: argparse.Namespace) -> int:
    """Train a language model of either kind."""
    foreign = _NGRAM_OPTIONS if args.rnn else tuple(RNN_DEFAULTS)
    for name in foreign:
        if getattr(args, name) is not None:
            kind = "n-gram models; leave it out with --rnn" if args.rnn else "recurrent models; add --rnn"
            raise ConfigError(f"--{name.replace('_', '-')} is for {kind}")
    if (args.output.suffix == ".asr") != args.rnn:
        wanted = "lm.asr" if args.rnn else "lm.arpa or lm.arpa.gz; a recurrent model needs --rnn"
        raise ConfigError(f"--output {args.output}: name it as {wanted}")
    if not args.output.absolute().parent.is_dir():
        raise ConfigError(f"--output {args.output}: there is no folder {args.output.parent}; make it first")
    return _train_rnn(args) if args.rnn else _train_ngram(args)


def _train_ngram(args: argparse.Namespace) -> int:
    from asr.cli.lm import make_normalizer, text_reader, warn
    from asr.lm import train_ngram
    from asr.lm.alphabet import compare_alphabet

    if args.unit == "bpe":
        raise ConfigError("--unit bpe is for recurrent models; add --rnn, or take word or character")
    unit: Any = args.unit or "word"
    order = args.order if args.order is not None else 4
    normalizer, recognizer = make_normalizer(args)
    started = time.monotonic()
    with text_reader("counting") as read:
        model = train_ngram(
            read(args.text, normalizer, unit),
            order,
            unit=unit,
            prune=args.prune or (),
            vocabulary=_read_vocabulary(args.vocabulary, normalizer),
            limit=args.limit,
            closed=bool(args.closed),
            note=lambda message: print(f"note: {message}", file=sys.stderr),
        )
    model.write(args.output)
    dev = None
    if args.dev:
        with text_reader("scoring") as read:
            dev = model.perplexity(read([args.dev], normalizer, unit), unit)
    if recognizer is not None:
        for problem in compare_alphabet(model.vocabulary, recognizer.tokenizer.pieces):
            warn(problem.message)
    if not KENLM_ORDERS[0] <= order <= KENLM_ORDERS[1]:
        warn(
            f"beam search reads models of order {KENLM_ORDERS[0]} to {KENLM_ORDERS[1]}, this one has {order}"
        )
    counts = ", ".join(f"{count:,}" for count in model.counts)
    _print_summary(
        [
            ("language model", str(args.output)),
            ("vocabulary", f"{len(model.vocabulary):,} {unit}s"),
            (f"n-grams of order 1 to {order}", counts),
            ("time", f"{time.monotonic() - started:.1f} s"),
        ],
        dev,
    )
    return 0


def _read_vocabulary(path: Path | None, normalizer: Any) -> list[str] | None:
    from asr.errors import DataError
    from asr.lm.corpus import read_text

    if path is None:
        return None
    words = [word for line in read_text([path], normalizer) for word in line.split()]
    if not words:
        raise DataError(f"{path}: no words in this vocabulary; give one or more a line")
    return words


def _train_rnn(args: argparse.Namespace) -> int:
    from asr.cli.lm import make_normalizer, text_reader
    from asr.files import atomic_write
    from asr.training.language import train_language_model
    from asr.training.signals import TrainingInterrupted

    if not args.dev:
        raise ConfigError("--dev: a recurrent model needs text of its own to choose the best epoch by")
    normalizer, recognizer = make_normalizer(args)
    folder = args.output.with_suffix(".training")
    started = time.monotonic()
    with text_reader("reading") as read:
        train = [line for line in read(args.text, normalizer) if line.strip()]
        dev = list(read([args.dev], normalizer))
    config = _rnn_config(args, normalizer, recognizer, train)
    progress = LmProgress(config["trainer"]["epochs"])
    try:
        lm = train_language_model(config, train, dev, folder, progress)
    except TrainingInterrupted:
        progress.close()
        print(f"stopped; what was done is saved. Go on with:\n  {shlex.join(args.command)}", file=sys.stderr)
        return 130
    finally:
        progress.close()
    with atomic_write(args.output) as path:
        shutil.copyfile(folder / "model.asr", path)
    _print_summary(
        [
            ("language model", str(args.output)),
            ("tokens", f"{lm.size:,} ({lm.unit}s)"),
            ("time", f"{time.monotonic() - started:.1f} s"),
        ],
        lm.perplexity(dev),
    )
    return 0


def _rnn_config(
    args: argparse.Namespace, normalizer: Any, recognizer: Any, train: list[str]
) -> dict[str, Any]:
    """Return the configuration for `asr.training.language.train_language_model`."""
    from asr.lm.rnn import normalizer_config

    values = {
        name: default if getattr(args, name) is None else getattr(args, name)
        for name, (_, default, _) in RNN_DEFAULTS.items()
    }
    for name in ("hidden_size", "num_layers", "embedding_size", "epochs", "batch_tokens", "lr"):
        if not values[name] > 0:
            raise ConfigError(f"--{name.replace('_', '-')}: must be above 0, found {values[name]}")
    if args.vocabulary_size is not None and args.unit != "bpe":
        raise ConfigError("--vocabulary-size goes with --unit bpe; for words use --limit")
    return {
        "seed": values["seed"],
        "batch_tokens": values["batch_tokens"],
        "text": normalizer_config(normalizer),
        "tokenizer": _tokenizer(args, values["vocabulary_size"], recognizer, train),
        "embedding_size": values["embedding_size"],
        "encoder": {
            "_target_": "asr.models.encoder.RecurrentEncoder",
            **{key: values[key] for key in ("cell", "hidden_size", "num_layers", "dropout")},
        },
        "optimizer": {"_target_": "asr.training.optimization.adamw", "lr": values["lr"]},
        "scheduler": {"_target_": "asr.training.schedules.WarmupCosine"},
        "trainer": {
            "_target_": "asr.training.loop.Trainer",
            "epochs": values["epochs"],
            "accelerator": values["device"],
            "precision": "32-true",
        },
    }


def _tokenizer(
    args: argparse.Namespace, vocabulary_size: int, recognizer: Any, train: list[str]
) -> dict[str, Any]:
    """Return the configuration of a tokenizer, from --model, or to be trained or of the --limit words."""
    from collections import Counter

    if args.limit is not None and args.unit != "word":
        raise ConfigError("--limit goes with --unit word")
    if args.limit is not None and args.limit < 1:
        raise ConfigError(f"--limit: must be 1 or more, found {args.limit}")
    if args.unit is None and recognizer is not None:
        return recognizer.tokenizer.to_config()
    if args.unit == "word" and args.limit is not None:
        counts = Counter(word for line in train for word in line.split())
        words = sorted(sorted(counts, key=lambda word: (-counts[word], word))[: args.limit])
        return {"_target_": "asr.text.WordTokenizer", "words": words}
    if args.unit == "bpe":
        return {"_target_": "asr.text.BpeTokenizer", "vocabulary_size": vocabulary_size}
    name = "WordTokenizer" if args.unit == "word" else "CharacterTokenizer"
    return {"_target_": f"asr.text.{name}"}


def _print_summary(rows: list[tuple[str, str]], dev: Perplexity | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from asr.cli.lm import score_rows

    table = Table(show_header=False)
    scores = [(f"dev: {name.strip()}", value) for name, value in score_rows(dev)] if dev else []
    for name, value in [*rows, *scores]:
        table.add_row(name, value)
    Console(stderr=True, highlight=False).print(table)


class LmProgress:
    """Shows a training: a bar on a terminal, and a line at the end of each epoch."""

    def __init__(self, num_epochs: int) -> None:
        self._num_epochs = num_epochs
        self._stack = ExitStack()
        self._show: Any = None
        self._done = self._total = 0.0
        self._header_shown = False

    def start_epoch(self, epoch: int, num_epochs: int, seconds: float, done: float) -> None:
        """Begin an epoch of so many tokens."""
        from asr.cli.progress import count_bar

        if self._show is None:
            self._show = self._stack.enter_context(count_bar("training"))
        self._done, self._total = epoch * seconds + done, num_epochs * seconds

    def step(self, *, loss: float, lr: float, seconds: float, running: Mapping[str, float]) -> None:
        """Report a step."""
        self._done += seconds
        self._show(int(self._done), int(self._total))

    def end_epoch(self, metrics: dict[str, Any]) -> None:
        """Print the epoch's line."""
        if not self._header_shown:
            self._header_shown = True
            self.note("epoch    train loss  dev loss  dev ppl  a word        lr  tokens/s  seconds", "")
        self.note(
            f"{metrics['epoch']:>3}/{self._num_epochs:<4} {metrics['train_loss']:>10.3f} "
            f"{metrics['dev_loss']:>9.3f} {metrics['dev_ppl']:>8.2f} {metrics['dev_ppl_per_word']:>7.2f} "
            f"{metrics['lr']:>9.1e} {metrics['tokens_per_second']:>9,.0f} "
            f"{metrics['seconds'] + metrics['dev_seconds']:>8.1f}",
            "",
        )

    def note(self, message: str, prefix: str = "note: ") -> None:
        """Print something out of the ordinary."""
        print(f"{prefix}{message}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        self._stack.close()
