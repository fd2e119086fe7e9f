"""Write the reports of NIST's sclite, which many scripts read: ``.sys .raw .pra .dtl .sgml``.

The text is that of sclite 2.10 (SCTK 1.3) on the same alignments, to the byte as far as its own reports are
well-defined: columns are as wide as their words have bytes in UTF-8, capitals are ASCII's, and misspelt
headings are kept. ``sc_stats`` reads the ``.sgml``.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.scoring.sclite_summary import num_bytes, percent, rounded, summary
from asr.scoring.wer import Score

_LINE_WIDTH = 1000
_RUNS = re.compile(r"C+|[SDI]")
_SPEAKER = re.compile(r"([^-]+)-|([^_]+)_")


@dataclass(frozen=True)
class _Report:
    """A score as sclite sees it.

    Attributes
    ----------
    speakers : dict of str to list of int
        The utterances of each speaker, in order.
    ignores_case : bool
        Whether the texts hold no capitals, so that sclite's default prints the errors in capitals.
    """

    score: Score
    title: str
    speakers: dict[str, list[int]]
    ignores_case: bool

    def id(self, index: int) -> str:
        """Return an utterance's id as sclite names it."""
        return str(self.score.fields[index].get("sclite_id", self.score.ids[index]))

    def runs(self, index: int) -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
        """Yield an utterance's correct words together and each error alone: letter, reference, hypothesis."""
        said, recognised = self.score.alignments.words(index)
        i = j = 0
        for match in _RUNS.finditer(self.score.alignments.operations[index]):
            letter, length = match[0][0], len(match[0])
            x = said[i : i + length] if letter != "I" else []
            y = recognised[j : j + length] if letter != "D" else []
            yield letter, x, y
            i += len(x)
            j += len(y)


def write_sclite_files(
    score: Score, folder: Path | str, name: str, *, title: str | None = None, ref: str = "", hyp: str = ""
) -> list[Path]:
    """Write sclite's reports.

    Speakers are the utterances' field ``speaker``; without it, as by ``sclite -i spu_id``, what stands in the
    id before the first ``-``, or else ``_``; or else all are one.

    Parameters
    ----------
    score : Score
    folder : Path or str
    name : str
        Of the files, without suffix.
    title : str, optional
        What to call the system; by default `name`.
    ref, hyp : str
        Paths of the scored files, to be named in the ``.sgml``.

    Returns
    -------
    list of Path
        The files written.
    """
    speakers: dict[str, list[int]] = {}
    for index, (id, fields) in enumerate(zip(score.ids, score.fields, strict=True)):
        speakers.setdefault(_speaker(id, fields.get("speaker")), []).append(index)
    ignores_case = all(
        text == text.lower() for texts in (score.references, score.hypotheses) for text in texts
    )
    report = _Report(score, title or name, speakers, ignores_case)
    contents = {
        "sys": summary(report.title, score.counts, speakers, raw=False),
        "raw": summary(report.title, score.counts, speakers, raw=True),
        "pra": _alignments(report),
        "dtl": _details(report),
        "sgml": _sgml(report, ref, hyp),
    }
    paths = []
    for suffix, text in contents.items():
        path = Path(folder) / f"{name}.{suffix}"
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def _speaker(id: str, speaker: object) -> str:
    if speaker is not None:
        return str(speaker)
    match = _SPEAKER.match(id)
    return (match[1] or match[2]) if match else "all"


def _alignments(report: _Report) -> str:
    """Make the ``.pra``: each utterance's words above each other."""
    lines = [
        "",
        "",
        "\t\tDUMP OF SYSTEM ALIGNMENT STRUCTURE",
        "",
        f"System name:   {report.title}",
        "",
        "Speakers: ",
    ]
    lines += [f"   {number:2d}:  {speaker}" for number, speaker in enumerate(report.speakers)]
    lines.append("")
    operations = report.score.alignments.operations
    for number, (speaker, indices) in enumerate(report.speakers.items()):
        lines.append(f"Speaker sentences{number:4d}:  {speaker}   #utts: {len(indices)}")
        for index in indices:
            fields = report.score.fields[index]
            lines.append(f"id: ({report.id(index)})")
            for heading, key in (("Labels", "labels"), ("File", "file"), ("Channel", "channel")):
                if "sclite_id" in fields and fields.get(key) is not None:
                    lines.append(f"{heading}: {fields[key]}")
            letters = operations[index]
            lines.append(
                "Scores: (#C #S #D #I) " + " ".join([str(letters.count(letter)) for letter in "CSDI"])
            )
            if not report.ignores_case:
                lines.append("Attributes: Case_sensitve ")
            lines += _columns(report, index)
            lines.append("")
    lines.append("\n")
    return "\n".join(lines)


