"""The one-file model: weights and all that is needed to use them, and no code.

A ``.asr`` file (`asr.container`) holds the configuration of the front end, model, tokens, normaliser and
decoder, the weights, and files that the decoder needs, such as a language model. Loading it goes through
`asr.build`, which makes nothing that is not the toolkit's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from asr import container
from asr.errors import AsrError, ModelError
from asr.recognizer import Recognizer

KIND = "asr-model"
ASSET = "asset/"
"""Starts the names of the tensors, uint8 (N,), that are files which the decoder needs."""


def save_model(path: Path | str, recognizer: Recognizer, info: Mapping[str, Any]) -> None:
    """Write a recogniser to one file, whole or not at all.

    Parameters
    ----------
    info : mapping
        JSON-able facts about the training, shown by ``asr info``.
    """
    header = {
        "config": recognizer.config,
        "max_train_seconds": recognizer.max_train_seconds,
        "info": dict(info),
    }
    assets = {
        ASSET + name: torch.frombuffer(bytearray(content), dtype=torch.uint8)
        for name, content in recognizer.decoder.assets.items()
    }
    container.write(path, KIND, header, recognizer.state_dict() | assets)


def read_header(path: Path | str) -> dict[str, Any]:
    """Return a model file's description without its weights.

    Raises
    ------
    ModelError
        If the file is missing, cut short, from another program or of a later version.
    """
    header = container.read_header(path, KIND)
    try:
        encoder = header["config"]["model"]["encoder"]
        header["info"], header["max_train_seconds"]
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: the description inside is damaged ({error}); copy or train it again"
        ) from error
    if "layer_norm" in encoder:  # the option's first name
        encoder["norm"] = "layer" if encoder.pop("layer_norm") else "none"
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
    tensors = container.read_tensors(path)
    assets = {
        key.removeprefix(ASSET): tensors.pop(key).numpy().tobytes()
        for key in list(tensors)
        if key.startswith(ASSET)
    }
    try:
        recognizer = Recognizer.from_config(header["config"], header["max_train_seconds"], assets)
        recognizer.load_state_dict(tensors)
    except (AsrError, KeyError, TypeError, ValueError, RuntimeError) as error:
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
