import itertools
import json
import pickle
from pathlib import Path

import pytest
import yaml

from asr.build import build
from asr.errors import ConfigError, DataError
from asr.text import (
    BpeTokenizer,
    CharacterTokenizer,
    Normalizer,
    WordTokenizer,
    tokenizer_problems,
    train_tokenizer,
)

TEXTS = ["the cat sat on the mat", "a cat is on the hat", "don't öffne the €5 hat"]
CONF = Path(__file__).parents[1] / "conf" / "tokenizer"


@pytest.mark.parametrize(
    ("options", "text", "expected"),
    [
        ({}, "  Ein \t Wort\n\u00a0dort ", "ein wort dort"),
        ({}, "", ""),
        ({"case": "upper"}, "straße", "STRASSE"),
        ({"case": "keep"}, "McDonald", "McDonald"),
        ({}, "e\u0301", "\u00e9"),
        ({"unicode_form": "NFD"}, "\u00e9", "e\u0301"),
        ({"unicode_form": "NFKC"}, "\u210cello \ufb01ve", "hello five"),
        ({}, "Wait - what?!", "wait - what?!"),
        ({"punctuation": "remove"}, "Wait - what?!", "wait what"),
        ({"punctuation": "remove"}, "twenty-one,two", "twenty one two"),
        ({"punctuation": "remove"}, "'Don't' 'n' the dogs' o\u2019clock", "don't n the dogs o'clock"),
        (
            {"punctuation": "remove"},
            "l'e\u0301te\u0301 snake_case \u00bfqu\u00e9?",
            "l'\u00e9t\u00e9 snake case qu\u00e9",
        ),
        ({"punctuation": "remove", "unicode_form": "NFD"}, "e\u0301't", "e\u0301't"),
        ({"punctuation": "remove"}, "$5 + 3", "$5 + 3"),
        (
            {"punctuation": "remove"},
            "\u0939\u093f\u0928\u094d\u0926\u0940\u0964",
            "\u0939\u093f\u0928\u094d\u0926\u0940",
        ),
    ],
)
def test_normalizer(options, text, expected):
    assert Normalizer(**options)(text) == expected


@pytest.mark.parametrize(
    ("case", "unicode_form", "punctuation"),
    itertools.product(["lower", "upper", "keep"], ["NFC", "NFD", "NFKC", "NFKD"], ["keep", "remove"]),
)
def test_normalizing_twice_changes_nothing(case, unicode_form, punctuation):
    normalize = Normalizer(case, unicode_form, punctuation)
    once = normalize(
        "\u0130stanbul\u2019da  \u210c\u00df \ufb01 e\u0301\u0323 \u1e9e \u01c5 \u00bd \u2026 'x'y ΣΑΣ.Σ"
    )
    assert normalize(once) == once


@pytest.fixture(params=["characters", "words", "bpe"])
def tokenizer(request):
    return {
        "characters": lambda: CharacterTokenizer.train(TEXTS),
        "words": lambda: WordTokenizer.train(TEXTS),
        "bpe": lambda: BpeTokenizer.train(TEXTS, vocabulary_size=40),
    }[request.param]()


def test_text_survives_encode_and_decode(tokenizer):
    for text in [*TEXTS, "the the hat", "cat", ""]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert all(1 <= i < tokenizer.vocabulary_size for i in ids)


def test_pieces_cover_the_vocabulary_and_start_with_the_blank(tokenizer):
    assert tokenizer.pieces[0] == ""
    assert len(tokenizer.pieces) == len(set(tokenizer.pieces)) == tokenizer.vocabulary_size
    ids = tokenizer.encode(TEXTS[0])
    assert "".join(tokenizer.pieces[i] for i in ids).strip() == TEXTS[0]


def test_what_cannot_be_spelled_is_named(tokenizer):
    unknown = {"z", "ß"} if not isinstance(tokenizer, WordTokenizer) else {"zoß"}
    assert tokenizer.unknown("the zoß cat") == unknown
    assert tokenizer.unknown(TEXTS[1]) == set()
    with pytest.raises(DataError, match=", ".join(map(repr, sorted(unknown)))):
        tokenizer.encode("the zoß cat")


def test_a_tokenizer_is_rebuilt_from_its_json(tokenizer):
    config = json.loads(json.dumps(tokenizer.to_config()))
    rebuilt = build(config)
    assert type(rebuilt) is type(tokenizer)
    assert rebuilt.pieces == tokenizer.pieces
    assert rebuilt.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])
    assert rebuilt.to_config() == tokenizer.to_config()


def test_a_tokenizer_crosses_process_boundaries(tokenizer):
    assert pickle.loads(pickle.dumps(tokenizer)).encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])


