"""The columns that Hugging Face's datasets of speech usually have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asr.data.dialects.base import UNKNOWN
from asr.data.dialects.values import seconds, shown
from asr.types import Utterance

_TEXT = ("text", "transcription", "transcript", "sentence", "normalized_text")
_ID = ("id", "utterance_id", "utt_id")
_SPEAKER = ("speaker", "speaker_id", "spk_id", "client_id")
_LANGUAGE = ("lang", "language", "locale")


def known_columns(row: Mapping[str, Any], audio: str) -> Utterance:
    """Make an utterance of a row: its columns are told by name, those left over are kept in `extra`.

    Raises
    ------
    ValueError
    """
    fields = {key: value for key, value in row.items() if value is not None}

    def take(keys: tuple[str, ...]) -> str | None:
        key = next((key for key in keys if key in fields), None)
        if key is None:
            return None
        value = fields.pop(key)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError(f"{key} is {shown(value)}; it must be text")
        return str(value)

    duration = fields.pop("duration", None)
    return Utterance(
        id=take(_ID) or "",
        duration=UNKNOWN if duration is None else seconds(duration, "duration"),
        text=take(_TEXT),
        audio_filepath=audio,
        speaker=take(_SPEAKER),
        lang=take(_LANGUAGE),
        extra=fields,
    )


def to_columns(utterance: Utterance) -> dict[str, Any]:
    """Return an utterance as a row, without its audio and what it does not have."""
    row = {
        "id": utterance.id,
        "transcription": utterance.text,
        "speaker": utterance.speaker,
        "lang": utterance.lang,
        "duration": utterance.duration,
        **utterance.extra,
    }
    return {key: value for key, value in row.items() if value is not None}
