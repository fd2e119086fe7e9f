"""``asr transcribe``: audio files and folders to text, subtitles and JSON."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.cli.decoding import add_decoder_arguments, add_option, choose_decoder
from asr.cli.live import add_stream_arguments, run_stream
from asr.cli.memory import keep_memory_flat
from asr.cli.progress import seconds_bar
from asr.errors import AsrError, ConfigError

if TYPE_CHECKING:
    from asr.recognizer import Recognizer
    from asr.transcribe import TranscriptionResult
    from asr.types import Segment

FORMATS = ("txt", "vtt", "srt", "tsv", "json")

EPILOG = """\
examples:
  asr transcribe talk.wav --model model.asr
  asr transcribe calls/ --recursive --model model.asr -o transcripts -f srt,json --skip-existing
  asr transcribe talk.mp3 --model model.asr -f srt --max-line-width 42 --max-line-count 2
  asr transcribe talk.wav --model model.asr --lm news.arpa.gz --hotwords "ada lovelace,babbage"
  asr transcribe long.flac --model model.asr --clip-timestamps 0,60,60,120 --verbose False
  asr transcribe 'calls/**/*.m4a' --model model.asr -o transcripts
  ffmpeg -i film.mkv -f wav - | asr transcribe - --model model.asr -f vtt
  arecord -t raw -f S16_LE -r 16000 | asr transcribe --stream - --stream-rate 16000 --model model.asr

Options may be spelled with hyphens or underscores. A file that cannot be transcribed is named on standard
error and the others still come out; the exit status is then 1. The output folder also gets manifest.jsonl,
all its results in one file: asr score REFERENCES manifest.jsonl.

Recordings of any length are read as a stream. What is longer than the model's training utterances is cut in
silence where there is some, and otherwise into windows that overlap and whose words are joined again.
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

    parser.add_argument(
        "audio",
        nargs="*",
        type=Path,
        metavar="AUDIO",
        help="audio files, folders of them, patterns like 'calls/*.wav', or - for standard input",
    )
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
    add("threads", type=_positive, metavar="N", help="CPU threads (default: all cores)")
    add(
        "compute_type",
        default="float32",
        choices=("float32", "bfloat16", "int8"),
        help="of the recurrent network; int8 on CPUs only (default: float32)",
    )
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
    _add_window_arguments(parser)
    add_decoder_arguments(parser)
    add_stream_arguments(parser)
    parser.set_defaults(run=run)


def _add_window_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("long recordings", "default: as suits the model's training utterances")
    add_option(
        group,
        "vad",
        default="auto",
        choices=("auto", "silero", "energy", "none"),
        help="what finds speech; auto leaves short recordings as they are, and takes silero for others where "
        "the package silero-vad is installed, else energy (default: auto)",
    )
    add_option(
        group, "threshold", type=float, metavar="P", help="probability that makes it speech (default: 0.35)"
    )
    for name, what in (
        (
            "min_speech_duration_ms",
            "shorter speech is passed over; what is hardly sure must last longer",
        ),
        ("min_silence_duration_ms", "the pause that ends a stretch of speech"),
        ("speech_pad_ms", "kept on either side of speech"),
    ):
        add_option(group, name, type=int, metavar="MS", help=what)
    add_option(group, "max_speech_duration_s", type=_positive_seconds, metavar="S", help="the longest window")


