"""Shards of WebDataset and NeMo, here and behind addresses; broken ones are named; training resumes on
them."""

import functools
import http.server
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from asr import audio
from asr.data.dataset import SpeechDataset
from asr.data.loader import make_loader
from asr.data.manifest import Manifest, Shards, read_manifest
from asr.data.pack import pack
from asr.data.sampler import BatchSampler
from asr.errors import AudioError, DataError
from asr.text import CharacterTokenizer, Normalizer

sys.path.insert(0, str(Path(__file__).parent))
from corpora import RATE, make_corpus


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ASR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("asr.storage.copies._known", {})
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def loose(tmp_path_factory):
    return read_manifest(make_corpus(tmp_path_factory.mktemp("corpus")))


@pytest.fixture(scope="module")
def shards(loose, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    pack(loose, folder, shard_utterances=4, seed=None)
    return folder


def samples(utterance):
    return audio.load(
        utterance.audio_filepath, sample_rate=RATE, offset=utterance.offset, duration=utterance.duration
    ).samples


def assert_same(found, loose):
    assert [u.id for u in found] == [u.id for u in loose]
    for a, b in zip(found, loose, strict=True):
        assert (a.text, a.speaker, a.lang, a.extra["snr"]) == (b.text, b.speaker, b.lang, b.extra["snr"])
        np.testing.assert_array_equal(samples(a), samples(b))


@pytest.mark.parametrize(
    "name",
    [
        "",
        "manifest.jsonl",
        "tarred_audio_manifest.json",
        "audio_{0..2}.tar",
        "audio__OP_0..2_CL_.tar",
        "audio_*.tar",
    ],
)
def test_a_packed_set_is_read_by_its_folder_index_or_tar_files(shards, loose, name):
    found = Manifest(str(shards / name) if name else shards)
    assert_same(found, loose)
    assert found.shards.files == [f"{shards}/audio_{i}.tar" for i in range(3)]
    assert found.shards.of.tolist() == sorted([0, 1, 2] * 4)


def test_paths_that_are_relative_to_here_hold_elsewhere_too(shards, loose, monkeypatch, tmp_path):
    monkeypatch.chdir(shards)
    found = [read_manifest(name) for name in ("audio_{0..2}.tar", ".", "tarred_audio_manifest.json")]
    monkeypatch.chdir(tmp_path)
    for utterances in found:
        assert_same(utterances, loose)


@pytest.fixture
def server(shards):
    """Serve the shards over HTTP, with a count of what was asked for."""
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(os.path.basename(self.path))
            super().do_GET()

        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(shards))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}", asked
        found.shutdown()


def test_shards_behind_http_are_copied_once(server, loose, cache):
    pytest.importorskip("aiohttp")
    address, asked = server
    for _ in range(2):
        assert_same(Manifest(f"{address}/manifest.jsonl"), loose)
    assert all(asked.count(f"audio_{i}.tar") == 1 for i in range(3)), asked
    assert len([path for path in (cache / "copies").iterdir() if path.suffix == ".tar"]) == 3
    with pytest.raises(DataError, match=r"nothing\.jsonl: cannot be read"):
        Manifest(f"{address}/nothing.jsonl")


def test_shards_behind_any_fsspec_address(shards, loose):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(shards), "/corpus", recursive=True)
    for name in ("manifest.jsonl", "", "audio_{0..2}.tar", "audio_*.tar"):
        assert_same(Manifest(f"memory://corpus/{name}"), loose)
    assert_same(Manifest(Path("memory://corpus")), loose)  # a Path loses a slash
    memory.rm("/corpus", recursive=True)


def test_copies_make_room_for_others(shards, loose, cache, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(shards), "/small", recursive=True)
    largest = max(path.stat().st_size for path in shards.glob("*.tar"))
    monkeypatch.setenv("ASR_CACHE_GB", str(2.2 * largest / 1e9))
    found = Manifest("memory://small/manifest.jsonl")
    for _ in range(2):
        assert_same(found, loose)
        kept = [p for p in (cache / "copies").iterdir() if not p.name.startswith(".")]
        assert sum(path.stat().st_size for path in kept) <= 2.2 * largest
    memory.rm("/small", recursive=True)


