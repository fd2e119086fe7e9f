"""Texts that belong to other utterances stand first when texts are ranked by a model's loss."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from asr.data.checks.splits import Split
from asr.data.checks.suspect import WRONG_NATS
from asr.decoding.greedy import GreedyDecoder
from asr.models.ctc import ctc_loss
from asr.suspects import rank_suspects
from asr.types import Utterance

LETTERS = {"_target_": "asr.text.CharacterTokenizer", "characters": "enotw"}


@pytest.fixture
def recognizer(tiny_recognizer):
    return tiny_recognizer(LETTERS)


@pytest.fixture
def utterances(tmp_path, recognizer):
    """Return 20 utterances of noise whose text is what the model hears."""
    found = []
    for i in range(20):
        rng = np.random.default_rng(i)
        samples = (0.1 * (1 + i % 5) * rng.standard_normal(8000 + 400 * i)).astype(np.float32)
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, samples, 8000, subtype="FLOAT")
        [heard] = recognizer.recognize_audio([samples.clip(-1, 1)])
        found.append(Utterance(f"u{i}", len(samples) / 8000, heard.text or "o", str(path)))
    return found


def split(utterances):
    return Split("test", "test.jsonl", list(utterances), list(range(1, len(utterances) + 1)))


def test_the_loss_is_that_of_torch_and_texts_are_ranked_by_it(recognizer, utterances):
    seconds = []
    suspects = rank_suspects(recognizer, [split(utterances)], seconds.append)
    assert sum(seconds) == pytest.approx(sum(u.duration for u in utterances))
    assert sorted(s.index for s in suspects) == list(range(20))
    losses = [s.loss for s in suspects]
    assert losses == sorted(losses, reverse=True)
    first = suspects[0]
    samples, _ = soundfile.read(first.utterance.audio_filepath, dtype="float32")
    with torch.inference_mode():
        log_probs, lengths = recognizer.log_probs(
            torch.tensor(samples.clip(-1, 1))[None], torch.tensor([len(samples)])
        )
        tokens = torch.tensor([recognizer.tokenizer.encode(first.text)])
        expected = ctc_loss(log_probs, lengths, tokens, torch.tensor([tokens.shape[1]])).item()
        [heard] = GreedyDecoder()(log_probs, lengths, recognizer.tokenizer.pieces, 0.02)
    assert first.loss == pytest.approx(expected / tokens.shape[1], rel=1e-4)
    assert first.advantage == pytest.approx((expected + heard.log_prob) / tokens.shape[1], rel=1e-4, abs=1e-4)
    assert first.recognized == heard.text


def test_a_wrong_text_is_called_wrong_and_located(recognizer, utterances):
    changed = [replace(u, text="ne" * 8) if i == 4 else u for i, u in enumerate(utterances)]
    suspects = rank_suspects(recognizer, [split(changed)])
    by_index = {s.index: s for s in suspects}
    wrong = by_index[4]
    assert wrong.advantage > by_index[3].advantage
    problem = replace(wrong, advantage=WRONG_NATS).problem()
    assert (problem.kind, problem.id, problem.line, problem.manifest) == ("wrong_text", "u4", 5, "test.jsonl")
    assert replace(wrong, advantage=WRONG_NATS - 0.01).problem() is None


def test_what_cannot_be_judged_is_left_to_the_other_checks(recognizer, utterances, tmp_path):
    bad = [
        Utterance("missing", 1.0, "one", str(tmp_path / "missing.wav")),
        replace(utterances[0], id="unknown", text="xyz"),
        replace(utterances[0], id="infeasible", text="on" * 500),
    ]
    assert rank_suspects(recognizer, [split(bad)]) == []
