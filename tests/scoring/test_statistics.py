"""Tests of two systems reject as often as they say, and agree with NIST's sc_stats."""

import json
import math
import random
import re

import numpy as np
import pytest

from asr.errors import DataError
from asr.scoring import compare, score
from asr.scoring.sclite_files import write_sclite_files
from asr.scoring.statistics import segment_errors


def _score_of(errors, sizes, fields=None):
    """Make a score of utterances with so many deletions of so many words."""
    references = {str(i): " ".join("a" * size) for i, size in enumerate(sizes)}
    hypotheses = {
        str(i): " ".join("a" * (size - wrong))
        for i, (wrong, size) in enumerate(zip(errors, sizes, strict=True))
    }
    return score(references, hypotheses, fields={str(i): f for i, f in enumerate(fields or [])})


def _pair(random_, count, rate_a, rate_b, words="abcdefghijklmnopqrstuvwxyz"):
    """Make references and what two systems recognise; utterances are hard or easy for both."""
    texts = []
    for _ in range(count):
        reference = random_.choices(words, k=random_.randint(1, 12))
        hardness = min(0.9, random_.betavariate(0.4, 3) * 9)
        sides = [reference]
        for rate in (rate_a, rate_b):
            side = []
            for word in reference:
                draw = random_.random() / (rate * hardness + 1e-9)
                if draw >= 1:
                    side.append(word)
                elif draw >= 0.3:
                    side += [random_.choice(words)] if draw < 0.7 else [word, random_.choice(words)]
            sides.append(side)
        texts.append([" ".join(side) for side in sides])
    return [list(column) for column in zip(*texts, strict=True)]


@pytest.mark.slow
def test_each_test_rejects_at_most_6_percent_of_1000_null_pairs():
    random_ = random.Random(1)
    rejected = np.zeros(3)
    for seed in range(1000):
        references, first, second = _pair(random_, 130, 0.3, 0.3)
        result = compare(score(references, first), score(references, second), samples=1000, seed=seed)
        rejected += [result.mapsswe.p < 0.05, result.mcnemar.p < 0.05, result.bootstrap.p < 0.05]
    assert (rejected <= 60).all(), rejected


@pytest.mark.parametrize(
    ("first", "second", "segments"),
    [
        ("CCCC", "CCCC", []),
        ("SCCC", "CCCC", [(1, 0)]),
        ("CSCCSC", "CCCCCC", [(1, 0), (1, 0)]),
        # One correct word between two errors keeps them in one segment.
        ("CSCSCC", "CCCCCC", [(2, 0)]),
        ("CSCCCC", "CCCCSC", [(1, 0), (0, 1)]),
        # An insertion between correct words begins their count anew.
        ("SCICC", "CCCC", [(2, 0)]),
        ("CCI", "CC", [(1, 0)]),
        ("CC", "CCI", [(0, 1)]),
        ("II", "", [(2, 0)]),
        ("DD", "SSI", [(2, 3)]),
    ],
)
def test_segments_end_where_both_have_two_words_right(first, second, segments):
    assert segment_errors(first, second) == segments


@pytest.mark.parametrize("seed", range(4))
def test_the_tests_agree_with_sc_stats(tmp_path, sctk, seed):
    random_ = random.Random(seed)
    references, *systems = _pair(random_, 50, 0.5, 0.6)
    ids = [f"s{number % 5}-{number:03d}" for number in range(50)]
    scores = []
    for name, texts in zip("AB", systems, strict=True):
        scores.append(
            score(dict(zip(ids, references, strict=True)), dict(zip(ids, texts, strict=True)), align="sclite")
        )
        write_sclite_files(scores[-1], tmp_path, name)
    sgml = "".join((tmp_path / f"{name}.sgml").read_text() for name in "AB")
    printed = sctk(tmp_path, "sc_stats", "-p", "-t", "mapsswe", "-t", "mcn", "-v", "-n", "-", given=sgml)
    result = compare(*scores)

    figures = r"# segs: (\d+)\).*\(mean: *(\S+)\) \(std dev: *(\S+)\) \(Z Stat: *(\S+)\) \(Stat Diff: (\w+)\)"
    match = re.search(figures, printed)
    assert match is not None
    ours = result.mapsswe
    assert ours.num_segments == int(match[1])
    assert (ours.mean, ours.deviation, ours.z) == pytest.approx(
        [float(match[i]) for i in (2, 3, 4)], abs=6e-4
    )
    assert (ours.p < 0.05) == (match[5] == "Yes")

    sentences = printed[printed.index("McNemar (Sentence Error)") :]
    table = re.search(r"corr +(\d+) +(\d+)\n\s+incorr +(\d+) +(\d+)", sentences)
    assert table is not None
    mcnemar = result.mcnemar
    assert [mcnemar.both, mcnemar.only_a, mcnemar.only_b, mcnemar.neither] == [
        int(table[i]) for i in range(1, 5)
    ]
    differing = mcnemar.only_a + mcnemar.only_b
    if differing <= 20 and mcnemar.only_a != mcnemar.only_b:
        probability = re.search(r"it occurring is *([\d.]+),", sentences)
        assert probability is not None
        assert mcnemar.p == pytest.approx(float(probability[1]), abs=6e-4)


