"""The alignment that may leave out words and audio."""

import tracemalloc

import numpy as np
import pytest
import torch

from asr.alignment import viterbi
from asr.alignment.viterbi import NOTHING_LEFT_OUT, Costs, align_words
from asr.decoding.timing import force_align

SPACE = 1


def frames(path, vocabulary=8, probability=0.95):
    rest = np.log((1 - probability) / (vocabulary - 1))
    log_probs = np.full((len(path), vocabulary), rest, dtype=np.float32)
    log_probs[np.arange(len(path)), path] = np.log(probability)
    return log_probs


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in blocks"])
@pytest.mark.parametrize("seed", range(10))
def test_with_nothing_left_out_it_is_as_good_as_torchaudios_aligner(seed, whole, monkeypatch):
    if not whole:
        monkeypatch.setattr(viterbi, "_WHOLE", 1)
    generator = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(60, 5, generator=generator).mul(3).log_softmax(-1)
    words = [torch.randint(1, 5, (n,), generator=generator).tolist() for n in (1, 3, 2, 4, 1, 2)]
    tokens = [token for word in words for token in word]

    def score(spans):
        path = torch.zeros(60, dtype=torch.int64)
        for token, (start, end) in zip(tokens, spans, strict=True):
            path[start:end] = token
        return log_probs[torch.arange(60), path].sum().item()

    path = align_words(log_probs.numpy(), words, NOTHING_LEFT_OUT)
    spans = [(start, end) for word in path.words for _, start, end in word]
    assert path.fillers == ()
    assert score(spans) == pytest.approx(score([s[1:3] for s in force_align(log_probs, tokens)]), abs=1e-3)


def test_a_word_that_was_not_said_is_left_out_and_the_others_keep_their_places():
    path = [0, 2, 3, 0, 0, 4, 5, 0, 0]
    whole = align_words(frames(path), [(2, 3), (4, 5)], Costs())
    found = align_words(frames(path), [(2, 3), (6, 7, 6), (4, 5)], Costs())
    assert found.words == (whole.words[0], None, whole.words[1])
    assert found.fillers == ()


def test_speech_that_the_text_lacks_falls_to_the_filler():
    path = [0, 2, 3, 0, 0, 6, 0, 7, 6, 7, 0, 4, 5, 0]
    found = align_words(frames(path), [(2, 3), (4, 5)], Costs())
    assert found.words == (((0, 1, 2), (1, 2, 3)), ((0, 11, 12), (1, 12, 13)))
    ((start, end, before),) = found.fillers
    assert (start <= 5, end >= 10, before) == (True, True, 1)


def test_a_wrong_word_is_left_out_and_its_speech_too():
    path = [0, 2, 3, 0, 6, 7, 6, 7, 0, 4, 5, 0]
    found = align_words(frames(path), [(2, 3), (4, 4, 2), (4, 5)], Costs())
    assert [word is None for word in found.words] == [False, True, False]
    assert len(found.fillers) == 1


@pytest.mark.parametrize("text", [[(6, 7)], [(6, 7)] * 40], ids=["one word", "a text far too long"])
def test_a_text_that_was_not_said_at_all_is_left_out_whole(text):
    found = align_words(frames([0, 2, 3, 4, 5, 2, 3, 0], probability=0.999), text, Costs())
    assert found.words == (None,) * len(text)


def test_the_same_word_twice_needs_a_blank_between():
    found = align_words(frames([2, 2, 0, 2, 2]), [(2,), (2,)], NOTHING_LEFT_OUT)
    assert found.words == (((0, 0, 2),), ((0, 3, 5),))


@pytest.mark.parametrize("said", [True, False])
def test_a_space_may_go_unsaid(said):
    path = [2, 3, 0, SPACE if said else 0, 4, 5]
    found = align_words(frames(path), [(2, 3), (SPACE, 4, 5)], NOTHING_LEFT_OUT, SPACE)
    assert [position for position, _, _ in found.words[1]] == ([0, 1, 2] if said else [1, 2])


def test_memory_grows_with_the_root_of_the_length(monkeypatch):
    monkeypatch.setattr(viterbi, "_WHOLE", 1)
    tokens = [2 + i % 5 for i in range(300)]
    path = [token for t in tokens for token in (0, t, 0)]
    log_probs = frames(path)
    tracemalloc.start()
    found = align_words(log_probs, [(t,) for t in tokens], Costs())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [word[0][1] for word in found.words] == list(range(1, 900, 3))
    assert peak < 900 * 601  # a byte for every frame and state
