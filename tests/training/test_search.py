"""What a sweep tries: grids in full, searches by Optuna that go on where they were."""

import math
import sys

import pytest

from asr.errors import ConfigError
from asr.training.search import Axis, Grid, OptunaSearch, make_search

LR = Axis("optimizer.lr", low=1e-4, high=1e-1, log=True)
LAYERS = Axis("layers", low=1, high=4, integer=True)
CELL = Axis("cell", ("lstm", "gru", "lstm"))


def all_of(search, result=lambda values: 0.5):
    """Take everything a search proposes, telling it results."""
    found = []
    while (values := search.propose()) is not None:
        found.append(values)
        search.tell(values, result(values))
    return found


def test_a_grid_has_every_combination_once():
    found = all_of(Grid([Axis("seed", ("1", "2")), CELL]))
    assert found == [{"seed": s, "cell": c} for s in ("1", "2") for c in ("lstm", "gru")]


def test_a_grid_leaves_out_what_is_known():
    search = make_search([Axis("seed", ("1", "2", "3"))], None, 0, [({"seed": "2"}, None)])
    assert [values["seed"] for values in all_of(search)] == ["1", "3"]


@pytest.mark.parametrize(
    ("axes", "trials", "kind"),
    [
        ([CELL], None, Grid),
        ([CELL, Axis("seed", ("1", "2"))], 4, Grid),
        ([CELL, Axis("seed", ("1", "2"))], 3, OptunaSearch),
        ([LR], 3, OptunaSearch),
    ],
)
def test_all_is_tried_where_the_trials_suffice(axes, trials, kind):
    assert isinstance(make_search(axes, trials, 0), kind)


def test_an_interval_needs_a_number_of_trials():
    with pytest.raises(ConfigError, match=r"optimizer.lr: an interval .* --trials N"):
        make_search([LR], None, 0)


@pytest.mark.parametrize(
    ("axis", "value", "lies_on_it"),
    [
        (LR, "0.0001", True),
        (LR, "0.2", False),
        (LAYERS, "4", True),
        (CELL, "gru", True),
        (CELL, "rnn", False),
    ],
)
def test_knows_which_values_lie_on_an_axis(axis, value, lies_on_it):
    assert axis.admits(value) == lies_on_it


def test_without_optuna_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'asr\[sweep\]'"):
        make_search([LR], 3, 0)


def test_a_search_stays_in_its_intervals_and_never_repeats_itself():
    search = OptunaSearch([LR, LAYERS, CELL], 30, seed=1)
    found = all_of(search)
    assert len(found) == 30
    assert len({tuple(values.values()) for values in found}) == 30
    for values in found:
        assert 1e-4 <= float(values["optimizer.lr"]) <= 1e-1
        assert values["layers"] in ("1", "2", "3", "4")
        assert values["cell"] in ("lstm", "gru")


def test_a_small_space_is_searched_in_full_and_no_further():
    search = OptunaSearch([LAYERS], 50, seed=1)
    assert sorted(values["layers"] for values in all_of(search)) == ["1", "2", "3", "4"]


def far_from_optimum(values):
    return (math.log10(float(values["optimizer.lr"])) + 2.5) ** 2 + 0.3 * (values["cell"] == "gru")


def test_a_search_closes_in_on_what_is_good():
    found = all_of(OptunaSearch([LR, CELL], 40, seed=3), far_from_optimum)
    early, late = ([far_from_optimum(v) for v in found[a:b]] for a, b in ((0, 10), (30, 40)))
    assert sorted(late)[5] < 0.5 * sorted(early)[5]


def test_a_search_that_is_started_again_goes_on_with_what_is_known():
    first = all_of(OptunaSearch([LR, CELL], 30, seed=3), far_from_optimum)
    known = [(values, far_from_optimum(values)) for values in first] + [
        ({"optimizer.lr": "0.5", "cell": "gru"}, 0.1),  # from an interval that was wider
        ({"optimizer.lr": "0.001", "cell": "lstm"}, None),  # failed
    ]
    again = all_of(OptunaSearch([LR, CELL], 42, seed=3, known=known), far_from_optimum)
    assert len(again) == 42 - len(known)
    assert not {tuple(v.values()) for v in again} & {tuple(v.values()) for v, _ in known}
    median = sorted(far_from_optimum(values) for values in again)[5]
    assert median < sorted(far_from_optimum(values) for values in first[:10])[5]


def test_proposals_differ_while_others_are_under_way():
    search = OptunaSearch([LR, LAYERS], 12, seed=0)
    waiting = [search.propose() for _ in range(12)]
    assert len({tuple(values.values()) for values in waiting}) == 12
    assert search.propose() is None
