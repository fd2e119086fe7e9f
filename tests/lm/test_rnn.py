"""Recurrent language models: probabilities, stepping, files, sampling, and that they learn and resume."""

import itertools
import json
import math
import os
import signal

import pytest
import torch

from asr.errors import ConfigError, DataError, ModelError
from asr.lm.rnn import BOUNDARY, RnnLm, load_language_model, save_language_model, unpack_language_model
from asr.text import BpeTokenizer, CharacterTokenizer, WordTokenizer
from asr.training.checkpoint import read_checkpoint
from asr.training.language import train_language_model

TEXT = ["one two three", "two three one", "three one two three", "two", "one one two"] * 4
CHARACTERS = CharacterTokenizer.train(TEXT).to_config()
WORDS = WordTokenizer.train(TEXT).to_config()


def make_lm(tokenizer=CHARACTERS, cell="lstm", num_layers=2, norm="layer") -> RnnLm:
    torch.manual_seed(0)
    lm = RnnLm.from_config(
        {
            "tokenizer": tokenizer,
            "text": {"_target_": "asr.text.Normalizer"},
            "embedding_size": 8,
            "encoder": {
                "_target_": "asr.models.encoder.RecurrentEncoder",
                "cell": cell,
                "hidden_size": 12,
                "num_layers": num_layers,
                "norm": norm,
            },
        }
    )
    lm.head.weight.data *= 5
    return lm.eval()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_probabilities_are_those_of_torchs_own_layers(cell):
    lm = make_lm(cell=cell, norm="none")
    reference = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](8, 12, num_layers=2, batch_first=True)
    for i, layer in enumerate(lm.encoder.layers):
        for name, weight in layer.rnn.named_parameters():
            getattr(reference, name.replace("l0", f"l{i}")).data = weight.data
    ids = lm.encode("one two")
    hidden, _ = reference(lm.embedding(torch.tensor([[BOUNDARY, *ids]])))
    expected = lm.head(hidden)[0].log_softmax(1).gather(1, torch.tensor([*ids, BOUNDARY])[:, None])[:, 0]
    assert torch.allclose(lm.token_log_probs([ids])[0], expected, atol=1e-6)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("tokenizer", [CHARACTERS, WORDS])
def test_steps_and_whole_sentences_agree(cell, tokenizer):
    lm = make_lm(tokenizer, cell)
    texts = ["one two three", "two", "three one one two three"]
    for text, total in zip(texts, lm.score_texts(texts), strict=True):
        state, score, ids = lm.start(), 0.0, lm.encode(text)
        for read, said in itertools.pairwise([BOUNDARY, *ids, BOUNDARY]):
            log_probs, state = lm.step(state, torch.tensor([read]))
            assert log_probs.shape == (1, lm.size)
            assert log_probs.exp().sum().item() == pytest.approx(1, abs=1e-5)
            score += log_probs[0, said].item()
        assert score == pytest.approx(total, abs=1e-4)


def test_rows_of_a_state_can_be_picked_and_joined():
    lm = make_lm()
    _, a = lm.step(lm.start(), torch.tensor([BOUNDARY]))
    _, b = lm.step(a, torch.tensor([3]))
    both, state = lm.step(torch.cat([b, a]), torch.tensor([1, 2]))
    for row, (before, token) in enumerate([(b, 1), (a, 2)]):
        alone, after = lm.step(before, torch.tensor([token]))
        assert torch.allclose(both[row], alone[0], atol=1e-6)
        assert torch.allclose(state[row], after[0], atol=1e-6)


def test_a_score_does_not_depend_on_the_batch():
    lm = make_lm()
    together = lm.score_texts(TEXT)
    assert together == pytest.approx([lm.score_texts([text])[0] for text in TEXT], abs=1e-5)


def test_probabilities_of_all_texts_sum_to_at_most_one():
    lm = make_lm(WORDS, num_layers=1)
    words = ["one", "three", "two"]
    texts = [" ".join(t) for n in range(4) for t in itertools.product(words, repeat=n)]
    assert sum(map(math.exp, lm.score_texts(texts))) < 1


def test_perplexity_is_that_of_the_scores():
    lm = make_lm()
    found = lm.perplexity(["one  two", "", "three"])
    scores = lm.score_texts(["one two", "three"])
    assert (found.unit, found.num_sentences, found.num_words, found.num_text_words) == ("character", 2, 12, 3)
    assert found.ppl == pytest.approx(math.exp(-sum(scores) / 14), rel=1e-5)
    assert found.ppl_per_text_word == pytest.approx(math.exp(-sum(scores) / 5), rel=1e-5)
    with pytest.raises(DataError, match="no text to score"):
        lm.perplexity(["", " "])


@pytest.mark.parametrize(
    ("tokenizer", "text", "num_oov"),
    [
        (CHARACTERS, "one zwo", 1),
        (WORDS, "one zwo drei two", 2),
        (BpeTokenizer.train(TEXT, 20).to_config(), "one zwo", 1),
    ],
)
def test_what_cannot_be_spelled_is_counted(tokenizer, text, num_oov):
    lm = make_lm(tokenizer)
    assert lm.encode(text).count(lm.unknown_id) == num_oov
    assert lm.perplexity([text]).num_oov == num_oov
    assert lm.encode("one two") == lm.tokenizer.encode("one two")


