"""Augmentation of training utterances; never applied to dev or test.

Every random draw comes from a generator that `utterance_rng` makes from the seed, the epoch, the utterance id
and the purpose alone. So an utterance is augmented the same way whatever the batch, the number of workers, or
the step at which training was resumed, and turning one augmentation on does not change what another draws.
"""

from asr.augment.channel import BandLimit, Volume
from asr.augment.frames import Coloration, FrameNoise, TimeWarp, VocalTractPerturb
from asr.augment.masks import SpecAugment
from asr.augment.noise import AddNoise
from asr.augment.pipeline import KINDS, Augmentation
from asr.augment.room import Reverberate
from asr.augment.speed import PitchPerturb, SpeedPerturb
from asr.augment.streams import utterance_rng

__all__ = [
    "KINDS",
    "AddNoise",
    "Augmentation",
    "BandLimit",
    "Coloration",
    "FrameNoise",
    "PitchPerturb",
    "Reverberate",
    "SpecAugment",
    "SpeedPerturb",
    "TimeWarp",
    "VocalTractPerturb",
    "Volume",
    "utterance_rng",
]
