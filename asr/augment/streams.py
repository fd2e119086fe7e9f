"""Random streams: draws depend on the seed, the epoch, the utterance and the purpose alone."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np


def utterance_rng(seed: int, epoch: int, utterance_id: str, purpose: int = 0) -> np.random.Generator:
    """Return the random generator of one utterance in one epoch for one purpose."""
    return _generator([seed, epoch, zlib.crc32(utterance_id.encode()), purpose])


def stream(rng: np.random.Generator, purpose: int) -> np.random.Generator:
    """Return the generator that `utterance_rng` makes for the same utterance and another purpose.

    It does not depend on what was drawn from `rng` before.
    """
    seeds = rng.bit_generator.seed_seq
    assert isinstance(seeds, np.random.SeedSequence)
    # A generator made elsewhere, of a single number, has streams of its own.
    entropy: Any = seeds.entropy
    return _generator([*(map(int, entropy[:-1]) if np.ndim(entropy) else [int(entropy or 0)]), purpose])


def _generator(key: list[int]) -> np.random.Generator:
    # As an array of 32 bits each, the same numbers make the same generator in two thirds of the time.
    return np.random.default_rng(np.array(key, np.uint32) if max(key) < 1 << 32 else key)


def applies(probability: float, rng: np.random.Generator) -> bool:
    """Draw whether an augmentation is applied; nothing is drawn where it always is."""
    return probability >= 1 or rng.random() < probability


def check_probability(probability: float) -> float:
    """Return `probability`, or raise ValueError if it is none."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie between 0 and 1, found {probability}")
    return probability


def check_range(name: str, values: Sequence[float], lowest: float, highest: float) -> tuple[float, float]:
    """Return the two ends of a range to draw from.

    Raises
    ------
    ValueError
        There are not two, they come in the wrong order, or lie outside `lowest` to `highest`.
    """
    if len(values) != 2 or not lowest <= values[0] <= values[1] <= highest:
        raise ValueError(
            f"{name} must be two numbers, the smaller first, between {lowest:g} and {highest:g}, "
            f"found {list(values)}"
        )
    return float(values[0]), float(values[1])
