"""What can be wrong with data: the kinds of problems, and a problem that was found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "notice"]

KINDS: dict[str, tuple[Severity, str]] = {
    "manifest": ("error", "a line that is not JSON, lacks a field or has a wrong value"),
    "duplicate_id": ("error", "an id that an earlier line of the manifest has"),
    "unreadable": ("error", "a file that is missing, empty, truncated, not audio, or has NaN in it"),
    "too_short": ("error", "less than 25 ms of audio, which is less than a frame"),
    "silent": ("error", "digital silence, or frames that are all the same"),
    "duration": ("error", "a file that ends before its utterance does"),
    "no_text": ("error", "no transcript, or one without a letter or digit"),
    "contradiction": ("error", "the same audio with different texts"),
    "leak": ("error", "the same audio in two splits"),
    "mixed_inputs": ("error", "audio among feature files, or the other way round"),
    "num_features": ("error", "features with other coefficients than the others or the model"),
    "alphabet": ("error", "text that the tokens cannot spell"),
    "too_long": ("error", "text with more tokens than the audio has frames (CTC)"),
    "longer_file": ("warning", "a file that goes on after its utterance, which starts at 0"),
    "sample_rate": ("warning", "a lower sample rate than the model's, or than most files have"),
    "narrow_band": ("warning", "nothing in the upper half of the band: upsampled audio"),
    "channels": ("warning", "several channels, which are mixed into one"),
    "dead_channel": ("warning", "a channel without a signal"),
    "channels_differ": ("warning", "channels that hold different sounds"),
    "quiet": ("warning", "no sample above a thousandth of full scale"),
    "clipped": ("warning", "samples cut off at the peak"),
    "dc_offset": ("warning", "samples that are not centred on zero"),
    "little_speech": ("warning", "hardly any sound besides silence"),
    "short_audio": ("warning", "less than 0.1 s"),
    "long_audio": ("warning", "more than 40 s"),
    "constant_features": ("warning", "a coefficient with the same value in every frame"),
    "duplicate_audio": ("warning", "the same audio with the same text twice in a split"),
    "overlap": ("warning", "stretches of one recording that overlap"),
    "shared_id": ("warning", "an id that another split has too"),
    "shared_text": ("warning", "a long text that another split has too"),
    "text_rate": ("warning", "far more or fewer letters a second than speech, or the others, have"),
    "placeholder": ("warning", "text that stands for a missing one: n/a, nan, todo"),
    "digits": ("warning", "digits, which can be read in several ways"),
    "markup": ("warning", "tags, entities, brackets or escapes"),
    "mixed_scripts": ("warning", "look-alike letters of another script: Cyrillic а in a Latin word"),
    "invisible": ("warning", "control or zero-width characters"),
    "mojibake": ("warning", "text that was decoded wrongly: Ã© for é"),
    "unicode_form": ("warning", "text that is not in Unicode's form NFC"),
    "whitespace": ("warning", "white space other than single spaces between words"),
    "rare_character": ("warning", "a character that one utterance alone has"),
    "unseen_character": ("warning", "a character that the training split lacks"),
    "wrong_text": ("warning", "another text than the transcript is far more probable to the model"),
    "resampled": ("notice", "a higher sample rate than the model's, or than most files have"),
    "repeated_text": ("notice", "short texts that another split has too"),
    "shared_speaker": ("notice", "speakers that another split has too"),
}
"""Every kind of problem: its severity and what it is. Errors stop a training or make its score untrue;
warnings waste a part of the data; notices are facts to know, which may well be meant so."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with one utterance, or with a manifest.

    Attributes
    ----------
    id : str
        Of the utterance; empty if the whole manifest is meant.
    path : str
        Its audio or feature file, or the manifest.
    kind : str
        One of `KINDS`.
    message : str
        The value found and the remedy, one line.
    severity : {"error", "warning", "notice"}
    manifest : str
        Where the utterance is listed; empty if not known.
    line : int
        Of the manifest, from 1; 0 if not known.
    """

    id: str
    path: str
    kind: str
    message: str
    severity: Severity
    manifest: str = ""
    line: int = 0


def make_problem(kind: str, message: str, *, id: str = "", path: str = "") -> Problem:
    """Return a problem with the severity of its kind; the path is not said twice."""
    return Problem(id, path, kind, message.removeprefix(f"{path}: "), KINDS[kind][0])


def count_severities(problems: Iterable[Problem]) -> Counter[str]:
    """Count problems by severity."""
    return Counter(problem.severity for problem in problems)


def summarize(problems: Iterable[Problem], name: str) -> list[str]:
    """Return a line for each kind of problem: how many utterances of the set `name`, and the first."""
    kinds: dict[str, list[Problem]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(problem)
    return [
        f"{len(found)} {name} utterances ({kind}), the first {found[0].id}: {found[0].message}"
        for kind, found in kinds.items()
    ]
