"""Tuning: a language model that helps is taken, one that does not is left, and the figures are true."""

import math

import numpy as np
import pytest
import torch

from asr.decoding.error_surface import Setting, Surface, cross_validate, paired_gain
from asr.decoding.surface import draw_svg
from asr.decoding.tune import DevUtterance, tune

PIECES = ("", " ", "a", "b", "c")

ARPA = """\\data\\
ngram 1={num}
ngram 2=1

\\1-grams:
-99\t<s>\t0
-0.5\t</s>
-4\t<unk>\t0
{words}

\\2-grams:
-0.5\t<s> </s>

\\end\\
"""


def model_of(words):
    lines = "\n".join(f"{math.log10(p):.5f}\t{word}\t0" for word, p in words.items())
    return ARPA.format(num=len(words) + 3, words=lines).encode()


def confused_dev_set(num_utterances=30):
    """Return utterances "ab ab ..." in which the model hears "ac" a little better in every fourth word."""
    generator = np.random.default_rng(0)
    utterances = []
    for number in range(num_utterances):
        count = int(generator.integers(2, 5))
        rows = []
        for word in range(count):
            heard_c = (number + word) % 4 == 0
            for char in ([" "] if word else []) + ["a", "b"]:
                row = torch.full((5,), 0.02)
                row[PIECES.index(char)] = 0.92
                if char == "b" and heard_c:
                    row[3:] = torch.tensor([0.4, 0.54])
                blank = torch.full((5,), 0.01)
                blank[0] = 0.96
                rows += [row, blank]
        utterances.append(DevUtterance(" ".join(["ab"] * count), torch.stack(rows).log(), f"s{number % 10}"))
    return utterances


def run(words, **options):
    return tune(confused_dev_set(), PIECES, 0.02, {}, {"lm": model_of(words)}, beam_sizes=(5, 20), **options)


def test_a_model_that_knows_the_words_is_taken_and_the_gain_is_the_difference():
    result = run({"ab": 0.5, "ac": 0.001, "b": 0.01})
    assert result.accepted
    assert result.tuned_errors == 0 < result.greedy_errors
    assert result.gain == pytest.approx(100 * result.greedy_errors / result.num_words)
    assert 0 < result.interval[0] <= result.gain <= result.interval[1]
    assert result.config["_target_"].endswith("BeamDecoder")
    assert result.config["calibration"]["_target_"].endswith("Calibration")
    assert result.beam_size == 5
    assert set(result.assets) == {"lm"}
    assert result.num_outside == 0


def test_a_model_of_other_words_leaves_greedy():
    result = run({"ca": 0.4, "bb": 0.1, "cb": 0.3})
    assert not result.accepted
    assert result.config["_target_"].endswith("GreedyDecoder")
    assert result.assets == {}
    assert result.num_outside == result.num_words


def test_the_best_setting_has_good_neighbours():
    errors = np.full((1, 5, 5, 1), 10)
    errors[0, 0, 0, 0] = 5  # one lucky cell
    errors[0, 2:5, 2:5, 0] = 6  # a valley
    surface = Surface((0.0, 1.0, 2.0, 3.0, 4.0), (0.0, 1.0, 2.0, 3.0, 4.0), (0.0,), errors)
    assert surface.setting(surface.best()).lm_weight >= 2.0


def test_each_part_is_scored_with_the_setting_that_is_best_without_it():
    errors = np.zeros((2, 4, 1, 1), dtype=np.int64)
    errors[0, :2], errors[0, 2:] = 0, 9  # the first speaker wants small weights,
    errors[1, :2], errors[1, 2:] = 7, 0  # the second large ones
    surface = Surface((0.0, 1.0, 2.0, 3.0), (0.0,), (0.0,), errors)
    assert cross_validate(surface, ["x", "y"]).tolist() == [9, 7]


def test_the_paired_gain_is_in_points_with_its_interval():
    gain, (low, high) = paired_gain(np.array([2] * 50), np.array([1] * 50), [10] * 50)
    assert (gain, low, high) == pytest.approx((10.0, 10.0, 10.0))
    gain, (low, high) = paired_gain(np.array([1, 0] * 50), np.array([0, 1] * 50), [10] * 100)
    assert gain == 0.0
    assert low < 0 < high


def test_the_surface_is_drawn_as_svg():
    import xml.etree.ElementTree as ET

    errors = np.arange(6).reshape(1, 3, 2, 1)
    surface = Surface((0.0, 0.1, 0.2), (-1.0, 1.0), (0.0,), errors)
    root = ET.fromstring(draw_svg(surface, 10, Setting(0.1, 1.0)))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [f"{10 * n:.2f}" for n in range(6)] == [
        t for t in texts if t and t.count(".") == 1 and len(t) >= 4
    ][:6]
