"""A recogniser as one graph over padded batches, for exporters that trace what runs.

The toolkit's encoder works on packed rows, whose number depends on the values of the lengths. Here every
layer works on the padded batch and takes the lengths along, with the same weights and the same results: what
reads time backwards starts at an utterance's own last frame, and what mixes frames sees zeros behind it.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.errors import ModelError
from asr.export.recurrence import Recurrence, RecurrenceKind, rows
from asr.features import Extractor, FrontEnd
from asr.models.encoder import RecurrentEncoder
from asr.models.layers import RecurrentLayer
from asr.models.subsampling import mask_padding
from asr.recognizer import Recognizer


class ExportableModel(nn.Module):
    """Waveforms or precomputed frames to log-probabilities, ready to be traced.

    Parameters
    ----------
    recognizer : Recognizer
        Its weights are shared, not copied.
    kind : type of Recurrence
        How recurrent layers are written.

    Raises
    ------
    ModelError
        The front end has no statistics yet, or the encoder has a part that this form does not have.
    """

    def __init__(self, recognizer: Recognizer, kind: RecurrenceKind) -> None:
        super().__init__()
        self.features = exportable_front_end(recognizer.features)
        self.subsampling = recognizer.model.subsampling
        self.encoder = PaddedEncoder(recognizer.model.encoder, kind)
        self.head = recognizer.model.head
        self.margin = 2 * recognizer.model.factor

    def forward(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute log-probabilities.

        Parameters
        ----------
        inputs : Tensor, float32, (B, N) or (B, T, F)
            Waveforms with samples in [-1, 1], or precomputed frames.
        lengths : Tensor, int64, (B,)
            Samples or frames of each utterance, from 1.

        Returns
        -------
        log_probs : Tensor, float32, (B, T', V)
            Natural logarithms; rows beyond an utterance's length hold no meaning. T' is a few more than the
            longest length.
        lengths : Tensor, int64, (B,)
        """
        # Exporters take a case apart in which only one frame is left; frames of padding keep it away.
        padding = (0, self.margin * self.features.extractor.hop_length)
        inputs = F.pad(inputs, padding if inputs.ndim == 2 else (0, 0, 0, self.margin))
        x, lengths = self.features(inputs, lengths)
        x, lengths = self.subsampling(x, lengths)
        x, lengths = self.encoder(x, lengths)
        return F.log_softmax(self.head(x), dim=-1), lengths


def exportable_front_end(front_end: FrontEnd) -> FrontEnd:
    """Return a copy whose extractor is a convolution."""
    if front_end.normalize == "corpus" and not front_end.std.all():
        raise ModelError("normalize: corpus has no statistics yet; export a trained model")
    copied = copy.deepcopy(front_end)
    copied.extractor = ConvExtractor(front_end.extractor)  # type: ignore[assignment]
    return copied


class ConvExtractor(nn.Module):
    """An `Extractor` whose frames, window and Fourier transform are one convolution.

    They are linear, so that their response to single samples, measured in float64, is all there is to know.

    Parameters
    ----------
    extractor : Extractor
    """

    basis: Tensor

    def __init__(self, extractor: Extractor) -> None:
        super().__init__()
        self.extractor = extractor
        self.output_size, self.hop_length = extractor.output_size, extractor.hop_length
        exact = copy.deepcopy(extractor).double()
        # The second frame's response to the sample before it, which pre-emphasis sees, and to its own.
        num_samples = exact.hop_length + exact.window_length
        impulses = torch.eye(num_samples, dtype=torch.float64)[exact.hop_length - 1 :] * exact.scale
        spectrum = torch.fft.rfft(exact._frame(impulses)[:, 1] * exact.window, n=exact.n_fft)
        basis = torch.cat([spectrum.real, spectrum.imag], dim=1).T
        self.register_buffer("basis", basis.unsqueeze(1).float().contiguous(), persistent=False)

    def num_frames(self, num_samples: Tensor) -> Tensor:
        """Return how many frames so many samples, int64 (B,), give; see `Extractor.num_frames`."""
        return self.extractor.num_frames(num_samples)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Extract frames, and some that lie beyond the waveform; see `Extractor.forward`."""
        own = self.extractor
        # With a window of zeros behind it any waveform is long enough; the frames of these have no meaning.
        padded = F.pad(waveforms, (1, own.tail_length + own.window_length)).unsqueeze(1)
        real, imaginary = F.conv1d(padded, self.basis, stride=own.hop_length).chunk(2, dim=1)
        power = (real.square() + imaginary.square()).transpose(1, 2)
        return own.from_power(rows(power)).unflatten(0, power.shape[:2])


class PaddedEncoder(nn.Module):
    """A `RecurrentEncoder` over padded batches.

    Parameters
    ----------
    encoder : RecurrentEncoder
    kind : type of Recurrence
    """

    def __init__(self, encoder: RecurrentEncoder, kind: RecurrenceKind) -> None:
        super().__init__()
        # Without its layers, whose weights the recurrences have: they would be written twice.
        self.encoder = copy.copy(encoder)
        self.encoder._modules = {k: v for k, v in encoder._modules.items() if k != "layers"}
        self.recurrences = nn.ModuleList(kind(cast(RecurrentLayer, layer)) for layer in encoder.layers)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T, F) to (B, T', output_size); see `RecurrentEncoder.forward`."""
        own = self.encoder
        if own.chunk:
            return self._in_chunks(x, lengths), lengths
        for index, (reduction, recurrence) in enumerate(zip(own.reductions, self.recurrences, strict=True)):
            if reduction > 1:
                x = F.pad(mask_padding(x, lengths), (0, 0, 0, -x.shape[1] % reduction))
                x = x.unflatten(1, (-1, reduction)).flatten(2)
                lengths = -(-lengths // reduction)
            x = self._finish(index, x, recurrence(x, lengths))
        if own.lookahead is not None:
            x = own.lookahead(F.pad(mask_padding(x, lengths), (0, 0, 0, own.lookahead.context)))
        return x, lengths

    def _in_chunks(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Run over windows of a chunk and its right context, all windows of a layer together."""
        own = self.encoder
        size = own.chunk + own.right_context
        starts = torch.arange(0, x.shape[1], own.chunk, device=x.device)
        x = F.pad(x, (0, 0, 0, size))
        x = x[:, starts[:, None] + torch.arange(size, device=x.device)]  # (B, K, S, F)
        within = (lengths[:, None] - starts).clamp(0, size)
        for index, recurrence in enumerate(self.recurrences):
            y = cast(Recurrence, recurrence).in_windows(x, within, own.chunk)
            x = self._finish(index, x, y)
        return x[:, :, : own.chunk].clone(memory_format=torch.contiguous_format).flatten(1, 2)

    def _finish(self, index: int, x: Tensor, y: Tensor) -> Tensor:
        """See `RecurrentEncoder.finish`, which takes rows."""
        return self.encoder.finish(index, rows(x), rows(y)).unflatten(0, y.shape[:-1])
