"""`asr info`: what is inside a model file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

EPILOG = """\
examples:
  asr info runs/digits/model.asr
  asr info runs/digits/model.asr --json
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``asr info``."""
    parser = subparsers.add_parser(
        "info",
        help="describe a model file",
        description="Say what a model file was trained on, how well it does on dev, and what it is made of.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="MODEL.asr")
    parser.add_argument("--json", action="store_true", help="print the whole description as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Describe the model."""
    import json

    import yaml
    from rich.console import Console
    from rich.table import Table

    from asr.model_file import load_model, read_header
    from asr.models.ctc import num_parameters

    header = read_header(args.model)
    if args.json:
        print(json.dumps(header, ensure_ascii=False))
        return 0
    recognizer = load_model(args.model, device="cpu")
    run_config: dict[str, Any] = header["info"].get("run", {})
    dev: dict[str, Any] = header["info"].get("dev", {})
    seconds = recognizer.max_train_seconds
    table = Table(show_header=False, box=None)
    rows = {
        "run": run_config.get("name"),
        "seed": run_config.get("seed"),
        "epoch": dev.get("epoch"),
        "dev WER": f"{100 * dev['dev_wer']:.2f}%" if dev.get("dev_wer") is not None else None,
        "parameters": f"{num_parameters(recognizer.model):,}",
        "sample rate": f"{recognizer.sample_rate} Hz",
        "output frame": f"{1000 * recognizer.frame_shift:g} ms",
        "tokens": recognizer.tokenizer.vocabulary_size,
        "longest training utterance": f"{seconds:.1f} s" if seconds is not None else None,
    }
    for name, value in rows.items():
        if value is not None:
            table.add_row(name, str(value))
    console = Console()
    console.print(table)
    shown = {key: header["config"][key] for key in ("features", "model", "text", "decoder")}
    console.print(yaml.safe_dump(shown, sort_keys=False), markup=False, highlight=False)
    return 0
