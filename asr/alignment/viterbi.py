"""CTC alignment that may leave out words of the text and stretches of the audio, in bounded memory.

The states of a text are those of CTC (Graves et al., ICML 2006): a token each, blanks between them. Two
things are added at every boundary between words. From a boundary, the path may jump to any later one, at a
cost for each word that it leaves out; and it may stay in a filler, which takes any token at a cost. A word
that was not said is then left out instead of being smeared over speech that is not its own, and speech that
the text lacks falls to the filler instead of stretching the words beside it.

Backpointers are kept for a block of frames at a time; the scores at the blocks' starts are kept for all,
and a block is computed a second time when the path is traced through it. So memory grows with
sqrt(T) x S, not with T x S, for T frames and S states.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLANK = 0
# Up to this many frames x states, all backpointers are kept: no block is computed twice.
_WHOLE = 20_000_000


@dataclass(frozen=True)
class Costs:
    """What it costs to leave something out, in nats.

    The defaults were chosen on the dev sets of AN4 and of joined FSDD digits, with words put into their
    texts, taken out and replaced.

    Parameters
    ----------
    word : float
        To leave out a word of the text.
    filler : float
        To begin a stretch of audio that the text lacks.
    filler_frame : float
        For each frame of it whose most probable token is not the blank.
    """

    word: float = 8.0
    filler: float = 3.0
    filler_frame: float = 2.0


NOTHING_LEFT_OUT = Costs(math.inf, math.inf, math.inf)


@dataclass(frozen=True)
class Path:
    """Where the tokens of a text lie in the audio.

    Attributes
    ----------
    words : tuple of (tuple of (int, int, int) or None), length W
        For each word (position in the word, first frame, frame after the last) of its tokens; None if the
        word was left out.
    fillers : tuple of (int, int, int)
        Stretches that the text lacks: first frame, frame after the last, and the number of the word
        before which they lie (W for the end).
    """

    words: tuple[tuple[tuple[int, int, int], ...] | None, ...]
    fillers: tuple[tuple[int, int, int], ...]


def align_words(
    log_probs: np.ndarray, words: Sequence[Sequence[int]], costs: Costs, space: int | None = None
) -> Path:
    """Find the most probable path through the words, some of which may be left out.

    Parameters
    ----------
    log_probs : numpy.ndarray, float32, (T, V)
        Natural logarithms; T at least 1.
    words : sequence of sequences of int, length W
        The tokens of each word, at least one.
    costs : Costs
    space : int, optional
        A token that the path may pass over at the start of a longer word.

    Returns
    -------
    Path
    """
    search = _Search(log_probs, words, costs, space)
    T = len(log_probs)
    block = T if T * search.num_states <= _WHOLE else math.isqrt(T - 1) + 1
    checkpoints = [search.start()]
    for begin in range(0, T - block, block):
        scores = checkpoints[-1]
        for t in range(begin, begin + block):
            scores, _ = search.step(t, scores)
        checkpoints.append(scores)
    state = -1
    states = np.empty(T, dtype=np.int64)
    for number in range(len(checkpoints) - 1, -1, -1):
        scores = checkpoints[number]
        frames = range(number * block, min(T, (number + 1) * block))
        pointers = []
        for t in frames:
            scores, pointer = search.step(t, scores)
            pointers.append(pointer)
        if state < 0:
            state = search.best_end(scores)
        for t, pointer in zip(reversed(frames), reversed(pointers), strict=True):
            states[t] = state
            state = search.previous(state, pointer)
    return search.path(states)


@dataclass
class _Scores:
    """Of the best paths into every state: the text's (S,) and the fillers' (W + 1,), float32."""

    text: np.ndarray
    filler: np.ndarray


@dataclass
class _Pointers:
    """Of a frame. `text`: 0 from itself, 1 and 2 from so many states before, 3 from a boundary.

    `jump` (W + 1,): the boundary from which each one is best reached; `from_filler`: whether it was left
    through its filler, else its blank. `filler`: 0 from itself, 1 from its boundary's blank, 2 from the last
    token before it.
    """

    text: np.ndarray
    jump: np.ndarray
    from_filler: np.ndarray
    filler: np.ndarray


class _Search:
    """The states and one step of the dynamic program.

    States of the text: word by word, the boundary's blank, the first token, blank, second token, ..., last
    token; then the last boundary's blank. A filler has the number of its boundary plus S.
    """

    def __init__(
        self, log_probs: np.ndarray, words: Sequence[Sequence[int]], costs: Costs, space: int | None
    ) -> None:
        assert len(log_probs) > 0
        self.log_probs = log_probs
        best = log_probs.argmax(axis=1)
        self.filler_scores = log_probs.max(axis=1) - np.where(best == BLANK, 0.0, costs.filler_frame)
        self.num_words = len(words)
        lengths = np.array([len(word) for word in words], dtype=np.int64)
        assert (lengths > 0).all()
        self.boundaries = np.concatenate([[0], np.cumsum(2 * lengths)])
        self.num_states = int(self.boundaries[-1]) + 1
        self.symbols = np.zeros(self.num_states, dtype=np.int64)
        self.symbols[1::2] = [token for word in words for token in word]
        firsts = self.boundaries[:-1] + 1
        seconds = firsts[(lengths > 1) & (self.symbols[firsts] == space)] + 2
        # The states that a boundary leads to, and its number for each.
        self.entries = np.concatenate([self.boundaries, firsts, seconds])
        self.entered_from = np.searchsorted(self.boundaries, self.entries, side="right") - 1
        self.lasts = self.boundaries[1:] - 1
        # A token may follow the one before it without a blank only if it is another one.
        repeats = self.symbols[3::2] == self.symbols[1:-2:2]
        self.repeat_penalty = np.where(repeats, -np.inf, 0.0).astype(np.float32)
        self.costs = costs
        # An infinite cost times boundary 0 would not be a number; this one no path can afford.
        self.word_costs = np.arange(self.num_words + 1) * min(costs.word, 1e6)

    def start(self) -> _Scores:
        """Return the scores before the first frame: at the first boundary, nothing read."""
        scores = _Scores(
            np.full(self.num_states, -np.inf, dtype=np.float32),
            np.full(self.num_words + 1, -np.inf, dtype=np.float32),
        )
        scores.text[0] = 0.0
        return scores

    def step(self, t: int, before: _Scores) -> tuple[_Scores, _Pointers]:
        """Advance by a frame."""
        boundary, jump, from_filler = self._boundaries(before)
        text = before.text
        best = text.copy()
        pointer = np.zeros(self.num_states, dtype=np.uint8)

        # From the state before, then past a blank between two tokens that differ, then from a boundary.
        _offer(best[1:], pointer[1:], text[:-1], 1)
        _offer(best[3::2], pointer[3::2], text[1:-2:2] + self.repeat_penalty, 2)
        entered, code = best[self.entries], pointer[self.entries]
        _offer(entered, code, boundary[self.entered_from], 3)
        best[self.entries], pointer[self.entries] = entered, code
        best += self.log_probs[t, self.symbols]

        blank = text[self.boundaries] - self.costs.filler
        last = np.concatenate([[-np.inf], text[self.lasts]]) - self.costs.filler
        entry = np.maximum(blank, last)
        stay = before.filler >= entry
        filler = np.where(stay, before.filler, entry) + self.filler_scores[t]
        filler_pointer = np.where(stay, 0, np.where(blank >= last, 1, 2)).astype(np.uint8)

        # Kept near zero: float32 could not tell apart the scores of an hour.
        top = max(best.max(), filler.max())
        after = _Scores(best - top, (filler - top).astype(np.float32))
        return after, _Pointers(pointer, jump, from_filler, filler_pointer)

    def _boundaries(self, scores: _Scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the best scores at the boundaries, jumps included, and where they come from."""
        blank = scores.text[self.boundaries]
        from_filler = scores.filler > blank
        ahead = np.maximum(blank, scores.filler) + self.word_costs
        best = np.maximum.accumulate(ahead)
        jump = np.maximum.accumulate(np.where(ahead >= best, np.arange(len(ahead)), 0))
        return (best - self.word_costs).astype(np.float32), jump.astype(np.int32), from_filler

    def best_end(self, scores: _Scores) -> int:
        """Return the best state to end in, the rest of the text left out."""
        rest = self.word_costs[-1] - self.word_costs
        blank = scores.text[self.boundaries] - rest
        filler = scores.filler - rest
        last = scores.text[self.lasts] - rest[1:]
        candidates = [
            (last.max(initial=-np.inf), int(self.lasts[last.argmax()]) if len(last) else 0),
            (blank.max(), int(self.boundaries[blank.argmax()])),
            (filler.max(), self.num_states + int(filler.argmax())),
        ]
        return max(candidates, key=lambda candidate: candidate[0])[1]

    def previous(self, state: int, pointers: _Pointers) -> int:
        """Return the state of the frame before."""
        if state >= self.num_states:
            boundary = state - self.num_states
            come_from = pointers.filler[boundary]
            if come_from == 0:
                return state
            return int(self.boundaries[boundary]) - (1 if come_from == 2 else 0)
        code = int(pointers.text[state])
        if code < 3:
            return state - code
        boundary = int(pointers.jump[np.searchsorted(self.boundaries, state, side="right") - 1])
        if pointers.from_filler[boundary]:
            return self.num_states + boundary
        return int(self.boundaries[boundary])

    def path(self, states: np.ndarray) -> Path:
        """Read the words and fillers off the state of every frame."""
        changes = np.flatnonzero(np.diff(states)) + 1
        starts = [0, *changes.tolist()]
        ends = [*changes.tolist(), len(states)]
        words: list[list[tuple[int, int, int]]] = [[] for _ in range(self.num_words)]
        fillers = []
        for start, end in zip(starts, ends, strict=True):
            state = int(states[start])
            if state >= self.num_states:
                fillers.append((start, end, state - self.num_states))
            elif state % 2 == 1:
                word = int(np.searchsorted(self.boundaries, state, side="right")) - 1
                words[word].append(((state - int(self.boundaries[word])) // 2, start, end))
        return Path(tuple(tuple(spans) if spans else None for spans in words), tuple(fillers))


def _offer(best: np.ndarray, pointer: np.ndarray, candidate: np.ndarray, code: int) -> None:
    """Where a candidate is better, take it and its code, in place."""
    better = candidate > best
    np.copyto(best, candidate, where=better)
    np.copyto(pointer, code, where=better)
