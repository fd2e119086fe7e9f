"""Curves of a training as SVG, drawn for the page: its colours and letters, no script, sharp on paper."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 8, 10, 24
_MOST_READINGS = 250  # places of a chart that tell their values


@dataclass(frozen=True)
class Chart:
    """What one chart shows.

    Attributes
    ----------
    title : str
    names : mapping of str to str
        What the metrics are called, by their keys.
    share : bool
        Whether they are fractions, to be shown as percent.
    log : bool
        Whether the axis is logarithmic where the values differ tenfold and more.
    quiet : bool
        Whether nothing is drawn as long as all values are 0.
    """

    title: str
    names: Mapping[str, str]
    share: bool = False
    log: bool = False
    quiet: bool = False


CHARTS = (
    Chart("Loss, nats a token", {"train_loss": "train", "dev_loss": "dev"}, log=True),
    Chart("Errors on dev", {"dev_wer": "WER", "dev_cer": "CER"}, share=True, log=True),
    Chart("Perplexity on dev", {"dev_ppl": "a token", "dev_ppl_per_word": "a word"}, log=True),
    Chart("Learning rate", {"lr": "at the end of the epoch"}),
    Chart("Gradient norm", {"grad_norm": "mean of the epoch, before clipping"}, log=True),
    Chart("Frames whose likeliest token is blank", {"blank_rate": "train"}, share=True),
    Chart("Seconds of audio a second", {"audio_seconds_per_second": "train"}),
    Chart("Tokens a second", {"tokens_per_second": "train"}),
    Chart("Seconds an epoch", {"seconds": "train", "dev_seconds": "dev"}),
    Chart("Time spent waiting for data", {"waiting_share": "train"}, share=True),
    Chart("Frames of the batches that are no padding", {"useful_share": "train"}, share=True),
    Chart("Peak memory, MiB", {"peak_memory_mib": "so far"}),
    Chart(
        "Steps skipped",
        {"skipped_steps": "not finite", "overflowed_steps": "float16 overflow"},
        quiet=True,
    ),
    Chart("Batches divided for memory", {"split_batches": "train"}, quiet=True),
)
KNOWN = {"epoch", "step"}.union(*(chart.names for chart in CHARTS))


def draw_all(history: Sequence[Mapping[str, Any]], best_epoch: int | None) -> list[str]:
    """Return a figure for each chart that the metrics have values for; unknown metrics get one of their own.

    Parameters
    ----------
    history : sequence of mapping
        The metrics of each epoch.
    best_epoch : int, optional
        Is marked.
    """
    keys = {key: None for entry in history for key, value in entry.items() if finite(value) is not None}
    others = [Chart(key, {key: "value"}) for key in keys if key not in KNOWN]
    figures = []
    for chart in (*CHARTS, *others):
        series = {
            name: [finite(entry.get(key)) for entry in history]
            for key, name in chart.names.items()
            if key in keys
        }
        if not series or (chart.quiet and not any(value for values in series.values() for value in values)):
            continue
        figures.append(draw(chart, [entry["epoch"] for entry in history], series, best_epoch))
    return figures


def draw(
    chart: Chart,
    epochs: Sequence[int],
    series: Mapping[str, Sequence[float | None]],
    best_epoch: int | None = None,
) -> str:
    """Return a ``<figure>`` of values by epoch; None leaves a gap."""
    values = [value for points in series.values() for value in points if value is not None]
    show = percent if chart.share else number
    if chart.log and min(values) > 0 and max(values) >= 10 * min(values):
        ticks, kind = log_ticks(min(values), max(values)), ", log scale"
        low, high = min(*ticks, *values), max(*ticks, *values)
        height: Callable[[float], float] = lambda v: math.log(v / low) / math.log(high / low)  # noqa: E731
    else:
        ticks, kind = linear_ticks(min(0.0, *values), max(values)), ""
        low, high = ticks[0], ticks[-1]
        height = lambda v: (v - low) / (high - low)  # noqa: E731
    first, last = min(epochs), max(epochs)

    def x(epoch: float) -> float:
        share = (epoch - first) / (last - first) if last > first else 0.5
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - height(value) * (HEIGHT - _BOTTOM - _TOP)

    parts = []
    for tick in ticks:
        at = y(tick)
        parts.append(f'<path class="grid" d="M{_LEFT},{at:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="y" x="{_LEFT - 5}" y="{at + 4:.1f}">{show(tick)}</text>')
    for tick in (t for t in linear_ticks(first, last, most=6) if t == int(t) and first <= t <= last):
        parts.append(f'<text class="x" x="{x(tick):.1f}" y="{HEIGHT - 7}">{tick:.0f}</text>')
    if best_epoch is not None and first <= best_epoch <= last:
        parts.append(f'<path class="best" d="M{x(best_epoch):.1f},{_TOP}V{HEIGHT - _BOTTOM}"/>')
    for index, points in enumerate(series.values()):
        parts.append(f'<path class="line s{index}" d="{_line(epochs, points, x, y)}"/>')
    parts += _readings(epochs, series, x, show)
    swatches = "".join(
        f'<span><i class="s{index}"></i>{html.escape(name)} <b>{show(_last(points))}</b></span>'
        for index, (name, points) in enumerate(series.items())
    )
    return (
        f'<figure class="chart"><figcaption><h3>{html.escape(chart.title)}{kind}</h3>'
        f'<p class="key">{swatches}</p></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(chart.title)} by epoch">{"".join(parts)}</svg></figure>'
    )


def _line(
    epochs: Sequence[int],
    points: Sequence[float | None],
    x: Callable[[float], float],
    y: Callable[[float], float],
) -> str:
    """Return the path through the points; one without neighbours is a dot, drawn by the line's round end."""
    commands, drawing = [], False
    for epoch, value in zip(epochs, points, strict=True):
        if value is None:
            drawing = False
            continue
        commands.append(f"{'L' if drawing else 'M'}{x(epoch):.1f},{y(value):.1f}{'' if drawing else 'h0'}")
        drawing = True
    return "".join(commands)


