"""`asr check`: is this data fit to train on?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asr.cli.check_tables import count, print_fixed, print_report, print_suspects, to_json
from asr.errors import ConfigError

if TYPE_CHECKING:
    from asr.data.checks.run import Needs, SplitReport
    from asr.data.checks.splits import Split
    from asr.data.checks.suspect import Suspect
    from asr.recognizer import Recognizer

EPILOG = """\
Several manifests are taken for the splits of one corpus and compared; the names tell which is for training.

errors (exit status 1):
  manifest duplicate_id unreadable too_short silent duration no_text contradiction leak mixed_inputs
  num_features
  with --model or --recipe: alphabet too_long
warnings:
  audio   longer_file sample_rate narrow_band channels dead_channel channels_differ quiet clipped dc_offset
          little_speech short_audio long_audio constant_features duplicate_audio overlap
  text    text_rate placeholder digits markup mixed_scripts invisible mojibake unicode_form whitespace
          rare_character unseen_character shared_text shared_id
  with --model: wrong_text
notices, which may be meant so: resampled repeated_text shared_speaker
('asr check --kinds' says what each is)

examples:
  asr check train.jsonl dev.jsonl test.jsonl
  asr check --recipe recipes/an4/blstm.yaml --html check.html     the recipe's manifests, for its model
  asr check train.jsonl --model out/model.asr --top 50            texts that the model does not believe
  asr check train.jsonl test.jsonl --fix clean --drop clipped,digits
  asr check train.jsonl --no-audio --json > report.json

