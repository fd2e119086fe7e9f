"""`asr check`: is this data fit to train on?"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asr.data.check import Depth, Problem

_EPILOG = """\
errors (exit status 1):
  manifest     a line that is not JSON, lacks a field or has a wrong value
  unreadable   a file that is missing, empty, truncated, not audio, or has NaN in it
  duration     a file that ends before its utterance does
  alphabet     text that the model's tokens cannot spell          (with --model)
  too_long     text that has more tokens than the audio has frames (with --model)
warnings:
  duration     a file that goes on after its utterance, which starts at 0
  sample_rate  audio that will be resampled                       (with --model)
  channels     audio that will be mixed down to one channel
  silent       audio without a sound
  no_text      an utterance without a transcript

examples:
  asr check train.jsonl dev.jsonl test.jsonl
  asr check test.jsonl --model out/model.asr
  asr check train.jsonl --no-audio --json > report.json
"""
_MAX_SHOWN = 3


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "check",
        help="is this data fit to train on?",
        description="Read every line of the manifests and every file they name, and list what is wrong.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("manifests", metavar="MANIFEST", nargs="+", help="JSON lines, one utterance a line")
    parser.add_argument(
        "--model", metavar="MODEL.asr", help="also check against its alphabet, sample rate and frame rate"
    )
    parser.add_argument("--no-audio", action="store_true", help="check the manifests only, open no audio")
    parser.add_argument("--json", action="store_true", help="print one JSON object that lists every problem")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, print, and return the exit status: 1 if there are errors."""
    model = None
    if args.model:
        from asr.model_file import load_model

        model = load_model(args.model, device="cpu")
    read: Depth = "nothing" if args.no_audio else "samples"
    reports = [_check(manifest, model, read) for manifest in args.manifests]
    problems = [problem for report in reports for problem in report["problems"]]
    num_errors = sum(problem.severity == "error" for problem in problems)
    num_utterances = sum(report["utterances"] for report in reports)

    if args.json:
        for report in reports:
            report["problems"] = [asdict(problem) for problem in report["problems"]]
        totals = {"errors": num_errors, "warnings": len(problems) - num_errors, "utterances": num_utterances}
        print(json.dumps({"manifests": reports, **totals}, ensure_ascii=False, indent=2))
        return 1 if num_errors else 0

    for report in reports:
        _print_report(report)
    if args.no_audio:
        print("audio not read (--no-audio)")
    if model is None:
        print("alphabet and length of the text not checked (give --model)")
    print(
        f"{_count(num_errors, 'error')}, {_count(len(problems) - num_errors, 'warning')} "
        f"in {_count(num_utterances, 'utterance')}"
    )
    return 1 if num_errors else 0


def _check(manifest: str, model: Any, read: Depth) -> dict[str, Any]:
    """Return ``manifest, utterances, hours, speakers, problems`` (a list of Problem)."""
    from rich.console import Console
    from rich.progress import Progress

    from asr.data.check import Problem, check_utterances
    from asr.data.manifest import read_manifest
    from asr.errors import DataError

    utterances, problems = [], []
    try:
        # Each missing file is reported by itself below.
        utterances = read_manifest(manifest, check_files=False)
    except DataError as error:
        message = str(error).removeprefix(f"{manifest}: ")
        problems = [Problem(id="", path=manifest, kind="manifest", message=message, severity="error")]
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(f"checking {manifest}", total=len(utterances))
        problems += check_utterances(
            utterances,
            normalizer=model and model.normalizer,
            tokenizer=model and model.tokenizer,
            output_length=model and model.output_length,
            sample_rate=model and model.sample_rate,
            read=read,
            progress=lambda: bar.advance(task),
        )
    return {
        "manifest": manifest,
        "utterances": len(utterances),
        "hours": sum(utterance.duration for utterance in utterances) / 3600,
        "speakers": len({u.speaker for u in utterances if u.speaker is not None}),
        "problems": problems,
    }


def _print_report(report: dict[str, Any]) -> None:
    print(
        f"{report['manifest']}: {_count(report['utterances'], 'utterance')}, {report['hours']:.2f} hours, "
        f"{_count(report['speakers'], 'speaker')}"
    )

    def by_kind(problem: Problem) -> tuple[str, str]:
        return problem.severity, problem.kind

    for (severity, kind), group in groupby(sorted(report["problems"], key=by_kind), by_kind):
        problems = list(group)
        print(f"  {severity:7}  {kind:11}  {len(problems):6}")
        for problem in problems[:_MAX_SHOWN]:
            print(f"    {problem.path}{f' ({problem.id})' if problem.id else ''}: {problem.message}")
        if len(problems) > _MAX_SHOWN:
            print(f"    and {len(problems) - _MAX_SHOWN} more")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
