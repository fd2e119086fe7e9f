"""Noise, rooms, bands and levels of waveforms, measured with numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy import signal

from asr import audio
from asr.augment import AddNoise, BandLimit, Reverberate, Volume, utterance_rng
from asr.augment.noise import colored_noise, notes
from asr.augment.room import simulate_room
from asr.augment.spectrum import convolve, fft_size

RATE = 16000


def rng(i=0):
    return utterance_rng(0, 0, str(i))


def tone(hz, seconds=1.0, rate=RATE):
    return torch.sin(2 * np.pi * hz * torch.arange(round(seconds * rate)) / rate) / 2


def decibels(x):
    return 10 * np.log10(np.mean(np.square(np.asarray(x, dtype=np.float64))))


@pytest.fixture
def speech():
    """Noise with an envelope, so that the power is not even."""
    x = np.random.default_rng(5).standard_normal(RATE) * np.sin(np.pi * np.arange(RATE) / RATE) / 8
    return torch.from_numpy(x.astype(np.float32))


@pytest.mark.parametrize("color", ["white", "pink", "brown", "notes", "files"])
@pytest.mark.parametrize("snr", [-5.0, 0.0, 20.0])
def test_noise_has_the_drawn_ratio_to_speech(color, snr, speech, tmp_path):
    audio.save(tmp_path / "n.wav", np.random.default_rng(1).uniform(-0.5, 0.5, (9000, 2)), 22050)
    options = {"files": str(tmp_path)} if color == "files" else {"colors": [color]}
    augment = AddNoise(**options, snr_db=[snr, snr], probability=1.0)
    augment.open()
    noisy = augment(speech, RATE, rng())
    assert decibels(speech) - decibels(noisy - speech) == pytest.approx(snr, abs=0.01)


def test_noise_ratios_are_spread_over_the_range(speech):
    augment = AddNoise(snr_db=[5, 15], probability=1.0)
    found = [decibels(speech) - decibels(augment(speech, RATE, rng(i)) - speech) for i in range(100)]
    assert min(found) >= 4.99
    assert max(found) <= 15.01
    assert np.mean(found) == pytest.approx(10, abs=1)


@pytest.mark.parametrize("rate", [100, 8000, 48000])
def test_notes_are_tones_of_any_length(rate):
    for num_samples in (1, 7, 3 * rate):
        x = notes(num_samples, rate, rng(3)).numpy()
        assert x.shape == (num_samples,)
        assert np.isfinite(x).all()
    if rate == 8000:
        _, power = signal.welch(x, rate, nperseg=1024)
        flatness = np.exp(np.log(power + 1e-20).mean()) / power.mean()
        noise = signal.welch(colored_noise(len(x), rate, "pink", rng(3)).numpy(), rate, nperseg=1024)[1]
        assert flatness < 0.1 * np.exp(np.log(noise).mean()) / noise.mean()


@pytest.mark.parametrize(("color", "slope"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_the_power_of_colored_noise_falls_as_it_should(color, slope):
    x = colored_noise(20 * RATE, RATE, color, rng()).numpy()
    hz, power = signal.welch(x, RATE, nperseg=4096)
    used = (hz > 60) & (hz < 7000)
    fitted = np.polyfit(np.log2(hz[used]), 10 * np.log10(power[used]), 1)[0]
    assert fitted == pytest.approx(slope, abs=0.15)


@pytest.mark.parametrize("samples", [torch.zeros(4000), torch.zeros(400)])
def test_silence_gets_no_noise_and_no_room(samples):
    assert torch.equal(AddNoise(probability=1.0)(samples, RATE, rng()), samples)
    assert torch.equal(Reverberate(probability=1.0)(samples, RATE, rng()), samples)


@pytest.mark.parametrize(("n", "k", "delay"), [(1000, 37, 0), (1000, 1500, 20), (77, 3, 2)])
def test_convolution_agrees_with_scipy(n, k, delay):
    x, h = np.random.default_rng(0).standard_normal((2, max(n, k))).astype(np.float32)
    found = convolve(torch.from_numpy(x[:n]), torch.from_numpy(h[:k]), delay)
    expected = signal.fftconvolve(x[:n].astype(float), h[:k].astype(float))[delay : delay + n]
    np.testing.assert_allclose(found.numpy(), np.pad(expected, (0, n - len(expected))), atol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 100, 193, 4096, 160000])
def test_an_fft_is_long_enough_and_at_most_a_third_too_long(n):
    assert n <= fft_size(n) <= max(5, 4 * n / 3)


def test_a_recorded_response_is_convolved_with_its_direct_sound_in_place(speech, tmp_path):
    response = np.zeros(3000)
    response[500], response[470], response[900], response[2500] = 0.9, 0.1, 0.4, -0.2
    audio.save(tmp_path / "room.wav", response, RATE)
    augment = Reverberate(files=str(tmp_path / "room.wav"), probability=1.0)
    augment.open()
    found = augment(speech, RATE, rng()).numpy()
    stored = audio.load(tmp_path / "room.wav", sample_rate=RATE).samples
    expected = signal.fftconvolve(speech.numpy().astype(float), stored.astype(float))[500 : 500 + RATE]
    scale = np.sqrt(np.mean(np.square(speech.numpy())) / np.mean(np.square(expected)))
    np.testing.assert_allclose(found, expected * scale, atol=1e-5)
    correlation = signal.correlate(found, speech.numpy(), method="fft")
    assert correlation.argmax() == RATE - 1  # lag 0


@pytest.mark.parametrize("rt60", [0.15, 0.4])
def test_a_simulated_room_has_its_decay_and_its_direct_sound(rt60):
    response = np.mean([simulate_room(rt60, 3.0, RATE, rng(i)).numpy() ** 2 for i in range(20)], axis=0)
    assert response[0] == 1.0
    assert 10 * np.log10(1.0 / response[1:].sum()) == pytest.approx(3.0, abs=0.01)
    # Schroeder's backward integration (JASA 37, 1965), fitted from -5 to -25 dB.
    decay = 10 * np.log10(np.cumsum(response[:0:-1])[::-1])
    decay -= decay[0]
    used = (decay < -5) & (decay > -25)
    slope = np.polyfit(np.arange(1, len(response))[used] / RATE, decay[used], 1)[0]
    assert -60 / slope == pytest.approx(rt60, rel=0.05)


def test_a_room_keeps_power_length_and_timing(speech):
    for i in range(10):
        found = Reverberate(probability=1.0)(speech, RATE, rng(i))
        assert len(found) == len(speech)
        assert decibels(found) == pytest.approx(decibels(speech), abs=0.01)
        assert signal.correlate(found.numpy(), speech.numpy(), method="fft").argmax() == RATE - 1


def test_a_telephone_lets_its_band_through_and_nothing_else():
    telephone = BandLimit(low_hz=[300, 300], high_hz=[3400, 3400], probability=1.0)
    change = {hz: decibels(telephone(tone(hz), RATE, rng())[800:-800]) - decibels(tone(hz)) for hz in
              (100, 200, 400, 1000, 3000, 3800, 6000)}  # fmt: skip
    assert all(abs(change[hz]) < 0.1 for hz in (400, 1000, 3000))
    assert all(change[hz] < -40 for hz in (100, 200, 3800, 6000))


def test_a_band_moves_nothing_in_time_and_a_high_end_cuts_nothing(speech):
    limited = BandLimit(low_hz=[0, 0], high_hz=[2000, 2000], probability=1.0)(speech, RATE, rng())
    assert signal.correlate(limited.numpy(), speech.numpy(), method="fft").argmax() == RATE - 1
    same = BandLimit(low_hz=[0, 0], high_hz=[9000, 9000], probability=1.0)(speech, RATE, rng())
    torch.testing.assert_close(same, speech, atol=1e-6, rtol=0)


def test_volume_is_the_drawn_gain(speech):
    louder = Volume([6.0, 6.0])(speech, RATE, rng())
    assert decibels(louder) - decibels(speech) == pytest.approx(6.0, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (AddNoise, {"colors": []}, "colors must be of white, pink, brown and notes, found \\[\\]"),
        (AddNoise, {"colors": ["red"]}, "colors must be of"),
        (AddNoise, {"snr_db": [20, 5]}, "snr_db must be two numbers, the smaller first"),
        (AddNoise, {"probability": 2}, "probability must lie between 0 and 1, found 2"),
        (AddNoise, {"files": []}, "files must name a folder"),
        (Reverberate, {"rt60": [0.0, 0.1]}, "rt60 must be two numbers"),
        (Reverberate, {"files": ""}, "files must name a folder"),
        (BandLimit, {"low_hz": [0, 3000]}, "low_hz must end below high_hz"),
        (Volume, {"gain_db": [0]}, "gain_db must be two numbers"),
    ],
)
def test_values_out_of_range_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)
