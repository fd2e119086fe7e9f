"""Everything between a waveform and its text: front end, acoustic model, tokens, decoder.

Validation during training, `asr evaluate` and `asr transcribe` all decode through `Recognizer`, in
float32 unless another type is chosen, so that the same audio gives the same text in each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from asr.build import build
from asr.data.checks.problems import Problem
from asr.data.checks.utterances import Depth, check_utterances, ctc_min_frames
from asr.data.collate import pad
from asr.decoding.base import Decoder
from asr.features import FrontEnd
from asr.models.ctc import CtcModel, build_model
from asr.text import Normalizer, Tokenizer
from asr.types import Hypothesis, Utterance


class Recognizer(nn.Module):
    """A front end, a CTC model, a tokenizer, a normaliser and a decoder that belong together.

    Parameters
    ----------
    features : FrontEnd
    model : CtcModel
    tokenizer : Tokenizer
    normalizer : Normalizer
    decoder : Decoder
    config : mapping
        From which the parts can be built again: ``features, model, tokenizer, text, decoder``.
    max_train_seconds : float, optional
        Length of the longest utterance that the model was trained on.

    Attributes
    ----------
    compute_type : {"float32", "bfloat16"}
        What the model's products are computed in; features and log-probabilities are always float32.
    """

    def __init__(
        self,
        features: FrontEnd,
        model: CtcModel,
        tokenizer: Tokenizer,
        normalizer: Normalizer,
        decoder: Decoder,
        config: Mapping[str, Any],
        max_train_seconds: float | None = None,
    ) -> None:
        super().__init__()
        self.features = features
        self.model = model
        self.tokenizer = tokenizer
        self.normalizer = normalizer
        self.decoder = decoder
        self.config = dict(config)
        self.max_train_seconds = max_train_seconds
        self.compute_type: Literal["float32", "bfloat16"] = "float32"

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        max_train_seconds: float | None = None,
        assets: Mapping[str, bytes] | None = None,
    ) -> Recognizer:
        """Build one with fresh weights from ``features, model, tokenizer, text, decoder``.

        Parameters
        ----------
        assets : mapping of str to bytes, optional
            Files that the decoder needs, such as its language model.
        """
        config = {key: config[key] for key in ("features", "model", "tokenizer", "text", "decoder")}
        features = build(config["features"], FrontEnd)
        tokenizer = build(config["tokenizer"], Tokenizer)
        model = build_model(config["model"], features.output_size, tokenizer.vocabulary_size)
        return cls(
            features,
            model,
            tokenizer,
            build(config["text"], Normalizer),
            build(config["decoder"], Decoder, **({"assets": assets} if assets else {})),
            config,
            max_train_seconds,
        )

    def use_decoder(self, config: Mapping[str, Any], assets: Mapping[str, bytes] | None = None) -> None:
        """Replace the decoder by what `config` and `assets` describe.

        Raises
        ------
        ConfigError, DataError
        """
        self.decoder = build(config, Decoder, **({"assets": assets} if assets else {}))
        self.config["decoder"] = dict(config)

    @property
    def sample_rate(self) -> int:
        """Hertz of the waveforms that the front end takes."""
        return self.features.sample_rate

    @property
    def num_features(self) -> int:
        """Coefficients a frame that the front end computes, or takes if they are precomputed."""
        return self.features.extractor.output_size

    @property
    def frame_shift(self) -> float:
        """Seconds per output frame of the model."""
        return self.features.frame_shift * self.model.factor

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return self.model.head.weight.device

    def output_length(self, seconds: float) -> int:
        """Return the number of output frames, T', for audio of so many seconds."""
        num_samples = round(seconds * self.sample_rate)
        return self.model.output_length(self.features.num_frames(num_samples))

    def fits(self, inputs: Tensor, tokens: Sequence[int]) -> bool:
        """Tell whether a waveform (N,) or frames (T, F) have output frames enough for tokens under CTC."""
        num_frames = self.features.num_frames(len(inputs)) if inputs.ndim == 1 else len(inputs)
        return self.model.output_length(num_frames) >= ctc_min_frames(tokens)

    def problems(self, utterances: Sequence[Utterance], read: Depth = "headers") -> list[Problem]:
        """List what is wrong with utterances for this model; see `check_utterances` in `asr.data.checks`."""
        return check_utterances(
            utterances,
            normalizer=self.normalizer,
            tokenizer=self.tokenizer,
            output_length=self.output_length,
            sample_rate=self.sample_rate,
            read=read,
        )

    def log_probs(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map waveforms (B, N) or precomputed frames (B, T, F) to float32 (B, T', V) and lengths (B,)."""
        frames, lengths = self.features(inputs.to(self.device), lengths.to(self.device))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.compute_type == "bfloat16"):
            return self.model(frames, lengths)

    @torch.inference_mode()
    def recognize(self, inputs: Tensor, lengths: Tensor) -> list[Hypothesis]:
        """Decode a padded batch of waveforms (B, N) or precomputed frames (B, T, F), float32."""
        training = self.training
        self.eval()
        try:
            return self.decode(*self.log_probs(inputs, lengths))
        finally:
            self.train(training)

    def decode(self, log_probs: Tensor, lengths: Tensor) -> list[Hypothesis]:
        """Turn log-probabilities (B, T', V) into hypotheses."""
        return self.decoder(log_probs, lengths, self.tokenizer.pieces, self.frame_shift)

    def recognize_audio(self, waveforms: Sequence[np.ndarray]) -> list[Hypothesis]:
        """Decode waveforms, each float32 (N,) in [-1, 1] at `sample_rate`."""
        return self.recognize(*pad([torch.from_numpy(w) for w in waveforms]))
