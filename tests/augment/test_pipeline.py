"""All augmentations together: where, in which order, from which streams, and on what."""

import json

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from asr import audio
from asr.augment import KINDS, Augmentation, utterance_rng
from asr.augment.pipeline import PURPOSES
from asr.build import resolve
from asr.cli.config import load_config
from asr.data.dataset import SpeechDataset
from asr.data.manifest import read_manifest
from asr.errors import ConfigError, DataError
from asr.features import FrontEnd, LogMel

RATE = 8000
TARGETS = {key: f"asr.augment.{kind.__name__}" for key, kind in KINDS.items()}


def config(*keys, **options):
    parts = {key: {"_target_": TARGETS[key], "probability": 1.0} for key in keys}
    return {key: part | options.get(key, {}) for key, part in parts.items()}


def augmentation(*keys, seed=3, of_features=False, **options):
    return Augmentation(config(*keys, **options), seed=seed, sample_rate=RATE, of_features=of_features)


def speech(seed=0, seconds=0.5):
    return torch.from_numpy(
        np.random.default_rng(seed).uniform(-0.3, 0.3, round(seconds * RATE)).astype("f4")
    )


def test_every_kind_has_a_stream_of_its_own():
    assert PURPOSES.keys() == KINDS.keys()
    assert len(set(PURPOSES.values())) == len(KINDS)


@pytest.mark.parametrize("key", ["pitch", "room", "noise", "band", "volume"])
def test_turning_one_on_does_not_change_what_another_draws(key):
    """Volume alone is a factor; behind another augmentation it must be the same factor."""
    options = {"volume": {"gain_db": [-12.0, -1.0]}}
    rng = lambda: utterance_rng(3, 1, "u")  # noqa: E731
    alone = augmentation("volume", **options).inputs(speech(), rng()) / speech()
    if key == "volume":
        sped = augmentation("speed", "volume", **options).inputs(speech(), rng())
        expected = augmentation("speed").inputs(speech(), rng()) * alone.median()
    else:
        sped = augmentation(key, "volume", **options).inputs(speech(), rng())
        expected = augmentation(key).inputs(speech(), rng()) * alone.median()
    torch.testing.assert_close(sped, expected, atol=1e-4, rtol=1e-4)


def test_the_sound_takes_its_way_from_the_mouth_into_the_file():
    assert list(KINDS) == [
        "speed", "pitch", "room", "noise", "band", "volume",
        "vocal_tract", "time_warp", "coloration", "frame_noise", "spec",
    ]  # fmt: skip
    # Noise comes after the room and before the band: what is left above the band is nothing.
    options = {"band": {"low_hz": [0, 0], "high_hz": [1500, 1500]}, "noise": {"snr_db": [0, 0]}}
    found = augmentation("noise", "band", **options).inputs(speech(), utterance_rng(3, 0, "u"))
    power = torch.fft.rfft(found).abs().square()
    hz = torch.linspace(0, RATE / 2, len(power))
    assert power[hz > 1800].sum() < 1e-3 * power.sum()


def test_nothing_clips():
    loud = speech() * 3
    found = augmentation("volume", volume={"gain_db": [20.0, 20.0]}).inputs(loud, utterance_rng(3, 0, "u"))
    assert found.abs().max().item() == pytest.approx(1.0)
    torch.testing.assert_close(found / loud, (found / loud)[:1].expand_as(loud))


@pytest.mark.parametrize("of", [None, 0.0])
def test_what_is_off_does_nothing(of):
    parts = {key: None if of is None else {"_target_": TARGETS[key], "probability": of} for key in KINDS}
    off = Augmentation(parts, seed=0, sample_rate=RATE, of_features=True)
    x = speech()
    assert off.inputs(x, utterance_rng(0, 0, "u")) is x
    assert off.speed is None
    assert off.frames(LogMel(), 0, ["u"]) is None
    assert off.mask(x, x, 0, ["u"]) is x


def test_what_changes_waveforms_is_refused_for_precomputed_features():
    with pytest.raises(ConfigError, match=r"augment\.room: .*set augment\.room\.probability=0 augment\.band"):
        augmentation("speed", "room", "band", "vocal_tract", of_features=True)
    frames = torch.randn(50, 13)
    found = augmentation("speed", "spec", of_features=True).inputs(frames, utterance_rng(0, 0, "u"))
    assert found.shape[1] == 13


@pytest.mark.parametrize("key", ["noise", "room"])
def test_bad_files_are_named_with_their_key(key, tmp_path):
    with pytest.raises(DataError, match=rf"augment\.{key}\.files: .*: no audio files in it"):
        augmentation(key, **{key: {"files": str(tmp_path)}})


