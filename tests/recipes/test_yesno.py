"""Yesno: a stand-in with its 60 names and its layout; the two splits; a shrunk run."""

import itertools

import numpy as np
import pytest

from asr import audio
from asr.cli.config import load_prepare
from asr.data.manifest import read_manifest
from asr.errors import ConfigError, DataError
from tests.recipes.standin import pack, recipe_yamls, run_recipe, speak


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("yesno")
    waves = folder / "corpus" / "waves_yesno"
    waves.mkdir(parents=True)
    said = {"0": speak("low", sample_rate=8000), "1": speak("ken", sample_rate=8000)}
    for bits in list(itertools.product("01", repeat=8))[:240:4]:
        audio.save(waves / f"{'_'.join(bits)}.wav", np.concatenate([said[bit] for bit in bits]), 8000)
    (waves / "README").write_text("what it is\n")
    (waves / "README~").write_text("what it was\n")
    return pack(folder / "corpus", folder / "waves_yesno.tar.gz")


@pytest.mark.parametrize(
    ("split", "sizes", "num_test_words"),
    # icefall's results are out of 240 words, Kaldi's (whose file list has the two READMEs) out of 232.
    [("alternate", (25, 5, 30), 240), ("halves", (26, 5, 29), 232)],
)
def test_splits_are_those_of_icefall_and_kaldi(archive, tmp_path, split, sizes, num_test_words):
    load_prepare("yesno")(tmp_path, archive=archive, split=split)
    splits = [read_manifest(tmp_path / split / f"{name}.jsonl") for name in ("train", "dev", "test")]
    assert tuple(map(len, splits)) == sizes
    assert len({u.id for chosen in splits for u in chosen}) == 60
    assert sum(len(u.text.split()) for u in splits[2]) == num_test_words
    for utterance in splits[2]:
        assert utterance.text == utterance.id.replace("_", " ").replace("1", "yes").replace("0", "no")
        assert audio.info(utterance.audio_filepath).duration == pytest.approx(utterance.duration)
    if split == "halves":
        assert min(u.id for u in splits[2]) > max(u.id for chosen in splits[:2] for u in chosen)


@pytest.mark.parametrize("yaml", recipe_yamls("yesno"), ids=lambda path: path.stem)
def test_the_recipe_runs(yaml, archive, tmp_path):
    run = run_recipe(yaml, tmp_path, archive=archive)
    assert run.wer["test"]["num_words"] == 240
    assert set(run.transcript.split()) <= {"yes", "no"}


def test_an_unpacked_folder_will_do_and_other_contents_will_not(archive, tmp_path):
    prepare = load_prepare("yesno")
    prepare(tmp_path / "first", archive=archive)
    unpacked = tmp_path / "first" / "waves_yesno"
    prepare(tmp_path / "second", archive=unpacked)
    ids = [
        [u.id for u in read_manifest(tmp_path / name / "alternate/train.jsonl")]
        for name in ("first", "second")
    ]
    assert ids[0] == ids[1]
    next(unpacked.rglob("1_*.wav")).unlink()
    with pytest.raises(DataError, match=r"expected 60 recordings named as .*found 59; give --archive"):
        prepare(tmp_path / "third", archive=unpacked)
    with pytest.raises(ConfigError, match="split: 'thirds' is neither alternate nor halves"):
        prepare(tmp_path / "third", archive=archive, split="thirds")
