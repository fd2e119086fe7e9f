"""Texts are paired by id, or by time, and never by accident of order."""

import json

import pytest

from asr.errors import DataError
from asr.scoring import read_many, read_pair


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    return path


def test_files_of_different_formats_are_paired_by_id(tmp_path):
    reference = write(tmp_path, "ref", '{"id": "s-1", "text": "x"}\n{"id": "s-2", "text": "y"}\n')
    for name, content in (
        ("hyp.trn", "z (s-2)\nx (s-1)\n"),
        ("hyp.csv", "utt,hyp\ns-2,z\ns-1,x\n"),
        ("hyp.kaldi", "s-2 z\ns-1 x\n"),
    ):
        fmt = name.partition(".")[2]
        pairing = read_pair(reference, write(tmp_path, name, content), hyp_fmt=fmt)
        assert pairing.references == {"s-1": "x", "s-2": "y"}
        assert list(pairing.hypotheses.items()) == [("s-1", "x"), ("s-2", "z")]


def test_the_reference_says_what_a_field_is(tmp_path):
    reference = write(tmp_path, "ref", '{"id": "u", "text": "x", "speaker": "ann"}\n')
    hypothesis = write(tmp_path, "hyp", '{"id": "u", "pred_text": "x", "speaker": "bob", "beam": 8}\n')
    assert read_pair(reference, hypothesis).fields == {"u": {"speaker": "ann", "beam": 8}}


def test_the_field_of_the_id_is_for_files_that_have_fields(tmp_path):
    reference = write(tmp_path, "ref", '{"utt": "s-1", "text": "x"}\n')
    hypothesis = write(tmp_path, "hyp", "y (s-1)\n")
    assert read_pair(reference, hypothesis, id_field="utt").hypotheses == {"s-1": "y"}
    with pytest.raises(DataError, match="hyp: has no field 'utt', since its format is trn"):
        read_pair(hypothesis, hypothesis, id_field="utt")


def test_one_table_may_hold_both_sides(tmp_path):
    path = write(tmp_path, "both.csv", "id,reference,a,b\nu,x,y,z\n")
    pairing = read_pair(path, path, hyp_text_field="b")
    assert (pairing.references, pairing.hypotheses) == ({"u": "x"}, {"u": "z"})


@pytest.mark.parametrize("missing", ["error", "delete", "skip"])
def test_plain_files_of_different_length_are_never_paired(tmp_path, missing):
    reference, hypothesis = write(tmp_path, "ref", "x\ny\n"), write(tmp_path, "hyp", "y\n")
    with pytest.raises(DataError, match=r"hyp: has 1 lines, but .*ref has 2"):
        read_pair(reference, hypothesis, missing=missing)


def test_plain_lines_are_not_paired_with_ids(tmp_path):
    reference, hypothesis = write(tmp_path, "ref", "x (s-1)\ny (s-2)\n"), write(tmp_path, "hyp", "x\ny\n")
    with pytest.raises(DataError, match=r"hyp: seems to be plain lines without ids.*ref \(trn\)"):
        read_pair(reference, hypothesis)


def test_different_ids_are_counted_and_the_first_listed(tmp_path):
    rows = [json.dumps({"id": f"u{number}", "text": "x"}) for number in range(6)]
    reference, hypothesis = write(tmp_path, "ref", "\n".join(rows)), write(tmp_path, "hyp", rows[0])
    with pytest.raises(
        DataError, match=r"hyp \(jsonl\): 5 of 6 utterances not found .first 'u1', 'u2', 'u3'."
    ):
        read_pair(reference, hypothesis)
    assert len(read_pair(reference, hypothesis, missing="delete").references) == 6
    assert len(read_pair(reference, hypothesis, missing="skip").references) == 1


def test_several_systems_get_the_same_utterances(tmp_path):
    reference = write(tmp_path, "ref", "x (s-1)\ny (s-2)\nz (s-3)\n")
    systems = [write(tmp_path, "a", "x (s-1)\ny (s-2)\n"), write(tmp_path, "b", "z (s-3)\ny (s-2)\n")]
    skipped = read_many(reference, systems, missing="skip")
    assert [list(pairing.hypotheses) for pairing in skipped] == [["s-2"], ["s-2"]]
    assert [pairing.missing for pairing in skipped] == [("s-3",), ("s-1",)]
    assert skipped[0].remarks == [
        "left out since another system lacks them: 1 (first 's-1')",
        "references without a hypothesis, left out: 1 (first 's-3')",
    ]
    deleted = read_many(reference, systems, missing="delete")
    assert [pairing.hypotheses["s-1"] for pairing in deleted] == ["x", ""]
    assert deleted[0].references == deleted[1].references
    with pytest.raises(DataError, match=r"a .trn.: 1 of 3 utterances not found"):
        read_many(reference, systems)


