"""Ways in which toolkits describe speech data, each a module that knows, reads and writes one.

A dialect is a `Dialect` of functions (`asr.data.dialects.base`); `DIALECTS` lists them all. A dialect is told
by the content of a path, never by its name.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from asr.data.dialects.arrow import ARROW
from asr.data.dialects.audio_folder import AUDIO_FOLDER
from asr.data.dialects.audiofolder import AUDIOFOLDER
from asr.data.dialects.base import Dialect
from asr.data.dialects.deepspeech_pytorch import DEEPSPEECH, DEEPSPEECH_CSV
from asr.data.dialects.kaldi import KALDI
from asr.data.dialects.lhotse import LHOTSE, LHOTSE_CUTS
from asr.data.dialects.lhotse_shar import LHOTSE_SHAR
from asr.data.dialects.manifest import MANIFEST
from asr.data.dialects.mozilla import MOZILLA
from asr.data.dialects.speechbrain import SPEECHBRAIN, SPEECHBRAIN_CSV
from asr.data.dialects.stm import STM
from asr.errors import ConfigError, DataError

DIALECTS = {
    dialect.name: dialect
    for dialect in (
        MANIFEST,
        KALDI,
        LHOTSE,
        LHOTSE_CUTS,
        LHOTSE_SHAR,
        DEEPSPEECH,
        DEEPSPEECH_CSV,
        SPEECHBRAIN,
        SPEECHBRAIN_CSV,
        MOZILLA,
        AUDIOFOLDER,
        ARROW,
        AUDIO_FOLDER,
        STM,
    )
}
_ALIASES = {"nemo": "manifest", "espnet": "kaldi", "coqui": "mozilla"}
_MAX_LISTED = 20


def get_dialect(name: str) -> Dialect:
    """Return a dialect by name.

    Raises
    ------
    ConfigError
        There is none; the message lists all.
    """
    name = _ALIASES.get(name, name)
    if name not in DIALECTS:
        near = difflib.get_close_matches(name, DIALECTS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"{name}: no such dialect; {hint}known: {', '.join(DIALECTS)}")
    return DIALECTS[name]


def find_dialect(path: Path) -> Dialect:
    """Tell the dialect of a file or folder by its content.

    Raises
    ------
    DataError
        There is no such path, or its content fits no dialect or several.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check the path")
    found = _fitting(path)
    if len(found) == 1:
        return found[0]
    if found:
        titles = " or ".join(f"{dialect.title} (--from {dialect.name})" for dialect in found)
        raise DataError(f"{path}: may be {titles}; say which")
    inside = []
    if path.is_dir():
        for child in sorted(path.iterdir())[:_MAX_LISTED]:
            inside += [f"{child} ({fit.name})" for fit in _fitting(child)[:1]]
    if inside:
        raise DataError(f"{path}: holds several sets or none that is whole; convert one: {', '.join(inside)}")
    wanted = "; ".join(f"{dialect.looks_for} ({dialect.name})" for dialect in DIALECTS.values())
    raise DataError(f"{path}: its content is of no dialect that is known; looked for: {wanted}")


def _fitting(path: Path) -> list[Dialect]:
    found = [dialect for dialect in DIALECTS.values() if dialect.detect(path)]
    return [dialect for dialect in found if not dialect.weak] or found


def dialect_for(path: Path) -> Dialect:
    """Return the dialect that an output's name means.

    Raises
    ------
    ConfigError
        The name leaves it open.
    """
    for dialect in DIALECTS.values():
        if dialect.suffixes and path.name.endswith(dialect.suffixes):
            return dialect
    raise ConfigError(f"{path}: say with --to what to write: {', '.join(DIALECTS)}")
