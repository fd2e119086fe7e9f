"""What other toolkits' files look like, and what their readers make of them; bad lines are named."""

import json
import stat

import pytest

from asr.data.convert import convert
from asr.data.dialects import find_dialect
from asr.data.manifest import read_manifest
from asr.errors import ConfigError, DataError


@pytest.fixture
def corpus(tmp_path, audio_file):
    """A folder with a.wav, b c.wav (0.5 s each) and two.wav (1 s, two channels)."""
    for i, name in enumerate(("a.wav", "b c.wav")):
        audio_file(tmp_path / name, 0.5, i)
    audio_file(tmp_path / "two.wav", 1.0, 2, channels=2)
    return tmp_path


def read(source, **options):
    out = source.parent / "out" / "m.jsonl"
    done = convert(source, out, **options)
    return done, read_manifest(out)


def fields(utterances):
    return [
        (u.id, u.audio_filepath.rpartition("/")[2], u.offset, u.duration, u.text, u.speaker)
        for u in utterances
    ]


def kaldi(folder, **files):
    folder = folder / "data"
    folder.mkdir()
    for name, content in files.items():
        (folder / name.replace("_scp", ".scp")).write_text(content)
    return folder


def test_kaldi_folder_with_segments(corpus):
    folder = kaldi(
        corpus,
        wav_scp="r1 a.wav\nr2  b c.wav \n",
        segments="s-u1 r1 0.1 0.35\ns-u2 r2 0.2 -1\n",
        text="s-u1 one  two\ns-u2\n",
        utt2spk="s-u1 s\ns-u2 s-u2\n",
        utt2uniq="s-u1 x\ns-u2 y\n",
    )
    done, utterances = read(folder)
    assert done.read_as.name == "kaldi"
    assert fields(utterances) == [
        ("s-u1", "a.wav", 0.1, 0.25, "one  two", "s"),
        ("s-u2", "b c.wav", 0.2, 0.3, "", None),
    ]
    assert utterances[1].extra == {"uniq": "y"}


def test_commands_run_only_when_asked(corpus):
    folder = kaldi(corpus, wav_scp=f"u1 cat '{corpus}/b c.wav' |\n", text="u1 hi\n")
    with pytest.raises(
        DataError, match=r"wav.scp:1: 1 of 1 recordings are the output of a command.*--run-commands"
    ):
        read(folder)
    _, utterances = read(folder, run_commands=True)
    assert utterances[0].duration == 0.5
    assert utterances[0].audio_filepath == str(corpus / "out" / "m_audio" / "u1.wav")


def test_a_command_that_fails_is_named(corpus):
    folder = kaldi(corpus, wav_scp="u1 echo no such disk >&2; exit 3 |\n", text="u1 hi\n")
    with pytest.raises(DataError, match=r"wav.scp:1: the command ended with status 3 \(no such disk\)"):
        read(folder, run_commands=True)
    assert not (corpus / "out").exists() or not list((corpus / "out").glob("*.jsonl"))


def test_wav_archives_of_kaldi(corpus):
    wav = (corpus / "a.wav").read_bytes()
    (corpus / "wav.ark").write_bytes(b"u1 " + wav + b"u2 " + wav)
    folder = kaldi(
        corpus, wav_scp=f"u1 {corpus}/wav.ark:3\nu2 {corpus}/wav.ark:{6 + len(wav)}\n", text="u1 a\nu2 b\n"
    )
    _, utterances = read(folder)
    assert [u.duration for u in utterances] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"wav_scp": "u1 a.wav\nu1 b.wav\n"}, "wav.scp:2: u1 is already on .*wav.scp:1"),
        ({"wav_scp": "u1\n"}, "wav.scp:1: 'u1' has one column"),
        (
            {"wav_scp": "r a.wav\n", "segments": "u r 1.0 0.5\n"},
            "segments:1: ends at 0.5, not after its start",
        ),
        ({"wav_scp": "r a.wav\n", "segments": "u q 0 0.5\n"}, "segments:1: recording q is not in wav.scp"),
        ({"wav_scp": "r a.wav\n", "segments": "u r 0\n"}, "segments:1: .* has 3 columns"),
        ({"wav_scp": "r a.wav\n", "segments": "u r zero 1\n"}, "segments:1: start is 'zero'"),
        ({"wav_scp": "u nothing.wav\n"}, "nothing.wav: no such file"),
        ({"wav_scp": ""}, "no utterances in it"),
    ],
)
def test_bad_kaldi_lines(corpus, files, message):
    with pytest.raises(DataError, match=message):
        read(kaldi(corpus, **files))


