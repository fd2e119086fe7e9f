"""`asr report`: one page about a training run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import AsrError

if TYPE_CHECKING:
    from asr.run_report import Run

FILE_NAME = "report.html"
EPILOG = """\
examples:
  asr report runs/an4-blstm-seed1
  asr report runs/an4-blstm-seed1 -o an4.html --embed-audio 50

`asr run` leaves such a page as report.html in its output_dir. Training need not be done; test sets are on
the page once they are scored, by `asr run` or by `asr evaluate MODEL MANIFEST -o RUN_FOLDER/NAME`.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``asr report``."""
    parser = subparsers.add_parser(
        "report",
        help="one page about a training run",
        description="Make one HTML page about a training run: its curves, its scores, its worst utterances "
        "with their audio, its settings, and how it came about.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER", help="the output_dir of a run")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help=f"default: {FILE_NAME} in the folder"
    )
    parser.add_argument(
        "--embed-audio",
        type=_megabytes,
        metavar="MB",
        help="put audio files of up to MB megabytes into the page, those of the worst utterances first; the "
        "others are linked; 0 embeds none (default: 5)",
    )
    parser.set_defaults(run=run)


def _megabytes(text: str) -> float:
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = -1.0
    if not 0 <= megabytes < 1e6:
        raise argparse.ArgumentTypeError(f"expected megabytes of 0 or more, found {text!r}")
    return megabytes


def run(args: argparse.Namespace) -> int:
    """Make the page."""
    write_report(args.folder, args.output, args.embed_audio)
    return 0


def write_report(folder: Path, path: Path | None = None, megabytes: float | None = None) -> None:
    """Write the page about a run and print where it is."""
    from asr.files import atomic_write
    from asr.run_report import make_run_report, read_run
    from asr.run_report.page import EMBED_BYTES

    path = path or folder / FILE_NAME
    run = read_run(folder)
    embed_bytes = EMBED_BYTES if megabytes is None else int(megabytes * 1e6)
    page = make_run_report(run, defaults=recipe_settings(run), folder=path.parent, embed_bytes=embed_bytes)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    print(f"report: {path}", file=sys.stderr)


def recipe_settings(run: Run) -> dict[str, Any] | None:
    """Return the settings of a run's recipe as it is, None if it is not known or no longer there."""
    from asr.cli.config import load_config
    from asr.cli.main import make_parser

    sessions = run.events("session")
    if not sessions or not sessions[-1]["command"]:
        return None
    args, _ = make_parser().parse_known_args(sessions[-1]["command"][1:])
    given = Path(sessions[-1]["cwd"]) / args.recipe
    try:
        return load_config(str(given) if given.exists() else args.recipe)
    except AsrError as error:
        print(f"asr: warning: what differs from the recipe is not known: {error}", file=sys.stderr)
        return None
