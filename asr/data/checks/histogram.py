"""Histograms of what was measured, as a line of text and as SVG."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

MEASURES = {
    "seconds": "Duration, s",
    "letters_per_second": "Letters a second",
    "peak_db": "Peak, dB of full scale",
    "speech_share": "Share of the time within 40 dB of the loudest part",
}
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 360, 150, 8, 22, 8


@dataclass(frozen=True, slots=True)
class Histogram:
    """How values are spread.

    Attributes
    ----------
    edges : ndarray, float64, (bins + 1,)
    counts : mapping of str to ndarray, int64, (bins,)
        By split.
    median : mapping of str to float
    """

    edges: np.ndarray
    counts: dict[str, np.ndarray]
    median: dict[str, float]


def make_histogram(values: Mapping[str, np.ndarray], bins: int = 24) -> Histogram | None:
    """Count values in bins that all splits share; None if there are no values."""
    filled = {name: found for name, found in values.items() if len(found)}
    if not filled:
        return None
    everything = np.concatenate(list(filled.values()))
    low, high = float(everything.min()), float(everything.max())
    edges = np.linspace(low, high if high > low else low + 1e-6 * max(1.0, abs(low)), bins + 1)
    counts = {name: np.histogram(found, edges)[0] for name, found in filled.items()}
    return Histogram(edges, counts, {name: float(np.median(found)) for name, found in filled.items()})


def sparkline(histogram: Histogram, name: str) -> str:
    """Return a split's histogram as one line: least value, bars, largest value, median."""
    counts = histogram.counts[name]
    heights = np.ceil(counts / max(1, counts.max()) * len(_BARS)).astype(int)
    bars = "".join(_BARS[height - 1] if height else " " for height in heights)
    return (
        f"{histogram.edges[0]:.3g} |{bars}| {histogram.edges[-1]:.3g}   median {histogram.median[name]:.3g}"
    )


def draw(histogram: Histogram, title: str, split: str, colour: int) -> str:
    """Return a ``<figure>`` of a split's histogram; `colour` is one of the page's series, 0 to 2."""
    counts, edges = histogram.counts[split], histogram.edges
    width = (_WIDTH - 2 * _LEFT) / len(counts)
    highest = max(1, int(counts.max()))
    bars = []
    for i, count in enumerate(counts.tolist()):
        height = count / highest * (_HEIGHT - _BOTTOM - _TOP)
        x, y = _LEFT + i * width, _HEIGHT - _BOTTOM - height
        told = f"{edges[i]:.3g} to {edges[i + 1]:.3g}: {count:,}"
        # A strip of full height tells the count; the bar of a rare value would be too small to point at.
        bars.append(
            f'<rect class="bar s{colour}" x="{x + 0.5:.1f}" y="{y:.1f}" width="{width - 1:.1f}" '
            f'height="{max(height, 1.0 if count else 0.0):.1f}"/>'
            f'<rect class="strip" x="{x:.1f}" y="{_TOP}" width="{width:.1f}" '
            f'height="{_HEIGHT - _BOTTOM - _TOP}"><title>{told}</title></rect>'
        )
    for share in (0.0, 0.5, 1.0):
        value = edges[0] + share * (edges[-1] - edges[0])
        x = _LEFT + share * (_WIDTH - 2 * _LEFT)
        anchor = {0.0: "start", 0.5: "middle", 1.0: "end"}[share]
        bars.append(f'<text style="text-anchor:{anchor}" x="{x:.1f}" y="{_HEIGHT - 6}">{value:.3g}</text>')
    median = histogram.median[split]
    name = html.escape(split)
    ground = f'<path class="grid" d="M{_LEFT},{_HEIGHT - _BOTTOM}H{_WIDTH - _LEFT}"/>'
    return (
        f'<figure class="chart"><figcaption><h3>{html.escape(title)}</h3><p class="key"><span>'
        f'<i class="s{colour}"></i>{name} <b>median {median:.3g}</b></span></p></figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}, {name}">'
        f"{ground}{''.join(bars)}</svg></figure>"
    )
