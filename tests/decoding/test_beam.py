"""Beam search: exact against brute force, its scores against torch's CTC loss, what it may write."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from asr.decoding.beam import BeamDecoder
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.lexicon import Lexicon
from asr.decoding.search import collapse
from asr.errors import DataError

CHARACTERS = ("", " ", "a", "b")
EXHAUSTIVE = {"beam_size": 100_000, "beam_threshold": 1e9, "beam_size_token": 100}

# Probabilities with a back-off weight of 1, so that each word has that of its unigram.
ARPA = """
\\data\\
ngram 1={num}
ngram 2=1

\\1-grams:
-99\t<s>\t0
{end}\t</s>
{unknown}\t<unk>\t0
{words}

\\2-grams:
{end}\t<s> </s>

\\end\\
"""


def unigram_model(words, end=0.5, unknown=1e-3):
    lines = "\n".join(f"{math.log10(p):.6f}\t{word}\t0" for word, p in words.items())
    filled = {"num": len(words) + 3, "end": math.log10(end), "unknown": math.log10(unknown)}
    return ARPA.format(words=lines, **filled).encode()


def random_log_probs(num_frames, size, seed, sharpness=1.5):
    generator = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(num_frames, size, generator=generator)).log_softmax(dim=1)


def brute_force(log_probs):
    """Return the natural-log probability of every token sequence, summed over all its alignments."""
    totals = {}
    num_frames, size = log_probs.shape
    for path in itertools.product(range(size), repeat=num_frames):
        tokens = collapse(path)
        score = sum(log_probs[t, token].item() for t, token in enumerate(path))
        totals[tokens] = totals.get(tokens, 0.0) + math.exp(score)
    return {tokens: math.log(total) for tokens, total in totals.items()}


def search(log_probs, pieces, **options):
    return BeamDecoder(**options).nbest(log_probs[None], torch.tensor([len(log_probs)]), pieces)[0]


def torch_ctc(log_probs, tokens):
    loss = F.ctc_loss(
        log_probs[:, None],
        torch.tensor([tokens], dtype=torch.int64),
        torch.tensor([len(log_probs)]),
        torch.tensor([len(tokens)]),
        reduction="sum",
    )
    return -loss.item()


@pytest.mark.parametrize("seed", range(12))
def test_the_full_beam_finds_what_brute_force_over_all_alignments_finds(seed):
    log_probs = random_log_probs(6, 4, seed)
    expected = max(brute_force(log_probs).items(), key=lambda pair: pair[1])
    pieces = ("", " x", " y", " z")  # no two token sequences have the same text
    found = search(log_probs, pieces, **EXHAUSTIVE)[0]
    assert found.tokens == expected[0]
    assert found.acoustic == pytest.approx(expected[1], abs=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_the_full_beam_with_a_word_model_finds_what_brute_force_finds(seed):
    words = {"a": 0.2, "b": 0.02, "ab": 0.15, "ba": 0.1}
    log_probs = random_log_probs(6, 4, seed)

    def total(text):
        lm = sum(math.log(words[word]) for word in text.split()) + math.log(0.5)
        return 0.7 * lm + 0.4 * len(text.split())

    scored = {}
    for tokens, acoustic in brute_force(log_probs).items():
        text = "".join(CHARACTERS[t] for t in tokens)
        # Spaces at the ends and double spaces are other tokens for the same text.
        if all(word in words for word in text.split()):
            scored[tokens] = acoustic + total(text)
    best = max(scored, key=scored.get)
    found = search(
        log_probs,
        CHARACTERS,
        lm_weight=0.7,
        word_bonus=0.4,
        unknown_words="refuse",
        assets={"lm": unigram_model(words)},
        **EXHAUSTIVE,
    )[0]
    assert found.tokens == best
    assert found.total == pytest.approx(scored[best], abs=1e-4)


@pytest.mark.parametrize("options", [{}, {"assets": {"lm": unigram_model({"a": 0.2, "ba": 0.3})}}])
def test_reported_scores_are_torchs_ctc_scores_even_in_a_narrow_beam(options):
    log_probs = random_log_probs(40, 4, seed=3)
    candidates = search(log_probs, CHARACTERS, beam_size=5, nbest=5, **options)
    assert len(candidates) > 1
    for candidate in candidates:
        assert candidate.acoustic == pytest.approx(torch_ctc(log_probs, candidate.tokens), abs=1e-3)
    totals = [candidate.total for candidate in candidates]
    assert totals == sorted(totals, reverse=True)
    assert len({candidate.text for candidate in candidates}) == len(candidates)


@pytest.mark.parametrize("seed", range(5))
def test_without_a_model_no_text_is_less_probable_than_the_greedy_one(seed):
    log_probs = random_log_probs(50, 4, seed)
    greedy = GreedyDecoder()(log_probs[None], torch.tensor([50]), CHARACTERS, 0.02)[0]
    found = search(log_probs, CHARACTERS)[0]
    assert found.acoustic >= torch_ctc(log_probs, greedy.tokens) - 1e-4


def test_language_score_is_in_natural_logarithms_and_has_the_end_of_the_sentence():
    log_probs = spelled("a ba")
    found = search(log_probs, CHARACTERS, assets={"lm": unigram_model({"a": 0.2, "ba": 0.3}, end=0.5)})[0]
    assert found.text == "a ba"
    assert found.language == pytest.approx(math.log(0.2 * 0.3 * 0.5), abs=1e-4)
    assert found.total == pytest.approx(found.acoustic + found.language, abs=1e-5)


def spelled(text, pieces=CHARACTERS, probability=0.97):
    """Return log-probabilities that spell a text, a blank after each character."""
    path = [token for char in text for token in (pieces.index(char), 0)]
    log_probs = torch.full((len(path), len(pieces)), math.log((1 - probability) / (len(pieces) - 1)))
    log_probs[range(len(path)), path] = math.log(probability)
    return log_probs


def test_words_outside_are_spelled_or_refused():
    lm = {"lm": unigram_model({"a": 0.2, "ba": 0.3})}
    log_probs = spelled("bb a")
    spelling = search(log_probs, CHARACTERS, lm_weight=0.3, assets=lm)[0]
    assert (spelling.text, spelling.num_unknown) == ("bb a", 1)
    # log P(<unk>), 2 letters and the word's end out of 2 letters and the end, then "a" and the end.
    expected = math.log(1e-3) + 3 * math.log(1 / 3) + math.log(0.2 * 0.5)
    assert spelling.language == pytest.approx(expected, abs=1e-4)
    refusing = search(log_probs, CHARACTERS, unknown_words="refuse", assets=lm)[0]
    assert refusing.num_unknown == 0
    assert set(refusing.text.split()) <= {"a", "ba"}


def test_where_no_complete_word_is_possible_the_complete_part_is_given():
    lm = {"lm": unigram_model({"a": 0.2, "bbbbbbbbbbbbb": 0.3})}
    log_probs = spelled("b")
    found = search(log_probs[:1], CHARACTERS, unknown_words="refuse", beam_threshold=2.0, assets=lm)[0]
    assert found.text == ""


def test_character_models_score_the_words_with_single_spaces():
    model = unigram_model({"a": 0.3, "b": 0.1, "|": 0.2}, end=0.25)
    found = search(spelled("a b"), CHARACTERS, assets={"lm": model})[0]
    assert found.language == pytest.approx(math.log(0.3 * 0.2 * 0.1 * 0.25), abs=1e-4)
    double = search(spelled(" a  b "), CHARACTERS, assets={"lm": model})[0]
    assert (double.text, double.language) == ("a b", pytest.approx(found.language, abs=1e-6))


def test_subword_models_have_word_models_too():
    pieces = ("", " a", " b", "b", "a")
    path = [1, 0, 3, 0, 2, 0]
    log_probs = torch.full((6, 5), math.log(0.03 / 4))
    log_probs[range(6), path] = math.log(0.97)
    found = search(log_probs, pieces, assets={"lm": unigram_model({"ab": 0.2, "b": 0.3})})[0]
    assert found.text == "ab b"
    assert found.language == pytest.approx(math.log(0.2 * 0.3 * 0.5), abs=1e-4)


def test_a_lexicon_of_phones_writes_words_with_times():
    pieces = ("", " k", " ae", " t", " s")
    lexicon = Lexicon.from_text("cat k ae t\nsat\ts ae t |\nsad s ae t\n", "lex", pieces)
    path = [1, 0, 2, 3, 0, 4, 2, 3]
    log_probs = torch.full((8, 5), math.log(0.03 / 4))
    log_probs[range(8), path] = math.log(0.97)
    assets = {
        "lm": unigram_model({"cat": 0.2, "sat": 0.1, "sad": 0.01}),
        "lexicon": lexicon.to_text().encode(),
    }
    decoder = BeamDecoder(unknown_words="refuse", assets=assets)
    hypothesis = decoder(log_probs[None], torch.tensor([8]), pieces, 0.1)[0]
    assert hypothesis.text == "cat sat"  # of the homophones the one that the language model prefers
    assert [(w.text, w.tokens) for w in hypothesis.words] == [("cat", (1, 2, 3)), ("sat", (4, 2, 3))]
    assert [w.start for w in hypothesis.words] == pytest.approx([0.0, 0.5])


def test_hotwords_win_where_the_sound_allows_it():
    log_probs = spelled("ab")
    log_probs[2] = torch.tensor([0.02, 0.02, 0.46, 0.5]).log()  # "ab" a little more probable than "aa"
    assert search(log_probs, CHARACTERS)[0].text == "ab"
    boosted = search(log_probs, CHARACTERS, hotwords=["aa"], hotword_boost=0.5)[0]
    assert boosted.text == "aa"
    assert boosted.bonus == pytest.approx(2 * 0.5)


def test_a_hotword_counts_as_a_whole_word_only():
    for text, bonus in (("ab", 0.0), ("a b", 1.0), ("ba", 0.0), ("b a", 1.0), ("a a", 2.0)):
        found = search(spelled(text), CHARACTERS, hotwords=["a"], hotword_boost=1.0)[0]
        assert (found.text, found.bonus) == (text, pytest.approx(bonus)), text


def test_phrases_are_hotwords_and_unfinished_ones_give_their_boost_back():
    options = {"hotwords": ["a b"], "hotword_boost": 0.5}
    assert search(spelled("a b"), CHARACTERS, **options)[0].bonus == pytest.approx(1.5)
    assert search(spelled("a a"), CHARACTERS, **options)[0].bonus == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hotwords": ["ac"]}, "hotword 'ac' cannot be spelled: it has 'c'"),
        ({"hotwords": ["A"]}, "hotword 'A' cannot be spelled"),
        ({"hotwords": [" "]}, "a hotword is empty"),
        (
            {
                "hotwords": ["bb"],
                "unknown_words": "refuse",
                "assets": {"lm": unigram_model({"a": 0.2})},
            },
            "'bb' is outside the lexicon",
        ),
        ({"assets": {"lm": unigram_model({"A": 0.2, "BA": 0.1})}}, "lower case"),
        ({"assets": {"lexicon": b"c\tc\n"}}, "no word of the lexicon can be spelled"),
    ],
)
def test_what_does_not_fit_the_model_is_named(options, message):
    with pytest.raises(DataError, match=message):
        BeamDecoder(**options).prepare(CHARACTERS)


def test_a_model_without_unknown_words_is_noted_where_they_would_be_spelled():
    closed = unigram_model({"a": 0.2, "b": 0.2}).replace(b"-3.0\t<unk>", b"-99\t<unk>")
    missing = b"".join(
        line
        for line in unigram_model({"a": 0.2, "b": 0.2}).replace(b"1=5", b"1=4").splitlines(keepends=True)
        if b"<unk>" not in line
    )
    for content in (closed, missing):
        (note,) = BeamDecoder(assets={"lm": content}).prepare(CHARACTERS)
        assert "unknown words no probability" in note
        assert BeamDecoder(unknown_words="refuse", assets={"lm": content}).prepare(CHARACTERS) == []
    assert BeamDecoder(assets={"lm": unigram_model({"a": 0.2, "b": 0.2})}).prepare(CHARACTERS) == []


@pytest.mark.parametrize(
    "options", [{"beam_size": 0}, {"beam_threshold": 0.0}, {"lm_weight": -1.0}, {"num_workers": 0}]
)
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        BeamDecoder(**options)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x1f\x8bbroken"])
def test_what_is_no_language_model_is_refused(content):
    with pytest.raises(DataError, match="language model"):
        BeamDecoder(assets={"lm": content})


def test_workers_change_nothing():
    log_probs = torch.stack([random_log_probs(30, 4, seed) for seed in range(6)])
    lengths = torch.tensor([30, 12, 1, 29, 30, 7])
    lm = {"lm": unigram_model({"a": 0.2, "ba": 0.3})}
    alone = BeamDecoder(nbest=4, assets=lm)
    together = BeamDecoder(nbest=4, num_workers=2, assets=lm)
    try:
        assert together.nbest(log_probs, lengths, CHARACTERS) == alone.nbest(log_probs, lengths, CHARACTERS)
    finally:
        together.close()


def test_the_batch_changes_nothing():
    log_probs = torch.stack([random_log_probs(30, 4, seed) for seed in range(3)])
    lengths = torch.tensor([30, 11, 20])
    decoder = BeamDecoder(nbest=3)
    together = decoder.nbest(log_probs, lengths, CHARACTERS)
    for b, length in enumerate(lengths.tolist()):
        assert decoder.nbest(log_probs[b : b + 1, :length], lengths[b : b + 1], CHARACTERS)[0] == together[b]


def test_hypotheses_have_times_confidence_and_the_acoustic_score():
    log_probs = spelled("ab a")
    hypothesis = BeamDecoder()(log_probs[None], torch.tensor([8]), CHARACTERS, 0.02)[0]
    assert hypothesis.text == "ab a"
    assert [word.text for word in hypothesis.words] == ["ab", "a"]
    assert [word.start for word in hypothesis.words] == pytest.approx([0.0, 0.12])
    assert hypothesis.confidence == pytest.approx(0.97, abs=1e-4)
    assert hypothesis.log_prob == pytest.approx(torch_ctc(log_probs, hypothesis.tokens), abs=1e-4)