--fix DIR writes a cleaned manifest for each one given, left_out.jsonl (every line that was left out, and
why) and corrected.jsonl (durations, Unicode's form, white space and invisible characters put right).
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "check",
        help="is this data fit to train on?",
        description="Read every line of the manifests and every file they name, and list what is wrong.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "manifests",
        metavar="MANIFEST",
        nargs="*",
        help="JSON lines, one utterance a line; with --recipe also its settings as key=value",
    )
    needs = parser.add_mutually_exclusive_group()
    needs.add_argument(
        "--model",
        metavar="MODEL.asr",
        help="check against its alphabet, sample rate and frame rate, and rank the texts by its loss",
    )
    needs.add_argument(
        "--recipe",
        metavar="RECIPE.yaml",
        help="check against the model that a recipe trains; its manifests unless others are given",
    )
    parser.add_argument("--no-audio", action="store_true", help="check the manifests only, open no audio")
    parser.add_argument("--jobs", type=_positive, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--device", default="auto", help="of --model: auto, cpu, cuda (default: auto)")
    parser.add_argument(
        "--top", type=_positive, default=10, metavar="N", help="doubtful texts to show (default: 10)"
    )
    parser.add_argument(
        "--html", type=Path, metavar="PAGE.html", help="write a page to look at and listen to"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object that lists every problem")
    parser.add_argument("--fix", type=Path, metavar="DIR", help="write cleaned manifests there")
    parser.add_argument(
        "--drop", action="append", default=[], metavar="KIND", help="--fix leaves these kinds out too: a,b"
    )
    parser.add_argument("--strict", action="store_true", help="take warnings for errors, in --fix too")
    parser.add_argument("--kinds", action="store_true", help="say what each kind of problem is, and stop")
    parser.set_defaults(run=run)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, found {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Check, print, and return the exit status: 1 if there are errors."""
    from asr.cli.progress import count_bar
    from asr.data.checks.fix import write_fixed
    from asr.data.checks.problems import KINDS, count_severities
    from asr.data.checks.run import check_splits

    if args.kinds:
        for kind, (severity, what) in KINDS.items():
            print(f"{severity:8} {kind:18} {what}")
        return 0
    drop = _dropped(args, KINDS)
    splits, needs, recognizer = _prepare(args)
    with count_bar("checking") as progress:
        reports = check_splits(splits, needs, read=not args.no_audio, jobs=args.jobs, progress=progress)
    suspects = _suspects(recognizer, splits, reports) if recognizer and not args.no_audio else []
    problems = [problem for report in reports for problem in report.problems]
    totals = count_severities(problems)
    unchecked = _unchecked(args)
    fixed = write_fixed(reports, args.fix, needs, drop) if args.fix else []
    if args.html:
        _write_page(args.html, reports, suspects[: args.top], unchecked)
    if args.json:
        print(json.dumps(to_json(reports, suspects[: args.top], fixed), ensure_ascii=False, indent=2))
    else:
        for report in reports:
            print_report(report)
        print_suspects(suspects[: args.top])
        for sentence in unchecked:
            print(sentence)
        print_fixed(fixed, args.fix)
        if args.html:
            print(f"page: {args.html}")
        num_utterances = sum(len(split.utterances) for split in splits)
        print(
            f"{count(totals['error'], 'error')}, {count(totals['warning'], 'warning')}, "
            f"{count(totals['notice'], 'notice')} in {count(num_utterances, 'utterance')}"
        )
    return 1 if totals["error"] or (args.strict and totals["warning"]) else 0


def _dropped(args: argparse.Namespace, kinds: Mapping[str, tuple[str, str]]) -> set[str]:
    """Return the kinds of problems that --fix leaves out besides errors."""
    named = {kind for group in args.drop for kind in group.split(",") if kind}
    for kind in sorted(named - kinds.keys()):
        raise ConfigError(f"--drop {kind}: no such kind; 'asr check --kinds' lists them")
    if named and not args.fix:
        raise ConfigError(f"--drop {','.join(sorted(named))}: drops from what --fix writes; give --fix DIR")
    if args.strict:
        named |= {kind for kind, (severity, _) in kinds.items() if severity == "warning"}
    return named


def _prepare(args: argparse.Namespace) -> tuple[list[Split], Needs, Recognizer | None]:
    """Return the splits, what the model needs, and the model if it is trained."""
    from asr.data.checks.run import Needs
    from asr.data.checks.splits import read_splits

    if args.model:
        from asr.model_file import load_model

        recognizer = load_model(args.model, device=args.device)
        return read_splits(_paths(args.manifests)), _needs_of(recognizer), recognizer
    if not args.recipe:
        return read_splits(_paths(args.manifests)), Needs(), None

    from asr.cli.config import load_config
    from asr.training.run import make_recognizer

    overrides = [word for word in args.manifests if "=" in word and not Path(word).exists()]
    config = load_config(args.recipe, overrides)
    data = config["data"]
    paths = [word for word in args.manifests if word not in overrides]
    splits = read_splits(paths or [data["train"], data["dev"], *data["test"].values()])
    training = min(splits, key=lambda split: split.rank).utterances
    if not any((utterance.text or "").strip() for utterance in training):
        return splits, Needs(), None  # what is wrong with the manifest will be told
    return splits, _needs_of(make_recognizer(config, training)), None


def _paths(words: Sequence[str]) -> list[str]:
    if not words:
        raise ConfigError("no manifest given; name one or more, or --recipe RECIPE.yaml for its own")
    return list(words)


def _needs_of(recognizer: Recognizer) -> Needs:
    from asr.data.checks.run import Needs

    return Needs(
        normalizer=recognizer.normalizer,
        tokenizer=recognizer.tokenizer,
        output_length=recognizer.output_length,
        sample_rate=recognizer.sample_rate,
        num_features=recognizer.num_features,
        frame_shift=recognizer.features.frame_shift,
    )


def _suspects(
    recognizer: Recognizer, splits: Sequence[Split], reports: Sequence[SplitReport]
) -> list[Suspect]:
    """Rank the texts by the model's loss, and put those that must be wrong among the problems."""
    from asr.cli.progress import seconds_bar
    from asr.suspects import rank_suspects

    seconds = sum(utterance.duration for split in splits for utterance in split.utterances)
    with seconds_bar("recognising", seconds) as progress:
        suspects = rank_suspects(recognizer, splits, progress)
    problems = {report.split.path: report.problems for report in reports}
    for suspect in suspects:
        if problem := suspect.problem():
            problems[suspect.split.path].append(problem)
    return suspects


def _unchecked(args: argparse.Namespace) -> list[str]:
    found = []
    if args.no_audio:
        found.append("audio not read (--no-audio)")
    if not args.model and not args.recipe:
        found.append("alphabet and length of the text not checked (give --model or --recipe)")
    return found


def _write_page(
    path: Path, reports: Sequence[SplitReport], suspects: Sequence[Suspect], unchecked: Sequence[str]
) -> None:
    from asr.data.checks.page import make_check_page
    from asr.files import atomic_write

    page = make_check_page(reports, path.parent, suspects, unchecked)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
