"""The one-file model: weights and all that is needed to use them, and no code.

A ``.asr`` file is a safetensors file whose metadata hold, as JSON, the configuration of the front end,
model, tokens, normaliser and decoder. Loading it goes through `asr.build`, which makes nothing that is
not the toolkit's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from asr.errors import AsrError, ModelError
from asr.files import atomic_write
from asr.recognizer import Recognizer

FORMAT = "asr-model"
VERSION = 1


def save_model(path: Path | str, recognizer: Recognizer, info: Mapping[str, Any]) -> None:
    """Write a recogniser to one file, whole or not at all.

    Parameters
    ----------
    info : mapping
        JSON-able facts about the training, shown by ``asr info``.
    """
    header = {
        "format": FORMAT,
        "version": VERSION,
        "config": recognizer.config,
        "max_train_seconds": recognizer.max_train_seconds,
        "info": dict(info),
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in recognizer.state_dict().items()}
    content = save(tensors, metadata={FORMAT: json.dumps(header)})
    with atomic_write(Path(path)) as temporary:
        temporary.write_bytes(content)


def read_header(path: Path | str) -> dict[str, Any]:
    """Return a model file's description without its weights.

    Raises
    ------
    ModelError
        If the file is missing, cut short, from another program or of a later version.
    """
    if not Path(path).is_file():
        raise ModelError(f"{path}: no such model file; train one with 'asr run' or give its path")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path}: not a model file, or cut short ({error}); copy or train it again"
        ) from error
    if FORMAT not in metadata:
        raise ModelError(
            f"{path}: a safetensors file of another program; give a .asr file made by 'asr train'"
        )
    try:
        header = json.loads(metadata[FORMAT])
        version = header["version"]
        header["config"], header["info"], header["max_train_seconds"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: the description inside is damaged ({error}); copy or train it again"
        ) from error
    if version != VERSION:
        raise ModelError(f"{path}: model format {version}, this program reads {VERSION}; upgrade it")
    return header


def load_model(path: Path | str, device: str = "auto") -> Recognizer:
    """Load a model file, ready to recognise.

    Parameters
    ----------
    device : str
        "auto" takes a CUDA device if there is one, else the CPU.

    Raises
    ------
    ModelError
    """
    header = read_header(path)
    try:
        recognizer = Recognizer.from_config(header["config"], header["max_train_seconds"])
        with safe_open(path, framework="pt") as file:
            recognizer.load_state_dict({key: file.get_tensor(key) for key in file.keys()})  # noqa: SIM118
    except (AsrError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{path}: cannot be loaded: {reason}") from error
    return recognizer.to(pick_device(device)).eval()


def pick_device(device: str) -> torch.device:
    """Turn "auto", "cpu", "cuda" or "cuda:1" into a device that is there.

    Raises
    ------
    ModelError
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"--device {device}: unknown; use auto, cpu, cuda or cuda:0") from error
    if chosen.type not in ("cpu", "cuda"):
        raise ModelError(f"--device {device}: not supported; use auto, cpu, cuda or cuda:0")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"--device {device}: {torch.cuda.device_count()} CUDA devices here; use --device auto or cpu"
        )
    return chosen
