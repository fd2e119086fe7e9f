"""Groups of utterances: which there are, in which order, and that their counts are the score's."""

import pytest

from asr.errors import ConfigError
from asr.scoring import group_by, score


def _score(values, field="value", **options):
    """Make a score of one utterance a value, the n-th of n words of which one is wrong."""
    references = {str(n): " ".join(["a"] * n) for n, _ in enumerate(values, start=1)}
    hypotheses = {id: text.replace("a", "b", 1) for id, text in references.items()}
    fields = {id: {} if v is None else {field: v} for id, v in zip(references, values, strict=True)}
    return score(references, hypotheses, fields=fields, **options)


@pytest.mark.parametrize(
    ("field", "values", "names"),
    [
        ("value", ["s10", "s2", "s2", "s1"], ("s1", "s2", "s10")),
        ("value", ["x", None, "", "a"], ("a", "x", "(none)")),
        ("value", [3, 1, 1, 2], ("1", "2", "3")),
        ("value", [True, False], ("False", "True")),
        ("value", ["b", 2, 1.5], ("1.5", "2", "b")),
        # Thirteen different numbers are too many to list: they are cut into fifths.
        ("value", range(1, 14), ("below 4", "4-5", "6-8", "9-10", "11 and more")),
        ("value", [str(n) for n in range(1, 14)], ("below 4", "4-5", "6-8", "9-10", "11 and more")),
        (
            "value",
            [16000 * n for n in range(1, 14)],
            ("below 64000", "64000-95999", "96000-143999", "144000-175999", "176000 and more"),
        ),
        (
            "value",
            [n / 7 for n in range(1, 14)],
            ("below 0.571", "0.571 to 0.857", "0.857 to 1.29", "1.29 to 1.57", "1.57 and more"),
        ),
        ("value:each", range(1, 14), tuple(map(str, range(1, 14)))),
        ("value:2,5", [1, 2, 4.5, 5, 9], ("below 2", "2 to 5", "5 and more")),
        ("value:2,5", [1, 2, 4, 5, None], ("below 2", "2-4", "5 and more", "(none)")),
        ("value:0.5", ["0.1", "0.5"], ("below 0.5", "0.5 and more")),
        # Speakers may be numbered, but they are not a quantity.
        ("speaker", range(1, 14), tuple(map(str, range(1, 14)))),
        ("duration", [0.5, 1, 1.99, 60, 61], ("0 to 1", "1 to 2", "60 and more")),
        ("reference_length", range(5), ("1", "2-3", "4-6")),
        ("with:colon", ["x", "y"], ("x", "y")),
    ],
)
def test_names_of_groups(field, values, names):
    name = field if field == "with:colon" else field.split(":")[0]
    grouping = group_by(_score(values, "none" if name == "reference_length" else name), field)
    assert grouping.names == names
    assert grouping.field == name


def test_a_bin_holds_its_lower_edge_and_not_its_upper():
    grouping = group_by(_score([0.99, 1.0, 1.99, 2.0], "duration"), "duration")
    assert [grouping.names[g] for g in grouping.members] == ["0 to 1", "1 to 2", "1 to 2", "2 to 5"]


def test_groups_add_up_to_the_score():
    references = {"a1": "the cat sat", "a2": "hello", "b1": "good bye my dear", "c1": ""}
    hypotheses = {"a1": "the bat sat on", "a2": "", "b1": "good bye my dear", "c1": "uh"}
    fields = {id: {"speaker": id[0]} for id in references}
    result = score(references, hypotheses, fields=fields)
    groups = group_by(result, "speaker").split(result)
    # name, utterances, C, S, D, I; speaker a counted by hand: cat/bat, on inserted, hello deleted.
    rows = [(g.name, g.num_sentences, g.hits, g.substitutions, g.deletions, g.insertions) for g in groups]
    assert rows == [("a", 2, 2, 1, 1, 1), ("b", 1, 4, 0, 0, 0), ("c", 1, 0, 0, 0, 1)]
    assert [group.error_rate for group in groups] == [3 / 4, 0.0, float("inf")]
    assert groups[2].to_dict()["error_rate"] is None
    assert sum(group.length for group in groups) == result.num_words


def test_characters_are_counted_where_these_are_scored():
    result = score(["ab cd", "x"], ["ab ce", "x"], unit="character")
    (group,) = group_by(result, "reference_length:0,10").split(result)
    assert (group.length, group.substitutions) == (6, 1)


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("sex", ["x"], "field 'sex' is not known of any utterance; choose one of value, reference_length"),
        ("value", [["x"]], "field 'value' holds lists"),
        ("value:1,2", ["x"], "cannot be put into bins: 'x' is not a number"),
        ("value:1,2", [True], "True is not a number"),
        ("value:2,1", [1], "expected rising numbers such as value:1,2,5"),
        ("value:1,,2", [1], "expected rising numbers"),
        ("value:-", [1], "expected rising numbers"),
    ],
)
def test_what_cannot_be_grouped_is_said_in_a_line(field, values, message):
    with pytest.raises(ConfigError, match=message) as error:
        group_by(_score(values), field)
    assert "\n" not in str(error.value)
