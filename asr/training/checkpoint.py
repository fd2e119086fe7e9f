"""Checkpoints: all that training needs to go on as if it had never stopped."""

from __future__ import annotations

import io
import pickle
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch

from asr.errors import ModelError
from asr.files import atomic_write

FILE_NAME = "checkpoint.pt"


@dataclass
class TrainingState:
    """Where a training stands.

    Attributes
    ----------
    epoch : int
        The epoch under way, from 0; the number of epochs done once all are.
    batch : int
        Batches of this epoch that are done.
    step : int
        Optimiser steps done or skipped in all.
    skipped_in_a_row : int
        Steps skipped since the last one that was done.
    finished : bool
        Whether ``model.asr`` is what it will be.
    totals : dict
        Sums over this epoch so far; see `asr.training.metrics.Totals`.
    history : list of dict
        One entry a finished epoch, as in ``metrics.jsonl``.
    best : dict
        The entry of what is in ``model.asr``.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    skipped_in_a_row: int = 0
    finished: bool = False
    totals: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)


class Stateful(Protocol):
    """What a checkpoint can hold."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return the state: tensors, numbers and text, in mappings and lists."""

    def load_state_dict(self, state: Any) -> Any:
        """Take such a state."""


def set_seed(seed: int) -> None:
    """Seed every random generator that checkpoints hold."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def random_state() -> dict[str, Any]:
    """Return the state of every random generator that this process draws from."""
    name, keys, position, has_gauss, gauss = cast(tuple, np.random.get_state())
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "numpy": (name, keys.tolist(), position, has_gauss, gauss),
        "python": random.getstate(),
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put every random generator where it was."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(state["cuda"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    random.setstate(state["python"])


def save_checkpoint(
    folder: Path,
    state: TrainingState,
    parts: Mapping[str, Stateful],
    randoms: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
) -> None:
    """Write ``checkpoint.pt``; the previous one stays until the new one is whole.

    Parameters
    ----------
    parts : mapping
        Model, optimiser and whatever else has a state.
    randoms : sequence of mapping
        `random_state` of each process of the training.
    config : mapping
        The run's configuration; see `require_same_run`.
    """
    content = {name: part.state_dict() for name, part in parts.items()}
    write_tensors(folder / FILE_NAME, content | {"state": vars(state), "random": randoms, "config": config})


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
    content = read_tensors(path, "delete it to start again, or choose another output_dir")
    missing = [key for key in ("state", "model", "optimizer", "config") if key not in content]
    if missing:
        raise ModelError(f"{path}: not a checkpoint of this program ({missing[0]} is missing)")
    return content


def restore(content: Mapping[str, Any], parts: Mapping[str, Stateful], rank: int = 0) -> TrainingState:
    """Put a checkpoint's content back into its parts and the random generators.

    Parameters
    ----------
    rank : int
        Of this process. One that the saved training did not have keeps the generators it has.

    Raises
    ------
    ModelError
        If the checkpoint is of an earlier version, which held less.
    """
    missing = [name for name in (*parts, "random") if name not in content]
    if missing:
        raise ModelError(
            f"{FILE_NAME} was written by an earlier version ({missing[0]} is missing); finish that training "
            "with it, or choose another output_dir"
        )
    for name, part in parts.items():
        part.load_state_dict(content[name])
    if rank < len(content["random"]):
        set_random_state(content["random"][rank])
    return TrainingState(**content["state"])


def is_finished(content: Mapping[str, Any] | None, epochs: int) -> bool:
    """Tell from a folder's checkpoint whether its training is done."""
    if content is None:
        return False
    state = content["state"]
    return state.get("finished", state["epoch"] >= epochs)  # the first version had no such field


def write_tensors(path: Path, content: Any) -> None:
    """Write nested mappings and lists of tensors, numbers and text, whole or not at all."""
    # Through memory: writing the file itself, torch reports a full disk as a RuntimeError.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_tensors(path: Path, remedy: str) -> Any:
    """Read what `write_tensors` wrote, on the CPU.

    Parameters
    ----------
    remedy : str
        What to do if it cannot be read, for the message.

    Raises
    ------
    ModelError
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, KeyError, TypeError, EOFError, OSError, pickle.UnpicklingError) as error:
        reason = str(error).split("\n")[0]
        raise ModelError(
            f"{path}: not a checkpoint of this program, or damaged ({reason}); {remedy}"
        ) from error
