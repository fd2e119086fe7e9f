"""Voice activity: how probable speech is in each 32 ms of a recording, as it streams by."""

from __future__ import annotations

import importlib.util
import warnings
from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from asr.audio import Resampler
from asr.errors import ConfigError

FRAME = 0.032
"""Seconds that each probability speaks for."""

VadName = Literal["silero", "energy", "none"]


class Vad(ABC):
    """Takes a recording in blocks; gives a probability of speech for each `FRAME` that is complete."""

    @abstractmethod
    def push(self, samples: np.ndarray, *, final: bool = False) -> np.ndarray:
        """Take the next samples, float32 (N,); return probabilities, float32 (frames,), frames from 0.

        With `final`, the last frame is filled up with zeros.
        """


class _Framed(Vad):
    """Cuts the stream into whole frames at the detector's own rate."""

    def __init__(self, sample_rate: int, own_rate: int) -> None:
        self.frame_length = round(own_rate * FRAME)
        self._resampler = Resampler(sample_rate, own_rate)
        self._left = np.zeros(0, np.float32)

    def push(self, samples: np.ndarray, *, final: bool = False) -> np.ndarray:
        left = np.concatenate((self._left, self._resampler.push(samples, final=final)))
        if final:
            left = np.pad(left, (0, -len(left) % self.frame_length))
        whole = len(left) - len(left) % self.frame_length
        self._left = left[whole:]
        if not whole:
            return np.zeros(0, np.float32)
        return self._probabilities(left[:whole].reshape(-1, self.frame_length))

    @abstractmethod
    def _probabilities(self, frames: np.ndarray) -> np.ndarray:
        """Take frames, float32 (T, frame_length), T > 0; return float32 (T,)."""


