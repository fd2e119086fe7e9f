"""Error rates against published and hand-worked values, and against sclite's totals."""

import math
import random

import pytest

from asr.errors import DataError
from asr.scoring import align, pair, score


@pytest.mark.parametrize(
    ("reference", "hypothesis", "wer", "mer", "wil"),
    [
        ("X", "X", 0, 0, 0),
        ("X", "X X Y Y", 3, 3 / 4, 3 / 4),
        ("X Y X", "X Z", 2 / 3, 2 / 3, 5 / 6),
        ("X", "Y", 1, 1, 1),
        ("X", "Y Z", 2, 1, 1),
    ],
)
def test_rates_follow_the_formulas_of_morris_maier_and_green(reference, hypothesis, wer, mer, wil):
    # Interspeech 2004: WER = (S+D+I)/(H+S+D), MER = (S+D+I)/(H+S+D+I), WIL = 1 - H^2/((H+S+D)(H+S+I)).
    result = score([reference], [hypothesis])
    assert (result.wer, result.mer, result.wil) == pytest.approx((wer, mer, wil))


def test_pooled_rates_equal_the_documented_example_of_hugging_face_evaluate():
    # The example on the metric cards of `wer` and `cer` there.
    references = ["this is the reference", "there is another one"]
    hypotheses = ["this is the prediction", "there is an other sample"]
    result = score(references, hypotheses)
    assert result.wer == 0.5
    assert result.cer == pytest.approx(0.34146341463414637)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("", "", (0, 0, 0, 0)),
        ("", "a b", (0, 0, 0, 2)),
        ("a b", "", (0, 0, 2, 0)),
        ("a b c", "a x c", (2, 1, 0, 0)),
        ("a b c", "b c d", (2, 0, 1, 1)),
        ("a\tb\nc", "  a b   c ", (3, 0, 0, 0)),
        ("Word", "word", (0, 1, 0, 0)),
        ("一 二 三", "一 三", (2, 0, 1, 0)),
    ],
)
def test_counts_worked_by_hand(reference, hypothesis, counts):
    result = score([reference], [hypothesis])
    assert (result.hits, result.substitutions, result.deletions, result.insertions) == counts


def test_rates_are_pooled_not_averaged_over_utterances():
    result = score(["a", "b c d e f g h i j"], ["x", "b c d e f g h i j"])
    assert result.wer == 1 / 10
    assert result.ser == 1 / 2


def test_an_empty_reference_adds_its_insertions_to_the_pool():
    result = score(["", "a b"], ["x y z", "a b"])
    assert (result.wer, result.insertions, result.num_words) == (3 / 2, 3, 2)
    assert result.counts.tolist() == [[0, 0, 0, 3], [2, 0, 0, 0]]


def test_spaces_count_as_characters():
    result = score(["ab cd"], ["abcd"])
    assert (result.cer, result.num_characters) == (1 / 5, 5)


@pytest.mark.parametrize(("hypothesis", "rate"), [("", 0.0), ("noise", math.inf)])
def test_without_reference_words_the_rate_is_zero_or_infinite(hypothesis, rate):
    result = score([""], [hypothesis])
    assert (result.wer, result.cer) == (rate, rate)
    expected = None if math.isinf(rate) else rate
    assert (result.to_dict()["wer"], result.to_dict()["cer"]) == (expected, expected)
    assert result.to_dict()["wer_interval"] == [None, None]


def test_mappings_are_paired_by_id_whatever_their_order():
    result = score({"u1": "a b", "u2": "c"}, {"u2": "c", "u1": "a x"})
    assert result.ids == ("u1", "u2")
    assert result.counts.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        ([], [], "no utterance to score"),
        (["a", "b"], ["a"], "1 of 2 utterances not found .first '2'."),
        ({"u1": "a"}, {"u2": "a"}, "not found .first 'u1'. and 1 of 1 not in the references .first 'u2'."),
    ],
)
def test_what_cannot_be_paired_is_an_error(references, hypotheses, message):
    with pytest.raises(DataError, match=message):
        score(references, hypotheses)


def test_a_single_string_is_not_taken_for_a_sequence_of_characters():
    with pytest.raises(TypeError):
        score("a b", "a c")


