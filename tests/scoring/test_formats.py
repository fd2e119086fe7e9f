"""Every format gives the same texts, and every malformed file one line that names it."""

import pytest

from asr.errors import AsrError, DataError
from asr.scoring import read_transcripts

MANIFEST = '{"audio_filepath": "a.wav", "duration": 1, "text": "x y"}\n'


def _write(tmp_path, content, name="file"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("fmt", "content", "expected"),
    [
        ("jsonl", '{"id": "u1", "text": "x y"}\n\n{"id": "u2", "text": ""}\n', {"u1": "x y", "u2": ""}),
        ("jsonl", MANIFEST, {"a.wav": "x y"}),
        ("jsonl", MANIFEST.replace("}", ', "offset": 2.5}'), {"a.wav@2.5": "x y"}),
        ("jsonl", '{"id": 7, "text": "one\u2028line"}', {"7": "one\u2028line"}),
        (
            "trn",
            ";; comment\nx y (s-1)\n(s-2)\n ha (laugh) (s_3) \n",
            {"s-1": "x y", "s-2": "", "s_3": "ha (laugh)"},
        ),
        ("kaldi", "s1-001 x y\ns1-002\n", {"s1-001": "x y", "s1-002": ""}),
        ("kaldi", "0_theo_1 one\n", {"0_theo_1": "one"}),
        ("kaldi", "utt1\tx y\r\nutt2\tz\r\n", {"utt1": "x y", "utt2": "z"}),
        ("csv", 'utterance_id,Text\nu1,"x, y"\nu2,\n', {"u1": "x, y", "u2": ""}),
        ("csv", 'id;sentence\nu1;"x ""y"""\n', {"u1": 'x "y"'}),
        ("csv", 'wav_filename,wav_filesize,transcript\na.wav,12,"x\ny"\n', {"a.wav": "x\ny"}),
        ("tsv", 'client_id\tpath\tsentence\n9\ta.mp3\t"x" y\n', {"a.mp3": '"x" y'}),
        (
            "tsv",
            "start\tend\ttext\n0\t1500\tx y\n1500\t2000\tz\n",
            {"0.000-1.500": "x y", "1.500-2.000": "z"},
        ),
        ("ctm", ";; c\nf A 0.1 0.2 x 0.9\nf A 0.3 0.2 y NA\nf B 0 1 z\n", {"f-A": "x y", "f-B": "z"}),
        (
            "stm",
            ";; c\nf A s 0.1 0.2 <o,f0> x y\nf A s 0.25 1\n",
            {"f-A-0.100-0.200": "x y", "f-A-0.250-1.000": ""},
        ),
        (
            "srt",
            "1\n00:00:01,500 --> 00:01:02,000\n<i>x</i>\ny\n\n2\n01:00:00,000 --> 01:00:00,500\nz\n",
            {"1.500-62.000": "x y", "3600.000-3600.500": "z"},
        ),
        (
            "vtt",
            "WEBVTT\n\nNOTE hi\n\n00:01.500 --> 00:02.000 align:start\n<v Ann>x &amp; y <00:01.700>z\n",
            {"1.500-2.000": "x & y z"},
        ),
        ("plain", "x y\n\nz\n", {"1": "x y", "2": "", "3": "z"}),
        ("plain", "\ufeffthe cat\nthe dog", {"1": "the cat", "2": "the dog"}),
        ("plain", "1\n2\n3\n", {"1": "1", "2": "2", "3": "3"}),
        ("plain", "1 2\n1 3\n", {"1": "1 2", "2": "1 3"}),
    ],
)
def test_a_format_is_told_from_the_content(tmp_path, fmt, content, expected):
    path = _write(tmp_path, content)
    found = read_transcripts(path)
    assert (found.format, found.texts) == (fmt, expected)
    assert read_transcripts(path, fmt).texts == expected
    assert list(found.texts) == list(found.fields) == list(expected)


@pytest.mark.parametrize("content", ["fash-b x y\n", "0001 x\n0002 y\n", "1 2 3\n2 3 4\n", "a_1\na_2\n"])
def test_ids_that_could_be_words_are_not_guessed(tmp_path, content):
    path = _write(tmp_path, content)
    with pytest.raises(DataError, match="name the --format, kaldi or plain"):
        read_transcripts(path)
    assert list(read_transcripts(path, "kaldi").texts) == [line.split()[0] for line in content.splitlines()]
    assert list(read_transcripts(path, "plain").texts.values()) == content.splitlines()


def test_one_hyp_jsonl_holds_reference_and_hypothesis(tmp_path):
    path = _write(tmp_path, '{"id": "u1", "text": "x y", "pred_text": "x z"}\n')
    assert read_transcripts(path).texts == {"u1": "x y"}
    assert read_transcripts(path, role="hyp").texts == {"u1": "x z"}


