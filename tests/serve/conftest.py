"""A server in a thread of the tests, around a small recogniser with random weights."""

import asyncio
import io
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf

pytest.importorskip("fastapi", reason="needs pip install 'asr[serve]'")

import httpx

from asr.serve.app import make_app
from asr.serve.limits import Limits
from asr.serve.server import Server, bind
from asr.serve.service import Service
from asr.windows import WindowOptions

RATE = 8000


@pytest.fixture(scope="session")
def recognizer(tiny_recognizer):
    words = {"_target_": "asr.text.WordTokenizer", "words": ["one", "two", "three", "four"]}
    return tiny_recognizer(words, sample_rate=RATE)


@pytest.fixture(scope="session")
def windows(recognizer):
    """Options by which all sound is speech: the better detectors know that noise is none."""
    return WindowOptions.for_model(recognizer.max_train_seconds, vad="none")


@pytest.fixture(autouse=True)
def _all_sound_is_speech(monkeypatch):
    monkeypatch.setattr("asr.live.best_vad", lambda: "none")


@pytest.fixture(scope="session")
def wav():
    """Return a function that makes the bytes of a WAV file with sound of so many seconds."""

    def make(seconds=1.0, seed=0, rate=RATE, kind="WAV"):
        rng = np.random.default_rng(seed)
        count = round(seconds * rate)
        samples = 0.2 * rng.standard_normal(count) * np.sin(2 * np.pi * np.arange(count) / rate) ** 2
        file = io.BytesIO()
        sf.write(file, samples, rate, format=kind)
        return file.getvalue()

    return make


@pytest.fixture
def start(recognizer, windows):
    """Return a function that starts a server and gives its address, its service and a client."""
    running = []

    def start(tokens=(), origins=(), batch_seconds=60.0, recognizer=recognizer, **limits):
        service = Service(recognizer, "tiny", Limits(**limits), tokens, origins, batch_seconds, windows)
        address = bind("127.0.0.1", 0)
        server = Server(make_app(service), service)
        thread = threading.Thread(target=server.run, args=([address],))
        thread.start()
        host, port = address.getsockname()
        url = f"http://{host}:{port}"
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        headers = {"Authorization": f"Bearer {tokens[0]}"} if tokens else {}
        client = httpx.Client(base_url=url, timeout=30, headers=headers)
        running.append((server, thread, client))
        return SimpleNamespace(
            url=url, port=port, service=service, server=server, thread=thread, client=client
        )

    yield start
    for server, thread, client in running:
        client.close()
        server.should_exit = server.force_exit = True
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def until():
    """Return a function that waits until another one returns something true, and returns that."""

    def wait(true, seconds=10):
        end = time.monotonic() + seconds
        while not (value := true()):
            assert time.monotonic() < end
            time.sleep(0.01)
        return value

    return wait


@pytest.fixture(scope="session")
def run_async():
    """Return `asyncio.run` with a limit on the time."""
    return lambda work, seconds=30: asyncio.run(asyncio.wait_for(work, seconds))
