"""``asr transcribe --stream``: raw PCM from a pipe, or a microphone, to words as they are spoken."""

from __future__ import annotations

import argparse
import json
import os
import queue
import select
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from asr.cli.decoding import add_option, choose_decoder
from asr.errors import AsrError, AudioError, ConfigError

if TYPE_CHECKING:
    import numpy as np

    from asr.live import LiveUpdate

ENCODINGS = {"s16le": ("<i2", 32768.0), "f32le": ("<f4", 1.0)}
"""Name, numpy's type and full scale of the samples in a pipe."""
FORMATS = ("txt", "json")
# What programs write that put a header in front of the samples.
_CONTAINERS = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3\x03": "MP3", b"ID3\x04": "MP3"}
_READ_BYTES = 1 << 16
# Seconds after which a wait looks whether to stop.
_POLL = 0.2


def add_stream_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of live recognition to ``asr transcribe``."""
    group = parser.add_argument_group(
        "live", "words as they are spoken, on standard output; Ctrl-C ends the stream"
    )
    add_option(
        group,
        "stream",
        metavar="SOURCE",
        help="- for raw PCM on standard input, mic for the microphone, or a device's name or number "
        "(devices need the package sounddevice); -f txt prints text, -f json a JSON object a line",
    )
    add_option(
        group,
        "stream_format",
        choices=tuple(ENCODINGS),
        default="s16le",
        help="samples of a pipe: 16-bit integers or 32-bit floats, little-endian (default: s16le)",
    )
    add_option(
        group, "stream_rate", type=int, metavar="HZ", help="sample rate of the stream (default: the model's)"
    )
    add_option(
        group,
        "stream_channels",
        type=int,
        default=1,
        metavar="N",
        help="channels of the stream, interleaved; they are mixed (default: 1)",
    )


def run_stream(args: argparse.Namespace) -> int:
    """Transcribe a stream until it ends, Ctrl-C or SIGTERM; return 0.

    Raises
    ------
    AsrError
        The options do not go together, there is no such device, or nothing or no audio came. What was heard
        before is printed all the same.
    """
    if args.audio:
        raise ConfigError(f"--stream takes no files, found {args.audio[0]}; leave one of them out")
    if not 1 <= args.stream_channels <= 64:
        raise ConfigError(f"--stream_channels {args.stream_channels}: cannot be; use 1 to 64")
    screen = _screen(args.output_format)
    import torch

    from asr.live import LiveTranscriber
    from asr.model_file import load_model

    if args.threads:
        torch.set_num_threads(args.threads)
    recognizer = load_model(args.model, args.device)
    choose_decoder(recognizer, args, args.threads)
    with _stop_signals() as stopped:
        if args.stream == "-":
            rate = recognizer.sample_rate if args.stream_rate is None else args.stream_rate
            blocks = _open_pipe(args, stopped)
        else:
            rate, blocks = _open_device(args, recognizer.sample_rate, stopped)
        live = LiveTranscriber(recognizer, rate)
        _say(live.description)
        if rate != recognizer.sample_rate:
            _say(f"resampled {rate} -> {recognizer.sample_rate} Hz")
        num_samples = 0
        failure: AsrError | None = None
        try:
            for samples in blocks:
                screen.show(live.push(samples))
                num_samples += len(samples)
        except AsrError as error:
            failure = error
        screen.show(live.finish())
        screen.close(num_samples / rate)
    if failure is not None:
        raise failure
    if not num_samples and not stopped():
        raise AudioError(f"--stream {args.stream}: not a sample came; check what should send them")
    return 0


def _open_pipe(args: argparse.Namespace, stopped: Callable[[], bool]) -> Iterator[np.ndarray]:
    """Return the samples of raw PCM on standard input, float32 (N,), as they come."""
    if sys.stdin is None or sys.stdin.isatty():
        what = "closed" if sys.stdin is None else "a terminal"
        raise ConfigError(f"--stream -: standard input is {what}; pipe raw PCM into it, or use --stream mic")
    return _read_pipe(args, sys.stdin.fileno(), stopped)


def _read_pipe(args: argparse.Namespace, file: int, stopped: Callable[[], bool]) -> Iterator[np.ndarray]:
    import numpy as np

    kind, scale = ENCODINGS[args.stream_format]
    frame_size = np.dtype(kind).itemsize * args.stream_channels
    left = b""
    first = True
    while not stopped():
        if not select.select([file], [], [], _POLL)[0]:
            continue
        data = os.read(file, _READ_BYTES)
        if not data:
            break
        if first and data[:4] in _CONTAINERS:
            raise ConfigError(
                f"--stream -: standard input is a {_CONTAINERS[data[:4]]} file, not raw PCM; send raw "
                "samples, as 'ffmpeg -i FILE -f s16le -' or 'arecord -t raw' do, or transcribe the file"
            )
        first = False
        left += data
        whole = len(left) // frame_size * frame_size
        samples = np.frombuffer(left[:whole], kind).reshape(-1, args.stream_channels)
        left = left[whole:]
        if len(samples):
            yield (samples / np.float32(scale)).mean(axis=1, dtype=np.float32)
    if left:
        _say(
            f"{len(left)} bytes at the end are no whole sample of {args.stream_format} "
            f"in {args.stream_channels} channels and were left out"
        )


def _open_device(
    args: argparse.Namespace, model_rate: int, stopped: Callable[[], bool]
) -> tuple[int, Iterator[np.ndarray]]:
    """Return the sample rate of an audio device and its samples, float32 (N,), as they are recorded."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package is there, its library PortAudio is not
        raise ConfigError(
            f"--stream {args.stream}: recording needs the package sounddevice ({error}); pip install "
            "sounddevice, or pipe: arecord -t raw -f S16_LE -r 16000 | asr transcribe --stream - "
            "--stream-rate 16000 ..."
        ) from error
    device: Any = None if args.stream == "mic" else args.stream
    if device is not None and device.isdecimal():
        device = int(device)
    options = {"device": device, "channels": args.stream_channels, "dtype": "float32"}
    try:
        rate = model_rate if args.stream_rate is None else args.stream_rate
        if args.stream_rate is None:
            try:
                sounddevice.check_input_settings(samplerate=rate, **options)
            except sounddevice.PortAudioError:  # not every device has the model's rate
                rate = round(sounddevice.query_devices(device, "input")["default_samplerate"])
        recorded: queue.SimpleQueue[tuple[np.ndarray, Any]] = queue.SimpleQueue()
        stream = sounddevice.InputStream(
            samplerate=rate,
            callback=lambda data, _count, _time, status: recorded.put((data.mean(axis=1), status)),
            **options,
        )
    except (ValueError, sounddevice.PortAudioError) as error:
        names = [d["name"] for d in sounddevice.query_devices() if d["max_input_channels"] > 0]
        raise ConfigError(
            f"--stream {args.stream}: {error}; there is {', '.join(names) or 'no device to record from'}"
        ) from error

    def blocks() -> Iterator[np.ndarray]:
        lost = 0
        with stream:
            while not stopped():
                try:
                    samples, status = recorded.get(timeout=_POLL)
                except queue.Empty:
                    continue
                lost += bool(status and status.input_overflow)
                yield samples
        if lost:
            _say(f"the device lost audio {lost} times: this computer could not take it fast enough")

    return rate, blocks()


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C or SIGTERM end the stream, so that nothing heard is lost; the second one kills."""
    caught: list[int] = []

    def stop(number: int, _frame: Any) -> None:
        caught.append(number)
        for sig, handler in before.items():
            signal.signal(sig, handler)

    before = {sig: signal.getsignal(sig) for sig in (signal.SIGINT, signal.SIGTERM)}
    for sig in before:
        signal.signal(sig, stop)
    try:
        yield lambda: bool(caught)
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)


class _Screen(Protocol):
    """Shows what is heard."""

    def show(self, update: LiveUpdate) -> None: ...

    def close(self, seconds: float) -> None: ...


def _screen(formats: tuple[str, ...]) -> _Screen:
    if len(formats) == 1 and formats[0] not in FORMATS:
        raise ConfigError(f"--output_format {formats[0]}: --stream prints {' or '.join(FORMATS)}")
    if formats == ("json",):
        return _Json()
    return _Terminal() if sys.stdout is not None and sys.stdout.isatty() else _Text()


class _Json:
    """A JSON object a line for every change, in the shape of the server's messages."""

    def __init__(self) -> None:
        self._partial = ""
        self._num_segments = 0
        self._seconds = 0.0

    def show(self, update: LiveUpdate) -> None:
        if not update.final and not update.segments and update.partial == self._partial:
            return
        self._partial = update.partial
        words = [
            {
                "word": word.text,
                "start": round(word.start, 3),
                "end": round(word.end, 3),
                "probability": round(word.confidence, 4),
            }
            for word in update.final
        ]
        segments = [
            {"id": self._num_segments + i, "start": round(s.start, 3), "end": round(s.end, 3), "text": s.text}
            for i, s in enumerate(update.segments)
        ]
        self._num_segments += len(segments)
        self._write({"type": "update", "words": words, "partial": update.partial, "segments": segments})

    def close(self, seconds: float) -> None:
        self._write({"type": "done", "duration": round(seconds, 3)})

    def _write(self, content: dict[str, Any]) -> None:
        print(json.dumps(content), flush=True)


