import html
import json
import os
import random
import re
from pathlib import Path

import pytest

from asr.errors import DataError
from asr.transcribe import TranscriptionResult
from asr.types import Segment, Word
from asr.writers import FORMATS, WriterOptions, format_timestamp, write_outputs


def segment(*words, tokens=(1, 2), avg_logprob=-0.25):
    """A segment of (text, start, end) words."""
    made = tuple(Word(text, start, end, 0.5) for text, start, end in words)
    return Segment(made[0].start, made[-1].end, " ".join(w.text for w in made), made, tokens, avg_logprob)


TALK = (
    segment(("the", 0.1, 0.2), ("quick", 0.25, 0.5), ("brown", 0.5, 0.8), ("fox", 1.0, 1.25)),
    segment(("jumps", 3661.0, 3661.5), ("over", 3661.5, 3662.0015)),
)


def result(segments=TALK):
    return TranscriptionResult(Path("talk.wav"), 3700.0, " ".join(s.text for s in segments), tuple(segments))


def write(tmp_path, format, segments=TALK, **options):
    (path,) = write_outputs(result(segments), tmp_path / "talk", [format], options=WriterOptions(**options))
    return path.read_text(encoding="utf-8")


def seconds(stamp):
    hours, minutes, rest = re.fullmatch(r"(?:(\d\d):)?(\d\d):(\d\d[.,]\d{3})", stamp).groups()
    return round(3600 * int(hours or 0) + 60 * int(minutes) + float(rest.replace(",", ".")), 3)


def parse_cues(content, format):
    """Read SRT or WebVTT strictly: [(start, end, text)]."""
    blocks = content.split("\n\n")
    assert blocks.pop() == ""
    if format == "vtt":
        assert blocks.pop(0) == "WEBVTT"
    cues = []
    for number, block in enumerate(blocks, start=1):
        lines = block.split("\n")
        if format == "srt":
            assert lines.pop(0) == str(number)
        start, end = lines.pop(0).split(" --> ")
        assert ("," in start) == (format == "srt")
        cues.append((seconds(start), seconds(end), "\n".join(lines)))
    return cues


@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_subtitles_have_a_cue_per_segment(tmp_path, format):
    assert parse_cues(write(tmp_path, format), format) == [
        (0.1, 1.25, "the quick brown fox"),
        (3661.0, 3662.002, "jumps over"),
    ]


def test_subtitle_times_are_written_as_whisper_writes_them():
    # whisper/utils.py, format_timestamp: hours always in SRT, from the first hour in WebVTT.
    assert format_timestamp(3_599_999) == "59:59.999"
    assert format_timestamp(3_600_000) == "01:00:00.000"
    assert format_timestamp(5, hours=True, marker=",") == "00:00:00,005"
    assert format_timestamp(360_000_000) == "100:00:00.000"


def test_txt_has_a_segment_per_line(tmp_path):
    assert write(tmp_path, "txt") == "the quick brown fox\njumps over\n"


def test_tsv_has_integer_milliseconds(tmp_path):
    rows = [line.split("\t") for line in write(tmp_path, "tsv").splitlines()]
    assert rows == [
        ["start", "end", "text"],
        ["100", "1250", "the quick brown fox"],
        ["3661000", "3662002", "jumps over"],
    ]


def test_json_has_whispers_names(tmp_path):
    content = json.loads(write(tmp_path, "json"))
    assert content.keys() == {"text", "segments", "language", "audio", "duration"}
    assert content["text"] == "the quick brown fox jumps over"
    assert content["language"] is None
    assert content["audio"] == "talk.wav"
    assert content["duration"] == 3700.0
    assert content["segments"][1] == {
        "id": 1,
        "start": 3661.0,
        "end": 3662.002,
        "text": "jumps over",
        "tokens": [1, 2],
        "avg_logprob": -0.25,
        "words": [
            {"word": "jumps", "start": 3661.0, "end": 3661.5, "probability": 0.5},
            {"word": "over", "start": 3661.5, "end": 3662.002, "probability": 0.5},
        ],
    }


def test_json_without_word_times(tmp_path):
    content = json.loads(write(tmp_path, "json", word_timestamps=False))
    assert all("words" not in segment for segment in content["segments"])


