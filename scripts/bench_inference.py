"""Transcription speed of one network: this toolkit's ways to run it against others' inference."""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from torch import Tensor

    from asr.export.runner import OnnxRecognizer

    Forward = Callable[[Tensor, Tensor], Any]

_EPILOG = """\
A BiLSTM of 5 x 512 over 50 frames a second (16 kHz, 20 ms a frame), weights at random: speed does not depend
on them. Peers infer as their transcribe commands do, one utterance at a time in float32; the toolkit also
batches windows and computes in bfloat16 or int8. All take turns in one run; the ratio is of audio per second,
median of the turns (least and greatest), and like for like is "asr" at one utterance in float32.

  speechbrain  SpeechBrain's LSTM (if installed)
  ds.pytorch   packed layers, directions summed, batch norm between, as deepspeech.pytorch arranges them; ours
               beside it is "asr, summed", the same network
  onnx         the same layers exported, under ONNX Runtime (if installed)

The limit is what the arithmetic takes at this machine's rate for large matrix products.

example:
  python scripts/bench.py inference --windows 16 --seconds 15
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the benchmark to the parser of bench.py."""
    parser = subparsers.add_parser(
        "inference",
        help="a 5 x 512 BiLSTM: times real time against others",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of an utterance or window (default: 10)")
    parser.add_argument("--windows", type=int, default=16, help="in a batch (default: 16)")
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--threads", type=int, help="cores (default: all)")
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    frames = round(args.seconds * 50)
    ways = make_ways(args, frames)
    speeds: dict[tuple[str, str], list[float]] = {key: [] for key in ways}
    from bench_encoder import timed

    with torch.inference_mode():
        for turn in range(args.rounds + 1):
            for key, (count, step) in ways.items():
                seconds = timed(step, "cpu")
                if turn:  # the first one warms up
                    speeds[key].append(count * args.seconds / seconds)
    limits = {name: rate / flops_per_second(args) for name, rate in matrix_rates().items()}
    if not args.json:
        print(f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}")
        limit = ", ".join(f"{name} {value:.0f}" for name, value in limits.items())
        print(f"times real time that the arithmetic alone allows: {limit}\n")
        print(f"{'':34}{'x real time':>12}   over SpeechBrain        over ds.pytorch")
    for (name, how), values in speeds.items():
        row: dict[str, Any] = {"contestant": name, "how": how, "times_real_time": statistics.median(values)}
        # the network whose directions are summed is ds.pytorch's, the other SpeechBrain's
        for peer in ("speechbrain", "ds.pytorch"):
            theirs = speeds.get((peer, "one at a time, float32"))
            if theirs and (peer == "ds.pytorch") == (name in ("ds.pytorch", "asr, summed")) and name != peer:
                ratios = sorted(a / b for a, b in zip(values, theirs, strict=True))
                row[peer] = [statistics.median(ratios), ratios[0], ratios[-1]]
        if args.json:
            print(json.dumps(row))
            continue
        cells = [
            f"{row[p][0]:.2f} ({row[p][1]:.2f} - {row[p][2]:.2f})" if p in row else ""
            for p in ("speechbrain", "ds.pytorch")
        ]
        print(f"{name + ', ' + how:36}{row['times_real_time']:10.0f}   {cells[0]:24}{cells[1]}")
    return 0


def make_ways(args: argparse.Namespace, frames: int) -> dict[tuple[str, str], tuple[int, Callable[[], Any]]]:
    """Return each contestant and how it runs: utterances a step, and the step."""
    import torch
    from bench_encoder import make_contestants

    features = 80
    torch.manual_seed(0)
    modules = make_contestants("lstm", 1, features, args.hidden, args.layers)
    one, many = torch.randn(1, frames, features), torch.randn(args.windows, frames, features)
    ways: dict[tuple[str, str], tuple[int, Callable[[], Any]]] = {}

    def add(name: str, how: str, model: Forward, x: Tensor, low: bool = False) -> None:
        lengths = torch.full((len(x),), frames)

        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16) if low else nullcontext():
                model(x, lengths)

        ways[name, how] = (len(x), step)

    for name in ("speechbrain", "ds.pytorch", "packed"):
        if name in modules:
            add(name, "one at a time, float32", modules[name][0].eval(), one)
    for name in ("asr", "asr, summed"):
        model = modules[name][0].eval()
        int8 = quantized(model)
        add(name, "one at a time, float32", model, one)
        add(name, "one at a time, int8", int8, one)
        add(name, f"{args.windows} windows, float32", model, many)
        add(name, f"{args.windows} windows, bfloat16", model, many, low=True)
        add(name, f"{args.windows} windows, int8", int8, many)
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnxscript"):
        for precision, forward in onnx_models(args).items():
            add("onnx", f"one at a time, {precision}", forward, one)
            add("onnx", f"{args.windows} windows, {precision}", forward, many)
    return ways


def quantized(model: Any) -> Any:
    """Return a copy of a contestant with int8 layers."""
    import copy

    from asr.models.layers import RecurrentLayer
    from asr.quantize import quantize_layer

    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, RecurrentLayer):
            quantize_layer(module)
    return model


def onnx_models(args: argparse.Namespace) -> dict[str, Forward]:
    """Export a recogniser of the same network and return what runs it under ONNX Runtime, by precision."""
    import tempfile

    from asr.export.runner import OnnxRecognizer
    from asr.export.write import export_onnx
    from asr.recognizer import Recognizer

    sizes = {"hidden_size": args.hidden, "num_layers": args.layers, "norm": "none"}
    recognizer = Recognizer.from_config(
        {
            "features": {
                "_target_": "asr.features.FrontEnd",
                "extractor": {"_target_": "asr.features.LogMel", "hop_ms": 20.0},
                "normalize": "none",
            },
            "model": {
                "subsampling": {"_target_": "asr.models.subsampling.NoSubsampling"},
                "encoder": {"_target_": "asr.models.encoder.RecurrentEncoder", "cell": "lstm", **sizes},
            },
            "tokenizer": {"_target_": "asr.text.CharacterTokenizer", "characters": list("abcdefghijklmnopq")},
            "text": {"_target_": "asr.text.Normalizer"},
            "decoder": {"_target_": "asr.decoding.greedy.GreedyDecoder"},
        }
    )
    models: dict[str, Forward] = {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("float32", "int8"):
            path = Path(folder) / f"{precision}.onnx"
            export_onnx(recognizer, path, inputs="features", int8=precision == "int8")
            models[precision] = _unpadded(OnnxRecognizer(path, args.threads or 0))
    return models


def _unpadded(model: OnnxRecognizer) -> Forward:
    return lambda x, lengths: model.log_probs(list(x.numpy()))


def flops_per_second(args: argparse.Namespace) -> float:
    """Return the arithmetic of a second of audio: two operations a weight and frame."""
    hidden = args.hidden
    inputs = [80] + [2 * hidden] * (args.layers - 1)
    return sum(2 * 4 * hidden * (size + hidden) for size in inputs) * 2 * 50


def matrix_rates() -> dict[str, float]:
    """Return operations per second in products of large matrices."""
    import torch
    from bench_encoder import timed

    rates = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(2048, 2048).to(dtype)
        seconds = min(timed(lambda a=a: a @ a, "cpu") for _ in range(5))
        rates[name] = 2 * 2048**3 / seconds
    return rates
