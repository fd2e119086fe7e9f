"""SpecAugment's masks: how many, how wide, where, and what stands in them."""

import numpy as np
import pytest
import torch

from asr.augment import SpecAugment, utterance_rng


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


def num_masked(augment, length, seed):
    frames = augment(torch.ones(1, length, 4), torch.tensor([length]), [np.random.default_rng(seed)])
    return int((frames[0, :, 0] == 0).sum())


@pytest.mark.parametrize(("length", "masks"), [(100, 4), (250, 10), (2000, 20)])
def test_the_adaptive_policy_grows_with_the_utterance(length, masks):
    """Number min(20, 0.04 T) and width up to 0.04 T: Park et al., arXiv:1912.05533, section 3."""
    augment = SpecAugment(
        frequency_masks=0, time_masks=20, time_mask_rate=0.04, time_width=None, time_ratio=0.04
    )
    found = [num_masked(augment, length, seed) for seed in range(300)]
    assert max(found) <= masks * int(0.04 * length)
    # Each covers 0.02 T on average; places may coincide.
    expected = length * (1 - (1 - 0.02) ** masks)
    assert np.mean(found) == pytest.approx(expected, rel=0.15)


def test_a_mask_holds_the_mean_of_the_utterances_own_frames():
    frames = torch.randn(2, 60, 8) + 5
    frames[0, 30:] = 1000.0
    lengths = torch.tensor([30, 60])
    augment = SpecAugment(frequency_masks=1, frequency_width=4, time_masks=1, time_width=9, value="mean")
    masked = augment(frames, lengths, [np.random.default_rng(i) for i in range(2)])
    for b, length in enumerate(lengths.tolist()):
        changed = masked[b, :length] != frames[b, :length]
        assert changed.any()
        means = frames[b, :length].mean(0).expand(length, -1)
        torch.testing.assert_close(masked[b, :length][changed], means[changed])


def test_probability_leaves_utterances_out():
    frames, lengths = torch.ones(200, 50, 10), torch.full((200,), 50)
    augment = SpecAugment(frequency_masks=3, frequency_width=10, probability=0.25)
    masked = augment(frames, lengths, [utterance_rng(0, 0, str(i), 1) for i in range(200)])
    assert (masked == 0).any(2).any(1).float().mean().item() == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("option", [{"time_masks": -1}, {"time_width": -2}, {"time_mask_rate": 2.0}])
def test_values_out_of_range_are_refused(option):
    with pytest.raises(ValueError, match="masks and widths must be 0 or more"):
        SpecAugment(**option)
