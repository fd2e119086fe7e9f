"""Yes and no in Hebrew: 60 recordings of eight words by one man, 8 kHz (OpenSLR 1)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from asr.data.archives import openslr, unpacked_archive
from asr.data.manifest import write_manifest
from asr.data.preparation import LeftOut, read_durations
from asr.errors import ConfigError, DataError
from asr.types import Utterance

ARCHIVE = "waves_yesno.tar.gz"
SHA256 = "c3f49e0cca421f96b75b41640749167b52118f232498667ca7a5f9416aef8e73"
WORDS = {"0": "no", "1": "yes"}
NAME = re.compile(r"[01](_[01]){7}")  # what is said, word by word
NUM_RECORDINGS = 60
NUM_KALDI_TRAIN = 31  # the first half of a list that has two README files at its end
DEV_EVERY = 6  # every sixth of the training recordings


def prepare(
    output_dir: Path,
    *,
    archive: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
    note: Callable[[str], object] | None = None,
    split: str = "alternate",
) -> None:
    """Write ``<split>/{train,dev,test}.jsonl`` under `output_dir`.

    Parameters
    ----------
    archive : Path, optional
        A local copy of ``waves_yesno.tar.gz``, or the folder it unpacks to; downloaded if there is none.
    progress : callable, optional
        Called with what is done and what there is in all: bytes of a download, then recordings.
    note : callable, optional
        Called with lines that the user should read: what is downloaded and what is left out.
    split : {"alternate", "halves"}
        "alternate", as in icefall: of the sorted recordings every second one is for the test (30); or
        "halves", as in Kaldi: the last 29 are. Every sixth of the others is for dev.

    Raises
    ------
    ConfigError, DataError
    """
    if split not in ("alternate", "halves"):
        raise ConfigError(f"split: {split!r} is neither alternate nor halves")
    folder = unpacked_archive(
        [ARCHIVE],
        output_dir,
        archive=archive,
        urls=openslr(1, ARCHIVE),
        sha256=SHA256,
        progress=progress,
        note=note,
    )
    files = sorted((p for p in folder.rglob("*.wav") if NAME.fullmatch(p.stem)), key=lambda p: p.stem)
    if len(files) != NUM_RECORDINGS:
        raise DataError(
            f"{folder}: expected {NUM_RECORDINGS} recordings named as 0_1_0_0_1_1_0_1.wav, found "
            f"{len(files)}; give --archive {ARCHIVE} or the folder that it unpacks to"
        )
    left_out = LeftOut()
    utterances = read_durations([_utterance(file) for file in files], left_out, progress)
    test = utterances[1::2] if split == "alternate" else utterances[NUM_KALDI_TRAIN:]
    rest = utterances[::2] if split == "alternate" else utterances[:NUM_KALDI_TRAIN]
    dev = rest[DEV_EVERY - 1 :: DEV_EVERY]
    train = [utterance for utterance in rest if utterance not in dev]
    for name, chosen in (("train", train), ("dev", dev), ("test", test)):
        write_manifest(output_dir / split / f"{name}.jsonl", chosen)
    left_out.write(output_dir / split / "left_out.tsv", note)


def _utterance(file: Path) -> Utterance:
    return Utterance(
        id=file.stem,
        duration=0.0,
        text=" ".join(WORDS[word] for word in file.stem.split("_")),
        audio_filepath=str(file.absolute()),
        speaker="anonymous",
        lang="he",
    )
