"""Archives: looked for, fetched from a real server, unpacked whole or not at all."""

import hashlib
import http.server
import io
import tarfile
import threading

import pytest

from asr.data.archives import find_archive, unpack, unpacked_archive
from asr.errors import DataError


def make_tar(path, names=("corpus/a.txt", "corpus/b.txt")):
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 5
            tar.addfile(info, io.BytesIO(b"hello"))
    return path


@pytest.fixture
def server(tmp_path):
    """A web server on this machine; ``/cut`` breaks off in the middle."""
    folder = tmp_path / "www"
    folder.mkdir()
    make_tar(folder / "corpus.tar.gz")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def do_GET(self):
            if not self.path.startswith("/cut"):
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"x" * 1000)
            return None

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


@pytest.fixture(autouse=True)
def no_local_archives(monkeypatch):
    monkeypatch.delenv("ASR_ARCHIVES", raising=False)


def test_downloads_once_and_unpacks_once(server, tmp_path):
    urls = [f"{server}/corpus.tar.gz"]
    seen = []
    folder = unpacked_archive(
        ["corpus.tar.gz"],
        tmp_path / "data",
        urls=urls,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert (folder / "corpus" / "a.txt").read_text() == "hello"
    assert seen[-1][0] == seen[-1][1] > 0
    # The second time nothing is fetched: no address is needed.
    assert unpacked_archive(["corpus.tar.gz"], tmp_path / "data") == folder
    assert find_archive(["corpus.tar.gz"], tmp_path / "data").is_file()


def test_a_mirror_that_is_down_is_passed_over(server, tmp_path):
    urls = ["http://127.0.0.1:9/corpus.tar.gz", f"{server}/missing.tar.gz", f"{server}/corpus.tar.gz"]
    assert find_archive(["corpus.tar.gz"], tmp_path / "data", urls=urls).is_file()


@pytest.mark.parametrize(
    ("path", "digest", "message"),
    [
        ("/cut", None, "of 1000000 bytes|IncompleteRead"),
        ("/corpus.tar.gz", "0" * 64, "checksum is"),
        ("/missing.tar.gz", None, "File not found"),
    ],
)
def test_a_bad_download_is_refused_and_never_taken_for_whole(server, tmp_path, path, digest, message):
    with pytest.raises(DataError, match=message) as error:
        find_archive(["corpus.tar.gz"], tmp_path / "data", urls=[server + path], sha256=digest)
    assert "--archive" in str(error.value)
    assert not (tmp_path / "data" / "corpus.tar.gz").exists()


def test_a_right_checksum_is_accepted(server, tmp_path):
    digest = hashlib.sha256((tmp_path / "www" / "corpus.tar.gz").read_bytes()).hexdigest()
    url = f"{server}/corpus.tar.gz"
    assert find_archive(["corpus.tar.gz"], tmp_path / "data", urls=[url], sha256=digest).is_file()


def test_a_local_copy_comes_before_a_download(tmp_path, monkeypatch):
    copy = make_tar(tmp_path / "corpus.tar.gz")
    monkeypatch.setenv("ASR_ARCHIVES", str(tmp_path))
    assert find_archive(["corpus.tar.gz"], tmp_path / "data") == copy
    with pytest.raises(DataError, match="no such archive"):
        find_archive(["corpus.tar.gz"], tmp_path / "data", archive=tmp_path / "elsewhere.tar.gz")


def test_a_damaged_archive_leaves_nothing_behind(tmp_path):
    archive = make_tar(tmp_path / "corpus.tar.gz")
    archive.write_bytes(archive.read_bytes()[:60])
    with pytest.raises(DataError, match=r"corpus\.tar\.gz: cannot be unpacked"):
        unpack(archive, tmp_path / "data" / "corpus")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_wrong_byte_in_an_archive_does_not_go_unnoticed(tmp_path):
    archive = make_tar(tmp_path / "corpus.tar.gz")
    content = bytearray(archive.read_bytes())
    content[-8] ^= 1  # in gzip's checksum, behind the last file
    archive.write_bytes(content)
    with pytest.raises(DataError, match=r"corpus\.tar\.gz: cannot be unpacked"):
        unpack(archive, tmp_path / "data" / "corpus")


def test_an_archive_that_reaches_outside_its_folder_is_refused(tmp_path):
    archive = make_tar(tmp_path / "evil.tar.gz", names=["../outside.txt"])
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "data" / "evil")
    assert not (tmp_path / "data" / "outside.txt").exists()