@pytest.mark.parametrize(
    ("only_a", "only_b", "expected"),
    # scipy.stats.binomtest (1.17).
    [
        (0, 0, 1),
        (0, 1, 1),
        (3, 3, 1),
        (10, 11, 1),
        (5, 30, 2.2361520677804947e-05),
        (400, 300, 0.0001784763144856244),
    ],
)
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b, expected):
    references = ["a"] * (only_a + only_b + 2)
    first = ["a"] * only_a + ["x"] * only_b + ["a", "x"]
    second = ["x"] * only_a + ["a"] * only_b + ["a", "x"]
    p = compare(score(references, first), score(references, second)).mcnemar.p
    assert p == pytest.approx(expected, rel=1e-9)


def test_paired_bootstrap_has_the_figures_of_the_paired_t_test():
    generator = np.random.default_rng(3)
    first, second = generator.integers(0, 4, 200), generator.integers(0, 4, 200)
    # With equal lengths the rates are means, and the test is about the mean difference.
    result = compare(*(_score_of(errors, [5] * 200) for errors in (first, second)), samples=20_000).bootstrap
    # scipy.stats.ttest_rel(first / 5, second / 5) and its interval (1.17).
    assert result.difference == pytest.approx((1.5 - 1.47) / 5)
    assert (result.low, result.high) == pytest.approx((-0.03793, 0.04993), abs=0.002)
    assert result.p == pytest.approx(0.78796, abs=0.015)


def test_comparing_the_other_way_round_changes_signs_only():
    references, first, second = _pair(random.Random(9), 80, 0.4, 0.6)
    scores = score(references, first), score(references, second)
    forth, back = compare(*scores), compare(*scores[::-1])
    assert (forth.mapsswe.z, forth.mapsswe.p) == (-back.mapsswe.z, back.mapsswe.p)
    assert forth.mcnemar.p == back.mcnemar.p
    assert forth.bootstrap.difference == -back.bootstrap.difference


def test_a_system_does_not_differ_from_itself():
    references, first, _ = _pair(random.Random(9), 40, 0.5, 0.5)
    result = compare(score(references, first), score(references, first))
    assert (result.mapsswe.p, result.mcnemar.p, result.bootstrap.p) == (1.0, 1.0, 1.0)
    assert "have the same WER" in result.sentence
    assert "neither is shown to be better" in result.sentence


def test_equal_rates_everywhere_leave_no_doubt():
    result = score(["a"] * 9, ["b"] * 9)
    other = compare(result, score(["a"] * 9, ["a"] * 9))
    assert (other.mapsswe.p, other.bootstrap.p, other.mcnemar.p) == (0.0, 0.0, 2 / 2**9)


def test_a_difference_in_one_utterance_is_not_significant():
    references = ["a b c"] * 50
    result = compare(score(references, references), score(references, ["x y z", *references[1:]]))
    assert result.bootstrap.p > 0.3
    assert math.isinf(result.bootstrap.high)
    assert "interval" not in result.sentence
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["bootstrap"]["high"] is None


def test_what_cannot_be_compared_is_said():
    for texts in (["a"], ["", ""]):
        result = compare(score(texts, texts), score(texts, ["b"] * len(texts)))
        assert "cannot be compared" in result.sentence


def test_a_clear_difference_is_said_in_plain_words():
    references, first, second = _pair(random.Random(2), 300, 0.2, 0.8)
    result = compare(score(references, first), score(references, second), names=("small", "large"))
    assert result.sentence.startswith(f"small has {result.a:.2%} WER, large {result.b:.2%}: ")
    assert (
        "seldom makes such a difference (matched-pair p < 0.001, bootstrap p < 0.001): small is better here."
        in result.sentence
    )
    assert (
        json.loads(json.dumps(result.to_dict(), allow_nan=False))["mcnemar"]["only_a"]
        == result.mcnemar.only_a
    )


def test_scores_of_other_data_or_made_otherwise_are_not_compared():
    ours = score({"u": "a b"}, {"u": "a"})
    for theirs, problem in (
        (score({"v": "a b"}, {"v": "a"}), "differ in ids"),
        (score({"u": "a b"}, {"u": "a"}, unit="character"), "differ in unit"),
        (score({"u": "a b"}, {"u": "a"}, align="sclite"), "differ in align"),
        (score({"u": "a c"}, {"u": "a"}), "have different references, first for 'u'"),
    ):
        with pytest.raises(DataError, match=f"A and B {problem}"):
            compare(ours, theirs, names=("A", "B"))


def test_systems_may_have_taken_different_alternatives():
    references = ["{ a b / c } d"] * 3
    first, second = (score(references, [text] * 3, alternatives=True) for text in ("a b d", "c x"))
    assert compare(first, second).mcnemar.only_a == 3
