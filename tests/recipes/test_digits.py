"""The embedded corpus: repeatable, valid, with disjoint voices, and as noisy as it says."""

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from asr import audio
from asr.data.espeak import Espeak, find_espeak, open_espeak
from asr.data.manifest import read_manifest
from asr.errors import ConfigError, DataError
from recipes.digits import prepare as digits
from recipes.digits.prepare import DIGITS, SAMPLE_RATE, VARIANTS, prepare

SIZES = {"num_train": 12, "num_dev": 4, "num_test": 4}
SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    prepare(folder, **SIZES)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def samples(utterance) -> np.ndarray:
    return audio.load(utterance.audio_filepath, sample_rate=SAMPLE_RATE).samples.astype(np.float64)


def everything(folder: Path):
    return [utterance for split in SPLITS for utterance in read_manifest(folder / f"{split}.jsonl")]


def test_manifests_describe_the_audio(corpus):
    for split in SPLITS:
        utterances = read_manifest(corpus / f"{split}.jsonl")
        assert len(utterances) == SIZES[f"num_{split}"]
        for utterance in utterances:
            info = audio.info(utterance.audio_filepath)
            assert (info.sample_rate, info.channels) == (16000, 1)
            assert info.duration == pytest.approx(utterance.duration, abs=1e-6)
            words = utterance.text.split()
            assert 1 <= len(words) <= 7
            assert set(words) <= set(DIGITS)
            # Digits at 110 to 210 words a minute with 0.2 to 0.8 s of silence around them.
            assert 0.12 * len(words) + 0.2 < utterance.duration < 0.9 * len(words) + 0.9


def test_no_utterance_is_silent_or_clipped(corpus):
    for utterance in everything(corpus):
        waveform = samples(utterance)
        assert np.sqrt(np.mean(waveform**2)) > 0.01, utterance.id
        assert np.abs(waveform).max() < 0.96, utterance.id


def test_splits_share_no_voice_variant(corpus):
    heard = {
        split: {utterance.speaker.split("+")[1] for utterance in read_manifest(corpus / f"{split}.jsonl")}
        for split in SPLITS
    }
    assert all(heard[split] <= set(VARIANTS[split]) for split in SPLITS)
    variants = Counter(variant for split in SPLITS for variant in VARIANTS[split])
    assert max(variants.values()) == 1
    _, data = find_espeak()
    assert set(variants) == {path.name for path in (data / "voices/!v").iterdir()}


def test_is_repeatable_and_a_smaller_corpus_begins_a_larger_one(corpus, tmp_path):
    prepare(tmp_path / "same", **SIZES)
    assert contents(tmp_path / "same") == contents(corpus)
    prepare(tmp_path / "fewer", num_train=3, num_dev=1, num_test=2)
    fewer = contents(tmp_path / "fewer")
    assert sum(name.endswith(".wav") for name in fewer) == 6
    whole = contents(corpus)
    assert all(whole[name] == content for name, content in fewer.items() if name.endswith(".wav"))
    prepare(tmp_path / "other", **SIZES, seed=1)
    assert contents(tmp_path / "other")["test.jsonl"] != whole["test.jsonl"]


def test_noise_has_the_level_that_the_manifest_says(corpus, tmp_path):
    prepare(tmp_path, **SIZES, clean=1.0)
    checked = 0
    for noisy, clean in zip(everything(corpus), everything(tmp_path), strict=True):
        assert (clean.extra["snr_db"], clean.extra["noise"], clean.text) == (None, "none", noisy.text)
        if noisy.extra["snr_db"] is None:
            continue
        mixture, speech = samples(noisy), samples(clean)
        # The clean file may have been scaled otherwise, to keep peaks below 1.
        residual = mixture - speech * (mixture @ speech) / (speech @ speech)
        active = np.flatnonzero(speech)
        ratio = np.mean((mixture - residual)[active[0] : active[-1] + 1] ** 2) / np.mean(residual**2)
        assert 10 * np.log10(ratio) == pytest.approx(noisy.extra["snr_db"], abs=0.5), noisy.id
        assert 8 <= noisy.extra["snr_db"] <= 30
        checked += 1
    assert checked >= 10


