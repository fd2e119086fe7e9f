"""The options that choose a decoder, shared by the commands that decode."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import AsrError, ConfigError, DataError

if TYPE_CHECKING:
    from asr.recognizer import Recognizer

GREEDY = {"_target_": "asr.decoding.greedy.GreedyDecoder"}
BEAM = {"_target_": "asr.decoding.beam.BeamDecoder"}

# Options of `BeamDecoder` that a user may set one by one.
OPTIONS = ("beam_size", "lm_weight", "word_bonus", "lm_unit", "unknown_words", "hotwords", "hotword_boost")


def add_option(parser: Any, name: str, **options: Any) -> None:
    """Add an option that may be spelled with hyphens or underscores."""
    spellings = dict.fromkeys([f"--{name.replace('_', '-')}", f"--{name}"])
    parser.add_argument(*spellings, dest=name, **options)


def add_language_model_arguments(parser: Any) -> None:
    """Add what describes a language model, its lexicon and hotwords."""
    add_option(
        parser, "lexicon", type=Path, metavar="FILE", help="words to recognise, 'word token ...' a line"
    )
    add_option(
        parser,
        "lm_unit",
        choices=("word", "character", "piece"),
        help="of an n-gram model (default: it says)",
    )
    add_option(
        parser,
        "unknown_words",
        choices=("spell", "refuse"),
        help="words outside the lexicon: spelled by their letters, or never written (default: spell)",
    )
    add_option(
        parser,
        "hotwords",
        type=_list,
        metavar="A,B,...",
        help="words and phrases to prefer, with commas between",
    )
    add_option(
        parser, "hotword_boost", type=float, metavar="X", help="nats for each character of them (default: 1)"
    )


def add_decoder_arguments(parser: Any) -> None:
    """Add the options of decoding; without them the model's own decoder is used."""
    group = parser.add_argument_group("decoding", "default: as the model file says, which 'asr tune' sets")
    add_option(group, "decoder", choices=("greedy", "beam"), help="greedy: best path, no language model")
    add_option(group, "beam_size", type=int, metavar="N", help="prefixes that beam search keeps")
    add_option(
        group, "lm", type=Path, metavar="FILE", help="language model: ARPA, KenLM binary or recurrent .asr"
    )
    add_option(group, "lm_weight", type=float, metavar="X", help="of the language model (default: 1)")
    add_option(group, "word_bonus", type=float, metavar="X", help="nats for each word (default: 0)")
    add_language_model_arguments(group)


def choose_decoder(recognizer: Recognizer, args: argparse.Namespace, threads: int | None = None) -> None:
    """Give a recogniser the decoder that the options ask for, and say what is unusual.

    Parameters
    ----------
    threads : int, optional
        Processes that decode together; by default one a core.

    Raises
    ------
    AsrError
    """
    from asr.decoding.beam import BeamDecoder

    chosen = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    wants_beam = bool(chosen or args.lm or args.lexicon or getattr(args, "nbest", None))
    if args.decoder == "greedy":
        if wants_beam:
            raise ConfigError(
                "--decoder greedy takes no language model, hotwords, beam or n-best; leave them out"
            )
        if recognizer.config["decoder"]["_target_"] != GREEDY["_target_"]:
            recognizer.use_decoder(GREEDY)
    elif wants_beam or args.decoder == "beam":
        config, assets = dict(recognizer.config["decoder"]), dict(recognizer.decoder.assets)
        if config["_target_"] != BEAM["_target_"]:
            config, assets = dict(BEAM), {}
        if args.lm:
            # Weights, lexicon and calibration of the model's own language model say nothing about another.
            for name in ("lm_weight", "word_bonus", "rescore_weight", "calibration"):
                config.pop(name, None)
            assets = {}
        assets |= read_assets(recognizer, args.lm, args.lexicon)
        recognizer.use_decoder(config | chosen, assets)
    if isinstance(recognizer.decoder, BeamDecoder):
        recognizer.decoder.num_workers = threads or available_cores()
    for note in recognizer.decoder.prepare(recognizer.tokenizer.pieces):
        print(f"asr: {note}", file=sys.stderr)


def read_assets(
    recognizer: Recognizer, lm: Path | None, lexicon: Path | None, rescorer: Path | None = None
) -> dict[str, bytes]:
    """Read and check the files that a decoder needs.

    Raises
    ------
    DataError, ModelError
        Naming the file.
    """
    from asr.decoding.lexicon import Lexicon

    assets = {}
    for name, path in (("lm", lm), ("rescorer", rescorer)):
        if path is not None:
            assets[name] = _read_language_model(path)
    if lexicon is not None:
        try:
            content = lexicon.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{lexicon}: not UTF-8 ({error.reason}); convert it") from error
        read = Lexicon.from_text(content, str(lexicon), recognizer.tokenizer.pieces)
        assets["lexicon"] = read.to_text().encode()
    return assets


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_language_model(path: Path) -> bytes:
    from asr.decoding.scorers import is_arpa, load_scorer
    from asr.lm.arpa import read_arpa

    if not path.is_file():
        raise DataError(f"{path}: no such language model; make one with 'asr lm train'")
    content = path.read_bytes()
    if is_arpa(content):
        read_arpa(path)
    try:
        load_scorer(content)
    except AsrError as error:
        raise type(error)(f"{path}: {error}") from error
    return content


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",")]
