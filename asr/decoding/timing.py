"""When each word was said: forced alignment of a text with its log-probabilities, and word times from it.

CTC emits a token in a frame or two near its onset and blanks until the next one, so the frames that carry a
word's tokens end before the word does. What that costs, and that `END_EXTENSION` mends it, was measured on
recordings whose boundaries are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from asr.errors import DataError
from asr.types import Word

if TYPE_CHECKING:  # word times need no torch
    from torch import Tensor

    from asr.decoding.confidence import Calibration

BLANK = 0
# Seconds that a word lasts beyond its last token's last frame, unless the next word begins before.
# On joined digits of FSDD (dev), 0.04 takes the mean error of word ends from 45 to 34 ms.
END_EXTENSION = 0.04

TokenSpan = tuple[int, int, int, float]  # token, first frame, frame after the last, probability at its peak


def force_align(log_probs: Tensor, tokens: Sequence[int]) -> list[TokenSpan]:
    """Find the most probable CTC path that spells `tokens`.

    Memory and time grow with T x L; `asr.alignment` is for recordings of any length.

    Parameters
    ----------
    log_probs : Tensor, float32 or float64, (T, V)
    tokens : sequence of int, length L
        Without blanks.

    Returns
    -------
    list of TokenSpan, length L
        (token, first frame, frame after the last, probability at its most probable frame).

    Raises
    ------
    DataError
        If there are too few frames for the tokens.
    """
    import torch
    from torchaudio.functional import forced_align

    if not tokens:
        return []
    repeats = sum(a == b for a, b in zip(tokens[1:], tokens, strict=False))
    if len(log_probs) < len(tokens) + repeats:
        raise DataError(
            f"{len(tokens)} tokens with {repeats} repeats need {len(tokens) + repeats} frames, the audio has "
            f"{len(log_probs)}; the text is too long for it"
        )
    targets = torch.tensor([list(tokens)], device=log_probs.device)
    path, scores = forced_align(log_probs[None].contiguous(), targets, blank=BLANK)
    return merge_path(path[0].tolist(), scores[0].exp().tolist())


def merge_path(path: Sequence[int], probabilities: Sequence[float]) -> list[TokenSpan]:
    """Turn a CTC path, a token and its probability a frame, into spans: repeats merged, blanks removed."""
    spans: list[TokenSpan] = []
    previous = BLANK
    for t, (token, probability) in enumerate(zip(path, probabilities, strict=True)):
        if token != BLANK and token == previous:
            span = spans[-1]
            spans[-1] = (token, span[1], t + 1, max(span[3], probability))
        elif token != BLANK:
            spans.append((token, t, t + 1, probability))
        previous = token
    return spans


def time_words(
    log_probs: Tensor,
    tokens: Sequence[int],
    pieces: Sequence[str],
    frame_shift: float,
    calibration: Calibration | None = None,
) -> tuple[Word, ...]:
    """Return the words that tokens spell, with times and confidence from their forced alignment.

    Parameters
    ----------
    log_probs : Tensor, float32 or float64, (T, V)
    tokens : sequence of int
        Without blanks.
    pieces : sequence of str, length V
        What each token adds to the text, with spaces where words part.
    frame_shift : float
        Seconds per frame.
    calibration : Calibration, optional
        Applied to the words' confidence.

    Raises
    ------
    DataError
        If there are too few frames for the tokens.
    """
    return group_words(force_align(log_probs, tokens), pieces, frame_shift, len(log_probs), calibration)


def group_words(
    spans: Sequence[TokenSpan],
    pieces: Sequence[str],
    frame_shift: float,
    num_frames: int,
    calibration: Calibration | None = None,
) -> tuple[Word, ...]:
    """Join token spans to words at the spaces in their pieces.

    A word starts with the first frame of its first token. It ends `END_EXTENSION` after the last frame of its
    last token, but not beyond the middle of the gap to the next word, nor after the last frame. Its
    confidence is the mean probability of its tokens, calibrated if there is a calibration.

    Parameters
    ----------
    num_frames : int
        T of the log-probabilities.
    """
    groups = group_tokens([span[0] for span in spans], pieces)
    members = [[spans[i] for i in spoken] for spoken, _ in groups]
    starts = [word[0][1] for word in members]
    words = []
    for word, start, following, (_, everything) in zip(
        members, starts, [*starts[1:], None], groups, strict=False
    ):
        raw = sum(span[3] for span in word) / len(word)
        words.append(
            Word(
                "".join(pieces[span[0]].strip(" ") for span in word),
                start=start * frame_shift,
                end=word_end(word[-1][2], following, num_frames, frame_shift),
                confidence=raw if calibration is None else calibration.words(raw),
                tokens=tuple(spans[i][0] for i in everything),
            )
        )
    return tuple(words)


def word_end(last: int, following: int | None, num_frames: int, frame_shift: float) -> float:
    """Return when a word ends, seconds.

    Parameters
    ----------
    last : int
        The frame after its last token.
    following : int, optional
        First frame of the next word, if there is one.
    num_frames : int
    frame_shift : float
    """
    limit = num_frames if following is None else (last + following) / 2
    return min(last * frame_shift + END_EXTENSION, limit * frame_shift)


def group_tokens(tokens: Sequence[int], pieces: Sequence[str]) -> list[tuple[list[int], list[int]]]:
    """Group the positions of tokens into words.

    Returns
    -------
    list of (spoken, everything)
        For each word the positions of the tokens that spell it, and the same with those of spaces before it.
    """
    groups: list[tuple[list[int], list[int]]] = []
    spaces: list[int] = []
    open_word = False
    for position, token in enumerate(tokens):
        piece = pieces[token]
        if piece.startswith(" "):
            open_word = False
        if not piece.strip(" "):
            spaces.append(position)
            continue
        if not open_word:
            groups.append(([], spaces))
            spaces = []
        groups[-1][0].append(position)
        groups[-1][1].append(position)
        open_word = not piece.endswith(" ")
    return groups
