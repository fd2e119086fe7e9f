"""Tables and figures of what `run.py` has found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from asr.files import atomic_write

if TYPE_CHECKING:
    from run import Result

_STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
# A hue a cell, the darker the better its start.
_COLORS = {
    "rnn, as torch": "#f4a582",
    "rnn, orthogonal": "#b2182b",
    "relu rnn, orthogonal": "#c2a5cf",
    "relu rnn, identity": "#762a83",
    "lstm, as torch": "#92c5de",
    "lstm, forget bias one": "#4393c3",
    "lstm, chrono": "#053061",
    "gru, as torch": "#a6dba0",
    "gru, chrono": "#1b7837",
}


def tables(results: Sequence[Result]) -> str:
    """Return Markdown: for each task what was solved, and how gradients behaved."""
    parts = []
    for task in dict.fromkeys(r.task for r in results):
        own = [r for r in results if r.task == task]
        lags = sorted({r.lag for r in own})
        variants = list(dict.fromkeys(r.variant for r in own))
        both_ways = [v for v in variants if v.replace("clip 1", "no clip") in variants]
        # Before training clipping makes no difference.
        clipped = [v for v in variants if v.endswith("clip 1")]
        for title, rows, cell in (
            (f"{task}: seeds that solved it, after how many updates; else error", variants, _outcome),
            (f"{task}: gradient left over the whole lag before training", clipped, _reach),
            (f"{task}: largest gradient norm while training", both_ways, _largest),
        ):
            lines = [f"| {title} | {' | '.join(map(str, lags))} |", "|---" * (len(lags) + 1) + "|"]
            for row in rows:
                groups = [[r for r in own if (r.variant, r.lag) == (row, lag)] for lag in lags]
                name = row.removesuffix(", clip 1") if cell is _reach else row
                lines.append(f"| {name} | {' | '.join(cell(group) for group in groups)} |")
            parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _outcome(group: Sequence[Result]) -> str:
    trained = [r for r in group if r.max_updates]
    if not trained:
        return "not trained"
    solved = [r.updates for r in trained if r.updates is not None]
    text = f"{len(solved)}/{len(trained)}: "
    text += _span(solved, "d") if solved else f"error {_span([r.error for r in trained], '.2f')}"
    diverged = sum(r.diverged for r in trained)
    return text + (f", {diverged} diverged" if diverged else "")


def _reach(group: Sequence[Result]) -> str:
    return _span([r.reach_before[-1] for r in group], ".0e") if group else ""


def _largest(group: Sequence[Result]) -> str:
    trained = [r.largest_gradient for r in group if r.max_updates]
    return _span(trained, ".0e") if trained else "not trained"


def _span(values: Sequence[float], form: str) -> str:
    low, high = ("0" if v == 0 and form == ".0e" else format(v, form) for v in (min(values), max(values)))
    return low if low == high else f"{low} - {high}"


def plot_reach(path: Path, results: Sequence[Result]) -> None:
    """Draw the gradient's size over the frames it has gone back: thick the median, thin each seed.

    The first panel is before training, at the longest lag; the others after it, for each task at the longest
    lag that any network solved. Without clipping the curves before training are the same.
    """
    panels = [(*max((r.lag, r.task) for r in results)[::-1], "reach_before")]
    for task in dict.fromkeys(r.task for r in results):
        solved = [r.lag for r in results if r.task == task and r.updates is not None]
        panels += [(task, max(solved), "reach_after")] if solved else []
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(1.8 + 3.2 * len(panels), 3.4), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0].tolist()
        for axis, (task, lag, when) in zip(axes, panels, strict=True):
            for name, color in _COLORS.items():
                group = [r for r in results if (r.task, r.lag) == (task, lag)]
                group = [r for r in group if r.variant == f"{name}, clip 1"]
                if not group:
                    continue
                curves = np.array([getattr(r, when) for r in group], dtype=float)
                curves = np.clip(np.nan_to_num(curves, nan=np.inf), 1e-16, 1e16)
                frames = np.array(group[0].frames_back) + 1
                axis.plot(frames, curves.T, color=color, lw=0.6, alpha=0.4)
                axis.plot(frames, np.median(curves, axis=0), color=color, lw=1.6, label=name)
            axis.axhline(1, color="0.6", lw=0.6, zorder=0)
            axis.set(xscale="log", yscale="log", xlabel="frames back + 1", ylim=(1e-10, 1e4))
            axis.set_title(f"{task}, lag {lag}, {when.removeprefix('reach_')} training", loc="left")
        axes[0].set_ylabel("gradient of the loss, relative")
        axes[-1].legend(fontsize=7.5, loc="center left", bbox_to_anchor=(1, 0.5))
        _save(figure, path)


def plot_updates(path: Path, results: Sequence[Result]) -> None:
    """Draw after how many updates each seed solved each lag; those that did not lie on the line above."""
    trained = [r for r in results if r.max_updates and r.variant.endswith("clip 1")]
    tasks = list(dict.fromkeys(r.task for r in trained))
    if not tasks:
        return
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(1.8 + 3.6 * len(tasks), 3.4), layout="constrained")
        axes = figure.subplots(1, len(tasks), squeeze=False)[0].tolist()
        for axis, task in zip(axes, tasks, strict=True):
            most = max(r.max_updates for r in trained if r.task == task)
            never = 1.25 * most
            for place, (name, color) in enumerate(_COLORS.items()):
                group = [r for r in trained if (r.task, r.variant) == (task, f"{name}, clip 1")]
                lags = sorted({r.lag for r in group})
                if not lags:
                    continue
                # Side by side, so that no point hides another.
                shift = 1.035 ** (place - len(_COLORS) / 2)
                runs = [[r.updates or never for r in group if r.lag == lag] for lag in lags]
                axis.plot(
                    [lag * shift for lag, values in zip(lags, runs, strict=True) for _ in values],
                    [value for values in runs for value in values],
                    ".",
                    color=color,
                    ms=6,
                )
                medians = [float(np.median(values)) for values in runs]
                axis.plot([lag * shift for lag in lags], medians, color=color, lw=1.4, label=name)
            axis.axhline(never, color="0.6", lw=0.6, zorder=0)
            axis.set(xscale="log", yscale="log", xlabel="lag, frames")
            ticks = [v for v in (20, 50, 100, 200, 500, 1000) if v <= most]
            axis.set_yticks([*ticks, never], [*map(str, ticks), "never"])
            axis.minorticks_off()
            axis.set_xticks(lags := sorted({r.lag for r in trained}), [str(lag) for lag in lags])
            axis.set_title(task, loc="left")
        axes[0].set_ylabel("updates until solved")
        axes[-1].legend(fontsize=7.5, loc="center left", bbox_to_anchor=(1, 0.5))
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
