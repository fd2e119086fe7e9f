"""How fast beam search is, beside bare flashlight-text and pyctcdecode in the same run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NUM_TOKENS = 29
BEAM = 50


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``bench.py decoder``."""
    parser = subparsers.add_parser(
        "decoder",
        help="frames a second of beam search",
        description="Frames a second of beam search without a language model on one core: 29 tokens, "
        "beam 50. A peer that is not installed is left out.",
    )
    parser.add_argument("--frames", type=int, default=400, help="of an utterance (default: 400)")
    parser.add_argument("--utterances", type=int, default=4, help="in a batch (default: 4)")
    parser.add_argument("--rounds", type=int, default=5, help="the median counts (default: 5)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Time the decoders in turn and print a line for each."""
    import torch

    torch.set_num_threads(1)
    pieces = ("", " ", *map(chr, range(ord("a"), ord("a") + NUM_TOKENS - 2)))
    for kind, sharpness in (("sharp", 9.0), ("flat", 0.0)):
        log_probs = make_log_probs(args.utterances, args.frames, sharpness)
        print(
            f"{kind} log-probabilities: most probable token {log_probs.exp().amax(2).mean():.2f} on average"
        )
        _race(log_probs, pieces, args.rounds)
    return 0


def _race(log_probs: Tensor, pieces: tuple[str, ...], rounds: int) -> None:
    """Time the decoders in turn on a batch (B, T, V)."""
    import torch

    from asr.decoding.beam import BeamDecoder

    lengths = torch.full((len(log_probs),), log_probs.shape[1])
    decoder = BeamDecoder(beam_size=BEAM)
    decoders: dict[str, Callable[[], object]] = {
        "asr": lambda: decoder(log_probs, lengths, pieces, 0.02),
        "bare flashlight-text": _flashlight(log_probs, decoder.beam_threshold, decoder.beam_size_token),
    }
    peer = _pyctcdecode(log_probs, pieces)
    if peer is None:
        print("  pyctcdecode is not installed: left out")
    else:
        decoders["pyctcdecode"] = peer
    seconds: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(rounds + 1):  # the first round warms up
        for name, decode in decoders.items():
            started = time.perf_counter()
            decode()
            seconds[name].append(time.perf_counter() - started)
    num_frames = log_probs.shape[0] * log_probs.shape[1]
    rates = {name: num_frames / median(times[1:]) for name, times in seconds.items()}
    for name, rate in rates.items():
        print(f"  {name:22} {rate:8.0f} frames/s   asr is {rates['asr'] / rate:.2f} times as fast")


def make_log_probs(num_utterances: int, num_frames: int, sharpness: float) -> Tensor:
    """Return log-probabilities (B, T, V): a token in every third frame, else blank, in noise.

    Parameters
    ----------
    sharpness : float
        How far the right logit stands above the others, whose standard deviation is 2; 0 leaves noise only.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    shape = (num_utterances, num_frames, NUM_TOKENS)
    path = torch.randint(1, NUM_TOKENS, shape[:2], generator=generator)
    path[:, torch.arange(num_frames) % 3 > 0] = 0
    logits = 2 * torch.randn(shape, generator=generator)
    return logits.scatter_add(2, path[:, :, None], torch.full((*shape[:2], 1), sharpness)).log_softmax(dim=2)


def _flashlight(log_probs: Tensor, beam_threshold: float, beam_size_token: int) -> Callable[[], object]:
    """Return flashlight's decoder with the same options, on each utterance of the batch."""
    from flashlight.lib.text.decoder import (
        CriterionType,
        LexiconFreeDecoder,
        LexiconFreeDecoderOptions,
        ZeroLM,
    )

    options = LexiconFreeDecoderOptions(
        beam_size=BEAM,
        beam_size_token=beam_size_token,
        beam_threshold=beam_threshold,
        lm_weight=0.0,
        sil_score=0.0,
        log_add=True,
        criterion_type=CriterionType.CTC,
    )
    lm = ZeroLM()
    decoder = LexiconFreeDecoder(options, lm, -1, 0, [])
    rows = [row.contiguous() for row in log_probs]
    return lambda: [(lm, decoder.decode(row.data_ptr(), *row.shape)) for row in rows]


def _pyctcdecode(log_probs: Tensor, pieces: tuple[str, ...]) -> Callable[[], object] | None:
    try:
        from pyctcdecode import build_ctcdecoder
    except ImportError:
        return None
    import logging

    logging.getLogger("pyctcdecode").setLevel(logging.ERROR)
    decoder = build_ctcdecoder(list(pieces))
    rows = [row.numpy() for row in log_probs]
    return lambda: [decoder.decode(row, beam_width=BEAM) for row in rows]
