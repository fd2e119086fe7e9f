"""The one-file format of models: a safetensors file whose metadata describe its tensors as JSON.

It holds no code, and reading it runs none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from asr.errors import ModelError
from asr.files import atomic_write

KINDS = {
    "asr-model": ("a speech recogniser", "'asr train'"),
    "asr-language-model": ("a language model", "'asr lm train --rnn'"),
}
"""What a file may hold, and the command that makes it. The name is the key of its description."""

VERSION = 1
_LENGTH_BYTES = 8  # safetensors: a little-endian length, that many bytes of JSON, the tensors


def pack(kind: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    """Return a file's content.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    header : mapping
        JSON-able description of the tensors.
    tensors : mapping of str to Tensor
        On any device.
    """
    assert kind in KINDS
    described = json.dumps({"format": kind, "version": VERSION, **header})
    contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    return save(contiguous, metadata={kind: described})


def write(path: Path | str, kind: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a file, whole or not at all; see `pack`."""
    content = pack(kind, header, tensors)
    with atomic_write(Path(path)) as temporary:
        temporary.write_bytes(content)


def read_header(path: Path | str, kind: str) -> dict[str, Any]:
    """Return a file's description without its tensors.

    Raises
    ------
    ModelError
        If the file is missing, cut short, of another kind, from another program or of a later version.
    """
    _, command = KINDS[kind]
    if not Path(path).is_file():
        raise ModelError(f"{path}: no such model file; train one with {command} or give its path")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    return _parse(metadata, path, kind)


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """Return a file's tensors, on the CPU.

    Raises
    ------
    ModelError
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def unpack(content: bytes, name: str, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the description and the tensors of a file's content.

    Parameters
    ----------
    name : str
        Of the file, for the message of an error.

    Raises
    ------
    ModelError
    """
    try:
        tensors = load(content)
        length = int.from_bytes(content[:_LENGTH_BYTES], "little")
        described = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length])
    except (SafetensorError, ValueError) as error:
        raise _damaged(name, error) from error
    return _parse(described.get("__metadata__") or {}, name, kind), tensors


def _parse(metadata: Mapping[str, str], path: Path | str, kind: str) -> dict[str, Any]:
    content, command = KINDS[kind]
    if kind not in metadata:
        other = next((KINDS[key][0] for key in KINDS if key in metadata), None)
        if other is not None:
            raise ModelError(f"{path}: holds {other}, not {content}; give a file made by {command}")
        raise ModelError(f"{path}: a safetensors file of another program; give a file made by {command}")
    try:
        header = json.loads(metadata[kind])
        version = header["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: the description inside is damaged ({error}); copy or train it again"
        ) from error
    if version != VERSION:
        raise ModelError(f"{path}: model format {version}, this program reads {VERSION}; upgrade it")
    return header


def _damaged(path: Path | str, error: Exception) -> ModelError:
    return ModelError(f"{path}: not a model file, or cut short ({error}); copy or train it again")
