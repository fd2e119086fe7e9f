"""Sample frames as a recording holds them, at its own rate and with its own channels, block by block."""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import soundfile as sf

from asr.audio.formats import MP3_FRAME, find_pcm16, open_sound_file, reason, truncated, unreadable
from asr.errors import AudioError, DataError
from asr.storage import is_remote, local_copy, parse_part, read_part

# Frames of an MP3 to decode before the first one wanted: they borrow bits from those before them.
_MP3_LEAD = 12
# Containers that state their duration, so that a cut is seen; elsewhere ffmpeg only guesses it.
_TIMED_CONTAINERS = ("mov,mp4,m4a", "matroska,webm", "asf")
# What ffmpeg may take a file for, by its names of demuxers. Playlists (HLS, DASH, concat, IMF, SDP) are not
# among them: they would have it read any other file.
# fmt: off
_FORMATS = (
    "aac", "ac3", "act", "aiff", "amr", "amrnb", "amrwb", "ape", "asf", "au", "avi", "caf", "dsf",
    "dts", "eac3", "flac", "flv", "gsm", "iff", "loas", "m4v", "matroska,webm", "mlp",
    "mov,mp4,m4a,3gp,3g2,mj2", "mp3", "mpc", "mpc8", "mpeg", "mpegts", "mxf", "nistsphere", "nut",
    "ogg", "rm", "sox", "spdif", "swf", "tak", "truehd", "tta", "voc", "w64", "wav", "wsd", "wv",
    "xwma",
)
# fmt: on
# Bytes of a file that are read at once to see what it is: all of a short recording.
_HEAD = 1 << 16
# Seconds by which a container's duration may differ from that of its sound.
_TIMED_SLACK = 0.2
# Sample frames that are read at a time where none are wanted.
_SKIP = 1 << 18


class NativeFrames(ABC):
    """Reads sample frames from somewhere.

    Attributes
    ----------
    name : str
        What messages call the recording.
    rate : int
        Hz.
    channels : int
    total : int or None
        Frames in all; None if that is not known yet.
    """

    name: str
    rate: int
    channels: int
    total: int | None

    @abstractmethod
    def blocks(self, first: int, stop: int | None, size: int) -> Iterator[np.ndarray]:
        """Yield frames `first` to before `stop`, or the end, as float32 (n, channels), n = `size` but last.

        Raises
        ------
        AudioError
            The recording is damaged, or ends before `first`.
        """

    def count(self) -> int:
        """Return how many frames there are, reading them where nothing else tells."""
        assert self.total is not None
        return self.total

    def close(self) -> None:
        """Let go of the source."""
        return

    def __enter__(self) -> NativeFrames:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _beyond(self, first: int, total: int) -> AudioError:
        return AudioError(
            f"{self.name}: offset {first / self.rate:g} s is beyond its end at {total / self.rate:.3f} s; "
            "correct the offset"
        )

    def _no_samples(self) -> AudioError:
        return AudioError(f"{self.name}: no samples: the file is a header only; record or copy it again")


def open_frames(source: str | os.PathLike[str] | np.ndarray, source_rate: int, name: str) -> NativeFrames:
    """Open a file, or samples at hand (which have `source_rate`, Hz); messages call it `name`.

    Raises
    ------
    AudioError
    """
    if isinstance(source, np.ndarray):
        return _SampleFrames(source, source_rate, name)
    recording = _stored(os.fspath(source))
    plain = _open_pcm16(recording, name)
    if plain is not None:
        return plain
    file = open_sound_file(recording, name)
    return _FfmpegFrames(recording, name) if file is None else _SoundFileFrames(file, name)


def _stored(address: str) -> Path | bytes:
    """Return the path of a file, remote ones copied to this machine, or the content of a part of one."""
    if ":" not in address:
        return Path(address)
    try:
        part = parse_part(address)
        if part is not None:
            return read_part(part)
        return local_copy(address) if is_remote(address) else Path(address)
    except DataError as error:
        if os.path.exists(address):  # a file that is called like a part of one
            return Path(address)
        raise AudioError(str(error)) from error


