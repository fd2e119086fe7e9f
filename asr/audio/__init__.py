"""Audio files in, waveforms out: the only reader and writer of audio.

soundfile reads WAV, FLAC, OGG (Vorbis, Opus), MP3, NIST SPHERE, AIFF, AU, CAF and others. What it
does not know (m4a, webm, wma ...) is decoded by the ffmpeg program. Every caller gets float32 mono samples
at the rate it asked for, or an `AudioError` of one line; nothing is cut, mixed or resampled without a note.
"""

from asr.audio.files import Audio, AudioInfo, encode, info, load, load_channels, save
from asr.audio.formats import AUDIO_SUFFIXES
from asr.audio.resampling import Resampler
from asr.audio.stream import AudioStream

__all__ = [
    "AUDIO_SUFFIXES",
    "Audio",
    "AudioInfo",
    "AudioStream",
    "Resampler",
    "encode",
    "info",
    "load",
    "load_channels",
    "save",
]
