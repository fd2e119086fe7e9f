"""`bench.py score`: how fast scoring is, beside jiwer and sclite in the same run."""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_JIWER = """
import sys, time, jiwer
texts = [[line.rpartition(" (")[0] for line in open(path, encoding="utf-8")] for path in sys.argv[1:]]
start = time.process_time()
words = jiwer.process_words(*texts)
jiwer.process_characters(*texts)
print(time.process_time() - start, words.substitutions, words.deletions, words.insertions)
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``bench.py score``."""
    parser = subparsers.add_parser(
        "score",
        help="scoring, beside jiwer and sclite",
        description="Score made-up transcripts with everything but the page (rates, interval, breakdown, "
        "sclite's files), in turns with jiwer, each in a process of its own on one core; seconds are the "
        "processor's.",
    )
    parser.add_argument("--utterances", type=int, default=50_000, help="default: 50000, of 20 words each")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is run (default: 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return 1 if a figure is beyond its bar, else 0."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = _write(folder, args.utterances)
        few = _write(folder / "few", 100)
        everything = ["--by", "speaker", "--sclite-files", str(folder / "files"), "--json"]
        results: dict[str, list[float]] = {"asr": [], "jiwer": [], "start": []}
        _measure([*_asr(), *files, *everything])
        memory = _peak_megabytes()  # of all programs so far, so before jiwer's
        for _ in range(args.rounds):
            ours, seconds = _measure([*_asr(), *files, *everything])
            results["asr"].append(seconds)
            theirs, _ = _measure([sys.executable, "-c", _JIWER, *files])
            seconds_of_jiwer, *counts = theirs.split()
            results["jiwer"].append(float(seconds_of_jiwer))
            results["start"].append(_measure([*_asr(), *few, "--json"])[1])
            _check_equal(ours, [int(count) for count in counts])
        figures = _figures(results, memory, args.utterances) + _sclite_figures(folder, files)
    if args.json:
        print(json.dumps({name: value for name, value, _, _ in figures}))
    else:
        for name, value, unit, bar in figures:
            print(f"{name:60s} {value:10,.2f} {unit:5s}" + (f" (bar: {bar:g})" if bar else ""))
    return int(any(bar is not None and value > bar for _, value, _, bar in figures))


_Figure = tuple[str, float, str, float | None]


def _figures(results: dict[str, list[float]], memory: float, num_utterances: int) -> list[_Figure]:
    # The least of each is what other programs on the machine disturbed least.
    asr, jiwer = min(results["asr"]), min(results["jiwer"])
    return [
        ("asr score, all but the page", asr, "s", 10.0),
        ("jiwer, process_words and process_characters", jiwer, "s", None),
        # Of few utterances most of the time is Python's start.
        ("asr score / jiwer", asr / jiwer, "", 1.5 if num_utterances >= 50_000 else None),
        ("memory of asr score", memory, "MB", 1000.0),
        ("100 utterances from a cold start", min(results["start"]), "s", 0.5),
    ]


def _sclite_figures(folder: Path, files: Sequence[str]) -> list[_Figure]:
    output, ours = _measure([*_asr(), *files, "--align", "sclite", "--json"])
    figures: list[_Figure] = [("asr score --align sclite", ours, "s", None)]
    sctk = shutil.which("sctk")
    if sctk is None:
        return figures
    reference, hypothesis = files
    options = ["-i", "spu_id", "-s", "-f", "0", "-o", "rsum", "stdout"]
    printed, theirs = _measure([sctk, "sclite", "-r", reference, "trn", "-h", hypothesis, "trn", *options])
    match = re.search(r"\| Sum *\| *\d+ +\d+ *\| *\d+ +(\d+) +(\d+) +(\d+)", printed)
    assert match is not None, "sclite's report has a line of sums"
    _check_equal(output, [int(count) for count in match.groups()])
    return [*figures, ("sclite", theirs, "s", None)]


def _check_equal(output: str, expected: list[int]) -> None:
    fields = json.loads(output)
    found = [fields[name] for name in ("substitutions", "deletions", "insertions")]
    assert found == expected, f"substitutions, deletions and insertions are {found}, elsewhere {expected}"


def _asr() -> list[str]:
    return [sys.executable, "-m", "asr.cli.main", "score"]


def _measure(command: Sequence[str]) -> tuple[str, float]:
    """Run a program on one core; return what it prints and its processor seconds."""
    root = Path(__file__).parents[1]
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return result.stdout.decode(), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _peak_megabytes() -> float:
    """Return the most memory of any child so far; on Linux ru_maxrss is in KiB, on macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _write(folder: Path, num_utterances: int) -> list[str]:
    """Write a reference and a hypothesis of about 20 words an utterance and 12% WER, as trn."""
    folder.mkdir(exist_ok=True)
    random_ = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["".join(random_.choices(letters, k=random_.randint(2, 9))) for _ in range(20_000)]
    weights = [1 / (rank + 5) for rank in range(len(vocabulary))]
    said: list[str] = []
    recognised: list[str] = []
    for number in range(num_utterances):
        words = random_.choices(vocabulary, weights, k=random_.randint(5, 35))
        found: list[str] = []
        for word in words:
            draw = random_.random()
            if draw >= 0.03:
                found.append(random_.choice(vocabulary) if draw < 0.1 else word)
            if draw > 0.98:
                found.append(random_.choice(vocabulary))
        for lines, text in ((said, words), (recognised, found)):
            lines.append(f"{' '.join(text)} (spk{number % 100:03d}-{number:06d})\n")
    paths = [folder / "ref.trn", folder / "hyp.trn"]
    for path, lines in zip(paths, (said, recognised), strict=True):
        path.write_text("".join(lines), encoding="utf-8")
    return [str(path) for path in paths]
