"""CMU AN4 (the census task): spelled names, addresses, dates and commands, 16 kHz."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from asr import audio
from asr.data.archives import locate, unpacked_archive
from asr.data.feature_files import read_features
from asr.data.manifest import write_manifest
from asr.errors import ConfigError, DataError
from asr.types import Utterance

FEATURES, WAVEFORMS = "an4_feat.tar.gz", "an4_sphere.tar.gz"
URL = "http://www.speech.cs.cmu.edu/databases/an4/"
FRAME_SHIFT = 0.01  # seconds, of the .mfc files
# Eight of the 74 training speakers, four women and four men, are held out for dev.
DEV_SPEAKERS = frozenset({"fbbh", "fejs", "fkai", "fplp", "mblb", "mjda", "mkem", "mtos"})


def prepare(
    output_dir: Path,
    *,
    archive: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
    note: Callable[[str], object] | None = None,
    kind: str = "features",
) -> None:
    """Write ``{train,dev,test}.jsonl`` under `output_dir`.

    Parameters
    ----------
    archive : Path, optional
        A local copy of ``an4_feat.tar.gz`` (Sphinx MFCC files) or ``an4_sphere.tar.gz`` (waveforms), or the
        folder ``an4`` that came out of it; which of the two it is shows inside. Downloaded if there is none.
    progress : callable, optional
        Called with the bytes downloaded and the bytes in all.
    note : callable, optional
        Told of a download, its size and its interruptions.
    kind : {"features", "waveforms"}
        Which archive to look for where none is given.

    Raises
    ------
    ConfigError, DataError
    """
    if kind not in ("features", "waveforms"):
        raise ConfigError(f"kind: {kind!r} is neither features nor waveforms")
    name = FEATURES if kind == "features" else WAVEFORMS
    folder = unpacked_archive(
        [name], output_dir, archive=archive, urls=[URL + name], progress=progress, note=note
    )
    corpus = locate(folder, "an4/etc", archive).parent
    train = list(_read_split(corpus, "train"))
    splits = {
        "train": [u for u in train if u.speaker not in DEV_SPEAKERS],
        "dev": [u for u in train if u.speaker in DEV_SPEAKERS],
        "test": list(_read_split(corpus, "test")),
    }
    for split, utterances in splits.items():
        write_manifest(output_dir / f"{split}.jsonl", utterances)


def _read_split(corpus: Path, split: str) -> Iterator[Utterance]:
    """Yield the utterances of the corpus's own train or test list."""
    etc = corpus / "etc"
    try:
        file_ids = (etc / f"an4_{split}.fileids").read_text().split()
        lines = (etc / f"an4_{split}.transcription").read_text().splitlines()
    except OSError as error:
        raise DataError(
            f"{error.filename}: {error.strerror}; the archive is not whole, fetch it again"
        ) from error
    texts = {}
    for line in filter(str.strip, lines):
        words, _, name = line.rpartition("(")
        texts[name.rstrip(") ")] = " ".join(w for w in words.split() if w not in ("<s>", "</s>", "<sil>"))
    for file_id in file_ids:
        name = Path(file_id).name
        speaker = Path(file_id).parent.name
        features = corpus / "feat" / f"{file_id}.mfc"
        waveform = corpus / "wav" / f"{file_id}.sph"
        if name not in texts or not (features.exists() or waveform.exists()):
            raise DataError(f"{etc}: {file_id} has no transcript or no file; fetch the archive again")
        if features.exists():
            yield Utterance(
                id=name,
                duration=round(len(read_features(str(features))) * FRAME_SHIFT, 3),
                text=texts[name],
                features_filepath=str(features.absolute()),
                speaker=speaker,
                lang="en",
            )
        else:
            yield Utterance(
                id=name,
                duration=audio.info(waveform).duration,
                text=texts[name],
                audio_filepath=str(waveform.absolute()),
                speaker=speaker,
                lang="en",
            )
