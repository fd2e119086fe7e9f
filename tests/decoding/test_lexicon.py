"""Lexicons: what they hold, and lines that name what is wrong with them."""

import pytest

from asr.decoding.lexicon import Lexicon
from asr.errors import DataError

CHARACTERS = ("", " ", "a", "b", "c")
PHONES = ("", " AH", " B", " K")
SUBWORDS = ("", " a", "b", " c", "a")


def test_words_have_several_spellings_and_spellings_several_words():
    lexicon = Lexicon.from_text("a AH\na\tK AH\nuh AH\n", "l", PHONES)
    assert lexicon.vocabulary == ["a", "uh"]
    node = lexicon.descend(lexicon.root, "AH")
    assert lexicon.words_at(node, "AH") == ("a", "uh")
    assert lexicon.words_at(lexicon.descend(lexicon.root, "K AH"), "K AH") == ("a",)
    assert not lexicon.is_plain


def test_a_prefix_is_a_range_and_what_no_word_starts_with_is_empty():
    lexicon = Lexicon.from_words(["ab", "abc", "b", "a"])
    low, high = lexicon.descend(lexicon.root, "a")
    assert lexicon.spellings[low:high] == ["a", "ab", "abc"]
    node = lexicon.descend((low, high), "ab")
    assert lexicon.words_at(node, "ab") == ("ab",)
    low, high = lexicon.descend(node, "abx")
    assert low == high
    assert lexicon.words_at((low, high), "abx") == ()


@pytest.mark.parametrize(
    ("content", "pieces"),
    [
        ("cab\tc a b |\nab a b\n", CHARACTERS),
        ("cab\nab\n", CHARACTERS),
        ("\ncab c a b\r\nab\ta b |\n", CHARACTERS),
        ("cab ▁c a b\nab ▁a b\n", SUBWORDS),
    ],
)
def test_flashlights_form_and_plain_word_lists_are_read(content, pieces):
    lexicon = Lexicon.from_text(content, "l", pieces)
    assert lexicon.spellings == ["ab", "cab"]
    assert lexicon.is_plain


def test_a_stored_lexicon_comes_back():
    lexicon = Lexicon.from_text("a AH\na K AH\nuh AH\n", "l", PHONES)
    again = Lexicon.from_stored(lexicon.to_text())
    assert (again.spellings, again.words) == (lexicon.spellings, lexicon.words)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cab c a b\nabx a b x\n", r"lex\.txt:2: 'abx' is spelled with 'x'.*a b c"),
        ("cab\nCAB\n", r"lex\.txt:2: 'CAB' is spelled with 'A'"),
        ("", r"lex\.txt: no words"),
        ("\n  \n", r"lex\.txt: no words"),
    ],
)
def test_what_cannot_be_used_is_named(content, message):
    with pytest.raises(DataError, match=message):
        Lexicon.from_text(content, "lex.txt", CHARACTERS)


def test_words_that_the_tokens_cannot_spell_are_listed():
    assert Lexicon.from_words(["ab", "ax", "c"]).unspellable(CHARACTERS) == ["ax"]
