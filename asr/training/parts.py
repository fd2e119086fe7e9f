"""The parts of a model by the names that people use for them, and freezing some of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from asr.errors import ConfigError
from asr.models.encoder import RecurrentEncoder

Parts = dict[str, tuple[nn.Module, ...]]


def parts(model: nn.Module) -> Parts:
    """Return a model's parts in the order from its input to its output.

    The names are those of the model's attributes (``subsampling``, ``encoder``, ``head``), and within a
    recurrent encoder ``encoder.0`` for its first layer with what belongs to it (projection, norm) and
    ``encoder.lookahead``; the encoder stands in front of its own parts.
    """
    found: Parts = {}
    for name, module in model.named_children():
        found[name] = (module,)
        if isinstance(module, RecurrentEncoder):
            layers = zip(module.layers, module.projections, module.norms, strict=True)
            found |= {f"{name}.{index}": layer for index, layer in enumerate(layers)}
            if module.lookahead is not None:
                found[f"{name}.lookahead"] = (module.lookahead,)
    return found


def chosen_parts(model: nn.Module, names: Sequence[str], option: str) -> Parts:
    """Return the parts with these names.

    Parameters
    ----------
    option : str
        What the user gave the names in, for the message.

    Raises
    ------
    ConfigError
        If there is no such part.
    """
    known = parts(model)
    unknown = [str(name) for name in names if name not in known]
    if unknown:
        raise ConfigError(f"{option}: no part {', '.join(unknown)} in this model; it has {', '.join(known)}")
    return {name: known[name] for name in names}


def part_parameters(part: Sequence[nn.Module]) -> Iterator[nn.Parameter]:
    """Yield the parameters of a part."""
    for module in part:
        yield from module.parameters()


def freeze(model: nn.Module, names: Sequence[str]) -> None:
    """Keep parts of a model as they are while the rest is trained.

    Their parameters get no gradient, so that an optimiser leaves them alone (no weight decay either), and
    their batch normalisation uses and keeps its running statistics. Dropout behind a frozen layer goes on:
    it acts on what the trained layers read.

    Raises
    ------
    ConfigError
        If a name is unknown, or nothing is left to train.
    """
    for part in chosen_parts(model, names, "freeze").values():
        for parameter in part_parameters(part):
            parameter.requires_grad_(False)
        for module in part:
            for norm in module.modules():
                if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                    # model.train() at every step would set it to training again
                    norm.register_forward_pre_hook(_to_eval)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError("freeze: nothing is left to train; take at least one part out")


def _to_eval(module: nn.Module, _: object) -> None:
    module.eval()