def test_what_webdatasets_writer_writes_is_read(loose, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    loose = [u for u in loose if u.extra["snr"] != 3]  # its two channels mixed do not fit into 16 bits
    with webdataset.ShardWriter(f"{tmp_path}/sp-%06d.tar", maxcount=5, verbose=0) as writer:
        for i, utterance in enumerate(loose):
            part = audio.encode(samples(utterance), RATE, "flac")
            fields = {
                "speaker": utterance.speaker,
                "lang": "de",
                "snr": utterance.extra["snr"],
                "id": utterance.id,
            }
            writer.write({"__key__": f"{i:09d}", "flac": part, "txt": utterance.text, "json": fields})
    found = read_manifest(f"{tmp_path}/sp-{{000000..000002}}.tar")
    assert_same(found, loose)
    assert [u.duration for u in found] == [pytest.approx(len(samples(u)) / RATE) for u in loose]


def test_nemos_shards_of_an4_are_read_as_they_are(archive, tmp_path):
    with tarfile.open(archive("an4_wav_sample.tar.gz")) as tar:
        tar.extractall(tmp_path, filter="data")
    folder = tmp_path / "an4_wav_sample" / "tarred_an4"
    lines = [json.loads(line) for line in (folder / "tarred_audio_manifest.json").open()]
    found = read_manifest(folder / "tarred_audio_manifest.json")
    assert [(u.text, u.duration, u.offset) for u in found] == [
        (line["text"], line["duration"], line["offset"]) for line in lines
    ]
    assert read_manifest(folder) == found
    assert sum(len(samples(u)) for u in found) == pytest.approx(RATE * sum(u.duration for u in found), abs=50)
    assert len(read_manifest(f"{folder}/audio_{{0..1}}.tar")) == 32


def test_nemos_further_segments_of_a_recording_are_found_in_the_one_member(tmp_path):
    with tarfile.open(tmp_path / "audio_0.tar", "w") as tar:
        content = audio.encode(np.random.default_rng(0).uniform(-1, 1, RATE), RATE, "wav")
        member = tarfile.TarInfo("a_b.wav")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    lines = [
        {"audio_filepath": "a_b.wav", "duration": 0.5, "offset": 0.0, "text": "a", "shard_id": 0},
        {"audio_filepath": "a_b-sub1.wav", "duration": 0.3, "offset": 0.5, "text": "b", "shard_id": 0},
    ]
    (tmp_path / "m.json").write_text("\n".join(map(json.dumps, lines)))
    first, second = read_manifest(tmp_path / "m.json")
    assert first.audio_filepath == second.audio_filepath
    assert (first.id, second.id, second.offset) == ("a_b", "a_b-sub1", 0.5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"audio_filepath": "x.wav", "duration": 1}', r"m\.json:2: no audio_filepath with the shard_id"),
        (b'{"shard_id": 0, "duration": 1}', r"m\.json:2: no audio_filepath with the shard_id"),
        (b'{"audio_filepath": "\xff.wav", "shard_id": 0}', r"m\.json:2: not JSON in UTF-8"),
        (b'{"audio_filepath": "x.wav", "shard_id": 5}', r"m\.json:2: shard audio_5\.tar is not beside it"),
    ],
)
def test_a_bad_line_of_nemo_is_named(shards, tmp_path, line, message):
    shutil.copytree(shards, tmp_path / "copy")
    first = (shards / "tarred_audio_manifest.json").read_bytes().splitlines()[0]
    (tmp_path / "copy" / "m.json").write_bytes(first + b"\n" + line)
    with pytest.raises(DataError, match=message):
        read_manifest(tmp_path / "copy" / "m.json")


def cut(path):
    path.write_bytes(path.read_bytes()[:-12000])


def cut_mark(path):
    path.write_bytes(path.read_bytes().rstrip(b"\0"))


def overwrite(path):
    path.write_bytes(b"no tar file" * 100)


def drop_audio(path):
    with tarfile.open(path) as tar:
        kept = [(m, tar.extractfile(m).read()) for m in tar if not m.name.startswith("plain.w")]
    with tarfile.open(path, "w") as tar:
        for member, content in kept:
            tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    ("harm", "name", "message"),
    [
        (cut, "audio_{0..2}.tar", r"audio_0\.tar: broken or cut off"),
        (cut_mark, "audio_{0..2}.tar", r"audio_0\.tar: broken or cut off as a tar file"),
        (overwrite, "audio_0.tar", r"audio_0\.tar: broken or cut off"),
        (Path.unlink, "audio_{0..2}.tar", r"audio_0\.tar: cannot be read \(no such file\)"),
        (Path.unlink, "tarred_audio_manifest.json", r"json:1: shard audio_0\.tar is not beside it"),
        (Path.unlink, "", r"manifest\.jsonl:1: 1 of 3 files do not exist, first .*audio_0\.tar"),
        (drop_audio, "audio_{0..2}.tar", r"audio_0\.tar: plain has no audio, only \.txt, \.json"),
        (drop_audio, "tarred_audio_manifest.json", r"json:1: plain\.wav is not in audio_0\.tar"),
    ],
)
def test_what_is_wrong_with_a_set_is_named_in_one_line(shards, tmp_path, harm, name, message):
    folder = tmp_path / "copy"
    shutil.copytree(shards, folder)
    harm(folder / "audio_0.tar")
    with pytest.raises(DataError, match=message) as error:
        read_manifest(str(folder / name) if name else folder)
    assert "\n" not in str(error.value)


