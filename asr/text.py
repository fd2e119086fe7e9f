"""Text: normalisers, and tokenizers that turn it into the ids a model emits and back.

Id 0 is the CTC blank in every tokenizer. A word boundary is a space inside a piece: the piece ``" "``
among characters, the first character of ``" word"`` among words and subwords. So one rule decodes them
all: join the pieces, strip the ends.
"""

from __future__ import annotations

import base64
import inspect
import io
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import sentencepiece

from asr.build import TARGET, build, problems, resolve
from asr.errors import ConfigError, DataError

_CASE: dict[str, Callable[[str], str]] = {"lower": str.lower, "upper": str.upper, "keep": str}
_APOSTROPHES = "'\N{RIGHT SINGLE QUOTATION MARK}"
_SENTENCEPIECE_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


@dataclass(frozen=True)
class Normalizer:
    """Bring transcripts to one spelling; the same for training text, references and hypotheses.

    Runs of white space always become one space, none at the ends. Normalising twice changes nothing more.

    Parameters
    ----------
    case : {"lower", "upper", "keep"}
    unicode_form : {"NFC", "NFD", "NFKC", "NFKD"}
        Unicode normalisation form.
    punctuation : {"keep", "remove"}
        ``"remove"`` replaces what Unicode classes as punctuation (categories P*) by a space, so that
        ``twenty-one`` is two words. An apostrophe between two letters or digits is part of its word and
        stays, written ``'``. Symbols such as ``$`` and ``+``, which are spoken, stay.

    Examples
    --------
    >>> Normalizer(punctuation="remove")("Don’t  say: “Twenty-one”!")
    "don't say twenty one"
    """

    case: Literal["lower", "upper", "keep"] = "lower"
    unicode_form: Literal["NFC", "NFD", "NFKC", "NFKD"] = "NFC"
    punctuation: Literal["keep", "remove"] = "keep"

    def __call__(self, text: str) -> str:
        """Return the normalised text."""
        # Before the case because NFKC makes new letters (ℌ), after it because case breaks them up (İ).
        text = unicodedata.normalize(self.unicode_form, text)
        text = unicodedata.normalize(self.unicode_form, _CASE[self.case](text))
        if self.punctuation == "remove":
            text = re.sub(r"[^\w\s]|_", _without_punctuation, text)
        return " ".join(text.split())


def _without_punctuation(match: re.Match[str]) -> str:
    char, text, at = match[0], match.string, match.start()
    if unicodedata.category(char)[0] != "P":
        return char
    around = text[max(at - 1, 0) : at] + text[at + 1 : at + 2]
    inside_word = len(around) == 2 and all(unicodedata.category(c)[0] in "LMN" for c in around)
    return "'" if char in _APOSTROPHES and inside_word else " "


class Tokenizer(ABC):
    """Text to token ids and back.

    Attributes
    ----------
    pieces : tuple of str, length V
        What each id spells; ``pieces[0]`` is ``""``, the blank.
    """

    def __init__(self, pieces: Iterable[str]) -> None:
        self.pieces = ("", *pieces)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids V, the blank included: the output size of the model."""
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        """Return the ids that spell a normalised text.

        Raises
        ------
        DataError
            If the text has something that no piece spells, which the message names.
        """
        unknown = self.unknown(text)
        if unknown:
            raise DataError(
                f"cannot spell {', '.join(map(repr, sorted(unknown)))} of {_shortened(text)!r}; normalise "
                f"the text (case, punctuation) or train the tokenizer on text that has it"
            )
        return self._encode(text)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text that `ids` spell (repeats and blanks of a CTC path already removed)."""
        return "".join(self.pieces[i] for i in ids).strip()

    @classmethod
    @abstractmethod
    def train(cls, texts: Iterable[str]) -> Self:
        """Make a tokenizer that spells all of the normalised `texts`."""

    @abstractmethod
    def unknown(self, text: str) -> set[str]:
        """Return the characters (words, for a tokenizer of words) that no piece spells."""

    @abstractmethod
    def to_config(self) -> dict[str, Any]:
        """Return a JSON-able configuration from which `asr.build.build` makes this tokenizer again."""

    @abstractmethod
    def _encode(self, text: str) -> list[int]: ...


