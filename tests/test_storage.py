"""Addresses, parts of files, patterns, and copies of remote files."""

import threading

import pytest

from asr import storage
from asr.errors import DataError
from asr.storage.copies import cache_limit


@pytest.mark.parametrize(
    ("address", "part"),
    [
        ("a/b.tar:512:99", ("a/b.tar", 512, 99)),
        ("s3://bucket/b.tar:0:1", ("s3://bucket/b.tar", 0, 1)),
        ("https://host:80/b.tar:7:8", ("https://host:80/b.tar", 7, 8)),
        ("feats.ark:99", None),
        ("a.wav", None),
        ("a:-1:5", None),
    ],
)
def test_parts_of_files(address, part):
    assert storage.parse_part(address) == part
    assert storage.file_of(address) == (part[0] if part else address)
    if part:
        assert str(storage.parse_part(address)) == address


@pytest.mark.parametrize(
    ("folder", "address", "joined"),
    [
        ("/data", "a/../b.wav", "/data/b.wav"),
        ("/data", "/c.wav", "/c.wav"),
        ("/data", "s3://x/c.wav", "s3://x/c.wav"),
        ("s3://x/y/", "c.tar:1:2", "s3://x/y/c.tar:1:2"),
        ("", "/c.wav", "/c.wav"),
    ],
)
def test_relative_addresses(folder, address, joined):
    assert storage.join(folder, address) == joined


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a_{0..3}.tar", ["a_0.tar", "a_1.tar", "a_2.tar", "a_3.tar"]),
        ("a_{008..011}.tar", ["a_008.tar", "a_009.tar", "a_010.tar", "a_011.tar"]),
        ("a_{2..0}.tar", ["a_2.tar", "a_1.tar", "a_0.tar"]),
        ("{x,y}/a_{1..2}.tar", ["x/a_1.tar", "x/a_2.tar", "y/a_1.tar", "y/a_2.tar"]),
        ("audio__OP_0..1_CL_.tar", ["audio_0.tar", "audio_1.tar"]),
        ("plain.tar", ["plain.tar"]),
    ],
)
def test_braces_name_files_that_need_not_exist(pattern, names):
    assert storage.expand(pattern) == names


def test_stars_find_files_in_the_order_of_their_numbers(tmp_path):
    for name in ("a_10.tar", "a_9.tar", "a_x.tar", "b.txt"):
        (tmp_path / name).touch()
    found = storage.expand(f"{tmp_path}/a_[0-9]*.tar")
    assert [name.rpartition("/")[2] for name in found] == ["a_9.tar", "a_10.tar"]
    (tmp_path / "odd[1].tar").touch()
    assert storage.expand(f"{tmp_path}/odd[1].tar") == [f"{tmp_path}/odd[1].tar"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("{0..99999999}.tar", "more than a million files"),
        ("nothing*.tar", r"nothing\*\.tar: no file is like this"),
    ],
)
def test_patterns_that_stand_for_nothing_or_too_much(pattern, message):
    with pytest.raises(DataError, match=message):
        storage.expand(pattern)


def test_a_part_beyond_the_end_and_a_file_that_is_gone_are_told(tmp_path):
    file = tmp_path / "a.tar"
    file.write_bytes(bytes(range(100)))
    assert storage.read_part(storage.Part(str(file), 90, 10)) == bytes(range(90, 100))
    with pytest.raises(DataError, match=r"a\.tar: ends before byte 101"):
        storage.read_part(storage.Part(str(file), 90, 11))
    with pytest.raises(DataError, match=r"b\.tar: cannot be read \(no such file\)"):
        storage.read_part(storage.Part(str(tmp_path / "b.tar"), 0, 1))


def test_addresses_that_cannot_be_opened_are_told_in_one_line():
    for address in ("nosuchprotocol://x/y", "memory://none/of/it"):
        with pytest.raises(DataError, match=rf"^{address}: cannot be (opened|read)") as error:
            storage.local_copy(address)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["0", "-1", "much", "nan", "inf"])
def test_a_limit_of_the_cache_that_is_no_size(monkeypatch, text):
    monkeypatch.setenv("ASR_CACHE_GB", text)
    with pytest.raises(DataError, match=rf"ASR_CACHE_GB: '{text}' is no size"):
        cache_limit()


class Flaky:
    """A remote file whose connection breaks after some bytes, as often as `breaks` says."""

    def __init__(self, content, breaks):
        self.content, self.breaks, self.opened = content, breaks, 0

    def info(self, path):
        return {"size": len(self.content)}

    def open(self, path, mode, **options):
        self.opened += 1
        flaky = self

        class File:
            position = given = 0

            def __enter__(self):
                return self

            def __exit__(self, *error):
                return None

            def seek(self, position):
                self.position = position

            def read(self, size):
                if self.given and flaky.opened <= flaky.breaks:
                    raise ConnectionError("connection reset")
                block = flaky.content[self.position : self.position + 1000]
                self.position += len(block)
                self.given += 1
                return block

        return File()


@pytest.mark.parametrize(("breaks", "whole"), [(0, True), (3, True), (9, False)])
def test_a_connection_that_breaks_is_taken_up_where_it_broke(tmp_path, monkeypatch, breaks, whole):
    remote = Flaky(bytes(range(256)) * 40, breaks)
    monkeypatch.setattr("asr.storage.copies.file_system", lambda address: (remote, address))
    monkeypatch.setattr("asr.storage.copies.file_info", remote.info)
    monkeypatch.setattr("asr.storage.copies.version", lambda address: "1")
    monkeypatch.setattr("asr.storage.copies.time.sleep", lambda seconds: None)
    monkeypatch.setenv("ASR_CACHE", str(tmp_path))
    address = f"flaky://{tmp_path}/x.tar"
    if whole:
        assert storage.local_copy(address).read_bytes() == remote.content
    else:
        with pytest.raises(DataError, match="connection reset"):
            storage.local_copy(address)
        assert [path for path in (tmp_path / "copies").iterdir() if path.suffix != ".lock"] == []


def test_of_several_at_once_one_copies_and_all_have_it(tmp_path, monkeypatch):
    remote = Flaky(b"x" * 50_000, 0)
    monkeypatch.setattr("asr.storage.copies.file_system", lambda address: (remote, address))
    monkeypatch.setattr("asr.storage.copies.file_info", remote.info)
    monkeypatch.setattr("asr.storage.copies.version", lambda address: "1")
    monkeypatch.setenv("ASR_CACHE", str(tmp_path))
    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(storage.local_copy(f"flaky://{tmp_path}/y").read_bytes())
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [remote.content] * 4
    assert remote.opened == 1
