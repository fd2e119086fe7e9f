"""`asr evaluate`: decode a manifest and score it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from asr.cli.decoding import add_decoder_arguments, choose_decoder

if TYPE_CHECKING:
    from asr.evaluation import Evaluation
    from asr.recognizer import Recognizer

EPILOG = """\
examples:
  asr evaluate runs/an4/model.asr data/an4/test.jsonl
  asr evaluate runs/an4/model.asr test.jsonl --output-dir results --json

  asr evaluate runs/an4/model.asr test.jsonl --lm an4.arpa --lm-weight 0.6 --nbest 10
  asr evaluate runs/an4/model.asr test.jsonl --decoder greedy

Writes hyp.jsonl (NeMo's field names), wer.json and with --nbest nbest.jsonl into the output folder.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``asr evaluate``."""
    parser = subparsers.add_parser(
        "evaluate",
        help="decode a manifest and score it",
        description="Decode a manifest with a model and score the result.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="MODEL.asr", help="a model file made by training")
    parser.add_argument(
        "manifest", type=Path, help="JSON lines with audio_filepath, duration and text; or tar shards"
    )
    parser.add_argument(
        *("-o", "--output-dir", "--output_dir"),
        type=Path,
        help="default: a folder named after the manifest, here",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument("--json", action="store_true", help="print the score as JSON")
    parser.add_argument("--nbest", type=int, metavar="N", help="write the N best texts into nbest.jsonl")
    add_decoder_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate."""
    from asr.model_file import load_model

    recognizer = load_model(args.model, device=args.device)
    choose_decoder(recognizer, args)
    output_dir = args.output_dir or Path(args.manifest.stem)
    result = evaluate_manifest(recognizer, args.manifest, output_dir, args.nbest or 0)
    if args.json:
        print(json.dumps(result.score.to_dict()))
        return 1 if _report_failures(result) else 0
    return print_scores({args.manifest.stem: result})


def evaluate_manifest(recognizer: Recognizer, manifest: Path, output_dir: Path, nbest: int = 0) -> Evaluation:
    """Decode and score a manifest with a progress bar."""
    from asr.cli.progress import seconds_bar
    from asr.data.checks.problems import summarize
    from asr.data.manifest import read_manifest
    from asr.errors import DataError
    from asr.evaluation import evaluate
    from asr.files import make_folder

    make_folder(output_dir)
    utterances = read_manifest(manifest, check_files=False)
    untranscribed = [u.id for u in utterances if u.text is None]
    if untranscribed:
        raise DataError(
            f"{manifest}: {len(untranscribed)} utterances have no text to score against, the first is "
            f"{untranscribed[0]}; use 'asr transcribe' for audio without transcripts"
        )
    problems = recognizer.problems(utterances)
    # What cannot be read is told one by one, at the end.
    for message in summarize((p for p in problems if p.kind != "unreadable"), manifest.stem):
        print(f"asr: {message}", file=sys.stderr)
    with seconds_bar(manifest.stem, sum(u.duration for u in utterances)) as progress:
        return evaluate(recognizer, utterances, output_dir, progress, nbest)


def print_scores(results: Mapping[str, Evaluation]) -> int:
    """Print a table with a row a test set; return 1 if a file failed, else 0."""
    from rich.console import Console
    from rich.table import Table

    from asr.scoring.wer import confidence_interval

    table = Table("test set", "WER", "95% interval", "CER", "words", "sub", "del", "ins")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, result in results.items():
        total = result.score
        low, high = confidence_interval(total)
        table.add_row(
            name,
            f"{100 * total.wer:.2f}%",
            f"{100 * low:.2f} - {100 * high:.2f}%",
            f"{100 * total.cer:.2f}%",
            *map(str, (total.num_words, total.substitutions, total.deletions, total.insertions)),
        )
    Console().print(table)
    return 1 if sum(_report_failures(result) for result in results.values()) else 0


def _report_failures(result: Evaluation) -> int:
    for failure in result.failures:
        print(f"asr: {failure}", file=sys.stderr)
    if result.failures:
        print(
            f"{len(result.failures)} utterances could not be read and are not in the score", file=sys.stderr
        )
    return len(result.failures)
