"""Beam search over CTC paths, with or without language model, lexicon and hotwords.

The search is flashlight's (Kahn et al., ICML 2022) over token prefixes, the probabilities of all alignments
of a prefix added up (Graves 2012, section 7.5; Hannun et al. 2014). The best texts that it finds get their
exact scores afterwards: the CTC probability over all alignments, also those that the beam has dropped.
"""

from __future__ import annotations

import multiprocessing
import sys
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from asr.decoding.base import Decoder
from asr.decoding.confidence import Calibration
from asr.decoding.fit import check_hotword, compare
from asr.decoding.forward import ctc_scores
from asr.decoding.fusion import UnknownWords
from asr.decoding.lexicon import Lexicon
from asr.decoding.scorers import Unit, load_scorer
from asr.decoding.search import Found, Search, search_in_worker, start_worker
from asr.decoding.timing import TokenSpan, force_align, group_words
from asr.types import Hypothesis, Word

BEAM_THRESHOLD = 10.0
BEAM_SIZE_TOKEN = 10
"""Enough that on AN4 a beam four times as wide, with twice the threshold, finds no better text."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text that the beam search found in an utterance.

    Scores are natural logarithms.

    Attributes
    ----------
    text : str
    tokens : tuple of int
        Blanks and repeats removed.
    words : tuple of (str, int)
        The words, each with the number of tokens up to its end.
    acoustic : float
        Of the tokens' CTC probability, all alignments added up.
    language : float
        Of the text's probability under the language model, its end included; 0.0 without one.
    rescored : float
        Of the text's probability under the rescoring model; 0.0 without one.
    bonus : float
        For words and hotwords, nats.
    total : float
        ``acoustic + lm_weight * language + rescore_weight * rescored + bonus``, by which texts are ranked.
    num_unknown : int
        Words outside the lexicon.
    """

    text: str
    tokens: tuple[int, ...]
    words: tuple[tuple[str, int], ...]
    acoustic: float
    language: float
    rescored: float
    bonus: float
    total: float
    num_unknown: int = 0


