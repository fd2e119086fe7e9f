"""`asr tune`: find the weights of a language model on a dev set and put both into the model file."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.cli.decoding import add_language_model_arguments, add_option

if TYPE_CHECKING:
    from asr.decoding.tune import DevUtterance, Tuning
    from asr.recognizer import Recognizer

EPILOG = """\
examples:
  asr tune runs/an4/model.asr data/an4/dev.jsonl --lm an4.arpa
  asr tune model.asr dev.jsonl --lm news.arpa.gz --rescore-lm news-rnn.asr -o model-news.asr
  asr tune model.asr dev.jsonl --lm commands.arpa --unknown-words refuse --hotwords "lights on,lights off"

Writes the language model and the best weights into the model file; 'asr evaluate' and 'asr transcribe' then
use them, and '--decoder greedy' does without. If beam search is not clearly better than greedy decoding in
cross-validation on the dev set, the model stays greedy. Beside it comes a plot of the search, an SVG file.
"""

_ROWS = 11  # of the printed table, about


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``asr tune``."""
    parser = subparsers.add_parser(
        "tune",
        help="give a model a language model, weights tuned on dev",
        description="Find the weights of a language model and the beam on a dev set.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="MODEL.asr", help="a model file made by training")
    parser.add_argument(
        "manifest", type=Path, metavar="DEV", help="the dev set: JSON lines as for 'asr evaluate'"
    )
    add_option(
        parser,
        "lm",
        type=Path,
        required=True,
        metavar="FILE",
        help="language model: ARPA, KenLM binary or recurrent .asr",
    )
    add_option(
        parser, "rescore_lm", type=Path, metavar="FILE", help="a second one, which rescores the best texts"
    )
    add_language_model_arguments(parser)
    add_option(
        parser,
        "beam_size",
        type=int,
        metavar="N",
        help="this beam (default: chosen from 10, 25, 50, 100, 200)",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="OUT.asr", help="default: MODEL.asr itself")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="default: beside the output")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Tune."""
    from asr.cli.decoding import BEAM, available_cores, read_assets
    from asr.cli.progress import count_bar
    from asr.decoding.surface import draw_svg
    from asr.decoding.tune import BEAM_SIZES, tune
    from asr.files import atomic_write
    from asr.model_file import load_model, read_header, save_model

    recognizer = load_model(args.model, device=args.device)
    assets = read_assets(recognizer, args.lm, args.lexicon, args.rescore_lm)
    names = ("lm_unit", "unknown_words", "hotwords", "hotword_boost")
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    recognizer.use_decoder(BEAM | options, assets)
    for note in recognizer.decoder.prepare(recognizer.tokenizer.pieces):
        print(f"asr: {note}", file=sys.stderr)
    utterances = _read_dev(recognizer, args.manifest)
    sizes = (args.beam_size,) if args.beam_size else BEAM_SIZES
    with count_bar("searching") as advance:
        done = 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            advance(done, 0)

        result = tune(
            utterances,
            recognizer.tokenizer.pieces,
            recognizer.frame_shift,
            options,
            assets,
            beam_sizes=sizes,
            num_workers=available_cores(),
            progress=progress,
        )
    output = args.output or args.model
    plot = args.plot or output.with_suffix(".tuning.svg")
    recognizer.use_decoder(result.config, result.assets)
    save_model(output, recognizer, read_header(args.model)["info"] | {"tuning": _summary(result, args)})
    with atomic_write(plot) as path:
        path.write_text(draw_svg(result.surface, result.num_words, result.setting), encoding="utf-8")
    if args.json:
        print(json.dumps(_summary(result, args)))
    else:
        _print(result, output, plot)
    return 0


def _read_dev(recognizer: Recognizer, manifest: Path) -> list[DevUtterance]:
    """Compute the dev set's log-probabilities."""
    from asr.cli.progress import seconds_bar
    from asr.data.manifest import read_manifest
    from asr.decoding.tune import DevUtterance
    from asr.errors import DataError
    from asr.evaluation import compute_log_probs

    utterances = read_manifest(manifest, check_files=False)
    untranscribed = [u.id for u in utterances if u.text is None]
    if untranscribed:
        raise DataError(
            f"{manifest}: {len(untranscribed)} utterances have no text, the first is {untranscribed[0]}"
        )
    found: list[tuple[int, DevUtterance]] = []

    def stop(utterance: Any, error: Exception) -> None:
        raise DataError(f"{utterance.id}: {error}")

    with seconds_bar(manifest.stem, sum(u.duration for u in utterances)) as advance:
        for batch in compute_log_probs(recognizer, utterances, on_error=stop):
            for b, index in enumerate(batch.indices):
                utterance = batch.utterances[b]
                log_probs = batch.log_probs[b, : batch.lengths[b]].cpu()
                group = utterance.speaker or utterance.id
                found.append((index, DevUtterance(batch.references[b], log_probs, group)))
            advance(sum(u.duration for u in batch.utterances))
    if not any(utterance.reference for _, utterance in found):
        raise DataError(
            f"{manifest}: there is no word in the transcripts to tune on; give a dev set with text"
        )
    return [utterance for _, utterance in sorted(found, key=lambda pair: pair[0])]


