"""`asr convert`: data as other toolkits describe it, to our manifest and back."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.data.convert import Converted

_EPILOG = """\
dialects (--from, --to):
  manifest                our own and NeMo's JSON lines
  kaldi                   Kaldi's and ESPnet's folder: wav.scp or feats.scp, segments, text, utt2spk
  lhotse                  lhotse's recordings and supervisions, in a folder or side by side
  lhotse-cuts             lhotse's cuts
  lhotse-shar             lhotse's Shar folder (lhotse writes it: pip install 'asr[lhotse]')
  deepspeech.pytorch      its JSON; deepspeech.pytorch-csv is its older audio,transcript lines
  speechbrain             its JSON; speechbrain-csv is its CSV
  mozilla                 Mozilla DeepSpeech's and Coqui's CSV
  audiofolder             Hugging Face: audio with metadata.csv or metadata.jsonl
  datasets                Hugging Face: what save_to_disk left (pip install pyarrow)
  folder                  audio with a .txt or .lab of the same name beside it
  stm                     NIST's STM and the long recordings that it names

What IN is, is told by its content; what OUT is, by --to, or by .jsonl, .json (manifest) or .stm.
What OUT cannot hold is counted, field by field. Exit status: 1 if audio that the data name is missing.

examples:
  asr convert data/train train.jsonl                       a Kaldi folder to a manifest
  asr convert data/train train.jsonl --run-commands        one whose wav.scp has commands
  asr convert train.json exp/train --to kaldi              a NeMo manifest to a Kaldi folder
  asr convert train.csv train.jsonl --audio-dir /corpora/libri
  asr convert talks.stm talks.jsonl --audio-dir sph        stretches of long recordings
  asr convert talks.jsonl talks --to folder --cut          each stretch as a file, with its text beside it
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the command to the program's parser."""
    parser = subparsers.add_parser(
        "convert",
        help="data of other toolkits to a manifest, and back",
        description="Convert a set of utterances from one toolkit's description of data to another's.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="IN", type=Path, help="a file or a folder")
    parser.add_argument("target", metavar="OUT", type=Path, help="a file, or a folder that is not there yet")
    parser.add_argument("--from", dest="read_as", metavar="DIALECT", help="what IN is, if it cannot be told")
    parser.add_argument("--to", dest="write_as", metavar="DIALECT", help="what to write")
    parser.add_argument(
        *("--audio-dir", "--audio_dir"),
        type=Path,
        metavar="DIR",
        help="where relative audio paths start, {data_root} is, and an STM's recordings are",
    )
    parser.add_argument(
        *("--run-commands", "--run_commands"),
        action="store_true",
        help="run the shell commands that wav.scp gives for audio, and keep what they write in OUT_audio",
    )
    parser.add_argument(
        "--cut",
        action="store_true",
        help="write stretches and channels of longer recordings as audio files, into OUT_cut",
    )
    parser.add_argument(
        "--features",
        action="store_true",
        help="take precomputed features (feats.scp) where audio is there too",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Convert, say what was done and what was lost, and return the exit status."""
    from asr.cli.progress import step_bar
    from asr.data.convert import convert

    with step_bar() as progress:
        done = convert(
            args.source,
            args.target,
            read_as=args.read_as,
            write_as=args.write_as,
            audio_dir=args.audio_dir,
            run_commands=args.run_commands,
            cut_parts=args.cut,
            features=args.features,
            progress=progress,
        )
    for note in done.notes:
        print(f"asr: {note}", file=sys.stderr)
    print(_summary(args.source, args.target, done))
    return 1 if done.missing else 0


def _summary(source: Path, target: Path, done: Converted) -> str:
    speakers = f"{done.speakers or 'unknown'} speaker{'s' * (done.speakers != 1)}"
    cut = f", {done.cut} cut into files" if done.cut else ""
    return (
        f"{done.utterances} utterances, {done.seconds / 3600:.2f} hours, {speakers}{cut}: "
        f"{source} (read as {done.read_as.name}) -> {target} (written as {done.written_as.name})"
    )
