"""Decode a manifest and score it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from asr.data.collate import pad
from asr.data.dataset import read_in_batches
from asr.data.manifest import to_record
from asr.errors import AsrError, DataError
from asr.files import atomic_write
from asr.models.ctc import ctc_loss
from asr.recognizer import Recognizer
from asr.scoring.wer import Score, score
from asr.types import Hypothesis, Utterance

BATCH_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Recognized:
    """An utterance, what was recognised, and how well the reference fits.

    Attributes
    ----------
    index : int
        Position in the manifest.
    reference : str
        Normalised transcript.
    num_tokens : int
        Tokens of the reference, without the words that the model has no tokens for.
    loss : float
        Negative log-probability of the reference in nats; infinite if it does not fit its frames.
    """

    index: int
    utterance: Utterance
    reference: str
    hypothesis: Hypothesis
    num_tokens: int
    loss: float


def recognize_utterances(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    *,
    on_error: Callable[[Utterance, AsrError], None],
    batch_seconds: float = BATCH_SECONDS,
) -> Iterator[Recognized]:
    """Yield every utterance's hypothesis, long utterances first.

    What cannot be read goes to `on_error`; the others still come.
    """
    groups = read_in_batches(
        utterances,
        recognizer.normalizer,
        recognizer.sample_rate,
        recognizer.num_features,
        batch_seconds,
        on_error,
    )
    recognizer.eval()
    for group in groups:
        inputs, lengths = pad([inputs for _, _, inputs, _ in group])
        with torch.inference_mode():
            log_probs, out_lengths = recognizer.log_probs(inputs, lengths)
            hypotheses = recognizer.decode(log_probs, out_lengths)
        for b, ((index, utterance, _, reference), hypothesis) in enumerate(
            zip(group, hypotheses, strict=True)
        ):
            tokens = torch.tensor([_spell(recognizer, reference)], device=log_probs.device)
            loss = ctc_loss(
                log_probs[b : b + 1], out_lengths[b : b + 1], tokens, torch.tensor([tokens.shape[1]])
            ).item()
            yield Recognized(index, utterance, reference, hypothesis, tokens.shape[1], loss)


def _spell(recognizer: Recognizer, text: str) -> list[int]:
    """Return the tokens of a text's words, without the words that the model has no tokens for.

    Only the loss is computed from them; the text is scored as it is.
    """
    tokenizer = recognizer.tokenizer
    return tokenizer.encode(" ".join(word for word in text.split() if not tokenizer.unknown(word)))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The score of a test set and the files that could not be read."""

    score: Score
    failures: tuple[str, ...]


def evaluate(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    output_dir: Path | None = None,
    progress: Callable[[float], None] = lambda seconds: None,
) -> Evaluation:
    """Decode and score utterances; write ``hyp.jsonl`` and ``wer.json`` if a folder is given.

    Parameters
    ----------
    progress : callable
        Called with the seconds of audio done since the last call.
    """
    failures: list[str] = []
    results = []
    for result in recognize_utterances(
        recognizer, utterances, on_error=lambda u, error: failures.append(f"{u.id}: {error}")
    ):
        results.append(result)
        progress(result.utterance.duration)
    if failures and not results:
        raise DataError(f"none of {len(failures)} utterances could be read; the first, {failures[0]}")
    results.sort(key=lambda r: r.index)
    # A model's texts have no alternatives: a brace is a character that it may know.
    total = score([r.reference for r in results], [r.hypothesis.text for r in results], alternatives=False)
    if output_dir is not None:
        output_dir.mkdir(parents=True, exist_ok=True)
        with atomic_write(output_dir / "hyp.jsonl") as path, open(path, "w", encoding="utf-8") as file:
            for result in results:
                file.write(json.dumps(_line(result, output_dir.absolute()), ensure_ascii=False) + "\n")
        with atomic_write(output_dir / "wer.json") as path:
            path.write_text(json.dumps(total.to_dict(), indent=2) + "\n")
    return Evaluation(total, tuple(failures))


def _line(result: Recognized, folder: Path) -> dict[str, object]:
    """Make a line of ``hyp.jsonl``: the manifest's fields with NeMo's ``pred_text`` and more."""
    hypothesis = result.hypothesis
    return to_record(result.utterance, folder) | {
        "id": result.utterance.id,
        "text": result.reference,
        "pred_text": hypothesis.text,
        "confidence": round(hypothesis.confidence, 4),
        "log_prob": round(hypothesis.log_prob, 4),
        "words": [
            {
                "word": word.text,
                "start": round(word.start, 3),
                "end": round(word.end, 3),
                "probability": round(word.confidence, 4),
            }
            for word in hypothesis.words
        ],
    }