class BeamDecoder(Decoder):
    """CTC beam search.

    Parameters
    ----------
    beam_size : int
        Prefixes kept after every frame.
    beam_threshold : float
        A prefix so much worse than the best is dropped, nats.
    beam_size_token : int
        Tokens tried in every frame, the most probable ones.
    nbest : int
        Texts that `nbest` returns, and that are rescored.
    lm_weight : float
        Of the language model's log-probability, against the acoustic model's 1.
    lm_unit : {"word", "character", "piece"}, optional
        What the language model's symbols are; by default the model says itself.
    word_bonus : float
        Added for every word, nats.
    unknown_words : {"spell", "refuse"}
        What to do with words outside the lexicon; see `asr.decoding.fusion.Fusion`.
    hotwords : sequence of str
        Words and phrases to prefer.
    hotword_boost : float
        Added for every character of a hotword, nats.
    rescore_weight : float
        Of a second language model, which scores the finished texts.
    num_workers : int
        Processes that decode a batch together. The result does not depend on it.
    calibration : Calibration, optional
        Of the confidences; without it they are raw.
    assets : mapping of str to bytes
        ``lm``: a language model's file. ``lexicon``: what `Lexicon.to_text` returns; by default the words of
        a word model, none for other models. ``rescorer``: a recurrent language model's file.

    Raises
    ------
    ValueError
        If a number is out of its range.
    DataError
        If the language model or the lexicon cannot be read.
    """

    def __init__(
        self,
        beam_size: int = 50,
        beam_threshold: float = BEAM_THRESHOLD,
        beam_size_token: int = BEAM_SIZE_TOKEN,
        nbest: int = 1,
        lm_weight: float = 1.0,
        lm_unit: Unit | None = None,
        word_bonus: float = 0.0,
        unknown_words: UnknownWords = "spell",
        hotwords: Sequence[str] = (),
        hotword_boost: float = 1.0,
        rescore_weight: float = 0.0,
        num_workers: int = 1,
        calibration: Calibration | None = None,
        assets: Mapping[str, bytes] | None = None,
    ) -> None:
        for name, number, least in (
            ("beam_size", beam_size, 1),
            ("beam_size_token", beam_size_token, 1),
            ("nbest", nbest, 1),
            ("num_workers", num_workers, 1),
            ("lm_weight", lm_weight, 0),
            ("rescore_weight", rescore_weight, 0),
            ("hotword_boost", hotword_boost, 0),
        ):
            if number < least:
                raise ValueError(f"{name} must be {least} or more, found {number}")
        if not beam_threshold > 0:
            raise ValueError(f"beam_threshold must be positive, found {beam_threshold}")
        self.beam_size, self.beam_threshold, self.beam_size_token = beam_size, beam_threshold, beam_size_token
        self.num_best, self.num_workers, self.calibration = nbest, num_workers, calibration
        self.lm_weight, self.word_bonus, self.rescore_weight = lm_weight, word_bonus, rescore_weight
        self.unknown_words = unknown_words
        self.hotwords = tuple(dict.fromkeys(" ".join(word.split()) for word in hotwords))
        self.hotword_boost = hotword_boost
        self.assets = dict(assets or {})
        self.scorer = load_scorer(self.assets["lm"], lm_unit) if "lm" in self.assets else None
        self.rescorer = load_scorer(self.assets["rescorer"]) if "rescorer" in self.assets else None
        self.lexicon: Lexicon | None = None
        if "lexicon" in self.assets:
            self.lexicon = Lexicon.from_stored(self.assets["lexicon"].decode())
        elif self.scorer is not None and self.scorer.unit == "word":
            self.lexicon = Lexicon.from_words(self.scorer.vocabulary)
        self._search: Search | None = None
        self._pool: ProcessPoolExecutor | None = None
        self._pool_search: Search | None = None

    def prepare(self, pieces: Sequence[str]) -> list[str]:
        """Make ready for a model's tokens, and see that all fits together.

        Parameters
        ----------
        pieces : sequence of str, length V

        Returns
        -------
        list of str
            What a user should know, one line each.

        Raises
        ------
        DataError
            If a hotword cannot be written, or the tokens spell no word of the language model or lexicon.
        """
        notes = compare(self, pieces)
        for hotword in self.hotwords:
            check_hotword(self, hotword, pieces)
        self._search = Search(self, tuple(pieces))
        return notes

    def __call__(
        self, log_probs: Tensor, lengths: Tensor, pieces: Sequence[str], frame_shift: float
    ) -> list[Hypothesis]:
        """Decode a batch; see `Decoder`.

        Returns
        -------
        list of Hypothesis, length B
            Times and confidence come from the forced alignment of the text; `log_prob` is its acoustic
            score over all alignments.
        """
        best = self.nbest(log_probs, lengths, pieces, self.num_best if self.rescorer else 1)
        return [
            self.hypothesis(candidates[0], frames[:length], pieces, frame_shift)
            for candidates, frames, length in zip(best, log_probs.cpu(), lengths.tolist(), strict=True)
        ]

    def hypothesis(
        self, candidate: Candidate, log_probs: Tensor, pieces: Sequence[str], frame_shift: float
    ) -> Hypothesis:
        """Return a candidate with its times and confidence, given its log-probabilities (T, V)."""
        spans = force_align(log_probs, candidate.tokens)
        raw = sum(span[3] for span in spans) / len(spans) if spans else 1.0
        return Hypothesis(
            text=candidate.text,
            words=self._words(candidate, spans, pieces, frame_shift, len(log_probs)),
            tokens=candidate.tokens,
            log_prob=candidate.acoustic,
            confidence=raw if self.calibration is None else self.calibration.utterances(raw),
        )

    def _words(
        self,
        candidate: Candidate,
        spans: Sequence[TokenSpan],
        pieces: Sequence[str],
        frame_shift: float,
        num_frames: int,
    ) -> tuple[Word, ...]:
        if self.lexicon is None or self.lexicon.is_plain:
            return group_words(spans, pieces, frame_shift, num_frames, self.calibration)
        # The lexicon says which tokens make a word, and how it is written.
        words, start = [], 0
        for word, end in candidate.words:
            merged = tuple(" x" if i == start else "x" for i in range(start, end))
            joined = [
                (i - start, *span[1:]) for i, span in zip(range(start, end), spans[start:end], strict=True)
            ]
            timed = group_words(joined, merged, frame_shift, num_frames, self.calibration)[0]
            words.append(replace(timed, text=word, tokens=candidate.tokens[start:end]))
            start = end
        return tuple(words)

    def nbest(
        self, log_probs: Tensor, lengths: Tensor, pieces: Sequence[str], n: int | None = None
    ) -> list[list[Candidate]]:
        """Return the best texts of each utterance of a batch, best first.

        Parameters
        ----------
        log_probs : Tensor, float32, (B, T, V)
        lengths : Tensor, int64, (B,)
        pieces : sequence of str, length V
        n : int, optional
            At most so many texts; by default the option `nbest`.

        Returns
        -------
        list of list of Candidate
            At least one each; no text twice.
        """
        n = n or self.num_best
        if self._search is None or self._search.pieces != tuple(pieces):
            self.prepare(pieces)
        search = self._search
        assert search is not None
        frames = log_probs.detach().float().cpu()
        inputs = [frames[b, :length].contiguous().numpy() for b, length in enumerate(lengths.tolist())]
        count = max(n, self.num_best)
        if self.num_workers > 1 and len(inputs) > 1 and sys.platform == "linux":
            found = list(self._workers(search).map(search_in_worker, inputs, [count] * len(inputs)))
        else:
            found = [search(emissions, count) for emissions in inputs]
        return [self._rank(texts, torch.from_numpy(x))[:n] for texts, x in zip(found, inputs, strict=True)]

    def _workers(self, search: Search) -> ProcessPoolExecutor:
        """Return the processes; forked, so that they share the language model's memory."""
        if self._pool is None or self._pool_search is not search:
            self.close()
            self._pool_search = search
            self._pool = ProcessPoolExecutor(
                self.num_workers,
                mp_context=multiprocessing.get_context("fork"),
                initializer=start_worker,
                initargs=(search,),
            )
            # Waits for them, also where the search is just let go of: a program that ended while they did
            # would now and then print an error of Python's.
            self._end_pool = weakref.finalize(self, self._pool.shutdown)
        return self._pool

    def close(self) -> None:
        """End the processes, if there are any."""
        if self._pool is not None:
            self._end_pool()
            self._pool = None

    def _rank(self, found: list[Found], log_probs: Tensor) -> list[Candidate]:
        """Give the best texts their exact scores and sort them by these."""
        acoustic = ctc_scores(log_probs, [text.tokens for text in found])
        rescored = self.rescorer.score_texts([text.text for text in found]) if self.rescorer else None
        candidates = []
        for i, text in enumerate(found):
            second = rescored[i] if rescored is not None else 0.0
            total = acoustic[i] + self.lm_weight * text.language + self.rescore_weight * second + text.bonus
            candidates.append(
                Candidate(
                    text.text,
                    text.tokens,
                    text.words,
                    acoustic[i],
                    text.language,
                    second,
                    text.bonus,
                    total,
                    text.num_unknown,
                )
            )
        candidates.sort(key=lambda c: (-c.total, c.tokens))
        best: dict[str, Candidate] = {}
        for candidate in candidates:
            best.setdefault(candidate.text, candidate)
        return list(best.values())
