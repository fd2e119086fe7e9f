"""The service over HTTP: answers, refusals with their codes, and what stays behind (nothing)."""

import json
import logging
import socket
import threading
import time

import httpx
import openai
import pytest
import srt
import webvtt

from asr.transcribe import transcribe

PATH = "/v1/audio/transcriptions"


def post(client, content, name="talk.wav", headers=None, **fields):
    return client.post(PATH, files={"file": (name, content)}, data=fields, headers=headers)


def error_of(response):
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "\n" not in error["message"]
    return error


@pytest.fixture
def result_of(recognizer, windows, tmp_path):
    """Return a function that transcribes a file as the command does."""

    def recognize(content):
        path = tmp_path / "expected"
        path.write_bytes(content)
        return transcribe(recognizer, path, options=windows)

    return recognize


def test_every_format_says_the_same(start, result_of, wav):
    client = start().client
    content = wav(9.0)
    expected = result_of(content)
    text = expected.text
    assert len(text.split()) > 5
    answers = {
        name: post(client, content, response_format=name)
        for name in ("json", "text", "srt", "vtt", "verbose_json")
    }
    assert {answer.status_code for answer in answers.values()} == {200}
    assert answers["json"].json() == {"text": text, "usage": {"type": "duration", "seconds": 9.0}}
    assert answers["text"].text == text + "\n"
    verbose = answers["verbose_json"].json()
    assert verbose["text"] == text
    assert [(s["start"], s["end"], s["text"]) for s in verbose["segments"]] == [
        (round(s.start, 3), round(s.end, 3), s.text) for s in expected.segments
    ]
    subtitles = list(srt.parse(answers["srt"].text))
    captions = webvtt.from_string(answers["vtt"].text)
    for found in (
        [s["text"] for s in verbose["segments"]],
        [cue.content for cue in subtitles],
        [caption.text for caption in captions],
    ):
        assert " ".join(found) == text
    starts = [round(cue.start.total_seconds(), 3) for cue in subtitles]
    assert starts == [s["start"] for s in verbose["segments"]]


def test_words_have_their_times(start, result_of, wav):
    content = wav(4.0, seed=3)
    fields = {"response_format": "verbose_json", "timestamp_granularities[]": ["word", "segment"]}
    answer = post(start().client, content, **fields).json()
    expected = [(w.text, round(w.start, 3), round(w.end, 3)) for w in result_of(content).words]
    assert [(w["word"], w["start"], w["end"]) for w in answer["words"]] == expected
    assert answer["segments"]


@pytest.mark.parametrize("kind", ["FLAC", "OGG", "MP3"])
def test_other_formats_of_audio_and_other_rates(start, wav, kind):
    client, content = start().client, wav(2.0, rate=44100, kind=kind)
    answer = post(client, content, name=f"a.{kind.lower()}")
    assert answer.status_code == 200
    assert answer.json()["usage"]["seconds"] == pytest.approx(2.0, abs=0.06)
    verbose = post(client, content, response_format="verbose_json").json()
    assert verbose["notes"][0].startswith("resampled 44100 -> 8000 Hz")


