"""lhotse reads and validates what is written, and what lhotse writes is read; lhotse is the oracle."""

import json
from pathlib import Path

import pytest

from asr.data.convert import convert
from asr.data.manifest import read_manifest
from asr.errors import DataError

lhotse = pytest.importorskip("lhotse")


@pytest.fixture(scope="module")
def sets(tmp_path_factory, audio_file):
    """Recordings and supervisions of lhotse's own making, one recording with two channels."""
    folder = tmp_path_factory.mktemp("lhotse files")
    paths = [audio_file(folder / f"rec-{i}.wav", 2.0, i, channels=1 + (i == 2)) for i in range(3)]
    recordings = lhotse.RecordingSet.from_recordings(map(lhotse.Recording.from_file, paths))
    segments = []
    for recording in recordings:
        for part in range(2):
            segments.append(
                lhotse.SupervisionSegment(
                    id=f"{recording.id}-{part}",
                    recording_id=recording.id,
                    start=0.3 + part,
                    duration=0.7,
                    channel=part if recording.num_channels > 1 else 0,
                    text=f"héllo, {part}",
                    language="fr",
                    speaker=f"s{part}",
                    gender="F",
                    custom={"snr": 3.5},
                )
            )
    return recordings, lhotse.SupervisionSet.from_segments(segments)


def check(path, sets):
    utterances = {u.id: u for u in read_manifest(path)}
    recordings, supervisions = sets
    assert set(utterances) == {s.id for s in supervisions}
    for s in supervisions:
        u = utterances[s.id]
        assert (u.offset, u.duration, u.text, u.speaker, u.lang) == (s.start, 0.7, s.text, s.speaker, "fr")
        assert u.audio_filepath == recordings[s.recording_id].sources[0].source
        assert (u.extra["gender"], u.extra["snr"]) == ("F", 3.5)
        several = recordings[s.recording_id].num_channels > 1
        assert u.extra.get("channel") == (s.channel if several else None)


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
def test_reads_recordings_and_supervisions_of_lhotse(sets, tmp_path, suffix):
    sets[0].to_file(tmp_path / f"x_recordings_dev.{suffix}")
    sets[1].to_file(tmp_path / f"x_supervisions_dev.{suffix}")
    for source in (
        tmp_path,
        tmp_path / f"x_supervisions_dev.{suffix}",
        tmp_path / f"x_recordings_dev.{suffix}",
    ):
        done = convert(source, tmp_path / "out" / "m.jsonl")
        assert done.read_as.name == "lhotse"
        check(tmp_path / "out" / "m.jsonl", sets)


def test_reads_cuts_of_lhotse(sets, tmp_path):
    cuts = lhotse.CutSet.from_manifests(*sets)
    cuts.to_file(tmp_path / "cuts.jsonl.gz")
    cuts.to_eager().trim_to_supervisions(keep_overlapping=False).to_file(tmp_path / "trimmed.jsonl")
    for name in ("cuts.jsonl.gz", "trimmed.jsonl"):
        assert convert(tmp_path / name, tmp_path / "m.jsonl").read_as.name == "lhotse-cuts"
        check(tmp_path / "m.jsonl", sets)


def test_lhotse_validates_what_is_written(stretches, manifest_of, tmp_path):
    source = manifest_of(stretches)
    convert(source, tmp_path / "pair", write_as="lhotse")
    convert(source, tmp_path / "cuts.jsonl.gz", write_as="lhotse-cuts")
    recordings = lhotse.load_manifest(tmp_path / "pair" / "recordings.jsonl.gz")
    supervisions = lhotse.load_manifest(tmp_path / "pair" / "supervisions.jsonl.gz")
    lhotse.validate_recordings_and_supervisions(recordings, supervisions, read_data=True)
    cuts = lhotse.load_manifest(tmp_path / "cuts.jsonl.gz")
    lhotse.validate(cuts, read_data=True)
    by_id = {u.id: u for u in stretches}
    for cut in cuts:
        u = by_id[cut.id]
        assert (cut.start, cut.duration) == (u.offset, u.duration)
        assert cut.supervisions[0].text == u.text
        assert cut.load_audio().shape[1] == pytest.approx(u.duration * 16000, abs=1)


