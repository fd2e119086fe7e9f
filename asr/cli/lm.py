"""`asr lm`: train language models, score text with them, and let them write some."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asr.lm import NgramModel, Perplexity
    from asr.lm.rnn import RnnLm

_EPILOG = """\
examples:
  asr lm train train.jsonl --model runs/an4/model.asr -o lm.arpa
  asr lm train news.txt.gz --normalize lower --order 4 --prune 0 0 1 -o lm.arpa.gz
  asr lm train --rnn train.jsonl --dev dev.jsonl --model runs/an4/model.asr -o lm.asr
  asr lm score lm.arpa dev.jsonl --normalize lower
  asr lm sample lm.asr -n 5

'asr lm train --help' and so on explain each.
"""

_TRAIN_EPILOG = """\
examples:
  asr lm train train.jsonl --model runs/an4/model.asr -o lm.arpa          normalised as the model's own text
  asr lm train book.txt news.txt.gz --normalize lower -o lm.arpa.gz       several files, gzipped or not
  asr lm train news.txt --limit 50000 --prune 0 0 1 2 -o small.arpa       a smaller model
  asr lm train train.jsonl --unit character --order 6 -o chars.arpa       for a beam without a lexicon
  asr lm train --rnn train.jsonl --dev dev.jsonl --model runs/an4/model.asr -o lm.asr
  asr lm train --rnn book.txt --dev dev.txt --unit word --limit 20000 --cell gru -o words.asr

N-gram models have modified Kneser-Ney smoothing with interpolation, as KenLM's lmplz. A word outside the
vocabulary counts as <unk>; with --closed it has no probability.
A recurrent model keeps the epoch with the lowest dev perplexity; of -o lm.asr the folder lm.training holds
checkpoint.pt, metrics.jsonl and tensorboard/, and the same command goes on where it stopped.
"""

_SCORE_EPILOG = """\
examples:
  asr lm score lm.arpa dev.txt
  asr lm score lm.arpa.gz dev.jsonl --normalize lower --json
  asr lm score lm.asr dev.jsonl                    a recurrent model normalises the text as its own
  asr lm score lm.arpa dev.txt --per-sentence      log10 probability, a tab, the sentence

The perplexity counts the end of each sentence as a word, as KenLM's query does. Models of different units
can be compared by the perplexity a word between spaces; words that one of them does not know make that
unfair, so look at the OOV rate, too.
"""

_SAMPLE_EPILOG = """\
examples:
  asr lm sample lm.asr
  asr lm sample lm.arpa -n 20 --seed 7 --temperature 0.7
