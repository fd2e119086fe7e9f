"""Speed changes what it says it changes, by the factor that it draws first."""

import numpy as np
import pytest
import torch

from asr.augment import PitchPerturb, SpeedPerturb


@pytest.mark.parametrize("factor", [0.75, 0.9, 1.0, 1.1, 1.3])
def test_speed_changes_length_and_pitch_of_a_waveform(factor):
    t = torch.arange(16000) / 16000
    y = SpeedPerturb([factor])(torch.sin(2 * np.pi * 440 * t), np.random.default_rng(0))
    assert len(y) == pytest.approx(16000 / factor, abs=1)
    peak_hz = torch.fft.rfft(y).abs().argmax().item() * 16000 / len(y)
    assert peak_hz == pytest.approx(440 * factor, abs=2)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_stretches_frames_in_time_only(factor):
    frames = torch.linspace(0, 1, 100)[:, None].repeat(1, 13)
    y = SpeedPerturb([factor])(frames, np.random.default_rng(0))
    assert y.shape == (round(100 / factor), 13)
    assert y[0, 0].item() == pytest.approx(0, abs=0.01)
    assert y[-1, 0].item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_the_factor_can_be_known_before_the_utterance_is_read(probability):
    speed = SpeedPerturb([0.8, 1.25], continuous=True, probability=probability)
    x = torch.randn(8000)
    factors = [speed.factor(np.random.default_rng(seed)) for seed in range(30)]
    for seed, factor in enumerate(factors):
        assert len(speed(x, np.random.default_rng(seed))) == pytest.approx(8000 / factor, abs=1)
    assert (1.0 in factors) or probability == 1.0


def test_a_continuous_range_reaches_every_hundredth_and_both_ends():
    speed = SpeedPerturb([1.02, 0.97], continuous=True)
    rng = np.random.default_rng(0)
    drawn = {speed.factor(rng) for _ in range(300)}
    assert drawn == {0.97, 0.98, 0.99, 1.0, 1.01, 1.02}


@pytest.mark.parametrize("factors", [[], [0.0], [-1.0, 1.0], [1.0, 5.0]])
def test_speeds_must_be_positive(factors):
    with pytest.raises(ValueError, match=r"between 0\.25 and 4"):
        SpeedPerturb(factors)


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("factor", [0.8, 0.95, 1.05, 1.25])
def test_pitch_moves_a_tone_and_keeps_length_and_level(factor, rate):
    x = torch.sin(2 * np.pi * 440 * torch.arange(rate) / rate)
    y = PitchPerturb([factor, factor], probability=1.0)(x, rate, np.random.default_rng(0))
    assert len(y) == len(x)
    assert torch.fft.rfft(y).abs().argmax().item() == pytest.approx(440 * factor, abs=2)
    middle = slice(rate // 4, 3 * rate // 4)
    assert y[middle].std().item() == pytest.approx(x[middle].std().item(), rel=0.1)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_pitch_leaves_sounds_where_they_are_in_time(factor):
    t = torch.arange(16000) / 16000
    bursts = sum(torch.exp(-0.5 * ((t - at) / 0.02) ** 2) for at in (0.2, 0.5, 0.9))
    x = bursts * torch.sin(2 * np.pi * 300 * t)
    y = PitchPerturb([factor, factor], probability=1.0)(x, 16000, np.random.default_rng(0))
    smooth = torch.ones(1, 1, 801) / 801
    energy = torch.nn.functional.conv1d((y**2)[None, None], smooth, padding=400)[0, 0]
    for at in (0.2, 0.5, 0.9):
        near = energy[round((at - 0.1) * 16000) : round((at + 0.1) * 16000)]
        assert near.argmax().item() / 16000 - 0.1 == pytest.approx(0, abs=0.015)


@pytest.mark.parametrize("num_samples", [1, 50, 200, 1001])
def test_pitch_of_a_very_short_utterance_keeps_its_length(num_samples):
    y = PitchPerturb([0.8, 0.8], probability=1.0)(torch.randn(num_samples), 16000, np.random.default_rng(0))
    assert len(y) == num_samples
    assert y.isfinite().all()


def test_pitch_factors_out_of_range_are_refused():
    with pytest.raises(ValueError, match="pitch factors must be two numbers"):
        PitchPerturb([0.4, 1.0])
