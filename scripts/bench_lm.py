"""How long an n-gram model takes to train, and in how much memory."""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

WORDS_PER_LINE = 20


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``bench.py ngram``."""
    parser = subparsers.add_parser("ngram", help="train an n-gram model: time and memory")
    parser.add_argument("--words", type=int, default=10_000_000, help="to train on (default: 10,000,000)")
    parser.add_argument("--order", type=int, default=4)
    parser.add_argument("--prune", type=int, nargs="+", default=[])
    parser.add_argument(
        "--text", type=Path, help="a sentence a line, repeated if it is too short (default: drawn)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train, write, and print how it went."""
    from asr.lm import train_ngram

    lines = _from_file(args.text, args.words) if args.text else _drawn(args.words)
    wall, cpu = time.perf_counter(), time.process_time()
    model = train_ngram(lines, args.order, prune=args.prune)
    trained = time.perf_counter() - wall
    with tempfile.TemporaryDirectory() as folder:
        model.write(Path(folder) / "lm.arpa")
        size = (Path(folder) / "lm.arpa").stat().st_size
    # The kernel counts in KiB on Linux, in bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(f"words                  {args.words:,}")
    print(f"n-grams of each order  {', '.join(f'{count:,}' for count in model.counts)}")
    print(f"counted and estimated  {trained:.1f} s")
    print(f"with the ARPA file     {time.perf_counter() - wall:.1f} s, {size / 1e6:.0f} MB")
    print(f"processor time         {time.process_time() - cpu:.1f} s")
    print(f"peak memory            {peak / 1e9:.2f} GB")
    return 0


def _from_file(path: Path, num_words: int) -> Iterator[str]:
    done = 0
    while done < num_words:
        before = done
        with path.open(encoding="utf-8") as file:
            for line in file:
                if done >= num_words:
                    return
                done += len(line.split())
                yield line
        if done == before:
            return


def _drawn(num_words: int) -> Iterator[str]:
    """Yield lines of words with Zipf's frequencies, every second one given by the word before."""
    rng = np.random.default_rng(0)
    for start in range(0, num_words, 100_000):
        size = min(100_000, num_words - start)
        drawn = rng.zipf(1.2, size) % 200_000
        words = np.where(rng.random(size) < 0.5, (np.roll(drawn, 1) * 7 + 13) % 200_000, drawn).astype(str)
        for i in range(0, size, WORDS_PER_LINE):
            yield " ".join(words[i : i + WORDS_PER_LINE])
