"""LJSpeech: one woman reads seven books, 24 hours, 22.05 kHz."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from asr.data.archives import Archive, find_corpus
from asr.data.headers import durations
from asr.data.manifest import write_manifest
from asr.errors import ConfigError, DataError
from asr.types import Utterance

ARCHIVE = Archive(
    "LJSpeech-1.1.tar.bz2",
    ("https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",),
    "LJSpeech-1.1/metadata.csv",
    size=2748572632,
    sha256="be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
)
NUM_CLIPS = 13100


def prepare(
    output_dir: Path,
    *,
    archive: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
    note: Callable[[str], object] | None = None,
    num_dev: int = 250,
    num_test: int = 250,
) -> None:
    """Write ``{train,dev,test}.jsonl`` under `output_dir`.

    Parameters
    ----------
    archive : Path, optional
        The archive, or the folder ``LJSpeech-1.1`` that it unpacks to. Downloaded if there is none.
    progress : callable, optional
        Called with what is done and what there is in all: bytes, then clips.
    note : callable, optional
        Told of downloads and of what is left out.
    num_dev, num_test : int
        Test is the last `num_test` clips in the order of their names, dev the `num_dev` before them.

    Raises
    ------
    AudioError, ConfigError, DataError
    """
    for option, count in (("num_dev", num_dev), ("num_test", num_test)):
        if count < 1:
            raise ConfigError(f"{option}: {count} clips; give 1 or more")
    (metadata,) = find_corpus([ARCHIVE], output_dir, archive=archive, progress=progress, note=note)
    clips = _read_metadata(metadata, note)
    num_train = len(clips) - num_dev - num_test
    if num_train < 1:
        raise DataError(
            f"{metadata}: {len(clips)} clips are too few for num_dev={num_dev} num_test={num_test}"
        )
    if len(clips) != NUM_CLIPS and note is not None:
        note(f"{len(clips)} of the corpus's {NUM_CLIPS} clips are in {metadata.parent}")
    paths = [metadata.parent / "wavs" / f"{name}.wav" for name in clips]
    utterances = [
        Utterance(
            id=name,
            duration=seconds,
            text=text,
            audio_filepath=str(path.absolute()),
            speaker="LJ",
            lang="en",
        )
        for (name, text), path, seconds in zip(
            clips.items(), paths, durations(paths, progress=progress), strict=True
        )
    ]
    write_manifest(output_dir / "train.jsonl", utterances[:num_train])
    write_manifest(output_dir / "dev.jsonl", utterances[num_train : num_train + num_dev])
    write_manifest(output_dir / "test.jsonl", utterances[num_train + num_dev :])


def _read_metadata(path: Path, note: Callable[[str], object] | None) -> dict[str, str]:
    """Read ``name|text|text with numbers and abbreviations written out``; return texts by name, in order."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); unpack the archive again") from error
    clips = {}
    wordless = []
    for number, line in enumerate(lines, start=1):
        name, *texts = line.split("|")
        if len(texts) != 2:
            raise DataError(f"{path}:{number}: not 'name|text|normalised text'; unpack the archive again")
        if texts[1].strip():
            clips[name] = texts[1].strip()
        else:
            wordless.append(name)
    if wordless and note is not None:
        note(f"{len(wordless)} clips without text left out, the first {wordless[0]}")
    return dict(sorted(clips.items()))