def test_speechbrain_json(corpus):
    path = corpus / "x.json"
    entry = {"wav": "{data_root}/a.wav", "length": 0.5, "words": "a {{b}}", "spk_id": "s", "phn": ["x"]}
    part = {"wav": {"file": "{data_root}/b c.wav", "start": 1600, "stop": 4800}, "wrd": "c", "spk_id": 7}
    path.write_text(json.dumps({"u1": entry, "u2": part}, indent=2))
    done, utterances = read(path)
    assert done.read_as.name == "speechbrain"
    assert fields(utterances) == [
        ("u1", "a.wav", 0.0, 0.5, "a {b}", "s"),
        ("u2", "b c.wav", 0.1, 0.2, "c", "7"),
    ]
    assert utterances[0].extra == {"phn": ["x"]}


def test_speechbrain_csv(corpus):
    path = corpus / "x.csv"
    path.write_text(
        "ID, duration, wav, start, stop, spk_id, wrd\nu1, 0.2, $data_root/a.wav, 1600, 4800, s, one two\n"
    )
    done, utterances = read(path, audio_dir=corpus)
    assert done.read_as.name == "speechbrain-csv"
    assert fields(utterances) == [("u1", "a.wav", 0.1, 0.2, " one two", "s")]


def test_mozilla_csv(corpus):
    path = corpus / "x.csv"
    path.write_bytes(
        '\ufeffwav_filename,wav_filesize,transcript\r\n"b c.wav",1,"one, ""two"""\r\na.wav,2,b\r\n'.encode()
    )
    done, utterances = read(path)
    assert done.read_as.name == "mozilla"
    assert fields(utterances) == [
        ("b c", "b c.wav", 0.0, 0.5, 'one, "two"', None),
        ("a", "a.wav", 0.0, 0.5, "b", None),
    ]


def test_deepspeech_json_and_csv(corpus):
    (corpus / "t").mkdir()
    (corpus / "t" / "u1.txt").write_text("one\ntwo\n")
    path = corpus / "x.json"
    path.write_text(
        json.dumps({"root_path": ".", "samples": [{"wav_path": "a.wav", "transcript_path": "t/u1.txt"}]})
    )
    table = corpus / "x.csv"
    table.write_text(f"{corpus}/a.wav,{corpus}/t/u1.txt\n")
    for source, name in ((path, "deepspeech.pytorch"), (table, "deepspeech.pytorch-csv")):
        done, utterances = read(source)
        assert done.read_as.name == name
        assert fields(utterances) == [("u1", "a.wav", 0.0, 0.5, "one two", None)]


def test_stm_finds_recordings_by_name_and_leaves_out_what_is_not_scored(corpus):
    (corpus / "stm").mkdir()
    (corpus / "sph").mkdir()
    (corpus / "a.wav").rename(corpus / "sph" / "talk.wav")
    (corpus / "two.wav").rename(corpus / "sph" / "call.wav")
    path = corpus / "stm" / "x.stm"
    path.write_text(
        ";; comment\ntalk 1 ann 0.10 0.30 <o,f0,female> one two\n"
        "talk 1 inter_segment_gap 0.30 0.40 <o,,unknown> ignore_time_segment_in_scoring\n"
        "call B unknown 0.5 0.75 three\n"
    )
    done, utterances = read(path)
    assert done.read_as.name == "stm"
    assert fields(utterances) == [
        ("talk-1-0.100-0.300", "talk.wav", 0.1, 0.2, "one two", "ann"),
        ("call-B-0.500-0.750", "call.wav", 0.5, 0.25, "three", None),
    ]
    assert utterances[0].extra == {"labels": ["o", "f0", "female"]}
    assert utterances[1].extra == {"channel": "B"}
    assert "1 segments are marked" in done.notes[0]
    assert "1 utterances are one channel of a recording with several" in " ".join(done.notes)


def test_cut_takes_the_channel(corpus):
    import numpy as np

    from asr import audio
    from asr.audio.frames import open_frames

    path = corpus / "x.stm"
    path.write_text("two B ann 0.25 0.75 hi\n")
    out = corpus / "out" / "m.jsonl"
    assert convert(path, out, cut_parts=True).cut == 1
    (utterance,) = read_manifest(out)
    assert (utterance.offset, utterance.duration, utterance.extra) == (0.0, 0.5, {})
    with open_frames(corpus / "two.wav", 0, "two") as frames:
        expected = np.concatenate(list(frames.blocks(4000, 12000, 1 << 20)))[:, 1]
    np.testing.assert_array_equal(audio.load(utterance.audio_filepath, sample_rate=16000).samples, expected)


