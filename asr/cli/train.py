"""`asr train`: train a recipe whose manifests are there."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
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
    trained = train(config, args.command)
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
    print_summary(config)
    return recognizer


def print_summary(config: dict[str, Any]) -> None:
    """Print how the training went, as a table."""
    from rich.console import Console
    from rich.table import Table

    from asr.model_file import read_header

    folder = Path(config["output_dir"])
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    best = read_header(folder / "model.asr")["info"]["dev"]
    seconds = sum(entry["seconds"] + entry["dev_seconds"] for entry in history)
    table = Table(title=config["name"], show_header=False)
    for name, value in (
        ("best model", folder / "model.asr"),
        ("of epoch", f"{best['epoch']} of {len(history)}"),
        ("dev WER / CER", f"{100 * best['dev_wer']:.2f}% / {100 * best['dev_cer']:.2f}%"),
        ("training time", f"{seconds / 60:.1f} min, {seconds / len(history):.1f} s an epoch"),
        ("steps skipped", sum(entry["skipped_steps"] for entry in history)),
    ):
        table.add_row(name, str(value))
    Console(stderr=True).print(table)
