"""Faster inference on CPUs in fewer bits: int8 products in the recurrent layers.

Weights are rounded to int8 once; what they are multiplied with is rounded as it comes, with one scale for a
part of a batch (`Packing.parts`; for a layer's input) or a step (for its state). So with int8, unlike with
float32, an utterance's log-probabilities depend a little on its batch.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from asr.errors import ModelError
from asr.models.layers import Kernel, RecurrentLayer, State
from asr.recognizer import Recognizer

_FLAGS = (True, 1, 0.0, False, False, False)
"""has_biases, num_layers, dropout, train, bidirectional, batch_first."""


def quantize(recognizer: Recognizer) -> Recognizer:
    """Return a copy whose recurrent layers compute in int8; the rest stays as it is.

    The copy is for inference. Its weights are still the float32 ones: a model file written of it is the same.

    Raises
    ------
    ModelError
        The model is not on a CPU, or its layers are neither LSTM nor GRU, or have a projection inside.
    """
    if recognizer.device.type != "cpu":
        raise ModelError(f"int8 is for CPUs, the model is on {recognizer.device}; use --device cpu")
    quantized = copy.deepcopy(recognizer).eval()
    for layer in quantized.modules():
        if isinstance(layer, RecurrentLayer):
            quantize_layer(layer)
    return quantized


def quantize_layer(layer: RecurrentLayer) -> None:
    """Let a layer compute in int8 from now on; see `quantize`."""
    if layer.kind not in ("lstm", "gru") or layer.rnn.proj_size:
        name = f"{layer.kind} with proj_size" if layer.kind == "lstm" else layer.kind
        raise ModelError(f"int8 is for LSTM and GRU layers, this model has {name}; use bfloat16")
    engine = _engine()
    layer.kernels = [_kernel(layer, d, engine) for d in range(layer.num_directions)]


def bfloat16_is_fast() -> bool:
    """Tell whether this CPU multiplies bfloat16 by itself."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16"))


def _engine() -> str:
    for engine in ("fbgemm", "qnnpack"):
        if engine in torch.backends.quantized.supported_engines:
            return engine
    raise ModelError("int8: this build of PyTorch has no int8 kernels; use float32 or bfloat16")


def _kernel(layer: RecurrentLayer, direction: int, engine: str) -> Kernel:
    w_ih, w_hh, b_ih, b_hh = (w.detach() for w in layer.direction_weights(direction) if w is not None)
    torch.backends.quantized.engine = engine
    packed = [_pack(w_ih, b_ih), _pack(w_hh, b_hh)]
    # Without VNNI pairs of products are added in 16 bits, which eight bits of activations would overflow.
    narrow = engine == "fbgemm" and not torch.cpu.get_capabilities().get("avx512_vnni")
    params = torch.ops.quantized.make_quantized_cell_params_dynamic(*packed, b_ih, b_hh, narrow)

    def lstm(x: Tensor, state: State) -> Sequence[Tensor]:
        torch.backends.quantized.engine = engine
        return torch.ops.aten.quantized_lstm.input(
            x.float(), list(state), [params], *_FLAGS, dtype=torch.qint8, use_dynamic=True
        )

    def gru(x: Tensor, state: State) -> Sequence[Tensor]:
        torch.backends.quantized.engine = engine
        return torch.ops.aten.quantized_gru.input(x.float(), state[0], [params], *_FLAGS)

    return lstm if layer.kind == "lstm" else gru


def _pack(weight: Tensor, bias: Tensor) -> Any:
    """Round a weight (rows, columns) with one scale, which is faster than one for each row and as exact."""
    scale = max(float(weight.abs().max()) / 127, 1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch 2.14 announces that a later one will not have the type
        rounded = torch.quantize_per_tensor(weight, scale, 0, torch.qint8)
    return torch.ops.quantized.linear_prepack(rounded, bias)
