"""`asr pack`: write a manifest's audio into tar shards."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from asr.errors import ConfigError

EPILOG = """\
examples:
  asr pack train.jsonl shards/train
  asr pack train.jsonl shards/train --format flac --shard-size 1GB --jobs 8
  asr pack s3://corpus/train/ shards/train            shards can be packed anew
  asr train recipes/an4/blstm.yaml data.train=shards/train
  asr train recipes/an4/blstm.yaml data.train=s3://bucket/shards/train

Writes audio_0.tar, audio_1.tar, ... in WebDataset's layout (key.wav, key.txt, key.json), manifest.jsonl (the
index), and tarred_audio_manifest.json for NeMo. Utterances that are a part of a recording are cut out of it.
Interrupted, the same command goes on; a folder that is done is left as it is.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``asr pack``."""
    parser = subparsers.add_parser(
        "pack",
        help="write a manifest's audio into tar shards",
        description="Write a manifest's audio into tar shards that WebDataset, NeMo and this program read.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("manifest", help="JSON lines with audio_filepath, duration and text; or shards")
    parser.add_argument("output_dir", type=Path, metavar="OUT_DIR", help="folder of the shards")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        *("--shard-size", "--shard_size"),
        default="500MB",
        metavar="SIZE",
        help="about, as 200MB (default: 500MB)",
    )
    size.add_argument(
        *("--shard-utterances", "--shard_utterances"), type=int, metavar="N", help="in each shard"
    )
    parser.add_argument(
        "--format",
        choices=("keep", "flac", "wav"),
        default="keep",
        help="keep: files as they are; flac, wav: all encoded in 16 bits (default: keep)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of the order of utterances (default: 1)")
    parser.add_argument(
        *("--keep-order", "--keep_order"), action="store_true", help="of the manifest; do not shuffle"
    )
    parser.add_argument("--jobs", type=int, help="processes (default: one a core)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Pack."""
    from asr.cli.progress import count_bar
    from asr.data.manifest import Manifest
    from asr.data.pack import pack

    for name in ("jobs", "shard_utterances"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} {value}: give 1 or more")
    if args.seed < 0:
        raise ConfigError(f"--seed {args.seed}: give 0 or more")
    shard_bytes = parse_size(args.shard_size)
    utterances = Manifest(args.manifest)
    with count_bar("packing") as progress:
        made = pack(
            utterances,
            args.output_dir,
            shard_bytes=shard_bytes,
            shard_utterances=args.shard_utterances,
            format=args.format,
            seed=None if args.keep_order else args.seed,
            jobs=args.jobs or os.cpu_count() or 1,
            progress=progress,
        )
    print(
        f"{args.output_dir}: {made.utterances} utterances of {made.seconds / 3600:.2f} h in {made.shards} "
        f"shard{'' if made.shards == 1 else 's'} of {made.num_bytes / 1e6:.1f} MB"
    )
    if made.cut:
        print(f"{made.cut} utterances are parts of recordings and were cut out")
    if made.rounded:
        print(f"{made.rounded} utterances had more than 16 bits a sample and were rounded to that")
    return 0


def parse_size(text: str) -> int:
    """Return bytes from a number with or without kB, MB, GB or TB.

    Raises
    ------
    ConfigError
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([kKMGT]?)B?", text)
    size = float(found[1]) * 1000 ** " KMGT".index(found[2].upper() or " ") if found else 0.0
    if not 1 <= size < 1e18:
        raise ConfigError(f"--shard-size {text}: give a size such as 500MB")
    return int(size)
