"""Optimisers by configuration, learning rates by part, frozen parts."""

import pytest
import torch

from asr.errors import ConfigError
from asr.models.ctc import CtcModel, build_model
from asr.training.optimization import make_optimizer
from asr.training.parts import freeze, parts

TARGET = "asr.training.optimization"


def make_model(**encoder) -> CtcModel:
    torch.manual_seed(0)
    config = {
        "subsampling": {
            "_target_": "asr.models.subsampling.ConvSubsampling",
            "channels": 6,
            "kernel_sizes": [3],
            "strides": [2],
        },
        "encoder": {
            "_target_": "asr.models.encoder.RecurrentEncoder",
            "hidden_size": 4,
            "num_layers": 2,
            **encoder,
        },
    }
    return build_model(config, 5, 3)


def one_step(model, optimizer):
    """Make a step with a gradient of ones and return by how much each parameter moved."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {name: p.detach() - before[name] for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("config", "reference"),
    [
        (
            {"_target_": "adamw", "lr": 0.1, "weight_decay": 0.2},
            lambda p, decay: torch.optim.AdamW(p, lr=0.1, weight_decay=0.2 * decay, betas=(0.9, 0.98)),
        ),
        (
            {"_target_": "sgd", "lr": 0.1, "momentum": 0.8, "weight_decay": 0.2},
            lambda p, decay: torch.optim.SGD(p, 0.1, momentum=0.8, nesterov=True, weight_decay=0.2 * decay),
        ),
        (
            {"_target_": "torch_optimizer", "name": "RAdam", "lr": 0.1, "arguments": {"betas": [0.8, 0.9]}},
            lambda p, decay: torch.optim.RAdam(p, lr=0.1, betas=(0.8, 0.9)),
        ),
        (
            {
                "_target_": "torch_optimizer",
                "name": "RMSprop",
                "lr": 0.1,
                "arguments": {"weight_decay": 0.3, "momentum": 0.5},
            },
            lambda p, decay: torch.optim.RMSprop(p, lr=0.1, momentum=0.5, weight_decay=0.3 * decay),
        ),
        (
            {"_target_": "torch_optimizer", "name": "Rprop", "lr": 0.1},
            lambda p, decay: torch.optim.Rprop(p, lr=0.1),
        ),
    ],
)
def test_takes_torch_s_steps_and_decays_matrices_only(config, reference):
    model, twin = make_model(), make_model()
    optimizer = make_optimizer(config | {"_target_": f"{TARGET}.{config['_target_']}"}, model)
    matrices = reference([p for p in twin.parameters() if p.ndim > 1], 1)
    vectors = reference([p for p in twin.parameters() if p.ndim == 1], 0)
    for _ in range(3):
        moved = one_step(model, optimizer)
        one_step(twin, matrices)
        for group in vectors.param_groups:
            assert all(p.grad is not None for p in group["params"])
        vectors.step()
    assert all(change.abs().max() > 0 for change in moved.values())
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["Adafactor", "Adagrad", "Adadelta", "Adam", "Adamax", "ASGD", "NAdam"])
def test_every_dense_optimizer_of_torch_steps(name):
    model = make_model()
    config = {"_target_": f"{TARGET}.torch_optimizer", "name": name, "arguments": {"weight_decay": 0.1}}
    moved = one_step(model, make_optimizer(config, model))
    assert all(torch.isfinite(change).all() and change.abs().max() > 0 for change in moved.values())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_target_": "adamw", "lr": 0}, "lr must be positive, found 0"),
        ({"_target_": "adamw", "lr": float("nan")}, "lr must be"),
        ({"_target_": "adamw", "betas": [0.9]}, "betas are two numbers"),
        ({"_target_": "adamw", "weight_decay": -1.0}, "weight_decay"),
        ({"_target_": "adamw", "momentum": 0.9}, "adamw has no such option"),
        ({"_target_": "sgd", "momentum": 0.0}, "[Nn]esterov"),
        ({"_target_": "torch_optimizer", "name": "LBFGS"}, "'LBFGS' cannot be used .it needs the loss"),
        ({"_target_": "torch_optimizer", "name": "os"}, "known: ASGD, Adadelta"),
        ({"_target_": "torch_optimizer", "name": "Optimizer"}, "known: ASGD"),
        ({"_target_": "torch_optimizer", "name": "Adam", "arguments": {"lr": 1}}, "arguments.lr"),
        ({"_target_": "torch_optimizer", "name": "Adam", "arguments": {"beta": 1}}, "did you mean 'betas'"),
        (
            {"_target_": "torch_optimizer", "name": "Adam", "arguments": {"eps": "x"}},
            "expected float, found 'x'",
        ),
        ({"_target_": "adamw", "layer_decay": 0.0}, "layer_decay must be positive"),
        ({"_target_": "adamw", "lr_scales": {"encoder.7": 0.1}}, "no part encoder.7 .* encoder.1, head"),
        ({"_target_": "adamw", "lr_scales": {"head": 0}}, "use freeze"),
    ],
)
def test_refuses(config, message):
    with pytest.raises(ConfigError, match=message):
        make_optimizer(config | {"_target_": f"{TARGET}.{config['_target_']}"}, make_model())


def test_parts_hold_every_parameter_once_beside_the_encoder_as_a_whole():
    model = make_model(num_layers=3, bidirectional=False, lookahead=2, projection=4)
    found = parts(model)
    assert list(found) == [
        "subsampling", "encoder", "encoder.0", "encoder.1", "encoder.2", "encoder.lookahead", "head",
    ]  # fmt: skip
    leaves = [p for name in found if name != "encoder" for m in found[name] for p in m.parameters()]
    assert len(leaves) == len(set(leaves))
    assert set(leaves) == set(model.parameters())


def rates_by_part(model, optimizer):
    by_parameter = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {
        name: {by_parameter[p] for module in part for p in module.parameters() if p in by_parameter}
        for name, part in parts(model).items()
    }


def test_layers_learn_at_their_own_rates():
    model = make_model()
    config = {"_target_": f"{TARGET}.adamw", "lr": 1.0, "layer_decay": 0.5}
    assert rates_by_part(model, make_optimizer(config, model)) == {
        "head": {1.0},
        "encoder.1": {0.5},
        "encoder.0": {0.25},
        "encoder": {0.5, 0.25},
        "subsampling": {0.125},
    }
    config["lr_scales"] = {"encoder.0": 0.01, "encoder": 0.1}
    optimizer = make_optimizer(config, model)
    assert rates_by_part(model, optimizer) == {
        "head": {1.0},
        "encoder.1": {0.1},
        "encoder.0": {0.01},
        "encoder": {0.1, 0.01},
        "subsampling": {0.125},
    }
    assert optimizer.param_groups[0]["lr"] == 1.0, "the rate that is reported is the highest"


def test_frozen_parts_stay_as_they_are():
    model = make_model(norm="batch")
    freeze(model, ["subsampling", "encoder.0"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config = {"_target_": f"{TARGET}.adamw", "lr": 0.1, "weight_decay": 0.5}
    optimizer = make_optimizer(config, model)
    for _ in range(2):
        model.train()
        log_probs, _ = model(torch.randn(2, 9, 5), torch.tensor([9, 6]))
        log_probs[:, :, 1].sum().backward()
        optimizer.step()
    frozen = ("subsampling.", "encoder.layers.0.", "encoder.norms.0.")
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith(frozen), name


def test_freezing_says_what_there_is_to_freeze():
    with pytest.raises(ConfigError, match="no part layers in this model; it has subsampling, encoder"):
        freeze(make_model(), ["layers"])
    with pytest.raises(ConfigError, match="nothing is left to train"):
        freeze(make_model(), ["subsampling", "encoder", "head"])
