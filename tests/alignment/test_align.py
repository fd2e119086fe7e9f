"""Transcripts aligned with recordings: spelling, windows, cuts, what is missing."""

import itertools
import random

import numpy as np
import pytest
import soundfile as sf
import torch

from asr.alignment import align as align_module
from asr.alignment.align import align_text, find_words
from asr.alignment.spelling import spell
from asr.alignment.viterbi import Costs
from asr.alignment.windows import CONTEXT, MIN_WINDOW, long_log_probs
from asr.errors import DataError
from asr.text import CharacterTokenizer, Normalizer, WordTokenizer
from asr.types import Utterance

CHARACTERS = {"_target_": "asr.text.CharacterTokenizer", "characters": " abcde"}
RATE = 8000


def test_words_are_spelled_as_the_model_hears_them_and_shown_as_written():
    tokenizer = CharacterTokenizer(" -abceintwy")
    words, unknown = spell("A 1 «café»\ntwenty-two", Normalizer(punctuation="remove"), tokenizer)
    assert [(w.text, w.line) for w in words] == [("A", 0), ("1", 0), ("«café»", 0), ("twenty-two", 1)]
    assert [tokenizer.decode(w.tokens) for w in words] == ["a", "", "ca", "twenty tw"]
    assert unknown == {"1": 1, "f": 1, "é": 1, "o": 1}


def test_a_tokenizer_of_words_leaves_unknown_words_out_whole():
    words, unknown = spell("one two one", Normalizer(), WordTokenizer(["one"]))
    assert [w.tokens for w in words] == [(1,), (), (1,)]
    assert unknown == {"two": 1}


@pytest.fixture
def recording(tmp_path):
    """Noise of 20 s, as an utterance that starts a second into its file."""
    samples = 0.1 * np.random.default_rng(0).standard_normal(21 * RATE)
    sf.write(tmp_path / "long.wav", samples, RATE)
    return Utterance("long", 20.0, audio_filepath=str(tmp_path / "long.wav"), offset=1.0)


def test_windows_give_every_frame_once_from_its_own_surroundings(tiny_recognizer, recording):
    recognizer = tiny_recognizer(CHARACTERS, sample_rate=RATE)
    done = []
    log_probs = long_log_probs(recognizer, recording, done.append)
    assert len(log_probs) == recognizer.output_length(20.0)
    assert sum(done) == pytest.approx(20.0)

    # The second window: what is kept of it is what the model says of that stretch alone.
    shift = recognizer.frame_shift
    context, window = round(CONTEXT / shift), round(MIN_WINDOW / shift)
    keep = window - 2 * context
    unit = round(shift * RATE)
    samples, _ = sf.read(recording.audio_filepath, dtype="float32", start=RATE)
    alone = torch.from_numpy(samples[(keep - context) * unit : (keep - context + window) * unit])
    with torch.inference_mode():
        expected, _ = recognizer.log_probs(alone[None], torch.tensor([len(alone)]))
    torch.testing.assert_close(
        log_probs[keep : 2 * keep], expected[0, context : context + keep], atol=1e-4, rtol=0
    )


def test_features_are_cut_into_the_same_windows_as_audio(tiny_recognizer, recording, tmp_path):
    recognizer = tiny_recognizer(CHARACTERS, sample_rate=RATE)
    samples, _ = sf.read(recording.audio_filepath, dtype="float32", start=RATE)
    frames = recognizer.features.extractor(torch.from_numpy(samples)[None])[0]
    np.save(tmp_path / "long.npy", frames.numpy())
    features = Utterance("long", 20.0, features_filepath=str(tmp_path / "long.npy"))
    # The features of a window of samples lack the last frames, which reach beyond it: only their
    # surroundings differ, by two frames in the context.
    difference = (long_log_probs(recognizer, features) - long_log_probs(recognizer, recording)).abs()
    assert difference.mean() < 0.02


