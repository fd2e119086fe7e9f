"""`asr lm` from the shell: what it makes, what it prints, and its errors in one line."""

import gzip
import json

import pytest

from asr.cli.main import main
from asr.lm import train_ngram
from asr.lm.arpa import read_arpa
from asr.lm.rnn import load_language_model

LINES = ["The cat sat", "the dog sat on the cat", "a cat", "the cat and the dog"]
LOWER = [line.lower() for line in LINES]


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(LINES) + "\n")
    return str(path)


def lm(*arguments):
    return main(["lm", *map(str, arguments)])


def test_train_writes_the_model_of_the_library(text, tmp_path):
    assert lm("train", text, "--normalize", "lower", "--order", 3, "-o", tmp_path / "lm.arpa") == 0
    train_ngram(LOWER, 3).write(tmp_path / "expected.arpa")
    assert (tmp_path / "lm.arpa").read_bytes() == (tmp_path / "expected.arpa").read_bytes()


def test_plain_text_gzip_manifests_and_standard_input_give_the_same(text, tmp_path, monkeypatch):
    (tmp_path / "text.gz").write_bytes(gzip.compress("\n".join(LINES).encode()))
    manifest = tmp_path / "train.jsonl"
    manifest.write_text("".join(json.dumps({"id": str(i), "text": t}) + "\n" for i, t in enumerate(LINES)))
    found = set()
    for source in (text, tmp_path / "text.gz", manifest):
        assert lm("train", source, "-o", tmp_path / "lm.arpa.gz") == 0
        found.add((tmp_path / "lm.arpa.gz").read_bytes())
    with open(text) as file:
        monkeypatch.setattr("sys.stdin", file)
        assert lm("train", "-", "-o", tmp_path / "lm.arpa.gz") == 0
    found.add((tmp_path / "lm.arpa.gz").read_bytes())
    assert len(found) == 1


def test_options_reach_the_model(text, tmp_path, capsys):
    (tmp_path / "words.txt").write_text("the\nCat dog")
    out = tmp_path / "lm.arpa"
    options = ("--normalize", "lower", "--vocabulary", tmp_path / "words.txt", "--closed", "--prune", 0, 1)
    assert lm("train", text, "-o", out, "--order", 2, *options) == 0
    model = read_arpa(out)
    assert model.vocabulary == ["cat", "dog", "the"]
    assert model.log10_prob(["sat"]) < -90
    assert model.counts[1] < train_ngram(LOWER, 2, vocabulary=["the", "cat", "dog"], closed=True).counts[1]
    assert "5 of 16 words are outside the vocabulary" in capsys.readouterr().err


def test_a_model_normalises_the_text_and_is_compared_with_it(text, tmp_path, capsys, tiny_recognizer):
    from asr.model_file import save_model

    tokenizer = {"_target_": "asr.text.CharacterTokenizer", "characters": " acdehnost"}
    save_model(tmp_path / "model.asr", tiny_recognizer(tokenizer), {})
    assert lm("train", text, "--model", tmp_path / "model.asr", "-o", tmp_path / "lm.arpa") == 0
    assert "the" in read_arpa(tmp_path / "lm.arpa").vocabulary
    assert "The" not in read_arpa(tmp_path / "lm.arpa").vocabulary
    message = "1 of the language model's 7 words cannot be spelled ('dog') and will never be recognised"
    assert message in " ".join(capsys.readouterr().err.split())


def test_score_prints_the_perplexity_of_the_library(text, tmp_path, capsys):
    model = train_ngram(LOWER, 3)
    model.write(tmp_path / "lm.arpa")
    (tmp_path / "dev.txt").write_text("the cat sat on a zebra\n\na dog\n")
    assert lm("score", tmp_path / "lm.arpa", tmp_path / "dev.txt", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    expected = model.perplexity(["the cat sat on a zebra", "a dog"]).to_dict()
    assert printed.pop("unit") == expected.pop("unit") == "word"
    assert printed == pytest.approx(expected, rel=1e-5)
    assert lm("score", tmp_path / "lm.arpa", tmp_path / "dev.txt") == 0
    table = capsys.readouterr().out
    assert f"{expected['ppl']:.2f}" in table
    assert "12.50% (1 of 8)" in table


def test_score_a_sentence_at_a_time_adds_up(text, tmp_path, capsys):
    model = train_ngram(LOWER, 3, unit="character")
    model.write(tmp_path / "lm.arpa")
    assert lm("score", tmp_path / "lm.arpa", text, "--normalize", "lower", "--per-sentence") == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[1] for row in rows] == LOWER
    assert sum(float(row[0]) for row in rows) == pytest.approx(model.perplexity(LOWER).log10_prob, abs=1e-3)


def test_text_in_another_case_is_warned_of(text, tmp_path, capsys):
    train_ngram(LOWER, 2).write(tmp_path / "lm.arpa")
    assert lm("score", tmp_path / "lm.arpa", text, "--normalize", "upper") == 0
    assert "100% of the words are unknown" in capsys.readouterr().err


RNN = ("--rnn", "--epochs", 2, "--hidden-size", 8, "--embedding-size", 4, "--device", "cpu")


