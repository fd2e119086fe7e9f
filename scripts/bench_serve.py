"""Fifty clients at once against a server, a good part of them ill-behaved: codes, latency, memory."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

_EPILOG = """\
Of 50 clients, 28 send short files one after the other and want to be served as if they were alone; 2 send
long ones, 4 stream live audio in real time, and 16 misbehave: uploads too large (with and without saying so),
too slow, of the wrong type, broken off, and random bytes in place of a form, of audio and of HTTP. Every
answer has to have the right code and, for the short files, the text that the same file got from the idle
server. Memory is that of the server's process: the highest of the last fifth of the run over that of the
second fifth.

examples:
  python scripts/bench.py serve runs/an4/model.asr talks/*.wav
  python scripts/bench.py serve runs/an4/model.asr talks/*.wav --clients 20 --minutes 1 --json
"""
_PATH = "/v1/audio/transcriptions"
_MAX_MB = 12
_UPLOAD_TIMEOUT = 3
_LONG_SECONDS = 180.0
_LIVE_SECONDS = 20.0
# Of each 50 clients; the rest sends short files.
_OTHERS = {
    "long": 2,
    "live": 4,
    "large": 3,
    "large, chunked": 2,
    "slow": 3,
    "wrong type": 2,
    "broken off": 3,
    "random": 3,
}
_EXPECTED = {
    "short": {"200"},
    "long": {"200"},
    "live": {"done"},
    "large": {"413"},
    "large, chunked": {"413"},
    "slow": {"408"},
    "wrong type": {"400", "415"},
    "broken off": {"gone"},
    "random": {"400"},
}


@dataclass
class Load:
    """A server under load and what has been seen of it.

    Attributes
    ----------
    host, port : str, int
    files : list of (bytes, str)
        Short files and the text of each.
    long_file : bytes
    samples : bytes
        16-bit samples of a live stream.
    sample_rate : int
        Of these, Hz.
    until : float
        When no more requests are begun, of `time.monotonic`.
    """

    host: str
    port: int
    files: list[tuple[bytes, str]]
    long_file: bytes
    samples: bytes
    sample_rate: int
    until: float
    codes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong_texts: int = 0
    audio_seconds: float = 0.0


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add ``bench.py serve``."""
    parser = subparsers.add_parser(
        "serve",
        help="a server under load, with clients that misbehave",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, metavar="MODEL.asr")
    parser.add_argument("audio", type=Path, nargs="+", help="short recordings of speech")
    parser.add_argument("--clients", type=int, default=50, help="at the same time (default: 50)")
    parser.add_argument("--minutes", type=float, default=5.0, help="of load (default: 5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print; return 1 if an answer was wrong or the memory grew by more than 5%, else 0."""
    command = [sys.executable, "-m", "asr.cli.main", "serve", str(args.model), "--port", "0"]
    command += ["--max-mb", str(_MAX_MB), "--upload-timeout", str(_UPLOAD_TIMEOUT)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    try:
        found = next((m for line in server.stderr if (m := re.search(r"http://([\d.]+):(\d+)", line))), None)
        if found is None:
            print("the server did not start; try 'asr serve' with the model", file=sys.stderr)
            return 2
        # Its log has to be read, or it would wait for its reader in the end.
        log = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
        report = asyncio.run(_measure(found[1], int(found[2]), server.pid, args))
        server.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        report["exit"] = server.wait(60)
        report["stop_seconds"] = time.monotonic() - begun
        log.wait()
    finally:
        server.kill()
    print(json.dumps(report) if args.json else _text(report))
    return 0 if report["right"] and report["exit"] == 0 else 1


async def _measure(host: str, port: int, pid: int, args: argparse.Namespace) -> dict[str, Any]:
    import psutil
    import soundfile

    process = psutil.Process(pid)
    contents = [path.read_bytes() for path in args.audio]
    pieces = [soundfile.read(path, dtype="float32") for path in args.audio]
    rate = pieces[0][1]
    sound = np.concatenate([samples for samples, _ in pieces])
    wav = io.BytesIO()
    repeats = int(_LONG_SECONDS * rate / len(sound)) + 1
    soundfile.write(wav, np.tile(sound, repeats)[: int(_LONG_SECONDS * rate)], rate, format="WAV")
    live = (np.tile(sound, repeats)[: int(_LIVE_SECONDS * rate)] * 32767).astype("<i2").tobytes()

    load = Load(host, port, [], wav.getvalue(), live, rate, float("inf"))
    for _ in range(3):  # the first times are slower
        load.files = [(content, (await _transcribe(load, content))[1]) for content in contents]
    load.seconds.clear()
    load.until = time.monotonic() + max(5.0, 6 * args.minutes)
    await _short(load, random.Random(0))
    alone = load.seconds.pop("short")
    load.codes.clear()

    load.until = time.monotonic() + 60 * args.minutes
    others = {kind: round(number * args.clients / 50) for kind, number in _OTHERS.items()}
    kinds = {"short": args.clients - sum(others.values())} | others
    generator = random.Random(1)
    tasks = [
        asyncio.create_task(_CLIENTS[kind](load, random.Random(generator.random())))
        for kind, number in kinds.items()
        for _ in range(number)
    ]
    begun = time.monotonic()
    memory = []
    processor = process.cpu_times()
    while time.monotonic() < load.until:
        memory.append(process.memory_info().rss / 2**20)
        await asyncio.sleep(0.5)
    seconds = time.monotonic() - begun
    used = process.cpu_times()
    await asyncio.gather(*tasks)
    left = len(os.listdir(f"/proc/{pid}/fd")) if sys.platform == "linux" else 0

    fifth = len(memory) // 5
    early, late = max(memory[fifth : 2 * fifth]), max(memory[-fifth:])
    unexpected = {
        kind: dict(wrong)
        for kind, codes in load.codes.items()
        if (wrong := {code: n for code, n in codes.items() if code not in _EXPECTED[kind]})
    }
    return {
        "clients": kinds,
        "seconds": seconds,
        "alone": _percentiles(alone),
        "latency": {kind: _percentiles(times) for kind, times in load.seconds.items()},
        "codes": {kind: dict(codes) for kind, codes in load.codes.items()},
        "unexpected": unexpected,
        "wrong_texts": load.wrong_texts,
        "audio_seconds_per_second": load.audio_seconds / seconds,
        "processor": (used.user + used.system - processor.user - processor.system) / seconds,
        "memory_mb": {"second_fifth": early, "last_fifth": late, "highest": max(memory)},
        "open_files": left,
        "right": not unexpected and not load.wrong_texts and late <= 1.05 * early,
    }


def _percentiles(times: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).tolist()
    return {"count": len(times), "p50": p50, "p95": p95, "p99": p99, "max": max(times)}


def _text(report: dict[str, Any]) -> str:
    lines = [f"{sum(report['clients'].values())} clients for {report['seconds']:.0f} s"]
    rows = {"short, alone": report["alone"]} | report["latency"]
    lines.append(f"{'':16}{'answers':>8}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}   codes")
    for name, row in rows.items():
        times = "".join(f"{row[column]:8.3f}s" for column in ("p50", "p95", "p99", "max"))
        codes = ", ".join(f"{code}: {n}" for code, n in report["codes"].get(name, {}).items())
        lines.append(f"{name:16}{row['count']:8}{times}   {codes}")
    memory = report["memory_mb"]
    lines += [
        f"throughput: {report['audio_seconds_per_second']:.1f} s of audio a second on "
        f"{report['processor']:.2f} cores",
        f"memory: {memory['second_fifth']:.0f} MB in the second fifth, {memory['last_fifth']:.0f} MB in the "
        f"last ({100 * (memory['last_fifth'] / memory['second_fifth'] - 1):+.1f}%); open files: "
        f"{report['open_files']}",
        f"wrong texts: {report['wrong_texts']}; unexpected codes: {report['unexpected'] or 'none'}",
        f"stopped after {report['stop_seconds']:.1f} s with status {report['exit']}",
    ]
    return "\n".join(lines)


def _form(content: bytes, name: str = "talk.wav", boundary: str = "b0undary") -> tuple[bytes, bytes]:
    """Return the head of a form with a file, and all of it."""
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: audio/wav\r\n\r\n"
    ).encode()
    return head, head + content + f"\r\n--{boundary}--\r\n".encode()


async def _request(load: Load, length: str, kind: str = "multipart/form-data; boundary=b0undary") -> Any:
    reader, writer = await asyncio.open_connection(load.host, load.port)
    writer.write(
        f"POST {_PATH} HTTP/1.1\r\nHost: {load.host}\r\nContent-Type: {kind}\r\n{length}\r\n\r\n".encode()
    )
    return reader, writer


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[str, bytes]:
    """Return the status and the body; a connection that ends before is "reset"."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        return head.split(b" ", 2)[1].decode(), body
    except (asyncio.IncompleteReadError, ConnectionError):
        return "reset", b""
    finally:
        writer.close()


async def _transcribe(load: Load, content: bytes) -> tuple[str, str]:
    _, form = _form(content)
    reader, writer = await _request(load, f"Content-Length: {len(form)}")
    writer.write(form)
    code, body = await _answer(reader, writer)
    if code != "200":
        return code, ""
    answer = json.loads(body)
    load.audio_seconds += answer["usage"]["seconds"]
    return code, answer["text"]


async def _repeat(load: Load, kind: str, once: Callable[[], Awaitable[str]], pause: float = 0.0) -> None:
    while time.monotonic() < load.until:
        begun = time.monotonic()
        code = await once()
        load.seconds[kind].append(time.monotonic() - begun)
        load.codes[kind][code] += 1
        await asyncio.sleep(pause)


async def _short(load: Load, generator: random.Random) -> None:
    async def once() -> str:
        content, text = generator.choice(load.files)
        code, found = await _transcribe(load, content)
        load.wrong_texts += code == "200" and found != text
        return code

    await _repeat(load, "short", once)


async def _long(load: Load, generator: random.Random) -> None:
    async def once() -> str:
        return (await _transcribe(load, load.long_file))[0]

    await _repeat(load, "long", once)


async def _live(load: Load, generator: random.Random) -> None:
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import WebSocketException

    address = f"ws://{load.host}:{load.port}{_PATH}/live?sample_rate={load.sample_rate}"
    size = load.sample_rate // 10 * 2

    async def once() -> str:
        try:
            async with connect(address, ping_interval=None) as socket:
                kind = json.loads(await socket.recv())["type"]
                speaker = asyncio.create_task(speak(socket))
                async for message in socket:
                    kind = json.loads(message)["type"]
                await speaker
                return kind
        except WebSocketException as error:
            return str(error)

    async def speak(socket: ClientConnection) -> None:
        for n in range(0, len(load.samples), size):
            await socket.send(load.samples[n : n + size])
            await asyncio.sleep(0.1)
        await socket.send('{"type": "finish"}')

    await asyncio.sleep(generator.random() * 5)
    await _repeat(load, "live", once)


async def _large(load: Load, generator: random.Random, chunked: bool = False) -> None:
    size = round(_MAX_MB * 1e6 * generator.uniform(1.1, 3))
    head, _ = _form(b"")

    async def once() -> str:
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        reader, writer = await _request(load, length)
        try:
            sent = 0
            while sent < size and not reader._buffer:
                chunk = head if not sent else bytes(65536)
                writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
                sent += len(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        return (await _answer(reader, writer))[0]

    await _repeat(load, "large, chunked" if chunked else "large", once, pause=0.5)


async def _slow(load: Load, generator: random.Random) -> None:
    head, _ = _form(b"")

    async def once() -> str:
        reader, writer = await _request(load, "Content-Length: 1000000")
        answer = asyncio.create_task(_answer(reader, writer))
        try:
            writer.write(head)
            while not answer.done():
                writer.write(bytes(generator.randint(1, 500)))
                await writer.drain()
                await asyncio.wait((answer,), timeout=generator.random())
        except ConnectionError:
            pass
        return (await answer)[0]

    await _repeat(load, "slow", once)


async def _wrong(load: Load, generator: random.Random) -> None:
    async def once() -> str:
        content = generator.choice(
            [b"%PDF-1.7\n" + bytes(3000), b"\x89PNG\r\n\x1a\n" + bytes(500), b"{}", b""]
        )
        _, form = _form(content, "talk.pdf")
        kind = generator.choice(
            ["multipart/form-data; boundary=b0undary", "application/json", "audio/wav", ""]
        )
        reader, writer = await _request(load, f"Content-Length: {len(form)}", kind)
        writer.write(form)
        return (await _answer(reader, writer))[0]

    await _repeat(load, "wrong type", once, pause=0.2)


async def _broken_off(load: Load, generator: random.Random) -> None:
    """Go away within the upload, or while the answer is being worked on."""

    async def once() -> str:
        _, form = _form(generator.choice([load.long_file, load.files[0][0]]))
        _, writer = await _request(load, f"Content-Length: {len(form)}")
        writer.write(form[: generator.choice([len(form), len(form) // 2, 100, 0])])
        await asyncio.sleep(generator.random())
        writer.transport.abort()
        return "gone"

    await _repeat(load, "broken off", once, pause=0.2)


async def _random(load: Load, generator: random.Random) -> None:
    async def once() -> str:
        noise = generator.randbytes(generator.randint(100, 20_000))
        where = generator.randrange(3)
        if where == 0:
            reader, writer = await asyncio.open_connection(load.host, load.port)
            writer.write(b"\xff" + noise)
        else:
            body = noise if where == 1 else _form(noise)[1]
            reader, writer = await _request(load, f"Content-Length: {len(body)}")
            writer.write(body)
        return (await _answer(reader, writer))[0]

    await _repeat(load, "random", once, pause=0.2)


_CLIENTS: dict[str, Callable[[Load, random.Random], Coroutine[Any, Any, None]]] = {
    "short": _short,
    "long": _long,
    "live": _live,
    "large": _large,
    "large, chunked": lambda load, generator: _large(load, generator, chunked=True),
    "slow": _slow,
    "wrong type": _wrong,
    "broken off": _broken_off,
    "random": _random,
}
