"""Optimisers and learning-rate schedules that a configuration can name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn


def adamw(
    parameters: Iterable[nn.Parameter],
    lr: float = 1e-3,
    weight_decay: float = 0.01,
    betas: Sequence[float] = (0.9, 0.98),
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101); biases and norms are not decayed.

    Parameters
    ----------
    lr : float
        Peak learning rate.
    """
    if not lr > 0 or not math.isfinite(lr) or weight_decay < 0:
        raise ValueError(f"lr must be positive and weight_decay 0 or more, found {lr}, {weight_decay}")
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas are two numbers from 0 to 1, found {list(betas)}")
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for parameter in parameters:
        (matrices if parameter.ndim > 1 else vectors).append(parameter)
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(betas[0], betas[1]))


class WarmupCosine:
    """Linear rise to the peak learning rate, then half a cosine down.

    Parameters
    ----------
    warmup : float
        Share of the training over which the rate rises.
    final : float
        Rate at the end, as a share of the peak.
    """

    def __init__(self, warmup: float = 0.05, final: float = 0.01) -> None:
        if not (0 <= warmup < 1 and 0 <= final <= 1):
            raise ValueError(f"warmup and final are shares from 0 to 1, found {warmup}, {final}")
        self.warmup, self.final = warmup, final

    def __call__(self, progress: float) -> float:
        """Return the rate as a share of the peak, when a share `progress` of the training is done."""
        if progress < self.warmup:
            return progress / self.warmup
        cosine = 0.5 * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup)))
        return self.final + (1 - self.final) * cosine


class Constant:
    """The peak learning rate throughout, after a linear rise over a share `warmup` of the training."""

    def __init__(self, warmup: float = 0.0) -> None:
        if not 0 <= warmup <= 1:
            raise ValueError(f"warmup is a share from 0 to 1, found {warmup}")
        self.warmup = warmup

    def __call__(self, progress: float) -> float:
        """Return the rate as a share of the peak, when a share `progress` of the training is done."""
        return min(1.0, progress / self.warmup) if self.warmup else 1.0
