"""``-m``: one command that trains a recipe with every combination of settings, or searches among them."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asr.cli.config import quoted
from asr.errors import ConfigError

EPILOG = """\

sweeps, with -m, in Hydra's notation:
  seed=1,2,3 model=blstm,bgru                        every combination
  optimizer.lr=0.0005,0.001,0.002 'seed=range(1,4)'
  'model=glob(b*)'                                   every choice of a group with such a name
  'optimizer.lr=tag(log,interval(1e-4,1e-2))' 'model.encoder.num_layers=int(interval(2,5))' --trials 20
                                                     a search by Optuna for the lowest dev WER
Each training is a process of its own, in a folder of its own under output_dir. The same command again goes
on with a sweep that was stopped, and tries again what failed.
"""


def add_sweep_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``-m`` and what goes with it."""
    group = parser.add_argument_group("sweeps")
    group.add_argument("-m", "--multirun", action="store_true", help="train once for every value: key=a,b")
    group.add_argument("--jobs", type=int, metavar="N", help="trainings at the same time (1)")
    group.add_argument("--trials", type=int, metavar="N", help="search, and train N times in all")


def wants_sweep(args: argparse.Namespace) -> bool:
    """Tell whether an option of sweeps was given."""
    return bool(args.multirun or args.jobs is not None or args.trials is not None)