def test_many_requests_at_once_get_what_each_gets_alone(start, wav):
    server = start()
    contents = [wav(0.5 + 0.37 * n, seed=n) for n in range(12)]
    alone = [post(server.client, content).json() for content in contents]
    together = [None] * len(contents)

    def ask(n):
        together[n] = httpx.post(server.url + PATH, files={"file": ("a.wav", contents[n])}, timeout=30).json()

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(len(contents))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_server_sent_events(start, result_of, wav):
    client = start().client
    content = wav(9.0)
    text = result_of(content).text
    with client.stream("POST", PATH, files={"file": ("a.wav", content)}, data={"stream": "true"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    assert events[-1] == {"type": "transcript.text.done", "text": text}
    assert {event["type"] for event in events[:-1]} == {"transcript.text.delta"}
    assert "".join(event["delta"] for event in events[:-1]) == text
    assert len(events) > 3


def test_events_with_verbose_json_have_the_words_and_how_far_it_is(start, wav):
    fields = {
        "stream": "true",
        "response_format": "verbose_json",
        "timestamp_granularities[]": ["word", "segment"],
    }
    client = start().client
    answer = post(client, wav(9.0), **fields)
    events = [json.loads(line[6:]) for line in answer.text.split("\n") if line.startswith("data: ")]
    done = events.pop()
    assert done.pop("type") == "transcript.text.done"
    del fields["stream"]
    assert done == post(client, wav(9.0), **fields).json()
    assert [word for event in events for word in event["words"]] == done["words"]
    seconds = [event["seconds"] for event in events]
    assert seconds == sorted(seconds)
    assert seconds[-1] == 9.0


def test_the_openai_package(start, wav):
    server = start(tokens=["s3cret"])
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="s3cret", max_retries=0)
    (model,) = client.models.list().data
    assert model.id == client.models.retrieve("tiny").id == "tiny"
    content = wav(3.0)

    def create(**options):
        return client.audio.transcriptions.create(model="whisper-1", file=("a.wav", content), **options)

    transcription = create()
    assert isinstance(transcription, openai.types.audio.Transcription)
    text = transcription.text
    assert text
    assert create(response_format="text") == text + "\n"
    assert create(response_format="srt").startswith("1\n00:00:0")
    assert create(response_format="vtt").startswith("WEBVTT\n\n")
    verbose = create(
        response_format="verbose_json", timestamp_granularities=["word", "segment"], language="en"
    )
    assert isinstance(verbose, openai.types.audio.TranscriptionVerbose)
    assert " ".join(word.word for word in verbose.words) == verbose.text == text
    assert verbose.segments[0].no_speech_prob == 0
    events = list(create(stream=True, prompt="Names: Ada", temperature=0.0))
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == text

    raw = client.audio.transcriptions.with_raw_response.create(
        model="x", file=("a.wav", content), prompt="Names: Ada", temperature=0.5
    )
    assert raw.headers["asr-ignored"] == "prompt, temperature"
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.transcriptions.create(model="x", file=("a.wav", b"rubbish"))
    assert (caught.value.code, caught.value.param) == ("invalid_audio", "file")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="guess").models.list()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "empty.wav"),
        (b"\x00" * 5000, "zeros.wav"),
        (bytes(range(256)) * 40, "random.mp3"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "cut.wav"),
        (b"<!doctype html><p>no", "page.html"),
    ],
)
def test_what_is_no_audio(start, content, name):
    answer = post(start().client, content, name=name)
    assert answer.status_code == 400
    error = error_of(answer)
    assert (error["code"], error["param"], error["type"]) == (
        "invalid_audio",
        "file",
        "invalid_request_error",
    )
    # The name is the client's, not that of the file here.
    assert error["message"].startswith(name)


@pytest.mark.parametrize(
    "head", ["#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n", "ffconcat version 1.0\nfile {}\n"]
)
def test_a_playlist_does_not_open_files_of_the_server(start, wav, tmp_path, head):
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav(2.0))
    for name in ("list.m3u8", "list.wav"):
        answer = post(start().client, head.format(f"file://{secret}").encode(), name=name)
        assert answer.status_code == 400
        assert "text" not in answer.json()


