"""Long recordings with a known truth: memory, speed, accuracy, and what moving the windows changes."""

from __future__ import annotations

import argparse
import bisect
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from asr.recognizer import Recognizer

# An entry of "words" in the JSON output.
TimedWord = dict[str, Any]

_EPILOG = """\
A recording is made of the manifest's utterances in random order, with silences of 0.6 to 2.5 s between
them, and now and then some seconds of noise or of notes. `asr transcribe` runs on it in a process of its own.
WER is that of all its words; "one by one" is that of the same utterances recognised each on its own. "lost"
is the difference with its 95% interval (paired bootstrap, an utterance drawn with all its repetitions), and
how many utterances have more errors and how many fewer.

--shift S also transcribes the recording from S seconds on, and counts the words that differ after that.

examples:
  python scripts/bench.py long runs/fsdd/model.asr data/fsdd/official/test.jsonl --minutes 20 60 180
  python scripts/bench.py long joined.asr data/fsdd/official/joined/test.jsonl --gaps 0 0 --noise 0 --shift 1
"""


@dataclass(frozen=True)
class Spoken:
    """An utterance: its samples, float32 (N,), and its text."""

    samples: np.ndarray
    text: str


@dataclass(frozen=True)
class Placed:
    """An utterance in the recording: its number, and when it begins and ends, seconds."""

    index: int
    start: float
    end: float


def long_recording(
    utterances: Sequence[Spoken],
    sample_rate: int,
    seconds: float,
    *,
    gaps: tuple[float, float] = (0.6, 2.5),
    noise: float = 0.02,
    floor: float = 1e-4,
    seed: int = 0,
) -> Iterator[tuple[np.ndarray, Placed | None]]:
    """Yield a recording piece by piece, with what is said in each.

    Parameters
    ----------
    utterances : sequence of Spoken
        Each comes once before any comes again.
    sample_rate : int
        Hz.
    seconds : float
        The recording ends with the first utterance that reaches this length.
    gaps : tuple of two float
        The shortest and the longest silence before an utterance, seconds.
    noise : float
        Share of the utterances with noise or notes before them, as much noise as notes.
    floor : float
        Standard deviation of the noise in silence.
    seed : int

    Yields
    ------
    samples : np.ndarray, float32, (N,)
    placed : Placed or None
        None for what is no speech.
    """
    rng = np.random.default_rng(seed)
    order: list[int] = []
    position = 0
    while position < seconds * sample_rate:
        if not order:
            order = rng.permutation(len(utterances)).tolist()
        pieces = [_noise(rng, rng.uniform(*gaps), floor, sample_rate)]
        if rng.uniform() < noise:
            length = rng.uniform(2, 8)
            loud = rng.uniform() < 0.5
            pieces.append(
                _noise(rng, length, rng.uniform(0.005, 0.03), sample_rate)
                if loud
                else _notes(rng, length, sample_rate)
            )
            pieces.append(_noise(rng, rng.uniform(*gaps), floor, sample_rate))
        for piece in pieces:
            position += len(piece)
            yield piece, None
        index = order.pop()
        samples = utterances[index].samples
        start, position = position, position + len(samples)
        yield samples, Placed(index, start / sample_rate, position / sample_rate)


def _noise(rng: np.random.Generator, seconds: float, level: float, sample_rate: int) -> np.ndarray:
    return (level * rng.standard_normal(round(seconds * sample_rate))).astype(np.float32)


def _notes(rng: np.random.Generator, seconds: float, sample_rate: int) -> np.ndarray:
    """Return notes of 0.3 s from two octaves above 220 Hz, three harmonics each, dying away."""
    length = round(0.3 * sample_rate)
    time = np.arange(length) / sample_rate
    tones = []
    for _ in range(max(round(seconds / 0.3), 1)):
        pitch = 220 * 2 ** (rng.integers(0, 24) / 12)
        tone = sum(np.sin(2 * np.pi * pitch * h * time) / h**2 for h in (1, 2, 3))
        tones.append(0.15 * np.exp(-4 * time) * tone)
    return np.concatenate(tones).astype(np.float32)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``bench.py long``."""
    parser = subparsers.add_parser(
        "long",
        help="long recordings: memory, speed, accuracy",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="M.asr")
    parser.add_argument("manifest", type=Path, help="utterances with audio and text")
    parser.add_argument("--minutes", type=float, nargs="+", default=[20.0], metavar="M")
    parser.add_argument("--gaps", type=float, nargs=2, default=(0.6, 2.5), metavar="S")
    parser.add_argument("--noise", type=float, default=0.02, metavar="SHARE")
    parser.add_argument("--floor", type=float, default=1e-4, help="level of the silences (full scale: 1)")
    parser.add_argument("--shift", type=float, nargs="*", default=[], metavar="S")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--options", type=shlex.split, default=[], help="of asr transcribe, in quotes")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print a table."""
    from asr.model_file import load_model
    from asr.scoring.wer import score

    recognizer = load_model(args.model, "cpu")
    utterances = _read(recognizer, args.manifest)
    alone = [_recognize(recognizer, spoken) for spoken in utterances]
    print("minutes  peak MB  x real time    WER %  one by one %    words  lost")
    for minutes in args.minutes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "long.wav"
            placed = _write(path, utterances, recognizer.sample_rate, minutes * 60, args)
            words, peak, seconds = _transcribe(path, args.model, args.options)
            references = [utterances[p.index].text for p in placed]
            wer = score([" ".join(references)], [_text(words)], alternatives=False).wer
            own = [alone[p.index] for p in placed]
            by_utterance = _by_utterance(words, placed)
            lost = _compare(placed, references, by_utterance, own)
            own_wer = score(references, own, alternatives=False)
            print(
                f"{placed[-1].end / 60:7.1f} {peak:8.0f} {placed[-1].end / seconds:12.0f} {100 * wer:8.2f} "
                f"{100 * own_wer.wer:13.2f} {own_wer.num_words:7d}  {lost}",
                flush=True,
            )
            for shift in args.shift:
                moved, _, _ = _transcribe(path, args.model, [*args.options, "--clip-timestamps", f"{shift}"])
                # What is cut off, and the word that the cut may hit.
                first = shift + 2.0
                whole, rest = (_text(w for w in found if w["start"] >= first) for found in (words, moved))
                change = score([whole], [rest], alternatives=False)
                print(
                    f"moved by {shift:g} s: {100 * change.wer:.3f}% of {change.num_words} words change",
                    flush=True,
                )
    return 0


