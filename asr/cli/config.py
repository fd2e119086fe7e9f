"""Compose a recipe's YAML with Hydra into a plain dict, and check it as a whole."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from asr.errors import ConfigError

GROUPS = ("features", "augment", "tokenizer", "model", "optimizer", "scheduler", "trainer", "decoder")
KEYS = ("name", "seed", "output_dir", "data", "text", *GROUPS)
OPTIONAL = ("init_from", "freeze", "delay_penalty")
DATA_KEYS = ("recipe", "dir", "train", "dev", "test")
SUPPLIED = ("output_dir", "archive", "progress", "note")
"""What the program itself gives to a recipe's ``prepare``; its other parameters are options of the recipe."""
DATA_OPTIONAL = ("feature_store",)


def resource(name: str) -> Path:
    """Return the folder `conf` or `recipes`: beside the package in a clone, inside it if installed."""
    package = Path(__file__).parents[1]
    for place in (package.parent / name, package / "_bundled" / name):
        if (package.parent / "pyproject.toml").is_file() or "_bundled" in place.parts:
            return place
    raise AssertionError("the second place always matches")


def find_recipe(path: str) -> Path:
    """Return the path of a recipe file or folder, looking among the toolkit's own recipes too.

    Raises
    ------
    ConfigError
    """
    given = Path(path)
    own = resource("recipes")
    inside = Path(*given.parts[1:]) if given.parts[:1] == ("recipes",) else given
    for candidate in (given, own / inside):
        if candidate.exists():
            return candidate.absolute()
    known = ", ".join(sorted(f"recipes/{p.parent.name}/{p.name}" for p in own.glob("*/*.yaml")))
    raise ConfigError(f"{path}: no such recipe; the toolkit's own are {known}")