def test_a_hypothesis_line_without_prediction_never_falls_back_to_the_reference(tmp_path):
    path = _write(tmp_path, '{"id": "u1", "text": "x", "pred_text": "x"}\n{"id": "u2", "text": "y"}\n')
    with pytest.raises(DataError, match=r"file:2: `pred_text` is missing"):
        read_transcripts(path, role="hyp")


@pytest.mark.parametrize(
    ("fmt", "content", "message"),
    [
        ("auto", b"", "file: has no transcript"),
        ("auto", b"good\nb\xe9d\n", "file:2: byte 0xe9 is not UTF-8"),
        ("auto", "x y\n".encode("utf-16"), "file:1: byte 0xff is not UTF-8"),
        ("auto", "x y\n".encode("utf-16-le"), "file:1: byte 0x00 is not UTF-8"),
        ("auto", MANIFEST + "oops\n", "file:2: not JSON .*'oops'"),
        ("auto", '{"text": \n"pretty"}\n', "file:1: not JSON"),
        ("jsonl", "[1]\n", "file:1: not a JSON object: '.1.'"),
        ("auto", '{"id": "u1"}\n', "file:1: `text` is missing"),
        ("auto", '{"id": "u1", "text": null}\n', "file:1: `text` is 'null'"),
        ("auto", '{"id": "u1", "text": 3}\n', "file:1: `text` is '3'"),
        ("auto", '{"text": "x"}\n', "file:1: `id` is missing"),
        ("auto", '{"id": ["u"], "text": "x"}\n', "file:1: `id` is "),
        ("auto", MANIFEST + "\n" + MANIFEST, "file:3: id 'a.wav' is already used on line 1"),
        ("auto", "x (s-1)\ny (s-1)\n", "file:2: id 's-1' is already used on line 1"),
        ("auto", "x (s-1)\ny (s-2)\nz s-3)\n", "file:3: does not end in `.utterance_id.`: 'z s-3.'"),
        ("auto", "{ um / uh x (s-1)\n", "file:1: braces of alternatives are not balanced"),
        ("auto", "um / uh } x { (s-1)\n", "file:1: braces of alternatives are not balanced"),
        ("auto", b"RIFF\x24\x08\0\0WAVEfmt ", r"file: is audio \(WAV\), not text"),
        ("auto", b"\x1f\x8b\x08\0", r"file: is compressed \(gzip\)"),
        ("auto", b"\x7fELF\x02\x01\x01\0\0", "file: is a binary file, not text"),
        ("auto", "\n<!DOCTYPE html>\n<html>", "file: is an HTML page"),
        ("auto", '{"id": "u", "text": "\\ud83d"}\n', "file:1: has half of a surrogate pair"),
        (
            "auto",
            "id,text,sentence\nu,x,y\n",
            "file:1: which column is the text: text or sentence.. choose one with",
        ),
        ("csv", "a,b\nu,x\n", r"file:1: which column is the id. \(a, b\); name it with --id-field"),
        ("csv", "id,b\nu,x\n", r"file:1: which column is the text. \(id, b\); name it with --text-field"),
        ("auto", "id,text\nu1,x\nu2,y, z\n", "file:3: has 3 columns, but the header has 2; quote a text"),
        ("auto", "id\ttext\nu1\tx\ty\n", "file:2: has 3 columns, but the header has 2"),
        ("auto", 'id,text\nu1,"x\nu2,y\n', "file:[23]: not CSV"),
        ("auto", "id,text\nu1,x\n,y\n", "file:3: column `id` is empty"),
        ("auto", 'id,text\nu1,"x\nx"\nu1,y\n', "file:4: id 'u1' is already used on line 2"),
        ("auto", "id,text,duration\nu1,x,long\n", "file:2: duration is 'long'"),
        ("srt", "1\n00:00:01,000 -> 00:00:02,000\nx\n", "file:1: no times with '1'"),
        ("auto", "1\n00:00:02,000 --> 00:00:01,000\nx\n", "file:2: ends before it starts"),
        (
            "auto",
            "WEBVTT\n\n00:02.000 --> 00:03.000\nx\n\n00:01.000 --> 00:02.000\ny\n",
            "file:6: starts at 1",
        ),
        ("auto", "start\tend\ttext\n0\tone\tx\n", "file:2: is '0.*one.*x'; write `start end text`"),
        ("braille", "x\n", "format 'braille' is unknown; choose one of auto, jsonl"),
        ("auto", "s1-1 x\ns1-1 y\n", "file:2: id 's1-1' is already used on line 1"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path, fmt, content, message):
    with pytest.raises(AsrError, match=message) as caught:
        read_transcripts(_write(tmp_path, content), fmt)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.srt", "1\n00:00:01,000 -> 00:00:02,000\nx\n", "x.srt:1: no times with '1'"),
        ("x.trn", "x (s-1\ny (s-2)\n", "x.trn:1: does not end in"),
        ("x.ctm", "f_1 A 0.1 0.2 x\nf_1 A 0.3 O.2 y\n", "x.ctm:2: time is 'O.2'"),
        ("x.stm", "f_1 A s 0.1 1.2 x\nf_1 A s 1.3 y\n", "x.stm:2: time is 'y'"),
        ("x.csv", "u1,x\nu2,y\n", r"x.csv:1: which column is the id. \(u1, x\)"),
    ],
)
def test_a_bad_line_does_not_turn_a_file_with_a_telling_name_into_plain_text(
    tmp_path, name, content, message
):
    with pytest.raises(DataError, match=message):
        read_transcripts(_write(tmp_path, content, name))


