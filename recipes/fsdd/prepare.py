"""Free Spoken Digit Dataset: single digits, six speakers, 8 kHz; and strings joined from them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np

from asr import audio
from asr.augment.noise import Color, generated_noise
from asr.data import espeak
from asr.data.archives import unpacked_archive
from asr.data.manifest import read_manifest, write_manifest
from asr.errors import ConfigError, DataError
from asr.types import Utterance

ARCHIVE = "free-spoken-digit-dataset-1.0.10.tar.gz"
URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
# The corpus's own split: recordings 0-4 of every digit and speaker are the test set.
TEST_INDICES = range(5)
DEV_INDICES = range(5, 10)

SAMPLE_RATE = 8000
# Strings joined of each split, and the seeds that they are drawn with: dev and test take other recordings.
NUM_STRINGS = {"train": 1000, "dev": 150, "test": 150}
SEEDS = {"train": 1, "dev": 0, "test": 0}
# Voices of espeak-ng that turn vowels into others, or whisper, or creak.
UNLIKE_PEOPLE = frozenset({"kaukovalta", "shelby", "travis", "whisper", "whisperf", "croak"})
# The English digits, zero to nine, as speakers of other languages say them: respelled so that espeak-ng's
# voice of the language reads them with its own sounds.
FOREIGN = {
    "af": "ziro wan toe srie for faaif siks sewen eit naain",
    "cs": "zírou uan tú srí for fajv siks seven ejt najn",
    "da": "siro wan tu srí får fajv siks seven ejt najn",
    "de": "siro wann tu srie for faif ßicks sewen äit nain",
    "el": "ζίροου ουάν του θρι φορ φάιβ σιξ σέβεν έιτ νάιν",
    "es": "siro uan tu sri for faib sics seben eit nain",
    "es-419": "siro uan tu tri for faib sics seben eit nain",
    "fi": "siirou uan tuu srii foor faiv siks seven eit nain",
    "fr": "ziro ouanne tou sri for faïve sixe sèvenne éïte naïne",
    "fr-be": "ziro ouanne tou sri for faïve sixe sèvenne éïte naïne",
    "hi": "ज़ीरो वन टू थ्री फ़ोर फ़ाइव सिक्स सेवन एट नाइन",
    "hr": "ziro uan tu sri for fajv siks seven ejt najn",
    "hu": "zírou uan tú szrí fór fájv sziksz szeven éjt nájn",
    "id": "ziro wan tu tri for faif siks seven eit nain",
    "it": "ziro uan tu tri for faiv sics seven eit nain",
    "nl": "ziero wan toe srie for faif siks zeven eet nain",
    "pl": "ziroł łan tu sri for fajf siks sewen ejt najn",
    "pt": "zirou uane tu tri fór faive sicse sévene eite naine",
    "pt-br": "zirou uã tu tri fór faive sics séven eite naine",
    "ro": "ziro uan tu tri for faiv sics seven eit nain",
    "ru": "зиро уан ту сри фор файв сикс сэвэн эйт найн",
    "sv": "siro oann to tri får fajv sicks seven ejt najn",
    "tr": "ziro van tu tri for fayv siks seven eyt nayn",
}
# Seconds; a digit that espeak-ng speaks in less is spoken again at the slowest rate.
SHORTEST = 0.22
# A word begins and ends where the level is this far below its recording's peak, decibels.
EDGE_DB = -30.0
# Standard deviation of the noise in the pauses, where full scale is 1.
PAUSE_NOISE = 3e-4


def prepare(
    output_dir: Path,
    *,
    archive: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
    note: Callable[[str], object] | None = None,
    speaker: str = "official",
    joined: bool = False,
    interludes: int = 0,
    synthetic: int = 0,
    voices: str | None = None,
) -> None:
    """Write ``<speaker>/{train,dev,test}.jsonl`` under `output_dir`, and if asked the same of joined digits.

    Parameters
    ----------
    archive : Path, optional
        A local copy of the release archive; downloaded if there is none.
    progress : callable, optional
        Called with what is done and what there is in all: bytes of a download, then strings joined.
    note : callable, optional
        Told of a download, its size and its interruptions.
    speaker : str
        "official" for the corpus's own split; or a speaker to leave out, whose recordings then are
        the test set while train and dev come from the other five.
    joined : bool
        Also write ``<speaker>/joined/{train,dev,test}.jsonl`` and their audio: strings of 3 to 6 digits in
        one voice, joined from the recordings of that split. The field ``words`` has each word's true times,
        ``{"word": ..., "start": ..., "end": ...}`` in seconds. The same on every run; a folder that is
        there is left as it is.
    interludes : int
        With `joined`, also write ``<speaker>/interludes/train.jsonl``: the joined strings of train and so
        many more, of 1 to 5 digits, with up to 2.5 s of noise or notes in two of five pauses.
    synthetic : int
        Add so many single digits to train that espeak-ng speaks in many voices, half of them with accents of
        English, half as speakers of other languages would, 8 kHz, in ``synthetic/`` under `output_dir`: a new
        person's voice is then less of a surprise. The same on every run; of the files that are there, none is
        made again.
    voices : str, optional
        A manifest of more digits for train: `voices.py` makes one of AN4.

    Raises
    ------
    AudioError, ConfigError, DataError
    """
    for name, count in (("synthetic", synthetic), ("interludes", interludes)):
        if count < 0:
            raise ConfigError(f"{name}={count}: give 0 or more recordings")
    if interludes and not joined:
        raise ConfigError(f"interludes={interludes}: belong to joined strings; say joined=true too")
    if speaker != "official" and speaker not in SPEAKERS:
        raise ConfigError(f"speaker: {speaker!r} is none of official, {', '.join(SPEAKERS)}")
    folder = unpacked_archive(
        [ARCHIVE], output_dir, archive=archive, urls=[URL], progress=progress, note=note
    )
    files = sorted(folder.rglob("recordings/*.wav"))
    if len(files) != 3000:
        raise DataError(
            f"{folder}: expected 3000 recordings, found {len(files)}; delete it and fetch {ARCHIVE} again"
        )
    splits: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for file in files:
        digit, name, index = file.stem.split("_")
        utterance = Utterance(
            id=f"{name}-{digit}-{index}",
            duration=audio.info(file).duration,
            text=DIGITS[int(digit)],
            audio_filepath=str(file.absolute()),
            speaker=name,
            lang="en",
        )
        splits[_split(name, int(index), speaker)].append(utterance)
    spoken = _speak(output_dir / "synthetic", synthetic, progress or (lambda done, total: None))
    more = [] if voices is None else read_manifest(Path(voices))
    for split, utterances in splits.items():
        added = [*spoken, *more] if split == "train" else []
        write_manifest(output_dir / speaker / f"{split}.jsonl", [*utterances, *added])
    if joined:
        folder = output_dir / speaker / "joined"
        _write_joined(folder, splits, progress or (lambda done, total: None))
        if interludes:
            strings = read_manifest(folder / "train.jsonl")
            added = _write_interludes(output_dir / speaker / "interludes", splits["train"], interludes)
            write_manifest(output_dir / speaker / "interludes" / "train.jsonl", [*strings, *added])


def _split(name: str, index: int, left_out: str) -> str:
    if left_out == "official":
        return "test" if index in TEST_INDICES else "dev" if index in DEV_INDICES else "train"
    return "test" if name == left_out else "dev" if index in DEV_INDICES else "train"


def _speak(folder: Path, count: int, progress: Callable[[int, int], object]) -> list[Utterance]:
    """Return utterances of one digit each in espeak-ng's voices, their files made where there are none."""
    if not count:
        return []
    variants = [v for group in espeak.VARIANTS.values() for v in group if v not in UNLIKE_PEOPLE]
    utterances = []
    with espeak.open_espeak([*espeak.ACCENTS, *FOREIGN]) as voices:
        for number in range(count):
            rng = np.random.default_rng([4, number])
            digit, variant = number % 10, variants[number // 10 % len(variants)]
            accent = str(rng.choice(list(FOREIGN) if rng.random() < 0.5 else espeak.ACCENTS))
            spelling = FOREIGN[accent].split()[digit] if accent in FOREIGN else DIGITS[digit]
            path = folder / f"{number:05d}-{accent}-{variant.replace(' ', '_')}.wav"
            if not path.exists():
                manner = {
                    "rate": int(rng.integers(110, 260)),
                    "pitch": int(rng.integers(10, 90)),
                    "pitch_range": int(rng.integers(10, 90)),
                    "seed": int(rng.integers(2**31)),
                }
                samples = voices.speak(spelling, accent=accent, variant=variant, **manner)
                if len(samples) < SHORTEST * espeak.SAMPLE_RATE:
                    samples = voices.speak(spelling, accent=accent, variant=variant, **manner | {"rate": 110})
                samples = (0.3 * samples / np.abs(samples).max()).astype(np.float32)
                samples = audio.Resampler(espeak.SAMPLE_RATE, SAMPLE_RATE).push(samples, final=True)
                _save(path, samples)
            utterances.append(
                Utterance(
                    id=f"synthetic-{number:05d}",
                    duration=audio.info(path).duration,
                    text=DIGITS[digit],
                    audio_filepath=str(path.absolute()),
                    speaker=f"{accent}+{variant}",
                    lang="en",
                )
            )
            progress(number + 1, count)
    return utterances


def _write_joined(
    folder: Path, splits: Mapping[str, Sequence[Utterance]], progress: Callable[[int, int], object]
) -> None:
    """Write strings of every split with their manifests; the folder appears when all is there."""
    if folder.exists():
        return
    temporary = Path(tempfile.mkdtemp(prefix=".joined.", dir=folder.parent))
    done, total = 0, sum(NUM_STRINGS.values())
    try:
        for split, recordings in splits.items():
            (temporary / split).mkdir()
            utterances = []
            rng = np.random.default_rng(SEEDS[split])
            for number, (samples, string) in enumerate(_join(recordings, NUM_STRINGS[split], rng)):
                path = temporary / split / f"{number:04d}.wav"
                audio.save(path, samples, SAMPLE_RATE)
                utterances.append(replace(string, id=f"{split}{number:04d}", audio_filepath=str(path)))
                done += 1
                progress(done, total)
            write_manifest(temporary / f"{split}.jsonl", utterances)
        temporary.chmod(0o755)
        os.replace(temporary, folder)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written ({error.strerror}); choose a folder that you can write to"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _join(
    recordings: Sequence[Utterance], count: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, Utterance]]:
    """Draw `count` strings; yield the samples (N,), float32, of each and its utterance without id and file.

    A string has 3 to 6 digits of one speaker, drawn with replacement, 0.1 to 0.4 s before the first and 0.05
    to 0.5 s after each.
    """
    by_speaker = _by_speaker(recordings)
    read = cache(_read)  # each recording is drawn several times

    def pause(shortest: float, longest: float) -> np.ndarray:
        num_samples = int(rng.uniform(shortest, longest) * SAMPLE_RATE)
        return (PAUSE_NOISE * rng.standard_normal(num_samples)).astype(np.float32)

    for _ in range(count):
        speaker = str(rng.choice(sorted(by_speaker)))
        num_words = int(rng.integers(3, 7))
        parts = [pause(0.1, 0.4)]
        position = len(parts[0])
        words = []
        for _ in range(num_words):
            recording = by_speaker[speaker][int(rng.integers(len(by_speaker[speaker])))]
            samples, start, end = read(recording.audio_filepath)
            times = {"start": (position + start) / SAMPLE_RATE, "end": (position + end) / SAMPLE_RATE}
            words.append({"word": recording.text, **times})
            parts += [samples, pause(0.05, 0.5)]
            position += len(parts[-2]) + len(parts[-1])
        string = Utterance(
            id="",
            duration=position / SAMPLE_RATE,
            text=" ".join(str(word["word"]) for word in words),
            speaker=speaker,
            lang="en",
            extra={"words": words},
        )
        yield np.concatenate(parts), string


