"""Language models asked symbol by symbol give what they give for whole sentences."""

import math

import pytest
import torch

from asr import container
from asr.decoding.beam import BeamDecoder
from asr.decoding.scorers import MAX_ORDER, NgramScorer, RnnScorer, load_scorer
from asr.errors import DataError
from asr.lm.rnn import KIND, RnnLm
from asr.lm.units import SPACE
from asr.text import CharacterTokenizer, WordTokenizer

TEXT = ["ab a", "b ab", "a b"]
CHARACTERS = ("", " ", "a", "b")
UNIGRAMS = [(-99, "<s>"), (-1, "</s>"), (-1, "<unk>"), (-1, "a")]


def rnn(tokenizer=CharacterTokenizer, seed=0):
    """Return a small recurrent model with random weights, and its file."""
    torch.manual_seed(seed)
    lm = RnnLm.from_config(
        {
            "tokenizer": tokenizer.train(TEXT).to_config(),
            "text": {"_target_": "asr.text.Normalizer"},
            "embedding_size": 4,
            "encoder": {
                "_target_": "asr.models.encoder.RecurrentEncoder",
                "cell": "gru",
                "hidden_size": 8,
                "num_layers": 1,
            },
        }
    ).eval()
    lm.head.weight.data *= 5
    return lm, container.pack(KIND, {"config": lm.config, "info": {}}, lm.state_dict())


def arpa(order):
    """Return a model of that order, all of whose words are "a"."""
    counts = [f"ngram {n}={4 if n == 1 else 1}" for n in range(1, order + 1)]
    backoff = "\t0" if order > 1 else ""
    sections = ["\\1-grams:", *(f"{p}\t{w}{backoff}" for p, w in UNIGRAMS)]
    for n in range(2, order + 1):
        sections += ["", f"\\{n}-grams:", f"-0.5\t{' '.join('a' * n)}" + ("\t0" if n < order else "")]
    return "\n".join(["\\data\\", *counts, "", *sections, "", "\\end\\", ""]).encode()


@pytest.mark.parametrize(
    ("tokenizer", "symbols"),
    [(CharacterTokenizer, lambda text: [SPACE if c == " " else c for c in text]), (WordTokenizer, str.split)],
)
def test_a_recurrent_model_gives_symbol_by_symbol_what_it_gives_for_the_sentence(tokenizer, symbols):
    lm, content = rnn(tokenizer)
    scorer = load_scorer(content)
    assert isinstance(scorer, RnnScorer)
    assert scorer.unit == lm.unit
    assert set(scorer.vocabulary) == {s for text in TEXT for s in symbols(text)}
    texts = ["ab a", "a", "b b ab", ""]
    for text, whole in zip(texts, lm.score_texts(texts), strict=True):
        state, total = scorer.start(), 0.0
        for symbol in symbols(text):
            state, score = scorer.score(state, symbol)
            total += score
        assert total + scorer.finish(state) == pytest.approx(whole, abs=1e-4)
    assert scorer.score_texts(texts) == pytest.approx(lm.score_texts(texts))


def test_a_recurrent_model_has_its_own_unknown():
    lm, content = rnn(WordTokenizer)
    scorer = RnnScorer(content)
    _, score = scorer.score(scorer.start(), "zebra")
    log_probs, _ = lm.step(lm.start(), torch.tensor([0]))
    assert score == pytest.approx(log_probs[0, lm.unknown_id].item(), abs=1e-6)
    assert scorer.knows_unknown


def test_a_recurrent_model_fused_in_the_beam_scores_the_found_text():
    lm, content = rnn()
    log_probs = torch.randn(12, 4, generator=torch.Generator().manual_seed(1)).log_softmax(1)
    decoder = BeamDecoder(lm_weight=0.5, nbest=5, assets={"lm": content})
    for candidate in decoder.nbest(log_probs[None], torch.tensor([12]), CHARACTERS)[0]:
        assert candidate.language == pytest.approx(lm.score_texts([candidate.text])[0], abs=1e-4)
        assert candidate.total == pytest.approx(candidate.acoustic + 0.5 * candidate.language, abs=1e-6)


def test_rescoring_ranks_the_found_texts_by_the_second_models_scores():
    lm, content = rnn()
    log_probs = torch.randn(12, 4, generator=torch.Generator().manual_seed(2)).log_softmax(1)
    batch, lengths = log_probs[None], torch.tensor([12])
    plain = BeamDecoder(nbest=8).nbest(batch, lengths, CHARACTERS)[0]
    rescoring = BeamDecoder(nbest=8, rescore_weight=3.0, assets={"rescorer": content})
    found = rescoring.nbest(batch, lengths, CHARACTERS)[0]
    assert {c.text for c in found} == {c.text for c in plain}
    assert [c.text for c in found] != [c.text for c in plain]
    for candidate in found:
        assert candidate.rescored == pytest.approx(lm.score_texts([candidate.text])[0], abs=1e-4)
        assert candidate.total == pytest.approx(candidate.acoustic + 3.0 * candidate.rescored, abs=1e-5)
    assert [c.total for c in found] == sorted((c.total for c in found), reverse=True)
    # What a caller gets is the best of them all, though it asked for one.
    assert rescoring(batch, lengths, CHARACTERS, 0.02)[0].text == found[0].text
    weightless = BeamDecoder(nbest=8, rescore_weight=0.0, assets={"rescorer": content})
    assert [c.text for c in weightless.nbest(batch, lengths, CHARACTERS)[0]] == [c.text for c in plain]


@pytest.mark.parametrize("order", [2, MAX_ORDER])
def test_n_gram_models_of_the_orders_that_kenlm_reads(order):
    scorer = NgramScorer(arpa(order))
    score = scorer.score_texts(["a"])[0]
    assert score == pytest.approx(-2 * math.log(10), abs=1e-5)  # <s> a, a </s>: both back off, weight 1


@pytest.mark.parametrize(
    ("order", "reason"), [(1, "at least a bigram"), (MAX_ORDER + 1, f"has order {MAX_ORDER + 1}")]
)
def test_other_orders_are_refused_with_both_limits(order, reason):
    with pytest.raises(DataError) as error:
        NgramScorer(arpa(order))
    assert reason in str(error.value)
    assert "orders 2 to 6" in str(error.value)
    assert "\n" not in str(error.value)