def test_lhotse_reads_the_kaldi_folder_and_its_own_is_read(stretches, sets, manifest_of, tmp_path):
    named = [u for u in stretches if " " not in u.audio_filepath]
    convert(manifest_of(named), tmp_path / "kaldi", write_as="kaldi")
    _, supervisions, _ = lhotse.kaldi.load_kaldi_data_dir(tmp_path / "kaldi", sampling_rate=16000)
    by_id = {u.id: u for u in named}
    assert len(supervisions) == len(named)
    for s in supervisions:
        u = by_id[s.id]
        assert (s.start, s.duration) == pytest.approx((u.offset, u.duration), abs=1e-6)
        assert (s.text, s.speaker) == (u.text, u.speaker or u.id)

    recordings, segments = sets
    mono = recordings.filter(lambda r: r.num_channels == 1)
    of_mono = segments.filter(lambda s: s.recording_id in mono.ids)
    lhotse.kaldi.export_to_kaldi(mono, of_mono, output_dir=tmp_path / "theirs", map_underscores_to=None)
    convert(tmp_path / "theirs", tmp_path / "m.jsonl")
    read = {u.id: u for u in read_manifest(tmp_path / "m.jsonl")}
    for s in of_mono:
        u = read[s.id]
        assert (u.offset, u.duration) == pytest.approx((s.start, s.duration))
        assert (u.text, u.speaker, u.lang) == (s.text, s.speaker, s.language)


def test_a_shar_folder_of_lhotse(sets, tmp_path):
    cuts = lhotse.CutSet.from_manifests(*sets).to_eager().trim_to_supervisions(keep_overlapping=False)
    (tmp_path / "shar").mkdir()
    cuts.to_shar(tmp_path / "shar", fields={"recording": "flac"}, shard_size=4)
    assert convert(tmp_path / "shar", tmp_path / "m.jsonl").read_as.name == "lhotse-shar"
    for u in read_manifest(tmp_path / "m.jsonl"):
        assert u.offset == 0
        assert Path(u.audio_filepath).parent == tmp_path / "m_audio"


def test_what_is_written_as_shar_is_read_by_lhotse(stretches, manifest_of, tmp_path):
    convert(manifest_of(stretches), tmp_path / "shar", write_as="lhotse-shar")
    cuts = list(lhotse.CutSet.from_shar(in_dir=tmp_path / "shar"))
    assert {cut.supervisions[0].text for cut in cuts} == {u.text for u in stretches}
    assert all(cut.load_audio().size for cut in cuts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cut: cut | {"type": "MixedCut", "tracks": []}, "is a MixedCut, which is mixed or padded"),
        (lambda cut: cut | {"recording": None}, "has features and no recording"),
        (lambda cut: cut | {"start": "x"}, "start is 'x'; write a number of seconds"),
        (
            lambda cut: cut | {"recording": cut["recording"] | {"transforms": [{"name": "Speed"}]}},
            "is changed when it is read",
        ),
        (
            lambda cut: (
                cut
                | {
                    "recording": cut["recording"]
                    | {"sources": [{"type": "url", "channels": [0], "source": "u"}]}
                }
            ),
            "is a 'url' source; save its audio into files",
        ),
        (
            lambda cut: (
                cut
                | {
                    "recording": cut["recording"]
                    | {"sources": [{"type": "command", "channels": [0], "source": "c"}]}
                }
            ),
            "--run-commands",
        ),
    ],
)
def test_cuts_that_are_no_stretch_of_a_file_are_named(sets, tmp_path, change, message):
    path = tmp_path / "cuts.jsonl"
    lhotse.CutSet.from_manifests(*sets).to_file(path)
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([*others, json.dumps(change(json.loads(first)))]) + "\n")
    with pytest.raises(DataError, match=rf"cuts.jsonl:3: .*{message}"):
        convert(path, tmp_path / "m.jsonl", read_as="lhotse-cuts")
