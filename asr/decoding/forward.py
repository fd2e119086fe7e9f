"""The exact CTC probability of a text: the forward algorithm, from both ends of the utterance at once.

A beam drops alignments, so its own scores are too low by an amount that differs from text to text. What it
finds is therefore scored again over all alignments.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from asr.models.ctc import BLANK, ctc_loss

_SAFE = 1e-290
"""Each underflow loses less than 1e-323 of a half's probability, to which the other half adds at most its
greatest value. Beside a sum of 1e-290 times that value, 1e12 of them cannot be seen in float64."""


def ctc_scores(log_probs: Tensor, sequences: Sequence[Sequence[int]]) -> list[float]:
    """Return the natural logarithm of each token sequence's CTC probability, all alignments added up.

    Minus infinity for a sequence that does not fit into the frames.

    Parameters
    ----------
    log_probs : Tensor, float32 or float64, (T, V), on the CPU
        Normalised: their exponentials sum to one in each frame.
    sequences : sequence of sequences of int
        Without blanks.
    """
    found = _in_float64(np.exp(log_probs.double().numpy()), sequences)
    lost = [i for i, score in enumerate(found) if score is None]
    slow = _by_torch(log_probs, [sequences[i] for i in lost]) if lost else []
    scores = dict(zip(lost, slow, strict=True))
    return [scores[i] if score is None else score for i, score in enumerate(found)]


def _in_float64(probs: np.ndarray, sequences: Sequence[Sequence[int]]) -> list[float | None]:
    """Return the logarithms of the probabilities, None where float64 is too narrow for one.

    Forward and backward variables of Graves et al. 2006, equations 5 to 10, neither scaled: half of the
    frames each, so that the range of float64 serves twice. The backward ones are the forward ones of the
    reversed sequence over the reversed frames, so both are rows of one array and take the same operations.
    """
    num_frames, size = probs.shape
    half, count = num_frames // 2, len(sequences)
    if half == 0:
        return [None] * count
    # A state is a blank or a token; there is a blank before, between and after the tokens.
    rows = [*sequences, *(sequence[::-1] for sequence in sequences)]
    num_states = 2 * max(1, *map(len, rows)) + 1
    nowhere = 2 * size  # the emission beyond a sequence's last state: zero
    emitted = np.full((2 * count, num_states), nowhere)
    for r, sequence in enumerate(rows):
        first = size * (r >= count)
        emitted[r, : 2 * len(sequence) + 1] = first + BLANK
        emitted[r, 1 : 2 * len(sequence) : 2] = first + np.array(sequence, dtype=np.int64)
    # From one token to the next the blank between them may be left out, unless they are the same.
    skips = np.zeros((2 * count, num_states))
    skips[:, 3::2] = emitted[:, 3::2] != emitted[:, 1:-2:2]
    frames = np.concatenate([probs[:half], probs[: -half - 1 : -1], np.zeros((half, 1))], axis=1)

    padded = np.zeros((2 * count, num_states + 2))  # two columns for the states before the first
    stay, one_before, two_before = padded[:, 2:], padded[:, 1:-1], padded[:, :-2]
    stay[:, :2] = frames[0][emitted[:, :2]]
    emission, skipped, total = np.empty_like(skips), np.empty_like(skips), np.empty_like(skips)
    for frame in frames[1:]:
        np.take(frame, emitted, out=emission, mode="clip")
        np.multiply(two_before, skips, out=skipped)
        np.add(stay, one_before, out=total)
        total += skipped
        np.multiply(total, emission, out=stay)

    def step() -> np.ndarray:
        return stay[:count] + one_before[:count] + two_before[:count] * skips[:count]

    if num_frames % 2:
        middle = np.append(probs[half], np.zeros(size + 1))
        stay[:count] = step() * middle[emitted[:count]]
    ahead = step()
    found: list[float | None] = []
    for c, sequence in enumerate(sequences):
        states = 2 * len(sequence) + 1
        forward, backward = ahead[c, :states], stay[count + c, states - 1 :: -1][:states]
        greatest = float(forward.max()), float(backward.max())
        if not min(greatest) > _SAFE:
            found.append(None)
            continue
        shared = float((forward / greatest[0]) @ (backward / greatest[1]))
        is_safe = shared * min(greatest) > _SAFE
        found.append(math.log(shared) + sum(map(math.log, greatest)) if is_safe else None)
    return found


def _by_torch(log_probs: Tensor, sequences: Sequence[Sequence[int]]) -> list[float]:
    """Return the same from `torch.nn.functional.ctc_loss`, which is slower and knows no underflow."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    longest = max(map(len, sequences))
    targets = torch.tensor([[*sequence, *[BLANK] * (longest - len(sequence) + 1)] for sequence in sequences])
    frames = log_probs.double().expand(len(sequences), *log_probs.shape)
    num_frames = torch.full((len(sequences),), len(log_probs))
    return (-ctc_loss(frames, num_frames, targets, lengths)).tolist()