class CharacterTokenizer(Tokenizer):
    """One token a character, the space between words among them.

    Parameters
    ----------
    characters : str or sequence of str
        The alphabet, in the order of the ids from 1. A space is put first if it has none.

    Raises
    ------
    ValueError
        If an entry is not one character, or comes twice.
    """

    def __init__(self, characters: str | Sequence[str]) -> None:
        characters = tuple(characters) if " " in characters else (" ", *characters)
        _check_entries("characters", characters, lambda entry: len(entry) == 1, "one character")
        super().__init__(characters)
        self._ids = {piece: i for i, piece in enumerate(self.pieces) if i}

    @classmethod
    def train(cls, texts: Iterable[str]) -> Self:
        """Take the alphabet from normalised texts, in Unicode order."""
        return cls(sorted(set().union(*_nonempty(texts)) | {" "}))

    def unknown(self, text: str) -> set[str]:
        """Return the characters that are not in the alphabet."""
        return set(text) - self._ids.keys()

    def to_config(self) -> dict[str, Any]:
        """Return the alphabet as a configuration."""
        return {TARGET: "asr.text.CharacterTokenizer", "characters": "".join(self.pieces)}

    def _encode(self, text: str) -> list[int]:
        return [self._ids[char] for char in text]


class WordTokenizer(Tokenizer):
    """One token a word: for closed vocabularies, such as digits or commands.

    Parameters
    ----------
    words : sequence of str
        The vocabulary, in the order of the ids from 1.

    Raises
    ------
    ValueError
        If an entry is empty, has white space in it, or comes twice.
    """

    def __init__(self, words: Sequence[str]) -> None:
        _check_entries("words", words, lambda entry: entry.split() == [entry], "one word")
        super().__init__(f" {word}" for word in words)
        self._ids = {word: i for i, word in enumerate(words, start=1)}

    @classmethod
    def train(cls, texts: Iterable[str]) -> Self:
        """Take the vocabulary from normalised texts, in Unicode order."""
        return cls(sorted(set().union(*(text.split() for text in _nonempty(texts)))))

    def unknown(self, text: str) -> set[str]:
        """Return the words that are not in the vocabulary."""
        return set(text.split()) - self._ids.keys()

    def to_config(self) -> dict[str, Any]:
        """Return the vocabulary as a configuration."""
        return {TARGET: "asr.text.WordTokenizer", "words": list(self._ids)}

    def _encode(self, text: str) -> list[int]:
        return [self._ids[word] for word in text.split()]


class BpeTokenizer(Tokenizer):
    """Subwords by byte-pair encoding (Sennrich et al. 2016), through SentencePiece.

    Parameters
    ----------
    model : str
        A SentencePiece model file in base64. Its id 0 must be its unknown piece, which stands for the
        blank here and is never emitted by `encode`; other control pieces (``<s>``, ``<pad>``) are refused.

    Raises
    ------
    ValueError
        If it is no such model.
    """

    def __init__(self, model: str) -> None:
        try:
            processor = sentencepiece.SentencePieceProcessor(
                model_proto=base64.b64decode(model, validate=True)
            )
            special = [
                i
                for i in range(processor.get_piece_size())
                if processor.is_unknown(i) or processor.is_control(i) or processor.is_byte(i)
            ]
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"model {_shortened(model)!r} is not a SentencePiece model in base64") from error
        if special != [0]:
            raise ValueError(
                f"this SentencePiece model has special pieces at ids {special}; train it with unk_id=0, "
                f"bos_id=eos_id=pad_id=-1 and no byte fallback"
            )
        pieces = [processor.id_to_piece(i) for i in range(1, processor.get_piece_size())]
        super().__init__(piece.replace(_SENTENCEPIECE_SPACE, " ") for piece in pieces)
        self._model = model
        self._processor = processor
        self._characters = frozenset(piece for piece in self.pieces if len(piece) == 1) | {" "}

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary_size: int = 256) -> Self:
        """Learn the subwords of normalised texts; the same texts in the same order give the same model.

        Parameters
        ----------
        texts : iterable of str
        vocabulary_size : int
            Number of ids, the blank included.

        Raises
        ------
        ConfigError
            If the texts have fewer subwords than that, or more characters; the message has the limit.
        DataError
            If there is no text, or it has characters that SentencePiece reserves.
        """
        if not isinstance(vocabulary_size, int) or isinstance(vocabulary_size, bool) or vocabulary_size < 2:
            raise ConfigError(
                f"vocabulary_size: expected a whole number of 2 or more, found {vocabulary_size!r}"
            )
        texts = _nonempty(texts)
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_writer=model,
                model_type="bpe",
                vocab_size=vocabulary_size,
                character_coverage=1.0,
                normalization_rule_name="identity",
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                num_threads=1,
                max_sentence_length=2**30,  # bytes; by default longer lines are dropped without an error
                minloglevel=3,
            )
        except RuntimeError as error:
            if limit := re.search(r"too high .* <= (\d+)", str(error)):
                remedy = f"this text has too few subwords; set it to {limit[1]} or less"
            elif limit := re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error)):
                remedy = f"this text has more characters; set it to {limit[1]} or more"
            else:
                remedy = f"SentencePiece refused: {' '.join(str(error).split())}"
            raise ConfigError(f"vocabulary_size: cannot make {vocabulary_size} pieces; {remedy}") from error
        tokenizer = cls(base64.b64encode(model.getvalue()).decode("ascii"))
        unknown = tokenizer.unknown("".join(set().union(*texts)))
        if unknown:
            raise DataError(
                f"SentencePiece cannot use {', '.join(map(repr, sorted(unknown)))} in the training text; "
                f"remove it from the transcripts"
            )
        return tokenizer

    def unknown(self, text: str) -> set[str]:
        """Return the characters that no piece spells."""
        return set(text) - self._characters

    def to_config(self) -> dict[str, Any]:
        """Return the SentencePiece model as a configuration."""
        return {TARGET: "asr.text.BpeTokenizer", "model": self._model}

    def _encode(self, text: str) -> list[int]:
        return self._processor.encode(text)