def test_a_shard_cut_off_after_it_was_indexed_is_named_where_it_is_read(shards, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(shards, folder)
    path = folder / "audio_0.tar"
    path.write_bytes(path.read_bytes()[:3000])
    last = [u for u in read_manifest(folder) if "audio_0.tar" in u.audio_filepath][-1]
    with pytest.raises(AudioError, match=r"audio_0\.tar: ends before byte"):
        samples(last)


@pytest.mark.parametrize("name", ["nothing-*.tar", "audio.tar.gz"])
def test_patterns_without_files_and_compressed_ones_are_refused(tmp_path, name):
    with pytest.raises(DataError, match=r"no file is like this|compressed tar files"):
        read_manifest(f"{tmp_path}/{name}")


SECONDS = np.random.default_rng(0).uniform(1, 9, 900)
TEN = Shards([f"{i}.tar" for i in range(10)], np.repeat(np.arange(10, dtype=np.int32), 90))


def make_sampler(window, **options):
    return BatchSampler(SECONDS, batch_seconds=60, shuffle=True, shards=TEN, window=window, **options)


@pytest.mark.parametrize("order", ["shuffled", "packed"])
@pytest.mark.parametrize("num_replicas", [1, 3])
def test_an_epoch_goes_through_windows_of_shards(order, num_replicas):
    sampler = make_sampler(3, order=order, num_replicas=num_replicas)
    orders = []
    for epoch in (0, 1):
        batches = sampler.batches(epoch)
        assert sorted(i for batch in batches for i in batch) == list(range(900))
        touched = [{TEN.of[i] for i in batch} for batch in batches]
        windows = []
        for shards in touched:
            if not windows or not shards & windows[-1]:
                windows.append(set())
            windows[-1] |= shards
        assert sorted(map(len, windows)) == [1, 3, 3, 3]
        orders.append(windows)
        sizes = [SECONDS[batch].max() * len(batch) for batch in batches]
        assert sizes[0] == max(sizes)
    assert orders[0] != orders[1]


def test_shards_within_one_window_make_no_difference():
    without = BatchSampler(SECONDS, batch_seconds=60, shuffle=True)
    assert make_sampler(10).batches(2) == without.batches(2)
    rising = BatchSampler(SECONDS, batch_seconds=60, shuffle=True, order="sortagrad")
    assert make_sampler(3, order="sortagrad").batches(0) == rising.batches(0)


@pytest.mark.parametrize("start", [0, 37])
def test_shards_are_read_ahead_a_window_before_they_are_needed(monkeypatch, start):
    begun = []
    monkeypatch.setattr("asr.data.sampler.prefetch", lambda files: begun.append(set(files)))
    sampler = make_sampler(3)
    sampler.set_position(1, start)
    window = 0
    for batch in sampler:
        files = {TEN.files[TEN.of[i]] for _, i in batch}
        window += not files <= begun[window]
        assert files <= begun[window]
        assert len(begun) == min(window + 2, 4 if start == 0 else len(begun))
    assert len(set.union(*begun)) == 10 or start > 0
    assert window == len(begun) - 1


def test_loose_files_and_shards_give_the_same_batches_whatever_the_workers(loose, shards):
    def batches(utterances, num_workers):
        dataset = SpeechDataset(utterances, Normalizer(), CharacterTokenizer("wörd0123456789x "), RATE, 13)
        sampler = BatchSampler(
            [u.duration for u in loose],
            batch_seconds=2,
            shuffle=True,
            shards=getattr(utterances, "shards", None),
        )
        return list(make_loader(dataset, sampler, num_workers=num_workers))

    expected = batches(loose, 0)
    for num_workers in (0, 2):
        found = batches(Manifest(shards), num_workers)
        assert all(
            torch.equal(a.inputs, b.inputs) and a.ids == b.ids for a, b in zip(expected, found, strict=True)
        )


TRAIN = (
    "import json, sys; sys.path.insert(0, sys.argv[2]); from test_loop import Silent, train;"
    "train(json.loads(sys.argv[1]), Silent())"
)


def test_a_training_killed_in_the_middle_of_an_epoch_goes_on_with_the_very_next_utterance(tmp_path):
    training = Path(__file__).parents[1] / "training"
    sys.path.insert(0, str(training))
    import test_loop

    manifest = test_loop.make_corpus(tmp_path, 24)
    pack(read_manifest(manifest), tmp_path / "shards", shard_utterances=4)
    settings = {
        "epochs": 3,
        "batch_seconds": 1.5,
        "num_workers": 2,
        "shuffle_shards": 2,
        "save_every_minutes": 1e-4,
    }

    def start(name):
        config = test_loop.make_config(tmp_path / "shards", tmp_path / name, **settings)
        config["data"]["dev"] = str(manifest)
        return subprocess.Popen([sys.executable, "-c", TRAIN, json.dumps(config), str(training)])

    assert start("whole").wait() == 0
    process = start("killed")
    state = {"epoch": 0, "batch": 0}
    while state["epoch"] == 0 and state["batch"] < 2 and process.poll() is None:
        time.sleep(0.005)
        if (tmp_path / "killed" / "checkpoint.pt").exists():
            state = test_loop.read_checkpoint(tmp_path / "killed")["state"]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    state = test_loop.read_checkpoint(tmp_path / "killed")["state"]
    assert (state["epoch"], state["batch"]) < (3, 0)
    assert start("killed").wait() == 0
    ours, whole = (test_loop.weights(tmp_path / name) for name in ("killed", "whole"))
    assert all(torch.equal(ours[key], whole[key]) for key in whole)
