"""Language model, lexicon and hotwords as one model over the acoustic model's tokens.

flashlight's lexicon-free decoder asks a token model for the score of each token that it appends. `Fusion` is
such a model: it follows the text that the tokens spell, and answers with how much the token changes

    lm_weight * (log P_lm(text) + look-ahead) + word_bonus * words + hotword_boost * matched characters

so that at the end exactly the weighted scores of the finished text have been added. What is started but not
finished (a word, a hotword) counts by what it may become, so that the beam drops no hypothesis just before
its word is scored; what it cannot become any more is taken back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from flashlight.lib.text.decoder import LM, LMState

from asr.decoding.lexicon import Lexicon, Node
from asr.decoding.scorers import Scorer, symbol_of
from asr.lm.units import SPACE, UNK

UnknownWords = Literal["spell", "refuse"]

MAX_READINGS = 8
"""Ways to read the same tokens as words (homophones, phones without spaces) that are followed at once."""

INCOMPLETE = -1000.0
"""Added, in nats, where the tokens end within a word that the lexicon lacks: any complete text is better."""


@dataclass(slots=True)
class Reading:
    """One way to read tokens as words.

    Attributes
    ----------
    lm_state
        After the last complete symbol of the language model.
    language : float
        Natural logarithm of the probability of what is complete.
    words : tuple
        ``(words before, word, tokens up to its end)``, linked; ``()`` at the start.
    num_words, num_unknown : int
        Complete words, and those of them outside the lexicon.
    text : str
        Of the word that is not complete yet.
    node : Node
        Spellings in the lexicon that start with `text`.
    ahead : float
        What the language model may give for this word: natural logarithm, at most.
    """

    lm_state: Any
    language: float = 0.0
    words: tuple = ()
    num_words: int = 0
    num_unknown: int = 0
    text: str = ""
    node: Node = (0, 0)
    ahead: float = 0.0


@dataclass(slots=True)
class Prefix:
    """What is known of a sequence of tokens.

    Attributes
    ----------
    readings : list of Reading
    hotwords : tuple of str
        Starts of hotwords that the text ends in, each from the beginning of a word.
    boost : float
        For the hotwords that are complete, nats.
    at_start : bool
        Whether the next character begins a word.
    value : float
        The weighted score, look-ahead included; minus infinity if nothing may be written so.
    num_tokens : int
    """

    readings: list[Reading]
    hotwords: tuple[str, ...] = ()
    boost: float = 0.0
    at_start: bool = True
    value: float = 0.0
    num_tokens: int = 0
    after: dict[int, tuple[LMState, float]] = field(default_factory=dict)
    end: tuple[Reading, float] | None = None


class Fusion(LM):
    """See the module.

    Parameters
    ----------
    pieces : sequence of str, length V
    scorer : Scorer, optional
    lexicon : Lexicon, optional
    unknown_words : {"spell", "refuse"}
        Whether words outside the lexicon may be written. One that is spelled has the language model's
        probability of an unknown word, times that of its letters drawn evenly from the alphabet.
    hotwords : sequence of str
    lm_weight, word_bonus, hotword_boost : float
        In nats: the last two a word and a character of a hotword.
    """

    def __init__(
        self,
        pieces: Sequence[str],
        scorer: Scorer | None = None,
        lexicon: Lexicon | None = None,
        unknown_words: UnknownWords = "spell",
        hotwords: Sequence[str] = (),
        *,
        lm_weight: float = 1.0,
        word_bonus: float = 0.0,
        hotword_boost: float = 0.0,
    ) -> None:
        LM.__init__(self)
        self.pieces = pieces
        self.scorer = scorer
        self.unit = scorer.unit if scorer else None
        self.lexicon = lexicon
        self.spell = unknown_words == "spell"
        self.lm_weight, self.word_bonus, self.hotword_boost = lm_weight, word_bonus, hotword_boost
        self.hotwords = frozenset(hotwords)
        self.hotword_starts = frozenset(word[:n] for word in hotwords for n in range(1, len(word) + 1))
        self.letter = -math.log(len(set("".join(pieces)) - {" "}) + 1)
        self.prefixes: dict[LMState, Prefix] = {}
        self._best: dict[Node, float] = {}
        self._unigrams = np.zeros(0)
        self._unknown_unigram = 0.0
        if self.unit == "word" and lexicon is not None and scorer is not None:
            self._unigrams = np.array([max(map(scorer.unigram, words)) for words in lexicon.words])
            self._unknown_unigram = scorer.unigram(UNK)

    def start(self, start_with_nothing: bool) -> LMState:
        """Return the state of no tokens; forgets all other states."""
        reading = Reading(self.scorer.start() if self.scorer else None)
        if self.lexicon is not None:
            reading.node = self.lexicon.root
        self.root = LMState()
        self.prefixes = {self.root: Prefix([reading])}
        return self.root

    def score(self, state: LMState, token: int) -> tuple[LMState, float]:
        """Return the state after a token, and what the token adds to the weighted score."""
        prefix = self.prefixes[state]
        found = prefix.after.get(token)
        if found is None:
            extended = self._extend(prefix, token)
            if extended is None:
                found = (state, -math.inf)
            else:
                child = state.child(token)
                self.prefixes[child] = extended
                found = (child, extended.value - prefix.value)
            prefix.after[token] = found
        return found

    def finish(self, state: LMState) -> tuple[LMState, float]:
        """Return what the end of the text adds."""
        prefix = self.prefixes[state]
        return state, self.end(prefix)[1] - prefix.value

    def find(self, tokens: Sequence[int]) -> Prefix:
        """Return what is known of tokens that the decoder has written."""
        state = self.root
        for token in tokens:
            state = self.score(state, token)[0]
        return self.prefixes[state]

    def end(self, prefix: Prefix) -> tuple[Reading, float]:
        """Return the best reading of the whole, with the sentence's end, and its weighted score.

        Its `text` is empty unless the tokens end within a word that may not be written.
        """
        if prefix.end is None:
            boost = prefix.boost + self.hotword_boost * sum(
                len(start) for start in prefix.hotwords if start in self.hotwords
            )
            found = []
            for reading in prefix.readings:
                complete = self._complete(reading, prefix.num_tokens) if reading.text else [reading]
                penalty = boost
                if not complete:
                    complete, penalty = [reading], boost + INCOMPLETE
                for option in complete:
                    language = option.language
                    if self.scorer is not None:
                        language += self.scorer.finish(option.lm_state)
                    ended = replace(option, language=language)
                    value = self.lm_weight * language + self.word_bonus * ended.num_words + penalty
                    found.append((ended, value))
            prefix.end = max(found, key=lambda pair: pair[1])
        return prefix.end

    def _extend(self, prefix: Prefix, token: int) -> Prefix | None:
        piece = self.pieces[token]
        readings = prefix.readings
        if self.unit == "piece":
            readings = [self._with_symbol(reading, symbol_of(piece)) for reading in readings]
        hotwords, boost, at_start = prefix.hotwords, prefix.boost, prefix.at_start
        for char in piece:
            readings = [option for r in readings for option in self._read(r, char, prefix.num_tokens)]
            if self.hotwords:
                hotwords, boost, at_start = self._match(hotwords, boost, at_start, char)
        if not readings:
            return None
        if len(readings) > MAX_READINGS:
            readings = sorted(readings, key=self._value, reverse=True)[:MAX_READINGS]
        value = max(map(self._value, readings)) + boost
        if hotwords:
            value += self.hotword_boost * max(map(len, hotwords))
        return Prefix(readings, hotwords, boost, at_start, value, prefix.num_tokens + 1)

    def _value(self, reading: Reading) -> float:
        return self.lm_weight * (reading.language + reading.ahead) + self.word_bonus * reading.num_words

    def _read(self, reading: Reading, char: str, num_tokens: int) -> list[Reading]:
        """Return the ways to go on with a character; none if the lexicon forbids it."""
        if char == " ":
            if not reading.text:
                return [reading]
            found = self._complete(reading, num_tokens)
            if self.lexicon is not None and not self.lexicon.is_plain:  # spaces within spellings
                node = self.lexicon.descend(reading.node, reading.text + " ")
                if node[0] < node[1]:
                    found.append(self._within(reading, reading.text + " ", node))
            return found
        if self.unit == "character":
            if not reading.text and reading.num_words:
                reading = self._with_symbol(reading, SPACE)
            reading = self._with_symbol(reading, char)
        text = reading.text + char
        if self.lexicon is None:
            return [self._within(reading, text, reading.node)]
        node = self.lexicon.descend(reading.node, text)
        if node[0] < node[1] or self.spell:
            return [self._within(reading, text, node)]
        return []

    def _within(self, reading: Reading, text: str, node: Node) -> Reading:
        return Reading(
            reading.lm_state,
            reading.language,
            reading.words,
            reading.num_words,
            reading.num_unknown,
            text,
            node,
            self._look_ahead(text, node),
        )

    def _look_ahead(self, text: str, node: Node) -> float:
        if not len(self._unigrams):
            return 0.0
        if node[0] == node[1]:
            return self._unknown_unigram + len(text) * self.letter
        best = self._best.get(node)
        if best is None:
            best = self._best[node] = float(self._unigrams[slice(*node)].max())
        return best

    def _complete(self, reading: Reading, num_tokens: int) -> list[Reading]:
        """Return the words that may end here; none if the lexicon has no such word and refuses others."""
        lexicon, text = self.lexicon, reading.text
        words = (text,) if lexicon is None else lexicon.words_at(reading.node, text)
        unknown = not words
        if unknown:
            if not self.spell:
                return []
            words = (text,)
        found = []
        for word in words:
            state, language = reading.lm_state, reading.language
            if self.unit == "word" and self.scorer is not None:
                state, score = self.scorer.score(state, UNK if unknown else word)
                language += score + ((len(text) + 1) * self.letter if unknown else 0.0)
            found.append(
                Reading(
                    state,
                    language,
                    (reading.words, word, num_tokens),
                    reading.num_words + 1,
                    reading.num_unknown + unknown,
                    node=lexicon.root if lexicon is not None else (0, 0),
                )
            )
        return found

    def _with_symbol(self, reading: Reading, symbol: str) -> Reading:
        assert self.scorer is not None
        state, score = self.scorer.score(reading.lm_state, symbol)
        return Reading(
            state,
            reading.language + score,
            reading.words,
            reading.num_words,
            reading.num_unknown,
            reading.text,
            reading.node,
            reading.ahead,
        )

    def _match(
        self, hotwords: tuple[str, ...], boost: float, at_start: bool, char: str
    ) -> tuple[tuple[str, ...], float, bool]:
        """Follow the hotwords over a character; complete ones count where their last word ends."""
        if char == " " and at_start:
            return hotwords, boost, True
        if char == " ":
            boost += self.hotword_boost * sum(len(start) for start in hotwords if start in self.hotwords)
        going = [start + char for start in hotwords if start + char in self.hotword_starts]
        if at_start and char in self.hotword_starts:
            going.append(char)
        return tuple(going), boost, char == " "


def list_words(words: tuple) -> list[tuple[str, int]]:
    """Return the words of a `Reading` in order, each with the number of tokens up to its end."""
    found = []
    while words:
        words, word, num_tokens = words
        found.append((word, num_tokens))
    return found[::-1]
