"""Alignments as TextGrid, CTM, JSON and SRT."""

import itertools
import json
import re
import shutil
import subprocess

import pytest

from asr.alignment.align import AlignedToken, AlignedWord, ExtraSpeech, MissingWord, TextAlignment
from asr.alignment.formats import FORMATS, write_alignment
from asr.errors import DataError


def word(text, start, end, line=0):
    step = (end - start) / len(text)
    tokens = [AlignedToken(c, start + i * step, start + (i + 1) * step, 0.5) for i, c in enumerate(text)]
    return AlignedWord(text, line, start, end, 0.75, tuple(tokens))


TALK = TextAlignment(
    "a talk",
    3.5,
    (word("the", 0.0, 0.25), word('"fox"', 0.25, 1.0), word("jumps", 2.0, 2.5, line=1)),
    (MissingWord("quick", 0, "not in the audio", 0.25), MissingWord("brown", 0, "not in the audio", 0.25)),
    (ExtraSpeech(1.25, 1.75, "er"),),
    {"é": 2},
)


def parse_textgrid(text):
    """Read Praat's long text format strictly: {tier: [(start, end, text)]}, the duration first."""
    lines = iter(text.split("\n"))

    def value(pattern):
        line = next(lines)
        match = re.fullmatch(pattern, line)
        assert match, f"{line!r} is not {pattern!r}"
        return match[1]

    def string(indent, name):
        return value(rf'{indent}{name} = "((?:[^"]|"")*)" ').replace('""', '"')

    assert [next(lines) for _ in range(3)] == ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    number = r"(\d+(?:\.\d+)?)"
    assert value(f"xmin = {number} ") == "0"
    duration = float(value(f"xmax = {number} "))
    assert next(lines) == "tiers? <exists> "
    size = int(value(r"size = (\d+) "))
    assert next(lines) == "item []: "
    tiers = {}
    for tier in range(1, size + 1):
        assert next(lines) == f"    item [{tier}]:"
        kind = string(" " * 8, "class")
        name = string(" " * 8, "name")
        assert value(f"        xmin = {number} ") == "0"
        assert float(value(f"        xmax = {number} ")) == duration
        what = {"IntervalTier": "intervals", "TextTier": "points"}[kind]
        rows = []
        for row in range(1, int(value(rf"        {what}: size = (\d+) ")) + 1):
            assert next(lines) == f"        {what} [{row}]:"
            if kind == "IntervalTier":
                start = float(value(f"            xmin = {number} "))
                rows.append((start, float(value(f"            xmax = {number} ")), string(" " * 12, "text")))
            else:
                rows.append((float(value(f"            number = {number} ")), string(" " * 12, "mark")))
        tiers[name] = rows
    assert list(lines) == [""]
    return duration, tiers


def test_a_textgrid_reads_back_and_its_intervals_leave_no_gap():
    duration, tiers = parse_textgrid(FORMATS["TextGrid"](TALK))
    assert duration == 3.5
    assert tiers["words"] == [
        (0.0, 0.25, "the"),
        (0.25, 1.0, '"fox"'),
        (1.0, 2.0, ""),
        (2.0, 2.5, "jumps"),
        (2.5, 3.5, ""),
    ]
    assert "".join(text for _, _, text in tiers["characters"]) == 'the"fox"jumps'
    assert tiers["not in text"] == [(0.0, 1.25, ""), (1.25, 1.75, "er"), (1.75, 3.5, "")]
    assert tiers["not in audio"] == [(0.25, "quick brown")]
    for name in ("words", "characters", "not in text"):
        rows = tiers[name]
        assert (rows[0][0], rows[-1][1]) == (0, duration)
        assert all(start < end for start, end, _ in rows)
        assert all(a[1] == b[0] for a, b in itertools.pairwise(rows))


def test_a_textgrid_without_words_is_one_silence():
    _, tiers = parse_textgrid(FORMATS["TextGrid"](TextAlignment("x", 2.0, (), (), (), {})))
    assert tiers["words"] == [(0.0, 2.0, "")]


def test_ctm_has_nists_columns():
    assert FORMATS["ctm"](TALK).splitlines() == [
        "a_talk 1 0.000 0.250 the 0.7500",
        'a_talk 1 0.250 0.750 "fox" 0.7500',
        "a_talk 1 2.000 0.500 jumps 0.7500",
    ]


def test_sclite_reads_the_ctm(tmp_path):
    if shutil.which("sctk") is None:
        pytest.skip("sctk is not installed")
    (path,) = write_alignment(TALK, tmp_path / "hyp", ["ctm"])
    (tmp_path / "ref.stm").write_text('a_talk 1 ann 0.00 3.50 the "fox" jumps\n')
    command = ["sctk", "sclite", "-r", "ref.stm", "stm", "-h", path.name, "ctm", "-o", "sum", "stdout"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    # Sentences, words, and the percentages of correct words and of errors.
    assert re.search(r"\| Sum/Avg\| +1 +3 +\|100\.0( +0\.0){5} ", printed)


def test_json_has_everything():
    content = json.loads(FORMATS["json"](TALK))
    assert content["words"][2]["word"] == "jumps"
    assert content["words"][2]["line"] == 2
    assert [c["text"] for c in content["words"][0]["characters"]] == ["t", "h", "e"]
    assert [m["word"] for m in content["missing"]] == ["quick", "brown"]
    assert content["extra"] == [{"start": 1.25, "end": 1.75, "text": "er"}]
    assert content["unknown"] == {"é": 2}


def test_subtitles_follow_the_lines_of_the_text():
    assert FORMATS["srt"](TALK) == (
        '1\n00:00:00,000 --> 00:00:01,000\nthe "fox"\n\n2\n00:00:02,000 --> 00:00:02,500\njumps\n\n'
    )


def test_a_long_line_is_split_at_pauses_and_by_length():
    words = tuple(
        word("abcdefghi", i + (5 if i > 3 else 0), i + 0.9 + (5 if i > 3 else 0)) for i in range(16)
    )
    cues = FORMATS["srt"](TextAlignment("x", 30.0, words, (), (), {})).strip().split("\n\n")
    assert [len(cue.split("\n")[2].split()) for cue in cues] == [4, 8, 4]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "out").write_text("a file, not a folder")
    with pytest.raises(DataError, match=r"out.x\.json: cannot be written"):
        write_alignment(TALK, tmp_path / "out" / "x", ["json"])
