"""``asr align``: when each word and character of a transcript was said."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from asr.errors import AsrError, ConfigError, DataError

if TYPE_CHECKING:
    from asr.alignment.align import TextAlignment
    from asr.recognizer import Recognizer
    from asr.types import Utterance

FORMATS = ("TextGrid", "ctm", "json", "srt")
# Findings of a kind that are printed for a file; all are in its JSON.
_SHOWN = 10

EPILOG = """\
examples:
  asr align talk.wav talk.txt --model model.asr
  asr align lecture.flac lecture.txt --model model.asr -f textgrid,srt -o aligned
  asr align test.jsonl --model model.asr -f ctm       every utterance of a manifest, one CTM file

The recording may be hours long. Words of the text that are not in the audio, and speech that is not in the
text, are printed and written, not forced onto each other; characters that the model has no token for are
named. With any of these the exit status is 1. Times are seconds from the start of the utterance.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``asr align``."""
    parser = subparsers.add_parser(
        "align",
        help="word and character times of a known text",
        description="Align audio with its transcript: TextGrid, CTM, JSON and SRT.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("audio", type=Path, metavar="AUDIO", help="an audio file, or a manifest (.jsonl)")
    parser.add_argument("text", type=Path, nargs="?", metavar="TEXT", help="its transcript, plain UTF-8 text")
    parser.add_argument("--model", required=True, type=Path, metavar="M.asr", help="the model file")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        *("-o", "--output-dir", "--output_dir"),
        dest="output_dir",
        default=Path("."),
        type=Path,
        metavar="DIR",
        help="where to write (default: here)",
    )
    parser.add_argument(
        *("-f", "--output-format", "--output_format"),
        dest="formats",
        default=FORMATS,
        type=_formats,
        metavar="FORMATS",
        help=f"{', '.join(FORMATS)}, several with commas, or all (default: all)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Align; return 1 if anything does not match or could not be aligned, else 0.

    Raises
    ------
    AsrError
        Nothing could be aligned.
    """
    from asr.files import make_folder
    from asr.model_file import load_model

    make_folder(args.output_dir, "--output-dir")
    if args.text is not None:
        utterances = [_one_file(args.audio, args.text)]
    else:
        utterances = _manifest(args.audio)
    recognizer = load_model(args.model, args.device)
    if args.text is not None:
        return _align_file(recognizer, utterances[0], args.output_dir, args.formats)
    return _align_manifest(recognizer, utterances, args.output_dir, args.formats, args.audio.stem)


def _align_file(recognizer: Recognizer, utterance: Utterance, folder: Path, formats: tuple[str, ...]) -> int:
    from asr.alignment.align import align_text
    from asr.alignment.formats import write_alignment
    from asr.cli.progress import seconds_bar

    with seconds_bar(utterance.id, utterance.duration) as progress:
        alignment = align_text(recognizer, utterance, utterance.text or "", progress=progress)
    write_alignment(alignment, folder / utterance.id, formats)
    print(_summary(alignment))
    return 1 if _report(alignment) else 0


def _align_manifest(
    recognizer: Recognizer, utterances: list[Utterance], folder: Path, formats: tuple[str, ...], name: str
) -> int:
    from asr.alignment.align import align_text
    from asr.alignment.formats import ctm, write_alignment, write_text
    from asr.cli.progress import seconds_bar

    ctm_lines = []
    failed = mismatched = 0
    with seconds_bar(name, sum(u.duration for u in utterances)) as progress:
        for utterance in utterances:
            try:
                alignment = align_text(recognizer, utterance, utterance.text or "", progress=progress)
                write_alignment(
                    alignment, folder / _file_name(utterance.id), [f for f in formats if f != "ctm"]
                )
            except AsrError as error:
                failed += 1
                _say(f"{utterance.id}: {str(error).removeprefix(f'{utterance.id}: ')}")
                continue
            ctm_lines.append(ctm(alignment))
            mismatched += _report(alignment)
    if failed == len(utterances):
        raise DataError(f"none of {failed} utterances could be aligned; the reasons are above")
    if "ctm" in formats:
        write_text(folder / f"{name}.ctm", "".join(ctm_lines))
    done = len(utterances) - failed
    print(f"{done} utterances aligned, {mismatched} of them with mismatches, {failed} failed")
    return 1 if failed or mismatched else 0


def _one_file(audio_path: Path, text_path: Path) -> Utterance:
    from asr import audio
    from asr.types import Utterance

    try:
        text = text_path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{text_path}: cannot read this transcript ({error.strerror}); check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{text_path}: not UTF-8 (byte 0x{error.object[error.start]:02x} at {error.start}); "
            "convert the file to UTF-8"
        ) from error
    if not text.strip():
        raise DataError(f"{text_path}: the transcript is empty; write what is said in {audio_path.name}")
    duration = audio.info(audio_path).duration
    return Utterance(audio_path.stem, duration, text, audio_filepath=str(audio_path.absolute()))


def _manifest(path: Path) -> list[Utterance]:
    from asr.data.manifest import read_manifest

    if path.suffix.lower() not in (".jsonl", ".json"):
        raise ConfigError(f"{path}: give its transcript too (asr align AUDIO TEXT), or a manifest (.jsonl)")
    utterances = read_manifest(path, check_files=False)
    untranscribed = [u.id for u in utterances if not (u.text or "").strip()]
    if untranscribed:
        raise DataError(
            f"{path}: {len(untranscribed)} utterances have no text to align, the first is "
            f"{untranscribed[0]}; add their text or leave them out"
        )
    names: dict[str, str] = {}
    for utterance in utterances:
        other = names.setdefault(_file_name(utterance.id).casefold(), utterance.id)
        if other != utterance.id:
            raise DataError(f"{path}: ids {other} and {utterance.id} would share a file; rename one")
    return utterances


def _file_name(utterance_id: str) -> str:
    return utterance_id.replace("/", "_")


def _summary(alignment: TextAlignment) -> str:
    total = len(alignment.words) + len(alignment.missing)
    found = f"{len(alignment.words)} of {total} words aligned"
    return f"{alignment.id}: {found} in {alignment.duration:.1f} s of audio"


def _report(alignment: TextAlignment) -> bool:
    """Say what does not match; return whether anything does not."""
    name = alignment.id
    if alignment.unknown:
        listed = ", ".join(f"{char!r} ({count})" for char, count in alignment.unknown.items())
        _say(f"{name}: the model has no token for {listed}; left out of their words")
    _report_list(
        [
            f"{name}: {word.reason}: {word.text!r}, line {word.line + 1}, after {word.time:.2f} s"
            for word in alignment.missing
        ],
        "words",
    )
    _report_list(
        [
            f"{name}: not in the text: {e.start:.2f} - {e.end:.2f} s, heard as {e.text!r}"
            for e in alignment.extra
        ],
        "stretches of speech",
    )
    return bool(alignment.unknown or alignment.missing or alignment.extra)


def _report_list(messages: list[str], kind: str) -> None:
    for message in messages[:_SHOWN]:
        _say(message)
    if len(messages) > _SHOWN:
        _say(f"and {len(messages) - _SHOWN} more {kind}; the JSON has all")


def _say(message: str) -> None:
    print(f"asr: {message}", file=sys.stderr, flush=True)


def _formats(text: str) -> tuple[str, ...]:
    known: dict[str, str] = {name.lower(): name for name in FORMATS}
    names = tuple(dict.fromkeys(text.lower().split(",")))
    if "all" in names:
        return FORMATS
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(
                f"unknown format '{name}'; choose from {', '.join(FORMATS)}, all"
            )
    return tuple(known[name] for name in names)
