"""The search for weights as a picture: a heat map in SVG, which any browser shows."""

from __future__ import annotations

import numpy as np

from asr.decoding.error_surface import Setting, Surface

_CELL_WIDTH, _CELL_HEIGHT, _LEFT, _TOP = 44, 20, 90, 70
_BEST, _WORST = (0x1B, 0x78, 0x37), (0xF7, 0xE8, 0xC8)


def draw_svg(surface: Surface, num_words: int, chosen: Setting) -> str:
    """Draw the dev word error rate over language weight and word bonus.

    Colours run from the best rate to the worst one and end at three times the best; the rescoring weight is
    the chosen one.
    """
    depth = surface.rescore_weights.index(chosen.rescore_weight)
    rates = 100 * surface.errors.sum(axis=0)[:, :, depth] / num_words
    low = float(rates.min())
    high = max(min(float(rates.max()), 3 * low), low + 1e-9)
    num_rows, num_columns = rates.shape
    width = _LEFT + _CELL_WIDTH * num_columns + 20
    height = _TOP + _CELL_HEIGHT * num_rows + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">dev word error rate, %, from re-ranked n-best lists</text>',
        f'<text x="{_LEFT}" y="42">word bonus (nats)</text>',
        f'<text x="10" y="{_TOP - 6}">LM weight</text>',
    ]
    for column, bonus in enumerate(surface.word_bonuses):
        x = _LEFT + _CELL_WIDTH * column + _CELL_WIDTH // 2
        parts.append(f'<text x="{x}" y="{_TOP - 6}" text-anchor="middle">{bonus:+g}</text>')
    for row, weight in enumerate(surface.lm_weights):
        y = _TOP + _CELL_HEIGHT * row
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end">{weight:g}</text>')
        for column, bonus in enumerate(surface.word_bonuses):
            x = _LEFT + _CELL_WIDTH * column
            share = float(np.clip((rates[row, column] - low) / (high - low), 0, 1))
            is_chosen = (weight, bonus) == (chosen.lm_weight, chosen.word_bonus)
            stroke = 'stroke="black" stroke-width="3"' if is_chosen else 'stroke="white"'
            ink = "white" if share < 0.5 else "black"
            parts.append(
                f'<rect x="{x}" y="{y}" width="{_CELL_WIDTH}" height="{_CELL_HEIGHT}" '
                f'fill="{_colour(share)}" {stroke}/>'
                f'<text x="{x + _CELL_WIDTH // 2}" y="{y + 14}" text-anchor="middle" fill="{ink}">'
                f"{rates[row, column]:.2f}</text>"
            )
    return "\n".join([*parts, "</svg>\n"])


def _colour(share: float) -> str:
    mixed = (round(a + share * (b - a)) for a, b in zip(_BEST, _WORST, strict=True))
    return "#" + "".join(f"{value:02x}" for value in mixed)