@pytest.mark.parametrize(
    ("format", "expected"), [("txt", ""), ("srt", ""), ("vtt", "WEBVTT\n\n"), ("tsv", "start\tend\ttext\n")]
)
def test_a_recording_without_words_gives_valid_files(tmp_path, format, expected):
    assert write(tmp_path, format, ()) == expected
    assert json.loads(write(tmp_path, "json", ()))["segments"] == []


NEAR = (
    segment(("the", 0.0, 0.2), ("quick", 0.2, 0.5), ("brown", 0.5, 0.8), ("fox", 0.8, 1.0)),
    segment(("jumps", 2.0, 2.5), ("over", 2.5, 3.0)),
    segment(("lazy", 9.0, 9.5), ("dogs", 9.5, 10.0)),
)


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        ({"max_line_width": 9}, ["the quick\nbrown fox", "jumps\nover", "lazy dogs"]),
        ({"max_line_width": 3}, ["the\nquick\nbrown\nfox", "jumps\nover", "lazy\ndogs"]),
        (
            {"max_line_width": 9, "max_line_count": 1},
            ["the quick", "brown fox", "jumps", "over", "lazy dogs"],
        ),
        # With both limits cues run across segments, up to a silence of 3 s.
        ({"max_line_width": 15, "max_line_count": 2}, ["the quick brown\nfox jumps over", "lazy dogs"]),
        ({"max_words_per_line": 3}, ["the quick brown", "fox", "jumps over", "lazy dogs"]),
        ({"max_words_per_line": 1}, ["the", "quick", "brown", "fox", "jumps", "over", "lazy", "dogs"]),
        ({"max_words_per_line": 2, "max_line_count": 2}, ["the quick\nbrown fox", "jumps over", "lazy dogs"]),
        ({"max_line_width": 80}, ["the quick brown fox", "jumps over", "lazy dogs"]),
        ({"max_line_count": 1}, ["the quick brown fox", "jumps over", "lazy dogs"]),
    ],
)
@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_line_limits(tmp_path, format, options, texts):
    cues = parse_cues(write(tmp_path, format, NEAR, **options), format)
    assert [text for _, _, text in cues] == texts
    spoken = [word for s in NEAR for word in s.words]
    for start, end, text in cues:
        words, spoken = spoken[: len(text.split())], spoken[len(text.split()) :]
        assert (start, end) == (words[0].start, words[-1].end)
    assert not spoken


def test_highlighted_words_are_underlined_while_spoken(tmp_path):
    cues = parse_cues(write(tmp_path, "vtt", [TALK[0]], highlight_words=True), "vtt")
    assert cues == [
        (0.1, 0.2, "<u>the</u> quick brown fox"),
        (0.2, 0.25, "the quick brown fox"),
        (0.25, 0.5, "the <u>quick</u> brown fox"),
        (0.5, 0.8, "the quick <u>brown</u> fox"),
        (0.8, 1.0, "the quick brown fox"),
        (1.0, 1.25, "the quick brown <u>fox</u>"),
    ]


def test_times_never_overlap_or_run_backward(tmp_path):
    twisted = (
        segment(("a", 1.0, 1.0), ("b", 0.9, 2.0)),
        segment(("c", 1.5, 1.7), ("d", 1.0, 1.2)),
        segment(("e", 2.0004, 2.0004)),
    )
    for options in ({}, {"highlight_words": True}, {"max_words_per_line": 1}):
        times = [t for cue in parse_cues(write(tmp_path, "srt", twisted, **options), "srt") for t in cue[:2]]
        assert times == sorted(times)
        assert all(start < end for start, end in zip(times[::2], times[1::2], strict=True))


def test_text_cannot_break_a_subtitle_file(tmp_path):
    odd = [segment(("a-->b", 0.0, 1.0), ("<i>&", 1.0, 2.0))]
    assert parse_cues(write(tmp_path, "srt", odd), "srt")[0][2] == "a->b <i>&"
    assert parse_cues(write(tmp_path, "vtt", odd), "vtt")[0][2] == "a--&gt;b &lt;i&gt;&amp;"


def test_dots_in_names_and_missing_folders(tmp_path):
    paths = write_outputs(result(), tmp_path / "may" / "v1.2", list(FORMATS))
    assert sorted(p.name for p in paths) == [f"v1.2.{f}" for f in ("json", "srt", "tsv", "txt", "vtt")]
    assert sorted((tmp_path / "may").iterdir()) == sorted(paths)


