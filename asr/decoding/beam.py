"""Beam search over CTC paths, with or without language model, lexicon and hotwords.

The search is flashlight's (Kahn et al., ICML 2022) over token prefixes, the probabilities of all alignments
of a prefix added up (Graves 2012, section 7.5; Hannun et al. 2014). The best texts that it finds get their
exact scores afterwards: the CTC probability over all alignments, also those that the beam has dropped.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch
from flashlight.lib.text.decoder import (
    CriterionType,
    LexiconFreeDecoder,
    LexiconFreeDecoderOptions,
    ZeroLM,
)
from torch import Tensor

from asr.decoding.base import Decoder
from asr.decoding.confidence import Calibration
from asr.decoding.fusion import INCOMPLETE, Fusion, UnknownWords, list_words
from asr.decoding.lexicon import Lexicon
from asr.decoding.scorers import Unit, load_scorer, symbol_of
from asr.decoding.timing import TokenSpan, force_align, group_tokens, group_words
from asr.errors import DataError
from asr.lm.alphabet import compare_alphabet
from asr.models.ctc import BLANK, ctc_loss
from asr.types import Hypothesis, Word

BEAM_THRESHOLD = 10.0
BEAM_SIZE_TOKEN = 10
"""Enough that on AN4 a beam four times as wide, with twice the threshold, finds no better text."""

RERANK_MARGIN = 0.1
"""Nats within which the beam's own scores are not trusted to rank the best texts..."""
RERANK_MOST = 3
"""...and how many of these get their exact scores, if no more are asked for."""

_NO_TOKEN = -1  # what flashlight writes before the first and after the last frame


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
        self._search: _Search | None = None
        self._pool: ProcessPoolExecutor | None = None
        self._pool_search: _Search | None = None

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
        notes = self._compare(pieces)
        for hotword in self.hotwords:
            self._check_hotword(hotword, pieces)
        self._search = _Search(self, tuple(pieces))
        return notes

    def _compare(self, pieces: Sequence[str]) -> list[str]:
        """See whether language model, lexicon and tokens speak of the same words; return what is unusual."""
        notes = []
        if "lexicon" in self.assets and self.lexicon is not None:
            words = self.lexicon.vocabulary
            unspellable = self.lexicon.unspellable(pieces)
            if len(unspellable) == len(words):
                raise DataError(
                    f"no word of the lexicon can be spelled with the model's tokens, such as {words[0]!r}; "
                    "bring it to the model's alphabet and case"
                )
            if unspellable:
                notes.append(
                    f"{len(unspellable)} of the lexicon's {len(words)} words cannot be spelled with the "
                    f"model's tokens and will never be recognised, such as {unspellable[0]!r}"
                )
            if self.scorer is not None and self.scorer.unit == "word":
                known = set(self.scorer.vocabulary)
                missing = [word for word in words if word not in known]
                if len(missing) == len(words):
                    raise DataError(
                        f"the language model has no word of the lexicon, such as {words[0]!r}; bring both to "
                        "the same spelling and case"
                    )
                if missing:
                    notes.append(
                        f"{len(missing)} of the lexicon's {len(words)} words are unknown to the language "
                        f"model, such as {missing[0]!r}"
                    )
        elif self.scorer is not None and self.scorer.unit == "piece":
            lacking = sorted(set(map(symbol_of, pieces[1:])) - set(self.scorer.vocabulary))
            if lacking:
                raise DataError(
                    f"the language model lacks {len(lacking)} of the model's {len(pieces) - 1} tokens, such "
                    f"as {lacking[0]!r}; train it on text in these tokens"
                )
        elif self.scorer is not None:
            for problem in compare_alphabet(self.scorer.vocabulary, pieces):
                if problem.severity == "error":
                    raise DataError(problem.message)
                notes.append(problem.message)
        return notes

    def _check_hotword(self, hotword: str, pieces: Sequence[str]) -> None:
        if not hotword:
            raise DataError("a hotword is empty; leave it out")
        if not can_spell(hotword, pieces):
            known = set("".join(pieces))
            bad = [char for char in hotword if char not in known]
            reason = (
                f"has {bad[0]!r}, which the model has no token for" if bad else "is not made of its tokens"
            )
            raise DataError(
                f"hotword {hotword!r} cannot be spelled: it {reason}; write it in the model's "
                "alphabet and case"
            )
        if self.unknown_words == "refuse" and self.lexicon is not None:
            words = set(self.lexicon.vocabulary)
            outside = [word for word in hotword.split() if word not in words]
            if outside:
                raise DataError(
                    f"hotword {hotword!r}: {outside[0]!r} is outside the lexicon, and words outside it are "
                    "refused; add it to the lexicon or set unknown_words=spell"
                )

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
            found = list(self._workers(search).map(_search_in_worker, inputs, [count] * len(inputs)))
        else:
            found = [search(emissions, count) for emissions in inputs]
        return [self._rank(texts, torch.from_numpy(x))[:n] for texts, x in zip(found, inputs, strict=True)]

    def _workers(self, search: _Search) -> ProcessPoolExecutor:
        """Return the processes; forked, so that they share the language model's memory."""
        if self._pool is None or self._pool_search is not search:
            self.close()
            self._pool_search = search
            self._pool = ProcessPoolExecutor(
                self.num_workers,
                mp_context=multiprocessing.get_context("fork"),
                initializer=_start_worker,
                initargs=(search,),
            )
        return self._pool

    def close(self) -> None:
        """End the processes, if there are any."""
        if self._pool is not None:
            self._pool.shutdown()
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


@dataclass(frozen=True, slots=True)
class Found:
    """A text as the beam has it: all but the exact acoustic score; see `Candidate`."""

    text: str
    tokens: tuple[int, ...]
    words: tuple[tuple[str, int], ...]
    language: float
    bonus: float
    num_unknown: int


class _Search:
    """flashlight's decoder for one model's tokens."""

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


def ctc_scores(log_probs: Tensor, sequences: Sequence[Sequence[int]]) -> list[float]:
    """Return the natural logarithm of each token sequence's CTC probability, all alignments added up.

    Parameters
    ----------
    log_probs : Tensor, float32 or float64, (T, V)
    sequences : sequence of sequences of int
        Without blanks.
    """
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    longest = max(map(len, sequences))
    targets = torch.tensor([[*sequence, *[BLANK] * (longest - len(sequence) + 1)] for sequence in sequences])
    frames = log_probs.expand(len(sequences), *log_probs.shape)
    num_frames = torch.full((len(sequences),), len(log_probs))
    return (-ctc_loss(frames, num_frames, targets, lengths)).tolist()


def can_spell(text: str, pieces: Sequence[str]) -> bool:
    """Tell whether pieces joined together spell a text, with or without a space before it."""
    available = set(pieces[1:])
    longest = max(map(len, available))

    def spells(string: str) -> bool:
        reached = {0}
        for end in range(1, len(string) + 1):
            starts = range(max(0, end - longest), end)
            if any(start in reached and string[start:end] in available for start in starts):
                reached.add(end)
        return len(string) in reached

    return spells(text) or spells(" " + text)


_worker_search: _Search | None = None


def _start_worker(search: _Search) -> None:
    global _worker_search
    _worker_search = search
    torch.set_num_threads(1)


def _search_in_worker(emissions: np.ndarray, count: int) -> list[Found]:
    assert _worker_search is not None
    return _worker_search(emissions, count)