def test_missing_hypotheses_are_deleted_or_skipped_and_extra_ones_left_out():
    references, hypotheses = {"a": "x y", "b": "z"}, {"b": "z", "c": "w"}
    deleted = pair(references, hypotheses, "delete")
    assert (deleted.hypotheses, deleted.missing, deleted.extra) == ({"a": "", "b": "z"}, ("a",), ("c",))
    assert score(deleted.references, deleted.hypotheses).deletions == 2
    skipped = pair(references, hypotheses, "skip")
    assert (skipped.references, skipped.missing, skipped.extra) == ({"b": "z"}, ("a",), ("c",))
    with pytest.raises(DataError):
        pair({"a": "x"}, {"b": "x"}, "delete")


def test_alignment_reproduces_both_texts():
    assert align("the cat sat", "a the cat sit") == [
        ("I", None, "a"),
        ("C", "the", "the"),
        ("C", "cat", "cat"),
        ("S", "sat", "sit"),
    ]
    assert align("a b", "") == [("D", "a", None), ("D", "b", None)]
    assert align("", "") == []


def test_texts_are_normalised_before_they_are_split_into_words():
    class Lower:
        names = ("lower", "hyphens")

        def __call__(self, text):
            return text.lower().replace("-", " ")

    result = score(["Well-Known  fact"], ["well known FACT"], normalization=Lower())
    assert (result.hits, result.references, result.hypotheses) == (
        3,
        ("well known fact",),
        ("well known fact",),
    )
    assert result.normalization == ("lower", "hyphens")
    assert result.to_dict()["normalization"] == ["lower", "hyphens"]
    assert score(["A"], ["a"], normalization=str.lower).normalization == ()


def test_hypotheses_may_have_rules_of_their_own():
    class Rules:
        def __call__(self, text):
            return text

        hypothesis = staticmethod(str.upper)

    assert score(["A b"], ["a b"], normalization=Rules()).counts.tolist() == [[1, 1, 0, 0]]


def test_fields_come_in_the_order_of_the_utterances():
    result = score({"u": "a", "v": "b"}, {"v": "b", "u": "a"}, fields={"v": {"speaker": "s"}})
    assert result.fields == ({}, {"speaker": "s"})


def test_more_errors_than_words_are_a_rate_above_one():
    result = score(["a"], ["x y z"])
    assert (result.wer, result.to_dict()["wer"]) == (3.0, 3.0)
    assert score(["a"], ["x y z"], unit="character").error_rate == 5.0


def test_rates_by_character_count_characters():
    result = score(["ab", "c"], ["ax", "c"], unit="character")
    assert (result.hits, result.substitutions, result.ser, result.mer) == (2, 1, 0.5, 1 / 3)
    assert (result.wer, result.num_words, result.num_characters) == (0.5, 2, 3)


def test_sclite_finds_the_same_words_and_never_fewer_errors(sclite, make_texts):
    references, hypotheses = make_texts(7, 400)
    theirs = sclite(references, hypotheses)
    ours = score(references, hypotheses).counts
    assert (theirs[:, :3].sum(axis=1) == ours[:, :3].sum(axis=1)).all()
    assert (theirs[:, 1:].sum(axis=1) >= ours[:, 1:].sum(axis=1)).all()


@pytest.mark.parametrize("align", ["levenshtein", "sclite"])
def test_counts_equal_sclite_where_the_alignment_has_no_choice(sclite, align):
    # All words of a reference differ, and edits never touch, so one alignment alone has the fewest errors.
    generator = random.Random(8)
    references, hypotheses = [], []
    for _ in range(200):
        reference = [f"w{number}" for number in range(generator.randint(1, 30))]
        hypothesis = list(reference)
        for position in range(1, len(reference), 4):
            edit = generator.choice(["keep", "substitute", "delete", "insert"])
            at = hypothesis.index(reference[position])
            if edit == "substitute":
                hypothesis[at] = "x"
            elif edit == "delete":
                del hypothesis[at]
            elif edit == "insert":
                hypothesis.insert(at, "x")
        references.append(" ".join(reference))
        hypotheses.append(" ".join(hypothesis))
    assert (sclite(references, hypotheses) == score(references, hypotheses, align=align).counts).all()


def test_counts_equal_the_recorded_output_of_sclite():
    # sclite 2.10 (SCTK 1.3): speakers a and b of `-o rsum`.
    references = ["the cat sat", "", "hello world"]
    hypotheses = ["the bat sat", "foo", "hello world"]
    assert score(references, hypotheses).counts.tolist() == [[2, 1, 0, 0], [0, 0, 0, 1], [2, 0, 0, 0]]
