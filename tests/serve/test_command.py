"""`asr serve` as a process: its address, its signals, its messages."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

from asr.cli.main import main
from asr.errors import ConfigError
from asr.model_file import save_model
from asr.serve.server import bind

PATH = "/v1/audio/transcriptions"


@pytest.fixture(scope="module")
def model(recognizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.asr"
    save_model(path, recognizer, {"run": {"name": "words"}})
    return path


@pytest.fixture
def serve(model):
    """Return a function that starts the command and gives the process and its address."""
    processes = []

    def start(*options):
        command = [sys.executable, "-m", "asr.cli.main", "serve", str(model), "--port", "0", *options]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        return process, re.search(r"http://[\d.]+:\d+", process.stderr.readline())[0]

    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_signal_ends_it_when_what_has_begun_is_finished(serve, wav, until, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process, url = serve("--token", "s3cret", "--threads", "1")
    headers = {"Authorization": "Bearer s3cret"}
    until(lambda: answers(url), 60)
    assert httpx.get(url + "/v1/models").status_code == 401
    assert httpx.get(url + "/v1/models", headers=headers).json()["data"][0]["id"] == "words"
    (folder,) = tmp_path.glob("asr-serve-*")
    answer = []

    def ask():
        files = {"file": ("a.flac", wav(600.0, kind="FLAC"))}
        answer.append(httpx.post(url + PATH, files=files, headers=headers, timeout=60))

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: "asr_requests_in_progress 1.0" in httpx.get(url + "/metrics", headers=headers).text)
    process.send_signal(signal.SIGTERM)
    until(lambda: httpx.get(url + "/health").status_code == 503)
    thread.join(60)
    assert answer[0].status_code == 200
    assert process.wait(20) == 0
    log = process.stderr.read()
    assert log.endswith("asr: stopped\n")
    assert "Traceback" not in log
    assert not folder.exists()


def answers(url):
    try:
        return httpx.get(url + "/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(serve, until):
    process, url = serve()
    until(lambda: answers(url), 60)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode())
        until(lambda: "asr_requests_in_progress 1.0" in httpx.get(url + "/metrics").text)
        process.send_signal(signal.SIGINT)
        until(lambda: httpx.get(url + "/health").status_code == 503)
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 1
        assert time.monotonic() - begun < 10
    assert "stopped at once" in process.stderr.read()


def test_an_address_that_cannot_be_had_is_one_line(model, capsys):
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(model), "--port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"asr: error: --port {port}: in use on 127.0.0.1; choose another, or 0 for any that is free\n"
    )
    for host, port in (("127.0.0.1", 70_000), ("no.such.host.invalid", 0), ("192.0.2.1", 0)):
        with pytest.raises(ConfigError) as caught:
            bind(host, port)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [["--port", "x"], ["--max-mb", "0"], ["--max-requests", "-1"], ["--rate", "nan"], ["--max-live"]],
)
def test_options_that_cannot_be(model, options, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["serve", str(model), *options])
    assert caught.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_a_model_that_is_not_there(tmp_path, capsys):
    assert main(["serve", str(tmp_path / "no.asr"), "--port", "0"]) == 2
    assert "no.asr" in capsys.readouterr().err
    assert main(["serve", str(tmp_path / "no.asr"), "--port", "0", "--token", ""]) == 2
    assert "--token" in capsys.readouterr().err


def test_help_shows_how_to_ask(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = capsys.readouterr().out
    for example in (
        "curl http://127.0.0.1:8000/v1/audio/transcriptions -F file=@",
        "from openai import OpenAI",
    ):
        assert example in shown
