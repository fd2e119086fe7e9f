"""Downloads from real servers on this machine: resumed, retried, mirrored, checked, whole or not at all."""

import hashlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import pytest

from asr.data import downloads
from asr.data.downloads import download
from asr.errors import DataError

CONTENT = os.urandom(5 << 20)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


@dataclass
class Server:
    """A mirror, with its faults and its count of what it served."""

    content: bytes = CONTENT
    ranges: bool = True  # whether it knows the header Range
    etag: str | None = '"first"'
    cut_after: int | None = None  # bytes of each response after which the connection breaks
    cuts: int = 1_000_000  # how often
    status: int = 200
    says_size: bool = True
    url: str = ""
    served: int = 0
    requests: list[dict[str, str]] = field(default_factory=list)

    def answer(self, handler):
        self.requests.append(dict(handler.headers))
        if self.status != 200:
            handler.send_error(self.status)
            return
        start = 0
        asked = handler.headers.get("Range")
        if asked and self.ranges and handler.headers.get("If-Range", self.etag) == self.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(self.content):
                handler.send_error(416)
                return
            handler.send_response(206)
            size = len(self.content)
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            handler.send_response(200)
        body = self.content[start:]
        if self.says_size:
            handler.send_header("Content-Length", str(len(body)))
        if self.etag:
            handler.send_header("ETag", self.etag)
        handler.end_headers()
        if self.cut_after is not None and self.cuts > 0:
            self.cuts -= 1
            body = body[: self.cut_after]
        handler.wfile.write(body)
        self.served += len(body)


@pytest.fixture
def serve():
    """Return a function that starts a mirror."""
    running = []

    def start(**settings):
        server = Server(**settings)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *args):
                pass

        httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(httpd)
        threading.Thread(target=httpd.serve_forever, daemon=True, args=[0.01]).start()
        server.url = f"http://127.0.0.1:{httpd.server_address[1]}/corpus.tar"
        return server

    yield start
    for httpd in running:
        httpd.shutdown()
        httpd.server_close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(downloads, "PAUSE_SECONDS", 0.0)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "corpus.tar"


def left(target):
    return sorted(path.name for path in target.parent.iterdir())


@pytest.mark.parametrize("digests", [{}, {"sha256": SHA256, "md5": MD5}], ids=["free", "pinned"])
def test_five_interruptions_cost_not_a_byte(serve, target, digests):
    server = serve(cut_after=900_000, cuts=5)
    seen, notes = [], []
    download([server.url], target, digests=digests, progress=lambda *p: seen.append(p), note=notes.append)
    assert target.read_bytes() == CONTENT
    assert server.served == len(CONTENT)
    assert len(server.requests) == 6
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert notes[0] == f"downloading corpus.tar (5.2 MB) from {server.url}"
    assert sum("broke off" in note for note in notes) == 5
    assert left(target) == ["corpus.tar"]


def test_a_server_without_ranges_sends_all_again(serve, target):
    server = serve(ranges=False, cut_after=900_000, cuts=2)
    download([server.url], target, digests={"md5": MD5})
    assert target.read_bytes() == CONTENT
    assert server.served == 2 * 900_000 + len(CONTENT)


def test_a_server_without_ranges_that_always_breaks_is_given_up(serve, target):
    server = serve(ranges=False, cut_after=900_000)
    with pytest.raises(DataError, match=r"900000 of 5242880 bytes came.*kept in.*--archive"):
        download([server.url], target, digests={"md5": MD5})
    assert left(target) == ["corpus.tar.part", "corpus.tar.part.json"]


def test_the_next_process_goes_on_where_the_last_one_was(serve, target):
    server = serve(cut_after=900_000, status=200)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download([server.url], target, progress=stop)
    had = (target.parent / "corpus.tar.part").stat().st_size
    assert 0 < had < len(CONTENT)
    server.cut_after = None
    server.served = 0
    download([server.url], target)
    assert target.read_bytes() == CONTENT
    assert server.served == len(CONTENT) - had
    assert server.requests[-1]["If-Range"] == '"first"'


def test_a_file_that_changed_meanwhile_is_fetched_anew(serve, target):
    server = serve(cut_after=900_000, cuts=1)
    with pytest.raises(KeyboardInterrupt):
        download([server.url], target, progress=interrupt)
    server.content, server.etag, server.cuts = CONTENT[::-1], '"second"', 0
    download([server.url], target)
    assert target.read_bytes() == CONTENT[::-1]


def interrupt(done, total):
    raise KeyboardInterrupt


@pytest.mark.parametrize("etag", ['W/"weak"', None])
def test_without_a_validator_or_digest_nothing_is_joined(serve, target, etag):
    server = serve(etag=etag, cut_after=900_000, cuts=1)
    download([server.url], target)
    assert target.read_bytes() == CONTENT
    assert "Range" not in server.requests[1]


def test_a_mirror_goes_on_in_mid_file_if_the_digest_is_known(serve, target):
    first = serve(cut_after=900_000, cuts=1)
    second = serve(etag='"its own"')

    def break_down(done, total):
        if done >= 900_000:
            first.status = 503

    download([first.url, second.url], target, digests={"sha256": SHA256}, progress=break_down)
    assert target.read_bytes() == CONTENT
    assert second.served == len(CONTENT) - 900_000
    assert second.requests[0]["Range"] == "bytes=900000-"
    assert "If-Range" not in second.requests[0]


def test_without_a_digest_another_mirror_begins_anew(serve, target):
    first = serve(cut_after=900_000, cuts=1)
    second = serve(content=CONTENT[::-1])

    def break_down(done, total):
        first.status = 503

    download([first.url, second.url], target, progress=break_down)
    assert target.read_bytes() == CONTENT[::-1]


