"""Free Spoken Digit Dataset: single digits, six speakers, 8 kHz."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from asr import audio
from asr.data.archives import unpacked_archive
from asr.data.manifest import write_manifest
from asr.errors import ConfigError, DataError
from asr.types import Utterance

ARCHIVE = "free-spoken-digit-dataset-1.0.10.tar.gz"
URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
# The corpus's own split: recordings 0-4 of every digit and speaker are the test set.
TEST_INDICES = range(5)
DEV_INDICES = range(5, 10)


def prepare(
    output_dir: Path,
    *,
    archive: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
    speaker: str = "official",
) -> None:
    """Write ``<speaker>/{train,dev,test}.jsonl`` under `output_dir`.

    Parameters
    ----------
    archive : Path, optional
        A local copy of the release archive; downloaded if there is none.
    progress : callable, optional
        Called with the bytes downloaded and the bytes in all.
    speaker : str
        "official" for the corpus's own split; or a speaker to leave out, whose recordings then are
        the test set while train and dev come from the other five.

    Raises
    ------
    ConfigError, DataError
    """
    if speaker != "official" and speaker not in SPEAKERS:
        raise ConfigError(f"speaker: {speaker!r} is none of official, {', '.join(SPEAKERS)}")
    folder = unpacked_archive([ARCHIVE], output_dir, archive=archive, urls=[URL], progress=progress)
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
    for split, utterances in splits.items():
        write_manifest(output_dir / speaker / f"{split}.jsonl", utterances)


def _split(name: str, index: int, left_out: str) -> str:
    if left_out == "official":
        return "test" if index in TEST_INDICES else "dev" if index in DEV_INDICES else "train"
    return "test" if name == left_out else "dev" if index in DEV_INDICES else "train"
