"""Alignments and measures are jiwer's, on random and adversarial texts of any script."""

import random

import jiwer
import pytest

from asr.scoring import alignment, score

ALPHABETS = {
    "few words": ["a", "b", "c"],
    "combining marks": ["é", "e\u0301", "e", "\u0301", "a\u0308\u0301", "ä\u0301"],
    "right to left": ["שלום", "שָׁלוֹם", "سلام", "سَلام", "\u200f", "ab"],
    "CJK": ["你", "你好", "好", "世界", "，", "日本語", "ニホン"],
    "emoji": ["😀", "👩‍👩‍👧", "👩", "🇩🇪", "🇩", "\ufe0f", "❤️"],
    "Turkish": ["ı", "i", "I", "İ", "i\u0307", "ILIK", "ılık"],
    "punctuation": ["@", "{", "}", "/", "(uh)", "*", ";", "\\", "", "\u200b", "\ud7ff", "\U0010ffff"],
}


def _texts(alphabet, count=150, seed=0):
    random_ = random.Random(seed)
    return [
        [" ".join(random_.choices(alphabet, k=random_.randint(0, 9))) for _ in range(count)] for _ in range(2)
    ]


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS)
def test_measures_equal_jiwer(alphabet):
    references, hypotheses = _texts(alphabet)
    words = jiwer.process_words(references, hypotheses)
    characters = jiwer.process_characters(
        [" ".join(t.split()) for t in references], [" ".join(t.split()) for t in hypotheses]
    )
    result = score(references, hypotheses, alternatives=False)
    assert (result.wer, result.mer, result.wil, result.cer) == (
        words.wer,
        words.mer,
        words.wil,
        characters.cer,
    )
    for name in ("hits", "substitutions", "deletions", "insertions"):
        assert getattr(result, name) == getattr(words, name)
    by_character = score(references, hypotheses, alternatives=False, unit="character")
    assert (by_character.wer, by_character.cer) == (words.wer, characters.cer)
    for name in ("hits", "substitutions", "deletions", "insertions"):
        assert getattr(by_character, name) == getattr(characters, name)


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS)
def test_alignments_equal_jiwer_and_reproduce_both_texts(alphabet):
    letters = {"equal": "C", "substitute": "S", "delete": "D", "insert": "I"}
    references, hypotheses = _texts(alphabet, seed=1)
    result = score(references, hypotheses, alternatives=False)
    theirs = jiwer.process_words(references, hypotheses).alignments
    for index, chunks in enumerate(theirs):
        expected = "".join(
            letters[chunk.type]
            * max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
            for chunk in chunks
        )
        aligned = result.alignments[index]
        assert "".join(operation for operation, _, _ in aligned) == expected
        assert [said for _, said, _ in aligned if said is not None] == references[index].split()
        assert [word for _, _, word in aligned if word is not None] == hypotheses[index].split()
        assert [expected.count(letter) for letter in "CSDI"] == result.counts[index].tolist()


def test_more_words_than_code_points_are_aligned_all_the_same(monkeypatch):
    references, hypotheses = _texts([f"w{number}" for number in range(50)])
    few = score(references, hypotheses)
    monkeypatch.setattr(alignment, "_FIRST_ID", 0x110000 - 20)
    assert score(references, hypotheses).alignments[:] == few.alignments[:]


def test_alignments_are_a_sequence():
    alignments = score(["a b", "c"], ["a", "c d"]).alignments
    assert len(alignments) == 2
    assert alignments[-1] == [("C", "c", "c"), ("I", None, "d")]
    assert alignments[:1] == [[("C", "a", "a"), ("D", "b", None)]]
    assert alignments.words(0) == (["a", "b"], ["a"])
    with pytest.raises(IndexError):
        alignments[2]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "cer"),
    [
        ("今天天气很好", "今天天氣好", 2 / 6),
        ("你 好", "你好", 1 / 3),
        # Code points, as for jiwer: a composed letter is another text than a letter with its mark.
        ("\u00e9", "e\u0301", 2 / 1),
        ("👩‍👩‍👧", "👩", 4 / 5),
        ("שלום", "שלומ", 1 / 4),
    ],
)
def test_character_error_rates_worked_by_hand(reference, hypothesis, cer):
    result = score([reference], [hypothesis], unit="character")
    assert result.cer == result.error_rate == pytest.approx(cer)


def test_a_space_is_a_character_like_any_other():
    result = score(["ab c"], ["abc"], unit="character")
    assert result.alignments[0][2] == ("D", " ", None)
    assert (result.num_words, result.wer, result.unit) == (2, 1.0, "character")
    assert set(result.to_dict()) >= {"cer_interval", "unit"}
