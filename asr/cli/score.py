"""`asr score`: the word error rate of transcripts, how sure it is, and where the errors are."""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import ConfigError

if TYPE_CHECKING:
    from asr.scoring.report import Report

EMBED_MEGABYTES = 25.0

_EPILOG = """\
formats, told from the content (--format, --ref-format and --hyp-format name them):
  jsonl  a JSON object a line: a manifest, NeMo predictions, the hyp.jsonl of `asr evaluate`;
         the reference is `text`, the hypothesis `pred_text` (or `text` if no line has it)
  trn    words (utterance_id)      sclite; alternatives { a / b / @ } in either file
  stm, ctm                         NIST's segments and words with times, paired by time
  kaldi  utterance_id words        Kaldi's and ESPnet's `text`
  csv, tsv                         columns with names in the first line
  srt, vtt                         subtitles, paired by time
  plain  words                     paired by line number

examples:
  asr score ref.txt hyp.txt
  asr score test.jsonl out/test/hyp.jsonl --normalize lower,punctuation --by speaker --top 10
  asr score out/test/hyp.jsonl out/test/hyp.jsonl --worst 5          (one file holds both)
  asr score ref.stm hyp.ctm --align sclite --sclite-files reports    sclite's totals and its files
  asr score ref.trn old.trn new.trn --html comparison.html           is new better than old?
  asr score test.jsonl hyp.jsonl --html scores.html --embed-audio    a page to listen and look with

Several hypotheses make one table; each is tested against the first. Errors are counted in words, with
--cer in characters (spaces included). Every rate is pooled over the utterances, never averaged.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "score",
        help="word error rate of any two transcripts",
        description="Compare transcripts by word and character error rate, with an interval, and show where "
        "the errors are.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("reference", metavar="REF", help="file with what was said")
    parser.add_argument("hypotheses", metavar="HYP", nargs="+", help="files with what systems recognised")
    _add_reading(parser.add_argument_group("reading"))
    _add_scoring(parser.add_argument_group("scoring"))
    _add_showing(parser.add_argument_group("showing"))
    parser.set_defaults(run=run)


def _add_reading(group: argparse._ArgumentGroup) -> None:
    formats = ["auto", "jsonl", "trn", "kaldi", "ctm", "stm", "csv", "tsv", "srt", "vtt", "plain"]
    metavar = "FORMAT"
    group.add_argument(
        "--format", choices=formats, metavar=metavar, default="auto", help="of all files (default: auto)"
    )
    group.add_argument("--ref-format", choices=formats, metavar=metavar, help="of REF, if it differs")
    group.add_argument("--hyp-format", choices=formats, metavar=metavar, help="of HYP, if it differs")
    group.add_argument("--id-field", metavar="NAME", help="JSON field or column that holds the utterance id")
    group.add_argument("--text-field", metavar="NAME", help="JSON field or column with REF's text")
    group.add_argument("--hyp-field", metavar="NAME", help="JSON field or column with HYP's text")
    group.add_argument(
        "--missing",
        choices=["error", "delete", "skip"],
        default="error",
        help="utterances on one side only: stop, count those without a hypothesis as deletions, or leave "
        "them out; hypotheses without a reference are always left out (default: error)",
    )
    group.add_argument(
        "--name",
        action="append",
        default=[],
        dest="names",
        metavar="NAME",
        help="what to call a system, once for each HYP in their order (default: from the paths)",
    )


def _add_scoring(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--normalize",
        action="append",
        default=[],
        metavar="STEP,STEP",
        help="change both sides before scoring, in this order; the steps are printed with the score",
    )
    group.add_argument("--list-steps", action=_ListSteps, nargs=0, help="list the steps of --normalize")
    group.add_argument("--lowercase", action="store_true", help="ignore case: the same as --normalize lower")
    group.add_argument(
        "--align",
        choices=["levenshtein", "sclite"],
        default="levenshtein",
        help="fewest errors, as jiwer, or sclite's costs: 4 a substitution, 3 an insertion or deletion",
    )
    group.add_argument(
        "--alternatives",
        action=argparse.BooleanOptionalAction,
        help="whether { a / b / @ } in a text is a choice (default: where the format or --align is sclite's)",
    )
    group.add_argument(
        "--optional-words", action="store_true", help="forgive missing words in parentheses, as sclite -D"
    )
    group.add_argument("--cer", action="store_true", help="count characters instead of words")


def _add_showing(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--by",
        action="append",
        default=[],
        metavar="FIELD",
        help="break down by a field of the manifest, speaker, duration or reference_length; numbers are put "
        "into bins: FIELD:1,2,5 names their edges, FIELD:each keeps values apart; may be repeated",
    )
    group.add_argument(
        "--interval-by",
        default="utterance",
        metavar="FIELD",
        help="draw all utterances of a speaker (or other field) together for the intervals",
    )
    group.add_argument("--top", type=_count, default=0, metavar="N", help="show the N most frequent errors")
    group.add_argument("--worst", type=_count, default=0, metavar="N", help="show the N worst utterances")
    group.add_argument("--per-utterance", action="store_true", help="show each utterance, aligned")
    group.add_argument(
        "--vocabulary",
        metavar="FILE",
        help="report words that are not in FILE: a word list, or the manifest or transcripts of the training "
        "set",
    )
    group.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    group.add_argument("--csv", type=Path, metavar="FILE", help="write everything as one table")
    group.add_argument(
        "--html", type=Path, metavar="FILE", help="write one page; for several HYP it compares"
    )
    group.add_argument(
        "--embed-audio",
        nargs="?",
        type=_megabytes,
        const=EMBED_MEGABYTES,
        metavar="MB",
        help=f"put the manifest's audio into the page, up to MB megabytes (default: {EMBED_MEGABYTES:g}), "
        "where the errors are first",
    )
    group.add_argument("--title", help="of the page")
    group.add_argument(
        "--sclite-files", type=Path, metavar="DIR", help="write sclite's .sys .raw .pra .dtl .sgml"
    )


class _ListSteps(argparse.Action):
    """Print what `--normalize` knows, and exit, as --help does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from asr.scoring.normalization import STEPS

        width = max(map(len, STEPS))
        print("\n".join(f"{name:{width}}  {description}" for name, description in STEPS.items()))
        parser.exit()


