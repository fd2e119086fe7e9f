"""The loader against ready tensors: an epoch of training steps with and without reading."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from asr.training.speech import SpeechTask
    from asr.types import Batch

_EPILOG = """\
The same model, optimiser and batches of one shuffled epoch, in turns; contestants:

  ready       frames of the whole epoch, computed before and kept in memory: what no loader can beat
  N workers   utterances read, augmented, collated and turned into frames as training does

Beside the time that passed stands that of the processors in this process, without the workers': on a busy
machine the steadier of the two.

The recipe's manifests must be there ('asr prepare').

examples:
  python scripts/bench.py training recipes/an4/blstm.yaml data.dir=data/an4
  python scripts/bench.py training recipes/fsdd/blstm.yaml --workers 0 2 --rounds 5 data.dir=data/fsdd
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
    import torch

    from asr.cli.config import load_config
    from asr.training.devices import make_fabric
    from asr.training.optimization import make_optimizer
    from asr.training.step import Stepper

    if args.threads:
        torch.set_num_threads(args.threads)
    config = load_config(args.recipe, args.overrides)
    torch.manual_seed(config["seed"])
    trainer = config["trainer"]
    fabric = make_fabric(trainer["accelerator"], trainer["precision"], 1)
    task = make_task(config)
    task.whole.to(fabric.device)
    model, optimizer = fabric.setup(task.model, make_optimizer(config["optimizer"], task.model))
    pinned = fabric.device.type == "cuda"
    ready = ready_batches(task, pinned, args.batches)

    def epoch_of(
        task: SpeechTask, batches: Callable[[], Iterable[Batch]]
    ) -> Callable[[], tuple[float, float]]:
        stepper = Stepper(fabric, task, model, optimizer, trainer["gradient_clip"], trainer["clip_by"])

        def measure() -> tuple[float, float]:
            started, computed = time.perf_counter(), time.process_time()
            for batch in itertools.islice(batches(), len(ready)):
                stepper([batch], 0)
            if pinned:
                torch.cuda.synchronize()
            return time.perf_counter() - started, time.process_time() - computed

        return measure

    contestants = {"ready": epoch_of(without_reading(task), lambda: ready)}
    for workers in args.workers:
        reading = make_task(config, task, workers)
        contestants[f"{workers} workers"] = epoch_of(
            reading,
            lambda reading=reading: reading.batches(0, 0, pin_memory=pinned)[0],  # type: ignore[misc]
        )
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for turn in range(args.rounds + 1):
        for name, measure in contestants.items():
            found = measure()
            if turn:  # the first one warms up
                measured[name].append(found)
    if not args.json:
        print(
            f"{config['name']}, {fabric.device}, {torch.get_num_threads()} threads, {len(ready)} batches, "
            f"{useful_frames(ready):.1%} useful frames\n"
            f"{'':12}{'median s':>10}{'best s':>10}  ratio to ready (spread)    processor s  ratio"
        )
    for name, pairs in measured.items():
        report(config["name"], name, pairs, measured["ready"], args.json)
    return 0


def report(
    recipe: str,
    name: str,
    pairs: Sequence[tuple[float, float]],
    base: Sequence[tuple[float, float]],
    as_json: bool,
) -> None:
    """Print a contestant's time, and that of this process's processors, beside those on ready tensors."""
    seconds, processor = ([pair[i] for pair in pairs] for i in (0, 1))
    ratios, of_processor = (
        sorted(own[i] / other[i] for own, other in zip(pairs, base, strict=True)) for i in (0, 1)
    )
    row = {
        "recipe": recipe,
        "contestant": name,
        "seconds": statistics.median(seconds),
        "best_seconds": min(seconds),
        "ratio": statistics.median(ratios),
        "ratio_min": ratios[0],
        "ratio_max": ratios[-1],
        "processor_seconds": statistics.median(processor),
        "processor_ratio": statistics.median(of_processor),
    }
    if as_json:
        print(json.dumps(row))
    else:
        print(
            f"{name:12}{row['seconds']:10.3f}{row['best_seconds']:10.3f}  {row['ratio']:.3f} "
            f"({ratios[0]:.3f} - {ratios[-1]:.3f}){row['processor_seconds']:18.3f}  "
            f"{row['processor_ratio']:.3f}"
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


def without_reading(task: SpeechTask) -> SpeechTask:
    """Return the task for batches whose inputs are finished frames on the device."""

    def frames(batch: Batch, epoch: int) -> tuple[Tensor, Tensor]:
        return batch.inputs, batch.input_lengths

    ready = copy.copy(task)
    ready.frames = frames  # type: ignore[method-assign]
    return ready


def ready_batches(task: SpeechTask, pinned: bool, limit: int | None) -> list[Batch]:
    """Return an epoch's batches with their frames on the device in place of what was read."""
    device, found = task.recognizer.device, []
    for batch in itertools.islice(task.batches(0, 0, pin_memory=pinned)[0], limit):
        frames, lengths = task.frames(batch, 0)
        found.append(
            dataclasses.replace(
                batch,
                inputs=frames,
                input_lengths=lengths,
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