def _open_pcm16(recording: Path | bytes, name: str) -> NativeFrames | None:
    """Open plain 16-bit WAV, which needs no library; return None for all else."""
    if isinstance(recording, bytes):
        layout = find_pcm16(recording, len(recording))
        return None if layout is None else _PcmFrames(recording, layout, name)
    try:
        file = io.BufferedReader(io.FileIO(recording), _HEAD)
    except OSError as error:
        raise unreadable(name, error) from None
    layout = find_pcm16(file.peek(), os.fstat(file.fileno()).st_size)
    if layout is None:
        file.close()
        return None
    return _PcmFrames(file, layout, name)


class _PcmFrames(NativeFrames):
    """16-bit samples as they lie in a file."""

    def __init__(self, source: IO[bytes] | bytes, layout: tuple[int, int, int, int], name: str) -> None:
        self.name, self._source = name, source
        self.rate, self.channels, self._start, self.total = layout

    def blocks(self, first: int, stop: int | None, size: int) -> Iterator[np.ndarray]:
        total = self.count()
        if first >= total:
            raise self._beyond(first, total)
        stop = total if stop is None else min(stop, total)
        frame = 2 * self.channels
        try:
            for start in range(first, stop, size):
                wanted = min(size, stop - start)
                content = self._read(self._start + start * frame, wanted * frame)
                if len(content) < wanted * frame:
                    held = start + len(content) // frame
                    raise truncated(self.name, f"it has {held} of the {total} samples announced")
                samples = np.frombuffer(content, "<i2").astype(np.float32)
                samples *= np.float32(1 / 32768)
                yield samples.reshape(wanted, self.channels)
        except OSError as error:
            raise unreadable(self.name, error) from error

    def _read(self, position: int, length: int) -> bytes | memoryview:
        if isinstance(self._source, bytes):
            return memoryview(self._source)[position : position + length]
        self._source.seek(position)
        return self._source.read(length)

    def close(self) -> None:
        if not isinstance(self._source, bytes):
            self._source.close()


class _SampleFrames(NativeFrames):
    """Samples at hand, (N,) or (N, channels)."""

    def __init__(self, samples: np.ndarray, rate: int, name: str) -> None:
        if samples.ndim not in (1, 2) or not np.issubdtype(samples.dtype, np.floating):
            raise AudioError(
                f"{name}: {samples.dtype} of shape {samples.shape}; give floating-point samples in [-1, 1], "
                "of shape (samples,) or (samples, channels)"
            )
        if not len(samples):
            raise AudioError(f"{name}: there are none; give at least 25 ms of speech")
        self.name, self.rate = name, rate
        self._samples = samples.reshape(len(samples), -1)
        self.total, self.channels = self._samples.shape

    def blocks(self, first: int, stop: int | None, size: int) -> Iterator[np.ndarray]:
        if first >= len(self._samples):
            raise self._beyond(first, len(self._samples))
        wanted = self._samples[first:stop]
        for start in range(0, len(wanted), size):
            yield wanted[start : start + size].astype(np.float32, copy=False)


class _SoundFileFrames(NativeFrames):
    """What libsndfile reads."""

    def __init__(self, file: sf.SoundFile, name: str) -> None:
        self.name, self.rate, self.channels, self.total = name, file.samplerate, file.channels, file.frames
        self._file = file
        if not self.total:
            file.close()
            raise self._no_samples()

    def blocks(self, first: int, stop: int | None, size: int) -> Iterator[np.ndarray]:
        file, total = self._file, self._file.frames
        if first >= total:
            raise self._beyond(first, total)
        stop = total if stop is None else min(stop, total)
        lead = min(first, _MP3_LEAD * MP3_FRAME) if file.format == "MP3" else 0
        # Without a length header libmpg123 estimates an MP3's length to within a frame.
        slack = MP3_FRAME if file.format == "MP3" and "constant" in file.extra_info else 0
        try:
            file.seek(first - lead)
            for start in range(first, stop, size):
                wanted = min(size, stop - start)
                block = file.read(lead + wanted, dtype="float32", always_2d=True)[lead:]
                lead = 0
                if len(block) < wanted - slack:
                    held = start + len(block)
                    raise truncated(self.name, f"it has {held} of the {total} samples announced")
                if len(block):
                    yield block
        except sf.LibsndfileError as error:
            raise truncated(self.name, reason(error)) from error

    def close(self) -> None:
        self._file.close()


