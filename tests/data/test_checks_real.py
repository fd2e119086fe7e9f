"""No false alarm on real corpora: CMU's AN4, and FSDD.

FSDD is https://github.com/Jakobovski/free-spoken-digit-dataset.
"""

from pathlib import Path

import pytest

from asr.cli.config import load_prepare
from asr.data.checks.fix import write_fixed
from asr.data.checks.problems import Problem
from asr.data.checks.run import Needs, check_splits
from asr.data.checks.splits import read_splits

SPLITS = ("train", "dev", "test")
FSDD = "free-spoken-digit-dataset-1.0.10.tar.gz"


def check(folder: Path) -> tuple[int, list[Problem]]:
    reports = check_splits(read_splits([str(folder / f"{split}.jsonl") for split in SPLITS]))
    return sum(len(r.split.utterances) for r in reports), [p for r in reports for p in r.problems]


def alarms(problems: list[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity != "notice"]


@pytest.fixture(scope="module")
def fsdd(tmp_path_factory, archive):
    folder = tmp_path_factory.mktemp("fsdd")
    for speaker in ("official", "theo"):
        load_prepare("fsdd")(folder, archive=archive(FSDD), speaker=speaker)
    return folder


@pytest.mark.parametrize(
    ("speaker", "shared"),
    [("official", ["dev", "test", "test"]), ("theo", ["dev"])],  # by design: see the recipe's README
)
def test_no_false_alarm_on_fsdd(fsdd, speaker, shared):
    count, problems = check(fsdd / speaker)
    assert count == 3000
    assert alarms(problems) == []
    assert [Path(p.path).stem for p in problems if p.kind == "shared_speaker"] == shared


@pytest.mark.slow
@pytest.mark.parametrize("speaker", ["george", "jackson", "lucas", "nicolas", "yweweler"])
def test_no_false_alarm_on_other_speakers_left_out(tmp_path, archive, speaker):
    load_prepare("fsdd")(tmp_path, archive=archive(FSDD), speaker=speaker)
    count, problems = check(tmp_path / speaker)
    assert (count, alarms(problems)) == (3000, [])


def test_no_false_alarm_on_an4(tmp_path, archive):
    load_prepare("an4")(tmp_path, archive=archive("an4_feat.tar.gz"))
    count, problems = check(tmp_path)
    assert (count, alarms(problems)) == (1078, [])
    assert not any(p.kind == "shared_speaker" for p in problems)
    # Each split by itself is as sound.
    for split in SPLITS:
        [report] = check_splits(read_splits([str(tmp_path / f"{split}.jsonl")]))
        assert report.problems == []


@pytest.mark.slow
def test_no_false_alarm_on_synthetic_digits(tmp_path):
    load_prepare("digits")(tmp_path, num_train=120, num_dev=20, num_test=20)
    assert alarms(check(tmp_path)[1]) == []


def test_durations_of_the_an4_wave_sample_are_wrong(tmp_path, archive):
    """Its manifests count the bytes of each file, two a sample and 44 of the header, as samples of 16 kHz."""
    import tarfile

    with tarfile.open(archive("an4_wav_sample.tar.gz")) as tar:
        tar.extractall(tmp_path, filter="data")
    folder = tmp_path / "an4_wav_sample"
    reports = check_splits(read_splits([str(folder / "an4_train.json"), str(folder / "an4_val.json")]))
    wrong = [p.id for r in reports for p in r.problems if p.kind == "duration"]
    assert len(wrong) == len(set(wrong)) == 40
    assert {p.severity for r in reports for p in r.problems if p.kind != "duration"} == {"warning", "notice"}
    for report in reports:
        for utterance in report.split.utterances:
            assert utterance.duration == Path(utterance.audio_filepath).stat().st_size / 16000
    # --fix takes the files' durations, since the texts can be said in them.
    fixed = write_fixed(reports, tmp_path / "fixed", Needs())
    assert [(one.kept, one.corrected, one.left_out) for one in fixed] == [(30, 30, 0), (10, 10, 0)]
    again = check_splits(read_splits([str(one.path) for one in fixed]))
    assert [p for r in again for p in r.problems if p.severity == "error"] == []
