"""The acoustic model: subsampling, recurrent encoder and a linear head trained with CTC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from asr.build import build, problems
from asr.models.encoder import RecurrentEncoder
from asr.models.subsampling import Subsampling

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
        return self.subsampling.output_length(num_frames)

    @property
    def factor(self) -> int:
        """Input frames per output frame."""
        return self.subsampling.factor

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute log-probabilities.

        Parameters
        ----------
        frames : Tensor, float32, (B, T, F)
        lengths : Tensor, int64, (B,)
            Frames of each utterance, at least 1.

        Returns
        -------
        log_probs : Tensor, float32, (B, T', V)
            Natural logarithms; rows beyond an utterance's length hold no meaning.
        lengths : Tensor, int64, (B,)
            Output frames of each utterance.
        """
        x, lengths = self.subsampling(frames, lengths)
        x, lengths = self.encoder(x, lengths)
        return F.log_softmax(self.head(x).float(), dim=-1), lengths


def ctc_loss(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Return the negative log-probability of each utterance's tokens, float32 (B,), in nats.

    Infinite where an utterance has fewer frames than tokens plus adjacent repeats.

    Parameters
    ----------
    log_probs : Tensor, float32, (B, T, V)
    lengths, target_lengths : Tensor, int64, (B,)
    targets : Tensor, int64, (B, L)
    """
    return F.ctc_loss(
        log_probs.transpose(0, 1), targets, lengths, target_lengths, blank=BLANK, reduction="none"
    )


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
