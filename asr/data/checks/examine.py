"""One utterance examined to the last sample; it runs in worker processes, so it imports no torch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from asr.data.checks.problems import Problem
from asr.data.checks.recordings import Recording, measure_recording
from asr.data.checks.texts import check_text
from asr.data.checks.utterances import check_duration, problem_of
from asr.data.feature_files import read_features
from asr.errors import AudioError, DataError
from asr.types import Utterance

SHORTEST_SECONDS = 0.025
"""What `asr.audio` reads at least: the length of a frame."""

# A thousandth of full scale is 33 steps of 16-bit audio; FSDD's quietest recording peaks at ten times that.
_QUIET_PEAK = 1e-3
# Up to 0.3% of the samples of nine FSDD recordings are on flat tops, which nobody hears.
_FLAT_SHARE = 0.005
# A microphone's offset stands still; low-frequency noise, which wanders, is no offset.
_OFFSET, _OFFSET_RATIO = 0.02, 3.0
# The least share of the time in FSDD is a quarter, and the least time 0.14 s.
_SPEECH_SHARE, _SPEECH_SECONDS = 0.1, 0.08
# Digits under noise reach -53 dB; a resampler leaves -80 dB and less.
_NARROW_DB = -65.0
_NARROW_RATE = 16000
_SHORT_SECONDS, _LONG_SECONDS = 0.1, 40.0
# Two microphones at one speaker agree; two speakers on two channels do not.
_CORRELATION = 0.5


@dataclass(frozen=True, slots=True)
class Examined:
    """What an utterance's file and text tell by themselves.

    Attributes
    ----------
    problems : list of Problem
    digest : bytes
        Equal for equal audio or features; empty if there is none to compare.
    recording : Recording or None
        None for features, if audio is not read, and if it cannot be.
    shape : tuple of int
        (frames, coefficients) of features, else empty.
    """

    problems: list[Problem] = field(default_factory=list)
    digest: bytes = b""
    recording: Recording | None = None
    shape: tuple[int, ...] = ()


def examine(utterance: Utterance, read: bool = True, sample_rate: int | None = None) -> Examined:
    """Examine an utterance's file, if asked to, and its text.

    Parameters
    ----------
    sample_rate : int, optional
        Hz that the model hears.
    """
    found = [problem_of(utterance, kind, message) for kind, message in check_text(utterance.text or "")]
    if utterance.duration > _LONG_SECONDS:
        found.append(
            problem_of(
                utterance,
                "long_audio",
                f"{utterance.duration:.1f} s; a batch is as long as its longest utterance: cut it at pauses",
            )
        )
    if not read:
        return Examined(found)
    examined = (
        _examine_audio(utterance, sample_rate)
        if utterance.features_filepath is None
        else _examine_features(utterance)
    )
    return Examined(examined.problems + found, examined.digest, examined.recording, examined.shape)


def _examine_features(utterance: Utterance) -> Examined:
    assert utterance.features_filepath is not None
    try:
        frames = read_features(utterance.features_filepath)
    except DataError as error:
        return Examined([problem_of(utterance, "unreadable", str(error))])
    found = []
    constant = np.flatnonzero(frames.max(axis=0) == frames.min(axis=0))
    if len(frames) > 1 and len(constant) == frames.shape[1]:
        message = f"all {len(frames)} frames are the same; extract the features again or drop the utterance"
        return Examined([problem_of(utterance, "silent", message)], shape=frames.shape)
    if len(frames) > 1 and len(constant):
        message = (
            f"coefficient {constant[0]} is {frames[0, constant[0]]:g} in all {len(frames)} frames "
            f"({len(constant)} of {frames.shape[1]} are constant); extract the features again"
        )
        found.append(problem_of(utterance, "constant_features", message))
    digest = hashlib.blake2b(frames.tobytes(), digest_size=16).digest()
    return Examined(found, digest, shape=frames.shape)


def _examine_audio(utterance: Utterance, sample_rate: int | None) -> Examined:
    try:
        recording = measure_recording(utterance, sample_rate)
    except AudioError as error:
        return Examined([problem_of(utterance, "unreadable", str(error))])
    found = list(check_duration(utterance, recording.seconds))
    if recording.num_samples == 0:  # beyond the end, which is reported
        return Examined(found, recording=recording)
    if not recording.is_finite:
        message = "holds samples that are NaN or infinite; convert or record it again"
        return Examined([*found, problem_of(utterance, "unreadable", message)], recording=recording)
    found += [problem_of(utterance, kind, message) for kind, message in _audio_faults(recording)]
    # Silences are alike without being copies.
    is_comparable = not recording.is_constant and recording.num_samples > 1
    return Examined(found, recording.digest if is_comparable else b"", recording)


def _audio_faults(recording: Recording) -> list[tuple[str, str]]:
    """List what is wrong with samples that could be read: kinds and messages."""
    seconds = recording.num_samples / recording.sample_rate
    if seconds < SHORTEST_SECONDS:
        return [("too_short", f"{1000 * seconds:.1f} ms are less than a frame; drop the utterance")]
    if recording.is_constant:
        return [("silent", f"every sample is {recording.peak:g}; drop the utterance or record it again")]
    found = []
    if seconds < _SHORT_SECONDS:
        found.append(("short_audio", f"{seconds:.3f} s; listen to it, or drop the utterance"))
    found += _channel_faults(recording)
    if recording.peak < _QUIET_PEAK:
        message = f"the loudest sample is {recording.peak:.2g} of full scale; record or scale it again"
        return [*found, ("quiet", message)]
    if recording.flat_share > _FLAT_SHARE:
        found.append(
            (
                "clipped",
                f"{recording.flat_share:.1%} of the samples are cut off at the peak, {recording.peak:.2g} of "
                f"full scale; record it again at a lower level, or drop it",
            )
        )
    if abs(recording.offset) > max(_OFFSET, _OFFSET_RATIO * recording.drift):
        found.append(
            ("dc_offset", f"the samples' mean is {recording.offset:.3f}; take it off (high-pass at 20 Hz)")
        )
    share = recording.speech_seconds / seconds
    if share < _SPEECH_SHARE or recording.speech_seconds < min(_SPEECH_SECONDS, seconds / 2):
        found.append(
            (
                "little_speech",
                f"{recording.speech_seconds:.2f} of {seconds:.2f} s are within 40 dB of the loudest part; "
                f"listen to it, and cut the silence or drop it",
            )
        )
    if recording.sample_rate >= _NARROW_RATE and recording.high_band_db < _NARROW_DB:
        found.append(
            (
                "narrow_band",
                f"{recording.sample_rate} Hz, but nothing above {recording.band / 2:.0f} Hz "
                f"({recording.high_band_db:.0f} dB): upsampled; take the original, or train at its rate",
            )
        )
    return found


def _channel_faults(recording: Recording) -> list[tuple[str, str]]:
    if recording.channels == 1:
        return []
    many = f"{recording.channels} channels"
    if recording.dead_channels:
        dead = ", ".join(map(str, recording.dead_channels))
        return [("dead_channel", f"channel {dead} of {many} has no signal; take the others alone")]
    if recording.correlation < _CORRELATION:
        message = (
            f"{many} hold different sounds (correlation {recording.correlation:.2f}), which are mixed into "
            f"one; take the channel of the speaker"
        )
        return [("channels_differ", message)]
    how = "the same on each" if recording.correlation > 0.9999 else f"correlation {recording.correlation:.2f}"
    return [("channels", f"{many} will be mixed into one ({how}); store one to save space and time")]