def tokenizer_problems(config: Any, path: str = "tokenizer") -> list[str]:
    """List all mistakes in a tokenizer's configuration, as `asr.build.problems` does.

    Parameters
    ----------
    config : mapping
        As for `train_tokenizer`.
    path : str
        Where `config` stands in the whole configuration, for the messages.
    """
    if not isinstance(config, Mapping) or TARGET not in config:
        return [f"{path}: expected a mapping with {TARGET}, found {config!r}"]
    try:
        kind = resolve(config[TARGET])
    except ConfigError as error:
        return [f"{path}: {error}"]
    if not (inspect.isclass(kind) and issubclass(kind, Tokenizer) and kind is not Tokenizer):
        return [f"{path}: {config[TARGET]} is not a tokenizer"]
    if _is_complete(kind, config):
        return problems(config, path)
    try:
        inspect.signature(kind.train).bind((), **_options(config))
    except TypeError as error:
        return [f"{path}: {config[TARGET]}: {error}"]
    return []


def train_tokenizer(config: Mapping[str, Any], texts: Iterable[str]) -> Tokenizer:
    """Make the tokenizer of a training configuration.

    Parameters
    ----------
    config : mapping
        ``_target_``, a class of this module, and either its constructor's arguments (an alphabet given
        in the configuration), or the options of its `train`.
    texts : iterable of str
        Normalised training texts; not read if the configuration has the constructor's arguments.

    Raises
    ------
    ConfigError
        If the configuration does not fit the class, or the class cannot fulfil it on these texts.
    DataError
        If the texts are needed and empty.
    """
    mistakes = tokenizer_problems(config)
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    kind: Any = resolve(config[TARGET])
    return build(config) if _is_complete(kind, config) else kind.train(texts, **_options(config))


def _is_complete(kind: type, config: Mapping[str, Any]) -> bool:
    """Tell whether `config` has all that the constructor needs."""
    return all(name in config for name in inspect.signature(kind).parameters)


def _options(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != TARGET}


def _nonempty(texts: Iterable[str]) -> list[str]:
    found = [text for text in texts if text.strip()]
    if not found:
        raise DataError("no text to train the tokenizer on; the training manifest needs `text` fields")
    return found


def _check_entries(name: str, entries: Sequence[str], is_valid: Callable[[str], bool], wanted: str) -> None:
    seen: set[str] = set()
    for entry in entries:
        if not is_valid(entry):
            raise ValueError(f"{name}: {entry!r} is not {wanted}")
        if entry in seen:
            raise ValueError(f"{name}: {entry!r} comes twice")
        seen.add(entry)
    if not entries:
        raise ValueError(f"{name}: there are none")


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