def run(args: argparse.Namespace) -> int:
    """Transcribe; return 1 if any file failed, else 0.

    Raises
    ------
    AsrError
        Nothing could be started: the output folder, the model, the options or an empty input folder.
    """
    if args.stream is not None:
        return run_stream(args)
    if not args.audio:
        raise ConfigError("AUDIO: no files were given; name audio files or folders, or use --stream")
    keep_memory_flat()
    import torch

    from asr.files import make_folder
    from asr.inputs import find_audio, parse_clip_timestamps
    from asr.results import ResultsManifest
    from asr.transcribe import transcribe_files
    from asr.windows import WindowOptions
    from asr.writers import WriterOptions, remove_leftovers, write_outputs

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
    if args.threads or "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(args.threads or len(os.sched_getaffinity(0)))

    stems = dict(find_audio(args.audio, args.recursive))
    found = len(stems)
    ids = _ids(stems)
    if args.skip_existing:
        stems = {
            file: stem
            for file, stem in stems.items()
            if not _exists(args.output_dir / stem, args.output_format)
        }
        if len(stems) < found:
            _say(f"{found - len(stems)} of {found} files skipped: their outputs exist")
        if not stems:
            return 0
    recognizer = _load(args)
    windows = WindowOptions.for_model(recognizer.max_train_seconds, **_window_options(args))
    remove_leftovers(args.output_dir / stem for stem in stems.values())

    failed = 0
    total = _total_seconds(stems, clips) if sys.stderr.isatty() else 0.0
    with (
        ResultsManifest(args.output_dir, stems.keys()) as manifest,
        seconds_bar("transcribing", total) as progress,
    ):

        def on_error(path: Path, error: AsrError) -> None:
            nonlocal failed
            failed += 1
            _say(str(error))

        def on_result(result: TranscriptionResult) -> None:
            # In this order: after a crash, a file with all its outputs has its line as well.
            manifest.add(ids[result.path], result)
            try:
                write_outputs(
                    result, args.output_dir / stems[result.path], args.output_format, options=options
                )
            except AsrError as error:
                manifest.withdraw(result.path)
                on_error(result.path, error)
                return
            for note in result.notes:
                _say(f"{result.path}: {note}")
            if args.verbose and not result.segments:
                printer.show(result.path, "(no words)")

        def on_segment(path: Path, segment: Segment) -> None:
            if args.verbose:
                printer.show(path, _segment_line(segment))

        printer = _Printer(with_names=found > 1)
        transcribe_files(
            recognizer,
            list(stems),
            options=windows,
            clips=clips,
            batch_seconds=args.batch_seconds,
            on_result=on_result,
            on_error=on_error,
            on_segment=on_segment,
            progress=progress,
        )
    if failed:
        print(f"{failed} of {len(stems)} files failed", file=sys.stderr)
    return 1 if failed else 0


def _ids(stems: Mapping[Path, Path]) -> dict[Path, str]:
    """Return what the manifest calls files: their names or, where those are alike, their paths."""
    names = Counter(stem.name for stem in stems.values())
    return {file: stem.name if names[stem.name] == 1 else stem.as_posix() for file, stem in stems.items()}


def _load(args: argparse.Namespace) -> Recognizer:
    """Load the model as the options want it."""
    from asr.model_file import load_model

    recognizer = load_model(args.model, args.device)
    choose_decoder(recognizer, args, args.threads)
    if args.compute_type == "int8":
        from asr.quantize import quantize

        return quantize(recognizer)
    recognizer.compute_type = args.compute_type
    return recognizer


def _window_options(args: argparse.Namespace) -> dict[str, Any]:
    names = ("vad", "threshold", "min_speech_duration_ms", "min_silence_duration_ms", "speech_pad_ms")
    return {name: getattr(args, name) for name in (*names, "max_speech_duration_s")}


def _total_seconds(files: Iterable[Path], clips: Iterable[tuple[float, float | None]]) -> float:
    """Return how much audio there is, as far as the files say."""
    from asr.audio import AudioStream

    total = 0.0
    last = 0.0
    for _, end in clips:
        last = max(last, float("inf") if end is None else end)
    for file in files:
        try:
            with AudioStream(file, 16000) as stream:
                total += min(stream.duration or 0.0, last)
        except AsrError:  # will be named when its turn comes
            continue
    return total


def _exists(stem: Path, formats: tuple[str, ...]) -> bool:
    return all(stem.with_name(f"{stem.name}.{name}").is_file() for name in formats)


def _segment_line(segment: Segment) -> str:
    from asr.writers import format_timestamp, to_milliseconds

    start, end = (format_timestamp(to_milliseconds(t)) for t in (segment.start, segment.end))
    return f"[{start} --> {end}]  {segment.text}"


class _Printer:
    """Prints lines about files, each file's name before its first one."""

    def __init__(self, with_names: bool) -> None:
        self.with_names = with_names
        self.last: Path | None = None

    def show(self, path: Path, line: str) -> None:
        if self.with_names and path != self.last:
            line = f"{path}\n{line}"
        self.last = path
        # A terminal that cannot show a character must not stop the work.
        encoding = sys.stdout.encoding or "utf-8"
        try:
            print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
        except BrokenPipeError:  # nobody reads along any more: the files are still wanted
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(message: str) -> None:
    print(f"asr: {message}", file=sys.stderr, flush=True)


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
