"""LibriSpeech: read English books, 960 hours for training, 16 kHz."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from asr.data.archives import Archive, find_archive, find_corpus, openslr
from asr.data.librispeech import read_subset
from asr.data.manifest import write_manifest
from asr.errors import ConfigError
from asr.types import Utterance

TRAIN = {
    100: ("train-clean-100",),
    460: ("train-clean-100", "train-clean-360"),
    960: ("train-clean-100", "train-clean-360", "train-other-500"),
}
DEV = ("dev-clean", "dev-other")
TEST = ("test-clean", "test-other")

# Utterances, bytes of the archive, and the publisher's md5sum.txt.
FILES = {
    "dev-clean": (2703, 337926286, "42e2234ba48799c1f50f24a7926300a1"),
    "dev-other": (2864, 314305928, "c8d0bcc9cca99d4f8b62fcc847357931"),
    "test-clean": (2620, 346663984, "32fa31d27d2e1cad72775fee3f4849a9"),
    "test-other": (2939, 328757843, "fb5a50374b501bb3bac4815ee91d3135"),
    "train-clean-100": (28539, 6387309499, "2a93770f6d5c6c964bc36631d331a522"),
    "train-clean-360": (104014, 23049477885, "c0e676e450a7ff2f54aeade5171606fa"),
    "train-other-500": (148688, 30593501606, "d1a0fd59409feb2c614ce4d30c387708"),
}
LM_TEXT = "librispeech-lm-norm.txt.gz"
LM_TEXT_MD5 = "c83c64c726a1aedfe65f80aa311de402"


def prepare(
    output_dir: Path,
    *,
    archive: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
    note: Callable[[str], object] | None = None,
    train: int = 100,
    lm_text: bool = False,
) -> None:
    """Write ``train_<hours>.jsonl``, ``dev.jsonl`` and a manifest for each dev and test set.

    Parameters
    ----------
    archive : Path, optional
        A folder with the archives, or the unpacked folder ``LibriSpeech``. Downloaded if there is none.
    progress : callable, optional
        Called with what is done and what there is in all: bytes, then recordings.
    note : callable, optional
        Told of downloads and of what is left out.
    train : {100, 460, 960}
        Hours of training data.
    lm_text : bool
        Also fetch the text of 14,500 books for language models, ``librispeech-lm-norm.txt.gz``.

    Raises
    ------
    AudioError, ConfigError, DataError
    """
    if train not in TRAIN:
        raise ConfigError(f"train: {train!r} is none of {', '.join(map(str, TRAIN))} hours")
    subsets = [*DEV, *TEST, *TRAIN[train]]
    archives = [
        Archive(
            f"{subset}.tar.gz",
            openslr(12, f"{subset}.tar.gz"),
            f"LibriSpeech/{subset}",
            size=FILES[subset][1],
            md5=FILES[subset][2],
        )
        for subset in subsets
    ]
    folders = find_corpus(archives, output_dir, archive=archive, progress=progress, note=note)
    read: dict[str, list[Utterance]] = {}
    for subset, folder in zip(subsets, folders, strict=True):
        read[subset] = read_subset(folder, progress=progress, note=note)
        if len(read[subset]) != FILES[subset][0] and note is not None:
            note(f"{subset}: {len(read[subset])} of its {FILES[subset][0]} utterances are in {folder}")
    for subset in (*DEV, *TEST):
        write_manifest(output_dir / f"{subset.replace('-', '_')}.jsonl", read[subset])
    write_manifest(output_dir / "dev.jsonl", [u for subset in DEV for u in read[subset]])
    write_manifest(output_dir / f"train_{train}.jsonl", [u for subset in TRAIN[train] for u in read[subset]])
    if lm_text:
        _fetch_lm_text(output_dir, archive, progress, note)


def _fetch_lm_text(
    output_dir: Path,
    archive: Path | None,
    progress: Callable[[int, int], object] | None,
    note: Callable[[str], object] | None,
) -> None:
    """Have the text for language models in `output_dir`, as a link if it is elsewhere."""
    own = archive / LM_TEXT if archive is not None and (archive / LM_TEXT).is_file() else None
    path = find_archive(
        [LM_TEXT],
        output_dir,
        archive=own,
        urls=openslr(11, LM_TEXT),
        md5=LM_TEXT_MD5,
        progress=progress,
        note=note,
    )
    link = output_dir / LM_TEXT
    if path != link and not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to(path.absolute())