"""

_MANY_UNKNOWN = 0.5
"""Share of unknown words from which the text is probably in another case or language."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``asr lm`` with its sub-commands."""
    parser = subparsers.add_parser(
        "lm",
        help="language models: train, score, sample",
        description="Train n-gram and recurrent language models, score text with them, let them write.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_train(commands)
    _add_score(commands)
    _add_sample(commands)


def _add_command(commands: argparse._SubParsersAction, name: str, help: str, epilog: str) -> Any:
    return commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_train(commands: argparse._SubParsersAction) -> None:
    from asr.cli.lm_train import RNN_DEFAULTS, run_train

    parser = _add_command(commands, "train", "train a language model on text", _TRAIN_EPILOG)
    _add_text(parser)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="lm.arpa or lm.arpa.gz; with --rnn lm.asr"
    )
    parser.add_argument(
        "--unit",
        choices=["word", "character", "bpe"],
        help="what is predicted; bpe only with --rnn (default: word; with --rnn the tokens of --model, else "
        "character)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="know only the N most frequent words")
    parser.add_argument("--dev", metavar="DEV", help="text to report the perplexity of; needed with --rnn")

    ngram = parser.add_argument_group("n-gram models")
    ngram.add_argument("--order", type=int, help="words in the longest n-gram (default: 4)")
    ngram.add_argument(
        "--prune",
        type=int,
        nargs="+",
        metavar="COUNT",
        help="leave out n-grams that occur so often or less, a count an order: 0 0 1 leaves out 3-grams and "
        "longer ones that occur once (default: none)",
    )
    ngram.add_argument("--vocabulary", type=Path, metavar="FILE", help="know only the words in this file")
    ngram.add_argument("--closed", action="store_true", default=None, help="no probability for other words")

    rnn = parser.add_argument_group("recurrent models")
    rnn.add_argument("--rnn", action="store_true", help="train a recurrent model instead of an n-gram model")
    for name, (kind, default, text) in RNN_DEFAULTS.items():
        choices = {"cell": ["lstm", "gru"], "device": ["auto", "cpu", "cuda"]}.get(name)
        rnn.add_argument(
            f"--{name.replace('_', '-')}", type=kind, choices=choices, help=f"{text} (default: {default})"
        )
    parser.set_defaults(run=run_train)


def _add_score(commands: argparse._SubParsersAction) -> None:
    parser = _add_command(commands, "score", "perplexity and out-of-vocabulary rate of text", _SCORE_EPILOG)
    parser.add_argument("lm", metavar="LM", help="ARPA text (gzipped or not) or a recurrent model (.asr)")
    _add_text(parser)
    parser.add_argument(
        "--unit",
        choices=["word", "character"],
        help="of an ARPA model (default: characters if all its words are, with | for the space)",
    )
    parser.add_argument("--per-sentence", action="store_true", help="print each sentence's log10 probability")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.set_defaults(run=run_score)


def _add_sample(commands: argparse._SubParsersAction) -> None:
    parser = _add_command(commands, "sample", "write sentences drawn from a language model", _SAMPLE_EPILOG)
    parser.add_argument("lm", metavar="LM", help="ARPA text (gzipped or not) or a recurrent model (.asr)")
    parser.add_argument("-n", "--number", type=int, default=10, help="of sentences (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same sentences (default: 0)")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="below 1 likelier, 0 the likeliest (default: 1)"
    )
    parser.add_argument(
        "--max-tokens", type=int, default=200, help="cut a sentence after so many tokens (default: 200)"
    )
    parser.set_defaults(run=run_sample)


def _add_text(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "text",
        metavar="TEXT",
        nargs="+",
        help="plain text, a sentence a line, or a manifest (.jsonl); gzipped or not; - is standard input",
    )
    parser.add_argument(
        "--model", metavar="MODEL.asr", help="normalise the text as this speech recogniser does its own"
    )
    parser.add_argument(
        "--normalize",
        choices=["keep", "lower", "upper"],
        help="the case of the text (default: keep)",
    )
    parser.add_argument("--remove-punctuation", action="store_true", help="all but apostrophes within words")


def make_normalizer(args: argparse.Namespace) -> tuple[Any, Any]:
    """Return the normaliser that the options ask for, and the recogniser of --model or None."""
    from asr.errors import ConfigError
    from asr.text import Normalizer

    if args.model is None:
        punctuation: Any = "remove" if args.remove_punctuation else "keep"
        return Normalizer(case=args.normalize or "keep", punctuation=punctuation), None
    if args.normalize or args.remove_punctuation:
        raise ConfigError(
            "--model says how text is normalised; leave out --normalize and --remove-punctuation"
        )
    from asr.model_file import load_model

    recognizer = load_model(args.model, device="cpu")
    return recognizer.normalizer, recognizer


@contextmanager
def text_reader(label: str) -> Iterator[Callable[..., Iterator[str]]]:
    """Give a function like `asr.lm.corpus.read_text` that shows how much of the files is read."""
    from asr.cli.progress import count_bar
    from asr.lm.corpus import read_text

    with count_bar(label) as show:

        def read(paths: list[str], normalizer: Any, unit: Any = "word") -> Iterator[str]:
            files = [Path(path) for path in paths if path != "-"]
            # Gzipped text is longer than its file, and standard input has no known length.
            exact = len(files) == len(paths) and not any(file.suffix == ".gz" for file in files)
            total = sum(file.stat().st_size for file in files if file.is_file()) if exact else 0
            done = 0

            def progress(num_bytes: int) -> None:
                nonlocal done
                done += num_bytes
                show(done, total)

            return read_text(paths, normalizer, unit, progress)

        yield read