class _Text:
    """Final words as they come, a line a segment."""

    def __init__(self) -> None:
        self._shown = 0  # words of the open segment

    def show(self, update: LiveUpdate) -> None:
        words = [word.text for word in update.final]
        text = ""
        for segment in update.segments:
            rest = words[: len(segment.words) - self._shown]
            words = words[len(rest) :]
            text += self._join(rest) + "\n"
            self._shown = 0
        text += self._join(words)
        if text:
            _write(text)

    def close(self, seconds: float) -> None: ...

    def _join(self, words: list[str]) -> str:
        text = "".join(f" {word}" for word in words)
        text = text if self._shown else text[1:]
        self._shown += len(words)
        return text


class _Terminal:
    """A line a segment; the last line is written again with every change, its partial end dimmed."""

    def __init__(self) -> None:
        self._words: list[str] = []

    def show(self, update: LiveUpdate) -> None:
        self._words += [word.text for word in update.final]
        text = "\r\x1b[K"
        for segment in update.segments:
            self._words = self._words[len(segment.words) :]
            text += segment.text + "\n"
        # A line that wraps could not be taken back: show its end.
        width = shutil.get_terminal_size().columns - 1
        final, partial = " ".join(self._words), update.partial
        line = f"{final} {partial}".strip()
        if len(line) > width:
            line = "…" + line[len(line) - width + 1 :]
        cut = max(0, len(line) - len(partial))
        _write(text + line[:cut] + (f"\x1b[2m{line[cut:]}\x1b[0m" if partial else ""))

    def close(self, seconds: float) -> None: ...


def _write(text: str) -> None:
    # A terminal that cannot show a character must not stop the work.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), end="", flush=True)


def _say(message: str) -> None:
    print(f"asr: {message}", file=sys.stderr, flush=True)
