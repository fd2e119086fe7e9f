"""`asr prepare`: make a recipe's manifests."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

EPILOG = """\
examples:
  asr prepare recipes/digits
  asr prepare recipes/an4 --archive ~/Downloads/an4_feat.tar.gz
  asr prepare recipes/fsdd --output-dir corpora/fsdd speaker=theo
  asr prepare recipes/librispeech --archive /corpora/LibriSpeech train=960
  asr prepare lhotse:cmu_arctic --archive corpora/cmu_arctic     any corpus that lhotse knows

--archive takes an archive, a folder that holds the archives, or a folder that they were unpacked in. Without
it, both are looked for in the folder that ASR_ARCHIVES names; what is not there is downloaded. A download
that was interrupted goes on where it was, and what is unpacked is not unpacked again.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``asr prepare``."""
    parser = subparsers.add_parser(
        "prepare",
        help="turn a corpus into manifests",
        description="Turn a corpus into train, dev and test manifests.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", help="a recipe's folder, such as recipes/an4, or lhotse:CORPUS")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="options of the recipe's prepare.py"
    )
    parser.add_argument(
        "--archive",
        type=Path,
        metavar="FILE_OR_FOLDER",
        help="the corpus, if you have it: its archive, a folder with its archives, or what they unpack to",
    )
    parser.add_argument("--output-dir", type=Path, help="where the data go (default: data/RECIPE)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prepare."""
    import yaml

    if args.recipe.startswith("lhotse:"):
        return _prepare_lhotse(args)

    from asr.build import argument_problems
    from asr.cli.config import SUPPLIED, find_recipe, load_prepare, recipe_options
    from asr.errors import ConfigError

    folder = find_recipe(args.recipe)
    if folder.is_file():
        folder = folder.parent
    known = recipe_options({"data": {"recipe": str(folder)}})
    options: dict[str, Any] = {}
    for item in args.overrides:
        key, separator, value = item.partition("=")
        if not separator or key not in known:
            raise ConfigError(f"{item}: not an option of {args.recipe}; known: {', '.join(known) or 'none'}")
        options[key] = yaml.safe_load(value)
    mistakes = argument_problems(load_prepare(str(folder)), options, args.recipe, supplied=SUPPLIED)
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    output_dir = args.output_dir or Path("data") / folder.name
    prepare(str(folder), output_dir, options, archive=args.archive)
    return 0


def _prepare_lhotse(args: argparse.Namespace) -> int:
    import yaml

    from asr.cli.progress import step_bar
    from asr.data.lhotse_corpora import prepare_corpus
    from asr.errors import ConfigError

    corpus = args.recipe.removeprefix("lhotse:")
    options = {}
    for item in args.overrides:
        key, separator, value = item.partition("=")
        if not separator:
            raise ConfigError(f"{item}: not key=value; options are those of lhotse's prepare_{corpus}")
        options[key] = yaml.safe_load(value)
    output_dir = args.output_dir or Path("data") / corpus
    with step_bar() as progress:
        count = prepare_corpus(
            corpus,
            output_dir,
            folder=args.archive,
            options=options,
            progress=progress,
            say=lambda message: print(f"asr: {message}", file=sys.stderr),
        )
    for name, number in count.items():
        print(f"{output_dir / name}.jsonl: {number} utterances")
    return 0


def prepare(recipe: str, output_dir: Path, options: dict[str, Any], archive: Path | None = None) -> None:
    """Call a recipe's ``prepare`` and say where the manifests are; a second process waits for the first."""
    import inspect

    from asr.cli.config import load_prepare
    from asr.cli.progress import count_bar
    from asr.files import UNFINISHED, wait_for_lock

    def note(message: str) -> None:
        print(f"note: {message}", file=sys.stderr, flush=True)

    function = load_prepare(recipe)
    if "note" in inspect.signature(function).parameters:
        options = {**options, "note": note}
    with (
        wait_for_lock(output_dir / ".prepare.lock", note),
        count_bar(f"preparing {Path(recipe).name}") as progress,
    ):
        for path in output_dir.glob(UNFINISHED):  # what a process was writing when it was killed
            path.unlink(missing_ok=True)
        function(output_dir, archive=archive, progress=progress, **options)
    print(f"manifests are under {output_dir}", file=sys.stderr)