def load(path: str) -> NgramModel | RnnLm:
    """Load a language model of either kind."""
    from asr.lm.arpa import read_arpa

    if Path(path).suffix == ".asr":
        from asr.lm.rnn import load_language_model

        return load_language_model(path)
    return read_arpa(path, warn)


def warn(message: str) -> None:
    """Print a warning."""
    print(f"asr: warning: {message}", file=sys.stderr)


def run_score(args: argparse.Namespace) -> int:
    """Score text."""
    from asr.errors import ConfigError
    from asr.lm import NgramModel

    asked = args.model or args.normalize or args.remove_punctuation
    normalizer, _ = make_normalizer(args)
    lm = load(args.lm)
    if not isinstance(lm, NgramModel):
        if args.unit:
            raise ConfigError(f"--unit is for ARPA models; {args.lm} predicts a {lm.unit} at a time")
        normalizer = normalizer if asked else lm.normalizer
    unit: Any = args.unit or ("character" if lm.unit == "character" else "word")
    with text_reader("scoring") as read:
        check = unit if isinstance(lm, NgramModel) else "word"
        lines = read(args.text, normalizer, check)
        if args.per_sentence:
            return _print_sentences(lm, lines, unit)
        found = lm.perplexity(lines, unit) if isinstance(lm, NgramModel) else lm.perplexity(lines)
    if args.json:
        print(json.dumps(found.to_dict(), allow_nan=False))
    else:
        _print_score(found)
    if found.oov_rate > _MANY_UNKNOWN:
        warn(
            f"{found.oov_rate:.0%} of the {found.unit}s are unknown to {args.lm}; if the text is in another "
            "case, use --normalize"
        )
    return 0


def _print_sentences(lm: NgramModel | RnnLm, lines: Iterator[str], unit: Any) -> int:
    import math

    from asr.lm import NgramModel
    from asr.lm.units import SPLITTERS

    for line in lines:
        if not line.strip():
            continue
        if isinstance(lm, NgramModel):
            score = lm.log10_prob(SPLITTERS[unit](line))
        else:
            score = lm.score_texts([line])[0] / math.log(10)
        print(f"{score:.4f}\t{line.strip()}")
    return 0


def _print_score(found: Perplexity) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in score_rows(found):
        table.add_row(name, value)
    Console(highlight=False).print(table)


def score_rows(found: Perplexity) -> list[tuple[str, str]]:
    """Return what a table says of a perplexity."""
    rows = [
        (f"Perplexity a {found.unit}", _number(found.ppl)),
        (f"  unknown {found.unit}s left out", _number(found.ppl_without_oov)),
        ("Perplexity a word between spaces", _number(found.ppl_per_text_word)),
        ("Out-of-vocabulary rate", f"{found.oov_rate:.2%} ({found.num_oov:,} of {found.num_words:,})"),
        ("Sentences", f"{found.num_sentences:,}"),
        ("log10 probability", f"{found.log10_prob:,.2f}"),
    ]
    return [row for row in rows if found.unit != "word" or "between" not in row[0]]


def _number(value: float) -> str:
    return f"{value:,.2f}" if value < 1e9 else "infinite" if value == float("inf") else f"{value:.3g}"


def run_sample(args: argparse.Namespace) -> int:
    """Write sentences."""
    from asr.errors import ConfigError

    for name, value, lowest in (("-n", args.number, 1), ("--temperature", args.temperature, 0)):
        if not value >= lowest:
            raise ConfigError(f"{name}: must be {lowest} or more, found {value}")
    if args.max_tokens < 1:
        raise ConfigError(f"--max-tokens: must be 1 or more, found {args.max_tokens}")
    sentences = load(args.lm).sample(
        args.number, seed=args.seed, temperature=args.temperature, max_tokens=args.max_tokens
    )
    print("\n".join(sentences))
    return 0