def _megabytes(text: str) -> float:
    try:
        megabytes = float(text)
    except ValueError:
        megabytes = 0.0
    if not 0 < megabytes < 1e6:
        raise argparse.ArgumentTypeError(f"expected megabytes above 0, found {text!r}")
    return megabytes


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number of 0 or more, found {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Score, print, write, and return the exit status."""
    from asr.scoring import make_normalization, read_many, read_vocabulary, score
    from asr.scoring.report import Report

    _check_outputs(args)
    names = _system_names(args.hypotheses, args.names)
    steps = [step for steps in args.normalize for step in steps.split(",")]
    normalization = make_normalization(
        [*steps, *(["lower"] if args.lowercase else [])], optional_words=args.optional_words
    )
    pairings = read_many(
        args.reference,
        args.hypotheses,
        args.ref_format or args.format,
        args.missing,
        hyp_fmt=args.hyp_format or args.format,
        id_field=args.id_field,
        text_field=args.text_field,
        hyp_text_field=args.hyp_field,
    )
    alternatives = args.alternatives
    if alternatives is None:
        alternatives = any(pairing.alternatives for pairing in pairings) or None
    scores = {
        name: score(
            pairing.references,
            pairing.hypotheses,
            normalization=normalization,
            align=args.align,
            unit="character" if args.cer else "word",
            alternatives=alternatives,
            optional_words=args.optional_words,
            fields=pairing.fields,
        )
        for name, pairing in zip(names, pairings, strict=True)
    }
    vocabulary = None if args.vocabulary is None else read_vocabulary(args.vocabulary, normalization)
    report = Report(
        scores,
        reference=args.reference,
        by=args.by,
        interval_by=args.interval_by,
        vocabulary=vocabulary,
        pairings=dict(zip(names, pairings, strict=True)),
    )
    unseen = report.out_of_vocabulary
    _print(report, args)
    _write(report, args)
    # As the last thing, where it is seen.
    for name in names:
        for remark in report.remarks(name):
            print(f"asr: warning: {f'{name}: ' if len(names) > 1 else ''}{remark}", file=sys.stderr)
    if unseen is not None and all(found.rate == 1 for found in unseen.values()):
        print(
            f"asr: warning: no reference word is in {args.vocabulary}; if case or punctuation differ, add "
            f"--normalize lower,punctuation",
            file=sys.stderr,
        )
    return 0


def _check_outputs(args: argparse.Namespace) -> None:
    """Raise ConfigError before any work if an option is idle, or a file would be written over another."""
    for option in ("--embed-audio", "--title"):
        if getattr(args, option[2:].replace("-", "_")) is not None and args.html is None:
            raise ConfigError(f"{option} is for a page; add --html FILE")
    given = (args.reference, *args.hypotheses, *([args.vocabulary] if args.vocabulary else []))
    taken = {Path(path).resolve() for path in given}
    for option, path in (("--csv", args.csv), ("--html", args.html)):
        if path is None:
            continue
        if path.is_dir():
            raise ConfigError(f"{option} {path}: is a folder; name a file in it")
        if path.resolve() in taken:
            raise ConfigError(f"{option} {path}: is another file of this command; choose another name")
        taken.add(path.resolve())


def _system_names(paths: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the given names, or what tells the paths apart."""
    if names:
        if len(names) != len(paths) or len(set(names)) != len(names):
            raise ConfigError(f"--name: {len(names)} for {len(paths)} hypotheses; give each one of its own")
        return list(names)
    if len(paths) == 1:
        return [paths[0]]
    parts = [Path(path).with_suffix("").parts for path in paths]
    while len({p[0] for p in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [p[1:] for p in parts]
    while len({p[-1] for p in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [p[:-1] for p in parts]
    found = ["/".join(p) for p in parts]
    return found if len(set(found)) == len(found) else [f"{n}: {path}" for n, path in enumerate(paths, 1)]


def _print(report: Report, args: argparse.Namespace) -> None:
    if args.json:
        fields = report.to_dict(top=args.top, worst=args.worst, per_utterance=args.per_utterance)
        print(json.dumps(fields, allow_nan=False))
        return
    from asr.cli.score_tables import aligned, print_report

    if args.per_utterance:
        for index in range(report.baseline.num_sentences):
            for name, result in report.scores.items():
                print(aligned(result, index, name if len(report.scores) > 1 else ""))
    print_report(report, top=args.top, worst=args.worst)


def _write(report: Report, args: argparse.Namespace) -> None:
    from asr.files import atomic_write, make_folder

    if args.csv is not None:
        from asr.scoring.report import CSV_COLUMNS

        with (
            atomic_write(args.csv) as path,
            open(path, "w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.DictWriter(file, CSV_COLUMNS)
            writer.writeheader()
            writer.writerows(report.csv_rows())
    if args.html is not None:
        from asr.scoring.page import make_page

        page, warnings = make_page(
            report,
            title=args.title,
            paths=dict(zip(report.scores, args.hypotheses, strict=True)),
            folder=args.html.parent,
            embed_bytes=int((args.embed_audio or 0) * 1e6),
        )
        with atomic_write(args.html) as path:
            path.write_text(page, encoding="utf-8", errors="backslashreplace")
        for warning in warnings:
            print(f"asr: warning: {args.html}: {warning}", file=sys.stderr)
    if args.sclite_files is not None:
        from asr.scoring.sclite_files import write_sclite_files

        make_folder(args.sclite_files, "--sclite-files")
        # As sclite does, the files are called after the hypothesis file.
        stems = [re.sub(r"[^\w.-]+", "_", name) for name in report.scores]
        if len(stems) == 1:
            stems = [Path(args.hypotheses[0]).name]
        elif len(set(stems)) < len(stems):
            stems = [f"{n}_{stem}" for n, stem in enumerate(stems, 1)]
        for result, stem, hypothesis in zip(report.scores.values(), stems, args.hypotheses, strict=True):
            write_sclite_files(result, args.sclite_files, stem, ref=args.reference, hyp=hypothesis)
