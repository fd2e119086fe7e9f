"""Audio files in, waveforms out: the only reader and writer of audio.

soundfile reads WAV, FLAC, OGG (Vorbis, Opus), MP3, NIST SPHERE, AIFF, AU, CAF and others. What it
does not know (m4a, webm, wma ...) is decoded by the ffmpeg program through audioread, librosa's
loader. Every caller gets float32 mono samples at the rate it asked for, or an `AudioError` of one
line; nothing is cut, mixed or resampled without a note.
"""

from __future__ import annotations

import io
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile as sf

from asr.errors import AudioError

# fmt: off
AUDIO_SUFFIXES = frozenset((
    ".aac", ".aif", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".mka", ".mkv", ".mov", ".mp3",
    ".mp4", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".sph", ".w64", ".wav", ".webm", ".wma", ".wv",
))
# fmt: on

# Containers that state their duration, so that a cut is seen.
_TIMED_CONTAINERS = (".m4a", ".mp4", ".mov", ".mka", ".mkv", ".webm", ".wma")
# The shortest recording that fills one analysis window of the usual front end.
MIN_MILLISECONDS = 25
# Decoders overshoot full scale a little; beyond this the samples are integers stored as floats.
_MAX_PEAK = 16.0
# A program that writes WAV into a pipe cannot know the size; it leaves about 2 or 4 GiB in the header.
_STREAM_SIZE = 0x7FFF0000
# Without a length header libmpg123 estimates an MP3's length to within a frame.
_MP3_FRAME = 1152
# Frames to decode before the first one wanted.
_MP3_LEAD = 12
# Layer III bit rates in kbit/s by header index (ISO/IEC 11172-3 table 3-B.2.4.2.3, 13818-3).
_MPEG1_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