class SileroVad(_Framed):
    """Silero VAD (github.com/snakers4/silero-vad, MIT), the weights of which lie in the package silero-vad.

    The package's own model takes one frame a call. Only its LSTM needs the frame before, so here all frames
    of a block go through the convolutions at once.

    What the network makes of a sound that is not clearly speech, as a note of music or a short word, depends
    on where its frames begin: moved by 10 ms, a note goes from 0.3 to 0.9. So it hears the recording `PHASES`
    times, each time moved by a part of a frame, and a probability is the mean.

    The LSTM hears the recording from its beginning on, and afresh: begun one to two seconds before each
    frame, at another moment in each phase, so that it matters little where the beginnings fall. Alone, the
    first grows deaf where speech is rare, and the second mistakes more sounds for speech. The first can stay
    deaf for hours; so there are two more like it, begun anew in turns every half minute, and the one that is
    surest of speech is believed. A probability is the mean of that and of the fresh one over three frames.
    The package's network for 8 kHz is not used: it misses more short words.

    Parameters
    ----------
    sample_rate : int
        Of the samples, Hz.

    Raises
    ------
    ConfigError
        The package is not installed.
    """

    RATE = 16000
    PHASES = 2
    """How often the recording is heard."""
    PERIOD = 32
    """Frames after which the LSTM begins afresh; a multiple of `PHASES`."""
    MEMORY = 1000
    """Frames between the beginnings of the LSTMs that are begun anew; each lives for twice as many."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__(sample_rate, self.RATE)
        self._network = _silero_network()
        # Samples that the next frames need: each comes with the end of the one before, and begins earlier in
        # all phases but the last.
        self._context, self._hop = self.frame_length // 8, self.frame_length // self.PHASES
        self._past = np.zeros(self._context + self.frame_length - self._hop, np.float32)
        # In each phase, of three LSTMs, the first begun with the recording, and the frames since the youngest
        # began.
        self._states: tuple[Tensor, Tensor] | None = None
        self._age = 0
        self._num_frames = 0
        # The last two periods' encoded frames, and the last two probabilities.
        self._encoded = torch.zeros(2 * self.PERIOD, self.PHASES, 128)
        self._last = np.zeros(2, np.float32)

    @torch.inference_mode()
    def _probabilities(self, frames: np.ndarray) -> np.ndarray:
        samples = np.concatenate((self._past, frames.ravel()))
        self._past = samples[len(samples) - len(self._past) :]
        inputs = torch.from_numpy(samples).unfold(0, self._context + self.frame_length, self._hop)
        encoded = self._network.encode(inputs).unflatten(0, (-1, self.PHASES))
        means = ((self._carried(encoded) + self._afresh(encoded)) / 2).numpy()
        padded = np.concatenate((self._last, means))
        self._last = padded[-2:]
        return np.convolve(padded, np.ones(3) / 3, "valid").astype(np.float32)

    def _carried(self, encoded: Tensor) -> Tensor:
        """Return probabilities of new frames (T, PHASES, 128), the most that an LSTM with a past gives."""
        found = []
        while len(encoded):
            left = self.MEMORY - self._age
            heard, self._states = self._network.decode(encoded[:left].repeat(1, 3, 1), self._states)
            found.append(heard.unflatten(1, (3, self.PHASES)).amax(dim=1).mean(dim=1))
            self._age += len(heard)
            encoded = encoded[left:]
            if self._age == self.MEMORY:  # the second is as old as it gets: the third takes its place
                self._age = 0
                n = self.PHASES
                h, c = (
                    torch.cat((s[:, :n], s[:, 2 * n :], torch.zeros_like(s[:, :n])), dim=1)
                    for s in self._states
                )
                self._states = h, c
        return torch.cat(found)

    def _afresh(self, encoded: Tensor) -> Tensor:
        """Return probabilities of new frames (T, PHASES, 128), the LSTM begun one to two periods before."""
        period = self.PERIOD
        known = torch.cat((self._encoded, encoded))  # from two periods before the new frames
        self._encoded = known[-2 * period :]
        pieces, starts = [], []
        for phase in range(self.PHASES):
            # Up to the first beginning that a new frame needs.
            skipped = (phase * period // self.PHASES - self._num_frames) % period or period
            pieces.append(F.pad(known[skipped:, phase], (0, 0, 0, period)).unfold(0, 2 * period, period))
            starts.append(skipped)
        self._num_frames += len(encoded)
        probabilities = self._network.decode(torch.cat(pieces).permute(2, 0, 1))[0][period:]
        total = torch.zeros(len(encoded))
        for start, values in zip(starts, probabilities.split([len(p) for p in pieces], dim=1), strict=True):
            total += values.T.flatten()[period - start :][: len(encoded)]
        return total / self.PHASES


class _SileroNetwork(nn.Module):
    """The network of silero-vad 5 and 6: a short-time spectrum, four convolutions, an LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.stft = nn.Conv1d(1, 258, 256, stride=128, bias=False)
        self.convolutions = nn.Sequential(
            *(nn.Conv1d(129, 128, 3, padding=1), nn.ReLU()),
            *(nn.Conv1d(128, 64, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv1d(64, 64, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv1d(64, 128, 3, padding=1), nn.ReLU()),
        )
        self.lstm = nn.LSTM(128, 128)
        self.head = nn.Linear(128, 1)

    def encode(self, inputs: Tensor) -> Tensor:
        """Map frames (T, context + frame_length) to what the LSTM takes, (T, 128)."""
        spectrum = self.stft(F.pad(inputs, (0, 64), mode="reflect")[:, None])
        real, imaginary = spectrum.chunk(2, dim=1)
        return self.convolutions((real.square() + imaginary.square()).sqrt()).squeeze(-1)

    def decode(
        self, encoded: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Map encoded frames (T, B, 128) to probabilities (T, B) and the LSTM's state."""
        x, state = self.lstm(encoded, state)
        return self.head(x.relu()).sigmoid().squeeze(-1), state


# Our names of the weights, in the order of the package's.
_SILERO_NAMES = (
    "stft.weight",
    *(f"convolutions.{i}.{kind}" for i in (0, 2, 4, 6) for kind in ("weight", "bias")),
    *(f"lstm.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
    *("head.weight", "head.bias"),
)


@lru_cache(maxsize=1)
def _silero_network() -> _SileroNetwork:
    path = _silero_path()
    if path is None:
        raise ConfigError("--vad silero: the package silero-vad is not installed; pip install silero-vad")
    with warnings.catch_warnings():
        # The file is TorchScript, which PyTorch no longer likes; only its weights are wanted.
        warnings.simplefilter("ignore")
        weights = torch.jit.load(path, map_location="cpu").state_dict()
    own = [tensor for name, tensor in weights.items() if name.startswith("_model.")]
    network = _SileroNetwork()
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    network.load_state_dict(
        {name: tensor.reshape(shapes[name]).clone() for name, tensor in zip(_SILERO_NAMES, own, strict=True)}
    )
    return network.eval()


def _silero_path() -> Path | None:
    # The package is not imported: doing so sets PyTorch to one thread.
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "data" / "silero_vad.jit"
    return path if path.is_file() else None


class EnergyVad(_Framed):
    """Speech is what is louder than the background, which is followed as it changes.

    The background is the lowest level of the last seconds. Speech is as probable as silence at `MARGIN`
    decibels above it. Tones and loud noise are speech to this detector; `SileroVad` tells them apart.

    Parameters
    ----------
    sample_rate : int
        Of the samples, Hz.
    """

    MARGIN = 12.0
    """Decibels above the background at which speech is as probable as not."""
    MEMORY = 10.0
    """Seconds in which the background shows itself."""
    _SLOPE = 3.0  # decibels that change the odds by a factor of e
    _FLOOR = -70.0  # dB of full scale below which nothing is heard

    def __init__(self, sample_rate: int) -> None:
        super().__init__(sample_rate, sample_rate)
        self._levels = np.zeros(0)

    def _probabilities(self, frames: np.ndarray) -> np.ndarray:
        power = np.square(frames, dtype=np.float64).mean(axis=1)
        new = np.maximum(10 * np.log10(power + 1e-12), self._FLOOR)
        memory = round(self.MEMORY / FRAME)
        levels = np.concatenate((self._levels, new))
        self._levels = levels[-memory:]
        padded = np.concatenate((np.full(memory - 1, np.inf), levels))
        background = np.lib.stride_tricks.sliding_window_view(padded, memory).min(axis=1)[-len(new) :]
        odds = (new - background - self.MARGIN) / self._SLOPE
        return (1 / (1 + np.exp(-odds))).astype(np.float32)


class NoVad(_Framed):
    """Takes everything for speech."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__(sample_rate, sample_rate)

    def _probabilities(self, frames: np.ndarray) -> np.ndarray:
        return np.ones(len(frames), np.float32)


DETECTORS: dict[VadName, type[SileroVad] | type[EnergyVad] | type[NoVad]] = {
    "silero": SileroVad,
    "energy": EnergyVad,
    "none": NoVad,
}


def best_vad() -> VadName:
    """Return "silero" where the package is installed, else "energy"."""
    return "energy" if _silero_path() is None else "silero"
