"""Opening audio files with soundfile, and finding what libsndfile overlooks: lost ends, unknown lengths."""

from __future__ import annotations

import io
import os
import re
import struct
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import soundfile as sf

from asr.errors import AudioError

if TYPE_CHECKING:
    from typing_extensions import Buffer

# fmt: off
AUDIO_SUFFIXES = frozenset((
    ".aac", ".aif", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a", ".mka", ".mkv", ".mov", ".mp3",
    ".mp4", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".sph", ".w64", ".wav", ".webm", ".wma", ".wv",
))
# fmt: on

# A program that writes WAV into a pipe cannot know the size; it leaves about 2 or 4 GiB in the header.
_STREAM_SIZE = 0x7FFF0000
# Without a length header libmpg123 estimates an MP3's length to within a frame.
MP3_FRAME = 1152
# Layer III bit rates in kbit/s by header index (ISO/IEC 11172-3 table 3-B.2.4.2.3, 13818-3).
_MPEG1_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def open_sound_file(path: Path | bytes, name: str) -> sf.SoundFile | None:
    """Open a file, or the content of one, with soundfile; return None where ffmpeg has to read instead.

    Raises
    ------
    AudioError
        The file, which messages call `name`, cannot be opened, is empty or visibly truncated.
    """
    if isinstance(path, bytes):
        head, size, modified = path[:4096], len(path), 0
    else:
        try:
            with path.open("rb") as stream:
                head = stream.read(4096)
                stat = os.fstat(stream.fileno())
        except OSError as error:
            raise unreadable(name, error) from None
        size, modified = stat.st_size, stat.st_mtime_ns
    if not head:
        raise AudioError(f"{name}: empty file (0 bytes); record or copy it again")

    try:
        whole = io.BytesIO(path) if isinstance(path, bytes) else path
        file = sf.SoundFile(_repair_streamed_wav(path, head, size) or whole)
    except sf.LibsndfileError as error:
        # 1: format not recognised, 4: unsupported encoding, 7: what libmpg123 cannot follow.
        if error.code in (1, 4, 7):
            return None
        raise truncated(name, reason(error)) from error
    except TypeError:
        raise AudioError(f"{name}: raw samples without a header; convert it to WAV or FLAC") from None
    try:
        _check_length(name, file, head)
        if file.format == "MP3":
            count = (
                _count_samples(io.BytesIO(path))
                if isinstance(path, bytes)
                else _count_mp3_samples(path, size, modified)
            )
            if count > file.frames + 10 * MP3_FRAME:
                file.close()
                return None
    except AudioError:
        file.close()
        raise
    return file


def unreadable(name: str, error: OSError) -> AudioError:
    """Return the error of a file that the system does not open."""
    match error:
        case FileNotFoundError():
            return AudioError(f"{name}: no such file; check the path")
        case IsADirectoryError():
            return AudioError(f"{name}: is a folder; name an audio file in it")
        case PermissionError():
            return AudioError(f"{name}: no permission to read it; change its permissions")
    return AudioError(f"{name}: cannot be read ({error.strerror}); check the path and the disk")


def find_pcm16(head: bytes, size: int) -> tuple[int, int, int, int] | None:
    """Look into a RIFF header for 16-bit samples that can be read as they lie in the file.

    Parameters
    ----------
    head : bytes
        The beginning of the file.
    size : int
        Of the file, bytes.

    Returns
    -------
    (rate, channels, first byte of the samples, number of sample frames), or None
        None for whatever is not plain or not whole: libsndfile knows more, and tells what is wrong.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE" or int.from_bytes(head[4:8], "little") + 8 > size:
        return None
    position, form = 12, None
    while position + 8 <= len(head):
        name, length = (
            head[position : position + 4],
            int.from_bytes(head[position + 4 : position + 8], "little"),
        )
        position += 8
        if name == b"fmt " and length >= 16 and position + 16 <= len(head):
            form = struct.unpack_from("<HHIIHH", head, position)
        elif name == b"data":
            if form is None:
                return None
            tag, channels, rate, _, align, bits = form
            plain = tag == 1 and bits == 16 and rate > 0 and channels > 0 and align == 2 * channels
            if not plain or not 0 < length <= size - position or length % align:
                return None
            return rate, channels, position, length // align
        position += length + length % 2
    return None


def _repair_streamed_wav(path: Path | bytes, head: bytes, size: int) -> io.RawIOBase | io.BytesIO | None:
    """Open a WAV whose writer left 0 as the size of its samples with the size filled in."""
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
            true_length = min(size - position - 8, 0xFFFFFFFF)
            patch = true_length.to_bytes(4, "little")
            if isinstance(path, bytes):
                return io.BytesIO(path[: position + 4] + patch + path[position + 8 :])
            return _PatchedFile(path, position + 4, patch)
        position += 8 + length + length % 2
    return None


class _PatchedFile(io.FileIO):
    """A file that reads as if some of its bytes were others."""

    def __init__(self, path: Path, position: int, patch: bytes) -> None:
        super().__init__(path)
        self._position = position
        self._patch = patch

    def readinto(self, buffer: Buffer, /) -> int:
        start = self.tell()
        count = super().readinto(buffer) or 0
        view = memoryview(buffer).cast("B")
        for place, byte in enumerate(self._patch, start=self._position - start):
            if 0 <= place < count:
                view[place] = byte
        return count


def _check_length(name: str, file: sf.SoundFile, head: bytes) -> None:
    """Raise if the header announces more than the file holds; libsndfile itself only logs it."""
    log = file.extra_info
    match file.format:
        case "WAV" | "WAVEX" | "AU" | "W64":
            sizes = re.findall(r"^(?:data|riff|  Data Size) *: (\d+) \(should be (\d+)\)", log, re.MULTILINE)
            for announced, actual in sizes:
                if int(actual) < int(announced) < _STREAM_SIZE:
                    raise truncated(name, f"it has {actual} of the {announced} bytes announced")
        case "AIFF" | "NIST":
            text = log if file.format == "AIFF" else head.decode("latin-1")
            found = re.search(r"^(?:  Frames +:|sample_count -i) (\d+)", text, re.MULTILINE)
            if found and int(found[1]) > file.frames:
                raise truncated(name, f"it has {file.frames} of the {found[1]} samples announced")
        case "OGG" if "Junk after the last page" in log:
            raise truncated(name, "it stops inside a page")


@lru_cache(maxsize=1024)
def _count_mp3_samples(path: Path, size: int, modified: int) -> int:
    """Count an MP3's samples; `size` and `modified` tell the cache when the file has changed."""
    with path.open("rb") as content:
        return _count_samples(content)


def _count_samples(content: BinaryIO) -> int:
    """Count the samples per channel in an MP3 by walking its frames, up to the first thing that is none.

    libsndfile believes the length header, which in joined files covers the first part only, or guesses
    from the first frame's bit rate where there is none; it then stops in the middle of the speech.
    """
    position = samples = 0
    while len(head := content.read(10)) == 10:
        if head[:3] == b"ID3":
            tag_size = 0
            for byte in head[6:]:
                tag_size = tag_size << 7 | byte
            position += 10 + tag_size
            content.seek(position)
            continue
        header = int.from_bytes(head[:4])
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
        content.seek(position)
    return samples


def reason(error: sf.LibsndfileError) -> str:
    """Return what libsndfile says, as part of a sentence."""
    return str(error.error_string).removeprefix("Error : ").rstrip(".")


def truncated(name: str, detail: str) -> AudioError:
    """Return the error of a file that lacks a part."""
    return AudioError(f"{name}: truncated or damaged: {detail}; copy or convert it again")