@dataclass(frozen=True, slots=True)
class Audio:
    """A waveform and what was done to it on the way in.

    Attributes
    ----------
    samples : np.ndarray, float32, (N,)
        Mono, in [-1, 1].
    sample_rate : int
        Hz.
    notes : tuple of str
        What a listener should know: mixed down, resampled, clipped, silent, shorter than asked for.
    """

    samples: np.ndarray
    sample_rate: int
    notes: tuple[str, ...] = ()

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What an audio file's header says.

    Attributes
    ----------
    sample_rate : int
        Hz, of the file.
    channels : int
    num_samples : int
        Samples per channel.
    duration : float
        Seconds.
    """

    sample_rate: int
    channels: int
    num_samples: int
    duration: float


def load(
    path: str | os.PathLike[str],
    *,
    sample_rate: int,
    offset: float = 0.0,
    duration: float | None = None,
) -> Audio:
    """Read a file, or a part of it, as mono samples at `sample_rate`.

    Parameters
    ----------
    path : path
    sample_rate : int
        Hz wanted. A file with another rate is resampled (soxr, high quality).
    offset : float
        Where to start, seconds. Rounded to the file's nearest sample.
    duration : float, optional
        How much to read, seconds; by default to the end.

    Returns
    -------
    Audio
        Samples are clipped to [-1, 1], with a note when the file itself exceeds that.

    Raises
    ------
    AudioError
        The file is missing, unreadable, empty, truncated, not audio, shorter than 25 ms, has samples
        that are no finite numbers, or ends before `offset`.

    Examples
    --------
    >>> load("speech.flac", sample_rate=16000, offset=1.5, duration=2.0).samples.shape  # doctest: +SKIP
    (32000,)
    """
    path = Path(path)
    frames, rate, notes = _read(path, offset, duration)
    if len(frames) * 1000 < MIN_MILLISECONDS * rate:
        count = "only one sample" if len(frames) == 1 else f"only {len(frames)} samples"
        raise AudioError(
            f"{path}: {count} long ({1000 * len(frames) / rate:.3g} ms), speech needs at least "
            f"{MIN_MILLISECONDS} ms; leave this file out"
        )
    finite = np.isfinite(frames).all(axis=1)
    if not finite.all():
        first = int(np.argmin(finite))
        bad = frames[first][~np.isfinite(frames[first])][0]
        position = round(offset * rate) + first
        raise AudioError(
            f"{path}: sample {position} (at {position / rate:.3f} s) is {bad}, one of "
            f"{int((~finite).sum())} that are no finite numbers; export the file again as 16-bit WAV"
        )
    peak = float(np.abs(frames).max())
    if peak > _MAX_PEAK:
        raise AudioError(
            f"{path}: samples reach {peak:.6g} where full scale is 1; divide them by their integer range "
            "or save the file as 16-bit WAV"
        )

    channels = frames.shape[1]
    if channels > 1:
        notes.append(f"mixed down {channels} channels")
    samples = frames.mean(axis=1) if channels > 1 else frames[:, 0]
    if rate != sample_rate:
        samples = _resample(samples, rate, sample_rate)
        note = f"resampled {rate} -> {sample_rate} Hz"
        notes.append(f"{note}; the band above {rate / 2000:g} kHz is empty" if rate < sample_rate else note)
    if peak > 1:
        notes.append(f"clipped to full scale: samples reach {peak:.3g}")
    if not samples.any():
        notes.append("silent: all samples are zero")
    return Audio(np.clip(samples, -1, 1).astype(np.float32, copy=False), sample_rate, tuple(notes))


def info(path: str | os.PathLike[str]) -> AudioInfo:
    """Read the header of an audio file.

    A format that only ffmpeg knows is decoded to count its samples, because such containers do not
    state their length to the sample.

    Raises
    ------
    AudioError
        The file is missing, unreadable, empty, visibly truncated or not audio.
    """
    path = Path(path)
    with _open(path) as file:
        if file is not None:
            rate, channels, num_samples = file.samplerate, file.channels, file.frames
        else:
            decoded, rate = _decode_with_ffmpeg(path)
            num_samples, channels = decoded.shape
    if num_samples == 0:
        raise _no_samples(path)
    return AudioInfo(rate, channels, num_samples, num_samples / rate)


def save(path: str | os.PathLike[str], samples: np.ndarray, sample_rate: int) -> None:
    """Write samples as 16-bit audio; the suffix (.wav or .flac) chooses the format.

    Parameters
    ----------
    path : path
    samples : np.ndarray, float, (N,) or (N, channels)
        In [-1, 1]; values beyond are clipped.
    sample_rate : int
        Hz.

    Raises
    ------
    AudioError
        The suffix is another one or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".wav", ".flac"):
        raise AudioError(f"{path}: cannot write '{path.suffix}' files; use the suffix .wav or .flac")
    try:
        sf.write(path, samples, sample_rate, subtype="PCM_16")
    except (sf.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: cannot be written ({error}); check the folder") from error


def _read(path: Path, offset: float, duration: float | None) -> tuple[np.ndarray, int, list[str]]:
    """Return the wanted frames (N, channels) float32, the file's rate in Hz, and notes."""
    with _open(path) as file:
        if file is None:
            decoded, rate = _decode_with_ffmpeg(path)
            start, stop, notes = _span(path, len(decoded), rate, offset, duration)
            return decoded[start:stop], rate, notes
        rate = file.samplerate
        start, stop, notes = _span(path, file.frames, rate, offset, duration)
        try:
            # MP3 frames borrow bits from frames before them: decode those as well.
            lead = min(start, _MP3_LEAD * _MP3_FRAME) if file.format == "MP3" else 0
            file.seek(start - lead)
            frames = file.read(lead + stop - start, dtype="float32", always_2d=True)[lead:]
        except sf.LibsndfileError as error:
            raise _truncated(path, str(error.error_string).removeprefix("Error : ").rstrip(".")) from error
        missing = stop - start - len(frames)
        if missing > (_MP3_FRAME if file.format == "MP3" and "constant" in file.extra_info else 0):
            raise _truncated(path, f"it has {start + len(frames)} of the {file.frames} samples announced")
        return frames, rate, notes


def _span(
    path: Path, total: int, rate: int, offset: float, duration: float | None
) -> tuple[int, int, list[str]]:
    """Return the first sample wanted, the one after the last, and notes."""
    if total == 0:
        raise _no_samples(path)
    if not (math.isfinite(offset) and offset >= 0):
        raise AudioError(f"{path}: offset {offset} s; give a start of 0 s or later")
    start = round(offset * rate)
    if start >= total:
        raise AudioError(
            f"{path}: offset {offset:g} s is beyond its end at {total / rate:.3f} s; correct the offset"
        )
    if duration is None:
        return start, total, []
    if not (math.isfinite(duration) and duration > 0):
        raise AudioError(f"{path}: duration {duration} s; give one above 0 s")
    stop = round((offset + duration) * rate)
    # Durations in manifests are often rounded to hundredths of a second.
    short = (stop - total) / rate
    notes = [f"ends {short:.2f} s before the end that was asked for"] if short > 0.01 else []
    return start, min(stop, total), notes


@contextmanager
def _open(path: Path) -> Iterator[sf.SoundFile | None]:
    """Open with soundfile; yield None where ffmpeg has to read instead."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4096)
            size = os.fstat(stream.fileno()).st_size
    except FileNotFoundError:
        raise AudioError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise AudioError(f"{path}: is a folder; name an audio file in it") from None
    except PermissionError:
        raise AudioError(f"{path}: no permission to read it; change its permissions") from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}); check the path and the disk") from None
    if not head:
        raise AudioError(f"{path}: empty file (0 bytes); record or copy it again")

    try:
        file = sf.SoundFile(_repair_streamed_wav(path, head, size) or path)
    except sf.LibsndfileError as error:
        # 1: format not recognised, 4: unsupported encoding, 7: what libmpg123 cannot follow.
        if error.code in (1, 4, 7):
            yield None
            return
        raise _truncated(path, str(error.error_string).removeprefix("Error : ").rstrip(".")) from error
    except TypeError:
        raise AudioError(f"{path}: raw samples without a header; convert it to WAV or FLAC") from None
    with file:
        _check_length(path, file, head)
        if file.format == "MP3":
            stat = path.stat()
            if _count_mp3_samples(path, stat.st_size, stat.st_mtime_ns) > file.frames + 10 * _MP3_FRAME:
                yield None
                return
        yield file


def _repair_streamed_wav(path: Path, head: bytes, size: int) -> io.BytesIO | None:
    """Return a WAV whose writer left 0 as the size of its samples, with the size filled in."""
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    position = 12
    while position + 8 <= len(head):
        name, length = (
            head[position : position + 4],
            int.from_bytes(head[position + 4 : position + 8], "little"),
        )
        if name == b"data":
            following = head[position + 8 : position + 12]
            # A chunk name after the size means that there really are no samples.
            if length or len(following) < 4 or following.decode("latin-1").strip().isalpha():
                return None
            content = bytearray(path.read_bytes())
            content[position + 4 : position + 8] = (size - position - 8).to_bytes(4, "little")
            return io.BytesIO(bytes(content))
        position += 8 + length + length % 2
    return None


def _check_length(path: Path, file: sf.SoundFile, head: bytes) -> None:
    """Raise if the header announces more than the file holds; libsndfile itself only logs it."""
    log = file.extra_info
    match file.format:
        case "WAV" | "WAVEX" | "AU" | "W64":
            sizes = re.findall(r"^(?:data|riff|  Data Size) *: (\d+) \(should be (\d+)\)", log, re.MULTILINE)
            for announced, actual in sizes:
                if int(actual) < int(announced) < _STREAM_SIZE:
                    raise _truncated(path, f"it has {actual} of the {announced} bytes announced")
        case "AIFF" | "NIST":
            text = log if file.format == "AIFF" else head.decode("latin-1")
            found = re.search(r"^(?:  Frames +:|sample_count -i) (\d+)", text, re.MULTILINE)
            if found and int(found[1]) > file.frames:
                raise _truncated(path, f"it has {file.frames} of the {found[1]} samples announced")
        case "OGG" if "Junk after the last page" in log:
            raise _truncated(path, "it stops inside a page")


@lru_cache(maxsize=1024)
def _count_mp3_samples(path: Path, size: int, modified: int) -> int:
    """Count the samples per channel in an MP3 by walking its frames, up to the first thing that is none.

    libsndfile believes the length header, which in joined files covers the first part only, or guesses
    from the first frame's bit rate where there is none; it then stops in the middle of the speech.
    `size` and `modified` tell the cache when the file has changed.
    """
    content = path.read_bytes()
    position = samples = 0
    while position + 10 <= len(content):
        if content[position : position + 3] == b"ID3":
            tag_size = 0
            for byte in content[position + 6 : position + 10]:
                tag_size = tag_size << 7 | byte
            position += 10 + tag_size
            continue
        header = int.from_bytes(content[position : position + 4])
        version, bitrate, rate_index = header >> 19 & 3, header >> 12 & 15, header >> 10 & 3
        if (
            header >> 21 != 0x7FF
            or header >> 17 & 3 != 1
            or version == 1
            or bitrate in (0, 15)
            or rate_index == 3
        ):
            break
        # Versions: 3 is MPEG-1, 2 is MPEG-2 at half its sample rates, 0 is MPEG-2.5 at a quarter.
        rate = (44100, 48000, 32000)[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
        frame = 1152 if version == 3 else 576
        kbps = (_MPEG1_KBPS if version == 3 else _MPEG2_KBPS)[bitrate]
        position += frame // 8 * 1000 * kbps // rate + (header >> 9 & 1)
        samples += frame
    return samples


def _decode_with_ffmpeg(path: Path) -> tuple[np.ndarray, int]:
    """Decode a whole file with ffmpeg; return frames (N, channels) float32 and the rate in Hz."""
    import audioread.ffdec

    try:
        # An absolute path cannot be mistaken for a protocol ("http:") or an option.
        with audioread.ffdec.FFmpegAudioFile(str(path.absolute())) as stream:
            content = b"".join(stream)
            rate, channels, announced = stream.samplerate, stream.channels, stream.duration
    except audioread.ffdec.NotInstalledError:
        raise AudioError(
            f"{path}: not audio, or in a format that needs ffmpeg, which is not installed; install ffmpeg "
            "or convert the file to WAV or FLAC"
        ) from None
    except (audioread.DecodeError, OSError):
        raise AudioError(
            f"{path}: not audio, or damaged: neither soundfile nor ffmpeg can decode it; "
            "convert it to WAV or FLAC"
        ) from None
    if not (rate and channels):
        raise AudioError(f"{path}: not audio: ffmpeg finds no audio stream in it; name an audio file")
    whole = len(content) - len(content) % (2 * channels)
    frames = np.frombuffer(content[:whole], dtype="<i2").reshape(-1, channels).astype(np.float32) / 32768
    # Elsewhere ffmpeg only guesses the duration; audioread cuts it to tenths of a second.
    if path.suffix.lower() in _TIMED_CONTAINERS and len(frames) / rate < announced - 0.2:
        raise _truncated(path, f"it has {len(frames) / rate:.1f} of the {announced:.1f} s announced")
    return frames, rate


def _resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resample (N,) samples to ceil(N * new_rate / rate) samples, counted in integers."""
    import librosa

    resampled = librosa.resample(samples, orig_sr=rate, target_sr=new_rate, res_type="soxr_hq", fix=False)
    return librosa.util.fix_length(resampled, size=-(-len(samples) * new_rate // rate))


def _truncated(path: Path, detail: str) -> AudioError:
    return AudioError(f"{path}: truncated or damaged: {detail}; copy or convert it again")


def _no_samples(path: Path) -> AudioError:
    return AudioError(f"{path}: no samples: the file is a header only; record or copy it again")
