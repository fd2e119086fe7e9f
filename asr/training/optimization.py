"""Optimisers that a configuration can name, for a model whose parts may learn at different rates."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from asr.build import argument_problems, build
from asr.training.parts import chosen_parts, part_parameters, parts

_NOT_OPTIONS = ("params", "lr", "maximize", "capturable", "differentiable")
_UNFIT = {
    "LBFGS": "it needs the loss again and again for one step",
    "SparseAdam": "it needs sparse gradients",
    "Muon": "it takes matrices only",
}


def make_optimizer(config: Mapping[str, Any], model: nn.Module) -> torch.optim.Optimizer:
    """Build the optimiser that a configuration describes, for the parameters that are not frozen.

    Parameters
    ----------
    config : mapping
        ``_target_``, one of this module's functions, and its arguments but the model.
    model : nn.Module

    Raises
    ------
    ConfigError
    """
    return build(config, model=model)


def adamw(
    model: nn.Module,
    lr: float = 1e-3,
    weight_decay: float = 0.01,
    betas: Sequence[float] = (0.9, 0.98),
    layer_decay: float = 1.0,
    lr_scales: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101); biases and norms are not decayed.

    Parameters
    ----------
    lr : float
        Peak learning rate.
    layer_decay, lr_scales
        See `parameter_groups`.
    """
    groups = parameter_groups(model, lr, layer_decay, lr_scales)
    return _construct(torch.optim.AdamW, groups, {"weight_decay": weight_decay, "betas": betas})


def sgd(
    model: nn.Module,
    lr: float = 0.01,
    momentum: float = 0.9,
    nesterov: bool = True,
    weight_decay: float = 0.0,
    layer_decay: float = 1.0,
    lr_scales: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent with (Nesterov's) momentum; biases and norms are not decayed.

    Parameters
    ----------
    lr : float
        Peak learning rate.
    layer_decay, lr_scales
        See `parameter_groups`.
    """
    groups = parameter_groups(model, lr, layer_decay, lr_scales)
    arguments = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
    return _construct(torch.optim.SGD, groups, arguments)


def torch_optimizer(
    model: nn.Module,
    name: str,
    lr: float = 1e-3,
    arguments: Mapping[str, Any] | None = None,
    layer_decay: float = 1.0,
    lr_scales: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """Any optimiser of `torch.optim` that takes one step from one dense gradient.

    Parameters
    ----------
    name : str
        Its class: ``RMSprop``, ``RAdam``, ``Adafactor``, ...
    lr : float
        Peak learning rate.
    arguments : mapping, optional
        Its other arguments, as PyTorch names them. ``weight_decay`` is of matrices only.
    layer_decay, lr_scales
        See `parameter_groups`.
    """
    classes = {
        key: value
        for key, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and key != "Optimizer"
    }
    known = sorted(classes.keys() - _UNFIT.keys())
    if name not in known:
        reason = f" ({_UNFIT[name]})" if name in _UNFIT else ""
        raise ValueError(f"name: {name!r} cannot be used{reason}; known: {', '.join(known)}")
    arguments = dict(arguments or {})
    for key in _NOT_OPTIONS:
        if key in arguments:
            raise ValueError(
                f"arguments.{key}: is not for the configuration" + ("; give lr itself" if key == "lr" else "")
            )
    mistakes = argument_problems(classes[name], arguments, name, "arguments", supplied=("params",))
    if mistakes:
        raise ValueError("; ".join(mistakes))
    return _construct(classes[name], parameter_groups(model, lr, layer_decay, lr_scales), arguments)


def parameter_groups(
    model: nn.Module,
    lr: float,
    layer_decay: float = 1.0,
    lr_scales: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Divide what is to be trained by learning rate, the highest first, and by whether weights decay.

    Parameters
    ----------
    lr : float
        Peak learning rate.
    layer_decay : float
        Factor from each layer to the one below it: the output layer learns at `lr`, the one before at
        ``lr * layer_decay`` and so on down (Howard and Ruder, arXiv:1801.06146 section 3.2).
    lr_scales : mapping of str to float, optional
        Factors for parts by name (`asr.training.parts.parts`), instead of the ones of `layer_decay`; that
        of ``encoder.0`` counts before that of ``encoder``.

    Raises
    ------
    ValueError
        If a number is not positive.
    ConfigError
        If there is no such part.
    """
    lr_scales = dict(lr_scales or {})
    for key, value in {"lr": lr, "layer_decay": layer_decay, **lr_scales}.items():
        if not (isinstance(value, (int, float)) and value > 0 and math.isfinite(value)):
            remedy = "; to keep a part as it is, use freeze" if key in lr_scales and value == 0 else ""
            raise ValueError(f"{key} must be positive, found {value}{remedy}")
    scales: dict[nn.Parameter, float] = {}
    known = parts(model)
    leaves = [n for n in known if not any(other.startswith(f"{n}.") for other in known)]
    layers = [found for n in leaves if (found := list(part_parameters(known[n])))]
    for depth, parameters in enumerate(reversed(layers)):
        scales |= dict.fromkeys(parameters, layer_decay**depth)
    for name in sorted(lr_scales, key=lambda name: name.count(".")):
        (part,) = chosen_parts(model, [name], "optimizer.lr_scales").values()
        scales |= dict.fromkeys(part_parameters(part), lr_scales[name])
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups.setdefault((scales.get(parameter, 1.0), parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "lr": lr * scale} | ({} if is_matrix else {"weight_decay": 0.0})
        for (scale, is_matrix), parameters in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]


def _construct(
    kind: type[torch.optim.Optimizer], groups: list[dict[str, Any]], arguments: Mapping[str, Any]
) -> torch.optim.Optimizer:
    # PyTorch writes its own defaults as tuples; YAML has lists.
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in arguments.items()}
    betas = plain.get("betas")
    if isinstance(betas, tuple) and len(betas) != 2:
        raise ValueError(f"betas are two numbers from 0 to 1, found {list(betas)}")
    return kind(groups, **plain)
