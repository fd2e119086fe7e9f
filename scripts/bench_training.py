"""The loader against ready tensors: an epoch of training steps with and without reading."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from asr.training.speech import SpeechTask
    from asr.types import Batch

_EPILOG = """\
The same model, optimiser and batches, an epoch of them a round, in turns; contestants:

  ready       frames of the whole epoch, computed before and kept in memory: what no loader can beat
  N workers   batches drawn, utterances read, augmented, collated and turned into frames as training does

Beside the time that passed stands that of the processors: of this process, and of all with its workers'. On a
busy machine these are the steadier ones.

The recipe's manifests must be there ('asr prepare').

examples:
  python scripts/bench.py training recipes/an4/blstm.yaml data.dir=data/an4
  python scripts/bench.py training recipes/fsdd/blstm.yaml data.dir=data/fsdd --workers 0 2 --rounds 5
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the benchmark to the parser of bench.py."""
    parser = subparsers.add_parser(
        "training",
        help="an epoch through the loader against ready tensors",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", help="a recipe's YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings to change")
    parser.add_argument("--workers", nargs="+", type=int, default=[0, 2], help="(default: 0 2)")
    parser.add_argument("--batches", type=int, help="of the epoch, at most (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--threads", type=int, help="of the model (default: all cores)")
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    import numpy as np
    import torch

    from asr.cli.config import load_config
    from asr.training.devices import make_fabric
    from asr.training.memory import keep_memory
    from asr.training.optimization import make_optimizer
    from asr.training.step import Stepper

    if args.threads:
        torch.set_num_threads(args.threads)
    config = load_config(args.recipe, args.overrides)
    torch.manual_seed(config["seed"])
    trainer = config["trainer"]
    fabric = make_fabric(trainer["accelerator"], trainer["precision"], 1)
    if fabric.device.type == "cpu":
        keep_memory()  # as Trainer.fit does
    task = make_task(config)
    task.whole.to(fabric.device)
    model, optimizer = fabric.setup(task.model, make_optimizer(config["optimizer"], task.model))
    pinned = fabric.device.type == "cuda"
    stepper = Stepper(fabric, task, model, optimizer, trainer["gradient_clip"], trainer["clip_by"])

    def measure(batches: Callable[[], Iterable[Batch]]) -> Times:
        before = np.array(clocks())
        for batch in itertools.islice(batches(), args.batches):
            stepper([batch], 0)
        if pinned:
            torch.cuda.synchronize()
        return Times(*(np.array(clocks()) - before))

    readers = {f"{workers} workers": make_task(config, task, workers) for workers in args.workers}
    measured: dict[str, list[Times]] = {name: [] for name in ("ready", *readers)}
    for epoch in range(args.rounds + 1):
        ready = ready_batches(task, epoch, pinned, args.batches)
        for name in measured:
            found = measure(
                lambda name=name, ready=ready, epoch=epoch: (  # type: ignore[misc]
                    ready if name == "ready" else readers[name].batches(epoch, 0, pin_memory=pinned)[0]
                )
            )
            if epoch:  # the first one warms up
                measured[name].append(found)
    for reader in readers.values():
        reader.close()
    if not args.json:
        print(
            f"{config['name']}, {fabric.device}, {torch.get_num_threads()} threads, {len(ready)} batches, "
            f"{useful_frames(ready):.1%} useful frames; ratios are to ready tensors\n"
            f"{'':12}{'median s':>10}{'ratio':>8}{'(least - most)':>17}"
            f"{'processor s':>13}{'ratio':>8}{'with workers s':>16}{'ratio':>8}"
        )
    for name, times in measured.items():
        report(config["name"], name, times, measured["ready"], args.json)
    return 0


class Times(NamedTuple):
    """Seconds that passed, and that processors computed for this process, and for it and its workers."""

    passed: float
    processor: float
    all_processors: float


def clocks() -> Times:
    """Return the readings of the clocks."""
    ticks = os.sysconf("SC_CLK_TCK")
    # User and system time are fields 14 and 15 of a line whose second one is the name, in parentheses.
    stats = [Path(f"/proc/{child.pid}/stat").read_text() for child in multiprocessing.active_children()]
    workers = sum(sum(map(int, stat.rpartition(")")[2].split()[11:13])) / ticks for stat in stats)
    own = time.process_time()
    return Times(time.perf_counter(), own, own + workers)


def report(recipe: str, name: str, times: Sequence[Times], base: Sequence[Times], as_json: bool) -> None:
    """Print a contestant's times beside those on ready tensors."""
    row: dict[str, Any] = {"recipe": recipe, "contestant": name}
    for clock, own, other in zip(
        Times._fields, zip(*times, strict=True), zip(*base, strict=True), strict=True
    ):
        ratios = [a / b for a, b in zip(own, other, strict=True)]
        row |= {clock: statistics.median(own), f"{clock}_ratio": statistics.median(ratios)}
        if clock == "passed":
            row |= {"passed_ratio_min": min(ratios), "passed_ratio_max": max(ratios)}
    if as_json:
        print(json.dumps(row))
    else:
        spread = f"({row['passed_ratio_min']:.3f} - {row['passed_ratio_max']:.3f})"
        print(
            f"{name:12}{row['passed']:10.3f}{row['passed_ratio']:8.3f}{spread:>17}"
            f"{row['processor']:13.3f}{row['processor_ratio']:8.3f}"
            f"{row['all_processors']:16.3f}{row['all_processors_ratio']:8.3f}"
        )


def make_task(config: dict[str, Any], like: SpeechTask | None = None, workers: int = 0) -> SpeechTask:
    """Return the recipe's training task; with the recogniser of another one, if given."""
    from asr.data.manifest import read_manifest
    from asr.training.metrics import Silence
    from asr.training.run import fit_normalization, make_augmentation, make_recognizer
    from asr.training.speech import SpeechTask

    train = read_manifest(config["data"]["train"])
    if like is None:
        recognizer = make_recognizer(config, train)
        if recognizer.features.normalize == "corpus":
            fit_normalization(recognizer, train)
    else:
        recognizer = like.recognizer
    return SpeechTask(
        recognizer,
        train,
        [],
        batch_seconds=config["trainer"]["batch_seconds"],
        num_workers=workers,
        augmentation=make_augmentation(config, recognizer, train, Silence()),
        seed=config["seed"],
        order=config["trainer"]["order"],
    )


def ready_batches(task: SpeechTask, epoch: int, pinned: bool, limit: int | None) -> list[Batch]:
    """Return an epoch's batches with their frames, on the device."""
    device, found = task.recognizer.device, []
    for batch in itertools.islice(task.batches(epoch, 0, pin_memory=pinned)[0], limit):
        batch = task.make_frames(batch, epoch)
        found.append(
            dataclasses.replace(
                batch,
                targets=batch.targets.to(device),
                target_lengths=batch.target_lengths.to(device),
            )
        )
    return found


def useful_frames(batches: Sequence[Batch]) -> float:
    """Return the share of frames that is not padding."""
    sizes = [
        (int(batch.input_lengths.sum()), batch.inputs.shape[0] * batch.inputs.shape[1]) for batch in batches
    ]
    return sum(useful for useful, _ in sizes) / sum(padded for _, padded in sizes)
