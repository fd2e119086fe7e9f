"""Speech recognition with recurrent networks and CTC.

>>> import asr
>>> model = asr.load("model.asr")  # doctest: +SKIP
>>> model.transcribe("talk.wav").words  # doctest: +SKIP
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.api import Model

__all__ = ["load"]


def load(path: str | os.PathLike[str], device: str = "auto") -> Model:
    """Load a model file, ready to transcribe.

    Parameters
    ----------
    path : path
        An ``.asr`` file, as training leaves it.
    device : str
        "cpu", "cuda" or "cuda:N"; "auto" takes a CUDA device if there is one.

    Returns
    -------
    asr.api.Model

    Raises
    ------
    ModelError
        The file or the device cannot be used.
    """
    from asr.api import Model  # so that importing asr stays light
    from asr.model_file import load_model

    return Model(load_model(os.fspath(path), device))