def test_several_ctm_are_cut_where_all_pause(tmp_path):
    def ctm(name, shift):
        lines = [f"f A {number * 0.5 + shift:.2f} 0.3 w{number}\n" for number in range(200)]
        return write(tmp_path, name, "".join(lines))

    pairings = read_many(ctm("r.ctm", 0.0), [ctm("a.ctm", 0.05), ctm("b.ctm", 0.4)])
    assert list(pairings[0].references.items()) == list(pairings[1].references.items())
    assert len(pairings[0].references) > 1
    for pairing in pairings:
        assert " ".join(pairing.references.values()) == " ".join(f"w{number}" for number in range(200))
        assert " ".join(pairing.hypotheses.values()) == " ".join(f"w{number}" for number in range(200))


STM = "f A ann 0.0 2.0 one two\nf A bob 2.0 4.0 three four\nf B ann 0.0 1.0 five\n"


def test_channels_with_other_names_are_named(tmp_path):
    reference, hypothesis = write(tmp_path, "r.stm", STM), write(tmp_path, "h.ctm", "f 1 0.1 0.2 one\n")
    for missing in ("error", "delete"):
        with pytest.raises(
            DataError, match=r"h.ctm: recording 'f' has channel 1, but in .*r.stm it has A, B"
        ):
            read_pair(reference, hypothesis, missing=missing)


def test_a_channel_without_words_is_missing(tmp_path):
    reference, hypothesis = write(tmp_path, "r.stm", STM), write(tmp_path, "h.ctm", "f A 0.1 0.2 one\n")
    with pytest.raises(DataError, match=r"1 of 3 utterances not found \(first 'f-B-0.000-1.000'\)"):
        read_pair(reference, hypothesis)
    assert list(read_pair(reference, hypothesis, missing="delete").hypotheses.values()) == ["one", "", ""]


SRT = """1
00:00:00,500 --> 00:00:02,500
One two, three

2
00:00:02,500 --> 00:00:04,000
four.
"""


def test_subtitles_are_divided_by_the_alignment_of_their_words(tmp_path):
    reference = write(tmp_path, "r.stm", "".join(STM.splitlines(keepends=True)[:2]))
    pairing = read_pair(reference, write(tmp_path, "f.srt", SRT))
    assert list(pairing.hypotheses.values()) == ["One two,", "three four."]
    assert [fields["speaker"] for fields in pairing.fields.values()] == ["ann", "bob"]


def test_subtitles_of_one_recording_among_several_are_found_by_name(tmp_path):
    reference = write(tmp_path, "r.stm", "f A ann 0.0 4.0 one two three four\ng A bob 0.0 1.0 five\n")
    pairing = read_pair(reference, write(tmp_path, "f.srt", SRT), missing="skip")
    assert list(pairing.hypotheses.values()) == ["One two, three four."]
    with pytest.raises(DataError, match=r"x.srt: is of one channel, but .*r.stm has 2"):
        read_pair(reference, write(tmp_path, "x.srt", SRT))


def test_subtitles_against_subtitles_and_against_words(tmp_path):
    reference = write(tmp_path, "r.srt", SRT)
    vtt = "WEBVTT\n\n00:00.000 --> 00:04.500\none two\nthree four\n\n00:05.000 --> 00:06.000\nfive\n"
    pairing = read_pair(reference, write(tmp_path, "h.vtt", vtt))
    assert list(pairing.hypotheses.values()) == ["one two three", "four five"]
    assert "recognised words in no segment" in pairing.notes[0]

    words = "".join(
        f"f A {start} 0.2 {word}\n" for start, word in ((0.6, "one"), (2.0, "two"), (3.0, "four"))
    )
    pairing = read_pair(reference, write(tmp_path, "h.ctm", words))
    assert list(pairing.hypotheses.values()) == ["one two", "four"]


def test_a_reference_without_segments_cannot_score_subtitles(tmp_path):
    reference = write(tmp_path, "r.ctm", "f A 0.6 0.2 one\n")
    with pytest.raises(DataError, match=r"r.ctm: a ctm reference can only score ctm, not .*h.srt \(srt\)"):
        read_pair(reference, write(tmp_path, "h.srt", SRT))


def test_braces_mean_alternatives_only_in_formats_that_have_them(tmp_path):
    trn = write(tmp_path, "r.trn", "a { b / c } (s-1)\n")
    manifest = write(tmp_path, "r.jsonl", '{"id": "s-1", "text": "a { b / c }"}\n')
    plain = write(tmp_path, "h.trn", "a b (s-1)\n")
    assert read_pair(trn, plain).alternatives is True
    assert read_pair(plain, trn).alternatives is True
    assert read_pair(manifest, plain).alternatives is None
    assert read_pair(plain, plain).alternatives is None
