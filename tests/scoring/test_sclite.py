"""Alignments at sclite's costs are sclite's, utterance by utterance."""

import random

import numpy as np
import pytest

from asr.errors import DataError
from asr.scoring import sclite as aligner
from asr.scoring import score

# Words that sclite's readers treat in ways of their own, and scripts that it reads as bytes.
ODD_WORDS = [
    *[
        "a",
        "a*",
        "b;x",
        "b;y",
        "b;",
        "*",
        "**",
        "c\\d",
        "cd",
        "x:y",
        "(uh)",
        "(",
        "a/b",
        "-",
        "'",
        '"q"',
        "&",
    ],
    *["<b>", "a;b;c", ";", "\\", "é", "e\u0301", "日本", "日", "😀", "אב", "ı", "İ", "i"],
]


@pytest.mark.parametrize("seed", [1, 2])
def test_counts_equal_sclite_where_ties_are_common(sclite, make_texts, seed):
    references, hypotheses = make_texts(seed, 3000)
    result = score(references, hypotheses, align="sclite")
    np.testing.assert_array_equal(result.counts, sclite(references, hypotheses))


@pytest.mark.slow
def test_counts_equal_sclite_on_10000_utterances(sclite):
    random_ = random.Random(5)
    words = [f"w{number}" for number in range(2000)]
    references, hypotheses = [], []
    for _ in range(10_000):
        reference = random_.choices(words, range(2000, 0, -1), k=random_.randint(1, 40))
        hypothesis = []
        for word in reference:
            hypothesis += random_.choice(
                [[word]] * 12 + [[], [random_.choice(words)], [word, random_.choice(words)]]
            )
        references.append(" ".join(reference))
        hypotheses.append(" ".join(hypothesis))
    result = score(references, hypotheses, align="sclite")
    np.testing.assert_array_equal(result.counts, sclite(references, hypotheses))


def test_odd_words_are_read_as_sclite_reads_them(sclite):
    random_ = random.Random(3)
    # A line that starts with a word is neither a comment nor empty.
    references, hypotheses = (
        ["x " + " ".join(random_.choices(ODD_WORDS, k=random_.randint(0, 10))) for _ in range(2000)]
        for _ in range(2)
    )
    result = score(references, hypotheses, align="sclite")
    np.testing.assert_array_equal(result.counts, sclite(references, hypotheses))


@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize("alternatives", [False, True])
def test_alternatives_and_optional_words_are_scored_as_by_sclite(sclite, make_texts, alternatives, optional):
    references, hypotheses = make_texts(7, 400, longest=8, alternatives=alternatives, optional=optional)
    result = score(references, hypotheses, align="sclite", optional_words=optional)
    theirs = sclite(references, hypotheses, *(["-D"] if optional else []))
    np.testing.assert_array_equal(result.counts, theirs)


@pytest.mark.slow
def test_alternatives_of_10000_utterances_are_scored_as_by_sclite(sclite, make_texts):
    references, hypotheses = make_texts(8, 10_000, longest=6, alternatives=True, optional=True)
    result = score(references, hypotheses, align="sclite", optional_words=True)
    np.testing.assert_array_equal(result.counts, sclite(references, hypotheses, "-D"))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        # Recorded from sclite 2.10 (SCTK 1.3).
        ("the cat sat on the mat", "the bat sat on mat now", [4, 1, 1, 1]),
        ("{ um / uh / @ } yes { a b / { c / d } e }", "yes d e", [3, 0, 0, 0]),
        ("(uh) okay that a:b foo* x;y", "okay that's a:b foo x;z", [4, 1, 1, 0]),
        ("c a @ { c / b d } { c a { c / a / { c / d f } { f / b } a } }", "e a c a a b a", [4, 2, 0, 1]),
        ("", "oops", [0, 0, 0, 1]),
        ("a b c", "x y a", [0, 3, 0, 0]),
    ],
)
def test_counts_equal_the_recorded_output_of_sclite(reference, hypothesis, counts):
    assert score([reference], [hypothesis], align="sclite").counts.tolist() == [counts]


def test_three_substitutions_cost_what_two_deletions_and_two_insertions_do():
    # 3 * 4 = 2 * 3 + 2 * 3: of these sclite takes, from the end, the substitution first.
    result = score(["a b c"], ["x y a"], align="sclite")
    assert result.alignments[0] == [("S", "a", "x"), ("S", "b", "y"), ("S", "c", "a")]
    assert score(["a b c d"], ["x y a b"], align="sclite").hits == 2


def test_blocks_do_not_change_the_alignment(make_texts, monkeypatch):
    references, hypotheses = ([text.split() for text in side] for side in make_texts(4, 200, longest=30))
    together = aligner.align_all(references, hypotheses)
    monkeypatch.setattr(aligner, "_BLOCK_CELLS", 1)
    assert aligner.align_all(references, hypotheses) == together


def test_an_utterance_too_long_for_memory_is_refused(monkeypatch):
    monkeypatch.setattr(aligner, "_MAX_CELLS", 1000)
    words = [str(number) for number in range(40)]
    with pytest.raises(
        DataError, match=r"40 words against 40: too long .* split it, or align with levenshtein"
    ):
        aligner.align_all([words], [words[::-1]])
