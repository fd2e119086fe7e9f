"""How fast beam search is, beside bare flashlight-text and pyctcdecode in the same run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from operator import truediv
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
        "beam 50; the other settings stand beside each line. A peer that is not installed is left out.",
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
    threshold, num_tried = decoder.beam_threshold, decoder.beam_size_token
    settings = f"threshold {threshold:g}, {num_tried} tokens a frame"
    decoders: dict[str, tuple[Callable[[], object], str]] = {
        "asr": (
            lambda: decoder(log_probs, lengths, pieces, 0.02),
            f"{settings}; with exact scores, word times and confidence",
        ),
        "bare flashlight-text": (_flashlight(log_probs, threshold, num_tried), f"{settings}; token ids only"),
    }
    decoders |= _pyctcdecode(log_probs, pieces, threshold, num_tried)
    seconds: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(rounds + 1):  # the first round warms up
        for name, (decode, _) in decoders.items():
            started = time.perf_counter()
            decode()
            seconds[name].append(time.perf_counter() - started)
    num_frames = log_probs.shape[0] * log_probs.shape[1]
    for name, (_, setting) in decoders.items():
        # Rounds are compared one by one, so that what else the machine does falls on both.
        ratio = median(map(truediv, seconds[name][1:], seconds["asr"][1:]))
        rate = num_frames / median(seconds[name][1:])
        print(f"  {name:22} {rate:8.0f} frames/s   asr is {ratio:5.2f} times as fast   ({setting})")


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


def _pyctcdecode(
    log_probs: Tensor, pieces: tuple[str, ...], beam_threshold: float, beam_size_token: int
) -> dict[str, tuple[Callable[[], object], str]]:
    """Return pyctcdecode with its own token cut-off and with one that tries as many tokens as we do.

    It cuts tokens off by probability, not by number; so the second keeps as many on average.
    """
    try:
        import pyctcdecode
        from pyctcdecode.constants import DEFAULT_MIN_TOKEN_LOGP
    except ImportError:
        print("  pyctcdecode is not installed: left out")
        return {}
    import logging

    import torch

    logging.getLogger("pyctcdecode").setLevel(logging.ERROR)
    decoder = pyctcdecode.build_ctcdecoder(list(pieces))
    rows = [row.numpy() for row in log_probs]
    ranked = log_probs.flatten().sort(descending=True).values
    alike = ranked[beam_size_token * log_probs.shape[0] * log_probs.shape[1] - 1].item()

    def with_cutoff(log_prob: float) -> tuple[Callable[[], object], str]:
        options = {"beam_width": BEAM, "beam_prune_logp": -beam_threshold, "token_min_logp": log_prob}
        mean = torch.count_nonzero(log_probs >= log_prob, dim=2).double().mean()
        setting = f"threshold {beam_threshold:g}, tokens above {log_prob:.1f} nats: {mean:.1f} a frame"
        return lambda: [decoder.decode(row, **options) for row in rows], setting

    return {
        "pyctcdecode, its own": with_cutoff(DEFAULT_MIN_TOKEN_LOGP),
        "pyctcdecode, alike": with_cutoff(alike),
    }