def test_character_ids_follow_the_alphabet():
    tokenizer = CharacterTokenizer("ab ")
    assert tokenizer.pieces == ("", "a", "b", " ")
    assert tokenizer.encode("ba b") == [2, 1, 3, 2]
    assert CharacterTokenizer(["b", "a"]).pieces == ("", " ", "b", "a")
    assert CharacterTokenizer.train(["ba"]).pieces == ("", " ", "a", "b")


def test_words_begin_with_a_space():
    tokenizer = WordTokenizer.train(["two one", "one"])
    assert tokenizer.pieces == ("", " one", " two")
    assert tokenizer.encode("two one one") == [2, 1, 1]


def test_bpe_is_deterministic_and_says_nothing(capfd):
    models = {BpeTokenizer.train(iter(TEXTS), vocabulary_size=40).to_config()["model"] for _ in range(3)}
    assert len(models) == 1
    assert capfd.readouterr() == ("", "")


def test_bpe_merges_the_most_frequent_pairs():
    tokenizer = BpeTokenizer.train(["the the the the hat"], vocabulary_size=9)
    assert [tokenizer.pieces[i] for i in tokenizer.encode("the hat")] == [" the", " ", "h", "a", "t"]


@pytest.mark.parametrize("asked", [2, 10_000])
def test_bpe_names_the_limit_of_the_vocabulary(asked):
    with pytest.raises(
        ConfigError, match=rf"vocabulary_size: cannot make {asked} pieces; .* or (less|more)$"
    ) as e:
        BpeTokenizer.train(TEXTS, vocabulary_size=asked)
    limit = int(str(e.value).split()[-3])
    assert BpeTokenizer.train(TEXTS, vocabulary_size=limit).vocabulary_size == limit
    beyond = limit + (1 if asked > limit else -1)
    with pytest.raises(ConfigError, match=f"set it to {limit}"):
        BpeTokenizer.train(TEXTS, vocabulary_size=beyond)


@pytest.mark.parametrize("reserved", ["\u2581", "\u2585"])
def test_bpe_refuses_characters_that_sentencepiece_reserves(reserved):
    with pytest.raises(DataError, match=f"'{reserved}'"):
        BpeTokenizer.train([*TEXTS, f"a{reserved}cat"], vocabulary_size=40)


def test_bpe_learns_from_lines_of_any_length():
    assert "€" in BpeTokenizer.train(["a cat", "hat " * 5000 + "€"], vocabulary_size=10).pieces


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CharacterTokenizer(["ab"]), "'ab' is not one character"),
        (lambda: CharacterTokenizer("aba"), "'a' comes twice"),
        (lambda: WordTokenizer(["a b"]), "'a b' is not one word"),
        (lambda: WordTokenizer(["a", "a"]), "'a' comes twice"),
        (lambda: WordTokenizer([]), "words: there are none"),
        (lambda: BpeTokenizer("@@@"), "not a SentencePiece model"),
        (lambda: BpeTokenizer("anVuaw=="), "not a SentencePiece model"),
    ],
)
def test_constructors_refuse_what_is_no_vocabulary(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("kind", [CharacterTokenizer, WordTokenizer, BpeTokenizer])
@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_training_needs_text(kind, texts):
    with pytest.raises(DataError, match="no text to train"):
        kind.train(texts)


@pytest.mark.parametrize("name", ["characters", "words", "bpe"])
def test_shipped_configurations_train(name):
    config = yaml.safe_load((CONF / f"{name}.yaml").read_text("utf-8"))
    assert tokenizer_problems(config) == []
    if name == "bpe":
        config["vocabulary_size"] = 40
    assert train_tokenizer(config, TEXTS).decode(train_tokenizer(config, TEXTS).encode(TEXTS[0])) == TEXTS[0]


def test_a_given_alphabet_is_used_as_it_is():
    config = {"_target_": "asr.text.CharacterTokenizer", "characters": "xyz"}
    assert train_tokenizer(config, ["abc"]).pieces == ("", " ", "x", "y", "z")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "tokenizer: expected a mapping with _target_"),
        ({"_target_": "os.system"}, "'os.system' is not allowed"),
        ({"_target_": "asr.text.Normalizer"}, "asr.text.Normalizer is not a tokenizer"),
        ({"_target_": "asr.text.Tokenizer"}, "asr.text.Tokenizer is not a tokenizer"),
        ({"_target_": "asr.text.CharacterTokenizer", "characters": 5}, "tokenizer.characters: expected"),
        ({"_target_": "asr.text.CharacterTokenizer", "vocabulary_size": 9}, "'vocabulary_size'"),
        ({"_target_": "asr.text.BpeTokenizer", "vocab_size": 9}, "'vocab_size'"),
        ({"_target_": "asr.text.BpeTokenizer", "vocabulary_size": "9"}, "found '9'"),
    ],
)
def test_a_wrong_configuration_is_named(config, message):
    with pytest.raises(ConfigError, match=message):
        train_tokenizer(config, TEXTS)
