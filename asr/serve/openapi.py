"""The description of the interface that clients and their generators read, as far as it is not in code."""

from __future__ import annotations

from typing import Any

from asr.serve.formats import GRANULARITIES, RESPONSE_FORMATS

Schema = dict[str, Any]

_NUMBER: Schema = {"type": "number"}
_TEXT: Schema = {"type": "string"}
_INTEGER: Schema = {"type": "integer"}


def _object(required: Schema, optional: Schema | None = None) -> Schema:
    return {"type": "object", "properties": required | (optional or {}), "required": list(required)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


WORD = _object({"word": _TEXT, "start": _NUMBER, "end": _NUMBER, "probability": _NUMBER})
SEGMENT = _object(
    {
        "id": _INTEGER,
        "seek": _INTEGER,
        "start": _NUMBER,
        "end": _NUMBER,
        "text": _TEXT,
        "tokens": _list(_INTEGER),
        "temperature": _NUMBER,
        "avg_logprob": _NUMBER,
        "compression_ratio": _NUMBER,
        "no_speech_prob": _NUMBER,
    }
)
USAGE = _object({"type": {"const": "duration"}, "seconds": _NUMBER})
TRANSCRIPTION = _object({"text": _TEXT, "usage": USAGE})
VERBOSE = _object(
    {
        "task": {"const": "transcribe"},
        "language": _TEXT,
        "duration": _NUMBER,
        "text": _TEXT,
        "notes": _list(_TEXT),
        "usage": USAGE,
    },
    {"segments": _list(SEGMENT), "words": _list(WORD)},
)
ERROR = _object(
    {
        "error": _object(
            {
                "message": _TEXT,
                "type": _TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            }
        )
    }
)
MODEL = _object({"id": _TEXT, "object": {"const": "model"}, "created": _INTEGER, "owned_by": _TEXT})
MODELS = _object({"object": {"const": "list"}, "data": _list(MODEL)})
HEALTH = _object({"status": {"enum": ["ready", "stopping"]}})

_ERRORS = {
    400: "The form, a field or the audio cannot be used.",
    401: "No token, or a wrong one.",
    403: "A page of another web site asks.",
    404: "There is no such thing here.",
    408: "The upload came too slowly.",
    413: "The file is too large or the audio too long.",
    415: "The body is no form.",
    429: "Too many requests; Retry-After says when to come again.",
    500: "A fault of the server.",
    503: "The server is stopping.",
}

_FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {
            "type": "string",
            "format": "binary",
            "description": "Audio: wav, flac, mp3, ogg, opus, aiff, au, sph; with ffmpeg also m4a, mp4, webm "
            "and what else it reads. Any sample rate, any number of channels.",
        },
        "model": {"type": "string", "description": "Any name: there is one model."},
        "response_format": {"type": "string", "enum": list(RESPONSE_FORMATS), "default": "json"},
        "timestamp_granularities[]": {
            "type": "array",
            "items": {"type": "string", "enum": list(GRANULARITIES)},
            "description": "What verbose_json lists; ignored without it.",
        },
        "language": {"type": "string", "description": "Returned by verbose_json; changes nothing else."},
        "stream": {
            "type": "boolean",
            "default": False,
            "description": "Answer with server-sent events; ignored with srt and vtt.",
        },
        "prompt": {"type": "string", "description": "Ignored: a CTC model has no prompt."},
        "temperature": {
            "type": "number",
            "minimum": 0,
            "maximum": 1,
            "description": "Ignored: decoding draws no samples.",
        },
    },
}

TRANSCRIPTIONS: Schema = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": _FORM,
                "encoding": {
                    "file": {"contentType": "audio/*"},
                    "timestamp_granularities[]": {"explode": True},
                },
            }
        },
    }
}
TRANSCRIPT: Schema = {
    "description": "The transcript, in the response_format that was asked for.",
    "headers": {"asr-ignored": {"schema": _TEXT, "description": "Fields of the form that changed nothing."}},
    "content": {
        "application/json": {"schema": {"anyOf": [VERBOSE, TRANSCRIPTION]}},
        "text/plain": {"schema": _TEXT},
        "application/x-subrip": {"schema": _TEXT},
        "text/vtt": {"schema": _TEXT},
        "text/event-stream": {"schema": _object({"data": _TEXT})},
    },
}
METRICS: Schema = {"description": "Prometheus's text format.", "content": {"text/plain": {"schema": _TEXT}}}
BEARER: Schema = {"bearer": {"type": "http", "scheme": "bearer"}}


def answer(schema: Schema, description: str = "Done.") -> Schema:
    """Return the description of a JSON answer."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def answers(success: Schema, *failures: int) -> dict[int | str, Schema]:
    """Return the descriptions of an operation's answers: the one hoped for, and errors by their status."""
    return {200: success, **{code: answer(ERROR, _ERRORS[code]) for code in failures}}
