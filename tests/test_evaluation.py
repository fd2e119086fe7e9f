"""Evaluation: nothing stops it, nothing is hidden, what cannot be spelled is scored as it is."""

import json

import numpy as np
import pytest

from asr import audio
from asr.data.manifest import read_manifest, write_manifest
from asr.errors import DataError
from asr.evaluation import evaluate
from asr.types import Utterance


@pytest.fixture
def recognizer(tiny_recognizer):
    return tiny_recognizer({"_target_": "asr.text.WordTokenizer", "words": ["one", "two", "oneself"]})


def make_manifest(folder, texts):
    utterances = []
    for i, text in enumerate(texts):
        path = folder / f"{i}.wav"
        noise = np.random.default_rng(i).standard_normal(8000 + 500 * i).astype(np.float32)
        audio.save(path, 0.1 * noise, 8000)
        utterances.append(Utterance(f"u{i}", len(noise) / 8000, text, audio_filepath=str(path), speaker="s"))
    write_manifest(folder / "m.jsonl", utterances)
    return read_manifest(folder / "m.jsonl")


def test_hypotheses_come_in_the_order_of_the_manifest_with_its_fields(recognizer, tmp_path):
    utterances = make_manifest(tmp_path, ["one", "Two one", "", "oneself"])
    result = evaluate(recognizer, utterances, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "hyp.jsonl").open()]
    assert [line["id"] for line in lines] == ["u0", "u1", "u2", "u3"]
    assert [line["text"] for line in lines] == ["one", "two one", "", "oneself"]
    assert all(line["speaker"] == "s" for line in lines)
    assert result.score.num_words == 4
    assert json.loads((tmp_path / "out" / "wer.json").read_text()) == result.score.to_dict()


def test_words_without_tokens_are_scored_as_they_are(recognizer, tmp_path):
    utterances = make_manifest(tmp_path, ["one unheard", "selfone"])
    result = evaluate(recognizer, utterances)
    assert result.score.num_words == 3
    assert result.score.hits <= 1


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_scored(recognizer, tmp_path):
    utterances = make_manifest(tmp_path, ["one", "two", "one"])
    (tmp_path / "1.wav").write_bytes(b"not audio")
    result = evaluate(recognizer, utterances)
    assert result.score.num_sentences == 2
    assert len(result.failures) == 1
    assert "1.wav" in result.failures[0]


def test_if_no_file_can_be_read_there_is_no_score(recognizer, tmp_path):
    utterances = make_manifest(tmp_path, ["one"])
    (tmp_path / "0.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"0\.wav"):
        evaluate(recognizer, utterances)


def test_audio_and_features_do_not_mix(recognizer, tmp_path):
    utterances = make_manifest(tmp_path, ["one"])
    np.save(tmp_path / "f.npy", np.zeros((10, 20), np.float32))
    utterances.append(Utterance("f", 0.1, "two", features_filepath=str(tmp_path / "f.npy")))
    with pytest.raises(DataError, match="1 of 2 utterances have features_filepath, such as f"):
        evaluate(recognizer, utterances)