class _FfmpegFrames(NativeFrames):
    """What only the ffmpeg program reads, through a pipe."""

    def __init__(self, recording: Path | bytes, name: str) -> None:
        self.name = name
        self._spool: IO[bytes] | None = None
        if isinstance(recording, bytes):
            # Not through a pipe: some containers have their index at the end.
            self._spool = tempfile.NamedTemporaryFile()  # noqa: SIM115
            self._spool.write(recording)
            self._spool.flush()
            recording = Path(self._spool.name)
        self._path = recording
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._start()
        self._announced, exact = self._duration()
        self._timed = exact
        self.total = None if self._announced is None else round(self._announced * self.rate)

    def _start(self) -> None:
        """Run ffmpeg and read the header of its output: Sun audio, which states rate and channels first."""
        program = shutil.which("ffmpeg")
        if program is None:
            raise AudioError(
                f"{self.name}: not audio, or in a format that needs ffmpeg, which is not installed; install "
                "ffmpeg or convert the file to WAV or FLAC"
            )
        self._stop()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        # An absolute path cannot be mistaken for a protocol ("http:") or an option.
        command = [program, "-nostdin", "-hide_banner", "-nostats", "-protocol_whitelist", "file,pipe"]
        command += ["-format_whitelist", ",".join(_FORMATS)]
        command += ["-i", os.path.abspath(self._path), "-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "-"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._log
        )
        header = self._read(24)
        if len(header) < 24:
            raise self._failure()
        size, self.rate, self.channels = (struct.unpack(">6I", header)[i] for i in (1, 4, 5))
        self._read(size - 24)
        self._position = 0

    def _read(self, num_bytes: int) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.read(num_bytes)

    def _messages(self) -> str:
        assert self._log is not None
        self._log.seek(0)
        return self._log.read(1 << 20).decode("utf-8", "replace")

    def _failure(self) -> AudioError:
        assert self._process is not None
        self._process.wait()
        messages = self._messages()
        self._stop()
        if "not on whitelist" in messages:
            return AudioError(
                f"{self.name}: not an audio file but a playlist or of a format that is not read; name the "
                "audio files themselves, or convert it to WAV or FLAC"
            )
        if "matches no streams" in messages:
            return AudioError(
                f"{self.name}: not audio: ffmpeg finds no audio stream in it; name an audio file"
            )
        return AudioError(
            f"{self.name}: not audio, or damaged: neither soundfile nor ffmpeg can decode it; "
            "convert it to WAV or FLAC"
        )

    def _duration(self) -> tuple[float | None, bool]:
        """Return what the container says of its duration, seconds, and whether it is to be believed."""
        messages = self._messages()
        found = re.search(r"^  Duration: (\d+):(\d+):([\d.]+)", messages, re.MULTILINE)
        kind = re.search(r"^Input #0, (.+), from ", messages, re.MULTILINE)
        if found is None:
            return None, False
        seconds = 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3])
        return seconds, kind is not None and kind[1].startswith(_TIMED_CONTAINERS)

    def blocks(self, first: int, stop: int | None, size: int) -> Iterator[np.ndarray]:
        if first < self._position or self._process is None:
            self._start()
        while self._position < first:
            if not len(self._next(min(_SKIP, first - self._position))):
                self._finish()
                raise self._beyond(first, self._position)
        yielded = False
        while stop is None or self._position < stop:
            wanted = size if stop is None else min(size, stop - self._position)
            block = self._next(wanted)
            if len(block):
                yielded = True
                yield block
            if len(block) < wanted:
                self._finish()
                break
        if not yielded:
            raise self._no_samples() if self._position == 0 else self._beyond(first, self._position)

    def _next(self, count: int) -> np.ndarray:
        frame = 4 * self.channels
        content = self._read(count * frame)
        content = content[: len(content) - len(content) % frame]
        self._position += len(content) // frame
        return np.frombuffer(content, dtype=">f4").astype(np.float32).reshape(-1, self.channels)

    def _finish(self) -> None:
        """At the end of the sound, see that it is the end of the recording."""
        assert self._process is not None
        if self._process.wait() and not self._position:
            raise self._failure()
        held = self._position / self.rate
        if self._timed and self._announced is not None and held < self._announced - _TIMED_SLACK:
            raise truncated(self.name, f"it has {held:.1f} of the {self._announced:.1f} s announced")
        self.total = self._position

    def count(self) -> int:
        for _ in self.blocks(0, None, _SKIP):
            pass
        return self._position

    def close(self) -> None:
        self._stop()
        if self._spool is not None:
            self._spool.close()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None