def test_requests_that_are_no_form(start, wav):
    client = start().client
    assert client.post(PATH, json={"file": "a.wav"}).status_code == 415
    assert client.post(PATH, content=wav(), headers={"Content-Type": "audio/wav"}).status_code == 415
    assert client.post(PATH).status_code == 415
    for content_type, body in (
        ("multipart/form-data", b"--x"),
        ("multipart/form-data; boundary=x", b"rubbish"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x--\r\n"),
        (
            "multipart/form-data; boundary=x; charset=punycode",
            b'--x\r\nContent-Disposition: form-data; name="\xff"',
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\na\r\n--x--\r\n',
        ),
    ):
        answer = client.post(PATH, content=body, headers={"Content-Type": content_type})
        assert answer.status_code == 400, answer.text
        error_of(answer)
    files = [("file", ("a.wav", wav())), ("file", ("b.wav", wav()))]
    assert client.post(PATH, files=files).status_code == 400
    many = {f"field{n}": "x" for n in range(200)}
    assert client.post(PATH, files={"file": ("a.wav", wav())}, data=many).status_code == 400
    assert (
        client.post(PATH, files={"file": ("a.wav", wav())}, data={"prompt": "x" * 100_000}).status_code == 400
    )


def test_addresses_and_methods_that_are_not_there(start):
    client = start().client
    assert error_of(client.get("/v2"))["code"] == "not_found"
    answer = client.get(PATH)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert error_of(answer)["code"] == "method_not_allowed"


def test_an_upload_that_is_too_large_is_refused_while_it_is_read(start, wav):
    server = start(max_bytes=50_000)
    assert post(server.client, wav(2.0)).status_code == 200
    answer = post(server.client, wav(10.0))
    assert answer.status_code == 413
    assert error_of(answer)["code"] == "upload_too_large"
    assert answer.headers["connection"] == "close"

    sent = 0

    def endless():
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        while True:
            sent += 10_000
            yield bytes(10_000)

    with httpx.Client(base_url=server.url, timeout=30) as client:
        answer = client.post(
            PATH, content=endless(), headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
    assert answer.status_code == 413
    assert sent < 2_000_000_000


def test_audio_that_is_too_long(start, wav):
    client = start(max_seconds=3.0).client
    assert post(client, wav(3.0)).status_code == 200
    answer = post(client, wav(3.1))
    assert (answer.status_code, error_of(answer)["code"]) == (413, "audio_too_long")
    # A header that lies, as a program that writes into a pipe leaves it.
    content = bytearray(wav(9.0))
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    assert post(client, bytes(content)).status_code in (400, 413)
    assert post(client, wav(9.0), stream="true").status_code == 413


def request_head(port, length, content_type="multipart/form-data; boundary=x"):
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode()


def test_an_upload_that_is_too_slow(start):
    server = start(upload_seconds=0.3)
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(10)
        connection.sendall(request_head(server.port, 1000) + b"--x\r\n")
        begun = time.monotonic()
        answer = connection.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"upload_too_slow" in answer
    assert time.monotonic() - begun < 5
    # Bytes that keep coming, but few.
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(0.05)
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        connection.sendall(request_head(server.port, 1_000_000) + head)
        answer = b""
        while not answer:
            connection.sendall(b"-")
            try:
                answer = connection.recv(10_000)
            except TimeoutError:
                assert time.monotonic() - begun < 20
    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.fixture
def slow(monkeypatch, recognizer):
    """Make the recogniser wait in every batch until it may go on."""
    gate = threading.Event()
    original = type(recognizer).recognize_audio

    def wait(self, waveforms):
        if threading.current_thread().name == "recogniser":
            assert gate.wait(30)
        return original(self, waveforms)

    monkeypatch.setattr(type(recognizer), "recognize_audio", wait)
    yield gate
    gate.set()


def in_background(work):
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    return lambda: (thread.join(30), results[0])[1]


def test_more_requests_than_allowed_at_once(start, slow, wav, until):
    server = start(max_requests=2)
    waiting = [
        in_background(lambda: httpx.post(server.url + PATH, files={"file": ("a.wav", wav())}, timeout=30))
        for _ in range(2)
    ]
    until(lambda: server.service.num_requests == 2)
    answer = post(server.client, wav())
    assert (answer.status_code, error_of(answer)["code"]) == (429, "too_many_requests")
    assert int(answer.headers["retry-after"]) >= 1
    assert server.client.get("/health").status_code == 200
    slow.set()
    assert [wait().status_code for wait in waiting] == [200, 200]
    assert post(server.client, wav()).status_code == 200


def test_more_requests_a_minute_than_allowed(start, wav):
    client = start(requests_per_minute=2).client
    assert [post(client, wav()).status_code for _ in range(3)] == [200, 200, 429]
    assert client.get("/v1/models").status_code == 200


def test_a_stop_finishes_what_has_begun_and_takes_nothing_new(start, slow, wav, until):
    server = start()
    waiting = in_background(
        lambda: httpx.post(server.url + PATH, files={"file": ("a.wav", wav())}, timeout=30)
    )
    until(lambda: server.service.num_requests == 1)
    server.server.handle_exit(15, None)
    answer = server.client.get("/health")
    assert (answer.status_code, answer.json()) == (503, {"status": "stopping"})
    answer = post(server.client, wav())
    assert (answer.status_code, error_of(answer)["code"]) == (503, "stopping")
    assert "retry-after" in answer.headers
    slow.set()
    assert waiting().status_code == 200
    server.thread.join(10)
    assert not server.thread.is_alive()
    assert not server.service.folder.exists()


def test_a_client_that_goes_away_takes_its_work_with_it(start, slow, wav, until):
    server = start()
    content = httpx.Request("POST", server.url, files={"file": ("a.wav", wav(30.0))})
    body = content.read()
    for part in (len(body), len(body) // 2):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(
            request_head(server.port, len(body), content.headers["content-type"]) + body[:part]
        )
        until(lambda: server.service.num_requests == 1)
        time.sleep(0.2)
        connection.close()
        until(lambda: server.service.num_requests == 0)
        assert list(server.service.folder.iterdir()) == []
    slow.set()
    until(lambda: server.service.batcher.num_waiting == 0)
    assert 'status="499"' in server.client.get("/metrics").text
    assert post(server.client, wav()).status_code == 200


def test_tokens(start, wav):
    server = start(tokens=["one", "twö"])
    for token, status in (
        ("one", 200),
        ("twö", 200),
        ("x", 401),
        ("on", 401),
        ("onee", 401),
        ("\u0141", 401),
    ):
        headers = {"Authorization": f"Bearer {token}".encode()}
        answer = httpx.get(server.url + "/v1/models", headers=headers)
        assert answer.status_code == status, token
    for path, status in (("/", 200), ("/health", 200), ("/metrics", 401), ("/openapi.json", 401)):
        assert httpx.get(server.url + path).status_code == status
    answer = httpx.post(server.url + PATH, files={"file": ("a.wav", wav(30))})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert error_of(answer)["type"] == "authentication_error"


def test_pages_of_other_sites(start, wav):
    server = start()
    for origin, status in (("http://evil.example", 403), ("null", 403), (server.url, 200)):
        assert post(server.client, wav(), headers={"Origin": origin}).status_code == status
    assert "access-control-allow-origin" not in server.client.get("/v1/models").headers
    server = start(origins=["https://good.example"])
    answer = post(server.client, wav(), headers={"Origin": "https://good.example"})
    assert answer.headers["access-control-allow-origin"] == "https://good.example"
    preflight = {"Origin": "https://good.example", "Access-Control-Request-Method": "POST"}
    assert server.client.options(PATH, headers=preflight).status_code == 200
    assert post(server.client, wav(), headers={"Origin": "http://evil.example"}).status_code == 403


def test_garbage_instead_of_http(start, wav):
    server = start()
    for garbage in (b"\x16\x03\x01\x00\xff" * 20, b"GET / HTTP/9.9\r\n\r\n", b"\x00" * 1000):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.settimeout(5)
            connection.sendall(garbage)
            assert connection.recv(1000).startswith(b"HTTP/1.1 400")
    assert post(server.client, wav()).status_code == 200


def test_metrics(start, wav):
    client = start().client
    post(client, wav(1.5))
    post(client, b"rubbish")
    client.get("/some/secret/path")
    lines = client.get("/metrics").text.splitlines()
    for line in (
        'asr_requests_total{endpoint="/v1/audio/transcriptions",status="200"} 1.0',
        'asr_requests_total{endpoint="/v1/audio/transcriptions",status="400"} 1.0',
        'asr_requests_total{endpoint="other",status="404"} 1.0',
        'asr_errors_total{code="invalid_audio"} 1.0',
        'asr_audio_seconds_total{source="file"} 1.5',
        "asr_queue_windows 0.0",
        "asr_requests_in_progress 0.0",
        'asr_request_seconds_count{endpoint="/v1/audio/transcriptions"} 2.0',
        "asr_batch_windows_count 1.0",
        "asr_real_time_factor_count 1.0",
        'asr_model_info{model="tiny"} 1.0',
    ):
        assert line in lines


def test_neither_audio_nor_text_nor_names_stay_behind(start, wav, caplog, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server = start()
    caplog.set_level(logging.DEBUG)
    text = post(server.client, wav(5.0), name="ada-lovelace.wav").json()["text"]
    post(server.client, wav(500.0), name="ada-lovelace.wav", stream="true")
    post(server.client, b"rubbish", name="ada-lovelace.wav")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    logged = "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith(("asr", "uvicorn"))
    )
    assert "POST /v1/audio/transcriptions 200" in logged
    assert "ada" not in logged
    assert not any(word in logged.split() for word in set(text.split()))


def test_a_fault_of_the_server_is_a_500_and_does_not_stop_it(start, wav, monkeypatch, recognizer):
    server = start()

    def fail(self, waveforms):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(type(recognizer), "recognize_audio", fail)
        answer = post(server.client, wav())
        assert (answer.status_code, error_of(answer)["code"]) == (500, "internal_error")
        events = post(server.client, wav(), stream="true").text
        assert json.loads(events.strip().split("\n\n")[-1][6:])["error"]["code"] == "internal_error"
    assert post(server.client, wav()).status_code == 200