def test_a_file_holds_all_of_it(tmp_path):
    lm = make_lm(BpeTokenizer.train(TEXT, 20).to_config(), "gru")
    save_language_model(tmp_path / "lm.asr", lm, {"epoch": 3})
    expected = lm.score_texts(TEXT)
    assert load_language_model(tmp_path / "lm.asr").score_texts(TEXT) == expected
    assert unpack_language_model((tmp_path / "lm.asr").read_bytes(), "lm").score_texts(TEXT) == expected


def test_files_of_other_kinds_are_named(tmp_path, tiny_recognizer):
    from asr.model_file import load_model, save_model

    save_model(tmp_path / "model.asr", tiny_recognizer(CHARACTERS), {})
    with pytest.raises(ModelError, match="holds a speech recogniser, not a language model"):
        load_language_model(tmp_path / "model.asr")
    save_language_model(tmp_path / "lm.asr", make_lm(), {})
    with pytest.raises(ModelError, match="holds a language model, not a speech recogniser"):
        load_model(tmp_path / "lm.asr")
    (tmp_path / "cut.asr").write_bytes((tmp_path / "lm.asr").read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"cut\.asr: not a model file, or cut short"):
        load_language_model(tmp_path / "cut.asr")


def test_samples_follow_the_seed_and_the_temperature():
    lm = make_lm(WORDS)
    assert lm.sample(5, seed=1) == lm.sample(5, seed=1)
    assert lm.sample(5, seed=1) != lm.sample(5, seed=2)
    assert len(set(lm.sample(5, temperature=0, max_tokens=10))) == 1
    assert all(len(text.split()) <= 4 for text in lm.sample(20, max_tokens=4))


class Silent:
    """A monitor that keeps the notes, and can stop the training after some steps."""

    def __init__(self, steps=-1):
        self.notes, self.steps = [], steps

    def start_epoch(self, epoch, num_epochs, seconds, done):
        self.size = seconds

    def step(self, *, loss, lr, seconds, running):
        self.steps -= 1
        if self.steps == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    def end_epoch(self, metrics):
        self.metrics = metrics

    def note(self, message):
        self.notes.append(message)


def make_config(epochs=3, **changes):
    lm = make_lm().config
    return {
        "seed": 1,
        "batch_tokens": 60,
        **lm,
        "tokenizer": {"_target_": "asr.text.CharacterTokenizer"},
        "optimizer": {"_target_": "asr.training.optimization.adamw", "lr": 0.02},
        "scheduler": {"_target_": "asr.training.schedules.WarmupCosine"},
        "trainer": {
            "_target_": "asr.training.loop.Trainer",
            "epochs": epochs,
            "precision": "32-true",
            "accelerator": "cpu",
        },
    } | changes


def test_it_learns_keeps_the_best_epoch_and_reports(tmp_path):
    monitor = Silent()
    lm = train_language_model(make_config(12), TEXT, TEXT[:5], tmp_path, monitor)
    history = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert history[-1]["dev_ppl"] < 0.5 * history[0]["dev_ppl"]
    best = min(entry["dev_ppl"] for entry in history)
    assert lm.perplexity(TEXT[:5]).ppl == pytest.approx(best, rel=1e-5)
    assert {"dev_ppl_per_word", "tokens_per_second", "train_loss", "lr"} <= history[0].keys()
    assert monitor.size == sum(len(text) + 1 for text in TEXT)
    # It has seen no other words.
    assert set(" ".join(lm.sample(20, temperature=0.3)).split()) & {"one", "two", "three"}


def test_the_loss_reported_is_that_of_the_scores(tmp_path):
    lm = train_language_model(make_config(1), TEXT, TEXT[:5], tmp_path, Silent())
    entry = json.loads((tmp_path / "metrics.jsonl").read_text())
    scores = lm.score_texts(TEXT[:5])
    assert entry["dev_loss"] == pytest.approx(-sum(scores) / sum(len(t) + 1 for t in TEXT[:5]), rel=1e-5)


@pytest.mark.parametrize("steps", [2, 9])
def test_resumed_training_ends_with_the_same_weights_bit_for_bit(tmp_path, steps):
    from asr.training.signals import TrainingInterrupted

    train_language_model(make_config(), TEXT, TEXT, tmp_path / "whole", Silent())
    with pytest.raises(TrainingInterrupted):
        train_language_model(make_config(), TEXT, TEXT, tmp_path / "cut", Silent(steps))
    monitor = Silent()
    train_language_model(make_config(), TEXT, TEXT, tmp_path / "cut", monitor)
    assert any("going on from epoch" in note for note in monitor.notes)
    whole, cut = (read_checkpoint(tmp_path / name)["model"] for name in ("whole", "cut"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_other_settings_and_other_text_are_not_mixed_in(tmp_path):
    train_language_model(make_config(1), TEXT, TEXT, tmp_path, Silent())
    with pytest.raises(ConfigError, match="other settings for seed; choose another --output"):
        train_language_model(make_config(1, seed=2), TEXT, TEXT, tmp_path, Silent())
    with pytest.raises(ConfigError, match="other settings for training_data"):
        train_language_model(make_config(1), TEXT[1:], TEXT, tmp_path, Silent())


@pytest.mark.parametrize(("train", "dev", "name"), [([" "], TEXT, "training"), (TEXT, [], "dev")])
def test_empty_text_is_named(tmp_path, train, dev, name):
    with pytest.raises(DataError, match=f"there is no {name} text for a language model"):
        train_language_model(make_config(1), train, dev, tmp_path, Silent())