def test_an_undecodable_file_name_gives_valid_json(tmp_path):
    talk = TranscriptionResult(Path(os.fsdecode(b"caf\xe9.wav")), 1.0, "", ())
    (path,) = write_outputs(talk, tmp_path / "talk", ["json"])
    assert json.loads(path.read_bytes().decode("utf-8"))["audio"] == os.fsdecode(b"caf\xe9.wav")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write(tmp_path, "txt")

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(DataError, match=r"talk\.txt: cannot be written \(No space left on device\); check"):
        write(tmp_path, "txt", NEAR)
    assert [p.name for p in tmp_path.iterdir()] == ["talk.txt"]
    assert (tmp_path / "talk.txt").read_text() == "the quick brown fox\njumps over\n"


def spoken(text, pauses=(), seconds=0.3):
    """A segment of words that last `seconds` each, with pauses of 0.5 s after the words named."""
    words, start = [], 0.0
    for word in text.split():
        words.append((word, start, start + seconds))
        start += seconds + (0.5 if word in pauses else 0.0)
    return segment(*words)


SENTENCE = "we came down to the river in the morning and then we waited for the boat that never came"


def cue_texts(tmp_path, segments, **options):
    return [text for _, _, text in parse_cues(write(tmp_path, "srt", segments, **options), "srt")]


def test_lines_are_evenly_filled(tmp_path):
    (text,) = cue_texts(tmp_path, [spoken(SENTENCE)], max_line_width=60)
    first, second = text.split("\n")
    # Filled greedily, the lines would have 58 and 30 characters.
    assert abs(len(first) - len(second)) <= 6


def test_subtitles_break_where_the_speaker_pauses(tmp_path):
    # Filled greedily, the first subtitle would end with "and".
    texts = cue_texts(tmp_path, [spoken(SENTENCE, pauses={"morning"})], max_line_width=24, max_line_count=2)
    assert [text.replace("\n", " ") for text in texts] == [
        "we came down to the river in the morning",
        "and then we waited for the boat that never came",
    ]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_line_width": 30},
        {"max_line_width": 20, "max_line_count": 1},
        {"max_line_width": 20, "max_line_count": 3},
        {"max_words_per_line": 3},
        {"max_words_per_line": 4, "max_line_count": 2},
        {"max_line_width": 5, "max_line_count": 2},
        {"highlight_words": True},
    ],
)
def test_other_programs_read_the_same_text_and_times_from_every_format(tmp_path, options):
    webvtt, srt = pytest.importorskip("webvtt"), pytest.importorskip("srt")
    rng = random.Random(0)
    segments, start = [], 0.0
    for _ in range(30):
        words = []
        for _ in range(rng.randint(1, 20)):
            length = rng.choice([0.0, 0.0004, 0.2, 0.5])
            words.append(
                (rng.choice(["a", "it's", "<b>", "seventy-five", "&", "x" * 25]), start, start + length)
            )
            start += length + rng.choice([0.0, 0.0003, 0.1, 0.9, 4.0])
        segments.append(segment(*words))
    text = " ".join(s.text for s in segments)
    paths = write_outputs(result(segments), tmp_path / "a", list(FORMATS), options=WriterOptions(**options))
    files = {path.suffix[1:]: path for path in paths}
    cues = {
        "vtt": [(c.start_in_seconds, c.end_in_seconds, c.raw_text) for c in webvtt.read(str(files["vtt"]))],
        "srt": [
            (c.start.total_seconds(), c.end.total_seconds(), c.content)
            for c in srt.parse(files["srt"].read_text(), ignore_errors=False)
        ],
    }
    for name, read in cues.items():
        shown = [cue for _, _, cue in read]
        if options.get("highlight_words"):
            continue
        joined = " ".join(shown).replace("\n", " ")
        assert (html.unescape(joined) if name == "vtt" else joined) == text
        times = [t for begin, end, _ in read for t in (begin, end)]
        assert times == sorted(times)
    # A word longer than the line is the only thing that may exceed its width.
    if width := options.get("max_line_width"):
        lines = [line for _, _, cue in cues["srt"] for line in cue.split("\n")]
        assert all(len(line) <= width or " " not in line for line in lines)
    content = json.loads(files["json"].read_text())
    assert content["text"] == text == " ".join(files["txt"].read_text().split())
    assert " ".join(row.split("\t")[2] for row in files["tsv"].read_text().splitlines()[1:]) == text
