"""CMU AN4 (the census task): spelled names, addresses, dates and commands, 16 kHz."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from asr import audio
from asr.augment.noise import pause
from asr.data.archives import locate, unpacked_archive
from asr.data.feature_files import read_features
from asr.data.manifest import write_manifest
from asr.errors import ConfigError, DataError
from asr.features.extractors import SphinxMfcc
from asr.files import atomic_write, make_folder
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
    interludes: int = 0,
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
    interludes : int
        Also write ``interludes/train.jsonl``: the utterances of train and so many strings of 1 to 3 of them
        in one voice, the silence at their ends cut short at times, with pauses between and around them
        (`asr.augment.noise.pause`). They are cepstra of the front end `sphinx_mfcc`. The same on every run.

    Raises
    ------
    ConfigError, DataError
    """
    if interludes < 0:
        raise ConfigError(f"interludes={interludes}: give 0 or more recordings")
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
    if interludes:
        strings = _write_interludes(output_dir / "interludes", splits["train"], interludes)
        write_manifest(output_dir / "interludes" / "train.jsonl", [*splits["train"], *strings])


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


def _write_interludes(folder: Path, utterances: Sequence[Utterance], count: int) -> list[Utterance]:
    """Write the cepstra of strings with pauses; return them."""
    make_folder(folder, "data.dir")
    rng = np.random.default_rng(5)
    by_speaker: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        by_speaker.setdefault(str(utterance.speaker), []).append(utterance)
    front_end = SphinxMfcc()

    def cepstra(samples: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return front_end(torch.from_numpy(samples)[None])[0].numpy()

    def silent(floor: float) -> np.ndarray:
        samples = pause(front_end.sample_rate, floor, rng)
        return cepstra(samples) if len(samples) else np.zeros((0, front_end.output_size), np.float32)

    def spoken(utterance: Utterance) -> np.ndarray:
        if utterance.features_filepath is not None:
            return _shortened(read_features(utterance.features_filepath), rng)
        samples = audio.load(str(utterance.audio_filepath), sample_rate=front_end.sample_rate).samples
        return _shortened(cepstra(samples), rng)

    strings = []
    for number in range(count):
        speaker = str(rng.choice(sorted(by_speaker)))
        of_speaker = by_speaker[speaker]
        chosen = [of_speaker[i] for i in rng.integers(len(of_speaker), size=rng.integers(1, 4))]
        floor = 10 ** rng.uniform(-5, -3)  # of silence, which is quieter in one recording than in another
        parts = [silent(floor)]
        for utterance in chosen:
            parts += [spoken(utterance), silent(floor)]
        frames, path = np.concatenate(parts), folder / f"{number:05d}.npy"
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.save(file, frames)
        strings.append(
            Utterance(
                id=f"interludes{number:05d}",
                duration=round(len(frames) * FRAME_SHIFT, 3),
                text=" ".join(str(utterance.text) for utterance in chosen),
                features_filepath=str(path.absolute()),
                speaker=speaker,
                lang="en",
            )
        )
    return strings


def _shortened(cepstra: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return half of all cepstra (T, 13) with less of the silence at their ends, at least 0.1 s of it."""
    level = cepstra[:, 0]
    (loud,) = np.nonzero(level > level.min() + 0.2 * (level.max() - level.min()))
    before, after = max(int(loud[0]) - 10, 0), max(len(level) - 1 - int(loud[-1]) - 10, 0)
    if rng.random() < 0.5:
        return cepstra
    return cepstra[rng.integers(before + 1) : len(cepstra) - int(rng.integers(after + 1))]