def _columns(report: _Report, index: int) -> list[str]:
    """Return the lines REF, HYP and Eval of an utterance, again for each part of a very long one."""
    cells = []
    for letter, said, recognised in report.runs(index):
        if letter == "C" and said == recognised:
            cells.append((" ".join(said), " ".join(recognised), ""))
        elif letter == "C":
            cells += [(x, y, "") for x, y in zip(said, recognised, strict=True)]
        else:
            x, y = "".join(said), "".join(recognised)
            if report.ignores_case:
                x, y = x.translate(_CAPITALS), y.translate(_CAPITALS)
            cells.append((x or "*" * num_bytes(y), y or "*" * num_bytes(x), letter))
    if not cells:
        return []
    if sum(max(num_bytes(x), num_bytes(y)) + 1 for x, y, _ in cells) + 6 < _LINE_WIDTH:
        return _lines(cells, "")
    words = [
        cell
        for x, y, letter in cells
        for cell in ([(word, word, "") for word in x.split()] if x == y and not letter else [(x, y, letter)])
    ]
    lines: list[str] = []
    start = 0
    while start < len(words):
        stop, width = start, 9 if start else 6
        while width < _LINE_WIDTH and stop < len(words):
            width += 1 + max(num_bytes(words[stop][0]), num_bytes(words[stop][1]))
            stop += 1
        # The word that passes the width goes to the next part, where one alone may be longer.
        stop = max(stop - (stop < len(words)), start + 1)
        lines += [*([""] if start else []), *_lines(words[start:stop], ">> " if start else "")]
        start = stop
    return lines


def _lines(cells: list[tuple[str, str, str]], prefix: str) -> list[str]:
    widths = [max(num_bytes(x), num_bytes(y)) for x, y, _ in cells]
    rows = zip(("REF:  ", "HYP:  ", "Eval: "), zip(*cells, strict=True), strict=True)
    return [
        prefix
        + name
        + "".join(
            [text + " " * (width - num_bytes(text) + 1) for text, width in zip(row, widths, strict=True)]
        )
        for name, row in rows
    ]


_CAPITALS = {ord(letter): letter.upper() for letter in "abcdefghijklmnopqrstuvwxyz"}


def _details(report: _Report) -> str:
    """Make the ``.dtl``: totals, and the words in error by how often they are."""
    counts = report.score.counts
    c, s, d, i = counts.sum(axis=0).tolist()
    num_sentences, num_words, errors = len(counts), c + s + d, s + d + i
    with_errors = [counts[:, 1:].any(axis=1), *(counts[:, column] for column in (1, 2, 3))]
    wrong = [int(np.count_nonzero(column)) for column in with_errors]
    pairs, inserted, deleted = Counter[tuple[str, str]](), Counter[str](), Counter[str]()
    for index, letters in enumerate(report.score.alignments.operations):
        if letters.count("C") == len(letters):
            continue
        for letter, said, recognised in report.runs(index):
            if letter == "S":
                pairs[said[0], recognised[0]] += 1
            elif letter == "D":
                deleted[said[0]] += 1
            elif letter == "I":
                inserted[recognised[0]] += 1
    replaced, chosen = Counter[str](), Counter[str]()
    for (said_word, recognised_word), count in pairs.items():
        replaced[said_word] += count
        chosen[recognised_word] += count

    def sentences(name: str, count: int) -> str:
        return f"{name:39s} {rounded(percent(count, num_sentences), 1):5.1f}%   ({count:4d})"

    def words(name: str, count: int) -> str:
        share = f"{rounded(percent(count, num_words), 1):5.1f}%" if num_words else "UNDEF%"
        return f"{name:25s} =  {share}   ({count:4d})"

    accuracy = f"{rounded(100 - percent(errors, num_words), 1):5.1f}%" if num_words else "UNDEF%"
    lines = [
        f"DETAILED OVERALL REPORT FOR THE SYSTEM: {report.title}",
        "",
        "SENTENCE RECOGNITION PERFORMANCE",
        "",
        f" sentences                                        {num_sentences:4d}",
        sentences(" with errors", wrong[0]),
        "",
        sentences("   with substitions", wrong[1]),
        sentences("   with deletions", wrong[2]),
        sentences("   with insertions", wrong[3]),
        "",
        "",
        "WORD RECOGNITION PERFORMANCE",
        "",
        words("Percent Total Error", errors),
        "",
        words("Percent Correct", c),
        "",
        words("Percent Substitution", s),
        words("Percent Deletions", d),
        words("Percent Insertions", i),
        f"Percent Word Accuracy     =  {accuracy}",
        "",
        "",
        f"Ref. words                =           ({num_words:4d})",
        f"Hyp. words                =           ({c + s + i:4d})",
        f"Aligned words             =           ({c + s + d + i:4d})",
        "",
        *_listed("CONFUSION PAIRS", Counter({f"{x} ==> {y}": count for (x, y), count in pairs.items()})),
        "",
        "",
        *_listed("INSERTIONS", inserted),
        "",
        "",
        *_listed("DELETIONS", deleted),
        "",
        "",
        *_listed("SUBSTITUTIONS", replaced),
        "",
        "* NOTE: The 'Substitution' words are those reference words",
        "        for which the recognizer supplied an incorrect word.",
        "",
        "",
        *_listed("FALSELY RECOGNIZED", chosen),
        "",
        "* NOTE: The 'Falsely Recognized' words are those hypothesis words",
        "        which the recognizer incorrectly substituted for a reference word.",
        "",
    ]
    return "\n".join(lines) + "\n"


