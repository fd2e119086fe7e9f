"""Checkpoints: all that training needs to go on as if it had never stopped."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from asr.errors import ConfigError, ModelError
from asr.files import atomic_write
from asr.types import Utterance

FILE_NAME = "checkpoint.pt"


@dataclass
class TrainingState:
    """Where a training stands.

    Attributes
    ----------
    epoch : int
        The epoch under way, from 0; equal to the number of epochs once training is done.
    batch : int
        Batches of this epoch that are done.
    step : int
        Optimiser steps done in all.
    totals : dict
        Sums over this epoch so far (loss, tokens, seconds of audio, time, ...).
    history : list of dict
        One entry a finished epoch, as in ``metrics.jsonl``.
    best : dict
        The history's entry whose weights are in ``model.asr``.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    folder: Path,
    state: TrainingState,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    config: dict[str, Any],
) -> None:
    """Write ``checkpoint.pt``; the previous one stays until the new one is whole."""
    content = {
        "state": vars(state),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "config": config,
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    # Through memory: writing the file itself, torch reports a full disk as a RuntimeError.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_write(folder / FILE_NAME) as path:
        path.write_bytes(buffer.getbuffer())


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the content of a folder's checkpoint, None if it has none.

    Raises
    ------
    ModelError
        If the file is damaged or from another program.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        content["state"], content["model"], content["optimizer"], content["config"], content["rng"]
    except (RuntimeError, KeyError, TypeError, EOFError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).split("\n")[0]
        raise ModelError(
            f"{path}: not a checkpoint of this program, or damaged ({reason}); "
            "delete it to start again, or choose another output_dir"
        ) from error
    return content


# Settings that say where or how fast a run trains, not what comes out of it.
IMMATERIAL = (("output_dir",), ("data", "test"), ("trainer", "num_workers"))


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
    saved, wanted = _material(content["config"]), _material(config)
    differing = sorted(key for key in {*saved, *wanted} if saved.get(key) != wanted.get(key))
    if differing:
        raise ConfigError(
            f"{folder} holds a training with other settings for {', '.join(differing)}; "
            f"choose another {option}, or delete that folder to start again"
        )


def fingerprint(utterances: Iterable[Utterance]) -> str:
    """Return a digest of what tokens and batches are made of: ids, durations and texts, in order."""
    digest = hashlib.sha256()
    for utterance in utterances:
        digest.update(repr((utterance.id, utterance.duration, utterance.text)).encode())
    return digest.hexdigest()


def _material(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: dict(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    for *parents, key in IMMATERIAL:
        place: Any = kept
        for parent in parents:
            place = place.get(parent, {})
        place.pop(key, None)
    return kept


def restore(
    content: dict[str, Any], model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> TrainingState:
    """Put a checkpoint's content back into a model, an optimiser and the random generators."""
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["rng"])
    if content["cuda_rng"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(content["cuda_rng"])
    return TrainingState(**content["state"])
