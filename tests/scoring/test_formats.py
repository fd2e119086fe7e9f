"""Every format gives the same texts, and every malformed file one line that names it."""

import json

import pytest

from asr.errors import DataError
from asr.scoring import read_pair, read_transcripts

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
        ("plain", "x y\n\nz\n", {"1": "x y", "2": "", "3": "z"}),
        ("plain", "\ufeffthe cat\nthe dog", {"1": "the cat", "2": "the dog"}),
        ("plain", "1\n2\n3\n", {"1": "1", "2": "2", "3": "3"}),
        ("plain", "1 2\n1 3\n", {"1": "1 2", "2": "1 3"}),
    ],
)
def test_a_format_is_told_from_the_content(tmp_path, fmt, content, expected):
    path = _write(tmp_path, content)
    assert read_transcripts(path) == expected
    assert read_transcripts(path, fmt) == expected
    assert list(read_transcripts(path)) == list(expected)


@pytest.mark.parametrize("content", ["fash-b x y\n", "0001 x\n0002 y\n", "1 2 3\n2 3 4\n"])
def test_ids_that_could_be_words_are_not_guessed(tmp_path, content):
    path = _write(tmp_path, content)
    with pytest.raises(DataError, match="name the --format, kaldi or plain"):
        read_transcripts(path)
    assert list(read_transcripts(path, "kaldi")) == [line.split()[0] for line in content.splitlines()]
    assert list(read_transcripts(path, "plain").values()) == content.splitlines()


def test_one_hyp_jsonl_holds_reference_and_hypothesis(tmp_path):
    path = _write(tmp_path, '{"id": "u1", "text": "x y", "pred_text": "x z"}\n')
    assert read_transcripts(path) == {"u1": "x y"}
    assert read_transcripts(path, role="hyp") == {"u1": "x z"}


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
        ("auto", "{ um / uh } x (s-1)\n", "file:1: alternatives are not supported"),
        ("auto", "s1-1 x\ns1-1 y\n", "file:2: id 's1-1' is already used on line 1"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path, fmt, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read_transcripts(_write(tmp_path, content), fmt)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere: cannot read"):
        read_transcripts(tmp_path / "nowhere")
    with pytest.raises(DataError, match="cannot read"):
        read_transcripts(tmp_path)


def test_files_of_different_formats_are_paired_by_id(tmp_path):
    reference = _write(tmp_path, '{"id": "s-1", "text": "x"}\n{"id": "s-2", "text": "y"}\n', "ref")
    hypothesis = _write(tmp_path, "z (s-2)\nx (s-1)\n", "hyp")
    pairing = read_pair(reference, hypothesis)
    assert (pairing.references, pairing.hypotheses) == ({"s-1": "x", "s-2": "y"}, {"s-1": "x", "s-2": "z"})


@pytest.mark.parametrize("missing", ["error", "delete", "skip"])
def test_plain_files_of_different_length_are_never_paired(tmp_path, missing):
    reference, hypothesis = _write(tmp_path, "x\ny\n", "ref"), _write(tmp_path, "y\n", "hyp")
    with pytest.raises(DataError, match=r"hyp: has 1 lines, but .*ref has 2"):
        read_pair(reference, hypothesis, missing=missing)


def test_different_ids_are_counted_and_the_first_listed(tmp_path):
    rows = [json.dumps({"id": f"u{number}", "text": "x"}) for number in range(6)]
    reference, hypothesis = _write(tmp_path, "\n".join(rows), "ref"), _write(tmp_path, rows[0], "hyp")
    with pytest.raises(
        DataError, match=r"hyp \(jsonl\): 5 of 6 utterances not found .first 'u1', 'u2', 'u3'."
    ):
        read_pair(reference, hypothesis)
    assert len(read_pair(reference, hypothesis, missing="delete").references) == 6
    assert len(read_pair(reference, hypothesis, missing="skip").references) == 1
