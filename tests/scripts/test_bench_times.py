"""`bench.py times`: its measures on cases that can be counted by hand, and the program on a small model."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asr import audio
from asr.data.manifest import write_manifest
from asr.errors import DataError
from asr.types import Hypothesis, Utterance, Word

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_times", SCRIPTS / "bench_times.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_times"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench_times"]


def words(*intervals):
    return tuple(Word(text, start, end, 0.9) for text, start, end in intervals)


def said(spoken):
    return Hypothesis(" ".join(w.text for w in spoken), spoken, (), 0.0, 0.9)


@pytest.fixture
def timed(bench):
    truth = ((0.0, 0.5), (1.0, 1.5), (2.0, 2.5))
    aligned = words(("one", 0.01, 0.5), ("two", 0.97, 1.52), ("three", 2.0, 2.6))
    # "two" is missed: "one" and "three" are right.
    recognised = words(("one", 0.01, 0.5), ("three", 2.0, 2.6))
    return [
        bench.Timed("one two three", truth, aligned, said(recognised)),
        bench.Timed("nine", None, (), said(words(("nine", 5.0, 6.0)))),
    ]


def test_errors_of_the_forced_alignment(bench, timed):
    # Starts are 10, 30 and 0 ms off, ends 0, 20 and 100 ms.
    assert bench.time_errors(bench.pairs_aligned(timed)) == pytest.approx(
        {
            "words": 3,
            "start_mean_ms": 40 / 3,
            "start_median_ms": 10,
            "end_mean_ms": 40,
            "end_median_ms": 20,
            "both_mean_ms": 160 / 6,
            "both_median_ms": 15,
        }
    )


def test_only_recognised_words_that_are_right_and_timed_count(bench, timed):
    errors = bench.time_errors(bench.pairs_recognised(timed))
    assert errors["words"] == 2
    assert errors["start_mean_ms"] == pytest.approx(5)
    assert errors["end_mean_ms"] == pytest.approx(50)
    assert bench.time_errors(bench.pairs_recognised(timed[1:])) is None


def test_a_substituted_word_leaves_the_words_around_it_in_step(bench):
    truth = ((0.0, 0.5), (1.0, 1.5), (2.0, 2.5))
    found = words(("one", 0.0, 0.5), ("ten", 1.1, 1.4), ("three", 2.0, 2.5))
    pairs = bench.pairs_recognised([bench.Timed("one two three", truth, found, said(found))])
    assert pairs == [((0.0, 0.5), (0.0, 0.5)), ((2.0, 2.5), (2.0, 2.5))]


def test_calibration_error(bench):
    # Bin 0.9-1.0: half of four right at 0.9; bin 0.2-0.3: one of one at 0.2. (4 * 0.4 + 0.8) / 5.
    result = bench.calibration_error([0.9, 0.9, 0.9, 0.9, 0.2], [True, True, False, False, True])
    assert (result["count"], result["right"]) == (5, pytest.approx(0.6))
    assert result["ece"] == pytest.approx(0.48)
    assert bench.calibration_error([], []) is None
    # One outcome at p = 0.5 is 0.5 off whatever it is.
    assert bench.calibration_error([0.5], [True])["ece_by_chance"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ([], "words has 0 entries, its text 1 words"),
        ("one", "words has 'one', its text 1 words"),
        ([{"word": "one", "start": 0.1}], "give start and end in seconds"),
        ([{"word": "one", "start": 0.2, "end": 0.1}], "give start and end in seconds"),
        ([{"word": "one", "start": "x", "end": 0.1}], "give start and end in seconds"),
        ([0.1], "give start and end in seconds"),
    ],
)
def test_times_that_are_none_are_refused(bench, field, message):
    with pytest.raises(DataError, match=f"^u1: .*{message}"):
        bench.true_times(Utterance("u1", 1.0, "one", extra={"words": field}), 1)


def test_the_program_measures_a_model(tmp_path, tiny_recognizer):
    from asr.model_file import save_model

    recognizer = tiny_recognizer({"_target_": "asr.text.CharacterTokenizer", "characters": " enot"})
    save_model(tmp_path / "model.asr", recognizer, {})
    rng = np.random.default_rng(0)
    utterances = []
    for name, text, duration in (
        ("a", "one ten", 1.0),
        ("b", "ten", 1.0),
        ("c", "ten", 0.05),
        ("d", "six", 1),
    ):
        path = tmp_path / f"{name}.wav"
        audio.save(path, 0.1 * rng.standard_normal(int(duration * 8000)), 8000)
        times = [{"word": word, "start": 0.1, "end": 0.2} for word in text.split()]
        extra = {} if name == "b" else {"words": times}
        utterances.append(Utterance(name, float(duration), text, str(path), extra=extra))
    write_manifest(tmp_path / "test.jsonl", utterances)
    command = [sys.executable, SCRIPTS / "bench.py", "times", "model.asr", "test.jsonl", "--json"]
    done = subprocess.run([*command, "--dev", "test.jsonl"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert result["times"]["forced alignment of the true text"]["words"] == 2
    assert result["confidence"]["utterances"]["count"] == 2
    assert "utterances, calibrated on test" in result["confidence"]
    # "ten" needs three frames and has two; "six" has letters that the model does not know.
    assert {line.split(":")[0] for line in result["left_out"]} == {"c", "d"}


def test_a_missing_model_is_said_in_a_line(tmp_path):
    command = [sys.executable, SCRIPTS / "bench.py", "times", "none.asr", "none.jsonl", "--dev", "none.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("bench.py: none.asr: no such model file")
    assert done.stderr.count("\n") == 1
