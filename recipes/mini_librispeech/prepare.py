"""Mini LibriSpeech: five hours of LibriSpeech for training and two for a test, 16 kHz."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from asr.data.archives import Archive, find_corpus, openslr
from asr.data.librispeech import read_subset
from asr.data.manifest import write_manifest

# Bytes, and the publisher's md5sum.txt.
FILES = {
    "train-clean-5": (332954390, "5df7d4e78065366204ca6845bb08f490"),
    "dev-clean-2": (126046265, "6d7ab67ac6a1d2c993d050e16d61080d"),
}
# Of the training speakers, in the order of their numbers, every ninth is held out for dev.
DEV_EVERY = 9


def prepare(
    output_dir: Path,
    *,
    archive: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
    note: Callable[[str], object] | None = None,
) -> None:
    """Write ``{train,dev,dev_clean_2}.jsonl`` under `output_dir`.

    Parameters
    ----------
    archive : Path, optional
        A folder with the two archives, or the folder ``LibriSpeech`` that they unpack to. Downloaded if
        there is none.
    progress : callable, optional
        Called with what is done and what there is in all: bytes, then recordings.
    note : callable, optional
        Told of downloads and of what is left out.

    Raises
    ------
    AudioError, DataError
    """
    archives = [
        Archive(f"{name}.tar.gz", openslr(31, f"{name}.tar.gz"), f"LibriSpeech/{name}", size=size, md5=md5)
        for name, (size, md5) in FILES.items()
    ]
    folders = find_corpus(archives, output_dir, archive=archive, progress=progress, note=note)
    train, test = (read_subset(folder, progress=progress, note=note) for folder in folders)
    speakers = sorted({str(u.speaker) for u in train}, key=int)
    held_out = set(speakers[DEV_EVERY - 1 :: DEV_EVERY])
    write_manifest(output_dir / "train.jsonl", [u for u in train if u.speaker not in held_out])
    write_manifest(output_dir / "dev.jsonl", [u for u in train if u.speaker in held_out])
    write_manifest(output_dir / "dev_clean_2.jsonl", test)
