"""The long-lag recipe: its tasks, its starts, and that networks side by side are as networks alone."""

import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from asr.models.cells import GRU, LSTM, RNN

FOLDER = Path(__file__).parents[2] / "recipes" / "memory"
NAMES = ("tasks", "networks", "report", "run")


@pytest.fixture(scope="module")
def memory():
    """The recipe's modules, which import each other by bare names as a program's do."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield SimpleNamespace(**{name: __import__(name) for name in NAMES})
    finally:
        sys.path.remove(str(FOLDER))
        for name in NAMES:
            sys.modules.pop(name, None)


def test_adding_problem(memory):
    x, target = memory.tasks.adding_problem(torch.Generator().manual_seed(0), 4000, 20)
    assert x.shape == (4000, 20, 2)
    values, marks = x.unbind(2)
    assert torch.equal(marks[:, :10].sum(1), torch.ones(4000))
    assert torch.equal(marks[:, 10:].sum(1), torch.ones(4000))
    torch.testing.assert_close((values * marks).sum(1), target)
    # What always answering 1 costs: the variance of the sum of two uniform numbers.
    assert (target - 1).square().mean().item() == pytest.approx(1 / 6, rel=0.05)


def test_delayed_copy(memory):
    x, symbols = memory.tasks.delayed_copy(torch.Generator().manual_seed(0), 50, 7)
    assert x.shape == (50, 8, 9)
    assert torch.equal(x[:, 0].argmax(1), symbols)
    assert not x[:, 1:7].any()
    assert torch.equal(x[:, 7], nn.functional.one_hot(torch.full((50,), 8), 9).float())
    assert set(symbols.tolist()) == set(range(8))


def test_starts(memory):
    networks = memory.networks
    torch.manual_seed(0)
    rnn = RNN(2, 16)
    with torch.no_grad():
        networks.orthogonal(rnn, 10)
        torch.testing.assert_close(rnn.weight_hh @ rnn.weight_hh.mT, torch.eye(16), atol=1e-5, rtol=0)
        networks.identity(rnn, 10)
        assert torch.equal(rnn.weight_hh, torch.eye(16))
        lstm, gru = LSTM(2, 16), GRU(2, 16)
        networks.forget_bias_one(lstm, 10)
        assert lstm.by_gate(lstm.bias_ih + lstm.bias_hh)["forget"].tolist() == [1.0] * 16
        networks.chrono(lstm, 100)
        networks.chrono(gru, 100)
        biases = lstm.by_gate(lstm.bias_ih + lstm.bias_hh)
        assert torch.equal(biases["input"], -biases["forget"])
        # A gate that stays at sigmoid(log(T - 1)) = 1 - 1/T keeps its state for about T frames.
        for keep in (biases["forget"], gru.by_gate(gru.bias_ih + gru.bias_hh)["update"]):
            frames = 1 / (1 - keep.sigmoid())
            assert frames.min() >= 2
            assert 50 < frames.max() <= 100


def test_side_by_side_as_alone(memory):
    variants = [v for v in memory.networks.VARIANTS if v.cell == "lstm"]
    together = memory.run.train("copy", 6, variants, [1, 2], max_updates=8, hidden_size=8)
    for variant in variants:
        (alone,) = memory.run.train("copy", 6, [variant], [2], max_updates=8, hidden_size=8)
        (same,) = (r for r in together if (r.variant, r.seed) == (variant.name, 2))
        assert same.error == pytest.approx(alone.error)
        assert same.largest_gradient == pytest.approx(alone.largest_gradient, rel=1e-3)
        assert same.reach_after == pytest.approx(alone.reach_after, rel=1e-3)


def test_population_computes_what_torch_computes(memory):
    networks, task = memory.networks, memory.tasks.TASKS["adding"]
    (variant, *_) = (v for v in networks.VARIANTS if v.cell == "gru")
    population = networks.Population(task, 9, [variant], [3], hidden_size=8)
    x, _ = task.draw(torch.Generator().manual_seed(0), 5, 9)
    answers, states = population(x[None])
    gru = nn.GRU(2, 8, batch_first=True)
    gru.load_state_dict({f"{k}_l0": v[0].squeeze() for k, v in population.cell.named_parameters()})
    expected = gru(x)[0]
    torch.testing.assert_close(torch.stack([s[0][0] for s in states], 1), expected, atol=1e-6, rtol=0)
    head = population.head_weight[0]
    torch.testing.assert_close(answers[0], expected[:, -1] @ head.mT + population.head_bias[0])


@pytest.mark.parametrize("max_norm", [0.1, 1.0, math.inf])
def test_clips_each_model_as_torch_clips_one(memory, max_norm):
    torch.manual_seed(0)
    stacked = [nn.Parameter(torch.zeros(2, 3, 4)), nn.Parameter(torch.zeros(2, 1, 5))]
    for parameter in stacked:
        parameter.grad = torch.randn(parameter.shape)
    gradients = [p.grad.clone() for p in stacked]
    norms = memory.run.clip_each(stacked, torch.tensor([max_norm, math.inf]))
    single = [nn.Parameter(torch.zeros(g.shape[1:])) for g in gradients]
    for parameter, gradient in zip(single, gradients, strict=True):
        parameter.grad = gradient[0].clone()
    assert norms[0].item() == pytest.approx(nn.utils.clip_grad_norm_(single, max_norm).item())
    for parameter, one, gradient in zip(stacked, single, gradients, strict=True):
        torch.testing.assert_close(parameter.grad[0], one.grad, atol=1e-5, rtol=1e-4)
        assert torch.equal(parameter.grad[1], gradient[1])


@pytest.mark.parametrize("weight", [0.5, 1.2])
def test_reach_of_a_linear_unit_is_the_power_of_its_weight(memory, weight):
    # h_t = w h_{t-1} + x_t with everything positive, so that ReLU is the identity (Bengio et al., 1994).
    (variant, *_) = (v for v in memory.networks.VARIANTS if v.cell == "relu_rnn")
    task = memory.tasks.TASKS["adding"]
    population = memory.networks.Population(task, 10, [variant], [1], hidden_size=1)
    with torch.no_grad():
        for parameter in population.cell.parameters():
            parameter.fill_(0.5)
        population.cell.weight_hh.fill_(weight)
    x, target = task.draw(torch.Generator().manual_seed(0), 4, 10)
    reach = memory.run.gradient_reach(population, task, x[None], target[None], [0, 1, 4, 9])
    assert reach[0].tolist() == pytest.approx([weight**k for k in (0, 1, 4, 9)], rel=1e-4)


def test_a_gated_cell_with_the_right_start_solves_what_the_other_does_not(memory):
    variants = [v for v in memory.networks.VARIANTS if v.cell == "lstm"]
    chosen = [v for v in variants if v.init.__name__ in ("as_torch", "chrono")]
    plain, chrono = memory.run.train("copy", 20, chosen, [1], max_updates=200)
    assert chrono.updates is not None
    assert chrono.updates < 200
    assert plain.updates is None
    assert plain.reach_before[-1] < 1e-3 < chrono.reach_before[-1]


def test_the_program_writes_its_report_and_goes_on_where_it_was(tmp_path):
    command = [
        *(sys.executable, str(FOLDER / "run.py"), "-o", str(tmp_path), "--max-updates", "25"),
        *("--lags", "4", "6", "--train-to", "4", "--cells", "gru", "--seeds", "1", "2"),
    ]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results) == 2 * 2 * 2 * 2  # tasks, lags, seeds, starts
    assert {(r["lag"], r["max_updates"]) for r in results} == {(4, 25), (6, 0)}
    assert "gru, chrono, clip 1" in first.stdout
    assert (tmp_path / "tables.md").read_text() == first.stdout.rstrip("\n") + "\n"
    for name in ("reach.png", "updates.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stderr == ""
    assert again.stdout == first.stdout
