"""Recordings of any length in windows that a model can take, and their words joined again.

A window ends in silence where there is some. Where speech goes on for longer than the model is used to, it is
cut at its quietest moment, and the windows on either side both hear `context_s` seconds beyond the cut.
Where windows begin and end is found to the sample from the sound around: a recording that begins elsewhere
soon has most of the same windows
(`scripts/bench.py long --shift` measures it).
"""

from asr.windows.cutting import WHOLE_FILE, Clip, Window, read_windows
from asr.windows.joining import Joiner, join
from asr.windows.options import DEFAULT_WINDOW, MAX_WINDOW, MIN_WINDOW, WindowOptions

__all__ = [
    "DEFAULT_WINDOW",
    "MAX_WINDOW",
    "MIN_WINDOW",
    "WHOLE_FILE",
    "Clip",
    "Joiner",
    "Window",
    "WindowOptions",
    "join",
    "read_windows",
]
