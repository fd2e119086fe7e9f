"""Learning-rate schedules against torch.optim.lr_scheduler, and what they refuse."""

import math

import pytest
import torch
from torch.optim import lr_scheduler

from asr.build import build
from asr.errors import ConfigError
from asr.training.schedules import (
    Constant,
    Exponential,
    Noam,
    OneCycle,
    Plateau,
    Schedule,
    TorchSchedule,
    WarmupCosine,
)

STEPS = 200


def torch_rates(make, steps=STEPS):
    """Return the rates of a torch schedule with the peak 1, at 0, 1, ... steps."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*rates, optimizer.param_groups[0]["lr"]]


def rates(schedule, steps=STEPS):
    return [schedule(step / steps) for step in range(steps + 1)]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            WarmupCosine(warmup=0.0, final=0.02),
            lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=STEPS, eta_min=0.02),
        ),
        (
            WarmupCosine(warmup=0.25, final=0.02),
            lambda o: lr_scheduler.SequentialLR(
                o,
                [
                    lr_scheduler.LinearLR(o, 1e-12, 1.0, total_iters=50),
                    lr_scheduler.CosineAnnealingLR(o, T_max=150, eta_min=0.02),
                ],
                [50],
            ),
        ),
        (Constant(warmup=0.5), lambda o: lr_scheduler.LinearLR(o, 1e-12, 1.0, total_iters=100)),
    ],
)
def test_follows_torch_step_by_step(ours, theirs):
    assert rates(ours) == pytest.approx(torch_rates(theirs), abs=1e-9)


@pytest.mark.parametrize(("strategy", "part"), [("linear", slice(0, 61)), ("cos", slice(60, 201))])
def test_one_cycle_rises_as_torch_does_linearly_and_falls_as_its_cosine(strategy, part):
    # torch has one form for both ways; its defaults are those of OneCycle: 1/25 and 1/25e4 of the peak
    def make(optimizer):
        # its last step is number total_steps - 1
        pct_start = 61 / (STEPS + 1)
        return lr_scheduler.OneCycleLR(
            optimizer, 1.0, total_steps=STEPS + 1, pct_start=pct_start, anneal_strategy=strategy,
            final_div_factor=1e4,
        )  # fmt: skip

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule = make(optimizer)
    theirs = [optimizer.param_groups[0]["lr"]]
    for _ in range(STEPS):
        optimizer.step()
        schedule.step()
        theirs.append(optimizer.param_groups[0]["lr"])
    assert rates(OneCycle(warmup=0.3))[part] == pytest.approx(theirs[part], abs=1e-9)


def test_noam_has_the_shape_of_the_transformer_s_formula():
    def formula(step, warmup_steps=40, model_size=512):  # Vaswani et al. 2017, equation 3
        return model_size**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)

    schedule = Noam(warmup=0.2)
    for step in (1, 20, 40, 41, 100, 200):
        assert schedule(step / STEPS) == pytest.approx(formula(step) / formula(40))


METRICS = [0.9, 0.8, 0.8, 0.79999, 0.8, 0.7, 0.7, 0.7, 0.7, math.nan, 0.7, 0.9, 0.9, *[0.1] * 13]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: Exponential(1.1), lambda o: lr_scheduler.ExponentialLR(o, 1 / 1.1)),
        (
            lambda: Plateau(factor=0.5, patience=2, threshold=1e-3, final=0.1),
            lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=2, threshold=1e-3, min_lr=0.1),
        ),
        (
            lambda: TorchSchedule("MultiStepLR", {"milestones": [3, 7]}),
            lambda o: lr_scheduler.MultiStepLR(o, [3, 7]),
        ),
        (
            lambda: TorchSchedule("CosineAnnealingWarmRestarts", {"T_0": 4}),
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
        ),
        (
            lambda: TorchSchedule("ReduceLROnPlateau", {"patience": 1}),
            lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
        ),
    ],
)
def test_follows_torch_epoch_by_epoch_and_resumes_anywhere(ours, theirs):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    reference, schedule = theirs(optimizer), ours()
    expected, found, states = [], [], []
    for metric in METRICS:
        expected.append(optimizer.param_groups[0]["lr"])
        found.append(schedule(0.5))
        states.append(schedule.state_dict())
        schedule.end_epoch(metric)
        optimizer.step()
        reference.step(*([metric] if isinstance(reference, lr_scheduler.ReduceLROnPlateau) else []))
    assert found == pytest.approx(expected)
    assert len(set(found)) > 1, "the rate never changed"
    for epoch, state in enumerate(states):
        again = ours()
        again.load_state_dict(state)
        for metric, rate in zip(METRICS[epoch:], found[epoch:], strict=True):
            assert again(0.5) == rate
            again.end_epoch(metric)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_target_": "WarmupCosine", "warmup": 1.0}, "warmup is a share"),
        ({"_target_": "WarmupCosine", "final": 2.0}, "final is a share"),
        ({"_target_": "Noam", "warmup": 0.0}, "above 0"),
        ({"_target_": "Exponential", "anneal": 0.9}, "at least 1"),
        ({"_target_": "Plateau", "factor": 1.0}, "between 0 and 1"),
        ({"_target_": "Plateau", "patience": -1}, "0 or more"),
        ({"_target_": "TorchSchedule", "name": "LambdaLR"}, "'LambdaLR' cannot be used; known: ConstantLR"),
        ({"_target_": "TorchSchedule", "name": "StepLR"}, "'step_size' is missing for StepLR"),
        (
            {"_target_": "TorchSchedule", "name": "StepLR", "arguments": {"step_sise": 3}},
            "did you mean 'step_size'",
        ),
        (
            {"_target_": "TorchSchedule", "name": "StepLR", "arguments": {"last_epoch": 3}},
            "arguments.last_epoch",
        ),
        ({"_target_": "Schedule"}, "is no Schedule"),
    ],
)
def test_refuses(config, message):
    config = config | {"_target_": f"asr.training.schedules.{config['_target_']}"}
    with pytest.raises(ConfigError, match=message):
        build(config, Schedule)
