import math

import numpy as np
import pytest

from asr.segments import Segmenter, split_segments
from asr.types import Hypothesis, Word

PIECES = ("", " ", "a", "b", "c")


def spell(*words):
    """A hypothesis in characters a, b, c of (text, start, end) words."""
    text = " ".join(word for word, _, _ in words)
    made = []
    for i, (word, start, end) in enumerate(words):
        tokens = tuple(PIECES.index(c) for c in (" " if i else "") + word)
        made.append(Word(word, start, end, 0.5, tokens))
    return Hypothesis(text, tuple(made), tuple(PIECES.index(c) for c in text), -1.0, 0.5)


def test_segments_end_at_pauses():
    segments = split_segments(spell(("a", 1.0, 1.2), ("b", 2.0, 2.2), ("cab", 3.1, 3.4)), 5.0)
    assert [(s.start, s.end, s.text) for s in segments] == [(1.0, 2.2, "a b"), (3.1, 3.4, "cab")]
    assert [s.tokens for s in segments] == [(2, 1, 3), (1, 4, 2, 3)]
    assert [s.avg_logprob for s in segments] == pytest.approx([math.log(0.5)] * 2)


def test_segments_end_before_they_are_too_long():
    slow = split_segments(spell(*(("a", i, i + 0.9) for i in range(100))), 100.0)
    assert [len(s.words) for s in slow] == [30, 30, 30, 10]
    assert all(s.end - s.start <= 30.0 for s in slow)
    fast = split_segments(spell(*(("abcabcabc", 0.1 * i, 0.1 * i + 0.1) for i in range(20))), 2.0)
    assert [len(s.text) for s in fast] == [79, 79, 39]


def test_a_segment_that_is_too_long_ends_at_the_longest_pause_of_its_second_half():
    # Words of 9 letters, a tenth of a second each; the pauses after the 2nd, 6th and 7th are 0.7, 0.3, 0.2 s.
    pauses = {2: 0.7, 6: 0.3, 7: 0.2}
    start, words = 0.0, []
    for i in range(1, 13):
        words.append(("abcabcabc", start, start + 0.1))
        start += 0.1 + pauses.get(i, 0.0)
    assert [len(s.words) for s in split_segments(spell(*words), 9.0)] == [6, 6]


def test_other_limits():
    giant = split_segments(spell(("a", 0.0, 0.1), ("b" * 100, 0.1, 0.2), ("c", 0.2, 0.3)), 1.0)
    assert [len(s.text) for s in giant] == [1, 100, 1]


def test_segments_lose_no_word_and_no_token():
    rng = np.random.default_rng(0)
    starts = np.cumsum(rng.exponential(0.6, 300))
    said = spell(*(("".join(rng.choice([*"abc"], 5)), t, t + 0.1) for t in starts))
    segments = split_segments(said, starts[-1] + 1)
    assert len(segments) > 20
    assert " ".join(s.text for s in segments) == said.text
    assert tuple(token for s in segments for token in s.tokens) == said.tokens
    assert [w.text for s in segments for w in s.words] == [w.text for w in said.words]


def test_times_stay_inside_the_audio_and_in_order():
    said = spell(("a", 0.5, 1.0), ("b", 0.8, 1.5), ("c", 1.4, 2.5))
    (segment,) = split_segments(said, 2.0, offset=10.0)
    assert [(w.start, w.end) for w in segment.words] == [(10.5, 11.0), (11.0, 11.5), (11.5, 12.0)]


def test_no_words_give_no_segments():
    assert split_segments(Hypothesis("", (), (), -1.0, 1.0), 1.0) == ()
    assert split_segments(Hypothesis("", (), (1,), -1.0, 1.0), 1.0) == ()


def test_words_that_come_one_by_one_give_the_same_segments():
    rng = np.random.default_rng(1)
    starts = np.cumsum(rng.exponential(0.4, 200))
    said = spell(*(("".join(rng.choice([*"abc"], 5)), t, t + 0.1) for t in starts))
    whole = split_segments(said, starts[-1] + 1)
    words = [word for segment in whole for word in segment.words]
    segmenter = Segmenter()
    streamed = [segment for word in words for segment in segmenter.add([word])]
    assert (*streamed, *segmenter.finish()) == whole
