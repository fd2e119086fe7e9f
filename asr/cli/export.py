"""`asr export`: a model for other programs, with proof that it computes the same."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asr.export.verify import Comparison, Forward

EPILOG = """\
The graph takes waveforms, float32 (B, N) in [-1, 1], and their lengths, int64 (B,); it gives
log-probabilities (B, T', V), natural logarithms, and theirs. Any batch size and length; padding does not
change a result. Tokens, sample rate and frame shift are in the file's metadata.

examples:
  asr export model.asr -o model.onnx                            for ONNX Runtime; format told from the suffix
  asr export model.asr -o model.onnx --int8 --verify test.jsonl   a quarter of the size; WER before and after
  asr export model.asr -o model.pt2                             for torch.export.load
  python -m asr.export.runner model.onnx talk.wav               runs it without PyTorch
"""
FORMATS = ("onnx", "pt2")
MAX_DIFFERENCE = 1e-4
"""Of float32 log-probabilities from the model's own: beyond it the exit status is 1."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``asr export``."""
    parser = subparsers.add_parser(
        "export",
        help="write a model as ONNX or for torch.export",
        description="Write a model as one graph from waveforms to log-probabilities, and compare the two.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="MODEL.asr")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--format", choices=FORMATS, help="(default: the suffix of FILE)")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="weights in int8: with onnx, LSTM and linear layers also compute in it; with pt2, only stored",
    )
    parser.add_argument(
        "--input",
        choices=("waveforms", "features"),
        default="waveforms",
        help="what the graph takes (default: waveforms); features are the extractor's frames, before deltas "
        "and normalisation",
    )
    parser.add_argument(
        "--verify",
        type=Path,
        metavar="MANIFEST",
        help="compare on these utterances, with WER (default: on a synthetic signal)",
    )
    parser.add_argument("--threads", type=int, help="cores for the comparison (default: all)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export, compare, print; return 1 if the exported model computes something else."""
    import tempfile

    import torch

    from asr.data.manifest import read_manifest
    from asr.errors import ConfigError
    from asr.export.verify import compare
    from asr.export.write import export_onnx, export_program
    from asr.model_file import load_model

    form = args.format or args.output.suffix.removeprefix(".")
    if form not in FORMATS:
        raise ConfigError(f"{args.output}: no known format in the suffix; give --format onnx or pt2")
    if args.input == "features" and args.verify is None:
        raise ConfigError("--input features: the synthetic signal has none; give --verify MANIFEST")
    if args.threads:
        torch.set_num_threads(args.threads)
    utterances = None if args.verify is None else read_manifest(args.verify)
    kind = "features" if utterances and utterances[0].features_filepath else "waveforms"
    if utterances and kind != args.input:
        raise ConfigError(f"--input {args.input}: {args.verify} has {kind}; give --input {kind}")
    recognizer = load_model(args.model, device="cpu")
    export = export_onnx if form == "onnx" else export_program
    label = {"onnx": "ONNX", "pt2": "torch.export"}[form]
    with tempfile.TemporaryDirectory() as folder:
        exact = Path(folder) / f"float32.{form}" if args.int8 else args.output
        export(recognizer, exact, inputs=args.input)
        files = {label: exact}
        if args.int8:
            export(recognizer, args.output, inputs=args.input, int8=True)
            files[f"{label} int8"] = args.output
        others = {name: _forward(path, form, args.threads or 0) for name, path in files.items()}
        results = compare(recognizer, others, utterances)
        sizes = {"PyTorch": args.model, **files}
        _print_table(results, {name: path.stat().st_size for name, path in sizes.items()})
        if form == "onnx" and args.int8 and recognizer.config["model"]["encoder"]["cell"] != "lstm":
            print("int8: ONNX Runtime has int8 kernels for LSTM only; these recurrent weights stay float32")
    difference = results[label].difference
    if not difference <= MAX_DIFFERENCE:
        print(f"differs by {difference:.1e} from PyTorch, more than {MAX_DIFFERENCE:g}: do not trust it")
        return 1
    return 0


def _forward(path: Path, form: str, threads: int) -> Forward:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    if form == "pt2":
        from asr.export.write import load_program

        return load_program(path)[0]

    from asr.export.runner import OnnxRecognizer

    model = OnnxRecognizer(path, threads)

    def forward(inputs: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [x[:n].numpy() for x, n in zip(inputs, lengths.tolist(), strict=True)]
        outputs = [torch.from_numpy(row.copy()) for row in model.log_probs(rows)]
        return pad_sequence(outputs, batch_first=True), torch.tensor([len(row) for row in outputs])

    return forward


def _print_table(results: Mapping[str, Comparison], sizes: Mapping[str, int]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "MB", "WER, greedy", "times real time", "largest difference of a log-probability")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, result in results.items():
        table.add_row(
            name,
            f"{sizes[name] / 1e6:.1f}",
            "" if result.score is None else f"{100 * result.score.wer:.2f}%",
            f"{result.audio_seconds / result.seconds:.0f}",
            "" if name == "PyTorch" else f"{result.difference:.1e}",
        )
    Console().print(table)
