"""The `asr` program: parses the command line and turns errors into one line and an exit status."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from asr.errors import AsrError

COMMANDS = (
    "run",
    "prepare",
    "convert",
    "train",
    "evaluate",
    "transcribe",
    "serve",
    "score",
    "tune",
    "report",
    "lm",
    "align",
    "check",
    "pack",
    "info",
    "export",
    "inspect",
)

EPILOG = """\
examples:
  asr run recipes/digits/blstm.yaml output_dir=runs/digits   make data, train, score
  asr transcribe talk.wav --model runs/digits/model.asr      audio to text and subtitles
  asr score ref.trn hyp.trn                                  word error rate

'asr COMMAND --help' explains a command.
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser with all sub-commands; the modules behind them import nothing heavy."""
    parser = argparse.ArgumentParser(
        prog="asr",
        description="Speech recognition with recurrent networks and CTC: train, transcribe, score.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        importlib.import_module(f"asr.cli.{command}").add_parser(subparsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit status.

    0: done. 1: done, but something failed on the way or was found wanting. 2: not possible.
    130: interrupted.
    """
    parser = make_parser()
    args, rest = parser.parse_known_args(arguments)
    # argparse takes no more of an open list of arguments once an option has come: key=value after --archive.
    if rest and (not hasattr(args, "overrides") or any(r.startswith("-") or "=" not in r for r in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        args.overrides += rest
    args.command = ["asr", *(sys.argv[1:] if arguments is None else arguments)]
    try:
        return args.run(args)
    except AsrError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", status=130)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(
            f"{error.filename or 'file system'}: {error.strerror or error}; "
            "check the path, its permissions and the free space"
        )


def _fail(message: str, status: int = 2) -> int:
    print(f"asr: error: {' '.join(message.split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
