"""The files that sclite's users read are sclite's, to the byte, and sc_stats reads ours."""

import random
import re

import pytest

from asr.scoring import compare, score
from asr.scoring.sclite_files import write_sclite_files

SUFFIXES = ("sys", "raw", "pra", "dtl", "sgml")


@pytest.fixture
def both(tmp_path, sctk):
    """Return a function that writes sclite's files and ours, and returns their contents by suffix."""

    def write(references, hypotheses, *options, title="SYS", **keywords):
        for name, texts in (("ref", references), ("hyp", hypotheses)):
            (tmp_path / name).write_text("".join(f"{text} ({id})\n" for id, text in texts.items()))
        files = [
            "-r",
            "ref",
            "trn",
            "-h",
            "hyp",
            "trn",
            title,
            "-i",
            "spu_id",
            "-e",
            "utf-8",
            "-O",
            ".",
            "-n",
            "theirs",
        ]
        sctk(tmp_path, "sclite", *files, "-o", "sum", "rsum", "pra", "dtl", "sgml", *options)
        result = score(references, hypotheses, align="sclite", **keywords)
        paths = write_sclite_files(result, tmp_path, "ours", title=title, ref="ref", hyp="hyp")
        assert [path.name for path in paths] == [f"ours.{suffix}" for suffix in SUFFIXES]
        return [
            {suffix: _without_date((tmp_path / f"{name}.{suffix}").read_text()) for suffix in SUFFIXES}
            for name in ("theirs", "ours")
        ]

    return write


def _without_date(text):
    return re.sub(r'creation_date="[^"]*"', "", text)


def _by_id(texts, ids):
    return dict(zip(ids, texts, strict=True))


@pytest.mark.parametrize("cased", [False, True])
def test_files_are_those_of_sclite(both, make_texts, cased):
    words = ["the", "cat", "sat", "longword", "été", "日本", "x"]
    references, hypotheses = make_texts(3, 120, words=words, longest=8, alternatives=True, optional=True)
    if cased:
        references = [text.replace("cat", "Cat") for text in references]
    ids = [f"sp{number % 7}-{number:04d}" for number in range(120)]
    options = ["-D", "-s"] if cased else ["-D"]
    theirs, ours = both(_by_id(references, ids), _by_id(hypotheses, ids), *options, optional_words=True)
    assert ours == theirs


@pytest.mark.parametrize("length", [1, 40, 63, 64, 65, 66, 67, 68, 69, 70, 73, 79, 85])
def test_tables_are_laid_out_around_any_title(both, make_texts, length):
    ids = [f"s{number % 3}_{number:02d}" for number in range(20)]
    references, hypotheses = (_by_id(side, ids) for side in make_texts(length, 20, words="ab"))
    theirs, ours = both(references, hypotheses, title="x" * length)
    assert ours == theirs


@pytest.mark.parametrize(
    ("references", "hypotheses"),
    [
        ({"a-1": "a b"}, {"a-1": "a c"}),
        ({"a-1": "", "b-1": ""}, {"a-1": "x", "b-1": ""}),
        ({"a-1": "a b", "a-2": "", "b-1": ""}, {"a-1": "a b", "a-2": "", "b-1": "x y"}),
        ({"long_name-1": "a", "b-1": "c d"}, {"long_name-1": "", "b-1": "c d"}),
    ],
    ids=["one", "nothing said", "a silent speaker", "nothing recognised"],
)
def test_small_and_empty_sets_are_reported_as_by_sclite(both, references, hypotheses):
    theirs, ours = both(references, hypotheses)
    assert ours == theirs


def test_a_long_utterance_is_folded_as_by_sclite(both):
    random_ = random.Random(1)
    sides = [{"a-1": " ".join(random_.choices(["word", "some", "other"], k=900))} for _ in range(2)]
    theirs, ours = both(*sides)
    assert ">> Eval:" in ours["pra"]
    assert ours == theirs


def test_sc_stats_reads_our_sgml(tmp_path, sctk, make_texts):
    references, first = make_texts(5, 60)
    _, second = make_texts(6, 60)
    ids = [f"s{number % 4}-{number:03d}" for number in range(60)]
    scores = [score(_by_id(references, ids), _by_id(texts, ids), align="sclite") for texts in (first, second)]
    for name, result in zip("AB", scores, strict=True):
        write_sclite_files(result, tmp_path, name)
    sgml = "".join((tmp_path / f"{name}.sgml").read_text() for name in "AB")
    printed = sctk(tmp_path, "sc_stats", "-p", "-t", "mapsswe", "-v", "-n", "-", given=sgml)
    assert "(systems: A B)" in printed
    assert f"(# segs: {compare(*scores).mapsswe.num_segments})" in printed


def test_speakers_come_from_the_manifest_or_else_from_the_id(tmp_path):
    ids = ["ann-1", "bob_2", "3"]
    texts = dict.fromkeys(ids, "a")
    paths = write_sclite_files(score(texts, texts), tmp_path, "x")
    assert re.findall(r"Speaker sentences +\d+: +(\S+)", paths[2].read_text()) == ["ann", "bob", "all"]
    paths = write_sclite_files(score(texts, texts, fields={"ann-1": {"speaker": "eve"}}), tmp_path, "x")
    assert re.findall(r"Speaker sentences +\d+: +(\S+)", paths[2].read_text()) == ["eve", "bob", "all"]


def test_segments_of_recordings_are_named_with_file_channel_and_times(tmp_path):
    # Recorded from sclite 2.10 (SCTK 1.3) with -r stm -h ctm.
    fields = {"sclite_id": "spka-000", "speaker": "spka", "file": "f1", "channel": "1", "labels": "<o,m>"}
    result = score(
        {"f1": "hello there"}, {"f1": "hello their"}, fields={"f1": {**fields, "start": 0.0, "end": 2.0}}
    )
    _, _, pra, _, sgml = write_sclite_files(result, tmp_path, "x")
    assert (
        "id: (spka-000)\nLabels: <o,m>\nFile: f1\nChannel: 1\nScores: (#C #S #D #I) 1 1 0 0\n"
        in pra.read_text()
    )
    assert (
        '<PATH id="(spka-000)" word_cnt="2" labels="<o,m>" file="f1" channel="1" sequence="0" R_T1="0.000" '
        'R_T2="2.000">\nC,"hello","hello":S,"there","their"\n</PATH>\n'
    ) in sgml.read_text()