def test_folder_of_audio_with_transcripts(corpus):
    (corpus / "set" / "ann").mkdir(parents=True)
    (corpus / "a.wav").rename(corpus / "set" / "ann" / "1.wav")
    (corpus / "b c.wav").rename(corpus / "set" / "2.wav")
    (corpus / "set" / "ann" / "1.txt").write_text("one\n")
    (corpus / "set" / "2.lab").write_text("two \r\n")
    done, utterances = read(corpus / "set")
    assert done.read_as.name == "folder"
    assert [(u.id, u.text) for u in utterances] == [("2", "two"), ("ann-1", "one")]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_audiofolder(corpus, name):
    lines = 'file_name,transcription,speaker_id\nb c.wav,"one, two",7\n'
    record = {"file_name": "b c.wav", "transcription": "one, two", "speaker_id": 7}
    (corpus / name).write_text(lines if name.endswith("csv") else json.dumps(record) + "\n")
    done, utterances = read(corpus)
    assert done.read_as.name == "audiofolder"
    assert fields(utterances) == [("b c", "b c.wav", 0.0, 0.5, "one, two", "7")]


def test_nemo_predictions_are_kept(corpus):
    path = corpus / "x.json"
    path.write_text('{"audio_filepath": "a.wav", "duration": 0.5, "text": "a", "pred_text": "b"}\n')
    assert read(path)[1][0].extra == {"pred_text": "b"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "x.csv",
            "wav_filename,wav_filesize,transcript\na.wav,1,x,y\n,1,z\n",
            "x.csv:2: 4 cells under 3 columns; .*x.csv:3: wav_filename is empty",
        ),
        ("x.csv", 'wav_filename,wav_filesize,transcript\na.wav,1,"x\n', "x.csv:"),
        ("x.csv", "ID,wav,wrd\nu,a.wav,x\nu,a.wav,y\n", "x.csv:3: ID 'u' is there twice"),
        ("x.json", '{"u": {"wav": 3}}', "x.json: u: wav is 3; write the path"),
        ("x.json", '{"u": {"wav": "a.wav"', "x.json: is no whole JSON file"),
        ("x.json", '{"root_path": ".", "samples": [{"wav_path": "a.wav"}]}', "sample 1: .*transcript_path"),
        (
            "x.json",
            '{"root_path": ".", "samples": [{"wav_path": "a.wav", "transcript_path": "t"}]}',
            "transcript .* does not exist",
        ),
        ("x.stm", "a 1 ann 0.0 0.5 x\nnone 1 ann 0 1 y\n", "x.stm:2: no audio file is called none"),
        (
            "metadata.jsonl",
            '{"file_name": "a.wav"}\n{"file_name": 3}\n[]\n',
            "metadata.jsonl:2: file_name is missing.*metadata.jsonl:3: not a JSON object",
        ),
    ],
)
def test_bad_lines_are_named(corpus, name, content, message):
    path = corpus / name
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read(corpus if name == "metadata.jsonl" else path)


def test_what_is_of_no_dialect_is_told_what_was_looked_for(tmp_path):
    (tmp_path / "x.txt").write_text("hello\n")
    with pytest.raises(
        DataError, match=r"of no dialect that is known; looked for: .*wav.scp.*\(kaldi\).*\(stm\)"
    ):
        find_dialect(tmp_path / "x.txt")
    with pytest.raises(DataError, match="no such file or folder"):
        find_dialect(tmp_path / "y")
    with pytest.raises(ConfigError, match=r"kalid: no such dialect; did you mean kaldi\?"):
        convert(tmp_path / "x.txt", tmp_path / "m.jsonl", read_as="kalid")
    with pytest.raises(ConfigError, match="say with --to what to write: manifest, kaldi"):
        convert(tmp_path / "x.txt", tmp_path / "out", read_as="stm")


def test_a_folder_of_several_sets_names_them(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "wav.scp").write_text("u a.wav\n")
    with pytest.raises(DataError, match=r"holds several sets.*test \(kaldi\).*train \(kaldi\)"):
        find_dialect(tmp_path)


def test_a_folder_that_is_there_is_kept(whole, manifest_of, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(DataError, match="is there already and not empty"):
        convert(manifest_of(whole), tmp_path / "out", write_as="kaldi")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_conversion_that_fails_leaves_no_folder(whole, manifest_of, tmp_path, monkeypatch):
    from asr.data.dialects import base

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(base, "copy", full_disk)
    with pytest.raises(OSError, match="No space left"):
        convert(manifest_of(whole), tmp_path / "out", write_as="folder")
    assert list(tmp_path.iterdir()) == []


def test_kaldi_files_are_sorted_and_end_in_newlines(whole, manifest_of, tmp_path):
    convert(manifest_of(whole), tmp_path / "out", write_as="kaldi")
    for path in (tmp_path / "out").iterdir():
        lines = path.read_bytes().split(b"\n")
        assert lines.pop() == b""
        ids = [line.split()[0] for line in lines]
        assert ids == sorted(set(ids)), path
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o755
