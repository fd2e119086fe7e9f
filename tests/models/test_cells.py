"""The reference cells against `torch.nn`, against equations worked by hand, and alone against in a batch."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.models.cells import ACTIVATIONS, CELLS, GRU, LSTM, RNN, Cell, LiGRU, from_torch

TORCH = {
    "rnn tanh": lambda **options: nn.RNN(6, 5, **options),
    "rnn relu": lambda **options: nn.RNN(6, 5, nonlinearity="relu", **options),
    "lstm": lambda **options: nn.LSTM(6, 5, **options),
    "lstm with projection": lambda **options: nn.LSTM(6, 5, proj_size=3, **options),
    "gru": lambda **options: nn.GRU(6, 5, **options),
}
LENGTHS = torch.tensor([11, 3, 1, 8])
FAMILY = {
    "rnn": lambda: RNN(6, 5),
    "rnn relu": lambda: RNN(6, 5, candidate_activation="relu"),
    "lstm": lambda: LSTM(6, 5),
    "lstm with projection": lambda: LSTM(6, 5, proj_size=3),
    "gru": lambda: GRU(6, 5),
    "ligru": lambda: LiGRU(6, 5),
    "ligru layer": lambda: LiGRU(6, 5, norm="layer"),
    "ligru batch": lambda: LiGRU(6, 5, norm="batch"),
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("bias", [True, False])
def test_equals_torch_in_outputs_states_and_gradients(name, bias):
    rnn = TORCH[name](num_layers=2, bidirectional=True, batch_first=True, bias=bias)
    x = torch.randn(4, 11, 6, requires_grad=True)
    packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    result, state = rnn(packed)
    expected, _ = pad_packed_sequence(result, batch_first=True)
    expected.square().mean().backward()
    expected_grad, x.grad = x.grad.clone(), None

    cells = {
        (layer, reverse): from_torch(rnn, layer, reverse) for layer in (0, 1) for reverse in (False, True)
    }
    y, final = x, []
    for layer in (0, 1):
        traces = [cells[layer, reverse].trace(y, LENGTHS, reverse=reverse) for reverse in (False, True)]
        y = torch.cat([trace.output for trace in traces], dim=2)
        final += [trace.state for trace in traces]
    y.square().mean().backward()

    torch.testing.assert_close(y, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(x.grad, expected_grad, atol=1e-6, rtol=0)
    states = state if isinstance(state, tuple) else (state,)
    for ours, theirs in zip(zip(*final, strict=True), states, strict=True):
        torch.testing.assert_close(torch.stack(ours), theirs, atol=1e-6, rtol=0)
    gradients = dict(rnn.named_parameters())
    for (layer, reverse), cell in cells.items():
        for key, parameter in cell.named_parameters():
            theirs = gradients[f"{key}_l{layer}" + ("_reverse" if reverse else "")].grad
            torch.testing.assert_close(parameter.grad, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", TORCH)
def test_weights_go_back_to_torch(name):
    source = TORCH[name](bidirectional=True)
    target = TORCH[name](bidirectional=True)
    for reverse in (False, True):
        from_torch(source, reverse=reverse).store(target, reverse=reverse)
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value), key


def test_keeps_the_type_of_the_weights():
    assert from_torch(nn.GRU(6, 5).double()).weight_ih.dtype == torch.float64
    cell = from_torch(nn.LSTM(6, 5).bfloat16())
    assert cell(torch.randn(2, 3, 6).bfloat16()).dtype == torch.bfloat16


def test_weights_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"weight_ih_l0 is \(20, 6\), this cell has \(15, 6\)"):
        GRU(6, 5).load(nn.LSTM(6, 5))
    with pytest.raises(ValueError, match="weight_ih_l0_reverse is missing"):
        GRU(6, 5).load(nn.GRU(6, 5), reverse=True)
    with pytest.raises(TypeError, match="Linear is none of"):
        from_torch(nn.Linear(6, 5))


def one_unit(cell: Cell, weight_ih: list[float], weight_hh: list[float]) -> Cell:
    """Give a cell of one input and one unit its weights, a row a gate, without biases."""
    cell.weight_ih.data = torch.tensor(weight_ih)[:, None]
    cell.weight_hh.data = torch.tensor(weight_hh)[:, None]
    for bias in (cell.bias_ih, cell.bias_hh):
        bias.data.zero_()
    return cell


def test_ligru_follows_its_equations():
    # Ravanelli et al. (2018), equations 8-10 without normalisation, two frames worked by hand:
    # z = sigmoid(Wz x + Uz h), a = relu(Wa x + Ua h), h = z h + (1 - z) a.
    cell = one_unit(LiGRU(1, 1), [0.5, 2.0], [1.0, -0.5])
    trace = cell.trace(torch.tensor([[[1.0], [-3.0]]]))

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    z1 = sigmoid(0.5)
    h1 = (1 - z1) * 2.0
    z2 = sigmoid(-1.5 + h1)
    h2 = z2 * h1  # the candidate relu(-6 - h1 / 2) is 0
    assert trace.gates["update"].flatten().tolist() == pytest.approx([z1, z2])
    assert trace.gates["candidate"].flatten().tolist() == pytest.approx([2.0, 0.0])
    assert trace.output.flatten().tolist() == pytest.approx([h1, h2])


def test_gates_have_their_names():
    # Only one gate's weights differ from zero: that gate moves with the input, the others stay at sigmoid(0).
    for kind in (LSTM, GRU, LiGRU):
        for row, name in enumerate(kind.GATES):
            cell = one_unit(kind(1, 1), [0.0] * len(kind.GATES), [0.0] * len(kind.GATES))
            cell.weight_ih.data[row] = 3.0
            gates = cell.trace(torch.ones(1, 1, 1)).gates
            moved = {k for k in kind.GATES if gates[k].item() not in (0.5, 0.0)}
            assert moved == {name}


@pytest.mark.parametrize("name", FAMILY)
def test_every_gate_comes_for_every_frame_and_nothing_in_the_padding(name):
    cell = FAMILY[name]()
    trace = cell.trace(torch.randn(4, 11, 6), LENGTHS, reverse=True)
    assert tuple(trace.gates) == cell.INSIDE
    for values in (trace.output, *trace.gates.values()):
        assert values.shape[:2] == (4, 11)
        assert not values[1, 3:].any()
    assert trace.output.shape[2] == cell.output_size


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("reverse", [False, True])
def test_alone_as_in_a_batch_forward_and_gradient(name, reverse):
    cell = FAMILY[name]().eval()
    x = torch.randn(4, 11, 6)
    batch = cell(x, LENGTHS, reverse=reverse)
    batch.square().sum().backward()
    gradients = {key: parameter.grad.clone() for key, parameter in cell.named_parameters()}
    cell.zero_grad()
    for b, length in enumerate(LENGTHS.tolist()):
        alone = cell(x[b : b + 1, :length], reverse=reverse)
        torch.testing.assert_close(alone[0], batch[b, :length], atol=1e-6, rtol=0)
        alone.square().sum().backward()
    for key, parameter in cell.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[key], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("norm", "same"), [("none", True), ("layer", True), ("batch", False)])
def test_only_batch_norm_depends_on_the_batch_while_training(norm, same):
    cell = LiGRU(6, 5, norm=norm)
    x = torch.randn(4, 11, 6)
    difference = (cell(x[:1])[0] - cell(x)[0]).abs().max()
    assert bool(difference < 1e-6) is same


def test_batch_norm_sees_no_padding():
    cell = LiGRU(6, 5, norm="batch")
    x = torch.randn(4, 11, 6)
    noisy = x.clone()
    noisy[1, 3:] = 1e3
    assert torch.equal(cell(x, LENGTHS)[1, :3], cell(noisy, LENGTHS)[1, :3])


def test_starts_from_a_state_and_hands_it_on():
    for make in FAMILY.values():
        cell = make().eval()
        x = torch.randn(2, 9, 6)
        first = cell.trace(x[:, :4])
        rest = cell.trace(x[:, 4:], state=first.state)
        torch.testing.assert_close(torch.cat([first.output, rest.output], 1), cell(x), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # at -4, -1, 0, 2, computed from the definitions in PyTorch's documentation
        ("sigmoid", [0.01798621, 0.26894142, 0.5, 0.88079708]),
        ("hard_sigmoid", [0.0, 1 / 3, 0.5, 5 / 6]),
        ("tanh", [-0.99932930, -0.76159416, 0.0, 0.96402758]),
        ("relu", [0.0, 0.0, 0.0, 2.0]),
        ("leaky_relu", [-0.04, -0.01, 0.0, 2.0]),
        ("softmax", [0.00208719, 0.04192238, 0.11395685, 0.84203357]),
    ],
)
def test_activations(name, expected):
    assert ACTIVATIONS[name](torch.tensor([-4.0, -1, 0, 2])).tolist() == pytest.approx(
        expected, abs=2e-8, rel=1e-6
    )


@pytest.mark.parametrize("kind", CELLS.values())
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_selectable(kind, activation):
    cell = kind(6, 5, gate_activation=activation, candidate_activation=activation)
    x = torch.randn(1, 1, 6)
    rows = torch.nn.functional.linear(x[0], cell.weight_ih, cell.bias_ih + cell.bias_hh)
    first = cell.trace(x).gates
    for name, argument in cell.by_gate(rows).items():
        if name in first and not (kind is GRU and name == "candidate"):  # where a gate scales the bias
            torch.testing.assert_close(first[name][:, 0], ACTIVATIONS[activation](argument))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LSTM(6, 5, gate_activation="swish"), "'swish' is none of sigmoid, hard_sigmoid"),
        (lambda: LSTM(6, 5, proj_size=5), "proj_size below hidden_size, found 6, 5, 5"),
        (lambda: GRU(0, 5), "must be positive"),
        (lambda: LiGRU(6, 5, norm="group"), "'group' is none of none, layer, batch"),
        (lambda: GRU(6, 5)(torch.randn(1, 3, 6), torch.tensor([4])), "3 frames and the longest length is 4"),
        (lambda: GRU(6, 5)(torch.randn(1, 0, 6)), "0 frames"),
    ],
)
def test_refuses_what_makes_no_cell(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_lengths_of_zero_give_zeros_and_the_initial_state():
    for reverse in (False, True):
        trace = LSTM(6, 5).trace(torch.randn(2, 4, 6), torch.tensor([0, 4]), reverse=reverse)
        assert not trace.output[0].any()
        assert not any(state[0].any() for state in trace.state)
