"""The encoder against `torch.nn` and other toolkits' recurrent layers: training steps and inference."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

_EPILOG = """\
A training step is forward, CTC loss and backward; all contestants take turns in one run, in a process that
keeps the memory it frees, as `asr train` does (it helps them all). Contestants:

  asr          this toolkit's encoder (exact whatever the batch)
  padded       nn.LSTM, nn.GRU over the padded batch: inexact, the backward direction starts in padding
  packed       nn.LSTM, nn.GRU over a PackedSequence: exact
  ds.pytorch   packed layers, directions summed, batch norm between: as deepspeech.pytorch arranges them
  speechbrain  SpeechBrain's LSTM, GRU, LiGRU as its recipes run them: padded (if installed)

examples:
  python scripts/bench.py encoder                                     a BiLSTM and a BiGRU training step
  python scripts/bench.py encoder --cells ligru --precisions float32
  python scripts/bench.py encoder --task inference                    batch of one, 10 s, 5 x 512
  python scripts/bench.py encoder --device cuda --batches 8 16 32 64 128 256
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the benchmark to the parser of bench.py."""
    parser = subparsers.add_parser(
        "encoder",
        help="recurrent layers: training step and inference",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", choices=["train", "inference"], default="train")
    parser.add_argument(
        "--cells", nargs="+", default=["lstm", "gru"], choices=["lstm", "gru", "ligru", "rnn"]
    )
    parser.add_argument(
        "--precisions", nargs="+", default=["float32", "bfloat16"], choices=["float32", "bfloat16"]
    )
    parser.add_argument("--contestants", nargs="+", help="only these, of the ones listed below")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="cores (default: all)")
    parser.add_argument("--batches", nargs="+", type=int, help="utterances (default: 16; inference 1)")
    parser.add_argument("--frames", type=int, default=300, help="of the longest utterance (default: 300)")
    parser.add_argument("--hidden", type=int, help="units a direction (default: 320; inference 512)")
    parser.add_argument("--layers", type=int, help="(default: 3; inference 5)")
    parser.add_argument("--rounds", type=int, default=7, help="(default: 7)")
    parser.add_argument("--json", action="store_true", help="print a JSON object a line")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    import torch

    from asr.training.memory import keep_memory

    if args.threads:
        torch.set_num_threads(args.threads)
    if args.device == "cpu" and args.task == "train":
        keep_memory()  # as a training does; it helps all contestants
    inference = args.task == "inference"
    hidden, layers = args.hidden or (512 if inference else 320), args.layers or (5 if inference else 3)
    batches = args.batches or ([1] if inference else [16])
    frames = 500 if inference and args.frames == 300 else args.frames  # 10 s at 50 frames a second
    where = (
        torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    )
    if not args.json:
        print(f"{where}, torch {torch.__version__}; {layers} x {hidden}, {frames} frames, lengths 60-100%")
    for batch in batches:
        for precision in args.precisions:
            times: dict[str, list[float]] = {}
            steps = {
                f"{cell} {name}": step
                for cell in args.cells
                for name, step in make_steps(
                    cell, batch, frames, hidden, layers, precision, args.device, inference, args.contestants
                ).items()
            }
            for turn in range(args.rounds + 1):
                for name, step in steps.items():
                    seconds = timed(step, args.device)
                    if turn:  # the first one warms up
                        times.setdefault(name, []).append(seconds)
            report(times, batch, precision, frames, inference, args.json)
    return 0


def timed(step: Callable[[], Any], device: str) -> float:
    """Return the seconds that a step takes."""
    import torch

    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def report(
    times: dict[str, list[float]], batch: int, precision: str, frames: int, inference: bool, as_json: bool
) -> None:
    """Print each contestant's time and its ratio to the toolkit's own in the same turn."""
    if not as_json:
        print(f"\nbatch {batch}, {precision}\n{'':24}{'median s':>10}{'best s':>9}  ratio to asr (spread)")
    for name, seconds in times.items():
        own = times.get(name.split()[0] + " asr", seconds)
        ratios = sorted(theirs / ours for theirs, ours in zip(seconds, own, strict=True))
        median = statistics.median(seconds)
        row = {
            "batch": batch,
            "precision": precision,
            "contestant": name,
            "seconds": median,
            "best_seconds": min(seconds),
            "ratio": statistics.median(ratios),
            "ratio_min": ratios[0],
            "ratio_max": ratios[-1],
        }
        if inference:
            row["times_real_time"] = batch * frames * 0.02 / median
        if as_json:
            print(json.dumps(row))
        else:
            speed = f"  {row['times_real_time']:.0f} times real time" if inference else ""
            print(
                f"{name:24}{median:10.4f}{row['best_seconds']:9.4f}  {row['ratio']:5.2f} "
                f"({row['ratio_min']:.2f} - {row['ratio_max']:.2f}){speed}"
            )


def make_steps(
    cell: str,
    batch: int,
    frames: int,
    hidden: int,
    layers: int,
    precision: str,
    device: str,
    inference: bool,
    only: list[str] | None,
) -> dict[str, Callable[[], Any]]:
    """Return what one step of each contestant calls."""
    import torch

    torch.manual_seed(0)
    features, vocabulary = 80, 29
    lengths = torch.randint(int(0.6 * frames), frames + 1, (batch,))
    lengths[0] = frames
    x = torch.randn(batch, frames, features, device=device)
    targets = torch.randint(1, vocabulary, (batch, frames // 10), device=device)
    target_lengths = torch.full((batch,), frames // 10)
    on_device = lengths.to(device)

    def make(model: nn.Module, output_size: int) -> Callable[[], Any]:
        head = torch.nn.Linear(output_size, vocabulary).to(device)
        model = model.to(device)
        parameters = [*model.parameters(), *head.parameters()]

        def forward() -> Tensor:
            with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
                return head(model(x, on_device))

        def train() -> None:
            for parameter in parameters:
                parameter.grad = None
            log_probs = forward().float().log_softmax(-1).transpose(0, 1)
            torch.nn.functional.ctc_loss(
                log_probs, targets, lengths, target_lengths, reduction="sum"
            ).backward()

        def infer() -> None:
            with torch.inference_mode():
                forward()

        if inference:
            model.eval()
            return infer
        return train

    contestants = make_contestants(cell, batch, features, hidden, layers)
    return {name: make(*c) for name, c in contestants.items() if only is None or name in only}


def make_contestants(
    cell: str, batch: int, features: int, hidden: int, layers: int
) -> dict[str, tuple[nn.Module, int]]:
    """Return the contestants that are there: a module (x, lengths) -> y, and the size of y."""
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    from asr.models.encoder import RecurrentEncoder

    class Ours(nn.Module):
        def __init__(self, **options: Any) -> None:
            super().__init__()
            kind: Any = cell
            self.encoder = RecurrentEncoder(features, kind, hidden, layers, dropout=0.0, **options)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return self.encoder(x, lengths)[0]

    class Torch(nn.Module):
        def __init__(self, packed: bool) -> None:
            super().__init__()
            kind = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[cell]
            self.rnn = kind(features, hidden, layers, batch_first=True, bidirectional=True)
            self.packed = packed

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            if not self.packed:
                return self.rnn(x)[0]
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            return pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])[0]

    class DeepSpeechPytorch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            kind = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}[cell]
            sizes = [features] + [hidden] * (layers - 1)
            self.rnns = nn.ModuleList(kind(size, hidden, bidirectional=True) for size in sizes)
            self.norms = nn.ModuleList(nn.BatchNorm1d(hidden) for _ in sizes[1:])

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            x = x.transpose(0, 1)
            for index, rnn in enumerate(self.rnns):
                if index:
                    x = self.norms[index - 1](x.flatten(0, 1)).view_as(x)
                packed = pack_padded_sequence(x, lengths.cpu(), enforce_sorted=False)
                x, _ = pad_packed_sequence(rnn(packed)[0], total_length=len(x))
                x = x.unflatten(2, (2, hidden)).sum(2)
            return x.transpose(0, 1)

    contestants: dict[str, tuple[nn.Module, int]] = {
        "asr": (Ours(norm="batch" if cell == "ligru" else "none"), 2 * hidden)
    }
    if cell != "ligru":
        contestants["padded"] = (Torch(packed=False), 2 * hidden)
        contestants["packed"] = (Torch(packed=True), 2 * hidden)
        contestants["asr, summed"] = (Ours(directions="sum", norm="batch"), hidden)
        contestants["ds.pytorch"] = (DeepSpeechPytorch(), hidden)
    try:
        import speechbrain.nnet.RNN as peers  # noqa: N811
    except ImportError:
        return contestants
    kind = {"lstm": peers.LSTM, "gru": peers.GRU, "ligru": peers.LiGRU, "rnn": peers.RNN}[cell]

    class SpeechBrain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = kind(hidden, [batch, None, features], num_layers=layers, bidirectional=True)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            return self.rnn(x)[0]

    contestants["speechbrain"] = (SpeechBrain(), 2 * hidden)
    return contestants
