"""Adapting to a voice without transcripts: which labels are taken, and that no half hears itself."""

import importlib.util
import json
from pathlib import Path

import pytest

from asr.cli.main import main
from asr.data.manifest import read_manifest

FOLDER = Path(__file__).parents[2] / "recipes" / "fsdd"


@pytest.fixture
def recipe():
    """The module adapt.py."""
    spec = importlib.util.spec_from_file_location("fsdd_adapt", FOLDER / "adapt.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_surest_labels_are_taken_of_no_word_more_than_its_part(recipe):
    hypotheses = [{"pred_text": "eight", "confidence": c / 100} for c in range(60, 90)]
    hypotheses += [{"pred_text": "three", "confidence": c / 100} for c in (10, 20)]
    hypotheses += [{"pred_text": "two", "confidence": 0.95}] * 7 + [{"pred_text": "", "confidence": 1.0}]
    chosen = recipe.surest(hypotheses, num_words=4)  # of 40, at most 9 of a word
    eights = [h["confidence"] for h in chosen if h["pred_text"] == "eight"]
    assert sorted(eights) == [c / 100 for c in range(81, 90)]
    assert [h["pred_text"] for h in chosen].count("three") == 2
    assert len(chosen) == 9 + 2 + 7


@pytest.mark.slow
def test_adapts_to_each_half_of_a_voice_and_scores_the_other(recipe, archive, tmp_path, monkeypatch, capsys):
    folder = archive("free-spoken-digit-dataset-1.0.10.tar.gz").parent
    monkeypatch.setenv("ASR_ARCHIVES", str(folder))
    run = tmp_path / "run"
    settings = ["speaker=theo", "synthetic=20", "trainer.epochs=1", f"data.dir={tmp_path / 'data'}"]
    assert main(["run", "recipes/fsdd/new_voice.yaml", *settings, f"output_dir={run}"]) == 0
    monkeypatch.setattr(recipe, "EPOCHS", 1)
    monkeypatch.setattr(recipe, "COPIES", 1)
    recipe.adapt(run, rounds=1)
    assert "theo: WER" in capsys.readouterr().out
    scored = [json.loads(line)["id"] for line in (run / "adapt" / "hyp.jsonl").read_text().splitlines()]
    assert len(set(scored)) == len(scored) == 500
    assert json.loads((run / "adapt" / "wer.json").read_text())["num_words"] == 500
    for half in (0, 1):
        place = run / "adapt" / f"half{half}"
        tested = {u.id for u in read_manifest(place / "test.jsonl")}
        trained = [u for u in read_manifest(place / "train1.jsonl") if u.speaker == "theo"]
        assert len(tested) == 250
        assert 10 <= len(trained) <= 220
        assert not tested & {u.id.removesuffix("-copy0") for u in trained}
    capsys.readouterr()
    recipe.adapt(run, rounds=1)  # what is there is not trained again
    assert "holds the finished training" in capsys.readouterr().err


def test_a_model_of_all_voices_is_not_adapted(recipe, tmp_path):
    (tmp_path / "config.yaml").write_text("speaker: official\n")
    with pytest.raises(recipe.DataError, match=r"speaker=NAME"):
        recipe.adapt(tmp_path, rounds=1)
