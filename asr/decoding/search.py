"""flashlight's beam search over token prefixes, and what its results spell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import torch
from flashlight.lib.text.decoder import (
    CriterionType,
    LexiconFreeDecoder,
    LexiconFreeDecoderOptions,
    ZeroLM,
)

from asr.decoding.fusion import INCOMPLETE, Fusion, list_words
from asr.decoding.timing import group_tokens
from asr.models.ctc import BLANK

if TYPE_CHECKING:
    from asr.decoding.beam import BeamDecoder

RERANK_MARGIN = 0.1
"""Nats within which the beam's own scores are not trusted to rank the best texts..."""
RERANK_MOST = 3
"""...and how many of these get their exact scores, if no more are asked for."""

_NO_TOKEN = -1  # what flashlight writes before the first and after the last frame


@dataclass(frozen=True, slots=True)
class Found:
    """A text as the beam has it: all but the exact acoustic score; see `Candidate`."""

    text: str
    tokens: tuple[int, ...]
    words: tuple[tuple[str, int], ...]
    language: float
    bonus: float
    num_unknown: int


class Search:
    """flashlight's decoder for one model's tokens.

    Parameters
    ----------
    decoder : BeamDecoder
        Whose options, language model and lexicon it has.
    pieces : tuple of str, length V
    """

    def __init__(self, decoder: BeamDecoder, pieces: tuple[str, ...]) -> None:
        self.pieces = pieces
        self.fusion: Fusion | None = None
        if decoder.scorer or decoder.lexicon or decoder.hotwords or decoder.word_bonus:
            self.fusion = Fusion(
                pieces,
                decoder.scorer,
                decoder.lexicon,
                decoder.unknown_words,
                decoder.hotwords,
                # In the search the first language model stands in for the one that rescores.
                lm_weight=decoder.lm_weight + (decoder.rescore_weight if decoder.rescorer else 0.0),
                word_bonus=decoder.word_bonus,
                hotword_boost=decoder.hotword_boost,
            )
        options = LexiconFreeDecoderOptions(
            beam_size=decoder.beam_size,
            beam_size_token=decoder.beam_size_token,
            beam_threshold=decoder.beam_threshold,
            lm_weight=1.0,  # the weights are inside `Fusion`
            sil_score=0.0,
            log_add=True,
            criterion_type=CriterionType.CTC,
        )
        self._lm = self.fusion or ZeroLM()  # flashlight does not keep it alive
        self._decoder = LexiconFreeDecoder(options, self._lm, _NO_TOKEN, BLANK, [])

    def __call__(self, emissions: np.ndarray, count: int) -> list[Found]:
        """Return at least `count` texts for float32 (T, V), if there are so many, best first."""
        results = self._decoder.decode(emissions.ctypes.data, *emissions.shape)
        threshold = results[0].score - RERANK_MARGIN
        first = max(count, RERANK_MOST)
        chosen = [r for i, r in enumerate(results[:first]) if i < count or r.score >= threshold]
        found = [collapse(result.tokens) for result in chosen]
        if self.fusion is None:
            # So that nothing less probable than the best path's text is ever given.
            greedy = collapse(emissions.argmax(axis=1).tolist())
            found += [greedy] if greedy not in found else []
        return [self._describe(tokens) for tokens in found]

    def _describe(self, tokens: tuple[int, ...]) -> Found:
        if self.fusion is None:
            text = " ".join("".join([self.pieces[token] for token in tokens]).split())
            ends = [everything[-1] + 1 for _, everything in group_tokens(tokens, self.pieces)]
            return Found(text, tokens, tuple(zip(text.split(), ends, strict=True)), 0.0, 0.0, 0)
        reading, value = self.fusion.end(self.fusion.find(tokens))
        words = tuple(list_words(reading.words))
        bonus = value - self.fusion.lm_weight * reading.language
        if reading.text:  # the audio ends within a word that the lexicon lacks: give what comes before it
            tokens = tokens[: words[-1][1] if words else 0]
            bonus -= INCOMPLETE
        return Found(
            " ".join(word for word, _ in words),
            tokens,
            words,
            reading.language,
            bonus,
            reading.num_unknown,
        )


def collapse(path: Sequence[int]) -> tuple[int, ...]:
    """Merge repeats and drop blanks of a path as flashlight writes it."""
    return tuple(token for token, _ in groupby(path) if token > BLANK)


_worker_search: Search | None = None


def start_worker(search: Search) -> None:
    """Give a process, which decodes together with others, its search."""
    global _worker_search
    _worker_search = search
    torch.set_num_threads(1)


def search_in_worker(emissions: np.ndarray, count: int) -> list[Found]:
    """Search in a process after `start_worker`; see `Search`."""
    assert _worker_search is not None
    return _worker_search(emissions, count)
