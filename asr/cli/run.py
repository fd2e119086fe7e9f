"""`asr run`: a whole recipe, from the corpus to the word error rate."""

from __future__ import annotations

import argparse
from pathlib import Path

EPILOG = """\
examples:
  asr run recipes/digits/blstm.yaml output_dir=runs/digits
  asr run recipes/fsdd/blstm.yaml speaker=theo
  asr run recipes/an4/bgru.yaml seed=3 --archive ~/Downloads/an4_feat.tar.gz

Leaves in output_dir: model.asr, metrics.jsonl, config.yaml, and for each test set hyp.jsonl and
wer.json. What is done already is not done again.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``asr run``."""
    from asr.cli.train import add_recipe_arguments

    parser = subparsers.add_parser(
        "run",
        help="run a whole recipe: prepare, train, evaluate",
        description="Run a whole recipe: prepare the corpus, train, and score every test set.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_recipe_arguments(parser)
    parser.add_argument("--archive", type=Path, help="the corpus archive, if you have it already")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the recipe."""
    from asr.cli.config import load_config, recipe_options
    from asr.cli.evaluate import evaluate_manifest, print_scores
    from asr.cli.prepare import prepare
    from asr.cli.train import train
    from asr.data.manifest import read_manifest
    from asr.files import make_folder

    config = load_config(args.recipe, args.overrides)
    output_dir = Path(config["output_dir"])
    make_folder(output_dir)
    data = config["data"]
    if data["recipe"] is not None:
        options = {key: config[key] for key in recipe_options(config) if key in config}
        prepare(data["recipe"], Path(data["dir"]), options, archive=args.archive)
    for manifest in data["test"].values():  # a mistake here should not show after hours of training
        read_manifest(manifest)
    recognizer = train(config, args.command)
    if recognizer is None:
        return 130
    results = {
        name: evaluate_manifest(recognizer, Path(manifest), output_dir / name)
        for name, manifest in data["test"].items()
    }
    return print_scores(results)
