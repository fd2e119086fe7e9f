"""Write a recogniser as an ONNX file or as a file of `torch.export`.

Both hold one graph, ``(inputs, lengths) -> (log_probs, log_prob_lengths)`` with any batch size and number of
samples, and describe it in their metadata (`describe`), so that no other file is needed to use them.
"""

from __future__ import annotations

import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.fx.experimental import _config as shape_config

from asr.errors import ConfigError, ModelError
from asr.export.graph import ExportableModel
from asr.export.int8 import store_as_int8
from asr.export.recurrence import AtenRecurrence, OnnxRecurrence, replace_stand_ins
from asr.export.runner import METADATA_KEY
from asr.files import atomic_write
from asr.recognizer import Recognizer

Inputs = Literal["waveforms", "features"]
OPSET = 20
_NAMES = ("lengths", "log_probs", "log_prob_lengths")


def describe(recognizer: Recognizer, inputs: Inputs = "waveforms") -> dict[str, Any]:
    """Return what a program needs to know beside the graph, JSON-able.

    ``inputs``, ``sample_rate`` (Hz), ``num_features`` (values of a frame, for features), ``frame_shift``
    (seconds from one output frame to the next), ``pieces`` (what each token adds to the text; token 0 is the
    blank), ``max_train_seconds``.
    """
    return {
        "inputs": inputs,
        "sample_rate": recognizer.sample_rate,
        "num_features": recognizer.num_features,
        "frame_shift": recognizer.frame_shift,
        "pieces": list(recognizer.tokenizer.pieces),
        "max_train_seconds": recognizer.max_train_seconds,
    }


def export_onnx(
    recognizer: Recognizer, path: Path, *, inputs: Inputs = "waveforms", int8: bool = False
) -> None:
    """Write an ONNX file for opset 20, whole or not at all.

    Parameters
    ----------
    recognizer : Recognizer
        On the CPU.
    inputs : {"waveforms", "features"}
        What the graph takes: waveforms (B, N), or frames (B, T, F) as the extractor gives them.
    int8 : bool
        Weights of LSTM and linear layers in int8, products computed in int8 with scales measured as the
        model runs. ONNX Runtime has no such kernel for GRU and RNN, whose recurrent weights stay float32.

    Raises
    ------
    ConfigError
        A package of the extra ``export`` is missing.
    ModelError
    """
    try:
        import onnx
        import onnxruntime.quantization
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"--format onnx: the package {error.name} is missing; install asr[export]"
        ) from error
    if recognizer.model.encoder.chunk:
        raise ModelError(
            "--format onnx: an encoder that works in chunks (model.encoder.chunk) cannot be written as ONNX; "
            "use --format pt2"
        )
    with _quiet(), torch.no_grad():
        model = ExportableModel(recognizer, OnnxRecurrence).eval()
        program = torch.onnx.export(
            model,
            _example(recognizer, inputs),
            dynamo=True,
            opset_version=OPSET,
            input_names=[inputs, _NAMES[0]],
            output_names=list(_NAMES[1:]),
            dynamic_shapes=_shapes(inputs),
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    if int8:
        # The Fourier transform and the filters stay exact; of the rest only products with weights change.
        kept = [n.name for n in proto.graph.node if any(i.startswith("features.") for i in n.input)]
        with tempfile.TemporaryDirectory() as folder, _quiet():
            exact, small = Path(folder) / "exact.onnx", Path(folder) / "int8.onnx"
            onnx.save(proto, exact)
            onnxruntime.quantization.quantize_dynamic(
                exact,
                small,
                op_types_to_quantize=["LSTM", "MatMul", "Gemm"],
                nodes_to_exclude=kept,
                weight_type=onnxruntime.quantization.QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )
            proto = onnx.load(small)
    proto.producer_name = "asr"
    onnx.helper.set_model_props(proto, {METADATA_KEY: json.dumps(describe(recognizer, inputs))})
    with atomic_write(path) as temporary:
        onnx.save(proto, temporary)


def export_program(
    recognizer: Recognizer, path: Path, *, inputs: Inputs = "waveforms", int8: bool = False
) -> None:
    """Write a file for `torch.export.load`, whole or not at all.

    Parameters
    ----------
    recognizer : Recognizer
        On the CPU.
    inputs : {"waveforms", "features"}
        See `export_onnx`.
    int8 : bool
        Keep the weights of recurrent and linear layers in int8. Computing stays in float32.

    Raises
    ------
    ModelError
    """
    # A batch of one and one of many are the same graph.
    any_size = shape_config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with _quiet(), torch.no_grad(), any_size:
        model: nn.Module = ExportableModel(recognizer, AtenRecurrence).eval()
        if int8:
            model = store_as_int8(model)
        program = torch.export.export(
            model,
            _example(recognizer, inputs),
            dynamic_shapes=_shapes(inputs),
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        replace_stand_ins(program)
        content = io.BytesIO()
        extra = {METADATA_KEY: json.dumps(describe(recognizer, inputs))}
        torch.export.save(program, content, extra_files=extra)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.getvalue())


def load_program(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the graph of a file that `export_program` wrote, ready to be called, and its description."""
    extra = {METADATA_KEY: ""}
    with _quiet():
        module = torch.export.load(path, extra_files=extra).module()
    return module, json.loads(extra[METADATA_KEY])


def _example(recognizer: Recognizer, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Return inputs to trace: sizes that no other size of the model is likely to equal."""
    if inputs == "features":
        return torch.randn(3, 211, recognizer.num_features), torch.tensor([211, 173, 97])
    num_samples = 2 * recognizer.sample_rate + 7
    return 0.1 * torch.randn(3, num_samples), torch.tensor([num_samples, num_samples - 799, num_samples // 2])


def _shapes(inputs: Inputs) -> dict[str, dict[int, Any]]:
    batch = Dim("batch")
    return {
        "inputs": {0: batch, 1: Dim("num_samples" if inputs == "waveforms" else "num_frames")},
        "lengths": {0: batch},
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' remarks on their own workings from the user."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
