"""Forced alignment and word times."""

import itertools

import pytest
import torch

from asr.decoding.timing import END_EXTENSION, force_align, group_words, merge_path, time_words
from asr.errors import DataError

PIECES = ("", " ", "a", "b")


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("tokens", [[1], [1, 2], [2, 2], [1, 2, 1]])
def test_the_path_is_the_best_of_all_that_spell_the_tokens(tokens, seed):
    log_probs = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)).mul(3).log_softmax(-1)

    def spelled(path):
        return [token for token, _ in itertools.groupby(path) if token]

    best = max(
        (path for path in itertools.product(range(3), repeat=5) if spelled(path) == tokens),
        key=lambda path: sum(log_probs[t, token].item() for t, token in enumerate(path)),
    )
    probabilities = [log_probs[t, token].exp().item() for t, token in enumerate(best)]
    expected = merge_path(best, probabilities)
    found = force_align(log_probs, tokens)
    assert [span[:3] for span in found] == [span[:3] for span in expected]
    assert [span[3] for span in found] == pytest.approx([span[3] for span in expected], rel=1e-5)


def test_no_tokens_have_no_spans():
    assert force_align(torch.zeros(3, 4), []) == []
    assert time_words(torch.zeros(3, 4), [1], PIECES, 0.02) == ()


@pytest.mark.parametrize("tokens", [[1, 2, 3], [2, 2]])
def test_a_text_too_long_for_its_frames_is_refused(tokens):
    with pytest.raises(DataError, match="need 3 frames, the audio has 2"):
        force_align(torch.zeros(2, 4), tokens)


def word_ends(spans, num_frames, shift=0.01):
    return [round(w.end, 6) for w in group_words(spans, PIECES, shift, num_frames)]


def test_a_word_outlasts_its_last_token_but_not_the_middle_of_the_gap():
    far = [(2, 0, 1, 1.0), (1, 30, 31, 1.0), (3, 50, 52, 1.0)]
    assert word_ends(far, 100) == [round(0.01 + END_EXTENSION, 6), round(0.52 + END_EXTENSION, 6)]
    near = [(2, 0, 1, 1.0), (1, 2, 3, 1.0), (3, 5, 6, 1.0)]
    assert word_ends(near, 7) == [0.03, 0.07]


def test_adjacent_words_do_not_overlap():
    spans = [(2, 0, 4, 1.0), (1, 4, 5, 1.0), (3, 5, 9, 1.0)]
    first, second = group_words(spans, PIECES, 0.02, 9)
    assert first.end <= second.start
    assert second.end == pytest.approx(9 * 0.02)