def talk(num_words, seed=0):
    """Log-probabilities of random words with their tokens and the frame where each begins."""
    rng = random.Random(seed)
    pieces = ("", " ", "a", "b", "c", "d", "e")
    path, words, starts = [0], [], []
    for number in range(num_words):
        word = [rng.randrange(2, 7) for _ in range(rng.randint(2, 6))]
        if number:
            path += [1, 0]
        starts.append(len(path))
        for token in word:
            path += [token, 0]
        path += [0] * rng.randrange(6)
        words.append([1, *word] if number else word)
    noise = np.random.default_rng(seed).normal(0, 0.5, (len(path), 7))
    logits = noise + 9 * np.eye(7)[path]
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return log_probs.astype(np.float32), words, starts, pieces


def begins(places):
    """First frame of each word's first token that is no space."""
    return [
        None if p is None else next(start for k, start, _ in p if k > 0 or i == 0)
        for i, p in enumerate(places)
    ]


def test_a_long_text_is_cut_where_the_recogniser_agrees_and_nothing_changes(monkeypatch):
    log_probs, words, starts, pieces = talk(250)
    del words[150:153], starts[150:153]
    whole, extra = find_words(log_probs, words, pieces, Costs())
    monkeypatch.setattr(align_module, "_MAX_CELLS", 1)
    spans = align_module._best_path(log_probs)
    slices = list(align_module._slices(len(log_probs), spans, words, pieces))
    assert len(slices) >= 3
    assert all(a[1] == b[0] and a[3] == b[2] for a, b in itertools.pairwise(slices))
    assert (slices[0][0], slices[0][2], slices[-1][1], slices[-1][3]) == (0, 0, len(words), len(log_probs))
    cut, cut_extra = find_words(log_probs, words, pieces, Costs())
    assert (cut, cut_extra) == (whole, extra)
    assert begins(cut) == starts
    assert len(extra) == 1


def test_words_put_into_a_long_text_are_found_out():
    """The figures of the README are from real speech; here every word is clear."""
    log_probs, words, starts, pieces = talk(150, seed=1)
    rng = random.Random(2)
    text, truth = [], []
    for word, start in zip(words, starts, strict=True):
        if rng.random() < 0.1:
            text.append([1, *(rng.randrange(2, 7) for _ in range(5))])
            truth.append(None)
        text.append(word)
        truth.append(start)
    places, extra = find_words(log_probs, text, pieces, Costs())
    assert sum(a == b for a, b in zip(begins(places), truth, strict=True)) >= 0.98 * len(truth)
    assert len(extra) <= 1


def test_an_alignment_is_in_order_and_inside_the_audio(tiny_recognizer, recording):
    recognizer = tiny_recognizer(CHARACTERS, sample_rate=RATE)
    never = Costs(1e6, 1e6, 1e6)
    alignment = align_text(recognizer, recording, "ab ba!\nCAB", costs=never)
    assert [(w.text, w.line, "".join(t.text for t in w.tokens)) for w in alignment.words] == [
        ("ab", 0, "ab"),
        ("ba!", 0, "ba"),
        ("CAB", 1, "cab"),
    ]
    assert alignment.unknown == {"!": 1}
    times = [t for w in alignment.words for t in (w.start, w.end)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= alignment.duration == 20.0
    for word in alignment.words:
        assert (word.tokens[0].start, word.tokens[-1].end) == (word.start, word.end)
        assert all(a.end == b.start for a, b in itertools.pairwise(word.tokens))


def test_a_text_that_cannot_be_spelled_is_refused_with_the_tokens(tiny_recognizer, recording):
    with pytest.raises(DataError, match="no word that the model can spell; its tokens are ' ', 'a'"):
        align_text(tiny_recognizer(CHARACTERS, sample_rate=RATE), recording, "123")


def test_no_word_ends_after_the_audio(tiny_recognizer, tmp_path):
    # 100 samples beyond a whole number of frames: the last output frame reaches over the end.
    sf.write(tmp_path / "short.wav", 0.1 * np.random.default_rng(1).standard_normal(RATE + 100), RATE)
    utterance = Utterance("short", (RATE + 100) / RATE, audio_filepath=str(tmp_path / "short.wav"))
    recognizer = tiny_recognizer(CHARACTERS, sample_rate=RATE, stride=7)
    num_frames = len(long_log_probs(recognizer, utterance))
    alignment = align_text(recognizer, utterance, "a" * (num_frames // 2), costs=Costs(1e6, 1e6, 1e6))
    assert alignment.words[-1].end <= alignment.duration
