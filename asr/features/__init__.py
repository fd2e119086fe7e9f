"""Front ends: waveforms -> frames, as modules that run on the model's device.

A `FrontEnd` is an extractor (`LogMel`, `Fbank`, `Mfcc` or `SphinxMfcc`) followed by delta coefficients,
normalisation and frame stacking. The frames of an utterance do not depend on the batch it is in:
every edge, sum and statistic stays within the utterance's own length.
"""

from asr.features.extractors import Extractor, Fbank, LogMel, Mfcc, SphinxMfcc
from asr.features.front_end import FrontEnd, FrontEndStream

__all__ = ["Extractor", "Fbank", "FrontEnd", "FrontEndStream", "LogMel", "Mfcc", "SphinxMfcc"]