@pytest.fixture
def manifest(tmp_path):
    (tmp_path / "noise").mkdir()
    audio.save(tmp_path / "noise" / "n.wav", np.random.default_rng(1).uniform(-0.5, 0.5, 3000), RATE)
    lines = []
    for i in range(12):
        name = f"u{i}.wav"
        audio.save(tmp_path / name, speech(i, 0.3 + 0.02 * i).numpy(), RATE)
        lines.append({"audio_filepath": name, "duration": 0.3 + 0.02 * i, "text": "ab"})
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path / "m.jsonl"


class Letters:
    def encode(self, text):
        return [ord(c) - 96 for c in text]


def batches(manifest, order, num_workers=0, batch_size=4, fits=None, **changes):
    noise = {"files": str(manifest.parent / "noise")} | changes
    everything = augmentation("speed", "pitch", "room", "noise", "band", "volume", noise=noise)
    dataset = SpeechDataset(
        read_manifest(manifest), str, Letters(), RATE, 40, transform=everything.inputs, seed=3, fits=fits
    )
    groups = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    loader = DataLoader(dataset, batch_sampler=groups, num_workers=num_workers, collate_fn=list)
    return {e.utterance.id: e.inputs for examples in loader for e in examples}


def test_the_same_audio_whatever_the_workers_the_order_and_the_batch(manifest):
    keys = [(4, i) for i in range(12)]
    expected = batches(manifest, keys)
    for order, workers, size in ((keys[::-1], 0, 5), (keys, 2, 4), (keys[6:] + keys[:6], 2, 1)):
        found = batches(manifest, order, workers, size)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    next_epoch = batches(manifest, [(5, i) for i in range(12)])
    assert not any(torch.equal(next_epoch[name], expected[name]) for name in expected)


def test_what_becomes_too_short_for_its_text_is_left_as_it_was(manifest):
    keys = [(0, i) for i in range(12)]
    originals = {
        u.id: audio.load(u.audio_filepath, sample_rate=RATE).samples for u in read_manifest(manifest)
    }
    augmented = batches(manifest, keys)
    shorter = {name for name in originals if len(augmented[name]) < len(originals[name])}
    assert 0 < len(shorter) < len(originals)
    found = batches(manifest, keys, fits=lambda x, tokens: len(x) > 1e9)
    for name, original in originals.items():
        assert np.array_equal(found[name], original if name in shorter else augmented[name])


def test_frames_and_masks_depend_on_epoch_and_utterance_alone():
    parts = augmentation("vocal_tract", "time_warp", "coloration", "frame_noise", "spec")
    front_end = FrontEnd(LogMel(sample_rate=RATE, n_mels=40), normalize="none")
    waveforms = torch.stack([speech(0, 1), speech(1, 1)])

    def features(epoch, ids, rows):
        x = waveforms[rows]
        lengths = torch.full((len(x),), RATE)
        frames, lengths = front_end(x, lengths, parts.frames(front_end.extractor, epoch, ids))
        return parts.mask(frames, lengths, epoch, ids)

    both = features(2, ["a", "b"], [0, 1])
    torch.testing.assert_close(features(2, ["b"], [1])[0], both[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(features(2, ["b", "a"], [1, 0])[1], both[0], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(features(3, ["a", "b"], [0, 1]), both)
    assert not torch.allclose(features(2, ["c", "d"], [0, 1]), both)


def test_a_package_hands_out_its_own_parts_and_nothing_else():
    assert resolve("asr.augment.SpeedPerturb") is KINDS["speed"]
    for name in ("asr.augment.KINDS", "asr.augment.pipeline", "asr.augment._x", "asr.augment.clips.Clips"):
        with pytest.raises(ConfigError):
            resolve(name)


@pytest.mark.parametrize("choice", ["none", "standard", "strong", "features"])
@pytest.mark.parametrize("recipe", ["digits", "fsdd", "an4"])
def test_every_choice_fits_every_recipe_and_can_be_built(recipe, choice):
    composed = load_config(f"recipes/{recipe}/blstm.yaml", [f"augment={choice}"])["augment"]
    assert list(composed) == list(KINDS)
    built = Augmentation(composed, seed=0, sample_rate=RATE, of_features=choice == "features")
    assert (built.speed is None) == (choice == "none")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("+augment.nose=3", "augment.nose: unknown; did you mean 'noise'"),
        ("augment.noise.snr_db=loud", "augment.noise.snr_db: expected"),
        ("augment.noise.file=x", "file"),
        (
            "augment.spec._target_=asr.augment.SpeedPerturb",
            "augment.spec: asr.augment.SpeedPerturb is no SpecAugment",
        ),
    ],
)
def test_a_mistake_in_the_configuration_is_named(setting, message):
    with pytest.raises(ConfigError) as caught:
        load_config("recipes/digits/blstm.yaml", [setting])
    assert message in str(caught.value)
