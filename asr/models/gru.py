"""A GRU over a padded batch, for the CPU, where PyTorch has no fused one.

The input products of all frames are one matrix product, which PyTorch differentiates by itself. What is
left is the recurrence, with a backward pass written by hand: one small matrix product and a few
multiplications a frame, everything else gathered into operations over all frames.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def gru(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    """Run a one-directional GRU from a zero state.

    Equations, gate order (reset, update, new) and parameters are those of `torch.nn.GRU`.

    Parameters
    ----------
    x : Tensor, float, (B, T, F)
    w_ih : Tensor, float32, (3 H, F)
    w_hh : Tensor, float32, (3 H, H)
    b_ih, b_hh : Tensor, float32, (3 H,)

    Returns
    -------
    Tensor, float32, (B, T, H)
        The states of all frames. Under autocast the input products are taken in its type, the
        recurrence always in float32.
    """
    inputs_TBG = F.linear(x, w_ih, b_ih).transpose(0, 1).float().contiguous()
    return _Recurrence.apply(inputs_TBG, w_hh.float(), b_hh.float()).transpose(0, 1)


class _Recurrence(torch.autograd.Function):
    """States (T, B, H) from input products (T, B, 3 H)."""

    @staticmethod
    def forward(ctx: Any, inputs_TBG: Tensor, w_hh: Tensor, b_hh: Tensor) -> Tensor:
        T, B, G = inputs_TBG.shape
        H = G // 3
        gates = inputs_TBG.clone()  # of which reset and update are made in place
        hidden_TBH = torch.empty(T, B, H)  # W_hn h + b_hn, which the reset gate scales
        states = torch.empty(T + 1, B, H)
        states[0] = 0
        product = torch.empty(B, G)
        w = w_hh.t()
        with torch.autocast("cpu", enabled=False):
            for gates_t, hidden, h, h_next in zip(gates, hidden_TBH, states[:-1], states[1:], strict=True):
                torch.addmm(b_hh, h, w, out=product)
                reset_update = gates_t[:, : 2 * H].add_(product[:, : 2 * H]).sigmoid_()
                hidden.copy_(product[:, 2 * H :])
                new = gates_t[:, 2 * H :].addcmul_(reset_update[:, :H], hidden).tanh_()
                torch.lerp(new, h, reset_update[:, H:], out=h_next)
        ctx.save_for_backward(gates, hidden_TBH, states, w_hh)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gates, hidden, states, w_hh = ctx.saved_tensors
        T, B, G = gates.shape
        H = G // 3
        reset, update, new = gates.split(H, dim=2)
        # What the gradient of a state is multiplied by to become that of each gate's argument.
        to_new = (1 - update) * (1 - new.square())
        to_reset = hidden * reset * (1 - reset)
        to_update = (states[:-1] - new) * update * (1 - update)
        d_inputs = torch.empty_like(gates)
        d_products = torch.empty_like(gates)
        d_h = torch.zeros(B, H)
        with torch.autocast("cpu", enabled=False):
            for t in range(T - 1, -1, -1):
                d_h = d_h + grads[0][t]
                d_product = d_products[t]
                d_new = torch.mul(d_h, to_new[t], out=d_inputs[t, :, 2 * H :])
                torch.mul(d_new, to_reset[t], out=d_product[:, :H])
                torch.mul(d_h, to_update[t], out=d_product[:, H : 2 * H])
                torch.mul(d_new, reset[t], out=d_product[:, 2 * H :])
                d_h = torch.addmm(d_h * update[t], d_product, w_hh)
            d_inputs[:, :, : 2 * H] = d_products[:, :, : 2 * H]
            flat = d_products.view(T * B, G)
            d_w_hh = flat.t() @ states[:-1].reshape(T * B, H)
        return d_inputs, d_w_hh, flat.sum(0)
