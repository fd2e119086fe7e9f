"""Turn a plain dict with a ``_target_`` key into the object it names.

``{"_target_": "asr.features.LogMel", "n_mels": 40}`` builds ``asr.features.LogMel(n_mels=40)``.
Only what the modules in `BUILDABLE` define is ever looked up, and it must be of the kind that its place
asks for, so neither a configuration nor a model file can make the toolkit call anything else. Every
mapping is checked against the signature of what it names before anything is constructed, and all
mistakes are reported together.
"""

from __future__ import annotations

import collections.abc
import difflib
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from asr.errors import ConfigError

TARGET = "_target_"

BUILDABLE = frozenset(
    {
        "asr.features",
        "asr.text",
        "asr.augment",
        "asr.models.subsampling",
        "asr.models.encoder",
        "asr.decoding.greedy",
        "asr.decoding.beam",
        "asr.decoding.confidence",
        "asr.training.averaging",
        "asr.training.loop",
        "asr.training.optimization",
        "asr.training.schedules",
    }
)
"""Modules of parts that a configuration may name; none of them reads or writes a file when built."""


def resolve(target: Any) -> Callable[..., Any]:
    """Return the public class or function that a dotted name in one of the `BUILDABLE` modules stands for.

    Raises
    ------
    ConfigError
        If the name lies outside these modules, is private, or does not exist.
    """
    module_name, _, name = target.rpartition(".") if isinstance(target, str) else ("", "", "")
    if module_name not in BUILDABLE or name.startswith("_"):
        raise ConfigError(
            f"{TARGET} {target!r} is not allowed: only parts defined in "
            f"{', '.join(sorted(BUILDABLE))} can be built"
        )
    found = getattr(importlib.import_module(module_name), name, None)
    # A name that a module merely imported (torch, os, ...) is not ours to hand out; a package hands out what
    # its own modules define.
    home = getattr(found, "__module__", "")
    if not callable(found) or not (home == module_name or home.startswith(f"{module_name}.")):
        raise ConfigError(f"{TARGET} {target!r} does not exist: {module_name} has no {name!r}")
    return found


def problems(config: Any, path: str = "", supplied: Sequence[str] = (), kind: Any = None) -> list[str]:
    """List all mistakes in a configuration, each as ``key: what is wrong``.

    Parameters
    ----------
    config : mapping
        With a ``_target_`` key; nested mappings with one are checked too.
    path : str
        Where `config` stands in the whole configuration, for the messages.
    supplied : sequence of str
        Arguments that the caller of `build` will pass itself.
    kind : class or union of classes, optional
        What the object must be.
    """
    if not isinstance(config, Mapping) or TARGET not in config:
        return [f"{path or 'config'}: expected a mapping with {TARGET}, found {config!r}"]
    try:
        function = resolve(config[TARGET])
    except ConfigError as error:
        return [f"{path}: {error}"]
    if kind is not None and not _is_kind(function, kind):
        return [f"{path or 'config'}: {config[TARGET]} is no {_name(kind)}"]
    arguments = {key: value for key, value in config.items() if key != TARGET}
    return argument_problems(function, arguments, config[TARGET], path, supplied)


def argument_problems(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    name: str,
    path: str = "",
    supplied: Sequence[str] = (),
) -> list[str]:
    """List the mistakes in the arguments for a function: unknown, missing or of the wrong type."""
    signature = inspect.signature(function)
    # Some of PyTorch's annotations name what it imports for type checkers only.
    names = vars(collections.abc)
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function, localns=names)
    found = []
    for key, value in arguments.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in signature.parameters:
            close = difflib.get_close_matches(str(key), signature.parameters, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(signature.parameters)}"
            found.append(f"{where}: {name} has no such option; {hint}")
        elif isinstance(value, Mapping) and TARGET in value:
            found += problems(value, where, kind=hints.get(key, object))
        elif not _fits(value, hints.get(key, Any)):
            found.append(f"{where}: expected {_name(hints[key])}, found {value!r}")
    found += [
        f"{path}: {key!r} is missing for {name}"
        for key, parameter in signature.parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and key not in arguments
        and key not in supplied
    ]
    return found


def build(config: Mapping[str, Any], kind: Any = None, **supplied: Any) -> Any:
    """Build the object that `config` describes, nested ones first.

    Parameters
    ----------
    config : mapping
        ``_target_`` and keyword arguments.
    kind : class or union of classes, optional
        What the object must be.
    **supplied
        Further arguments, known only to the program (sizes, parameters to optimise).

    Raises
    ------
    ConfigError
        Listing every key that is unknown, missing or of the wrong type.
    """
    mistakes = problems(config, supplied=tuple(supplied), kind=kind)
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    return _build(config, supplied)


def _build(config: Mapping[str, Any], supplied: Mapping[str, Any]) -> Any:
    arguments = {
        key: _build(value, {}) if isinstance(value, Mapping) and TARGET in value else value
        for key, value in config.items()
        if key != TARGET
    }
    try:
        return resolve(config[TARGET])(**arguments, **supplied)
    except ValueError as error:  # constructors refuse values with ValueError
        raise ConfigError(f"{config[TARGET]}: {error}") from error


def _is_kind(function: Any, kind: Any) -> bool:
    options = get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    is_concrete = inspect.isclass(function) and not inspect.isabstract(function)
    return is_concrete and any(inspect.isclass(o) and issubclass(function, o) for o in options)


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a YAML value can stand for a parameter annotated with `hint`."""
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if hint is type(None):
        return value is None
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    if origin in (list, tuple, Sequence, Iterable):
        item = (get_args(hint) or (Any,))[0]
        return isinstance(value, (list, tuple)) and all(_fits(v, item) for v in value)
    if origin in (dict, Mapping) or hint in (dict, Mapping):
        return isinstance(value, Mapping)
    # An object of ours is written as a mapping with _target_, which is checked on its own.
    return not isinstance(value, (int, float, str, bool, list, Mapping)) and value is not None


def _name(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    return getattr(hint, "__name__", str(hint)) if get_origin(hint) is None else str(hint)
