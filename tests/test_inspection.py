"""Gates against the model they come from; the gradient's reach against autograd and by hand."""

import pytest
import torch

from asr.errors import DataError, ModelError
from asr.inspection import (
    GradientReach,
    Observation,
    Observed,
    gradient_reach,
    main_gates,
    observe,
    spectrogram,
    trace_gates,
)
from asr.models.cells import GRU, LSTM, RNN, LiGRU
from asr.models.encoder import RecurrentEncoder
from asr.types import Hypothesis

WORDS = {"_target_": "asr.text.WordTokenizer", "words": ["one", "two", "three"]}
CELLS = {
    "rnn": lambda: RNN(3, 4),
    "relu": lambda: RNN(3, 4, candidate_activation="relu"),
    "lstm": lambda: LSTM(3, 4),
    "lstm with projection": lambda: LSTM(3, 4, proj_size=2),
    "gru": lambda: GRU(3, 4),
    "ligru": lambda: LiGRU(3, 4, norm="layer"),
}


def at_work(cell, x, gradient, direction="forward", frame_shift=0.02):
    """Put a cell into an observation, as if a model had run it."""
    observed = Observed(
        layer=1,
        direction=direction,
        kind=type(cell).__name__,
        cell=cell,
        inputs=x,
        output=cell(x, reverse=direction == "backward").detach(),
        output_gradient=gradient,
        frame_shift=frame_shift,
    )
    return Observation(Hypothesis("", (), (), 0.0, 1.0), torch.zeros(x.shape[1], 2), 0.0, (observed,))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "rnn_relu", "ligru"])
def test_gates_are_those_of_the_model(cell, tiny_recognizer):
    recognizer = tiny_recognizer(WORDS, cell=cell, stride=3)
    waveform = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    observation = observe(recognizer, waveform)
    recognized = recognizer.recognize(waveform[None], torch.tensor([8000]))[0]
    assert observation.hypothesis.tokens == recognized.tokens
    assert observation.loss is None
    assert [(o.layer, o.direction) for o in observation.layers] == [(1, "forward"), (1, "backward")]
    frames = recognizer.output_length(1.0)
    for observed in observation.layers:
        trace = trace_gates(observed)
        assert trace.max_difference < 1e-5
        assert trace.kind == {"rnn_relu": "RNN", "ligru": "LiGRU"}.get(cell, cell.upper())
        assert trace.frame_shift == pytest.approx(recognizer.frame_shift)
        assert all(values.shape == (frames, 16) for values in trace.gates.values())
        torch.testing.assert_close(trace.gates["hidden"], observed.output[0], atol=1e-5, rtol=0)


def with_encoder(recognizer, **options):
    """Give a recogniser another encoder, with random weights."""
    torch.manual_seed(0)
    encoder = RecurrentEncoder(16, hidden_size=8, num_layers=2, **options)
    recognizer.model.encoder = encoder
    recognizer.model.head = torch.nn.Linear(encoder.output_size, recognizer.tokenizer.vocabulary_size)
    return recognizer.eval()


@pytest.mark.parametrize(
    ("options", "directions", "shifts"),
    [
        ({"directions": "sum", "residual": True}, 2, [0.02, 0.02]),
        ({"proj_size": 4, "projection": 6}, 2, [0.02, 0.02]),
        ({"reductions": [2]}, 2, [0.02, 0.04]),
        ({"bidirectional": False, "lookahead": 3}, 1, [0.02, 0.02]),
        ({"cell": "ligru", "norm": "batch"}, 2, [0.02, 0.02]),
    ],
)
def test_every_encoder_can_be_looked_into(tiny_recognizer, options, directions, shifts):
    recognizer = with_encoder(tiny_recognizer(WORDS), **options)
    waveform = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    observation = observe(recognizer, waveform, [1, 2])
    assert len(observation.layers) == 2 * directions
    for observed in observation.layers:
        trace = trace_gates(observed)
        assert trace.max_difference < 1e-5
        assert trace.frame_shift == pytest.approx(shifts[observed.layer - 1])
        assert observed.output_gradient.abs().max() > 0
    for reach in gradient_reach([observation], max_frames=10):
        assert len(reach.curve()) == 11
        assert reach.curve().isfinite().all()


def test_an_encoder_in_chunks_is_refused(tiny_recognizer):
    recognizer = with_encoder(tiny_recognizer(WORDS), chunk=4, right_context=2)
    with pytest.raises(
        ModelError, match=r"starts anew in every one; inspect one trained without encoder\.chunk"
    ):
        observe(recognizer, torch.zeros(8000))


def test_the_loss_is_that_of_the_target_and_its_gradient_enters_the_layers(tiny_recognizer):
    recognizer = tiny_recognizer(WORDS)
    waveform = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    target = recognizer.tokenizer.encode("one three")
    observation = observe(recognizer, waveform, target)
    expected = torch.nn.functional.ctc_loss(
        observation.log_probs[:, None],
        torch.tensor([target]),
        torch.tensor([len(observation.log_probs)]),
        torch.tensor([2]),
        reduction="sum",
    )
    assert observation.loss == pytest.approx(expected.item())
    # A small move of the layer's output changes the loss as the gradient says.
    norm, head = recognizer.model.encoder.norms[0], recognizer.model.head
    y = torch.cat([observed.output for observed in observation.layers], 2).double()
    step = 1e-6 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradient = torch.cat([observed.output_gradient for observed in observation.layers], 2)

    def loss(y):
        log_probs = head.double()(norm.double()(y)).log_softmax(2)
        return torch.nn.functional.ctc_loss(
            log_probs[0][:, None],
            torch.tensor([target]),
            torch.tensor([y.shape[1]]),
            torch.tensor([2]),
            reduction="sum",
        )

    assert (loss(y + step) - loss(y)).item() == pytest.approx((gradient * step).sum().item(), rel=1e-3)


