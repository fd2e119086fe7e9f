"""Alternatives and optional words: what they mean with either aligner, and what is malformed."""

import pytest

from asr.errors import DataError
from asr.scoring import score


@pytest.mark.parametrize("align", ["levenshtein", "sclite"])
@pytest.mark.parametrize(
    ("reference", "hypothesis", "scored", "counts"),
    [
        ("{ um / uh / @ } yes", "uh yes", "uh yes", [2, 0, 0, 0]),
        ("{ um / uh / @ } yes", "yes", "yes", [1, 0, 0, 0]),
        ("{um/uh/@} yes", "um yes", "um yes", [2, 0, 0, 0]),
        ("i { am not / ain't } sure", "i am sure", "i am not sure", [3, 0, 1, 0]),
        ("{ a { b / c } / d } e", "a c e", "a c e", [3, 0, 0, 0]),
        ("{ a / b }{ c / d }", "b c", "b c", [2, 0, 0, 0]),
        ("and/or { a / b }", "and/or b", "and/or b", [2, 0, 0, 0]),
        ("{ / a / }", "a", "a", [1, 0, 0, 0]),
        ("{ @ / a } b", "x b", "b", [1, 0, 0, 1]),
        ("@ b", "b", "b", [1, 0, 0, 0]),
        ("me@x.org b", "me@x.org b", "me@x.org b", [2, 0, 0, 0]),
    ],
)
def test_the_wording_that_fits_best_is_scored(align, reference, hypothesis, scored, counts):
    result = score([reference], [hypothesis], align=align, alternatives=True)
    assert result.references == (scored,)
    assert result.counts.tolist() == [counts]
    assert [said for _, said, _ in result.alignments[0] if said is not None] == scored.split()
    assert result.num_characters == len(scored)


def test_a_hypothesis_may_hold_alternatives_too():
    result = score(["a b"], ["a { b / c }"], alternatives=True)
    assert (result.hits, result.hypotheses) == (2, ("a b",))


@pytest.mark.parametrize("align", ["levenshtein", "sclite"])
@pytest.mark.parametrize(
    ("hypothesis", "counts", "first"),
    [
        ("yes", [2, 0, 0, 0], ("C", "(uh)", "")),
        ("uh yes", [2, 0, 0, 0], ("C", "(uh)", "uh")),
        ("um yes", [1, 1, 0, 0], ("S", "(uh)", "um")),
    ],
)
def test_an_optional_word_may_be_left_out(align, hypothesis, counts, first):
    result = score(["(uh) yes"], [hypothesis], align=align, optional_words=True)
    assert result.counts.tolist() == [counts]
    assert result.alignments[0][0] == first
    assert score(["(uh) yes"], [hypothesis], align=align).hits == 1


def test_without_a_choice_alternatives_are_an_error_and_never_guessed_over():
    with pytest.raises(
        DataError, match=r"utterance 'u1': the reference holds alternatives .*alternatives=True"
    ):
        score({"u1": "{ a / b } c"}, {"u1": "a c"})
    assert score(["{ a / b } c"], ["a c"], alternatives=False).num_words == 6
    with pytest.raises(DataError, match="holds alternatives"):
        score(["{ { a } / b }"], ["a"])
    # Single braces are words, as for jiwer, and so is @.
    assert score(["a @"], ["a @"]).hits == 2
    assert score(["a {} {x} b {"], ["a {} {x} b {"]).hits == 5


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("a { b / c", "an opening brace without a closing one"),
        ("{ a } b }", "a closing brace without an opening one"),
        ("a{ b / c }", "a brace inside a word"),
        ("x { }", "a group without a word"),
        ("x { / }", "a group without a word"),
    ],
)
def test_malformed_braces_are_named_with_their_utterance(reference, problem):
    with pytest.raises(DataError, match=f"utterance 'u7': {problem} in ") as caught:
        score({"u7": reference}, {"u7": "a"}, alternatives=True)
    assert "\n" not in str(caught.value)


def test_characters_are_those_of_the_wording_taken():
    result = score(["{ ab / cd } e"], ["cd e"], alternatives=True, unit="character")
    assert (result.references, result.cer, result.hits) == (("cd e",), 0.0, 4)