def _listed(title: str, counted: Counter[str]) -> list[str]:
    # Code points are in the order of UTF-8's bytes, sclite's.
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return [
        f"{title:30s}   Total                 ({len(ranked)})",
        f"{'':30s}   With >=  1 occurrences ({len(ranked)})",
        "",
        *(f"{rank:4d}: {count:4d}  ->  {word}" for rank, (word, count) in enumerate(ranked, start=1)),
        "     -------",
        f"     {counted.total():5d}",
        "",
    ]


def _sgml(report: _Report, ref: str, hyp: str) -> str:
    """Make the ``.sgml``: the alignments for ``sc_stats``."""
    date = time.strftime("%a %b %e %H:%M:%S %Y")
    optional = "TRUE" if report.score.optional_words else "FALSE"
    lines = [
        f'<SYSTEM title="{_quoted(report.title)}" ref_fname="{_quoted(ref)}" hyp_fname="{_quoted(hyp)}" '
        f'creation_date="{date}" format="2.4" frag_corr="FALSE" opt_del="{optional}" weight_ali="FALSE" '
        f'weight_filename="">'
    ]
    case = "" if report.ignores_case else ' case_sense="1"'
    operations = report.score.alignments.operations
    for speaker, indices in report.speakers.items():
        lines.append(f'<SPEAKER id="{_quoted(speaker)}">')
        for index in indices:
            fields = report.score.fields[index]
            segment = times = ""
            if "sclite_id" in fields:
                segment = "".join(
                    f' {key}="{_quoted(str(fields[key]))}"'
                    for key in ("labels", "file", "channel")
                    if fields.get(key) is not None
                )
                times = f' R_T1="{fields["start"]:.3f}" R_T2="{fields["end"]:.3f}"'
            lines.append(
                f'<PATH id="({_quoted(report.id(index))})" word_cnt="{len(operations[index])}"{segment} '
                f'sequence="{index}"{times}{case}>'
            )
            words = []
            for letter, said, recognised in report.runs(index):
                x, y = (list(map(_escaped, side)) for side in (said, recognised))
                if letter == "C":
                    words += [f'C,"{word}","{other}"' for word, other in zip(x, y, strict=True)]
                else:
                    words.append(letter + "".join([f',"{side[0]}"' if side else "," for side in (x, y)]))
            lines += [":".join(words), "</PATH>"]
        lines.append("</SPEAKER>")
    return "\n".join([*lines, "</SYSTEM>"]) + "\n"


def _quoted(text: str) -> str:
    """Keep an attribute whole: the format has no way to write a quotation mark."""
    return text.replace('"', "'")


def _escaped(word: str) -> str:
    return word.replace(";", "\\;") if ";" in word else word
