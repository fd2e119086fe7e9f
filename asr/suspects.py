"""Utterances whose transcript a model does not believe: wrong texts, wrong audio, and hard speech."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from asr.data.checks.splits import Split
from asr.data.checks.suspect import Suspect
from asr.decoding.greedy import GreedyDecoder
from asr.errors import AsrError
from asr.evaluation import compute_log_probs, reference_loss
from asr.recognizer import Recognizer
from asr.scoring.wer import score
from asr.types import Utterance


def rank_suspects(
    recognizer: Recognizer,
    splits: Sequence[Split],
    progress: Callable[[float], object] = lambda seconds: None,
) -> list[Suspect]:
    """Return the utterances, those first whose transcript the model believes least.

    What cannot be read, spelled or fitted into its frames is left out: the other checks report it.

    Parameters
    ----------
    progress : callable
        Called with the seconds of audio done since the last call.
    """
    found = []
    for split in splits:
        # A set has one kind of input; a mixture is read in two parts.
        for of_features in (False, True):
            chosen = [
                (i, u)
                for i, u in enumerate(split.utterances)
                if (u.features_filepath is not None) == of_features
            ]
            found += _judge(recognizer, split, chosen, progress)
    return sorted(found, key=lambda suspect: -suspect.loss)


def _judge(
    recognizer: Recognizer,
    split: Split,
    chosen: Sequence[tuple[int, Utterance]],
    progress: Callable[[float], object],
) -> list[Suspect]:
    if not chosen:
        return []

    def skip(utterance: Utterance, error: AsrError) -> None:
        progress(utterance.duration)

    found = []
    greedy = GreedyDecoder()
    for batch in compute_log_probs(recognizer, [u for _, u in chosen], on_error=skip):
        hypotheses = greedy(
            batch.log_probs, batch.lengths, recognizer.tokenizer.pieces, recognizer.frame_shift
        )
        for b, hypothesis in enumerate(hypotheses):
            text = batch.references[b]
            progress(batch.utterances[b].duration)
            with torch.inference_mode():
                loss, num_tokens = reference_loss(recognizer, batch.log_probs[b], batch.lengths[b], text)
            if num_tokens == 0 or not math.isfinite(loss):
                continue
            rates = score([text], [hypothesis.text], alternatives=False)
            found.append(
                Suspect(
                    split=split,
                    index=chosen[batch.indices[b]][0],
                    text=text,
                    recognized=hypothesis.text,
                    loss=loss / num_tokens,
                    advantage=(loss + hypothesis.log_prob) / num_tokens,
                    wer=rates.wer,
                    cer=rates.cer,
                )
            )
    return found
