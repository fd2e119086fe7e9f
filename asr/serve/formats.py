"""OpenAI's transcription API: the fields of its requests and the shapes of its answers.

https://platform.openai.com/docs/api-reference/audio/createTranscription, as of the Python package openai 3.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asr.serve.errors import ApiError
from asr.transcribe import TranscriptionResult
from asr.types import Segment, Word
from asr.writers import FORMATS, WriterOptions, to_milliseconds

RESPONSE_FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
GRANULARITIES = ("segment", "word")
MEDIA_TYPES = {
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}
# ISO 639-2 for a language that nobody has named.
UNDETERMINED = "und"

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Options:
    """What a request asks for.

    Attributes
    ----------
    response_format : str
        Of `RESPONSE_FORMATS`.
    granularities : frozenset of str
        Of `GRANULARITIES`; what ``verbose_json`` lists.
    language : str or None
        As the client names it; the model has the language that it was trained on.
    stream : bool
        Answer with server-sent events.
    ignored : tuple of str
        Fields that have no meaning for a CTC model, or that the API does not have.
    """

    response_format: str = "json"
    granularities: frozenset[str] = frozenset({"segment"})
    language: str | None = None
    stream: bool = False
    ignored: tuple[str, ...] = ()


def parse_options(fields: Iterable[tuple[str, str]]) -> Options:
    """Read the fields of a form; of one that comes twice the last counts.

    Raises
    ------
    ApiError
        400, naming the field.
    """
    values: dict[str, str] = {}
    granularities: list[str] = []
    ignored: dict[str, None] = {}
    for name, value in fields:
        if name in ("timestamp_granularities", "timestamp_granularities[]"):
            granularities.append(_one_of("timestamp_granularities", value, GRANULARITIES))
        elif name in ("response_format", "language", "stream", "model"):
            values[name] = value
        else:
            if name == "temperature":
                _check_temperature(value)
            # A name can hold anything, and goes into a header.
            ignored[re.sub(r"[^A-Za-z0-9_\[\]-]", "?", name)[:40]] = None
    response_format = _one_of("response_format", values.get("response_format", "json"), RESPONSE_FORMATS)
    stream = _BOOLEANS.get(values.get("stream", "false").lower())
    if stream is None:
        raise _wrong("stream", values["stream"], "true or false")
    # As with OpenAI's Whisper, subtitles come whole, and only verbose_json has granularities.
    if stream and response_format in ("srt", "vtt"):
        stream = False
        ignored["stream"] = None
    if granularities and response_format != "verbose_json":
        granularities = []
        ignored["timestamp_granularities[]"] = None
    return Options(
        response_format,
        frozenset(granularities or ["segment"]),
        values.get("language") or None,
        stream,
        tuple(ignored),
    )


def _one_of(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise _wrong(name, value, f"one of {', '.join(allowed)}")
    return value


def _check_temperature(value: str) -> None:
    try:
        fits = 0 <= float(value) <= 1
    except ValueError:
        fits = False
    if not fits:
        raise _wrong("temperature", value, "a number from 0 to 1")


def _wrong(name: str, value: str, allowed: str) -> ApiError:
    return ApiError(400, f"{name} is {value[:40]!r}; it has to be {allowed}", "invalid_value", name)


def render(result: TranscriptionResult, options: Options) -> str:
    """Return the body of an answer in the format that was asked for."""
    if options.response_format == "verbose_json":
        return to_json(verbose(result, options))
    if options.response_format == "json":
        return to_json({"text": result.text, "usage": _usage(result.duration)})
    if options.response_format == "text":
        return result.text + "\n"
    return FORMATS[options.response_format](result, WriterOptions())


def verbose(result: TranscriptionResult, options: Options) -> dict[str, Any]:
    """Return OpenAI's ``TranscriptionVerbose``, with a probability of each word and notes on the audio.

    A segment has all of Whisper's fields, because typed clients need them: `seek` is where it begins, in
    hundredths of a second; `temperature` and `no_speech_prob`, which CTC has no such thing as, are 0.
    """
    content: dict[str, Any] = {
        "task": "transcribe",
        "language": options.language or UNDETERMINED,
        "duration": seconds(result.duration),
        "text": result.text,
    }
    if "segment" in options.granularities:
        content["segments"] = [segment_fields(n, segment) for n, segment in enumerate(result.segments)]
    if "word" in options.granularities:
        content["words"] = [word_fields(word) for segment in result.segments for word in segment.words]
    return content | {"notes": list(result.notes), "usage": _usage(result.duration)}


def segment_fields(number: int, segment: Segment) -> dict[str, Any]:
    """Return OpenAI's ``TranscriptionSegment``."""
    encoded = segment.text.encode()
    return {
        "id": number,
        "seek": round(100 * segment.start),
        "start": seconds(segment.start),
        "end": seconds(segment.end),
        "text": segment.text,
        "tokens": list(segment.tokens),
        "temperature": 0.0,
        "avg_logprob": round(segment.avg_logprob, 4),
        "compression_ratio": round(len(encoded) / len(zlib.compress(encoded)), 4),
        "no_speech_prob": 0.0,
    }


def word_fields(word: Word) -> dict[str, Any]:
    """Return OpenAI's ``TranscriptionWord`` with a probability."""
    return {
        "word": word.text,
        "start": seconds(word.start),
        "end": seconds(word.end),
        "probability": round(word.confidence, 4),
    }


def delta_event(words: Sequence[Word], done: float, options: Options, follows: bool) -> str:
    """Return the server-sent event of words that have become final; without words, of being at work.

    With ``verbose_json`` it has the words themselves too, and up to which second the file is recognised.

    Parameters
    ----------
    follows : bool
        Whether there were words before.
    """
    text = " " * (follows and bool(words)) + " ".join(word.text for word in words)
    event: dict[str, Any] = {"type": "transcript.text.delta", "delta": text}
    if options.response_format == "verbose_json":
        event |= {"words": [word_fields(word) for word in words], "seconds": seconds(done)}
    elif not words:
        return ": still working\n\n"
    return to_event(event)


def done_event(result: TranscriptionResult, options: Options) -> str:
    """Return the last server-sent event: the whole text; with ``verbose_json`` all of that too."""
    content = verbose(result, options) if options.response_format == "verbose_json" else {"text": result.text}
    return to_event({"type": "transcript.text.done"} | content)


def to_event(content: Mapping[str, Any]) -> str:
    """Return a server-sent event."""
    return f"data: {to_json(content)}\n\n"


def to_json(content: Any) -> str:
    """Return compact JSON."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def seconds(time: float) -> float:
    """Round a time to milliseconds."""
    return to_milliseconds(time) / 1000


def _usage(duration: float) -> dict[str, Any]:
    return {"type": "duration", "seconds": seconds(duration)}
