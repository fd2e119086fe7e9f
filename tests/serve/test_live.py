"""Live audio over a WebSocket, as a client of another make (websockets) sees it."""

import asyncio
import base64
import io
import json

import httpx
import numpy as np
import pytest
import soundfile as sf
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from asr.live import LiveTranscriber

PATH = "/v1/audio/transcriptions/live"


@pytest.fixture
def pcm(wav):
    """Return a function that makes so many seconds of 16-bit samples, as bytes."""

    def make(seconds, rate=8000):
        samples, _ = sf.read(io.BytesIO(wav(seconds, rate=rate)), dtype="int16")
        return samples.astype("<i2").tobytes()

    return make


def address(server, query=""):
    return server.url.replace("http", "ws") + PATH + query


async def talk(url, pieces, finish=True, **options):
    """Send pieces and return the messages that come back, and the code of the close."""
    messages = []
    async with connect(url, **options) as socket:
        assert json.loads(await socket.recv())["type"] == "ready"
        for piece in pieces:
            await socket.send(piece)
        if finish:
            await socket.send('{"type": "finish"}')
        try:
            async for message in socket:
                messages.append(json.loads(message))
        except ConnectionClosed:
            pass
        return messages, socket.close_code


@pytest.mark.parametrize("size", [3, 1600, 10**6])
def test_the_words_are_those_of_the_transcriber_however_the_samples_are_cut(
    start, recognizer, pcm, run_async, size
):
    server = start()
    data = pcm(3.0) if size > 3 else pcm(0.5)
    live = LiveTranscriber(recognizer)
    updates = [live.push(np.frombuffer(data, "<i2").astype(np.float32) / 32768), live.finish()]
    expected = [(word.text, round(word.start, 3)) for update in updates for word in update.final]
    assert expected
    pieces = [data[n : n + size] for n in range(0, len(data), size)]
    messages, code = run_async(talk(address(server), pieces))
    *news, done = messages
    assert [(word["word"], word["start"]) for update in news for word in update["words"]] == expected
    assert done == {
        "type": "done",
        "text": " ".join(word for word, _ in expected),
        "duration": len(data) / 2 / 8000,
    }
    assert " ".join(s["text"] for update in news for s in update["segments"]) == done["text"]
    assert code == 1000
    metrics = server.client.get("/metrics").text
    assert f'asr_audio_seconds_total{{source="live"}} {len(data) / 16000}' in metrics


def test_words_come_while_the_client_still_speaks(start, pcm, run_async):
    server = start()

    async def speak():
        async with connect(address(server, "?sample_rate=16000")) as socket:
            ready = json.loads(await socket.recv())
            assert ready["sample_rate"] == 16000
            assert 0 < ready["delay"] < 5
            data = pcm(6.0, rate=16000)
            for n in range(0, len(data), 3200):
                await socket.send(data[n : n + 3200])
            heard = ""
            while not heard:
                update = json.loads(await socket.recv())
                heard = update["words"] or update["partial"]
            await socket.send('{"type": "finish"}')
            return [json.loads(message)["type"] async for message in socket]

    assert run_async(speak())[-1] == "done"


def test_a_stop_brings_a_stream_to_its_end(start, pcm, run_async):
    server = start()

    async def speak():
        async with connect(address(server)) as socket:
            await socket.recv()
            await socket.send(pcm(1.0))
            await socket.recv()
            server.server.handle_exit(15, None)
            messages = [json.loads(message) async for message in socket]
            return messages[-1], socket.close_code

    done, code = run_async(speak())
    assert (done["type"], done["duration"], code) == ("done", 1.0, 1001)
    server.thread.join(10)
    assert not server.thread.is_alive()


@pytest.mark.parametrize(
    ("options", "query", "status"),
    [
        ({}, "?sample_rate=0", 400),
        ({}, "?sample_rate=99999999999999999999", 400),
        ({}, "?sample_rate=¹²³", 400),
        ({"tokens": ["x"]}, "", 401),
        ({"max_live": 0}, "", 429),
        ({"requests_per_minute": 0.5}, "", 429),
    ],
)
def test_refusals(start, run_async, options, query, status):
    server = start(**options)
    with pytest.raises(InvalidStatus) as caught:
        run_async(talk(address(server, query), []))
    assert caught.value.response.status_code == status
    assert set(json.loads(caught.value.response.body)["error"]) == {"message", "type", "param", "code"}


def test_pages_of_other_sites(start, run_async, pcm):
    server = start()
    with pytest.raises(InvalidStatus) as caught:
        run_async(talk(address(server), [], origin="http://evil.example"))
    assert caught.value.response.status_code == 403
    assert run_async(talk(address(server), [pcm(0.5)], origin=server.url))[1] == 1000


def test_a_token_in_a_header_or_as_a_browser_sends_it(start, run_async, pcm):
    server = start(tokens=["s3cret/+?"])
    encoded = base64.urlsafe_b64encode(b"s3cret/+?").decode().rstrip("=")
    for options in (
        {"additional_headers": {"Authorization": "Bearer s3cret/+?"}},
        {"subprotocols": ["asr", f"asr.token.{encoded}"]},
    ):
        assert run_async(talk(address(server), [pcm(0.5)], **options))[1] == 1000
    with pytest.raises(InvalidStatus):
        run_async(talk(address(server), [], subprotocols=["asr", "asr.token.AAAA"]))


@pytest.mark.parametrize(
    ("pieces", "limits", "code"),
    [
        (["{}"], {}, "invalid_value"),
        (["rubbish"], {}, "invalid_value"),
        (["[1]"], {}, "invalid_value"),
        ([bytes(3 * 16000)], {"max_seconds": 2.0}, "audio_too_long"),
        ([], {"upload_seconds": 0.2}, "idle_stream"),
    ],
)
def test_mistakes_are_said_and_end_the_stream(start, run_async, pieces, limits, code):
    messages, closed = run_async(talk(address(start(**limits)), pieces, finish=False))
    assert messages[-1]["type"] == "error"
    assert messages[-1]["error"]["code"] == code
    assert closed == 1008


def test_a_client_that_breaks_off_frees_its_place(start, run_async, pcm, until):
    server = start(max_live=1)

    async def leave():
        socket = await connect(address(server))
        await socket.send(pcm(2.0))
        socket.transport.abort()

    for _ in range(3):
        run_async(leave())
        until(lambda: server.service.num_live == 0)
    assert run_async(talk(address(server), [pcm(0.5)]))[1] == 1000
    assert httpx.get(server.url + "/health").status_code == 200


def test_streams_at_the_same_time_do_not_mix(start, run_async, wav):
    server = start()
    pieces = []
    for seed in range(4):
        samples, _ = sf.read(io.BytesIO(wav(2.0, seed=seed)), dtype="int16")
        data = samples.astype("<i2").tobytes()
        pieces.append([data[n : n + 1600] for n in range(0, len(data), 1600)])

    async def together():
        return await asyncio.gather(*(talk(address(server), piece) for piece in pieces))

    texts = [messages[-1]["text"] for messages, _ in run_async(together())]
    assert texts == [run_async(talk(address(server), piece))[0][-1]["text"] for piece in pieces]
    assert len(set(texts)) == 4
