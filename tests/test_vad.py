import itertools
import sys
import warnings

import numpy as np
import pytest
import torch

from asr import audio, vad
from asr.errors import ConfigError
from asr.vad import DETECTORS, FRAME, EnergyVad, SileroVad

RATE = 16000
needs_silero = pytest.mark.skipif(vad._silero_path() is None, reason="silero-vad is not installed")


def voice(seconds, rate=RATE, seed=0):
    """Pulses 120 times a second through two resonances, louder and softer: enough to be taken for a vowel."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    harmonics = sum(
        np.sin(2 * np.pi * 120 * h * t) / (1 + ((120 * h - 700) / 300) ** 2) for h in range(1, 25)
    )
    return (
        0.1 * harmonics * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * t)) + 1e-4 * rng.standard_normal(len(t))
    ).astype(np.float32)


@pytest.fixture(scope="module")
def digits(archive, tmp_path_factory):
    """Twenty spoken digits with a second of faint noise around each, and when each begins and ends."""
    import tarfile

    folder = tmp_path_factory.mktemp("fsdd")
    rng = np.random.default_rng(0)
    parts, spans, position = [], [], 0
    with tarfile.open(archive("free-spoken-digit-dataset-1.0.10.tar.gz")) as tar:
        names = sorted(n for n in tar.getnames() if n.endswith("_0.wav"))[::3]
        for name in names:
            (folder / "a.wav").write_bytes(tar.extractfile(name).read())
            samples = audio.load(folder / "a.wav", sample_rate=8000).samples
            parts += [1e-4 * rng.standard_normal(8000), samples]
            spans.append(((position + 8000) / 8000, (position + 8000 + len(samples)) / 8000))
            position += 8000 + len(samples)
    return np.concatenate([*parts, 1e-4 * rng.standard_normal(8000)]).astype(np.float32), spans


@needs_silero
def test_silero_is_the_package_s_own_model_frame_by_frame():
    samples = np.concatenate([voice(1.0), np.zeros(8000, np.float32), voice(1.5, seed=1)])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        model = torch.jit.load(vad._silero_path())
        frames = np.pad(samples, (0, -len(samples) % 512)).reshape(-1, 512)
        expected = [model(torch.from_numpy(frame), RATE).item() for frame in frames]
        inputs = np.concatenate((np.vstack((np.zeros((1, 64)), frames[:-1, -64:])), frames), axis=1)
        network = vad._silero_network()
        probabilities, _ = network.decode(network.encode(torch.from_numpy(inputs).float())[:, None])
    np.testing.assert_allclose(probabilities[:, 0], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["energy", "none", pytest.param("silero", marks=needs_silero)])
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100])
def test_blocks_of_any_size_give_the_same_probabilities(name, rate):
    samples = np.concatenate([np.zeros(rate // 3, np.float32), voice(2.0, rate)])
    whole = DETECTORS[name](rate).push(samples, final=True)
    assert len(whole) == pytest.approx(len(samples) / rate / FRAME, abs=1.5)
    detector = DETECTORS[name](rate)
    blocks = np.split(samples, [1, 700, 701, 20000])
    parts = [detector.push(block, final=i == 4) for i, block in enumerate(blocks)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-4)


@needs_silero
def test_silero_finds_digits_and_nothing_else(digits):
    samples, spans = digits
    heard = SileroVad(8000).push(samples, final=True) >= 0.5
    assert all(heard[int(a / FRAME) : int(b / FRAME) + 2].any() for a, b in spans)
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert not heard[int((end + 0.2) / FRAME) : int((start - 0.1) / FRAME)].any()
    noise = 0.03 * np.random.default_rng(0).standard_normal(80000).astype(np.float32)
    assert SileroVad(8000).push(noise, final=True).max() < 0.5


@needs_silero
def test_silero_hears_much_the_same_wherever_its_frames_begin(digits):
    samples, spans = digits
    heard = [SileroVad(8000).push(samples[first:], final=True) for first in (0, 40, 80, 128, 200)]
    most = [[p[int(a / FRAME) : int(b / FRAME) + 2].max() for a, b in spans] for p in heard]
    assert np.ptp(most, axis=0).max() < 0.3


def test_energy_finds_digits(digits):
    samples, spans = digits
    heard = EnergyVad(8000).push(samples, final=True) >= 0.5
    assert all(heard[int(a / FRAME) : int(b / FRAME) + 2].any() for a, b in spans)
    silence = [heard[int((start - 0.9) / FRAME) : int((start - 0.1) / FRAME)] for start, _ in spans]
    assert not np.concatenate(silence).any()


def test_energy_follows_a_background_that_grows():
    rng = np.random.default_rng(0)
    quiet, loud = 0.001 * rng.standard_normal(20 * RATE), 0.02 * rng.standard_normal(30 * RATE)
    heard = EnergyVad(RATE).push(np.concatenate([quiet, loud]).astype(np.float32), final=True) >= 0.5
    # The louder background is speech until it has been there for the detector's memory.
    assert heard[round(20.1 / FRAME) : round(29.5 / FRAME)].all()
    assert not heard[round(30.5 / FRAME) :].any()


def test_without_the_package_energy_takes_its_place(monkeypatch):
    monkeypatch.setattr(vad, "_silero_path", lambda: None)
    vad._silero_network.cache_clear()
    assert vad.best_vad() == "energy"
    with pytest.raises(ConfigError, match="silero-vad is not installed; pip install"):
        SileroVad(RATE)


@needs_silero
def test_the_package_is_not_imported():
    # Importing it sets PyTorch to one thread for the whole process.
    threads = torch.get_num_threads()
    SileroVad(RATE).push(voice(1.0), final=True)
    assert torch.get_num_threads() == threads
    assert "silero_vad" not in sys.modules


@needs_silero
def test_silero_hears_again_when_its_longest_memory_is_deaf():
    waiting = np.zeros(round(SileroVad.MEMORY * FRAME * RATE), np.float32)
    heard = {}
    for deaf in (True, False):
        detector = SileroVad(RATE)
        detector.push(np.zeros(RATE, np.float32))
        if deaf:
            with torch.inference_mode():
                for state in detector._states:
                    state[:] = -30.0  # saturated: no speech for ever
        heard[deaf] = [detector.push(samples).max() for samples in (voice(3), waiting, voice(3))]
        assert len(detector.push(waiting, final=True)) >= SileroVad.MEMORY
    assert heard[True][0] < heard[False][0] - 0.1
    assert heard[True][2] == pytest.approx(heard[False][2], abs=0.1)
