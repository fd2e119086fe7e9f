"""Decode a manifest and score it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from asr.data.collate import pad
from asr.data.dataset import read_in_batches
from asr.data.manifest import to_record
from asr.decoding.beam import BeamDecoder, Candidate
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
    candidates : tuple of Candidate
        The best texts of the beam search, if they were asked for.
    """

    index: int
    utterance: Utterance
    reference: str
    hypothesis: Hypothesis
    num_tokens: int
    loss: float
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class Computed:
    """A batch of utterances and what the model says of them.

    Attributes
    ----------
    indices : list of int
        Positions in the manifest.
    utterances : list of Utterance
    references : list of str
        Normalised transcripts.
    log_probs : Tensor, float32, (B, T, V)
    lengths : Tensor, int64, (B,)
    """

    indices: list[int]
    utterances: list[Utterance]
    references: list[str]
    log_probs: Tensor
    lengths: Tensor


def compute_log_probs(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    *,
    on_error: Callable[[Utterance, AsrError], None],
    batch_seconds: float = BATCH_SECONDS,
) -> Iterator[Computed]:
    """Yield batches of log-probabilities, long utterances first.

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
        indices, chosen, inputs, references = (list(column) for column in zip(*group, strict=True))
        with torch.inference_mode():
            log_probs, lengths = recognizer.log_probs(*pad(inputs))
        yield Computed(indices, chosen, references, log_probs, lengths)


def recognize_utterances(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    *,
    on_error: Callable[[Utterance, AsrError], None],
    batch_seconds: float = BATCH_SECONDS,
    nbest: int = 0,
) -> Iterator[Recognized]:
    """Yield every utterance's hypothesis, long utterances first; see `compute_log_probs`.

    Parameters
    ----------
    nbest : int
        At most so many texts of the beam search come along in `candidates`.
    """
    for batch in compute_log_probs(recognizer, utterances, on_error=on_error, batch_seconds=batch_seconds):
        log_probs, lengths = batch.log_probs, batch.lengths
        with torch.inference_mode():
            hypotheses = recognizer.decode(log_probs, lengths)
            candidates: list[list[Candidate]] = [[] for _ in hypotheses]
            if nbest and isinstance(recognizer.decoder, BeamDecoder):
                candidates = recognizer.decoder.nbest(log_probs, lengths, recognizer.tokenizer.pieces, nbest)
        for b, (index, utterance, reference) in enumerate(
            zip(batch.indices, batch.utterances, batch.references, strict=True)
        ):
            loss, num_tokens = reference_loss(recognizer, log_probs[b], lengths[b], reference)
            yield Recognized(
                index, utterance, reference, hypotheses[b], num_tokens, loss, tuple(candidates[b])
            )


def reference_loss(recognizer: Recognizer, log_probs: Tensor, length: Tensor, text: str) -> tuple[float, int]:
    """Return the negative log-probability of a normalised text, nats, and how many tokens it has.

    Words that the model has no tokens for are left out. Infinite if the text does not fit its frames.

    Parameters
    ----------
    log_probs : Tensor, float32, (T, V)
    length : Tensor, int64, ()
    """
    tokens = torch.tensor([_spell(recognizer, text)], device=log_probs.device)
    num_tokens = tokens.shape[1]
    loss = ctc_loss(log_probs[None], length[None], tokens, torch.tensor([num_tokens]))
    return loss.item(), num_tokens


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
    nbest: int = 0,
) -> Evaluation:
    """Decode and score utterances; write ``hyp.jsonl`` and ``wer.json`` if a folder is given.

    Parameters
    ----------
    nbest : int
        Write at most so many texts of the beam search for each utterance into ``nbest.jsonl``.
    progress : callable
        Called with the seconds of audio done since the last call.
    """
    failures: list[str] = []
    results = []
    for result in recognize_utterances(
        recognizer,
        utterances,
        on_error=lambda u, error: failures.append(f"{u.id}: {error}"),
        nbest=nbest,
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
        if nbest:
            with atomic_write(output_dir / "nbest.jsonl") as path, open(path, "w", encoding="utf-8") as file:
                for result in results:
                    file.write(json.dumps(_nbest_line(result), ensure_ascii=False) + "\n")
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


def _nbest_line(result: Recognized) -> dict[str, object]:
    """Make a line of ``nbest.jsonl``; scores are natural logarithms."""
    texts = [
        {
            "text": c.text,
            "acoustic": round(c.acoustic, 4),
            "language": round(c.language, 4),
            "rescored": round(c.rescored, 4),
            "bonus": round(c.bonus, 4),
            "total": round(c.total, 4),
        }
        for c in result.candidates
    ]
    return {"id": result.utterance.id, "nbest": texts}