def _readings(
    epochs: Sequence[int],
    series: Mapping[str, Sequence[float | None]],
    x: Callable[[float], float],
    show: Callable[[float | None], str],
) -> list[str]:
    """Return invisible strips that tell an epoch's values to who points at them."""
    every = math.ceil(len(epochs) / _MOST_READINGS)
    width = (WIDTH - _LEFT - _RIGHT) / max(1, len(epochs) - 1) * every
    strips = []
    for index in range(0, len(epochs), every):
        told = ", ".join(f"{name} {show(points[index])}" for name, points in series.items())
        strips.append(
            f'<rect class="strip" x="{x(epochs[index]) - width / 2:.1f}" y="{_TOP}" width="{width:.1f}" '
            f'height="{HEIGHT - _TOP - _BOTTOM}">'
            f"<title>epoch {epochs[index]}: {html.escape(told)}</title></rect>"
        )
    return strips


def linear_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers from at most `low` to at least `high`, in steps of 1, 2 or 5 times 10^n."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    start, stop = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(n * step, 12) for n in range(start, stop + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return the numbers 1, 2 and 5 times 10^n within a range, only the powers of ten if they are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for multiples in ((1, 2, 5), (1,)):
        found = [m * 10.0**p for p in powers for m in multiples if low <= m * 10.0**p <= high]
        if len(found) <= 7:
            break
    return found


def percent(value: float | None) -> str:
    """Return a fraction as percent."""
    if value is None:
        return "–"
    return f"{100 * value:.3g}%" if value < 1 else f"{100 * value:.0f}%"


def number(value: float | None) -> str:
    """Return a number with about four digits."""
    if value is None:
        return "–"
    if value == 0 or 0.001 <= abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2g}"


def _last(points: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(points) if value is not None), None)


def finite(value: Any) -> float | None:
    """Return a value if it is a number that can be drawn."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value