def test_without_a_target_the_model_s_own_text_is_taken(tiny_recognizer):
    recognizer = tiny_recognizer(WORDS)
    waveform = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    own = observe(recognizer, waveform, own_text=True)
    assert own.hypothesis.tokens
    assert own.loss == pytest.approx(observe(recognizer, waveform, own.hypothesis.tokens).loss)


def test_a_target_that_does_not_fit_is_refused(tiny_recognizer):
    recognizer = tiny_recognizer(WORDS)
    with pytest.raises(DataError, match=r"80 tokens do not fit \d+ output frames; correct the text"):
        observe(recognizer, torch.zeros(8000), [1, 2] * 40)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_reach_is_what_autograd_gives_frame_by_frame(name, direction):
    torch.manual_seed(0)
    cell = CELLS[name]().eval()
    T = 6
    x, gradient = torch.randn(1, T, 3), torch.randn(1, T, cell.output_size)
    (reach,) = gradient_reach([at_work(cell, x, gradient, direction)], max_frames=100)

    order = list(range(T)) if direction == "forward" else list(range(T - 1, -1, -1))
    inputs = cell.input_products(x, torch.ones(1, T, dtype=torch.bool))
    states = [cell.initial_state(x)]
    for t in order:
        states.append(cell.step(inputs[:, t], states[-1])[0])
    sums, starts = torch.zeros(T), torch.zeros(T)
    for i, t in enumerate(order):
        for k in range(i + 1):
            # Start from the state k frames earlier, all its parts free, and run up to frame t.
            start = tuple(part.detach().requires_grad_() for part in states[i - k + 1])
            state = start
            for later in order[i - k + 1 : i + 1]:
                state, _ = cell.step(inputs[:, later].detach(), state)
            found = torch.autograd.grad((state[0] * gradient[0, t]).sum(), start, allow_unused=True)
            sums[k] += torch.cat([g[0] for g in found if g is not None]).norm()
            starts[k] += gradient[0, t].norm()
    torch.testing.assert_close(reach.curve().float(), sums / starts, atol=1e-5, rtol=1e-5)
    assert reach.curve()[0] == 1
    assert set(reach.sums) == ({"state", "hidden", "cell"} if isinstance(cell, LSTM) else {"state", "hidden"})


@pytest.mark.parametrize(("weight", "seconds", "largest"), [(0.5, 0.06, 1.0), (1.1, None, 1.1**19)])
def test_one_linear_unit_forgets_or_grows_by_its_weight(weight, seconds, largest):
    # h_t = w h_{t-1} + x_t, all positive: d h_t / d h_{t-k} = w^k (Bengio et al., 1994).
    cell = RNN(1, 1, bias=False, candidate_activation="relu")
    cell.weight_ih.data.fill_(1.0)
    cell.weight_hh.data.fill_(weight)
    (reach,) = gradient_reach([at_work(cell, torch.ones(1, 20, 1), torch.ones(1, 20, 1))], max_frames=19)
    expected = torch.tensor([weight**k for k in range(len(reach.curve()))], dtype=torch.float64)
    torch.testing.assert_close(reach.curve(), expected, atol=0, rtol=1e-5)
    assert reach.seconds(0.1) == (None if seconds is None else pytest.approx(seconds))  # 0.5^3 > 0.1 > 0.5^4
    assert reach.curve().max() == pytest.approx(expected.max())
    assert len(reach.curve()) == 19  # lags that fewer than a tenth of the 20 frames have are left out
    assert reach.curve().max() <= largest


def test_utterances_are_pooled():
    torch.manual_seed(0)
    cell = GRU(3, 4)
    observations = [at_work(cell, torch.randn(1, T, 3), torch.randn(1, T, 4)) for T in (5, 9)]
    (pooled,) = gradient_reach(observations, max_frames=6)
    singles = [gradient_reach([o], max_frames=6)[0] for o in observations]
    assert pooled.counts.tolist() == [14, 12, 10, 8, 6, 4, 3]
    for k in range(5):
        expected = sum(s.sums["state"][k] for s in singles) / sum(s.starts[k] for s in singles)
        assert pooled.curve()[k] == pytest.approx(expected.item())


def test_seconds_where_it_falls_at_once():
    reach = GradientReach(1, "forward", "RNN", 0.02)
    reach.add({"state": torch.tensor([1.0, 0.3, 0.2])}, torch.ones(3), torch.tensor([3, 2, 1]))
    assert reach.seconds(0.5) == 0.0
    assert reach.seconds(0.25) == pytest.approx(0.02)
    assert reach.seconds(0.1) is None


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        (LSTM, ["input", "forget", "output", "cell"]),
        (GRU, ["reset", "update", "hidden"]),
        (LiGRU, ["update", "hidden"]),
        (RNN, ["hidden"]),
    ],
)
def test_main_gates_show_the_memory(cell, names):
    assert main_gates(cell.INSIDE) == names


def test_spectrogram_of_a_full_scale_tone():
    rate = 16000
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(rate) / rate)
    image = spectrogram(tone, rate)
    middle = image[:, image.shape[1] // 2]
    assert middle.argmax().item() * rate / (2 * len(middle) - 2) == 1000
    assert middle.max().item() == pytest.approx(0, abs=0.01)
    assert image.shape[1] == pytest.approx(100, abs=2)