@pytest.mark.parametrize(("kind", "octave_db"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_noise_colours_fall_as_defined(kind, octave_db):
    noise = digits._noise(np.random.default_rng(0), kind, 64 * SAMPLE_RATE, [])
    power = np.abs(np.fft.rfft(noise)) ** 2
    bands = [10 * np.log10(power[64 * f : 128 * f].mean()) for f in (250, 500, 1000, 2000, 4000)]
    assert np.diff(bands) == pytest.approx([octave_db] * 4, abs=0.2)


def test_each_digit_sounds_different():
    with open_espeak() as espeak:
        spectra = {}
        for digit in DIGITS:
            speech = espeak.speak(digit, accent="en-us", variant="f3")
            assert 0.15 < len(speech) / SAMPLE_RATE < 0.8
            spectrum = np.abs(np.fft.rfft(speech, 2 * SAMPLE_RATE))[:8000].reshape(40, 200).mean(axis=1)
            spectra[digit] = spectrum / np.linalg.norm(spectrum)
        similarities = [spectra[a] @ spectra[b] for a in DIGITS for b in DIGITS if a < b]
        assert max(similarities) < 0.995
        with pytest.raises(DataError, match="no voice variant 'nobody'"):
            espeak.speak("one", accent="en-us", variant="nobody")
        with pytest.raises(DataError, match=r"'xx\+f3' makes no sound"):
            espeak.speak("one", accent="xx", variant="f3")


def test_other_languages_speak_when_asked_for():
    with open_espeak(["fr", "pt-br"]) as espeak:
        french, brazilian = (
            espeak.speak("seven", accent=language, variant="f3") for language in ("fr", "pt-br")
        )
        assert len(french) != len(brazilian)
        with pytest.raises(DataError, match=r"'en-us\+f3' makes no sound"):
            espeak.speak("one", accent="en-us", variant="f3")
    with pytest.raises(DataError, match="espeak-ng has no language 'xx'"), open_espeak(["xx"]):
        pass


def test_a_whole_corpus_is_kept_and_a_broken_one_made_again(tmp_path, monkeypatch):
    sizes = {"num_train": 2, "num_dev": 1, "num_test": 1}
    prepare(tmp_path, **sizes)
    whole = contents(tmp_path)
    calls = []
    prepare(tmp_path, **sizes, progress=lambda *count: calls.append(count))
    assert calls == []

    (tmp_path / "audio/dev/dev-00000.wav").unlink()
    prepare(tmp_path, **sizes, progress=lambda *count: calls.append(count))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert contents(tmp_path) == whole

    def interrupt(done, _total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path, **sizes | {"num_train": 3}, progress=interrupt)
    assert not (tmp_path / "prepared.json").exists()
    prepare(tmp_path, **sizes)
    assert contents(tmp_path) == whole


def test_a_missing_library_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(DataError, match=r"espeak-ng cannot be loaded.*pip install") as caught:
        prepare(tmp_path, **SIZES)
    assert "\n" not in str(caught.value)


def test_a_damaged_library_is_one_clear_error(tmp_path):
    library = tmp_path / "libespeak-ng.so"
    library.write_bytes(b"not a library")
    _, data = find_espeak()
    with pytest.raises(DataError, match="espeak-ng cannot be loaded"):
        Espeak(library, data).speak("one", accent="en-us", variant="f3")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_dev": 0}, "num_dev=0"),
        ({"clean": 1.5}, "clean=1.5"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_options_out_of_range(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        prepare(tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/corpus: cannot write the corpus"):
        prepare(tmp_path / "file" / "corpus", **SIZES)
