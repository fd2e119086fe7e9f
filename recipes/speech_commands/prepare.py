"""Speech Commands 0.02: single English words of a second, thousands of speakers, 16 kHz."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from asr import audio
from asr.data.archives import unpacked_archive
from asr.data.manifest import write_manifest
from asr.data.preparation import LeftOut, find_folders, read_durations
from asr.errors import ConfigError, DataError
from asr.types import Utterance

ARCHIVE, TEST_ARCHIVE = "speech_commands_v0.02.tar.gz", "speech_commands_test_set_v0.02.tar.gz"
URL = "http://download.tensorflow.org/data/"
SHA256 = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
NOISE = "_background_noise_"
LISTS = {"dev": "validation_list.txt", "test": "testing_list.txt"}
TASKS = (35, 12)
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
# Beside the ten commands of the task of 12 classes: any other word, and none. Both are as many, in
# proportion to the commands' recordings, as in TensorFlow's own example (speech_commands/train.py).
UNKNOWN, SILENCE, SHARE = "unknown", "silence", 0.1
# Which stretch of each noise file is silence for which split.
SILENCE_PARTS = {"train": (0.0, 0.8), "dev": (0.8, 1.0)}
# A speaker is known by a hash. Files of the test archive may carry their word or a second suffix, and silence
# has no speaker.
NAME = re.compile(r"(?:.*_)?(?P<speaker>[0-9a-f]+)_nohash_(?P<number>\d+)(?:\.wav)?")


def prepare(
    output_dir: Path,
    *,
    archive: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
    note: Callable[[str], object] | None = None,
    task: int = 35,
) -> None:
    """Write ``<task>/{train,dev,test}.jsonl`` under `output_dir`, and ``noise.jsonl``.

    Parameters
    ----------
    archive : Path, optional
        A local copy of ``speech_commands_v0.02.tar.gz``, or the folder it was unpacked in; downloaded if
        there is none. The task of 12 classes has a test archive of its own, which is looked for beside
        it first.
    progress : callable, optional
        Called with what is done and what there is in all: bytes of a download, then headers.
    note : callable, optional
        Called with lines that the user should read: what is downloaded and what is left out.
    task : {35, 12}
        All 35 words; or the ten commands, "unknown" for other words and "silence" for background noise.

    Raises
    ------
    AudioError, ConfigError, DataError
    """
    if task not in TASKS:
        raise ConfigError(f"task: {task!r} is neither 35 nor 12")
    folder = unpacked_archive(
        [ARCHIVE],
        output_dir,
        archive=archive,
        urls=[URL + ARCHIVE],
        sha256=SHA256,
        progress=progress,
        note=note,
    )
    corpus = next(find_folders(folder, (*LISTS.values(), NOISE)), None)
    if corpus is None:
        raise DataError(
            f"{folder}: expected Speech Commands, but it has no {', '.join(LISTS.values())} and {NOISE}; "
            f"give --archive {ARCHIVE} or the folder that it was unpacked in"
        )
    left_out = LeftOut()
    splits = _read_splits(corpus, left_out)
    noises = list(_read_noises(corpus / NOISE))
    if task == 12:
        rng = np.random.default_rng(0)
        for split, part in SILENCE_PARTS.items():
            splits[split] = _twelve_classes(splits[split], noises, part, split, rng)
        splits["test"] = list(_read_test_set(output_dir, archive, progress, note))
    for split, utterances in splits.items():
        known = read_durations(utterances, left_out, progress)
        write_manifest(output_dir / str(task) / f"{split}.jsonl", known)
    write_manifest(output_dir / "noise.jsonl", noises)
    left_out.write(output_dir / str(task) / "left_out.tsv", note)


def _read_splits(corpus: Path, left_out: LeftOut) -> dict[str, list[Utterance]]:
    """Return the utterances of all words, which have no durations yet."""
    split_of = {}
    for split, name in LISTS.items():
        for line in (corpus / name).read_text(encoding="utf-8").split():
            split_of[line] = split
    splits: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for folder in sorted(p for p in corpus.iterdir() if p.is_dir() and p.name[0] not in "._"):
        for utterance in _read_word(folder, folder.name):
            name = f"{folder.name}/{Path(utterance.audio_filepath or '').name}"
            splits[split_of.pop(name, "train")].append(utterance)
    for name in split_of:
        left_out.add(corpus / name, "missing", f"it is in {LISTS[split_of[name]]}")
    for split, utterances in splits.items():
        if not utterances:
            raise DataError(
                f"{corpus}: no recordings for {split}; delete the folder and fetch {ARCHIVE} again"
            )
    return splits


def _read_word(folder: Path, text: str) -> Iterator[Utterance]:
    """Yield the recordings of a folder, whose text is the same for all."""
    for path in sorted(folder.glob("[!.]*.wav")):
        name = NAME.fullmatch(path.stem)
        yield Utterance(
            id=f"{folder.name}-{path.name.removesuffix('.wav')}",
            duration=0.0,
            text=text,
            audio_filepath=str(path.absolute()),
            speaker=name["speaker"] if name else None,
            lang="en",
        )


def _read_noises(folder: Path) -> Iterator[Utterance]:
    for path in sorted(folder.glob("[!.]*.wav")):
        yield Utterance(
            id=path.stem, duration=audio.info(path).duration, audio_filepath=str(path.absolute()), lang="zxx"
        )


def _twelve_classes(
    utterances: Iterable[Utterance],
    noises: list[Utterance],
    part: tuple[float, float],
    split: str,
    rng: np.random.Generator,
) -> list[Utterance]:
    """Return the recordings of commands, some of other words, and some seconds of noise."""
    commands = [u for u in utterances if u.text in COMMANDS]
    others = [u for u in utterances if u.text not in COMMANDS]
    count = max(1, round(SHARE * len(commands)))
    chosen = rng.permutation(len(others))[:count]
    silences = []
    for number in range(count):
        noise = noises[int(rng.integers(len(noises)))]
        start, end = (share * noise.duration for share in part)
        offset = round(rng.uniform(start, max(start, end - 1)), 3)
        silence = replace(noise, id=f"{SILENCE}-{split}-{number}", text=SILENCE, offset=offset, duration=1.0)
        silences.append(silence)
    return [*commands, *(replace(others[i], text=UNKNOWN) for i in sorted(chosen)), *silences]


def _read_test_set(
    output_dir: Path,
    archive: Path | None,
    progress: Callable[[int, int], object] | None,
    note: Callable[[str], object] | None,
) -> Iterator[Utterance]:
    """Yield the test set of the task of 12 classes, from its own archive."""
    own = None
    if archive is not None:
        names = (TEST_ARCHIVE, TEST_ARCHIVE.removesuffix(".tar.gz"))
        places = [place / name for place in (archive, archive.absolute().parent) for name in names]
        own = next((path for path in places if path.exists()), None)
    folder = unpacked_archive(
        [TEST_ARCHIVE], output_dir, archive=own, urls=[URL + TEST_ARCHIVE], progress=progress, note=note
    )
    texts = {word: word for word in COMMANDS} | {f"_{word}_": word for word in (UNKNOWN, SILENCE)}
    corpus = next(find_folders(folder, tuple(texts)), None)
    if corpus is None:
        raise DataError(
            f"{folder}: expected the folders {', '.join(texts)}; delete it and fetch {TEST_ARCHIVE} again"
        )
    for name, text in texts.items():
        yield from _read_word(corpus / name, text)
