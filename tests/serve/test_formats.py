"""The fields of requests, the shapes of answers, the limits and the folder of uploads."""

import fcntl
import json
import os
import time
from pathlib import Path

import pytest
from openai.types.audio import TranscriptionSegment, TranscriptionVerbose, TranscriptionWord

from asr.serve.errors import ApiError
from asr.serve.formats import Options, parse_options, render
from asr.serve.limits import RateLimiter
from asr.serve.uploads import upload_folder
from asr.transcribe import TranscriptionResult
from asr.types import Segment, Word


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], Options()),
        ([("model", "whisper-1"), ("language", "de")], Options(language="de")),
        ([("language", "")], Options()),
        ([("response_format", "text"), ("response_format", "srt")], Options("srt")),
        ([("stream", "True")], Options(stream=True)),
        (
            [("response_format", "verbose_json"), ("timestamp_granularities[]", "word")],
            Options("verbose_json", frozenset({"word"})),
        ),
        (
            [("prompt", "x"), ("temperature", "0.2"), ("prompt", "y")],
            Options(ignored=("prompt", "temperature")),
        ),
        ([("response_format", "srt"), ("stream", "true")], Options("srt", ignored=("stream",))),
        ([("timestamp_granularities[]", "word")], Options(ignored=("timestamp_granularities[]",))),
        ([("a\r\nSet-Cookie: b", "")], Options(ignored=("a??Set-Cookie??b",))),
    ],
)
def test_fields(fields, expected):
    assert parse_options(fields) == expected


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "diarized_json"}, "response_format"),
        ({"stream": "perhaps"}, "stream"),
        ({"temperature": "2"}, "temperature"),
        ({"temperature": "nan"}, "temperature"),
        (
            {"timestamp_granularities[]": "letter", "response_format": "verbose_json"},
            "timestamp_granularities",
        ),
    ],
)
def test_a_field_that_cannot_be_used_is_named(fields, param):
    with pytest.raises(ApiError) as caught:
        parse_options(fields.items())
    assert (caught.value.status, caught.value.param) == (400, param)


def test_verbose_json_has_every_field_that_openais_types_require():
    words = (Word("hi", 0.1, 0.45, 0.9, (1, 2)), Word("you", 0.5, 0.9, 0.4, (3,)))
    segment = Segment(0.1, 0.9, "hi you", words, (1, 2, 3), -0.25)
    result = TranscriptionResult(Path("a.wav"), 1.25, "hi you", (segment,))
    both = Options("verbose_json", frozenset({"segment", "word"}), "en")
    content = json.loads(render(result, both))
    for kind, fields in (
        (TranscriptionVerbose, content),
        (TranscriptionSegment, content["segments"][0]),
        (TranscriptionWord, content["words"][1]),
    ):
        required = {name for name, field in kind.model_fields.items() if field.is_required()}
        assert required <= set(fields), kind
        kind.model_validate(fields, strict=True)
    assert (content["language"], content["duration"], content["text"]) == ("en", 1.25, "hi you")
    assert content["words"][1] == {"word": "you", "start": 0.5, "end": 0.9, "probability": 0.4}
    assert "segments" not in json.loads(render(result, Options("verbose_json", frozenset({"word"}))))
    assert "words" not in json.loads(render(result, Options("verbose_json")))


def test_a_client_has_its_requests_a_minute_and_is_told_when_to_come_again(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limiter = RateLimiter(6)
    for _ in range(6):
        limiter.check("a")
    with pytest.raises(ApiError) as caught:
        limiter.check("a")
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "10"})
    limiter.check("b")
    now = 10.0
    limiter.check("a")
    with pytest.raises(ApiError):
        limiter.check("a")


def test_the_folder_of_uploads_is_private_and_goes_and_so_do_abandoned_ones(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    abandoned, alive = tmp_path / "asr-serve-abandoned", tmp_path / "asr-serve-alive"
    for folder in (abandoned, alive):
        folder.mkdir()
        (folder / "talk.wav").write_bytes(b"secret")
    (tmp_path / "asr-serve-file").write_bytes(b"")
    descriptor = os.open(alive, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with upload_folder() as folder:
            assert folder.parent == tmp_path
            assert folder.stat().st_mode & 0o777 == 0o700
            (folder / "left.wav").write_bytes(b"")
            assert not abandoned.exists()
            assert alive.exists()
    finally:
        os.close(descriptor)
    assert not folder.exists()