def run_sweep(args: argparse.Namespace, command: str) -> int:
    """Run ``asr train -m`` or ``asr run -m``."""
    from asr.files import make_folder
    from asr.training.search import make_search
    from asr.training.sweep import Sweep, read_members

    for name in ("jobs", "trials"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ConfigError(f"--{name}: expected 1 or more, found {getattr(args, name)}")
    axes, fixed = split_overrides(args.recipe, args.overrides)
    recipe = _Recipe(args, command, fixed)
    config, folder = recipe.first(axes)
    make_folder(folder)
    keys = [axis.key for axis in axes]
    members = []
    for member in read_members(folder, keys):
        if member.state == "done":
            recipe.require_same(member, folder)
        elif not all(axis.admits(member.values[axis.key]) for axis in axes):
            print(f"{member.name}: {member.state}, and no longer asked for; left out", file=sys.stderr)
            continue
        members.append(member)
    known = [(member.values, member.error_rate) for member in members]
    jobs = args.jobs or 1
    one_device_each = config["trainer"]["accelerator"] != "cpu" and config["trainer"].get("devices", 1) == 1
    sweep = Sweep(
        folder,
        keys,
        members,
        make_search(axes, args.trials, config["seed"], known),
        recipe.command,
        jobs=jobs,
        devices=_devices() if jobs > 1 and one_device_each else (),
        note=lambda message: print(message, file=sys.stderr, flush=True),
    )
    ended = sweep.run()
    print_results(sweep, recipe)
    if not ended:
        print(f"stopped; go on with:\n  {shlex.join(args.command)}", file=sys.stderr)
        return 130
    return 1 if any(member.state != "done" for member in sweep.members) else 0


def split_overrides(recipe: str, overrides: Sequence[str]) -> tuple[list[Any], list[str]]:
    """Divide overrides into the settings that vary, as `asr.training.search.Axis`, and the others.

    Raises
    ------
    ConfigError
        If none varies, one cannot be read, or it is ``output_dir``.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob, IntervalSweep, RangeSweep
    from hydra.errors import HydraException

    from asr.training.search import Axis

    parser = OverridesParser.create()
    axes, fixed = [], []
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException as error:
            raise ConfigError(f"{text}: cannot be read: {' '.join(str(error).split())}") from error
        if not override.is_sweep_override():
            fixed.append(text)
            continue
        key, value = override.get_key_element(), override.value()
        if key == "output_dir":
            raise ConfigError(f"{text}: each training has a folder of its own in one output_dir")
        if isinstance(value, IntervalSweep):
            low, high = value.start, value.end
            assert low is not None
            assert high is not None
            if not low < high:
                raise ConfigError(f"{text}: the interval must have its lower end first")
            if "log" in value.tags and low <= 0:
                raise ConfigError(f"{text}: a logarithmic interval must begin above 0")
            integer = isinstance(low, int) and isinstance(high, int)
            axes.append(Axis(key, (), float(low), float(high), "log" in value.tags, integer))
            continue
        if isinstance(value, Glob):
            choices = value.filter(_group_choices(recipe, override.key_or_group))
        elif isinstance(value, RangeSweep):  # 0.1 + 0.2 is 0.3
            choices = [f"{float(v):.12g}" if "." in v else v for v in override.sweep_string_iterator()]
        else:
            choices = list(override.sweep_string_iterator())
        if not choices:
            raise ConfigError(f"{text}: there is no value")
        axes.append(Axis(key, tuple(choices)))
    if not axes:
        raise ConfigError("-m: no setting varies; give one several values, as seed=1,2,3")
    return axes, fixed


def print_results(sweep: Any, recipe: _Recipe) -> None:
    """Print a table of a sweep's members, the best first, and how to train that one alone."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=str(sweep.folder))
    last = [key.lstrip("+").rpartition(".")[2] for key in sweep.keys]
    for key, short in zip(sweep.keys, last, strict=True):
        table.add_column(short if last.count(short) == 1 else key.lstrip("+"))
    for name in ("dev WER", "dev CER", "epoch", "min", ""):
        table.add_column(name, justify="right")

    def order(member: Any) -> tuple[float, ...]:
        if member.error_rate is None:
            return (float("inf"),)
        metrics = [member.dev.get(name) for name in ("dev_wer", "dev_cer", "dev_loss")]
        return tuple(float("inf") if value is None else value for value in metrics)

    ranked = sorted(sweep.members, key=order)
    for member in ranked:
        numbers = ["", "", ""]
        if member.state == "done":
            numbers = [f"{100 * member.dev[n]:.2f}%" for n in ("dev_wer", "dev_cer")] + [
                str(member.dev["epoch"])
            ]
        state = "" if member.state == "done" else member.state
        table.add_row(*member.values.values(), *numbers, f"{member.seconds / 60:.1f}", state)
    Console(stderr=True).print(table)
    for member in ranked:
        if member.state == "failed":
            print(f"failed: {member.name}: {member.reason}", file=sys.stderr)
    if ranked and ranked[0].state == "done":
        best = ranked[0]
        print(
            f"best on dev: {sweep.folder / best.name / 'model.asr'}, from\n"
            f"  {_shell(['asr', *recipe.arguments(best, sweep.folder / best.name)])}",
            file=sys.stderr,
        )


class _Recipe:
    """What the members of a sweep have in common: the recipe, the command, and the settings that stay."""

    def __init__(self, args: argparse.Namespace, command: str, fixed: Sequence[str]) -> None:
        self.path, self.name = args.recipe, command
        self.archive = getattr(args, "archive", None)
        self.output_dir = [text for text in fixed if text.startswith("output_dir=")]
        self.fixed = [text for text in fixed if text not in self.output_dir]
        self._prepared: dict[str, dict[str, Any]] = {}  # the options of each training manifest

    def first(self, axes: Sequence[Any]) -> tuple[dict[str, Any], Path]:
        """Return the configuration of a first member that can be composed, and the folder of the sweep."""
        from asr.cli.config import find_recipe, load_config

        refused = None
        for index in range(max(1, *(len(axis.choices) for axis in axes))):
            varied = []
            for axis in axes:
                low = int(axis.low) if axis.integer else axis.low
                varied.append(
                    f"{axis.key}={axis.choices[index % len(axis.choices)] if axis.choices else low}"
                )
            try:
                config = load_config(self.path, [*self.fixed, *self.output_dir, *varied])
            except ConfigError as error:
                refused = refused or error
                continue
            folder = Path(config["output_dir"])
            if not self.output_dir:  # its default may hold a setting that varies
                path = find_recipe(self.path)
                folder = folder.parent / f"{path.parent.name}-{path.stem}-sweep"
            return config, folder
        assert refused is not None
        raise refused

    def arguments(self, member: Any, folder: Path) -> list[str]:
        """Return the arguments of ``asr`` that train a member."""
        arguments = [self.name, self.path, *self._overrides(member, folder)]
        return arguments + (["--archive", str(self.archive)] if self.archive else [])

    def command(self, member: Any, folder: Path) -> list[str]:
        """Return the command that trains a member, once its settings are checked and its corpus is there.

        Raises
        ------
        AsrError
            If the settings do not fit, or the corpus cannot be made.
        """
        from asr.cli.config import recipe_options
        from asr.cli.run import prepare_corpus

        config = self.config(member, folder)
        if self.name == "run":
            # Here, one after the other: members that do it at the same time would write the same files.
            options = {key: config.get(key) for key in recipe_options(config)}
            manifest = config["data"]["train"]
            if manifest not in self._prepared:
                prepare_corpus(config, self.archive)
                self._prepared[manifest] = options
            differing = [key for key in options if options[key] != self._prepared[manifest][key]]
            if differing:
                raise ConfigError(
                    f"{', '.join(differing)}: {manifest} is made of other values for another member; give "
                    f"each its data, as in 'data.dir=data/x-${{{differing[0]}}}', or share them: asr prepare "
                    "and asr train -m"
                )
        return [sys.executable, "-m", "asr.cli.main", *self.arguments(member, folder)]

    def config(self, member: Any, folder: Path) -> dict[str, Any]:
        """Return a member's configuration."""
        from asr.cli.config import load_config

        return load_config(self.path, self._overrides(member, folder))

    def require_same(self, member: Any, folder: Path) -> None:
        """Refuse a member of the sweep in `folder` that was trained with other settings.

        Raises
        ------
        ConfigError
        """
        import yaml

        from asr.training.folder import require_same_run

        path = folder / member.name / "config.yaml"
        if path.exists():
            saved = yaml.safe_load(path.read_text(encoding="utf-8"))
            require_same_run({"config": saved}, self.config(member, path.parent), path.parent)

    def _overrides(self, member: Any, folder: Path) -> list[str]:
        varied = [f"{key}={value}" for key, value in member.values.items()]
        return [*self.fixed, *varied, f"output_dir={quoted(str(folder))}"]


def _shell(arguments: Sequence[str]) -> str:
    """Write a command as one would type it; `shlex.join` writes single quotes in a way that nobody reads."""
    return " ".join(
        f'"{word}"' if "'" in word and not set(word) & set('"$`\\\\!') else shlex.quote(word)
        for word in arguments
    )


def _group_choices(recipe: str, group: str) -> list[str]:
    """Return the names of a group's choices, the recipe's own among them."""
    from asr.cli.config import find_recipe, resource

    folders = (resource("conf") / group, find_recipe(recipe).parent / group)
    return sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})


def _devices() -> list[str]:
    """Return the CUDA devices to divide among trainings, nothing if there is one or none."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return found if len(found) > 1 else []