def _by_speaker(recordings: Sequence[Utterance]) -> dict[str, list[Utterance]]:
    found: dict[str, list[Utterance]] = {}
    for recording in recordings:
        found.setdefault(str(recording.speaker), []).append(recording)
    return found


def _write_interludes(folder: Path, recordings: Sequence[Utterance], count: int) -> list[Utterance]:
    """Write strings with noise or notes in some pauses; return them. The same on every run."""
    rng = np.random.default_rng(5)
    kinds = (*get_args(Color), "notes", "notes")  # as many notes as noise
    by_speaker = _by_speaker(recordings)
    read = cache(_read)

    def pause(floor: float) -> Iterator[np.ndarray]:
        if rng.random() < 0.4:
            num_samples = int(rng.uniform(0.3, 2.5) * SAMPLE_RATE)
            sound = generated_noise(num_samples, SAMPLE_RATE, str(rng.choice(kinds)), rng).numpy()
            level = 10 ** (rng.uniform(-50, -14) / 20)
            yield np.clip(level * sound / max(float(np.sqrt(np.mean(sound**2))), 1e-6), -1, 1)
        if rng.random() < 0.8:
            quiet = rng.standard_normal(int(rng.uniform(0.05, 0.6) * SAMPLE_RATE))
            yield (floor * quiet).astype(np.float32)

    strings = []
    for number in range(count):
        speaker = str(rng.choice(sorted(by_speaker)))
        floor = 10 ** rng.uniform(-4.5, -3)  # of silence, which is quieter in one recording than in another
        parts, words = [*pause(floor)], []
        for _ in range(int(rng.integers(1, 6))):
            recording = by_speaker[speaker][int(rng.integers(len(by_speaker[speaker])))]
            words.append(str(recording.text))
            parts += [read(recording.audio_filepath)[0], *pause(floor)]
        samples, path = np.concatenate(parts), folder / f"{number:05d}.wav"
        _save(path, samples)
        strings.append(
            Utterance(
                id=f"interludes{number:05d}",
                duration=len(samples) / SAMPLE_RATE,
                text=" ".join(words),
                audio_filepath=str(path.absolute()),
                speaker=speaker,
                lang="en",
            )
        )
    return strings


def _save(path: Path, samples: np.ndarray) -> None:
    """Write a file so that it is whole whenever it is there."""
    temporary = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.save(temporary, samples, SAMPLE_RATE)
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(
            f"{path.parent}: cannot be written ({error.strerror}); choose a folder that you can write to"
        ) from error


def _read(path: str) -> tuple[np.ndarray, int, int]:
    """Return a recording's samples (N,), float32, and between which samples its word lies."""
    samples = audio.load(path, sample_rate=SAMPLE_RATE).samples
    window, hop = SAMPLE_RATE // 100, SAMPLE_RATE // 200
    windows = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    level = np.sqrt((windows**2).mean(axis=1) + 1e-12)
    (loud,) = np.nonzero(level > level.max() * 10 ** (EDGE_DB / 20))
    return samples, int(loud[0]) * hop, min(len(samples), int(loud[-1]) * hop + window)
