"""Figures of what `asr.inspection` finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from asr.files import atomic_write
from asr.types import Word

if TYPE_CHECKING:
    from asr.inspection import GradientReach

# Units that are drawn as lines; more of them are drawn as an image.
MAX_LINES = 8
_DPI = 160
_BOUNDED = {"input", "forget", "output", "reset", "update"}
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def plot_gates(
    path: Path,
    *,
    title: str,
    spectrogram: np.ndarray,
    duration: float,
    max_frequency: float,
    words: Sequence[Word],
    gates: Mapping[str, np.ndarray],
    units: Sequence[int],
    frame_shift: float,
) -> None:
    """Draw a spectrogram with the words above it and the gates below it, one time axis for all.

    Parameters
    ----------
    spectrogram : ndarray, float, (F, T')
        Decibels over `duration` seconds and 0 to `max_frequency` Hz.
    gates : mapping of str to ndarray, float, (T, len(units))
        From top to bottom. Up to `MAX_LINES` units are lines, more are rows of an image, those that keep
        their state longest (largest mean of the forget or update gate) on top.
    units : sequence of int
        What the columns are called.
    frame_shift : float
        Seconds a frame.
    """
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        heights = [1.5, *[1.2] * len(gates)]
        width = float(np.clip(3 + 2.2 * duration, 7, 16))
        figure = Figure(figsize=(width, 1.1 + sum(heights)), layout="constrained")
        axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[
            :, 0
        ].tolist()
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        axes[0].imshow(
            spectrogram,
            origin="lower",
            aspect="auto",
            extent=(0, duration, 0, max_frequency / 1000),
            cmap="magma",
            vmin=spectrogram.max() - 70,
            interpolation="nearest",
        )
        axes[0].set_ylabel("kHz")
        _write_words(axes, words, width / max(duration, 1e-3))
        order = _by_memory(gates)
        for axis, (name, values) in zip(axes[1:], gates.items(), strict=True):
            if len(units) <= MAX_LINES:
                _draw_lines(axis, name, values, units, frame_shift)
            else:
                _draw_image(figure, axis, name, values[:, order], frame_shift)
        if len(units) <= MAX_LINES:
            axes[1].legend(
                title="unit", fontsize=7, title_fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5)
            )
        axes[-1].set_xlabel("seconds")
        axes[-1].set_xlim(0, duration)
        _save(figure, path)


def _write_words(axes: Sequence[Any], words: Sequence[Word], inches_per_second: float) -> None:
    """Write each word above its middle, one line higher where it would touch the one before."""
    ends = [-1.0, -1.0, -1.0]
    for word in words:
        middle = (word.start + word.end) / 2
        half = 0.045 * (len(word.text) + 1) / inches_per_second
        level = next((i for i, end in enumerate(ends) if middle - half >= end), ends.index(min(ends)))
        ends[level] = middle + half
        axes[0].annotate(
            word.text,
            (middle, 1.0),
            (0, 3 + 10 * level),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            fontsize=9,
            fontweight="bold",
        )
        for axis in axes[1:]:
            axis.axvspan(word.start, word.end, ymin=0.97, ymax=1, color="black", lw=0)
        for edge in (word.start, word.end):
            axes[0].axvline(edge, color="white", lw=0.6, alpha=0.7)


def _by_memory(gates: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the units in ascending order of how long they keep their state, for an image drawn upwards."""
    for name in ("forget", "update"):
        if name in gates:
            return np.argsort(gates[name].mean(0), kind="stable")
    return np.arange(next(iter(gates.values())).shape[1])


def _draw_image(figure: Figure, axis: Any, name: str, values: np.ndarray, frame_shift: float) -> None:
    if name in _BOUNDED and values.min() >= 0 and values.max() <= 1:
        limits = {"vmin": 0.0, "vmax": 1.0, "cmap": "viridis"}
    else:
        limit = max(float(np.quantile(np.abs(values), 0.98)), 1e-6)
        limits = {"vmin": -limit, "vmax": limit, "cmap": "RdBu_r"}
    image = axis.imshow(
        values.T,
        origin="lower",
        aspect="auto",
        extent=(0, len(values) * frame_shift, 0, values.shape[1]),
        interpolation="nearest",
        **limits,
    )
    axis.set_ylabel(f"{name}\n{values.shape[1]} units")
    axis.set_yticks([])
    figure.colorbar(image, ax=axis, pad=0.01, aspect=12, fraction=0.03)


def _draw_lines(axis: Any, name: str, values: np.ndarray, units: Sequence[int], frame_shift: float) -> None:
    times = (np.arange(len(values)) + 0.5) * frame_shift
    for column, unit in enumerate(units):
        axis.plot(times, values[:, column], color=_COLORS[column], lw=1.2, label=str(unit))
    axis.axhline(0, color="0.7", lw=0.6, zorder=0)
    if name in _BOUNDED and values.min() >= 0 and values.max() <= 1:
        axis.set_ylim(-0.03, 1.03)
    axis.set_ylabel(name)


def plot_reach(path: Path, reaches: Sequence[GradientReach], *, title: str) -> None:
    """Draw how the gradient changes on its way back, a panel a direction and a line a layer."""
    import matplotlib

    directions = list(dict.fromkeys(reach.direction for reach in reaches))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(1 + 3.6 * len(directions), 3.4), layout="constrained")
        axes = figure.subplots(1, len(directions), sharey=True, squeeze=False)[0]
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)
        for axis, direction in zip(axes, directions, strict=True):
            for reach in (r for r in reaches if r.direction == direction):
                color = _COLORS[(reach.layer - 1) % len(_COLORS)]
                for part, style in (("hidden", "-"), ("cell", "--")):
                    if part not in reach.sums:
                        continue
                    curve = reach.curve(part).numpy()
                    lags = np.arange(len(curve)) * reach.frame_shift
                    shown = curve > 0
                    label = f"layer {reach.layer} {reach.kind}" + (", cell state" if part == "cell" else "")
                    axis.semilogy(lags[shown], curve[shown], style, color=color, lw=1.4, label=label)
            axis.axhline(0.01, color="0.7", lw=0.6, zorder=0)
            axis.set_xlabel(f"seconds {'back' if direction == 'forward' else 'ahead'}")
            axis.set_title(f"{direction} direction", loc="left")
        axes[0].set_ylabel("gradient of the loss, relative")
        axes[-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=_DPI)