def load_config(recipe: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Compose a recipe and its overrides into a checked plain dict.

    Parameters
    ----------
    recipe : str
        Path of a YAML file; ``recipes/digits/blstm.yaml`` is found wherever the program runs.
    overrides : sequence of str
        Hydra's ``key=value``.

    Raises
    ------
    ConfigError
        One line with everything that is wrong.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    path = find_recipe(recipe)
    if path.is_dir():
        raise ConfigError(f"{recipe}: is a folder; give one of its YAML files, as {recipe}/blstm.yaml")
    conf = str(resource("conf")).replace("\\", "\\\\").replace("'", "\\'")
    try:
        with initialize_config_dir(str(path.parent), version_base="1.3"):
            composed = compose(path.stem, overrides=[*overrides, f"hydra.searchpath=['file://{conf}']"])
            config: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OverrideParseException as error:
        raise ConfigError(
            f"{error.override}: cannot be read; write key=value, and quote a value with spaces, commas or "
            f"brackets twice, as in \"output_dir='my runs (1)'\""
        ) from error
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        reason = " ".join((str(error.__cause__ or "") or str(error)).split())
        raise ConfigError(f"{recipe}: {reason.partition(' Config search path: ')[0]}") from error
    data = config.get("data")
    tests = data.get("test") if isinstance(data, dict) else None
    if isinstance(tests, dict):  # null takes out the test set that every recipe has unless it says otherwise
        config["data"]["test"] = {name: path for name, path in tests.items() if path is not None}
    mistakes = config_problems(config)
    if mistakes:
        raise ConfigError(f"{recipe}: " + "; ".join(mistakes))
    return config


def quoted(text: str) -> str:
    """Quote a text for Hydra, to which a comma or an equals sign in it would mean something."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def config_problems(config: dict[str, Any]) -> list[str]:
    """List everything that is wrong with a composed configuration."""
    from asr.augment import KINDS
    from asr.build import argument_problems, problems
    from asr.decoding.base import Decoder
    from asr.features import FrontEnd
    from asr.models.ctc import model_problems
    from asr.text import Normalizer, tokenizer_problems
    from asr.training.loop import Trainer
    from asr.training.schedules import Schedule

    if not isinstance(config.get("data"), dict):
        return [f"data: expected {', '.join(DATA_KEYS)}, found {config.get('data')!r}"]
    options = recipe_options(config)
    known = (*KEYS, *OPTIONAL, *options)
    found = [f"{key}: unknown; {_hint(key, known)}" for key in config if key not in known]
    found += [f"{key}: missing" for key in KEYS if key not in config]
    if found:
        return found
    for key, kind in (("name", str), ("seed", int), ("output_dir", str)):
        if not isinstance(config[key], kind):
            found.append(f"{key}: expected {kind.__name__}, found {config[key]!r}")
    if isinstance(config["seed"], int) and config["seed"] < 0:
        found.append(f"seed: must be 0 or more, found {config['seed']}")
    data = config["data"]
    known = (*DATA_KEYS, *DATA_OPTIONAL)
    found += [f"data.{key}: unknown; {_hint(key, known)}" for key in data if key not in known]
    found += [f"data.{key}: missing" for key in DATA_KEYS if key not in data]
    found += [
        f"data.{key}: expected a path, found {data[key]!r}"
        for key in ("dir", "train", "dev", *DATA_OPTIONAL)
        if key in data and not isinstance(data[key], str) and not (key in DATA_OPTIONAL and data[key] is None)
    ]
    tests = data.get("test")
    if not isinstance(tests, dict) or not all(isinstance(path, str) for path in tests.values()):
        found.append(f"data.test: expected names and paths of manifests, found {tests!r}")
    if options:
        chosen = {key: config[key] for key in options if key in config}
        found += argument_problems(load_prepare(data["recipe"]), chosen, "the recipe", supplied=SUPPLIED)
    if not isinstance(config["augment"], dict):
        return [*found, f"augment: expected {', '.join(KINDS)}, found {config['augment']!r}"]
    for key, value in config["augment"].items():
        if key not in KINDS:
            found.append(f"augment.{key}: unknown; {_hint(key, tuple(KINDS))}")
        elif value is not None:
            found += problems(value, f"augment.{key}", kind=KINDS[key])
    found += model_problems(config["model"])
    found += tokenizer_problems(config["tokenizer"])
    found += problems(config["optimizer"], "optimizer", supplied=("model",))
    for part, part_kind in (
        ("features", FrontEnd),
        ("text", Normalizer),
        ("scheduler", Schedule),
        ("trainer", Trainer),
        ("decoder", Decoder),
    ):
        found += problems(config[part], part, kind=part_kind)
    found += _start_problems(config)
    found += _loss_problems(config)
    return found or _training_problems(config)


def _start_problems(config: dict[str, Any]) -> list[str]:
    """List what is wrong with the keys of a training that starts from a model."""
    found = []
    init_from, freeze = config.get("init_from"), config.get("freeze") or []
    if init_from is not None and not isinstance(init_from, str):
        found.append(f"init_from: expected the path of a model.asr, found {init_from!r}")
    if not isinstance(freeze, list) or not all(isinstance(name, str) for name in freeze):
        found.append(f"freeze: expected a list of parts, such as [subsampling, encoder.0], found {freeze!r}")
    return found


def _loss_problems(config: dict[str, Any]) -> list[str]:
    penalty = config.get("delay_penalty")
    if penalty is None:
        return []
    if isinstance(penalty, bool) or not isinstance(penalty, int | float) or not 0 <= penalty <= 1:
        return [f"delay_penalty: expected nats a frame, from 0 to 1, or null, found {penalty!r}"]
    tokenizer = config["tokenizer"]
    if penalty and isinstance(tokenizer, dict) and tokenizer.get("_target_") != "asr.text.CharacterTokenizer":
        return ["delay_penalty: is for tokens with a space of their own; take tokenizer=characters, or null"]
    return []


def _training_problems(config: dict[str, Any]) -> list[str]:
    """List what shows only once the parts are put together, on a model without memory for its weights."""
    import torch

    from asr.build import build
    from asr.features import FrontEnd
    from asr.models.ctc import build_model
    from asr.training.optimization import make_optimizer
    from asr.training.parts import freeze

    try:
        features = build(config["features"], FrontEnd)
        with torch.device("meta"):
            model = build_model(config["model"], features.output_size, 2)
        freeze(model, config.get("freeze") or [])
    except ConfigError as error:
        return [str(error)]
    found = []
    for make in (lambda: make_optimizer(config["optimizer"], model), lambda: build(config["scheduler"])):
        try:
            make()
        except ConfigError as error:
            found.append(str(error))
    return found


def recipe_options(config: dict[str, Any]) -> dict[str, inspect.Parameter]:
    """Return the options that the recipe's ``prepare`` takes; they are top-level keys of its YAML."""
    recipe = (config.get("data") or {}).get("recipe")
    if recipe is None:
        return {}
    parameters = inspect.signature(load_prepare(str(recipe))).parameters
    return {k: v for k, v in parameters.items() if k not in SUPPLIED}


def load_prepare(recipe: str) -> Callable[..., None]:
    """Return the function ``prepare`` of a recipe's ``prepare.py``.

    Parameters
    ----------
    recipe : str
        Name of one of the toolkit's recipes, or path of a recipe folder.

    Raises
    ------
    ConfigError
    """
    # A bare name is one of our own recipes, whatever folders lie around; a path has a separator.
    folder = find_recipe(recipe if "/" in recipe else f"recipes/{recipe}")
    path = folder / "prepare.py"
    if not path.is_file():
        raise ConfigError(f"{recipe}: no prepare.py in {folder}")
    name = f"asr_recipe_{folder.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Worker processes find the module's functions by its name.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module.prepare


def _hint(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(key), known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