@pytest.mark.parametrize(
    ("options", "unit", "size"),
    [
        ((), "character", 13),
        (("--unit", "word", "--limit", 4), "word", 6),
        (("--unit", "bpe", "--vocabulary-size", 20, "--cell", "gru"), "piece", 21),
    ],
)
def test_a_recurrent_model_is_trained_scored_and_sampled(text, tmp_path, capsys, options, unit, size):
    out = tmp_path / "lm.asr"
    assert lm("train", text, "--normalize", "lower", "--dev", text, "-o", out, *RNN, *options) == 0
    model = load_language_model(out)
    assert (model.unit, model.size) == (unit, size)
    assert (tmp_path / "lm.training" / "checkpoint.pt").exists()
    shown = capsys.readouterr().err
    assert "dev ppl" in shown
    assert "dev: Perplexity" in shown
    # Its own normaliser makes the text lower case.
    assert lm("score", out, text, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["ppl"] == pytest.approx(model.perplexity(LOWER).ppl, rel=1e-5)
    assert lm("sample", out, "-n", 3, "--seed", 5, "--max-tokens", 9) == 0
    assert capsys.readouterr().out == "\n".join(model.sample(3, seed=5, max_tokens=9)) + "\n"
    # Done already: the same command trains nothing again.
    assert lm("train", text, "--normalize", "lower", "--dev", text, "-o", out, *RNN, *options) == 0
    assert "holds the finished training" in capsys.readouterr().err


def test_a_recurrent_model_takes_the_tokens_of_a_recogniser(text, tmp_path, tiny_recognizer):
    from asr.model_file import save_model

    tokenizer = {"_target_": "asr.text.CharacterTokenizer", "characters": " abcdefghijklmnopqrstuvwxyz"}
    recognizer = tiny_recognizer(tokenizer)
    save_model(tmp_path / "model.asr", recognizer, {})
    out = tmp_path / "lm.asr"
    assert lm("train", text, "--model", tmp_path / "model.asr", "--dev", text, "-o", out, *RNN) == 0
    assert load_language_model(out).tokenizer.pieces == recognizer.tokenizer.pieces


def test_an_n_gram_model_writes_text_too(text, tmp_path, capsys):
    model = train_ngram(LOWER, 3)
    model.write(tmp_path / "lm.arpa")
    outputs = set()
    for seed in (1, 1, 2):
        assert lm("sample", tmp_path / "lm.arpa", "-n", 5, "--seed", seed) == 0
        outputs.add(capsys.readouterr().out)
    assert len(outputs) == 2
    assert all(set(output.split()) <= set(model.vocabulary) for output in outputs)
    assert lm("sample", tmp_path / "lm.arpa", "-n", 1, "--temperature", 0) == 0
    first = capsys.readouterr().out.split()[0]
    assert first == max(model.vocabulary, key=lambda word: model.log10_prob([word], eos=False))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "text.txt", "-o", "lm.asr"), "a recurrent model needs --rnn"),
        (("train", "text.txt", "-o", "lm.arpa", "--rnn", "--dev", "text.txt"), "name it as lm.asr"),
        (("train", "text.txt", "-o", "lm.asr", "--rnn"), "--dev: a recurrent model needs text of its own"),
        (
            ("train", "text.txt", "-o", "lm.arpa", "--cell", "gru"),
            "--cell is for recurrent models; add --rnn",
        ),
        (("train", "text.txt", "-o", "lm.asr", "--rnn", "--order", "3"), "--order is for n-gram models"),
        (("train", "text.txt", "-o", "lm.arpa", "--unit", "bpe"), "--unit bpe is for recurrent models"),
        (("train", "text.txt", "-o", "no/lm.arpa"), "there is no folder no; make it first"),
        (("train", "none.txt", "-o", "lm.arpa"), "none.txt: cannot read this text (No such file"),
        (("train", "empty.txt", "-o", "lm.arpa"), "there is no text to train a language model on"),
        (("train", "bad.txt", "-o", "lm.arpa"), "bad.txt:2: '<s>' has a meaning of its own"),
        (("train", "latin.txt", "-o", "lm.arpa"), "latin.txt:1: not UTF-8"),
        (("train", "bad.jsonl", "-o", "lm.arpa"), "bad.jsonl:1: no JSON object with a string `text`"),
        (("train", "cut.gz", "-o", "lm.arpa"), "cut.gz: the gzip file is cut short or damaged"),
        (("train", "text.txt", "-o", "lm.arpa", "--order", "0"), "order: must be 1 or more, found 0"),
        (("train", "text.txt", "-o", "lm.arpa", "--vocabulary", "empty.txt"), "empty.txt: no words in this"),
        (("train", "text.txt", "-o", "a.asr", "--rnn", "--dev", "text.txt", "--dropout", "2"), "dropout"),
        (
            ("train", "text.txt", "-o", "a.asr", "--rnn", "--dev", "text.txt", "--lr", "0"),
            "--lr: must be above",
        ),
        (
            ("train", "text.txt", "-o", "a.asr", "--rnn", "--dev", "text.txt", "--limit", "5"),
            "with --unit word",
        ),
        (("score", "text.txt", "text.txt"), "an ARPA file begins with \\data\\"),
        (("score", "none.asr", "text.txt"), "none.asr: no such model file"),
        (("sample", "text.txt", "-n", "0"), "-n: must be 1 or more, found 0"),
        (("sample", "text.txt", "--temperature", "nan"), "--temperature: must be 0 or more, found nan"),
    ],
)
def test_what_cannot_be_done_ends_in_one_line_and_status_2(
    text, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "bad.txt").write_text("a\nb <s>\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "bad.jsonl").write_text('{"txt": "a"}\n')
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"hello " * 1000)[:-10])
    assert lm(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("asr: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
