"""The output folder of a training: whose it is, and the weights that are kept in it meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from asr.errors import ConfigError
from asr.files import UNFINISHED
from asr.training.checkpoint import read_tensors, write_tensors
from asr.training.devices import is_main_process
from asr.types import Utterance

try:
    import fcntl
except ImportError:  # no POSIX
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = ".lock"
BEST_NAME = "best"
"""Folder with the weights of the best epochs while a training runs."""


class BestWeights:
    """The weights of the best epochs, a file each, from which ``model.asr`` can be written at any time.

    The checkpoint names the epochs and is written after their files; so it never names one that is not whole.

    Parameters
    ----------
    folder : Path
        The output folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / BEST_NAME

    def write(self, epoch: int, weights: Mapping[str, Tensor]) -> None:
        """Keep an epoch's weights."""
        self.folder.mkdir(exist_ok=True)
        write_tensors(self._path(epoch), dict(weights))

    def read(self, epoch: int) -> dict[str, Tensor]:
        """Return an epoch's weights, on the CPU.

        Raises
        ------
        ModelError
        """
        return read_tensors(self._path(epoch), "start again in another output_dir")

    def keep_only(self, epochs: Iterable[int]) -> None:
        """Delete the files of other epochs, and the folder once none is left."""
        kept = {self._path(epoch) for epoch in epochs}
        for path in [*self.folder.glob("epoch-*.pt"), *self.folder.glob(UNFINISHED)]:
            if path not in kept:
                path.unlink(missing_ok=True)
        if not kept:
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch:04}.pt"


@contextlib.contextmanager
def sole_training(folder: Path, option: str = "output_dir") -> Iterator[None]:
    """Keep other trainings out of an output folder until this one ends, however it ends.

    The lock is the process's own (POSIX record lock): it goes when the process does, and processes that it
    started, which may outlive it by seconds, do not hold it.

    Parameters
    ----------
    option : str
        What the user names the folder with, for the message.

    Raises
    ------
    ConfigError
        If another training is running there.
    """
    if fcntl is None or not is_main_process():
        yield
        return
    with open(folder / LOCK_NAME, "a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ConfigError(
                f"{folder}: another training ({file.read().strip() or 'of unknown process'}) is writing "
                f"there; wait for it, or choose another {option}"
            ) from error
        for path in folder.glob(UNFINISHED):  # what a process was writing when it was killed
            path.unlink(missing_ok=True)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        yield


# Settings that say where or how fast a run trains, not what comes out of it.
IMMATERIAL = frozenset(
    {
        "output_dir",
        "data.test",
        "trainer.num_workers",
        "trainer.devices",
        "trainer.save_every_minutes",
        "trainer.max_skipped_steps",
    }
)


def require_same_run(
    content: Mapping[str, Any], config: Mapping[str, Any], folder: Path, option: str = "output_dir"
) -> None:
    """Refuse to go on with a training that was started with other settings or other data.

    Parameters
    ----------
    content : mapping
        From `read_checkpoint`.
    config : mapping
        The run's configuration, with the key ``training_data`` (see `fingerprint`).
    option : str
        What the user names the folder with, for the message.

    Raises
    ------
    ConfigError
    """
    saved, wanted = dict(_material(content["config"])), dict(_material(config))
    differing = sorted(key for key in {*saved, *wanted} if saved.get(key) != wanted.get(key))
    if differing:
        raise ConfigError(
            f"{folder} holds a training with other settings for {', '.join(differing)}; "
            f"choose another {option}, or delete that folder to start again"
        )


def _material(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings that matter by their dotted names; one that is null is as one that is not there."""
    for key, value in config.items():
        name = f"{path}{key}"
        if name in IMMATERIAL or value is None:
            continue
        if isinstance(value, Mapping):
            yield from _material(value, f"{name}.")
        else:
            yield name, value


def fingerprint(utterances: Iterable[Utterance]) -> str:
    """Return a digest of what tokens and batches are made of: ids, durations and texts, in order."""
    digest = hashlib.sha256()
    for utterance in utterances:
        digest.update(repr((utterance.id, utterance.duration, utterance.text)).encode())
    return digest.hexdigest()
