"""Frequent errors against sclite's own lists, worst utterances, unseen words, differences of two systems."""

import random
import re
import shutil
import subprocess
from collections import Counter

import pytest

from asr.errors import ConfigError, DataError
from asr.scoring import (
    difference,
    frequent_errors,
    out_of_vocabulary,
    read_vocabulary,
    score,
    worst_utterances,
)


def test_errors_are_counted_by_word():
    result = score(["the cat sat", "the cat ran", "go"], ["the bat sat", "the bat", "go go on"])
    errors = frequent_errors(result)
    assert errors.substitutions == {("cat", "bat"): 2}
    assert errors.deletions == {"ran": 1}
    assert errors.insertions.total() == 2


@pytest.mark.skipif(shutil.which("sctk") is None, reason="sclite is not installed (Debian: apt install sctk)")
def test_errors_are_those_that_sclite_lists(tmp_path):
    generator = random.Random(3)
    words = [f"w{n}" for n in range(30)]
    texts = {"ref": {}, "hyp": {}}
    for n in range(300):
        reference = generator.choices(words, k=generator.randint(1, 12))
        edits = ([w] * 5 + ["", generator.choice(words), f"{w} {generator.choice(words)}"] for w in reference)
        texts["ref"][f"s-{n}"] = " ".join(reference)
        texts["hyp"][f"s-{n}"] = " ".join(" ".join(generator.choice(edit) for edit in edits).split())
    for name, lines in texts.items():
        (tmp_path / name).write_text("".join(f"{text} ({id})\n" for id, text in lines.items()))
    options = ["-r", "ref", "trn", "-h", "hyp", "trn", "-i", "spu_id", "-o", "dtl", "stdout"]
    command = ["sctk", "sclite", *options]
    report = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    def listed(title):
        part = report.split(f"{title}  ")[1].split("-------")[0]
        return {m[2]: int(m[1]) for m in re.finditer(r"^ *\d+: +(\d+)  ->  (.+?)\s*$", part, re.M)}

    ours = frequent_errors(score(texts["ref"], texts["hyp"], align="sclite"))
    pairs = {" ==> ".join(pair): count for pair, count in ours.substitutions.items()}
    assert pairs == listed("CONFUSION PAIRS")
    assert ours.deletions == listed("DELETIONS")
    assert ours.insertions == listed("INSERTIONS")
    assert min(ours.substitutions.total(), ours.deletions.total(), ours.insertions.total()) > 50


def test_worst_is_most_errors_then_shortest():
    references = ["a b c d", "a b", "a b", "a"]
    assert worst_utterances(score(references, ["x y c d", "a b", "x y", "x"]), 10) == [2, 0, 3]
    assert worst_utterances(score(references, ["x y c d", "a b", "x y", "x"]), 1) == [2]


def test_unseen_words_and_their_errors():
    result = score(["the zebra ran", "a zebra", "okapi the"], ["the zebra", "a zero", "copy the and"])
    unseen = out_of_vocabulary(result, {"the", "ran", "a"})
    assert unseen.words == {"zebra": 2, "okapi": 1}
    assert unseen.hits == Counter({"zebra": 1})
    # 7 reference words, 3 unseen, of which 1 is recognised; of the 4 others "ran" is missed.
    assert (unseen.rate, unseen.error_rate, unseen.seen_error_rate) == pytest.approx((3 / 7, 2 / 3, 1 / 4))


def test_without_unseen_words_their_rate_is_not_defined():
    fields = out_of_vocabulary(score(["a"], ["b"]), ["a"]).to_dict(5)
    assert (fields["num_words"], fields["rate"], fields["error_rate"], fields["words"]) == (0, 0.0, None, [])


@pytest.mark.parametrize(
    "content",
    ["Cat\ndog\nok\n", "cat dog\nok dog\n", '{"id": "1", "text": "cat dog"}\n{"id": "2", "text": "Ok"}\n'],
)
def test_a_vocabulary_is_a_word_list_or_any_transcripts(tmp_path, content):
    (tmp_path / "words").write_text(content)
    assert read_vocabulary(tmp_path / "words", str.lower) == {"cat", "dog", "ok"}


def test_a_vocabulary_needs_words(tmp_path):
    (tmp_path / "words").write_text("\n\n")
    with pytest.raises(DataError, match="words: has no word"):
        read_vocabulary(tmp_path / "words")
    with pytest.raises(ConfigError, match="score words, not characters"):
        out_of_vocabulary(score(["a"], ["b"], unit="character"), ["a"])


def test_what_each_system_alone_recognised():
    references = ["one two three", "four two", "six"]
    a = score(references, ["one two tree", "four", "six"])
    b = score(references, ["on two three", "four two five", "six"])
    found = difference(a, b)
    assert found.only_a == {"one": 1}
    assert found.only_b == {"three": 1, "two": 1}
    assert found.to_dict(1)["recognised_only_b"]["total"] == 2
    assert difference(b, a).only_a == found.only_b


def test_words_are_compared_by_position():
    # Both recognise one "a" of two, but not the same one.
    found = difference(score(["a x a"], ["a x"]), score(["a x a"], ["x a"]))
    assert found.only_a == found.only_b == {"a": 1}


def test_systems_that_took_different_alternatives_are_compared_by_word():
    reference = ["{ going to / gonna } go"]
    a = score(reference, ["gonna go"], alternatives=True)
    b = score(reference, ["going go"], alternatives=True)
    found = difference(a, b)
    assert found.only_a == {"gonna": 1}
    assert found.only_b == {"going": 1}
