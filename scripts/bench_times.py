"""How far a model's word times are from true ones, and its confidences from the share that is right."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from asr.errors import AsrError
    from asr.recognizer import Recognizer
    from asr.types import Hypothesis, Utterance, Word

_EPILOG = """\
The true times are the manifest's field "words", [{"word": "nine", "start": 0.18, "end": 0.55}, ...], in
seconds from the utterance's beginning; recipes/fsdd writes such manifests with joined=true. Utterances
without it count for the confidence only. A recognised word is right if the scoring alignment calls it so,
an utterance if all of its words are. Best-path decoding times a text that it gets right as alignment does.

ECE is the expected calibration error in 10 bins; "by chance" is the one that a perfect forecaster with the
same confidences would have, on average, from having so few outcomes.

examples:
  python scripts/bench.py times runs/fsdd-joined-official/model.asr data/fsdd/official/joined/test.jsonl
  python scripts/bench.py times runs/an4/model.asr data/an4/test.jsonl --dev data/an4/dev.jsonl
"""
_DRAWS = 300

Interval = tuple[float, float]  # start and end, seconds


@dataclass(frozen=True)
class Timed:
    """An utterance as it was said, as its text was aligned, and as it was recognised.

    Attributes
    ----------
    reference : str
        Normalised transcript.
    truth : tuple of Interval, optional
        When each word of the reference was said, if the manifest tells.
    aligned : tuple of Word
        Of the forced alignment of the reference; none without `truth`.
    hypothesis : Hypothesis
    """

    reference: str
    truth: tuple[Interval, ...] | None
    aligned: tuple[Word, ...]
    hypothesis: Hypothesis


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``bench.py times``."""
    parser = subparsers.add_parser(
        "times",
        help="errors of word times and of confidences",
        description="Errors of a model's word times against true ones, and of its confidences.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="MODEL.asr")
    parser.add_argument("manifest", type=Path, help="JSON lines with audio_filepath, duration, text, words")
    parser.add_argument("--dev", type=Path, help="also calibrate the confidence on this manifest")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, with the bins of the ECE")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print; return 1 if an utterance was left out, else 0."""
    failures: list[str] = []
    result = _measure(args, lambda utterance, error: failures.append(f"{utterance.id}: {error}"))
    print(json.dumps(result | {"left_out": failures}) if args.json else _table(result))
    for failure in failures:
        print(f"bench.py times: left out: {failure}", file=sys.stderr)
    return int(bool(failures))


def _measure(args: argparse.Namespace, on_error: Callable[[Utterance, AsrError], None]) -> dict[str, Any]:
    from asr.decoding.confidence import calibrate, utterance_outcomes, word_outcomes
    from asr.errors import ConfigError, DataError
    from asr.model_file import load_model
    from asr.scoring import score

    recognizer = load_model(args.model, device=args.device)
    if args.dev is not None:
        if getattr(recognizer.decoder, "calibration", None) is not None:
            raise ConfigError(f"{args.model}: its confidence is calibrated already; leave out --dev")
        dev = time_utterances(recognizer, _read(args.dev), on_error)
    timed = time_utterances(recognizer, _read(args.manifest), on_error)
    if not timed:
        raise DataError(f"{args.manifest}: no utterance could be used; look at its files with 'asr check'")

    references, hypotheses = [t.reference for t in timed], [t.hypothesis for t in timed]
    words, utterances = word_outcomes(references, hypotheses), utterance_outcomes(references, hypotheses)
    confidence = {"words": calibration_error(*words), "utterances": calibration_error(*utterances)}
    if args.dev is not None:
        calibration = calibrate([t.reference for t in dev], [t.hypothesis for t in dev])
        for name, mapping, (raw, right) in (
            ("words", calibration.words, words),
            ("utterances", calibration.utterances, utterances),
        ):
            confidence[f"{name}, calibrated on {args.dev.stem}"] = calibration_error(
                [mapping(p) for p in raw], right
            )
    return {
        "wer": score(references, [h.text for h in hypotheses], alternatives=False).wer,
        "times": {
            "forced alignment of the true text": time_errors(pairs_aligned(timed)),
            "recognised words that are right": time_errors(pairs_recognised(timed)),
            "those in texts without an error": time_errors(
                pairs_recognised([t for t in timed if t.hypothesis.text == t.reference])
            ),
        },
        "confidence": confidence,
    }


def _read(manifest: Path) -> list[Utterance]:
    from asr.data.manifest import read_manifest
    from asr.errors import DataError

    utterances = read_manifest(manifest, check_files=False)
    for utterance in utterances:
        if utterance.text is None:
            raise DataError(f"{manifest}: {utterance.id} has no text; add it, or leave this utterance out")
    return utterances


def time_utterances(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    on_error: Callable[[Utterance, AsrError], None],
) -> list[Timed]:
    """Recognise utterances and align the text of those whose word times are known, in the given order.

    What cannot be read, spelled or aligned goes to `on_error`.

    Raises
    ------
    DataError
        If an utterance's field ``words`` is not what it should be.
    """
    from asr.decoding.timing import time_words
    from asr.errors import DataError
    from asr.evaluation import compute_log_probs

    truths = {u.id: true_times(u, len(recognizer.normalizer(u.text or "").split())) for u in utterances}
    found: dict[int, Timed] = {}
    for batch in compute_log_probs(recognizer, utterances, on_error=on_error):
        hypotheses = recognizer.decode(batch.log_probs, batch.lengths)
        for b, (index, utterance, reference) in enumerate(
            zip(batch.indices, batch.utterances, batch.references, strict=True)
        ):
            truth = truths[utterance.id]
            aligned: tuple[Word, ...] = ()
            if truth is not None:
                try:
                    aligned = time_words(
                        batch.log_probs[b, : batch.lengths[b]],
                        recognizer.tokenizer.encode(reference),
                        recognizer.tokenizer.pieces,
                        recognizer.frame_shift,
                    )
                except DataError as error:
                    on_error(utterance, error)
                    continue
            found[index] = Timed(reference, truth, aligned, hypotheses[b])
    return [found[index] for index in sorted(found)]


def true_times(utterance: Utterance, num_words: int) -> tuple[Interval, ...] | None:
    """Return when an utterance's words were said, from its field ``words``; None if it has no such field.

    Raises
    ------
    DataError
        If the field is not a list of `num_words` objects with numbers ``start`` <= ``end``.
    """
    from asr.errors import DataError

    words = utterance.extra.get("words")
    if words is None:
        return None
    if not isinstance(words, list) or len(words) != num_words:
        found = f"{len(words)} entries" if isinstance(words, list) else repr(words)[:60]
        raise DataError(f"{utterance.id}: words has {found}, its text {num_words} words; give one for each")
    times = []
    for word in words:
        try:
            start, end = float(word["start"]), float(word["end"])
        except (TypeError, KeyError, ValueError):
            start, end = 1.0, 0.0
        if not 0 <= start <= end < np.inf:
            raise DataError(f"{utterance.id}: words has {word!r}; give start and end in seconds, start first")
        times.append((start, end))
    return tuple(times)


def pairs_aligned(timed: Sequence[Timed]) -> list[tuple[Interval, Interval]]:
    """Pair the true interval of every word with that of the forced alignment."""
    pairs = []
    for t in timed:
        if t.truth is not None:
            pairs += [((w.start, w.end), true) for w, true in zip(t.aligned, t.truth, strict=True)]
    return pairs


def pairs_recognised(timed: Sequence[Timed]) -> list[tuple[Interval, Interval]]:
    """Pair the interval of every recognised word that is right with the true one."""
    from asr.scoring import align

    pairs = []
    for t in timed:
        if t.truth is None:
            continue
        truth, words = iter(t.truth), iter(t.hypothesis.words)
        for operation, _, _ in align(t.reference, t.hypothesis.text):
            true = next(truth) if operation != "I" else None
            word = next(words) if operation != "D" else None
            if operation == "C" and true is not None and word is not None:
                pairs.append(((word.start, word.end), true))
    return pairs


def time_errors(pairs: Sequence[tuple[Interval, Interval]]) -> dict[str, float | int] | None:
    """Return mean and median of absolute differences in milliseconds; None if there is nothing to compare.

    Parameters
    ----------
    pairs : sequence of (found, true)
    """
    if not pairs:
        return None
    found, true = np.swapaxes(np.array(pairs), 0, 1)
    errors = 1000 * np.abs(found - true)
    columns = {"start": errors[:, 0], "end": errors[:, 1], "both": errors}
    figures: dict[str, float | int] = {"words": len(pairs)}
    for name, values in columns.items():
        figures[f"{name}_mean_ms"] = float(values.mean())
        figures[f"{name}_median_ms"] = float(np.median(values))
    return figures


def calibration_error(confidences: Sequence[float], correct: Sequence[bool]) -> dict[str, Any] | None:
    """Return the expected calibration error with what it rests on; None if there are no outcomes."""
    from asr.decoding.confidence import reliability

    if not confidences:
        return None
    result = reliability(confidences, correct)
    p, rng = np.asarray(confidences), np.random.default_rng(0)
    by_chance = [reliability(confidences, (rng.random(len(p)) < p).tolist()).ece for _ in range(_DRAWS)]
    return {
        "count": len(p),
        "right": float(np.mean(correct)),
        "confidence": float(p.mean()),
        "ece": result.ece,
        "ece_by_chance": float(np.mean(by_chance)),
        "bins": [[b.low, b.high, b.count, b.confidence, b.accuracy] for b in result.bins],
    }


def _table(result: dict[str, Any]) -> str:
    columns = ("start", "end", "both")
    lines = [
        f"WER {100 * result['wer']:.2f}%",
        "",
        f"{'error of word times, ms':42s} {'words':>6s}" + "".join(f" {c:>15s}" for c in columns),
        " " * 49 + f" {'mean':>7s} {'median':>7s}" * len(columns),
    ]
    for name, figures in result["times"].items():
        if figures is None:
            lines.append(f"{name:42s} {'none':>6s}")
            continue
        cells = (f" {figures[f'{c}_mean_ms']:7.1f} {figures[f'{c}_median_ms']:7.1f}" for c in columns)
        lines.append(f"{name:42s} {figures['words']:6d}" + "".join(cells))
    lines += [
        "",
        f"{'confidence of':42s} {'count':>6s} {'right':>7s} {'mean':>7s} {'ECE':>7s} {'by chance':>10s}",
    ]
    for name, figures in result["confidence"].items():
        if figures is None:
            lines.append(f"{name:42s} {'none':>6s}")
            continue
        lines.append(
            f"{name:42s} {figures['count']:6d} {figures['right']:7.3f} {figures['confidence']:7.3f} "
            f"{figures['ece']:7.3f} {figures['ece_by_chance']:10.3f}"
        )
    return "\n".join(lines)
