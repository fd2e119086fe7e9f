"""Features computed once and kept in one large file, for training without a GPU to compute them anew each
epoch.

What is kept is what the extractor makes of each waveform, before deltas, normalisation and stacking, which
belong to the model. So utterances of a store are utterances with precomputed features: what augments
waveforms is refused, and a change of speed interpolates frames.

Three files make a store: ``train.f32``, all frames one after the other, memory-mapped when they are read;
``train.ends.npy``, the frame after each utterance's last; and, written last, ``train.json``, which says what
the frames were computed from. A store of another front end or other utterances is refused.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from asr.data.dataset import one_thread, read_inputs
from asr.data.feature_files import open_store
from asr.data.lazy import LazyUtterances
from asr.data.manifest import durations
from asr.errors import AsrError, ConfigError, DataError
from asr.features import Extractor
from asr.files import atomic_write
from asr.storage import locked
from asr.types import Utterance

_NOTE_SECONDS = 60.0
"""How often it is said how far the computing is."""


class StoredUtterances(LazyUtterances):
    """Utterances with their features in a store in place of their audio.

    Attributes
    ----------
    durations : np.ndarray, float64, (utterances,)
        Seconds.
    """

    def __init__(self, utterances: Sequence[Utterance], file: Path, ends: np.ndarray, row_bytes: int) -> None:
        self._utterances, self._file, self._row_bytes = utterances, file, row_bytes
        self._ends = np.concatenate([np.zeros(1, np.int64), ends])
        self.durations = durations(utterances)

    def __len__(self) -> int:
        return len(self._utterances)

    def _make(self, index: int) -> Utterance:
        start, end = (int(frame) * self._row_bytes for frame in self._ends[index : index + 2])
        return replace(self._utterances[index], features_filepath=f"{self._file}:{start}:{end - start}")


def store_features(
    utterances: Sequence[Utterance],
    extractor: Extractor,
    config: Mapping[str, Any],
    folder: Path,
    name: str,
    *,
    num_workers: int = 0,
    note: Callable[[str], None] = lambda message: None,
) -> StoredUtterances:
    """Return utterances with features from a store, which is filled first if there is none.

    Parameters
    ----------
    utterances : sequence of Utterance
        Of audio.
    extractor : Extractor
    config : mapping
        From which it was built.
    folder : Path
        Made if there is none.
    name : str
        Of the files, such as "train".
    num_workers : int
        Processes that compute.
    note : callable
        Takes messages.

    Raises
    ------
    ConfigError
        The store is of another front end or other utterances, or the disk is too small.
    AsrError
        An utterance cannot be read.
    """
    if any(u.features_filepath is not None for u in utterances):
        raise ConfigError("data.feature_store: the utterances have features already; set it to null")
    about = {"extractor": json.loads(json.dumps(config)), "utterances": _digest(utterances)}
    file, header, ends_file = (folder / f"{name}{suffix}" for suffix in (".f32", ".json", ".ends.npy"))
    try:
        with locked(folder / f".{name}.lock"):
            if header.exists():
                _require_same(header, about)
            else:
                ends = _fill(utterances, extractor, file, num_workers, note)
                with atomic_write(ends_file) as path, path.open("wb") as target:
                    np.save(target, ends)
                about["num_features"] = extractor.output_size
                with atomic_write(header) as path:
                    path.write_text(json.dumps(about, indent=2) + "\n")
            ends = np.load(ends_file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{file}: the feature store cannot be used ({reason}); delete {folder}, or choose another folder"
        ) from error
    frames = open_store(str(file.absolute()))
    if len(ends) != len(utterances) or len(frames) != ends[-1]:
        raise DataError(f"{file}: does not have the frames that its index names; delete {folder}")
    return StoredUtterances(utterances, file.absolute(), ends, 4 * frames.shape[1])


def _require_same(header: Path, about: Mapping[str, Any]) -> None:
    there = json.loads(header.read_text())
    old, new = there["extractor"], about["extractor"]
    differing = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if differing:
        listed = ", ".join(
            f"features.extractor.{key} is {old.get(key)} there and {new.get(key)} here" for key in differing
        )
        raise ConfigError(
            f"{header.parent}: holds features of another front end ({listed}); set data.feature_store to "
            "another folder, or delete this one"
        )
    if there["utterances"] != about["utterances"]:
        raise ConfigError(
            f"{header}: is of other utterances than the {header.stem} manifest has now; set "
            "data.feature_store "
            "to another folder, or delete this one"
        )


def _fill(
    utterances: Sequence[Utterance],
    extractor: Extractor,
    file: Path,
    num_workers: int,
    note: Callable[[str], None],
) -> np.ndarray:
    """Compute and write all frames; return the frame after each utterance's last."""
    seconds = durations(utterances)
    rate = extractor.sample_rate / extractor.hop_length
    needed, free = int(seconds.sum() * rate * 4 * extractor.output_size), shutil.disk_usage(file.parent).free
    if needed > free:
        raise ConfigError(
            f"data.feature_store: {file} will take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "make room or choose another disk"
        )
    note(f"computing the features of {len(utterances)} utterances once, {needed / 1e6:.0f} MB in {file}")
    loader: Any = DataLoader(
        _Frames(utterances, extractor), batch_size=None, num_workers=num_workers, generator=torch.Generator()
    )
    counts = np.zeros(len(utterances), dtype=np.int64)
    said = time.monotonic()
    with atomic_write(file) as path, path.open("wb") as target:
        for i, frames in enumerate(loader):
            if isinstance(frames, AsrError):
                raise frames
            counts[i] = len(frames)
            target.write(np.ascontiguousarray(frames, dtype="<f4").data)
            if time.monotonic() - said > _NOTE_SECONDS:
                said = time.monotonic()
                note(f"features of {i + 1} of {len(utterances)} utterances are computed")
    return np.cumsum(counts)


class _Frames(Dataset[Any]):
    """The frames of each utterance, float32 (T, F), or the error that it met."""

    def __init__(self, utterances: Sequence[Utterance], extractor: Extractor) -> None:
        self.utterances, self.extractor = utterances, extractor

    def __len__(self) -> int:
        return len(self.utterances)

    @torch.inference_mode()
    def __getitem__(self, index: int) -> np.ndarray | AsrError:
        utterance = self.utterances[index]
        try:
            waveform = read_inputs(utterance, self.extractor.sample_rate, self.extractor.output_size)
        except AsrError as error:
            return type(error)(f"{utterance.id}: {error}")
        with one_thread():
            return self.extractor(waveform[None])[0].numpy()


def _digest(utterances: Sequence[Utterance]) -> str:
    digest = hashlib.sha256()
    for u in utterances:
        digest.update(repr((u.id, u.audio_filepath, u.offset, u.duration)).encode())
    return digest.hexdigest()
