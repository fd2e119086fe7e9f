"""Building from configuration: only our own names, all mistakes at once."""

import pytest

from asr.build import build, problems, resolve
from asr.decoding.greedy import GreedyDecoder
from asr.errors import ConfigError

LAYER = "asr.models.encoder.RecurrentEncoder"


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "torch.load",
        "asr",
        "asr.build",
        "asr.build._build",
        "asr.data.dataset.torch",
        "asr.data.dataset.np.load",
        "asr.model_file.json",
        "asr.model_file.safe_open",
        "asr.no_such_module.Thing",
        "asr.features.NoSuchThing",
        "asr.features.",
        "asr.cli.config.load_prepare",
        "asr.data.manifest.write_manifest",
        "asr.audio.save",
        "",
        None,
        7,
    ],
)
def test_nothing_but_public_names_of_ours_is_built(target):
    with pytest.raises(ConfigError):
        resolve(target)


def test_builds_nested_objects_first():
    front_end = build(
        {
            "_target_": "asr.features.FrontEnd",
            "extractor": {"_target_": "asr.features.LogMel", "sample_rate": 8000, "n_mels": 20},
        }
    )
    assert (front_end.sample_rate, front_end.output_size) == (8000, 20)


def test_lists_every_mistake_with_its_place_and_remedy():
    config = {"_target_": LAYER, "hiden_size": 5, "dropout": "much", "bidirectional": 1, "cell": "lstn"}
    found = "; ".join(problems(config, "model.encoder"))
    assert "model.encoder.hiden_size: asr.models.encoder.RecurrentEncoder has no such option" in found
    assert "did you mean 'hidden_size'?" in found
    assert "model.encoder.dropout: expected float, found 'much'" in found
    assert "model.encoder.bidirectional: expected bool, found 1" in found
    assert "model.encoder.cell: expected one of lstm, gru, rnn, rnn_relu, ligru, found 'lstn'" in found
    assert "'input_size' is missing" in found


def test_a_value_that_the_constructor_refuses_is_a_configuration_error():
    with pytest.raises(ConfigError, match="must be positive"):
        build({"_target_": LAYER, "hidden_size": -1}, input_size=4)


@pytest.mark.parametrize(
    ("option", "value", "fits"),
    [
        ("dropout", 0, True),
        ("dropout", True, False),
        ("hidden_size", 1.0, False),
        ("residual", "yes", False),
        ("cell", "gru", True),
    ],
)
def test_types_are_checked_against_the_signature(option, value, fits):
    assert (problems({"_target_": LAYER, option: value}, supplied=["input_size"]) == []) is fits


def test_an_object_of_ours_is_not_a_plain_value():
    found = problems({"_target_": "asr.features.FrontEnd", "extractor": "logmel"}, "features")
    assert found
    assert found[0].startswith("features.extractor: expected Extractor, found 'logmel'")


def test_an_object_must_be_of_the_kind_that_its_place_asks_for():
    normalizer = {"_target_": "asr.text.Normalizer"}
    nested = {"_target_": "asr.features.FrontEnd", "extractor": normalizer}
    assert problems(nested, "features") == ["features.extractor: asr.text.Normalizer is no Extractor"]
    assert problems(normalizer, "decoder", kind=GreedyDecoder) == [
        "decoder: asr.text.Normalizer is no GreedyDecoder"
    ]
    assert problems({"_target_": LAYER, "dropout": normalizer}, supplied=["input_size"]) == [
        "dropout: asr.text.Normalizer is no float"
    ]
