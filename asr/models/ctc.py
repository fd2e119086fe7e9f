"""The acoustic model: subsampling, recurrent encoder and a linear head trained with CTC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.build import build, problems
from asr.models.encoder import EncoderState, RecurrentEncoder
from asr.models.subsampling import Subsampling, SubsamplingStream

BLANK = 0
PARTS = {"subsampling": Subsampling, "encoder": RecurrentEncoder}


class CtcModel(nn.Module):
    """Frames to log-probabilities over tokens and blank, one distribution per output frame.

    Connectionist temporal classification: Graves et al., ICML 2006. Token 0 is the blank.

    Parameters
    ----------
    subsampling : Subsampling
    encoder : RecurrentEncoder
        With ``input_size == subsampling.output_size``.
    vocabulary_size : int
        Tokens including the blank, V.
    """

    def __init__(self, subsampling: Subsampling, encoder: RecurrentEncoder, vocabulary_size: int) -> None:
        super().__init__()
        self.subsampling = subsampling
        self.encoder = encoder
        self.head = nn.Linear(encoder.output_size, vocabulary_size)

    def output_length(self, num_frames: int) -> int:
        """Return T', the number of output frames, for `num_frames` input frames."""
        return self.encoder.output_length(self.subsampling.output_length(num_frames))

    @property
    def factor(self) -> int:
        """Input frames per output frame."""
        return self.subsampling.factor * self.encoder.factor

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute log-probabilities.

        Parameters
        ----------
        frames : Tensor, float32, (B, T, F)
        lengths : Tensor, int64, (B,)
            Frames of each utterance, 0 to T.

        Returns
        -------
        log_probs : Tensor, float32, (B, T', V)
            Natural logarithms; rows beyond an utterance's length hold no meaning.
        lengths : Tensor, int64, (B,)
            Output frames of each utterance.

        Raises
        ------
        ValueError
            If a length does not lie in the batch or is no integer.
        """
        if lengths.shape != frames.shape[:1] or lengths.is_floating_point():
            raise ValueError(
                f"lengths: expected integers of shape ({len(frames)},), found {lengths.dtype} "
                f"{tuple(lengths.shape)}"
            )
        if len(lengths) and not 0 <= lengths.min() <= lengths.max() <= frames.shape[1]:
            raise ValueError(f"lengths: expected 0 to {frames.shape[1]}, found {lengths.tolist()}")
        x, lengths = self.subsampling(frames.to(self.head.weight.dtype), lengths.long())
        x, lengths = self.encoder(x, lengths)
        return F.log_softmax(self.head(x).float(), dim=-1), lengths

    def stream(self) -> CtcStream:
        """Return a stream that takes frames as they come; see `CtcStream`.

        Raises
        ------
        ValueError
            If the encoder needs whole utterances.
        """
        return CtcStream(self)


class CtcStream:
    """Computes log-probabilities of frames as they come, equal to those of all frames at once.

    For encoders of one direction, and for those of two that were trained in chunks.

    Parameters
    ----------
    model : CtcModel
        In evaluation mode.

    Examples
    --------
    ::

        stream = model.stream()
        for frames in chunks:  # (B, T, F)
            log_probs = stream.push(frames)
        log_probs = stream.push(frames[:, :0], final=True)
    """

    def __init__(self, model: CtcModel) -> None:
        self.model = model
        self.subsampling = SubsamplingStream(model.subsampling)
        self.state: EncoderState | None = None
        if model.encoder.bidirectional and not model.encoder.chunk:
            raise ValueError("this model's encoder needs whole utterances; it cannot stream")

    @torch.inference_mode()
    def push(self, frames: Tensor, *, final: bool = False) -> Tensor:
        """Take (B, T, F) frames; return the log-probabilities (B, T', V) that they settle, T' from 0."""
        x = self.subsampling.push(frames, final=final)
        x, self.state = self.model.encoder.stream(x, self.state, final=final)
        return F.log_softmax(self.model.head(x).float(), dim=-1)


def ctc_loss(
    log_probs: Tensor,
    lengths: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    *,
    delay_penalty: float = 0.0,
    delayed: int | None = None,
) -> Tensor:
    """Return the negative log-probability of each utterance's tokens, float32 (B,), in nats.

    Infinite where an utterance has fewer frames than tokens plus adjacent repeats.

    Parameters
    ----------
    log_probs : Tensor, float32, (B, T, V)
    lengths, target_lengths : Tensor, int64, (B,)
    targets : Tensor, int64, (B, L)
    delay_penalty : float
        Nats that a path loses for every frame between the begin of a token and that of `delayed` behind it.
        CTC itself does not ask when a space is written, as long as it is in its place. (Yao et al.,
        Interspeech 2023, arXiv:2305.11539, penalise the delay of every token.) With it the loss takes a step
        of Python for every frame: some 40 ms for 16 utterances of 250 frames on a CPU, in place of 7.
    delayed : int, optional
        A token, such as the space.
    """
    if delay_penalty:
        if delayed is None:
            raise ValueError("delay_penalty needs the token whose delay is penalised")
        return _delay_penalized(log_probs, lengths, targets, target_lengths, delay_penalty, delayed)
    return F.ctc_loss(
        log_probs.transpose(0, 1), targets, lengths, target_lengths, blank=BLANK, reduction="none"
    )


def _delay_penalized(
    log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, penalty: float, delayed: int
) -> Tensor:
    """Do what `ctc_loss` does with a penalty: the forward recursion over S = 2L + 1 states."""
    B, T, _ = log_probs.shape
    S = 2 * targets.shape[1] + 1
    states = targets.new_full((B, S), BLANK)
    states[:, 1::2] = targets
    # A path waits in the token before the delayed one, and in the blank between.
    awaited = (targets == delayed) & (
        torch.arange(targets.shape[1], device=targets.device) < target_lengths[:, None]
    )
    waits = torch.zeros_like(states, dtype=torch.bool)
    waits[:, 2:-1:2] = waits[:, 1:-2:2] = awaited[:, 1:]
    scores = log_probs.gather(2, states[:, None].expand(B, T, S)) - penalty * waits[:, None]
    # Far below any path, and finite: the gradient of a sum of nothing but infinities is not a number.
    nothing = -1e30
    skips = torch.zeros_like(states, dtype=torch.bool)
    skips[:, 3::2] = targets[:, 1:] != targets[:, :-1]
    first = torch.full_like(scores[:, 0], nothing)
    first[:, :2] = scores[:, 0, :2]
    forward = [first]
    for t in range(1, T):
        stay = forward[-1]
        step = F.pad(stay[:, :-1], (1, 0), value=nothing)
        skip = F.pad(stay, (2, 0), value=nothing)[:, :S].masked_fill(~skips, nothing)
        forward.append(torch.stack((stay, step, skip)).logsumexp(0) + scores[:, t])
    last = torch.stack(forward, 1)[torch.arange(B, device=lengths.device), (lengths - 1).clamp(min=0)]
    before_end = 2 * target_lengths[:, None] - torch.arange(S, device=lengths.device)
    ends = last.masked_fill((before_end != 0) & (before_end != 1), nothing)
    losses = -ends.logsumexp(1)
    impossible = (losses > 1e29) | (lengths < 1)
    return torch.where(impossible, losses.new_tensor(float("inf")), losses)


def model_problems(config: Mapping[str, Any], path: str = "model") -> list[str]:
    """List the mistakes in a ``{subsampling, encoder}`` configuration."""
    if not isinstance(config, Mapping):
        return [f"{path}: expected {' and '.join(PARTS)}, found {config!r}"]
    found = [f"{path}.{key}: unknown; known: {', '.join(PARTS)}" for key in config if key not in PARTS]
    for part, kind in PARTS.items():
        found += problems(config.get(part), f"{path}.{part}", supplied=("input_size",), kind=kind)
    return found


def build_model(config: Mapping[str, Any], input_size: int, vocabulary_size: int) -> CtcModel:
    """Build a model from ``{subsampling: {...}, encoder: {...}}``, sizes filled in from left to right."""
    subsampling = build(config["subsampling"], Subsampling, input_size=input_size)
    encoder = build(config["encoder"], RecurrentEncoder, input_size=subsampling.output_size)
    return CtcModel(subsampling, encoder, vocabulary_size)


def num_parameters(model: nn.Module) -> int:
    """Count trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
