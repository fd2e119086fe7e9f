"""Weights kept in int8 and brought back to float32 where they are used."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_MIN_SIZE = 1024
"""Smaller matrices are not worth it."""


class Int8Rows(nn.Module):
    """The parametrisation ``weight = values * scales``: int8 (R, C), a float32 scale for each row."""

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Round a weight to what is kept of it."""
        scales = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
        return (weight / scales).round().to(torch.int8), scales

    def forward(self, values: Tensor, scales: Tensor) -> Tensor:
        """Return the weight, float32."""
        return values.float() * scales


def store_as_int8(model: nn.Module) -> nn.Module:
    """Return a copy that keeps every large matrix among its weights in int8."""
    model = copy.deepcopy(model).requires_grad_(False)
    for module in list(model.modules()):
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.ndim == 2 and weight.numel() >= _MIN_SIZE:
                parametrize.register_parametrization(module, name, Int8Rows(), unsafe=True)
    return model
