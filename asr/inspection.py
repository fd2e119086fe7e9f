"""What happens inside a model: gates over time, and how far back the gradient of the loss reaches.

Each recurrent layer's input is taken from the running model and read again by the reference cell of
`asr.models.cells` with the layer's weights, which hands out every gate. How far its states are from what
the model itself computed is part of every result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from asr.errors import DataError, ModelError
from asr.models.cells import Cell, LiGRU, from_torch
from asr.models.ctc import ctc_loss
from asr.models.layers import RecurrentLayer
from asr.recognizer import Recognizer
from asr.types import Hypothesis

Direction = Literal["forward", "backward"]


@dataclass(frozen=True, slots=True)
class Observed:
    """One layer and direction at work on one utterance.

    Attributes
    ----------
    layer : int
        From 1, the one next to the input.
    direction : {"forward", "backward"}
    kind : str
        The cell: ``LSTM``, ``GRU``, ...
    cell : Cell
        The reference cell with the layer's weights.
    inputs : Tensor, float32, (1, T, F)
        What the layer reads.
    output : Tensor, float32, (1, T, P)
        This direction's part of what the layer gave, P units.
    output_gradient : Tensor, float32, (1, T, P), or None
        Of the loss, if there was one.
    frame_shift : float
        Seconds a frame.
    """

    layer: int
    direction: Direction
    kind: str
    cell: Cell
    inputs: Tensor
    output: Tensor
    output_gradient: Tensor | None
    frame_shift: float


@dataclass(frozen=True, slots=True)
class Observation:
    """A model at work on one utterance.

    Attributes
    ----------
    hypothesis : Hypothesis
    log_probs : Tensor, float32, (T', V)
    loss : float or None
        Negative log-probability of the target in nats.
    layers : tuple of Observed
        From the input up, forward before backward.
    """

    hypothesis: Hypothesis
    log_probs: Tensor
    loss: float | None
    layers: tuple[Observed, ...]


@dataclass(frozen=True, slots=True)
class GateTrace:
    """The gates of one layer and direction over one utterance.

    Attributes
    ----------
    gates : dict of str to Tensor, float32, (T, H)
        By name; for an LSTM also ``cell``, for all cells ``hidden``.
    max_difference : float
        The largest difference between the reference cell's states and what the model computed.
    """

    layer: int
    direction: Direction
    kind: str
    frame_shift: float
    gates: dict[str, Tensor]
    max_difference: float


def observe(
    recognizer: Recognizer, inputs: Tensor, target: Sequence[int] | None = None, *, own_text: bool = False
) -> Observation:
    """Run a model in evaluation mode on one utterance and keep what its recurrent layers read and gave.

    Parameters
    ----------
    inputs : Tensor, float32
        Waveform (N,) or precomputed frames (T, F).
    target : sequence of int, optional
        Tokens whose CTC loss is differentiated.
    own_text : bool
        Take the recognised tokens as target if there is none.

    Raises
    ------
    DataError
        The target needs more frames than there are.
    ModelError
        The model runs in chunks and has no states over the whole utterance.
    """
    if recognizer.model.encoder.chunk:
        raise ModelError(
            "a model that reads both directions in chunks starts anew in every one; "
            "inspect one trained without encoder.chunk"
        )
    recognizer.eval()
    modules = [m for m in recognizer.model.encoder.modules() if isinstance(m, RecurrentLayer)]
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keep(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        seen[module] = arguments[0], output

    hooks = [module.register_forward_hook(keep) for module in modules]
    for module in modules:
        if isinstance(module.rnn, nn.RNNBase):
            module.rnn.train()  # cuDNN has gradients in no other mode; nothing in it depends on the mode
    try:
        with torch.enable_grad():
            frames, lengths = recognizer.features(
                inputs[None].to(recognizer.device), torch.tensor([len(inputs)], device=recognizer.device)
            )
            log_probs, out_lengths = recognizer.model(frames, lengths)
    finally:
        recognizer.eval()
        for hook in hooks:
            hook.remove()
    hypothesis = recognizer.decode(log_probs.detach(), out_lengths)[0]
    if target is None and own_text:
        target = hypothesis.tokens
    loss, gradients = None, dict.fromkeys(modules, None)
    if target is not None:
        tokens = torch.tensor([list(target)], dtype=torch.int64, device=log_probs.device)
        total = ctc_loss(log_probs, out_lengths, tokens, torch.tensor([tokens.shape[1]])).sum()
        if not total.isfinite():
            raise DataError(
                f"{len(target)} tokens do not fit {int(out_lengths)} output frames; correct the text"
            )
        found = torch.autograd.grad(total, [seen[module][1] for module in modules])
        loss, gradients = total.item(), dict(zip(modules, found, strict=True))
    layers: list[Observed] = []
    for number, module in enumerate(modules, 1):
        x, y = (tensor.detach() for tensor in seen[module])
        # One utterance alone: its packed rows are its frames. A pyramid has fewer of them the higher it gets.
        shift = recognizer.features.frame_shift * round(int(lengths) / len(x))
        layers += _directions(module, number, x, y, gradients[module], shift)
    return Observation(hypothesis, log_probs.detach()[0], loss, tuple(layers))


def _directions(
    layer: RecurrentLayer, number: int, x: Tensor, y: Tensor, gradient: Tensor | None, frame_shift: float
) -> list[Observed]:
    directions: list[Direction] = ["forward", "backward"]
    observed = []
    for d, direction in enumerate(directions[: layer.num_directions]):
        cell = reference_cell(layer, reverse=direction == "backward")
        part = slice(d * cell.output_size, (d + 1) * cell.output_size)
        observed.append(
            Observed(
                number,
                direction,
                type(cell).__name__,
                cell,
                x[None],
                y[None, :, part],
                None if gradient is None else gradient[None, :, part],
                frame_shift,
            )
        )
    return observed


def reference_cell(layer: RecurrentLayer, reverse: bool = False) -> Cell:
    """Make the reference cell of one direction of an encoder's layer, weights included, for evaluation."""
    rnn = layer.rnn
    if isinstance(rnn, nn.RNNBase):
        return from_torch(rnn, reverse=reverse).eval()
    norm = rnn.norm_reverse if reverse else rnn.norm
    name: Literal["none", "layer", "batch"] = "none"
    if not isinstance(norm, nn.Identity):
        name = "layer" if isinstance(norm, nn.LayerNorm) else "batch"
    cell = LiGRU(rnn.weight_ih_l0.shape[1], rnn.hidden_size, norm=name)
    cell.to(rnn.weight_ih_l0.device)
    cell.load(rnn, reverse=reverse)
    cell.norm.load_state_dict(norm.state_dict())
    return cell.eval()


@torch.no_grad()
def trace_gates(observed: Observed) -> GateTrace:
    """Return every gate of a layer and direction over the utterance."""
    trace = observed.cell.trace(observed.inputs, reverse=observed.direction == "backward")
    return GateTrace(
        observed.layer,
        observed.direction,
        observed.kind,
        observed.frame_shift,
        {name: values[0].cpu() for name, values in trace.gates.items()},
        (trace.output - observed.output).abs().max().item(),
    )


def main_gates(available: Iterable[str]) -> list[str]:
    """Return those of a cell's gates that show its memory: without the candidate, and one state only."""
    names = list(available)
    return [n for n in names if n != "candidate" and (n != "hidden" or "cell" not in names)]


def spectrogram(samples: Tensor, sample_rate: int) -> Tensor:
    """Return the power spectrum in decibels, float32 (F, T): 25 ms Hann windows centred every 10 ms.

    Row f is at f * sample_rate / (2 F - 2) Hz; full scale is 0 dB.

    Parameters
    ----------
    samples : Tensor, float32, (N,)
    """
    window = torch.hann_window(round(0.025 * sample_rate))
    n_fft = 1 << (len(window) - 1).bit_length()
    spectrum = torch.stft(
        torch.nn.functional.pad(samples, (n_fft // 2, n_fft // 2)),
        n_fft,
        hop_length=round(0.01 * sample_rate),
        win_length=len(window),
        window=window,
        center=False,
        return_complex=True,
    )
    return 20 * (spectrum.abs() * 2 / window.sum()).clamp(min=1e-6).log10()


@dataclass(slots=True)
class GradientReach:
    """How far back the gradient of the loss reaches within one layer and direction.

    For the part of the loss that enters the layer at frame t, the gradient that arrives at its state k
    frames earlier *in the order of reading* through this layer's own recurrence is

        v(t, k) = d s_t / d s_{t-k} applied to d loss / d y_t

    where s is all that the cell carries (hidden, and for an LSTM the cell state) and y_t the layer's output.
    What comes down to y_t from the layers above is included, what the layer's other frames add is not. The
    reach at k is sum_t |v(t, k)| / sum_t |v(t, 0)| over the frames t that have k frames before them and over
    all utterances: 1 at k = 0; below 1 the gradient has shrunk, above it has grown.

    Attributes
    ----------
    sums : dict of str to Tensor, float64, (K,)
        Sums over frames and utterances of |v(t, k)|, for ``state`` and for its parts ``hidden``, ``cell``.
    starts : Tensor, float64, (K,)
        Sums of |v(t, 0)| over the same frames.
    counts : Tensor, int64, (K,)
        How many frames.
    """

    layer: int
    direction: Direction
    kind: str
    frame_shift: float
    sums: dict[str, Tensor] = field(default_factory=dict)
    starts: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    counts: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def add(self, norms: dict[str, Tensor], starts: Tensor, counts: Tensor) -> None:
        """Add an utterance's sums, of as many lags as it has frames."""
        for name, sums in norms.items():
            self.sums[name] = _add(self.sums.get(name, sums.new_zeros(0)), sums)
        self.starts, self.counts = _add(self.starts, starts), _add(self.counts, counts)

    def curve(self, part: str = "state") -> Tensor:
        """Return the reach at every lag that a tenth of the frames have before them, float64 (K,)."""
        K = int((self.counts >= self.counts[0] / 10).sum())
        return self.sums[part][:K] / self.starts[:K]

    def seconds(self, level: float) -> float | None:
        """Return the longest lag, in seconds, up to which the reach stays at `level` or above.

        None if it never falls below.
        """
        below = (self.curve() < level).nonzero()
        return None if len(below) == 0 else max(int(below[0]) - 1, 0) * self.frame_shift


def _add(a: Tensor, b: Tensor) -> Tensor:
    total = torch.zeros(max(len(a), len(b)), dtype=b.dtype)
    total[: len(a)] += a
    total[: len(b)] += b
    return total


def gradient_reach(observations: Iterable[Observation], max_frames: int) -> list[GradientReach]:
    """Measure the reach of every layer and direction, pooled over utterances.

    Parameters
    ----------
    observations : iterable of Observation
        Of one model, each with a loss.
    max_frames : int
        The longest lag, K - 1.
    """
    reaches: dict[tuple[int, str], GradientReach] = {}
    for observation in observations:
        for observed in observation.layers:
            key = observed.layer, observed.direction
            reach = reaches.setdefault(
                key,
                GradientReach(*key, observed.kind, observed.frame_shift),
            )
            reach.add(*_propagate(observed, max_frames))
    return list(reaches.values())


def _propagate(observed: Observed, max_frames: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Carry the gradient entering at every frame back through the recurrence, all frames at once.

    A step of the cell treats the rows of a batch separately. With one state in all rows and another
    vector in each, one backward pass multiplies all vectors by the step's Jacobian.
    """
    cell = observed.cell
    assert observed.output_gradient is not None
    order = (
        slice(None) if observed.direction == "forward" else torch.arange(observed.inputs.shape[1] - 1, -1, -1)
    )
    deltas = observed.output_gradient[0][order]
    T = len(deltas)
    with torch.no_grad():
        everywhere = torch.ones(1, T, dtype=torch.bool, device=deltas.device)
        inputs = cell.input_products(observed.inputs, everywhere)[0][order]
        states = [cell.initial_state(observed.inputs)]
        for t in range(T):
            states.append(cell.step(inputs[t : t + 1], states[-1])[0])
    K = min(T, max_frames + 1)
    parts = ("hidden", "cell")[: len(states[0])]
    sums = {name: torch.zeros(K, dtype=torch.float64) for name in ("state", *parts)}
    norms = deltas.double().norm(dim=1).cpu()  # float32 squares would end at 1e-19
    starts, counts = torch.zeros(K, dtype=torch.float64), torch.zeros(K, dtype=torch.int64)
    # Row k belongs to the gradient that entered k frames later than the frame at hand.
    vectors = [deltas.new_zeros(0, part.shape[1]) for part in states[0]]
    for t in range(T - 1, -1, -1):
        entering = [deltas[t : t + 1], *(v.new_zeros(1, v.shape[1]) for v in vectors[1:])]
        vectors = [torch.cat([new, old])[:K] for new, old in zip(entering, vectors, strict=True)]
        rows = len(vectors[0])
        for name, values in zip(sums, (torch.cat(vectors, dim=1), *vectors), strict=True):
            sums[name][:rows] += values.double().norm(dim=1).cpu()
        starts[:rows] += norms[t : t + rows]
        counts[:rows] += 1
        before = [part.expand(rows, -1).detach().requires_grad_() for part in states[t]]
        after, _ = cell.step(inputs[t].expand(rows, -1), tuple(before))
        vectors = list(torch.autograd.grad(after, before, vectors))
    return sums, starts, counts
