"""`asr tune` and the decoding options, as a user runs them."""

import json

import numpy as np
import pytest

from asr import audio
from asr.cli.main import main
from asr.data.manifest import write_manifest
from asr.model_file import load_model, save_model
from asr.types import Utterance

WORDS = ["one", "two"]

ARPA = """\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-99\t<s>\t0
-0.3\t</s>
-2\t<unk>\t0
-0.6\tone\t0
-0.6\ttwo\t0

\\2-grams:
-0.1\tone two
-0.2\t<s> one

\\end\\
"""


@pytest.fixture
def folder(tmp_path, tiny_recognizer):
    recognizer = tiny_recognizer({"_target_": "asr.text.WordTokenizer", "words": WORDS})
    save_model(tmp_path / "model.asr", recognizer, {"run": {"name": "x"}})
    utterances = []
    for i in range(4):
        path = tmp_path / f"{i}.wav"
        noise = np.random.default_rng(i).standard_normal(6000 + 500 * i).astype(np.float32)
        audio.save(path, 0.1 * noise, 8000)
        utterances.append(
            Utterance(f"u{i}", len(noise) / 8000, "one two", audio_filepath=str(path), speaker="s")
        )
    write_manifest(tmp_path / "dev.jsonl", utterances)
    (tmp_path / "lm.arpa").write_text(ARPA)
    return tmp_path


def tune(folder, *options):
    arguments = ["tune", str(folder / "model.asr"), str(folder / "dev.jsonl"), "--device", "cpu"]
    return main([*arguments, *map(str, options)])


def test_tuning_writes_a_model_a_plot_and_the_figures(folder, capsys):
    out = folder / "out.asr"
    assert tune(folder, "--lm", folder / "lm.arpa", "-o", out, "--json", "--beam-size", 10) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["num_words"] == 8
    assert figures["gain_interval"][0] <= figures["gain"] <= figures["gain_interval"][1]
    assert (folder / "out.tuning.svg").read_text().startswith("<svg")
    model = load_model(out, device="cpu")
    is_beam = model.config["decoder"]["_target_"].endswith("BeamDecoder")
    assert is_beam == figures["accepted"] == ("lm" in model.decoder.assets)
    assert (folder / "model.asr").stat().st_mtime < out.stat().st_mtime


def test_a_model_file_carries_its_language_model_and_greedy_overrides(folder, capsys):
    recognizer = load_model(folder / "model.asr", device="cpu")
    recognizer.use_decoder(
        {"_target_": "asr.decoding.beam.BeamDecoder", "lm_weight": 0.5}, {"lm": ARPA.encode()}
    )
    save_model(folder / "tuned.asr", recognizer, {})
    (folder / "lm.arpa").unlink()
    assert load_model(folder / "tuned.asr", device="cpu").decoder.assets == {"lm": ARPA.encode()}
    manifest = str(folder / "dev.jsonl")
    for name, options in (("beam", ["--nbest", "3"]), ("greedy", ["--decoder", "greedy"])):
        output = folder / name
        assert (
            main(["evaluate", str(folder / "tuned.asr"), manifest, "--output-dir", str(output), *options])
            == 0
        )
        assert (output / "hyp.jsonl").is_file()
    lines = [json.loads(line) for line in (folder / "beam" / "nbest.jsonl").open()]
    best = [json.loads(line)["pred_text"] for line in (folder / "beam" / "hyp.jsonl").open()]
    assert [line["nbest"][0]["text"] for line in lines] == best
    assert not (folder / "greedy" / "nbest.jsonl").exists()


def test_transcribe_takes_a_language_model_and_hotwords(folder):
    options = ["--lm", str(folder / "lm.arpa"), "--lm-weight", "0.5", "--hotwords", "one two,two"]
    arguments = [str(folder / "0.wav"), "--model", str(folder / "model.asr"), "-o", str(folder), "-f", "txt"]
    assert main(["transcribe", *arguments, *options]) == 0
    assert set((folder / "0.txt").read_text().split()) <= set(WORDS)


def break_counts(text):
    return text.replace("ngram 1=5", "ngram 1=6")


def drop_section(text):
    return text.replace("\\1-grams:", "")


def raise_probability(text):
    return text.replace("-0.6\tone", "0.6\tone")


def upper(text):
    return text.replace("one", "ONE").replace("two", "TWO")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_counts, "lm.arpa"),
        (drop_section, "lm.arpa"),
        (raise_probability, "lm.arpa:"),
        (upper, "lower case"),
        (lambda text: "nothing", "lm.arpa"),
    ],
)
def test_a_language_model_that_cannot_be_used_is_named_in_one_line(folder, capsys, damage, message):
    (folder / "lm.arpa").write_text(damage(ARPA))
    assert tune(folder, "--lm", folder / "lm.arpa") == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lm", "none.arpa"], "none.arpa: no such language model"),
        (["--hotwords", "three"], "hotword 'three' cannot be spelled"),
        (["--lexicon", "LEX"], "LEX:1: 'three' is spelled with"),
        (["--decoder", "greedy", "--beam-size", "5"], "--decoder greedy takes no"),
    ],
)
def test_wrong_options_of_evaluate_are_named(folder, capsys, monkeypatch, options, message):
    monkeypatch.chdir(folder)
    (folder / "LEX").write_text("three\tthree\n")
    assert main(["evaluate", "model.asr", "dev.jsonl", "--device", "cpu", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_dev_set_without_words_is_refused(folder, capsys):
    lines = [json.loads(line) | {"text": ""} for line in (folder / "dev.jsonl").open()]
    (folder / "dev.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert tune(folder, "--lm", folder / "lm.arpa") == 2
    assert "no word in the transcripts" in capsys.readouterr().err
