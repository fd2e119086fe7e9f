"""Packing: what is packed is what is read from loose files, and nothing half-written is taken for whole."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import audio
from asr.data.manifest import read_manifest
from asr.data.pack import pack
from asr.errors import AsrError, ConfigError, DataError
from asr.types import Utterance

sys.path.insert(0, str(Path(__file__).parent))
from corpora import RATE, make_corpus


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ASR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def loose(tmp_path_factory):
    return read_manifest(make_corpus(tmp_path_factory.mktemp("corpus")))


def samples(utterance):
    return audio.load(
        utterance.audio_filepath, sample_rate=RATE, offset=utterance.offset, duration=utterance.duration
    ).samples


@pytest.mark.parametrize("format", ["keep", "wav", "flac"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_packed_utterances_are_the_loose_ones_to_the_last_bit(loose, tmp_path, format, jobs):
    made = pack(loose, tmp_path / "out", shard_utterances=5, format=format, jobs=jobs)
    assert (made.shards, made.utterances, made.cut, made.rounded) == (3, 12, 2, 0)
    packed = {u.id: u for u in read_manifest(tmp_path / "out")}
    assert packed.keys() == {u.id for u in loose}
    for utterance in loose:
        found = packed[utterance.id]
        np.testing.assert_array_equal(samples(found), samples(utterance))
        same = {"audio_filepath": None, "offset": 0.0, "duration": 0.0}
        assert replace(found, **same) == replace(utterance, **same)


def test_order_is_drawn_from_the_seed_or_kept(loose, tmp_path):
    orders = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2), ("d", None)):
        pack(loose, tmp_path / name, shard_utterances=5, seed=seed)
        orders.append([u.id for u in read_manifest(tmp_path / name)])
    assert orders[0] == orders[1] != orders[2]
    assert orders[3] == [u.id for u in loose]
    for name in ("audio_0.tar", "audio_2.tar", "manifest.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_shards_are_about_as_large_as_asked_for(loose, tmp_path):
    made = pack(
        [replace(u, id=f"{i} {u.id}") for i in range(10) for u in loose], tmp_path, shard_bytes=200_000
    )
    sizes = [path.stat().st_size for path in tmp_path.glob("*.tar")]
    assert len(sizes) == made.shards > 5
    assert max(sizes) < 300_000
    assert made.num_bytes == sum(sizes)


def test_shards_can_be_packed_anew(loose, tmp_path):
    pack(loose, tmp_path / "a", shard_utterances=5)
    pack(read_manifest(tmp_path / "a"), tmp_path / "b", shard_utterances=3)
    again = {u.id: u for u in read_manifest(tmp_path / "b")}
    for utterance in loose:
        np.testing.assert_array_equal(samples(again[utterance.id]), samples(utterance))


def test_webdataset_reads_what_is_packed(loose, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    pack(loose, tmp_path, shard_utterances=5)
    shards = sorted(map(str, tmp_path.glob("*.tar")))
    found = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    by_id = {json.loads(sample["json"])["id"]: sample for sample in found}
    assert by_id.keys() == {u.id for u in loose}
    for utterance in loose:
        sample = by_id[utterance.id]
        assert sample["txt"].decode() == utterance.text
        [kind] = sample.keys() & {"wav", "flac"}
        (tmp_path / "x").write_bytes(sample[kind])
        np.testing.assert_array_equal(
            audio.load(tmp_path / "x", sample_rate=RATE).samples, samples(utterance)
        )


def test_nemo_finds_every_line_of_its_manifest(loose, tmp_path):
    """As NeMo looks for members: by a name in no folder, whose suffix begins at its one period."""
    pack(loose, tmp_path, shard_utterances=5)
    lines = [json.loads(line) for line in (tmp_path / "tarred_audio_manifest.json").open()]
    assert len(lines) == 12
    for line in lines:
        with tarfile.open(tmp_path / f"audio_{line['shard_id']}.tar") as tar:
            content = tar.extractfile(line["audio_filepath"])
            assert soundfile.info(content).duration == pytest.approx(line["duration"])
        assert line["audio_filepath"].count(".") == 1
        assert "/" not in line["audio_filepath"]


def test_more_than_16_bits_are_rounded_and_said(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-1, 1, RATE), RATE, subtype="PCM_24")
    utterance = [Utterance("a", 1.0, "a", str(tmp_path / "a.wav"))]
    assert pack(utterance, tmp_path / "flac", format="flac").rounded == 1
    assert pack(utterance, tmp_path / "keep").rounded == 0


def test_a_folder_that_is_done_is_left_as_it_is_and_another_is_refused(loose, tmp_path):
    made = pack(loose, tmp_path, shard_utterances=5)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert pack(loose, tmp_path, shard_utterances=5) == made
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    for utterances, options in ((loose, {}), (loose[1:], {"shard_utterances": 5})):
        with pytest.raises(ConfigError, match="other utterances or with other settings"):
            pack(utterances, tmp_path, **options)


def test_shards_of_others_are_not_overwritten(loose, tmp_path):
    (tmp_path / "speech.tar").touch()
    with pytest.raises(ConfigError, match="holds shards or a manifest already"):
        pack(loose, tmp_path)


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_utterance_that_cannot_be_read_is_named(loose, tmp_path, jobs):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF nonsense")
    with pytest.raises(AsrError, match=r"^bad: .*broken\.wav") as error:
        pack(
            [*loose, Utterance("bad", 1.0, "a", str(broken))], tmp_path / "out", shard_utterances=4, jobs=jobs
        )
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="not all shards are written; run the same 'asr pack'"):
        read_manifest(tmp_path / "out")


def test_features_are_not_packed(tmp_path):
    with pytest.raises(DataError, match=r"^f: has features_filepath"):
        pack([Utterance("f", 1.0, "a", features_filepath="x.npy")], tmp_path)


PACK = (
    "import sys; from asr.data.manifest import read_manifest; from asr.data.pack import pack;"
    "pack(read_manifest(sys.argv[1]), __import__('pathlib').Path(sys.argv[2]), shard_utterances=2, jobs=2)"
)


def test_killed_it_goes_on_and_leaves_what_it_would_have_left(loose, tmp_path):
    manifest = Path(loose[0].audio_filepath).parents[2] / "all.jsonl"
    many = tmp_path / "many.jsonl"
    lines = [json.loads(line) for line in manifest.open()]
    with many.open("w") as file:
        for i in range(40):
            for line in lines:
                path = str(manifest.parent / line["audio_filepath"])
                file.write(json.dumps(line | {"id": f"{line['id']}-{i}", "audio_filepath": path}) + "\n")
    pack(read_manifest(many), tmp_path / "whole", shard_utterances=2)
    process = subprocess.Popen([sys.executable, "-c", PACK, str(many), str(tmp_path / "killed")])
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "killed").glob("*.tar"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(DataError, match="not all shards are written"):
        read_manifest(tmp_path / "killed")
    done = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "killed").glob("*.tar")}
    assert 5 <= len(done) < 240
    subprocess.run([sys.executable, "-c", PACK, str(many), str(tmp_path / "killed")], check=True)
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert {path.name for path in (tmp_path / "killed").iterdir()} == names
    for name in names:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    kept = sum((tmp_path / "killed" / name).stat().st_mtime_ns == at for name, at in done.items())
    assert kept >= len(done) - 2  # those whose mark was not written yet are written again


def test_a_full_disk_leaves_nothing_that_looks_whole(loose, tmp_path):
    limited = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000));"
        "import asr.cli.main, sys; sys.exit(asr.cli.main.main(['pack', *sys.argv[1:]]))"
    )
    manifest = Path(loose[0].audio_filepath).parents[2] / "all.jsonl"
    result = subprocess.run(
        [sys.executable, "-c", limited, str(manifest), str(tmp_path / "out")], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "audio_0.tar" in result.stderr
    assert not list((tmp_path / "out").glob("*.tar"))
    with pytest.raises(DataError, match="not all shards are written"):
        read_manifest(tmp_path / "out")


def test_too_little_room_is_told_before_the_first_shard(loose, tmp_path):
    with pytest.raises(ConfigError, match=r"GB are to be written, .* GB are free"):
        pack([replace(loose[1], duration=1e12)], tmp_path / "out", format="flac")
