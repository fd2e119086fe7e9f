"""Large corpora: opening a manifest, shards against loose files, stored features against computed ones."""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asr.types import Utterance

_SHARDS_EPILOG = """\
Repeats the manifest's recordings as loose files until there are enough, packs them, and reads both as
training does: bucketed, shuffled batches, in turns. `cold` drops the page cache before each turn (needs
root).

example:
  python scripts/bench.py shards data/fsdd/official/train.jsonl --utterances 20000 --workers 2
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``bench.py manifest``, ``shards`` and ``store``."""
    parser = subparsers.add_parser("manifest", help="open and bucket a manifest: time and memory")
    parser.add_argument("--lines", type=int, default=1_000_000, help="(default: 1,000,000)")
    parser.set_defaults(run=run_manifest)

    parser = subparsers.add_parser(
        "shards",
        help="read tar shards and loose files",
        epilog=_SHARDS_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_common(parser)
    parser.add_argument("--utterances", type=int, default=20_000, help="(default: 20,000)")
    parser.add_argument("--shard-utterances", type=int, default=2500, help="(default: 2,500)")
    parser.set_defaults(run=run_shards)

    parser = subparsers.add_parser("store", help="read stored features and compute them on the fly")
    _add_common(parser)
    parser.add_argument("--n-mels", type=int, default=40, help="(default: 40)")
    parser.set_defaults(run=run_store)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", type=Path, help="JSON lines with audio_filepath and duration")
    parser.add_argument("--sample-rate", type=int, default=8000, help="Hz (default: 8000)")
    parser.add_argument("--batch-seconds", type=float, default=60.0, help="(default: 60)")
    parser.add_argument("--workers", type=int, default=0, help="(default: 0)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--folder", type=Path, help="for what is written (default: a temporary one)")


def run_manifest(args: argparse.Namespace) -> int:
    """Write a manifest, open it, draw the batches of an epoch, and print what that took."""
    import numpy as np

    from asr.data.manifest import Manifest
    from asr.data.sampler import BatchSampler

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.jsonl"
        rng = np.random.default_rng(0)
        with path.open("w") as file:
            for i, seconds in enumerate(rng.uniform(1, 17, args.lines)):
                fields = {
                    "id": f"{i % 997:04}-{i // 1000:05}-{i:08}",
                    "audio_filepath": f"audio/{i // 5000:04}/{i:08}.flac",
                    "duration": round(float(seconds), 3),
                    "text": "the quick brown fox jumps over the lazy dog " * int(1 + seconds / 3),
                    "speaker": f"{i % 997:04}",
                }
                file.write(json.dumps(fields) + "\n")
        size, before = path.stat().st_size, _peak()
        wall, cpu = time.perf_counter(), time.process_time()
        manifest = Manifest(path, check_files=False)
        opened, computed = time.perf_counter() - wall, time.process_time() - cpu
        wall, cpu = time.perf_counter(), time.process_time()
        sampler = BatchSampler(manifest.durations, batch_seconds=600.0, shuffle=True)
        batches = len(sampler.batches(0))
        bucketed, packed = time.perf_counter() - wall, time.process_time() - cpu
        wall = time.perf_counter()
        for i in rng.integers(0, len(manifest), 10_000).tolist():
            manifest[i]
        parsing = (time.perf_counter() - wall) / 10_000
    print(
        f"{len(manifest):,} lines, {size / 1e6:.0f} MB: opened and validated in {opened:.1f} s "
        f"(processor {computed:.1f} s), {batches:,} batches in {bucketed:.1f} s (processor {packed:.1f} s), "
        "an "
        f"utterance in {1e6 * parsing:.0f} us; peak memory {_peak():.0f} MB, {before:.0f} MB before it was "
        "opened"
    )
    return 0


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_shards(args: argparse.Namespace) -> int:
    """Read loose files and shards in turns."""
    from asr.data.manifest import Manifest, read_manifest
    from asr.data.pack import pack

    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        loose = copies(read_manifest(args.manifest), args.utterances, folder / "loose")
        started = time.perf_counter()
        made = pack(
            loose, folder / "shards", shard_utterances=args.shard_utterances, jobs=os.cpu_count() or 1
        )
        print(
            f"{made.utterances} utterances of {made.seconds:.0f} s packed into {made.shards} shards of "
            f"{made.num_bytes / 1e6:.0f} MB in {time.perf_counter() - started:.1f} s"
        )
        sets: dict[str, Sequence[Utterance]] = {"loose": loose, "shards": Manifest(folder / "shards")}
        contestants = {name: epoch_of(found, args) for name, found in sets.items()}
        for kind in ("warm", "cold"):
            if kind == "cold" and not drop_page_cache():
                print("cold: not measured, the page cache cannot be dropped here")
                continue
            compare(kind, contestants, args.rounds, made.seconds, drop_page_cache if kind == "cold" else None)
    return 0


def copies(utterances: Sequence[Utterance], count: int, folder: Path) -> list[Utterance]:
    """Write utterances' files as often as is needed to have `count`, each a file of its own."""
    from dataclasses import replace

    found = []
    for i in range(count):
        utterance = utterances[i % len(utterances)]
        source = Path(utterance.audio_filepath or "")
        path = folder / f"{i // 1000:03}" / f"{i:06}{source.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())
        found.append(replace(utterance, id=f"u{i:06}", audio_filepath=str(path)))
    return found


def epoch_of(
    utterances: Sequence[Utterance], args: argparse.Namespace, front_end: Any = None
) -> Callable[[], None]:
    """Return what reads one epoch, and with a front end makes its features."""
    import torch

    from asr.data.dataset import SpeechDataset
    from asr.data.loader import make_loader
    from asr.data.manifest import durations
    from asr.data.sampler import BatchSampler
    from asr.text import Normalizer, train_tokenizer

    normalizer = Normalizer()
    texts = [normalizer(u.text or "") for u in utterances]
    tokenizer = train_tokenizer({"_target_": "asr.text.CharacterTokenizer"}, texts)
    size = front_end.extractor.output_size if front_end is not None else 1
    dataset = SpeechDataset(utterances, normalizer, tokenizer, args.sample_rate, size)
    shards = getattr(utterances, "shards", None)
    sampler = BatchSampler(
        durations(utterances), batch_seconds=args.batch_seconds, shuffle=True, shards=shards
    )
    loader = make_loader(dataset, sampler, num_workers=args.workers)

    @torch.inference_mode()
    def read() -> None:
        for batch in loader:
            if front_end is not None:
                front_end(batch.inputs, batch.input_lengths)

    return read


def drop_page_cache() -> bool:
    """Have the system forget what it has read; tell whether it may be asked to."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("1")
    except OSError:
        return False
    return True


def compare(
    kind: str,
    contestants: dict[str, Callable[[], None]],
    rounds: int,
    seconds: float,
    before: Callable[[], object] | None = None,
) -> None:
    """Run contestants in turns; print the audio that each reads a second, and the ratio to the first."""
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, contestant in contestants.items():
            if before is not None:
                before()
            wall, cpu = time.perf_counter(), time.process_time()
            contestant()
            if turn:  # the first one warms up
                measured[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    base = next(iter(measured.values()))
    for name, times in measured.items():
        ratios = sorted(b[0] / t[0] for t, b in zip(times, base, strict=True))
        processor = statistics.median(b[1] / t[1] for t, b in zip(times, base, strict=True))
        print(
            f"{kind:6}{name:10}{seconds / statistics.median(t[0] for t in times):10.0f} s of audio/s, "
            f"{statistics.median(ratios):.2f} times the first ({ratios[0]:.2f} - {ratios[-1]:.2f}); "
            f"by processor time {processor:.2f} times"
        )


def run_store(args: argparse.Namespace) -> int:
    """Make the features of each epoch from audio and from a store, in turns."""
    from asr.build import build
    from asr.data.feature_store import store_features
    from asr.data.manifest import durations, read_manifest

    utterances = read_manifest(args.manifest)
    config = {"_target_": "asr.features.LogMel", "sample_rate": args.sample_rate, "n_mels": args.n_mels}
    front_end = build({"_target_": "asr.features.FrontEnd", "extractor": config})
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        started = time.perf_counter()
        stored = store_features(utterances, front_end.extractor, config, Path(name), "train")
        print(f"{len(utterances)} utterances stored in {time.perf_counter() - started:.1f} s")
        sets: Iterable[tuple[str, Sequence[Utterance]]] = (("computed", utterances), ("stored", stored))
        contestants = {name: epoch_of(found, args, front_end) for name, found in sets}
        compare("", contestants, args.rounds, float(durations(utterances).sum()))
    return 0
