"""Archives: looked for, fetched from a real server, unpacked whole or not at all."""

import hashlib
import http.server
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile

import pytest

from asr.data import downloads
from asr.data.archives import Archive, find_archive, find_corpus, locate, unpack, unpacked_archive
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
    monkeypatch.setattr(downloads, "PAUSE_SECONDS", 0.0)


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


def make_archive(path, names=("corpus/a.txt", "corpus/b.txt"), content=b"hello"):
    """Make an archive of the kind that its name says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name in names:
                file.writestr(name, content)
        return path
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


KINDS = ("c.tar.gz", "c.tgz", "c.tar", "c.tar.bz2", "c.tar.xz", "c.zip")


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_unpacked_with_progress_and_its_size_said(name, tmp_path):
    archive = make_archive(tmp_path / name, content=bytes(100_000))
    seen, notes = [], []
    folder = unpacked_archive(
        [name],
        tmp_path / "data",
        archive=archive,
        progress=lambda done, total: seen.append((done, total)),
        note=notes.append,
    )
    assert folder == tmp_path / "data" / "c"
    assert sorted(p.name for p in (folder / "corpus").iterdir()) == ["a.txt", "b.txt"]
    assert (folder / "corpus" / "b.txt").stat().st_size == 100_000
    assert seen[-1][0] == seen[-1][1] > 0
    assert notes[0].startswith(f"unpacking {name} (")


@pytest.mark.parametrize("name", KINDS)
def test_a_truncated_archive_of_any_kind_is_named_and_leaves_nothing(name, tmp_path):
    archive = make_archive(tmp_path / name, content=os.urandom(4096))
    content = archive.read_bytes()
    for share in (1 / 3, 2 / 3):
        archive.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match=rf"{name}: cannot be unpacked .*; delete it and fetch") as error:
            unpack(archive, tmp_path / "data" / "c")
        assert "\n" not in str(error.value)
        assert list((tmp_path / "data").iterdir()) == []


def test_a_plain_tar_that_ends_between_two_members_is_not_taken_for_whole(tmp_path):
    archive = make_archive(tmp_path / "c.tar", content=bytes(range(256)) * 2)
    archive.write_bytes(archive.read_bytes()[:1024])  # a header and its 512 bytes
    with pytest.raises(DataError, match="cut short"):
        unpack(archive, tmp_path / "data" / "c")


def test_a_zip_that_reaches_outside_or_is_locked_is_refused(tmp_path):
    evil = make_archive(tmp_path / "evil.zip", names=["corpus/ok.txt", "../outside.txt"])
    with pytest.raises(DataError, match=r"cannot be unpacked.*outside"):
        unpack(evil, tmp_path / "data" / "evil")
    assert not list((tmp_path / "data").iterdir())


def test_a_full_disk_while_unpacking_is_not_called_damage(tmp_path, monkeypatch):
    archive = make_archive(tmp_path / "c.tar.gz")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(
        DataError, match=r"data/c: c\.tar\.gz cannot be unpacked there .*10 bytes free.*make room"
    ):
        unpack(archive, tmp_path / "data" / "c")


def test_a_killed_unpacking_is_not_taken_for_whole_and_its_rest_goes(tmp_path):
    archive = make_archive(tmp_path / "c.tar.gz", names=[f"corpus/{i}.txt" for i in range(50)])
    program = (
        "import sys, time; from pathlib import Path; from asr.data.archives import unpacked_archive\n"
        "def slow(done, total): print(done, flush=True); time.sleep(0.2)\n"
        "unpacked_archive(['c.tar.gz'], Path(sys.argv[2]), archive=Path(sys.argv[1]), progress=slow)"
    )
    data = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(archive), str(data)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(3):
        process.stdout.readline()
    assert not (data / "c").exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(data.glob(".c.*.unpacking"))) == 1
    folder = unpacked_archive(["c.tar.gz"], data, archive=archive)
    assert len(list((folder / "corpus").iterdir())) == 50
    assert not list(data.glob(".c.*.unpacking"))


def test_of_two_processes_one_works_and_the_other_waits(tmp_path):
    archive = make_archive(tmp_path / "c.tar.gz", names=[f"corpus/{i}.txt" for i in range(20)])
    program = (
        "import sys, time; from pathlib import Path; from asr.data.archives import unpacked_archive\n"
        "def slow(done, total): print(done, flush=True); time.sleep(0.05)\n"
        "unpacked_archive(['c.tar.gz'], Path(sys.argv[2]), archive=Path(sys.argv[1]), progress=slow)"
    )
    data = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(archive), str(data)], stdout=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    notes = []
    folder = unpacked_archive(["c.tar.gz"], data, archive=archive, note=notes.append)
    assert notes == [next(n for n in notes if n.startswith(f"waiting for process {process.pid} on"))]
    assert len(list((folder / "corpus").iterdir())) == 20
    process.communicate()
    assert process.returncode == 0


def test_a_folder_may_stand_for_the_archive(tmp_path, monkeypatch):
    archives = tmp_path / "archives"
    archives.mkdir()
    make_archive(archives / "c.tar.gz")
    (tmp_path / "tree" / "corpus").mkdir(parents=True)
    assert unpacked_archive(["c.tar.gz"], tmp_path / "1", archive=archives) == tmp_path / "1" / "c"
    assert unpacked_archive(["c.tar.gz"], tmp_path / "2", archive=tmp_path / "tree") == tmp_path / "tree"
    monkeypatch.setenv("ASR_ARCHIVES", str(archives))
    assert unpacked_archive(["c.tar.gz"], tmp_path / "3") == tmp_path / "3" / "c"
    (archives / "c").mkdir()
    assert unpacked_archive(["c.tar.gz"], tmp_path / "4") == archives / "c"


PARTS = [Archive(f"{name}.tgz", (), f"Corpus/{name}") for name in ("one", "two")]


def make_parts(folder):
    folder.mkdir()
    for name in ("one", "two"):
        make_archive(folder / f"{name}.tgz", names=[f"Corpus/{name}/a.txt"])
    return folder


def test_several_archives_in_a_folder_or_what_they_unpack_to(tmp_path, monkeypatch):
    archives = make_parts(tmp_path / "archives")
    found = find_corpus(PARTS, tmp_path / "data", archive=archives)
    assert found == [tmp_path / "data" / name / "Corpus" / name for name in ("one", "two")]
    tree = tmp_path / "tree"
    for root in found:
        shutil.copytree(root.parent, tree / "Corpus", dirs_exist_ok=True)
    expected = [tree / "Corpus" / name for name in ("one", "two")]
    assert find_corpus(PARTS, tmp_path / "2", archive=tree) == expected
    assert find_corpus(PARTS, tmp_path / "2", archive=tree / "Corpus") == expected
    monkeypatch.setenv("ASR_ARCHIVES", str(tree))
    assert find_corpus(PARTS, tmp_path / "2") == expected
    assert not (tmp_path / "2").exists()


def test_several_archives_are_fetched_one_after_the_other_with_their_sum_said(server, tmp_path):
    www = tmp_path / "www"
    parts = []
    for name in ("one", "two"):
        path = make_archive(www / f"{name}.tgz", names=[f"Corpus/{name}/a.txt"])
        digest = hashlib.md5(path.read_bytes()).hexdigest()
        parts.append(
            Archive(
                f"{name}.tgz", (f"{server}/{name}.tgz",), f"Corpus/{name}", path.stat().st_size, md5=digest
            )
        )
    notes = []
    found = find_corpus(parts, tmp_path / "data", note=notes.append)
    assert all((root / "a.txt").read_text() == "hello" for root in found)
    size = sum(part.size for part in parts)
    assert notes[0] == f"2 archives to download: {size} bytes, and unpacked no less than that"
    assert find_corpus(parts, tmp_path / "data") == found  # without another request
    shutil.rmtree(tmp_path / "data" / "one")
    (tmp_path / "data" / "one.tgz").unlink()
    www.joinpath("one.tgz").write_bytes(b"x" * parts[0].size)
    with pytest.raises(DataError, match=r"one\.tgz could not be downloaded .*its md5 checksum is"):
        find_corpus(parts, tmp_path / "data")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "archives/one.tgz",
            r"is one file, but 2 archives are needed; give the folder that holds one\.tgz, two\.tgz",
        ),
        ("nowhere", "no such folder, but 2 archives are needed"),
        ("half", r"half: holds neither two\.tgz nor Corpus/two; give the folder"),
        ("empty", r"empty: holds neither one\.tgz nor Corpus/one, and 1 more of 2 are missing"),
    ],
)
def test_a_wrong_place_for_several_archives_is_named(given, message, tmp_path):
    make_parts(tmp_path / "archives")
    make_parts(tmp_path / "half").joinpath("two.tgz").unlink()
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        find_corpus(PARTS, tmp_path / "data", archive=tmp_path / given)


def test_an_archive_of_something_else_is_named(tmp_path):
    archive = make_archive(tmp_path / "one.tgz", names=["other/a.txt"])
    with pytest.raises(DataError, match=r"one\.tgz: no Corpus/one inside; is this another archive"):
        find_corpus(PARTS[:1], tmp_path / "data", archive=archive)
    with pytest.raises(DataError, match="no Corpus/one inside"):
        locate(tmp_path, "Corpus/one")


def test_a_tar_with_a_zip_in_it_is_a_tar(tmp_path):
    inner = make_archive(tmp_path / "inner.zip").read_bytes()
    archive = make_archive(tmp_path / "c.tar", names=["corpus/inner.zip"], content=inner)
    folder = unpack(archive, tmp_path / "data" / "c")
    assert (folder / "corpus" / "inner.zip").read_bytes() == inner


@pytest.mark.skipif(sys.platform != "linux", reason="needs tmpfs")
@pytest.mark.parametrize("name", ["c.tar.gz", "c.zip"])
def test_a_disk_that_fills_up_while_unpacking_is_one_line_and_leaves_nothing(name, tmp_path):
    archive = make_archive(tmp_path / name, content=bytes(3 << 20))  # packed it is small
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    try:
        with pytest.raises(DataError, match=rf"{name} cannot be unpacked there \(No space left on device\)"):
            unpack(archive, folder / "c")
        assert list(folder.iterdir()) == []
    finally:
        while subprocess.run(["umount", "-l", folder], capture_output=True).returncode == 0:
            pass
