"""`asr run`: a whole recipe, from the corpus to the word error rate."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.cli.memory import keep_memory_flat
from asr.cli.sweep import EPILOG as SWEEP_EPILOG
from asr.cli.sweep import run_sweep, wants_sweep

if TYPE_CHECKING:
    from asr.evaluation import Evaluation
    from asr.recognizer import Recognizer

EPILOG = """\
examples:
  asr run recipes/digits/blstm.yaml output_dir=runs/digits
  asr run recipes/fsdd/blstm.yaml speaker=theo
  asr run recipes/an4/bgru.yaml seed=3 --archive ~/Downloads/an4_feat.tar.gz

Leaves in output_dir: report.html, a page about all of it; model.asr, metrics.jsonl, config.yaml, and for
each test set hyp.jsonl and wer.json. What is done already is not done again.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``asr run``."""
    from asr.cli.train import add_recipe_arguments

    parser = subparsers.add_parser(
        "run",
        help="run a whole recipe: prepare, train, evaluate",
        description="Run a whole recipe: prepare the corpus, train, and score every test set.",
        epilog=EPILOG + SWEEP_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_recipe_arguments(parser)
    parser.add_argument(
        "--archive",
        type=Path,
        metavar="FILE_OR_FOLDER",
        help="the corpus, if you have it: its archive, or a folder with its archives or their content",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the recipe."""
    keep_memory_flat()
    from asr.cli.config import load_config
    from asr.cli.evaluate import print_scores
    from asr.cli.report import write_report
    from asr.cli.train import train
    from asr.data.manifest import read_manifest
    from asr.files import make_folder

    if wants_sweep(args):
        return run_sweep(args, "run")
    config = load_config(args.recipe, args.overrides)
    output_dir = Path(config["output_dir"])
    make_folder(output_dir)
    data = config["data"]
    prepare_corpus(config, args.archive)
    for manifest in data["test"].values():  # a mistake here should not show after hours of training
        read_manifest(manifest)
    recognizer = train(config, args.command)
    if recognizer is None:
        return 130
    results = {
        name: score_test_set(recognizer, name, Path(manifest), output_dir)
        for name, manifest in data["test"].items()
    }
    status = print_scores(results)
    write_report(output_dir)
    return status


def score_test_set(recognizer: Recognizer, name: str, manifest: Path, output_dir: Path) -> Evaluation:
    """Decode and score a test set, and note in the journal how long it took."""
    from asr.cli.evaluate import evaluate_manifest
    from asr.training.journal import add_to_journal

    started = time.perf_counter()
    result = evaluate_manifest(recognizer, manifest, output_dir / name)
    seconds = time.perf_counter() - started
    add_to_journal(output_dir, "scored", test=name, seconds=seconds, failures=list(result.failures))
    return result


def prepare_corpus(config: dict[str, Any], archive: Path | None) -> None:
    """Make the manifests that a configuration names, unless its corpus has no recipe."""
    from asr.cli.config import recipe_options
    from asr.cli.prepare import prepare

    data = config["data"]
    if data["recipe"] is not None:
        options = {key: config[key] for key in recipe_options(config) if key in config}
        prepare(data["recipe"], Path(data["dir"]), options, archive=archive)
