"""A report's dictionary and table hold the score, what was asked for, and nothing that does not add up."""

import csv
import io
import json
import math

import pytest

from asr.errors import AsrError
from asr.scoring import Report, compare, confidence_interval, score
from asr.scoring.report import CSV_COLUMNS

REFERENCES = {"a1": "the cat sat", "a2": "hello there", "b1": "good bye my dear", "c1": "so it goes"}
ONE = {"a1": "the bat sat on", "a2": "there", "b1": "good bye my dear", "c1": "so it goes"}
TWO = {"a1": "the cat sat", "a2": "hello there", "b1": "good my", "c1": "so it was"}
FIELDS = {id: {"speaker": id[0], "duration": 1.5} for id in REFERENCES}


def _report(**options):
    scores = {name: score(REFERENCES, texts, fields=FIELDS) for name, texts in (("one", ONE), ("two", TWO))}
    return Report(scores, **options)


def test_one_system_is_its_score_and_what_was_asked_for():
    result = score(REFERENCES, ONE, fields=FIELDS)
    assert Report({"one": result}).to_dict() == result.to_dict()
    fields = Report({"one": result}, by=["speaker"], vocabulary={"the"}).to_dict(
        top=2, worst=1, per_utterance=True
    )
    assert [group["name"] for group in fields["breakdowns"]["speaker"]] == ["a", "b", "c"]
    assert fields["most_frequent"]["substitutions"] == [{"reference": "cat", "hypothesis": "bat", "count": 1}]
    assert fields["most_frequent"]["insertions"] == [{"hypothesis": "on", "count": 1}]
    assert fields["out_of_vocabulary"]["num_words"] == result.num_words - 1
    assert [row["id"] for row in fields["worst"]] == ["a1"]
    assert fields["worst"][0]["hypothesis"] == "the bat sat on"
    for name in ("hits", "substitutions", "deletions", "insertions"):
        assert sum(row[name] for row in fields["utterances"]) == fields[name]


def test_several_systems_are_compared_with_the_first():
    report = _report()
    fields = report.to_dict(top=3)
    assert [system["name"] for system in fields["systems"]] == ["one", "two"]
    (comparison,) = fields["comparisons"]
    expected = compare(report.scores["one"], report.scores["two"], names=("one", "two"))
    assert comparison["sentence"] == expected.sentence
    assert comparison["mapsswe"]["p"] == expected.mapsswe.p
    assert comparison["recognised_only_a"]["total"] == 3  # bye, dear, goes
    assert comparison["recognised_only_b"]["words"] == [
        {"word": "cat", "count": 1},
        {"word": "hello", "count": 1},
    ]
    json.dumps(fields, allow_nan=False)


def test_intervals_are_drawn_by_what_was_asked_for():
    report = _report(interval_by="speaker")
    expected = confidence_interval(report.scores["one"], by="speaker")
    assert report.intervals["one"] == pytest.approx(expected, nan_ok=True)
    system = report.to_dict()["systems"][0]
    assert system["interval_by"] == "speaker"
    assert system["wer_interval"] == [bound if math.isfinite(bound) else None for bound in expected]


def test_the_table_adds_up():
    report = _report(by=["speaker", "duration"], vocabulary={"the", "cat", "dear"})
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS)
    writer.writeheader()
    writer.writerows(report.csv_rows())
    rows = list(csv.DictReader(text.getvalue().splitlines()))
    for name, result in report.scores.items():
        own = [row for row in rows if row["system"] == name]
        (total,) = [row for row in own if row["table"] == "all"]
        assert float(total["error_rate"]) == pytest.approx(result.wer, abs=1e-6)
        for table in ("speaker", "duration", "utterance"):
            part = [row for row in own if row["table"] == table]
            for column in ("utterances", "length", "hits", "substitutions", "deletions", "insertions"):
                assert sum(int(row[column]) for row in part) == int(total[column]), (table, column)
        for table in ("substitution", "deletion", "insertion"):
            part = [row for row in own if row["table"] == table]
            assert sum(int(row[f"{table}s"]) for row in part) == int(total[f"{table}s"])
        unseen = [row for row in own if row["table"] == "out_of_vocabulary"]
        assert sum(int(row["length"]) for row in unseen) == result.num_words - 3


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ({}, {}, "no score to report"),
        ({"x": score(["a"], ["b"]), "y": score({"u": "a"}, {"u": "b"})}, {}, "y and x are not scored on the"),
        ({"x": score(["a"], ["b"]), "y": score(["a"], ["b"], unit="character")}, {}, "utterances and unit"),
        ({"x": score(["a"], ["b"])}, {"by": ["sex"]}, "field 'sex' is not known"),
    ],
)
def test_what_cannot_be_reported_is_said_in_a_line(scores, options, message):
    with pytest.raises(AsrError, match=message):
        Report(scores, **options)
