"""`asr train`: train a recipe whose manifests are there."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any

EPILOG = """\
examples:
  asr train recipes/an4/blstm.yaml
  asr train recipes/an4/blstm.yaml seed=2 trainer.epochs=20 output_dir=runs/short
  asr train recipes/an4/blstm.yaml model=bgru augment=none

A folder that holds an unfinished training of the same settings goes on where it stopped.
Leaves model.asr (best on dev), checkpoint.pt, metrics.jsonl, tensorboard/ and config.yaml there.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``asr train``."""
    parser = subparsers.add_parser(
        "train",
        help="train a model",
        description="Train a model as a recipe says, on manifests made before.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_recipe_arguments(parser)
    parser.set_defaults(run=run)


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the recipe and its overrides."""
    parser.add_argument("recipe", help="a recipe's YAML file, such as recipes/digits/blstm.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings to change, in Hydra's notation"
    )


def run(args: argparse.Namespace) -> int:
    """Train."""
    from asr.cli.config import load_config

    config = load_config(args.recipe, args.overrides)
    trained = train(config, ["asr", "train", args.recipe, *args.overrides])
    return 130 if trained is None else 0


def train(config: dict[str, Any], command: list[str]) -> Any | None:
    """Train with progress on stderr; return the recogniser, None if interrupted."""
    from asr.cli.progress import TrainingProgress
    from asr.training.loop import TrainingInterrupted
    from asr.training.run import train as train_model

    progress = TrainingProgress()
    try:
        recognizer = train_model(config, progress)
    except TrainingInterrupted:
        progress.close()
        print(f"stopped; what was done is saved. Go on with:\n  {shlex.join(command)}", file=sys.stderr)
        return None
    finally:
        progress.close()
    print(f"best model: {config['output_dir']}/model.asr", file=sys.stderr)
    return recognizer