def test_a_mirror_that_joins_in_with_other_content_does_not_spoil_the_file(serve, target):
    first = serve(cut_after=900_000, cuts=1)
    other = serve(content=CONTENT[::-1])
    notes = []

    def break_down(done, total):
        first.status = 503 if not other.served else 200

    download(
        [first.url, other.url], target, digests={"sha256": SHA256}, progress=break_down, note=notes.append
    )
    assert target.read_bytes() == CONTENT
    assert any("it came from several mirrors" in note for note in notes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"status": 404}, "HTTP 404 Not Found"),
        ({"status": 500}, "Internal Server Error"),
        ({"content": CONTENT[::-1]}, f"its sha256 checksum is [0-9a-f]{{64}}, expected {SHA256}"),
        ({"content": CONTENT[:-1]}, "has 5242879 bytes there, not 5242880"),
        ({"content": CONTENT[:-1], "says_size": False}, "has no more than 5242879 bytes"),
        ({"content": CONTENT + b"x", "says_size": False}, "sends more than the 5242880 bytes"),
    ],
    ids=["missing", "broken", "other-content", "shorter", "shorter-unsaid", "longer-unsaid"],
)
def test_a_bad_mirror_is_refused_and_a_good_one_serves(serve, target, settings, message):
    bad, good = serve(**settings), serve()
    options = {"size": len(CONTENT), "digests": {"sha256": SHA256}}
    download([bad.url, good.url], target, **options)
    assert target.read_bytes() == CONTENT
    shutil.rmtree(target.parent)
    with pytest.raises(DataError, match=message) as error:
        download([bad.url], target, **options)
    assert "\n" not in str(error.value)
    assert not target.exists()


def test_one_that_is_down_is_passed_over_and_said(serve, target):
    good = serve()
    notes = []
    download(["http://127.0.0.1:9/corpus.tar", good.url], target, note=notes.append)
    assert target.read_bytes() == CONTENT
    assert "127.0.0.1:9" in notes[0]
    assert "refused" in notes[0]


def test_an_answer_with_other_bytes_than_asked_for_is_refused(serve, target):
    server = serve(cut_after=900_000, cuts=1)
    plain = Server.answer

    def lie(handler):
        if handler.headers.get("Range"):
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}")
            handler.end_headers()
            handler.wfile.write(CONTENT)
        else:
            plain(server, handler)

    server.answer = lie
    with pytest.raises(DataError, match="answers with bytes 0-5242879 where those from 900000"):
        download([server.url], target, digests={"md5": MD5})


def test_a_part_that_is_whole_already_is_only_checked(serve, target):
    server = serve()
    target.parent.mkdir()
    target.with_name("corpus.tar.part").write_bytes(CONTENT)
    about = {"sources": [server.url], "total": len(CONTENT), "validator": None}
    target.with_name("corpus.tar.part.json").write_text(json.dumps(about))
    download([server.url], target, digests={"md5": MD5})
    assert target.read_bytes() == CONTENT
    assert server.requests == []


def test_room_is_asked_for_before_a_byte_is_fetched(serve, target, monkeypatch):
    server = serve()
    usage = shutil.disk_usage(target.parent.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=7_000_000))
    with pytest.raises(DataError, match=r"corpus\.tar: needs 10\.5 MB, 7\.0 MB are free there; make room"):
        download([server.url], target, reserve=2)
    assert left(target) == []
    with pytest.raises(DataError, match=r"needs 10\.5 MB"):
        download([server.url], target, size=len(CONTENT), reserve=2)
    assert len(server.requests) == 1  # a size known beforehand needs none
    download([server.url], target, reserve=1)


@pytest.mark.skipif(sys.platform != "linux", reason="needs tmpfs")
def test_a_disk_that_fills_up_is_one_line_and_what_came_is_kept(serve, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True
    ).returncode:
        pytest.skip("may not mount a file system here")
    try:
        server = serve(says_size=False)
        with pytest.raises(DataError, match=r"corpus\.tar: the disk is full; what came is kept") as error:
            download([server.url], folder / "corpus.tar", digests={"md5": MD5})
        assert "\n" not in str(error.value)
        kept = (folder / "corpus.tar.part").stat().st_size
        assert 1_000_000 < kept < 2 << 20
        assert CONTENT.startswith((folder / "corpus.tar.part").read_bytes())
        assert not (folder / "corpus.tar").exists()
        subprocess.run(["mount", "-o", "remount,size=8m", folder], check=True)
        server.served = 0
        download([server.url], folder / "corpus.tar", digests={"md5": MD5})
        assert (folder / "corpus.tar").read_bytes() == CONTENT
        assert server.served == len(CONTENT) - kept
    finally:
        while subprocess.run(["umount", "-l", folder], capture_output=True).returncode == 0:
            pass


def test_a_process_that_is_killed_leaves_what_the_next_one_goes_on_from(serve, target):
    server = serve(cut_after=1_500_000, cuts=1_000_000)
    program = (
        "import sys, time; from pathlib import Path; from asr.data.downloads import download\n"
        "def stop(done, total): print(done, flush=True); time.sleep(60)\n"
        "download([sys.argv[1]], Path(sys.argv[2]), progress=stop)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, server.url, str(target)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    done = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    server.cut_after, server.served = None, 0
    time.sleep(0.05)
    download([server.url], target)
    assert target.read_bytes() == CONTENT
    assert server.served == len(CONTENT) - done
