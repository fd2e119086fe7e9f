"""`asr score`: the word error rate of two files of transcripts."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.scoring import Pairing, Score

_EPILOG = """\
formats, told from the content (--format overrides):
  jsonl  a JSON object a line: a manifest, NeMo predictions, the hyp.jsonl of `asr evaluate`;
         the reference is `text`, the hypothesis `pred_text` (or `text` if no line has it)
  trn    words (utterance_id)      sclite
  kaldi  utterance_id words        Kaldi's and ESPnet's `text`
  plain  words                     paired by line number

examples:
  asr score ref.txt hyp.txt
  asr score test.jsonl out/test/hyp.jsonl --lowercase --json
  asr score out/test/hyp.jsonl out/test/hyp.jsonl --per-utterance   (one file holds both)
  asr score ref.trn hyp.trn --lowercase --missing delete
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "score",
        help="word error rate of any two transcripts",
        description="Compare transcripts by word and character error rate, pooled over the utterances, with "
        "a bootstrap interval.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("reference", metavar="REF", help="file with what was said")
    parser.add_argument("hypothesis", metavar="HYP", help="file with what was recognised")
    parser.add_argument(
        "--format",
        choices=["auto", "jsonl", "trn", "kaldi", "plain"],
        default="auto",
        help="format of both files (default: told from the content)",
    )
    parser.add_argument(
        "--missing",
        choices=["error", "delete", "skip"],
        default="error",
        help="utterances on one side only: stop, count those without a hypothesis as deletions, or leave "
        "them out; hypotheses without a reference are always left out (default: error)",
    )
    parser.add_argument("--lowercase", action="store_true", help="ignore case, as sclite does by default")
    parser.add_argument("--per-utterance", action="store_true", help="also show each utterance, aligned")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Score, print, and return the exit status."""
    from asr.scoring import read_pair, score

    pairing = read_pair(args.reference, args.hypothesis, args.format, args.missing)
    references, hypotheses = pairing.references, pairing.hypotheses
    if args.lowercase:
        references = {id: text.lower() for id, text in references.items()}
        hypotheses = {id: text.lower() for id, text in hypotheses.items()}
    result = score(references, hypotheses)
    if args.json:
        fields = result.to_dict()
        if args.per_utterance:
            fields["utterances"] = _utterances(result)
        print(json.dumps(fields, allow_nan=False))
    else:
        if args.per_utterance:
            for id, reference in references.items():
                print(_aligned(id, reference, hypotheses[id]))
        _print_table(result)
    _warn(pairing, args.missing)
    return 0


def _utterances(result: Score) -> list[dict[str, str | int]]:
    names = ("hits", "substitutions", "deletions", "insertions")
    return [
        {"id": id, **dict(zip(names, counts, strict=True))}
        for id, counts in zip(result.ids, result.counts.tolist(), strict=True)
    ]


def _aligned(id: str, reference: str, hypothesis: str) -> str:
    """Show one utterance as sclite's `pra` report does, with stars for a word that is not there."""
    from rich.cells import cell_len

    from asr.scoring import align

    columns: list[tuple[str, str, str]] = []
    for operation, said, recognised in align(reference, hypothesis):
        if operation == "C":
            columns.append((said or "", recognised or "", ""))
        else:
            stars = "*" * cell_len(said or recognised or "")
            columns.append((said or stars, recognised or stars, operation))
    widths = [max(cell_len(text) for text in column) for column in columns]
    rows = [
        " ".join(
            column[row] + " " * (width - cell_len(column[row]))
            for column, width in zip(columns, widths, strict=True)
        )
        for row in range(3)
    ]
    letters = [column[2] or "C" for column in columns]
    counts = " ".join(str(letters.count(letter)) for letter in "CSDI")
    return (
        f"id: ({id})\nScores: (#C #S #D #I) {counts}\n"
        f"REF:  {rows[0].rstrip()}\nHYP:  {rows[1].rstrip()}\nEval: {rows[2].rstrip()}\n"
    )


def _print_table(result: Score) -> None:
    from rich.console import Console
    from rich.table import Table

    fields = result.to_dict()
    low, high = fields["wer_interval"]
    interval = "not defined" if low is None else f"{low:.2%} to {high:.2%}"
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in (
        ("Word error rate (WER)", _percent(fields["wer"])),
        ("95% interval", interval),
        ("Substitutions", f"{result.substitutions:,}"),
        ("Deletions", f"{result.deletions:,}"),
        ("Insertions", f"{result.insertions:,}"),
        ("Correct", f"{result.hits:,}"),
        ("Reference words", f"{result.num_words:,}"),
        ("Character error rate (CER)", _percent(fields["cer"])),
        ("Sentence error rate (SER)", _percent(result.ser)),
        ("Utterances", f"{result.num_sentences:,}"),
    ):
        table.add_row(name, value)
    Console(highlight=False).print(table)


def _percent(rate: float | None) -> str:
    return "infinite: no reference words" if rate is None else f"{rate:.2%}"


def _warn(pairing: Pairing, missing: str) -> None:
    """Say how many utterances had no partner, as the last thing."""
    done = "counted as deletions" if missing == "delete" else "left out"
    for what, ids in (
        (f"references without a hypothesis, {done}", pairing.missing),
        ("hypotheses without a reference, left out", pairing.extra),
    ):
        if ids:
            print(
                f"asr: warning: {what}: {len(ids)} (first {', '.join(map(repr, ids[:3]))})", file=sys.stderr
            )