def _text(words: Iterable[TimedWord]) -> str:
    return " ".join(word["word"] for word in words)


def _by_utterance(words: Sequence[TimedWord], placed: Sequence[Placed]) -> list[str]:
    """Return the words of each utterance, and of what comes before the next."""
    starts = [p.start - 0.1 for p in placed]
    found: list[list[TimedWord]] = [[] for _ in placed]
    for word in words:
        found[max(bisect.bisect(starts, (word["start"] + word["end"]) / 2) - 1, 0)].append(word)
    return [_text(words) for words in found]


def _compare(placed: Sequence[Placed], references: list[str], joined: list[str], own: list[str]) -> str:
    """Return the difference of the error rates in points, its interval, and the utterances that differ."""
    from asr.scoring.bootstrap import clusters
    from asr.scoring.wer import score

    fields = {str(number): {"index": p.index} for number, p in enumerate(placed, 1)}
    long, alone = (score(references, texts, alternatives=False, fields=fields) for texts in (joined, own))
    errors, size = clusters(long, "index").T
    more = errors - clusters(alone, "index")[:, 0]
    # The percentiles of the draws: where few utterances differ, studentised ones are of no use.
    draws = np.random.default_rng(0).multinomial(len(more), np.full(len(more), 1 / len(more)), size=10_000)
    low, high = np.quantile(draws @ more / (draws @ size), (0.025, 0.975))
    return (
        f"{100 * more.sum() / size.sum():+.2f} ({100 * low:+.2f} to {100 * high:+.2f}), "
        f"{np.sum(more > 0)} worse, {np.sum(more < 0)} better of {len(more)}"
    )


def _read(recognizer: Recognizer, manifest: Path) -> list[Spoken]:
    from asr import audio
    from asr.data.manifest import read_manifest

    spoken = []
    for utterance in read_manifest(manifest):
        if utterance.audio_filepath is None:
            raise SystemExit(f"{manifest}: {utterance.id} has no audio")
        sound = audio.load(
            utterance.audio_filepath,
            sample_rate=recognizer.sample_rate,
            offset=utterance.offset,
            duration=utterance.duration,
        )
        spoken.append(Spoken(sound.samples, recognizer.normalizer(utterance.text or "")))
    return spoken


def _recognize(recognizer: Recognizer, spoken: Spoken) -> str:
    return recognizer.recognize_audio([spoken.samples])[0].text


def _write(
    path: Path, utterances: Sequence[Spoken], sample_rate: int, seconds: float, args: argparse.Namespace
) -> list[Placed]:
    """Write a recording as 16-bit WAV; return what is said in it."""
    import wave

    said = []
    pieces = long_recording(
        utterances,
        sample_rate,
        seconds,
        gaps=tuple(args.gaps),
        noise=args.noise,
        floor=args.floor,
        seed=args.seed,
    )
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        for samples, placed in pieces:
            file.writeframes(np.clip(np.rint(samples * 32767), -32768, 32767).astype("<i2").tobytes())
            if placed is not None:
                said.append(placed)
    return said


def _transcribe(path: Path, model: Path, options: Sequence[str]) -> tuple[list[TimedWord], float, float]:
    """Run ``asr transcribe``; return the words with their times, its peak memory in MB and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "asr.cli.main", "transcribe", str(path), "--model", str(model)]
        command += ["-o", folder, "-f", "json", "--verbose", "False", "--device", "cpu"]
        begun = time.monotonic()
        process = subprocess.Popen([*command, *options])
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        if status:
            raise SystemExit(f"asr transcribe failed on {path}")
        content = json.loads((Path(folder) / f"{path.stem}.json").read_text())
    words = [word for segment in content["segments"] for word in segment["words"]]
    return words, usage.ru_maxrss / 1024, seconds
