"""`asr train`: train a recipe whose manifests are there."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from asr.cli.memory import keep_memory_flat
from asr.cli.sweep import EPILOG as SWEEP_EPILOG
from asr.cli.sweep import add_sweep_arguments, run_sweep, wants_sweep

EPILOG = """\
examples:
  asr train recipes/an4/blstm.yaml
  asr train recipes/an4/blstm.yaml seed=2 trainer.epochs=20 output_dir=runs/short
  asr train recipes/an4/blstm.yaml model=bgru augment=none
  asr train recipes/an4/blstm.yaml data.train=shards/train data.dev=dev.jsonl
  asr train recipes/an4/blstm.yaml trainer.devices=2
  torchrun --nproc-per-node 2 --max-restarts 3 -m asr.cli.main train recipes/an4/blstm.yaml

A folder that holds an unfinished training of the same settings goes on where it stopped, even if it was
killed. Ctrl-C or SIGTERM finish the step and save; a second one stops at once.
Leaves model.asr (best on dev), checkpoint.pt, metrics.jsonl, journal.jsonl, tensorboard/ and config.yaml
there. `asr report FOLDER` makes a page of them.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``asr train``."""
    parser = subparsers.add_parser(
        "train",
        help="train a model",
        description="Train a model as a recipe says, on manifests made before.",
        epilog=EPILOG + SWEEP_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_recipe_arguments(parser)
    parser.set_defaults(run=run)


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the recipe, its overrides, and what makes a sweep of them."""
    parser.add_argument("recipe", help="a recipe's YAML file, such as recipes/digits/blstm.yaml")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings to change, in Hydra's notation"
    )
    add_sweep_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Train."""
    keep_memory_flat()
    from asr.cli.config import load_config

    if wants_sweep(args):
        return run_sweep(args, "train")
    config = load_config(args.recipe, args.overrides)
    trained = train(config, args.command)
    return 130 if trained is None else 0


def train(config: dict[str, Any], command: list[str]) -> Any | None:
    """Train with progress on stderr; return the recogniser, None if interrupted.

    Of several processes that train together only the first one returns; the others are done by then.
    """
    from asr.cli.progress import TrainingProgress
    from asr.training.devices import is_main_process
    from asr.training.metrics import Silence
    from asr.training.run import train as train_model
    from asr.training.signals import TrainingInterrupted

    is_main, progress = is_main_process(), TrainingProgress()
    try:
        recognizer = train_model(config, progress if is_main else Silence(), command)
    except TrainingInterrupted:
        progress.close()
        if is_main:
            print_how_to_go_on(command)
        return None
    finally:
        progress.close()
    if not is_main:
        raise SystemExit(0)
    print_summary(config)
    return recognizer


def print_how_to_go_on(command: list[str]) -> None:
    """Print the command that resumes a training that was stopped and saved."""
    words = shlex.join(command)
    if "TORCHELASTIC_RUN_ID" in os.environ:
        words = f"torchrun [as before] -m asr.cli.main {shlex.join(command[1:])}"
    print(f"stopped; what was done is saved. Go on with:\n  {words}", file=sys.stderr)


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
        ("of epoch", f"{best.get('averaged_epochs', best['epoch'])} of {len(history)}"),
        ("dev WER / CER", f"{100 * best['dev_wer']:.2f}% / {100 * best['dev_cer']:.2f}%"),
        ("training time", f"{seconds / 60:.1f} min, {seconds / len(history):.1f} s an epoch"),
        ("steps skipped", sum(entry["skipped_steps"] for entry in history)),
        ("batches divided for memory", sum(entry["split_batches"] for entry in history)),
    ):
        table.add_row(name, str(value))
    Console(stderr=True).print(table)
