"""What recipes share: what is left out, durations from headers, finding a corpus in a folder."""

import numpy as np
import pytest

from asr import audio
from asr.data.preparation import LeftOut, find_folders, read_durations
from asr.errors import DataError
from asr.types import Utterance


def test_what_is_left_out_is_counted_by_reason_and_listed(tmp_path):
    left_out, notes = LeftOut(), []
    path = tmp_path / "data" / "left_out.tsv"
    left_out.write(path, notes.append)
    assert (notes, path.exists(), str(left_out)) == ([], False, "nothing left out")
    left_out.add("a.wav", "unreadable", "two\nlines")
    left_out.add("b.wav", "without a prompt")
    left_out.add("c.wav", "unreadable")
    left_out.write(path, notes.append)
    assert notes == [f"3 left out (2 unreadable, 1 without a prompt), listed in {path}"]
    assert path.read_text() == "unreadable\ta.wav\ttwo lines\nunreadable\tc.wav\nwithout a prompt\tb.wav\n"
    LeftOut().write(path)
    assert not path.exists()


def test_a_list_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    left_out = LeftOut()
    left_out.add("a.wav", "unreadable")
    with pytest.raises(DataError, match=r"file/left_out.tsv: cannot be written"):
        left_out.write(tmp_path / "file" / "left_out.tsv")


@pytest.mark.parametrize("many", [3000, 10], ids=["one process", "several"])
def test_durations_come_in_order_and_bad_files_are_left_out(many, tmp_path, monkeypatch):
    monkeypatch.setattr("asr.data.headers._MANY", many)
    rng = np.random.default_rng(0)
    utterances = []
    for number in range(40):
        path = tmp_path / f"{number}.{'flac' if number % 2 else 'wav'}"
        audio.save(path, 0.1 * rng.standard_normal(800 + 100 * number), 8000)
        utterances.append(Utterance(id=str(number), duration=0.0, audio_filepath=str(path)))
    (tmp_path / "7.flac").write_bytes(b"")
    (tmp_path / "8.wav").unlink()
    audio.save(tmp_path / "9.flac", np.zeros(10), 8000)
    utterances.insert(3, Utterance(id="known", duration=1.0, audio_filepath="not opened"))
    left_out, calls = LeftOut(), []
    found = read_durations(utterances, left_out, lambda *count: calls.append(count))
    assert found.pop(3) is utterances[3]
    assert [(u.id, u.duration) for u in found] == [
        (str(n), pytest.approx(0.1 + n / 80)) for n in range(40) if n not in (7, 8, 9)
    ]
    assert calls == [(n, 40) for n in range(1, 41)]
    assert str(left_out) == "3 left out (2 unreadable, 1 shorter than 25 ms)"


@pytest.mark.parametrize("many", [3000, 10], ids=["one process", "several"])
def test_an_interruption_reads_no_further(many, tmp_path, monkeypatch):
    monkeypatch.setattr("asr.data.headers._MANY", many)
    path = tmp_path / "a.wav"
    audio.save(path, np.full(800, 0.1), 8000)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_durations([Utterance("a", 0.0, audio_filepath=str(path))] * 2000, LeftOut(), stop)


def test_folders_are_found_by_what_is_in_them_in_any_case(tmp_path):
    for name in (
        "a/TIMIT/train",
        "a/TIMIT/TEST",
        "a/timit/Train/train",
        "b/c/TRAIN",
        "b/c/TEST",
        ".d/train/test",
    ):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    assert list(find_folders(tmp_path, ("TRAIN", "TEST"))) == [tmp_path / "a/TIMIT", tmp_path / "b/c"]
    assert list(find_folders(tmp_path, ("TRAIN", "TEST"), depth=1)) == []
    assert list(find_folders(tmp_path / "none", ("TRAIN",))) == []