def _summary(result: Tuning, args: argparse.Namespace) -> dict[str, Any]:
    return {
        "dev": str(args.manifest),
        "lm": args.lm.name,
        "accepted": result.accepted,
        "lm_weight": result.setting.lm_weight,
        "word_bonus": result.setting.word_bonus,
        "rescore_weight": result.setting.rescore_weight,
        "beam_size": result.beam_size,
        "num_words": result.num_words,
        "greedy_wer": result.greedy_errors / result.num_words,
        "tuned_wer": result.tuned_errors / result.num_words,
        "gain": result.gain / 100,
        "gain_interval": [bound / 100 for bound in result.interval],
        "validated_gain": result.validated_gain / 100,
        "words_outside_lexicon": result.num_outside,
    }


def _print(result: Tuning, output: Path, plot: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    surface, setting = result.surface, result.setting
    chosen = tuple(
        axis.index(value)
        for axis, value in (
            (surface.lm_weights, setting.lm_weight),
            (surface.word_bonuses, setting.word_bonus),
            (surface.rescore_weights, setting.rescore_weight),
        )
    )
    errors = surface.errors.sum(axis=0)[:, :, chosen[2]]
    rows, columns = (_spread(size, index) for size, index in zip(errors.shape, chosen, strict=False))
    table = Table("LM weight", title="dev WER % by LM weight and word bonus")
    for column in columns:
        table.add_column(f"{surface.word_bonuses[column]:+g}", justify="right")
    for row in rows:
        cells = []
        for column in columns:
            cell = f"{100 * errors[row, column] / result.num_words:.2f}"
            cells.append(f"[bold reverse]{cell}[/]" if (row, column) == chosen[:2] else cell)
        table.add_row(f"{surface.lm_weights[row]:g}", *cells)
    console = Console()
    console.print(table)
    for size, count in result.beams:
        console.print(f"beam {size:>4}: {100 * count / result.num_words:.2f}%", highlight=False)
    if result.num_outside:
        share = 100 * result.num_outside / result.num_words
        print(f"{result.num_outside} dev words ({share:.2f}%) are outside the lexicon")
    low, high = result.interval
    rescoring = f", rescoring weight {setting.rescore_weight:g}" if len(surface.rescore_weights) > 1 else ""
    print(
        f"greedy {100 * result.greedy_errors / result.num_words:.2f}%, best beam search "
        f"{100 * result.tuned_errors / result.num_words:.2f}% on dev (LM weight {setting.lm_weight:g}, "
        f"word bonus {setting.word_bonus:g}{rescoring}, beam {result.beam_size})"
    )
    print(
        f"gain {result.gain:+.2f} points, 95% interval {low:+.2f} to {high:+.2f} (paired); "
        f"{result.validated_gain:+.2f} in cross-validation"
    )
    verdict = "with the language model inside" if result.accepted else "greedy, as no gain is certain"
    print(f"{output}: written, {verdict}; plot in {plot}")


def _spread(size: int, chosen: int) -> list[int]:
    """Return about `_ROWS` indices, evenly spaced, the chosen one among them."""
    step = max(1, round(size / _ROWS))
    return [i for i in range(size) if (i - chosen) % step == 0]
