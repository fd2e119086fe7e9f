"""ARPA files: what is written comes back, and what is wrong with one is named by line."""

import gzip
import re
from pathlib import Path

import pytest

from asr.errors import DataError
from asr.lm import train_ngram
from asr.lm.alphabet import compare_alphabet
from asr.lm.arpa import read_arpa

# Written by hand after the format's description in the manual page ngram-format(5) of SRILM.
GOOD = """\
\\data\\
ngram 1=5
ngram 2=3
ngram 3=1

\\1-grams:
-99\t<s>\t-0.3
-0.7\t</s>
-1.5\t<unk>
-0.6\ta\t-0.2
-0.8\tb\t-0.1

\\2-grams:
-0.2\t<s> a\t-0.05
-0.3\ta b
-0.4\tb </s>

\\3-grams:
-0.1\t<s> a b

\\end\\
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_probabilities_back_off_as_the_format_says(tmp_path):
    model = read_arpa(write(tmp_path / "lm.arpa", GOOD))
    assert model.order == 3
    assert model.vocabulary == ["a", "b"]
    # <s> a, <s> a b, then "a b </s>" backs off: no weight for "a b", "b </s>" is there.
    assert model.log10_probs(["a", "b"]).tolist() == pytest.approx([-0.2, -0.1, -0.4])
    # "<s> b" backs off from <s>; "b a" from b; "a </s>" from a.
    assert model.log10_probs(["b", "a"]).tolist() == pytest.approx([-0.3 - 0.8, -0.1 - 0.6, -0.2 - 0.7])
    # "<s> a a" backs off from "<s> a" and then from a.
    assert model.log10_probs(["a", "a"], eos=False)[1] == pytest.approx(-0.05 - 0.2 - 0.6)
    # An unknown word, and one after it.
    assert model.log10_probs(["x", "a"]).tolist() == pytest.approx([-0.3 - 1.5, -0.6, -0.2 - 0.7])


def test_a_model_comes_back_as_it_was_written(tmp_path):
    model = train_ngram(["the cat sat", "the dog sat on the cat", "a cat"], 3)
    for name in ("lm.arpa", "lm.arpa.gz"):
        model.write(tmp_path / name)
        again = read_arpa(tmp_path / name)
        assert (again.words, again.counts) == (model.words, model.counts)
        for level, other in zip(model.levels, again.levels, strict=True):
            assert (level.keys == other.keys).all()
            assert level.log10_prob == pytest.approx(other.log10_prob, abs=1e-6)
            assert level.backoff == pytest.approx(other.backoff, abs=1e-6)
    assert gzip.decompress((tmp_path / "lm.arpa.gz").read_bytes()) == (tmp_path / "lm.arpa").read_bytes()


def test_the_same_model_is_the_same_gzip_file(tmp_path):
    model = train_ngram(["the cat sat"], 2)
    model.write(tmp_path / "a.gz")
    model.write(tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_foreign_line_ends_marks_and_spaces_are_read(tmp_path, ending):
    text = "\ufeff" + GOOD.replace("\t", " ").replace("\n", ending)
    path = tmp_path / "lm.arpa"
    path.write_bytes(text.encode())
    assert read_arpa(path).counts == [5, 3, 1]


def test_words_may_hold_spaces_that_are_not_ascii(tmp_path):
    model = read_arpa(
        write(
            tmp_path / "lm.arpa",
            GOOD.replace("\tb", "\tb\u00a0c")
            .replace(" b", " b\u00a0c")
            .replace("b </s>", "b\u00a0c </s>")
            .replace("c\u00a0c", "c"),
        )
    )
    assert model.vocabulary == ["a", "b\u00a0c"]


def test_n_grams_need_not_be_sorted(tmp_path):
    lines = GOOD.splitlines(keepends=True)
    lines[6:11] = lines[6:11][::-1]
    lines[13:16] = lines[13:16][::-1]
    shuffled = read_arpa(write(tmp_path / "a", "".join(lines)))
    model = read_arpa(write(tmp_path / "b", GOOD))
    for words in (["a", "b"], ["b", "a"], ["x"]):
        assert shuffled.log10_prob(words) == pytest.approx(model.log10_prob(words))


def test_a_file_without_unk_is_read_with_a_note(tmp_path):
    text = GOOD.replace("-1.5\t<unk>\n", "").replace("1=5", "1=4")
    notes = []
    model = read_arpa(write(tmp_path / "lm.arpa", text), notes.append)
    assert model.log10_prob(["x"], bos=False, eos=False) == -100
    assert len(notes) == 1
    assert "no <unk> among the 1-grams" in notes[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\\n", "", r":1: an ARPA file begins with \\data\\, found 'ngram 1=5'"),
        (GOOD, "", r":1: an ARPA file begins with \\data\\, found ''"),
        ("ngram 2=3", "ngram 3=3", r":3: expected 'ngram 2=COUNT' or a blank line, found 'ngram 3=3'"),
        ("ngram 1=5\nngram 2=3\nngram 3=1\n", "", r"no counts after \\data\\"),
        ("ngram 2=3", "ngram 2=many", r":3: expected 'ngram 2=COUNT'"),
        ("\\2-grams:\n", "", r":13: expected \\2-grams:, found .*a section is missing or misplaced"),
        ("\\3-grams:\n-0.1\t<s> a b\n", "", r":19: expected \\3-grams:, found '\\\\end\\\\'"),
        ("\\end\\\n", "", r":20: the file ends where \\end\\ is due; it is cut short"),
        ("ngram 2=3", "ngram 2=4", r":17: \\data\\ announces 4 2-grams, found 3"),
        ("ngram 2=3", "ngram 2=2", r":16: more 2-grams than \\data\\ announces, the first '-0\.4\\tb </s>'"),
        ("-0.3\ta b", "0.3\ta b", r":15: log10 probability '0\.3' is above 0"),
        ("-0.3\ta b", "nan\ta b", r":15: log10 probability 'nan' is not a finite number"),
        ("-0.3\ta b", "-inf\ta b", r":15: log10 probability '-inf' is not a finite number"),
        ("-0.3\ta b", "x\ta b", r":15: log10 probability 'x' is not a finite number"),
        ("a\t-0.05", "a\tnan", r":14: log10 back-off weight 'nan' is not a finite number"),
        ("a\t-0.05", "a\tb", r":14: log10 back-off weight 'b' is not a finite number"),
        ("<s> a b\n", "<s> a b\t-0.1\n", r":19: expected a log10 probability, 3 words, found 5 fields"),
        ("-0.3\ta b", "-0.3\ta", r":15: expected a log10 probability, 2 words and perhaps a back-off weight"),
        ("-0.4\tb </s>", "-0.4\ta b", r":16: this 2-gram is already on line 15"),
        ("-0.8\tb\t-0.1", "-0.8\ta\t-0.1", r":11: this 1-gram is already on line 10"),
        ("-0.3\ta b", "-0.3\ta c", r":15: 'c' is in this 2-gram, but not among the 1-grams"),
        ("<s> a b\n", "a a b\n", r":19: 'a a' begins this 3-gram, but is not among the 2-grams"),
        ("</s>\n-1.5", "end\n-1.5", r"no </s> among the 1-grams"),
        ("\\end\\\n", "\\end\\\nmore\n", r":22: 'more' after \\end\\"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, old, new, message):
    assert old in GOOD
    path = write(tmp_path / "lm.arpa", GOOD.replace(old, new, 1))
    with pytest.raises(DataError, match=message) as error:
        read_arpa(path)
    assert str(error.value).startswith(f"{path}")
    assert "\n" not in str(error.value)


def test_files_of_other_kinds_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none: cannot read this language model \(No such file"):
        read_arpa(tmp_path / "none")
    path = tmp_path / "lm.bin"
    path.write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0" + bytes(100))
    with pytest.raises(DataError, match="a KenLM binary; give the ARPA file"):
        read_arpa(path)
    path.write_bytes(gzip.compress(GOOD.encode())[:-20])
    with pytest.raises(DataError, match="the gzip file is cut short or damaged"):
        read_arpa(path)
    path.write_bytes(GOOD.replace("b\t-0.1", "\xe9\t-0.1").encode("latin-1"))
    with pytest.raises(DataError, match=r":11: b'\\xe9' is not UTF-8"):
        read_arpa(path)


CHARACTERS = ("", " ", "a", "b", "c")


@pytest.mark.parametrize(
    ("vocabulary", "pieces", "severity", "message"),
    [
        (["abc", "cab"], CHARACTERS, None, ""),
        (["|", "a", "b"], CHARACTERS, None, ""),
        (["ABC", "CAB"], CHARACTERS, "error", "2 of the language model's 2 words .* writes lower case"),
        (
            ["ab", "bad", "day"],
            CHARACTERS,
            "warning",
            r"2 of .* 3 words .*\('bad', 'day'\) and will never be",
        ),
        (["мир"], CHARACTERS, "error", "train the language model with --model"),
        (["one", "two"], ("", " one", " two"), None, ""),
        (["one", "three"], ("", " one", " two"), "warning", "1 of the language model's 2 words"),
        (["abba"], ("", " ", " ab", "a", "b"), None, ""),
    ],
)
def test_another_alphabet_or_case_than_the_models_is_found(vocabulary, pieces, severity, message):
    found = compare_alphabet(vocabulary, pieces)
    if severity is None:
        assert found == []
        return
    (problem,) = found
    assert problem.severity == severity
    assert re.search(message, problem.message)