def test_a_name_decides_whether_numbers_are_times(tmp_path):
    assert read_transcripts(_write(tmp_path, "f A 1 2 x\n", "x.ctm")).format == "ctm"
    # What the content tells is not overruled.
    assert read_transcripts(_write(tmp_path, "s_1 x\ns_2 y\n", "x.tsv")).format == "kaldi"


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: cannot be read"):
        read_transcripts(tmp_path / "nowhere")
    with pytest.raises(DataError, match="cannot be read"):
        read_transcripts(tmp_path)


@pytest.mark.parametrize("content", ["f 1 2 3 4\ng 5 6 7 8\n", "u_1 1 2 3 4 5\n", "f A s 1 2 x\n"])
def test_numbers_that_could_be_words_are_not_taken_for_times(tmp_path, content):
    with pytest.raises(DataError, match="are times or words; name the --format"):
        read_transcripts(_write(tmp_path, content))


def test_a_byte_order_mark_names_the_encoding(tmp_path):
    with pytest.raises(DataError, match="iconv -f UTF-16 -t UTF-8"):
        read_transcripts(_write(tmp_path, "x y\n".encode("utf-16")))


def test_fields_are_kept(tmp_path):
    row = '{"id": "u", "text": "x", "audio_filepath": "w/a.wav", "duration": 1.5, "speaker": "ann", "snr": 3}'
    found = read_transcripts(_write(tmp_path, row)).fields["u"]
    audio = str(tmp_path / "w" / "a.wav")
    assert found == {"audio_filepath": audio, "duration": 1.5, "speaker": "ann", "snr": 3}

    table = "audio_filepath,text,pred_text,speaker,duration\nw/a.wav,x,y,007,1.5\n"
    found = read_transcripts(_write(tmp_path, table)).fields["w/a.wav"]
    assert found == {"audio_filepath": audio, "speaker": "007", "duration": 1.5}

    found = read_transcripts(_write(tmp_path, "f A ann 0.5 2.0 <o,f0,male> x\n")).fields["f-A-0.500-2.000"]
    assert found["labels"] == ["o", "f0", "male"]
    assert (found["speaker"], found["start"], found["end"], found["duration"]) == ("ann", 0.5, 2.0, 1.5)


def test_the_speakers_of_kaldi_stand_in_utt2spk(tmp_path):
    path = _write(tmp_path, "u_1 x\nu_2 y\n", "text")
    assert read_transcripts(path).fields == {"u_1": {}, "u_2": {}}
    _write(tmp_path, "u_1 ann\n", "utt2spk")
    assert read_transcripts(path).fields == {"u_1": {"speaker": "ann"}, "u_2": {}}
    _write(tmp_path, "u_1 ann b\n", "utt2spk")
    with pytest.raises(DataError, match="utt2spk:1: is 'u_1 ann b'"):
        read_transcripts(path)


def test_fields_can_be_named(tmp_path):
    path = _write(tmp_path, "key,a,b\n1,x,y\n")
    assert read_transcripts(path, text_field="b", id_field="key").texts == {"1": "y"}
    with pytest.raises(DataError, match="no column `c`; the columns are: key, a, b"):
        read_transcripts(path, text_field="c", id_field="key", fmt="csv")
    path = _write(tmp_path, '{"utt": "u", "asr": "x", "text": "y"}\n')
    assert read_transcripts(path, text_field="asr", id_field="utt").texts == {"u": "x"}
    with pytest.raises(DataError, match="has no field 'asr', since its format is plain"):
        read_transcripts(_write(tmp_path, "x y\n"), text_field="asr")


def test_alternatives_and_optional_words_are_kept_as_they_are(tmp_path):
    path = _write(tmp_path, "i've { um / uh / @ } (as) far { a / { b / c } d } (s-1)\n")
    assert read_transcripts(path).texts == {"s-1": "i've { um / uh / @ } (as) far { a / { b / c } d }"}


def test_subtitles_that_repeat_to_highlight_are_refused(tmp_path):
    lines = "1\n00:00:00,000 --> 00:00:01,000\n<u>x</u> y\n\n2\n00:00:01,000 --> 00:00:02,000\nx <u>y</u>\n"
    with pytest.raises(DataError, match="file:6: repeats the subtitle before it to highlight"):
        read_transcripts(_write(tmp_path, lines))
