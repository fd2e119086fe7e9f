"""`asr inspect`: look inside a model at work."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import AsrError, ConfigError, DataError

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from asr.inspection import GradientReach, Observation, Observed
    from asr.recognizer import Recognizer

_Item = tuple[str, Callable[[], "Tensor"], str | None]  # name, what reads it, what is said
LEVELS = (0.5, 0.1, 0.01)

EPILOG = """\
examples:
  asr inspect gates talk.wav --model model.asr -o figures
  asr inspect gates talk.wav --model model.asr --layer 1 --direction both --gates forget,cell --units 0-7
  asr inspect gradients test.jsonl --model model.asr -o figures
  asr inspect gradients talk.wav --model model.asr --text "what was said" --json
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``asr inspect gates`` and ``asr inspect gradients``."""
    parser = subparsers.add_parser(
        "inspect",
        help="see a model's gates over time, and how far back its gradient reaches",
        description="Look inside a model at work.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    gates = kinds.add_parser(
        "gates",
        help="gates and cell state over time, under the spectrogram and the decoded words",
        description="Draw the gates of a recurrent layer over time, and write them as arrays.",
        epilog="""\
Writes for each file, layer and direction STEM.layerN-DIRECTION.png and .npz. The arrays: a (frames, units)
array for each gate, units, times (seconds), spectrogram (dB; frequencies x frames of 10 ms), log_probs
(frames, tokens; natural logarithm), words, word_starts, word_ends. Gates: LSTM input, forget, candidate,
output, cell, hidden; GRU reset, update, candidate, hidden; light GRU update, candidate, hidden; RNN hidden.
In the picture units are sorted by the mean of their forget or update gate: long memories on top. Black bars
mark the words.
""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    gates.add_argument("audio", nargs="+", type=Path, metavar="AUDIO", help="audio files or folders of them")
    gates.add_argument("--layer", default="last", metavar="N", help="1, 2, ..., last or all (default: last)")
    gates.add_argument(
        "--direction", choices=("forward", "backward", "both"), default="forward", help="default: forward"
    )
    gates.add_argument(
        "--gates", type=_names, metavar="NAMES", help="with commas (default: plot the main ones, write all)"
    )
    gates.add_argument(
        "--units",
        type=_units,
        metavar="UNITS",
        help="from 0, as 0-7,12; up to 8 are drawn as lines (default: all)",
    )
    gates.set_defaults(run=run_gates)
    gradients = kinds.add_parser(
        "gradients",
        help="how far back in time the gradient of the loss reaches",
        description="Measure how the gradient of the CTC loss changes on its way back in time, by layer.",
        epilog="""\
For each frame, the gradient of the loss that enters a layer there is carried back through that layer's
recurrence alone. Its relative size at a lag is the sum of the norms after that many frames over the sum at
the start, over all frames and utterances; for an LSTM the norm is over hidden and cell state together. The
table gives the lag up to which it stays at 50%, 10% and 1%; "largest" above 1 is a gradient that grows.
Writes gradients.png, gradients.npz (all curves) and gradients.json. The target is the manifest's text,
--text, or else what the model recognises.
""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    gradients.add_argument(
        "inputs", nargs="+", type=Path, metavar="AUDIO|MANIFEST", help="audio files, folders or one .jsonl"
    )
    gradients.add_argument("--text", help="what is said in the one audio file")
    gradients.add_argument(
        "--max-utterances",
        type=_positive,
        default=20,
        metavar="N",
        help="of a manifest, evenly (default: 20)",
    )
    gradients.add_argument(
        "--max-frames", type=_positive, default=300, metavar="K", help="longest lag (default: 300)"
    )
    gradients.add_argument("--json", action="store_true", help="print the result as JSON")
    gradients.set_defaults(run=run_gradients)
    for kind in (gates, gradients):
        kind.add_argument("--model", required=True, type=Path, metavar="M.asr", help="the model file")
        kind.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
        kind.add_argument(
            "--output-dir",
            "--output_dir",
            "-o",
            type=Path,
            default=Path(),
            metavar="DIR",
            help="default: here",
        )


def run_gates(args: argparse.Namespace) -> int:
    """Draw gates; return 1 if a file failed."""
    from asr.files import make_folder
    from asr.inputs import find_audio
    from asr.inspection import observe
    from asr.model_file import load_model

    make_folder(args.output_dir, "--output-dir")
    files = find_audio(args.audio)
    recognizer = load_model(args.model, args.device)
    failed = 0
    for path, stem in files:
        try:
            samples = _load(recognizer, path)
            observation = observe(recognizer, samples)
        except AsrError as error:
            print(f"asr: {error}", file=sys.stderr)
            failed += 1
            continue
        for observed in _chosen(observation, args.layer, args.direction):
            name = f"{stem}.layer{observed.layer}-{observed.direction}"
            (args.output_dir / name).parent.mkdir(parents=True, exist_ok=True)
            difference = _write_gates(
                args, recognizer, samples, observation, observed, args.output_dir / name
            )
            print(
                f"{args.output_dir / name}.png: {observed.kind}, {len(observation.hypothesis.words)} words, "
                f"reference cell within {difference:.0e} of the model"
            )
    return 1 if failed else 0


def _write_gates(
    args: argparse.Namespace,
    recognizer: Recognizer,
    samples: Tensor,
    observation: Observation,
    observed: Observed,
    path: Path,
) -> float:
    import numpy as np

    from asr.files import atomic_write
    from asr.inspection import main_gates, spectrogram, trace_gates
    from asr.plots import plot_gates

    trace = trace_gates(observed)
    for name in args.gates or ():
        if name not in trace.gates:
            raise ConfigError(f"--gates {name}: the model's {trace.kind} has {', '.join(trace.gates)}")
    num_units = next(iter(trace.gates.values())).shape[1]
    units = args.units or list(range(num_units))
    if max(units) >= num_units:
        raise ConfigError(f"--units {max(units)}: the layer has units 0 to {num_units - 1}")
    gates = {name: trace.gates[name][:, units].numpy() for name in args.gates or trace.gates}
    image = spectrogram(samples, recognizer.sample_rate).numpy()
    words = observation.hypothesis.words
    with atomic_write(path.with_name(f"{path.name}.npz")) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            **gates,  # type: ignore[arg-type]  # the stub takes them for its own option
            units=np.array(units),
            times=np.arange(len(observed.inputs[0])) * trace.frame_shift,
            spectrogram=image,
            log_probs=observation.log_probs.cpu().numpy(),
            words=np.array([word.text for word in words], dtype=str),
            word_starts=np.array([word.start for word in words]),
            word_ends=np.array([word.end for word in words]),
        )
    plot_gates(
        path.with_name(f"{path.name}.png"),
        title=f"{path.name.split('.layer')[0]}: layer {trace.layer}, {trace.kind}, {trace.direction}",
        spectrogram=image,
        duration=len(samples) / recognizer.sample_rate,
        max_frequency=recognizer.sample_rate / 2,
        words=words,
        gates={name: gates[name] for name in args.gates or main_gates(trace.gates)},
        units=units,
        frame_shift=trace.frame_shift,
    )
    return trace.max_difference


def _chosen(observation: Observation, layer: str, direction: str) -> list[Observed]:
    """Return the layers and directions asked for."""
    number = max(observed.layer for observed in observation.layers)
    known = {"all": range(1, number + 1), "last": [number]} | {str(n): [n] for n in range(1, number + 1)}
    if layer not in known:
        raise ConfigError(f"--layer {layer}: the model has layers 1 to {number}; or say last or all")
    chosen = [
        observed
        for observed in observation.layers
        if observed.layer in known[layer] and direction in (observed.direction, "both")
    ]
    if not chosen:
        raise ConfigError(f"--direction {direction}: the model reads forward only; leave the option out")
    return chosen


def run_gradients(args: argparse.Namespace) -> int:
    """Measure the reach of the gradient; return 1 if a file failed."""
    import numpy as np
    from rich.console import Console

    from asr.cli.progress import count_bar
    from asr.files import atomic_write, make_folder
    from asr.inspection import gradient_reach
    from asr.model_file import load_model
    from asr.plots import plot_reach

    make_folder(args.output_dir, "--output-dir")
    recognizer = load_model(args.model, args.device)
    failures: list[str] = []
    losses: list[float] = []

    items = _items(args, recognizer)

    def observations(progress: Callable[[int, int], None]) -> Iterator[Observation]:
        for number, item in enumerate(items):
            progress(number, len(items))
            try:
                observation = _observe(recognizer, item)
            except AsrError as error:
                failures.append(str(error))
                continue
            assert observation.loss is not None
            losses.append(observation.loss)
            yield observation

    with count_bar("utterances") as progress:
        reaches = gradient_reach(observations(progress), args.max_frames)
    for failure in failures:
        print(f"asr: {failure}", file=sys.stderr)
    if not reaches:
        raise ConfigError(f"none of {len(failures)} inputs could be used; the first, {failures[0]}")
    report = {
        "model": str(args.model),
        "utterances": len(losses),
        "mean_loss": sum(losses) / len(losses),
        "layers": [_summary(reach) for reach in reaches],
    }
    curves = {
        f"layer{reach.layer}_{reach.direction}_{part}": reach.curve(part).numpy()
        for reach in reaches
        for part in reach.sums
    }
    with atomic_write(args.output_dir / "gradients.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **curves)  # type: ignore[arg-type]  # see above
    with atomic_write(args.output_dir / "gradients.json") as temporary:
        temporary.write_text(json.dumps(report, indent=2) + "\n")
    title = f"{args.model}: {len(losses)} utterance{'s' * (len(losses) != 1)}"
    plot_reach(args.output_dir / "gradients.png", reaches, title=title)
    if args.json:
        print(json.dumps(report))
    else:
        Console().print(_table(report))
    return 1 if failures else 0


def _items(args: argparse.Namespace, recognizer: Recognizer) -> list[_Item]:
    """Return what to look at: the utterances of a manifest, or audio files."""
    from asr.data.dataset import read_inputs
    from asr.data.manifest import read_manifest
    from asr.inputs import find_audio

    if args.inputs[0].suffix not in (".jsonl", ".json"):
        files = [path for path, _ in find_audio(args.inputs)]
        if args.text is not None and len(files) > 1:
            raise ConfigError(f"--text: goes with one audio file, found {len(files)}; use a manifest")
        return [(str(path), partial(_load, recognizer, path), args.text) for path in files]
    if len(args.inputs) > 1 or args.text is not None:
        raise ConfigError(f"{args.inputs[0]}: a manifest stands alone, without other inputs and --text")
    utterances = read_manifest(args.inputs[0], check_files=False)
    chosen = utterances[:: max(1, len(utterances) // args.max_utterances)][: args.max_utterances]
    if len(chosen) < len(utterances):
        print(f"{len(chosen)} of {len(utterances)} utterances; see --max-utterances", file=sys.stderr)
    sizes = recognizer.sample_rate, recognizer.num_features
    return [(u.id, partial(read_inputs, u, *sizes), u.text) for u in chosen]


def _observe(recognizer: Recognizer, item: _Item) -> Observation:
    from asr.inspection import observe

    name, read, text = item
    try:
        return observe(recognizer, read(), _target(recognizer, text), own_text=True)
    except AsrError as error:
        raise error if name in str(error) else type(error)(f"{name}: {error}") from error


def _target(recognizer: Recognizer, text: str | None) -> list[int] | None:
    """Return the tokens of a text, or None for none."""
    if text is None:
        return None
    text = recognizer.normalizer(text)
    unknown = [word for word in text.split() if recognizer.tokenizer.unknown(word)]
    if unknown:
        raise DataError(f"{unknown[0]!r} cannot be spelled with the model's tokens; correct the text")
    return recognizer.tokenizer.encode(text)


def _load(recognizer: Recognizer, path: Path) -> Tensor:
    import torch

    from asr import audio

    return torch.from_numpy(audio.load(path, sample_rate=recognizer.sample_rate).samples)


def _summary(reach: GradientReach) -> dict[str, Any]:
    curve = reach.curve()
    return {
        "layer": reach.layer,
        "direction": reach.direction,
        "cell": reach.kind,
        "frame_shift": reach.frame_shift,
        "seconds": {f"{100 * level:g}%": reach.seconds(level) for level in LEVELS},
        "largest": curve.max().item(),
        "curve": [float(f"{value:.4g}") for value in curve.tolist()],
    }


def _table(report: dict[str, Any]) -> Table:
    from rich.table import Table

    levels = [f"{100 * level:g}%" for level in LEVELS]
    table = Table(
        "layer", "direction", "cell", *(f"{level} at" for level in levels), "longest lag", "largest"
    )
    for column in table.columns[3:]:
        column.justify = "right"
    for layer in report["layers"]:
        longest = (len(layer["curve"]) - 1) * layer["frame_shift"]
        lags = [layer["seconds"][level] for level in levels]
        table.add_row(
            str(layer["layer"]),
            layer["direction"],
            layer["cell"],
            *("beyond" if lag is None else f"{lag:.2f} s" for lag in lags),
            f"{longest:.2f} s",
            f"{layer['largest']:.2g}",
        )
    return table


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _units(text: str) -> list[int]:
    units: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise argparse.ArgumentTypeError(f"{text!r} is not like 0-7,12")
        units += range(int(first), int(last) + 1)
    return list(dict.fromkeys(units))


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)
