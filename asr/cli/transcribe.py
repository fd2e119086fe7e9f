"""``asr transcribe``: audio files and folders to text, subtitles and JSON."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.cli.decoding import add_decoder_arguments, choose_decoder
from asr.errors import AsrError

if TYPE_CHECKING:
    from asr.transcribe import TranscriptionResult

FORMATS = ("txt", "vtt", "srt", "tsv", "json")

EPILOG = """\
examples:
  asr transcribe talk.wav --model model.asr
  asr transcribe calls/ --recursive --model model.asr -o transcripts -f srt,json --skip-existing
  asr transcribe talk.mp3 --model model.asr -f srt --max-line-width 42 --max-line-count 2
  asr transcribe talk.wav --model model.asr --lm news.arpa.gz --hotwords "ada lovelace,babbage"
  asr transcribe long.flac --model model.asr --clip-timestamps 0,60,60,120 --verbose False

Options may be spelled with hyphens or underscores. A file that cannot be transcribed is named on standard
error and the others still come out; the exit status is then 1.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command and its options."""
    parser = subparsers.add_parser(
        "transcribe",
        help="turn audio files into text, subtitles and JSON",
        description="Transcribe audio files, or folders of them, with a trained model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def add(name: str, *short: str, **options: Any) -> None:
        spellings = dict.fromkeys([f"--{name.replace('_', '-')}", f"--{name}"])
        parser.add_argument(*spellings, *short, dest=name, **options)

    parser.add_argument("audio", nargs="+", type=Path, metavar="AUDIO", help="audio files or folders of them")
    add("model", required=True, type=Path, metavar="M.asr", help="the model file")
    add("device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    add(
        "output_dir", "-o", default=Path("."), type=Path, metavar="DIR", help="where to write (default: here)"
    )
    add(
        "output_format",
        "-f",
        default=FORMATS,
        type=_formats,
        metavar="FORMATS",
        help=f"{', '.join(FORMATS)}, several with commas, or all (default: all)",
    )
    add(
        "verbose",
        default=True,
        type=_boolean,
        metavar="BOOL",
        help="print the text as it comes (default: True)",
    )
    add("threads", type=_positive, metavar="N", help="CPU threads (default: PyTorch's choice)")
    add(
        "word_timestamps",
        default=True,
        type=_boolean,
        metavar="BOOL",
        help="write each word's times and probability into JSON (default: True)",
    )
    add(
        "highlight_words",
        default=False,
        type=_boolean,
        metavar="BOOL",
        help="underline each word as it is spoken in srt and vtt (default: False)",
    )
    add("max_line_width", type=_positive, metavar="N", help="characters in a line of a subtitle")
    add("max_line_count", type=_positive, metavar="N", help="lines in a subtitle")
    add("max_words_per_line", type=_positive, metavar="N", help="words in a line of a subtitle")
    add(
        "clip_timestamps",
        default="0",
        metavar="START,END,...",
        help="transcribe these stretches only, seconds; the last end may be left out (default: 0)",
    )
    add("recursive", action="store_true", help="look into the folders below the given ones")
    add("skip_existing", action="store_true", help="pass over files whose outputs are all there")
    add(
        "batch_seconds",
        default=120.0,
        type=_positive_seconds,
        metavar="S",
        help="seconds of audio recognised at a time (default: 120)",
    )
    add_decoder_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Transcribe; return 1 if any file failed, else 0.

    Raises
    ------
    AsrError
        Nothing could be started: the output folder, the model, the options or an empty input folder.
    """
    import torch

    from asr.files import make_folder
    from asr.model_file import load_model
    from asr.transcribe import find_audio, parse_clip_timestamps, transcribe_files
    from asr.writers import WriterOptions, write_outputs

    make_folder(args.output_dir, "--output_dir")
    clips = parse_clip_timestamps(args.clip_timestamps)
    options = WriterOptions(
        word_timestamps=args.word_timestamps,
        highlight_words=args.highlight_words,
        max_line_width=args.max_line_width,
        max_line_count=args.max_line_count,
        max_words_per_line=args.max_words_per_line,
    )
    if options.max_line_count and not (options.max_line_width or options.max_words_per_line):
        _say("--max_line_count has no effect without --max_line_width or --max_words_per_line")
    if args.threads:
        torch.set_num_threads(args.threads)

    stems = {file: args.output_dir / stem for file, stem in find_audio(args.audio, args.recursive)}
    found = len(stems)
    if args.skip_existing:
        stems = {file: stem for file, stem in stems.items() if not _exists(stem, args.output_format)}
        if len(stems) < found:
            _say(f"{found - len(stems)} of {found} files skipped: their outputs exist")
        if not stems:
            return 0
    recognizer = load_model(args.model, args.device)
    choose_decoder(recognizer, args, args.threads)

    failed = 0
    with _progress(len(stems)) as advance:

        def on_error(path: Path, error: AsrError) -> None:
            nonlocal failed
            failed += 1
            _say(str(error))
            advance(0.0)

        def on_result(result: TranscriptionResult) -> None:
            try:
                write_outputs(result, stems[result.path], args.output_format, options=options)
            except AsrError as error:
                on_error(result.path, error)
                return
            for note in result.notes:
                _say(f"{result.path}: {note}")
            if args.verbose:
                _print_segments(result, with_name=found > 1)
            advance(result.duration)

        transcribe_files(
            recognizer,
            list(stems),
            clips=clips,
            batch_seconds=args.batch_seconds,
            on_result=on_result,
            on_error=on_error,
        )
    if failed:
        print(f"{failed} of {len(stems)} files failed", file=sys.stderr)
    return 1 if failed else 0


def _exists(stem: Path, formats: tuple[str, ...]) -> bool:
    return all(stem.with_name(f"{stem.name}.{name}").is_file() for name in formats)


def _print_segments(result: TranscriptionResult, with_name: bool) -> None:
    from asr.writers import format_timestamp, to_milliseconds

    lines = [str(result.path)] if with_name else []
    for segment in result.segments:
        start, end = (format_timestamp(to_milliseconds(t)) for t in (segment.start, segment.end))
        lines.append(f"[{start} --> {end}]  {segment.text}")
    if not result.segments:
        lines.append("(no words)")
    # A terminal that cannot show a character must not stop the work.
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print("\n".join(lines).encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError:  # nobody reads along any more: the files are still wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(message: str) -> None:
    print(f"asr: {message}", file=sys.stderr, flush=True)


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """Yield a function that counts a file of so many seconds as done; draws a bar on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda seconds: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    # Text sent to a file or a pipe must not be drawn into the terminal.
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("transcribing", total=total, rate="")
        begun = time.monotonic()
        done = 0.0

        def advance(seconds: float) -> None:
            nonlocal done
            done += seconds
            rate = done / max(time.monotonic() - begun, 1e-3)
            bar.update(task, advance=1, rate=f"{rate:.1f} s of audio per second")

        yield advance


def _boolean(text: str) -> bool:
    try:
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"'{text}' is neither True nor False") from None


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1")
    return int(text)


def _positive_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds above 0")
    return seconds


def _formats(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if "all" in names:
        return FORMATS
    for name in names:
        if name not in FORMATS:
            raise argparse.ArgumentTypeError(
                f"unknown format '{name}'; choose from {', '.join(FORMATS)}, all"
            )
    return names
