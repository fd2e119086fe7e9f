"""Augmentation depends on seed, epoch and utterance alone, and changes what it says it changes."""

import numpy as np
import pytest
import torch

from asr.augment import SpecAugment, SpeedPerturb, utterance_rng


def test_draws_depend_on_seed_epoch_utterance_and_purpose_alone():
    def draw(*key):
        return utterance_rng(*key).random()

    assert draw(1, 2, "a") == draw(1, 2, "a")
    assert len({draw(1, 2, "a"), draw(2, 2, "a"), draw(1, 3, "a"), draw(1, 2, "b"), draw(1, 2, "a", 1)}) == 5


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
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


def test_masks_are_within_their_widths_and_within_each_utterance():
    augment = SpecAugment(frequency_masks=1, frequency_width=5, time_masks=1, time_width=10, time_ratio=0.2)
    frames, lengths = torch.ones(50, 100, 20), torch.full((50,), 40)
    masked = augment(frames, lengths, [np.random.default_rng(i) for i in range(50)])
    for utterance in masked:
        assert (utterance[:40].sum(0) == 0).sum() <= 5
        assert (utterance[:40].sum(1) == 0).sum() <= 8
        assert (utterance[60:, -1] == utterance[60, -1]).all()
    assert (masked == 0).any()


def test_the_same_utterance_is_masked_alike_in_any_batch():
    augment = SpecAugment()
    frames, lengths = torch.ones(3, 80, 40), torch.tensor([80, 80, 80])
    together = augment(frames, lengths, [utterance_rng(0, 0, str(i), 1) for i in range(3)])
    alone = augment(frames[:1], lengths[:1], [utterance_rng(0, 0, "2", 1)])
    assert torch.equal(alone[0], together[2])


@pytest.mark.parametrize("factors", [[], [0.0], [-1.0, 1.0]])
def test_speeds_must_be_positive(factors):
    with pytest.raises(ValueError, match=r"between 0\.25 and 4"):
        SpeedPerturb(factors)
