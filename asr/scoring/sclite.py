"""Align words at the costs and with the tie-breaking of NIST's sclite.

A substitution costs 4, a deletion or insertion 3 (SCTK, ``doc/sclite.htm``), so that three substitutions and
two deletions with two insertions cost the same. Of ways that cost the same sclite takes, from the end
backwards, a match or substitution first, then an insertion, then a deletion. Many utterances are aligned at
once, with numpy; those with alternatives are `asr.scoring.alternatives`' task.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from asr.errors import DataError
from asr.scoring.alternatives import Costs

SUBSTITUTION, GAP = 4, 3
COSTS = Costs(substitution=SUBSTITUTION, gap=GAP, optional=2, null=0.001)

_BLOCK_CELLS = 4_000_000
_MAX_CELLS = 2_000_000_000
_MATCH, _SUBSTITUTE, _INSERT, _DELETE = map(ord, "CSID")
# Of a word sclite compares what stands before `;` (where it keeps marks on words), without backslashes and
# without an asterisk at the end.
_MARK = re.compile(r"(?<!\\);.*", re.DOTALL)


def plain_word(word: str) -> str:
    """Return the part of a word that sclite compares."""
    word = _MARK.sub("", word).replace("\\", "")
    if len(word) > 1 and word[-1] == "*":
        word = word[:-1]
    # Nothing is left of `;` and of a backslash; they are the same word still.
    return word or ";"


def plain_words(texts: Sequence[list[str]]) -> list[list[str]]:
    """Apply `plain_word` to every word of texts."""
    marks = set(";\\*")
    return [words if marks.isdisjoint("".join(words)) else list(map(plain_word, words)) for words in texts]


def align_all(references: Sequence[Sequence[str]], hypotheses: Sequence[Sequence[str]]) -> list[str]:
    """Return each utterance's operations, a letter each: C, S, D or I.

    Raises
    ------
    DataError
        If a pair is too long to be held in memory.
    """
    ids: dict[str, int] = {}
    said = [[ids.setdefault(word, len(ids)) for word in words] for words in references]
    recognised = [[ids.setdefault(word, len(ids)) for word in words] for words in hypotheses]
    operations = [""] * len(said)
    rest = []
    for index, (x, y) in enumerate(zip(said, recognised, strict=True)):
        if x == y:
            operations[index] = "C" * len(x)
        elif not x or not y:
            operations[index] = "D" * len(x) + "I" * len(y)
        else:
            rest.append(index)
    rest.sort(key=lambda index: (len(said[index]), len(recognised[index])))
    start = 0
    while start < len(rest):
        stop = start + 1
        rows, columns = len(said[rest[start]]) + 1, len(recognised[rest[start]]) + 1
        while stop < len(rest):
            rows = max(rows, len(said[rest[stop]]) + 1)
            columns = max(columns, len(recognised[rest[stop]]) + 1)
            if (stop + 1 - start) * rows * columns > _BLOCK_CELLS:
                break
            stop += 1
        block = rest[start:stop]
        for index, letters in zip(
            block, _align_block([said[i] for i in block], [recognised[i] for i in block]), strict=True
        ):
            operations[index] = letters
        start = stop
    return operations


def _align_block(references: list[list[int]], hypotheses: list[list[int]]) -> list[str]:
    """Align utterances together.

    Shapes: B utterances, N and M the most words of a reference and a hypothesis.
    """
    said, num_said = _pad(references, -1)
    recognised, num_recognised = _pad(hypotheses, -2)
    (B, N), M = said.shape, recognised.shape[1]
    if B * (N + 1) * (M + 1) > _MAX_CELLS:
        raise DataError(
            f"an utterance of {N} words against {M}: too long to align at sclite's costs; split it, or "
            f"align with levenshtein"
        )
    steps = GAP * np.arange(M + 1, dtype=np.int32)
    came_by = np.empty((N + 1, B, M + 1), dtype=np.uint8)
    came_by[0] = _INSERT
    cost = np.tile(steps, (B, 1))
    for row in range(1, N + 1):
        match = said[:, row - 1, None] == recognised
        diagonal = cost[:, :-1] + np.where(match, 0, SUBSTITUTION).astype(np.int32)
        best = cost + GAP
        np.minimum(best[:, 1:], diagonal, out=best[:, 1:])
        # cost[m] = min(best[m], cost[m - 1] + GAP), for all m at once.
        best -= steps
        np.minimum.accumulate(best, axis=1, out=best)
        best += steps
        way = came_by[row]
        way[:] = _DELETE
        way[:, 1:][best[:, 1:] == best[:, :-1] + GAP] = _INSERT
        diagonal_is_best = best[:, 1:] == diagonal
        way[:, 1:][diagonal_is_best] = _SUBSTITUTE
        way[:, 1:][diagonal_is_best & match] = _MATCH
        cost = best
    letters = np.zeros((B, N + M), dtype=np.uint8)
    n, m = num_said, num_recognised
    every = np.arange(B)
    for column in range(N + M - 1, -1, -1):
        going = (n > 0) | (m > 0)
        if not going.any():
            break
        way = np.where(going, came_by[n, every, m], 0)
        letters[:, column] = way
        n = n - (going & (way != _INSERT))
        m = m - (going & (way != _DELETE))
    return [row.tobytes().lstrip(b"\0").decode("ascii") for row in letters]


def _pad(rows: list[list[int]], filler: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows as int32 (B, longest), filled up at the end, and their lengths, int64 (B,)."""
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    padded = np.full((len(rows), int(lengths.max())), filler, dtype=np.int32)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = np.concatenate([np.array(row) for row in rows])
    return padded, lengths
