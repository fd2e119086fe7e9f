"""LJSpeech from a stand-in with its layout: metadata.csv between bars, 22.05 kHz WAV, an archive in bzip2."""

import shutil

import pytest
import soundfile

from asr import audio
from asr.cli.config import load_prepare
from asr.data.manifest import read_manifest
from asr.errors import AudioError, ConfigError, DataError
from tests.recipes.standin import SENTENCES, pack, recipe_yamls, run_recipe, speak

SIZES = ["num_dev=2", "num_test=3"]


def write_corpus(root):
    corpus = root / "LJSpeech-1.1"
    (corpus / "wavs").mkdir(parents=True)
    rows = []
    for i in reversed(range(12)):  # the order of the file is not that of the names
        text = SENTENCES[i % len(SENTENCES)]
        name = f"LJ{1 + i // 6:03d}-{1 + i % 6:04d}"
        soundfile.write(corpus / "wavs" / f"{name}.wav", speak(text, 5, 22050), 22050, subtype="PCM_16")
        rows.append(
            f'{name}|{text.capitalize()} in 1836, said "Dr." Ross;|{text.capitalize()}, “said” Ross;\n'
        )
    (corpus / "metadata.csv").write_text("".join(rows), encoding="utf-8")
    (corpus / "README").write_text("a stand-in\n")
    return corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def archive(corpus, tmp_path_factory):
    return pack(corpus.parent, tmp_path_factory.mktemp("archive") / "LJSpeech-1.1.tar.bz2")


@pytest.mark.parametrize("yaml", recipe_yamls("ljspeech"), ids=lambda path: path.stem)
def test_ljspeech_runs(yaml, archive, tmp_path):
    run = run_recipe(yaml, tmp_path, archive=archive, overrides=SIZES)
    assert {name: len(found) for name, found in run.manifests.items()} == {"train": 7, "dev": 2, "test": 3}
    # In the order of the names: train first, test last, as ESPnet's recipe splits the corpus.
    names = [u.id for split in ("train", "dev", "test") for u in run.manifests[split]]
    assert names == sorted(names)
    # Punctuation is neither trained on nor scored: "…, “said” Ross;" counts two words more than the sentence.
    first = run.manifests["test"][0]
    assert first.text.endswith("Ross;")
    expected = sum(len(SENTENCES[i % len(SENTENCES)].split()) + 2 for i in (9, 10, 11))
    assert run.wer["test"]["num_words"] == expected


def test_the_unpacked_folder_will_do_and_the_clips_are_as_they_are(corpus, tmp_path):
    notes = []
    for given in (corpus, corpus.parent):
        load_prepare("ljspeech")(tmp_path, archive=given, num_dev=2, num_test=3, note=notes.append)
    assert notes[0] == f"12 of the corpus's 13100 clips are in {corpus}"
    utterance = read_manifest(tmp_path / "train.jsonl")[0]
    info = audio.info(utterance.audio_filepath)
    assert info.sample_rate == 22050
    assert utterance.duration == info.duration
    assert (utterance.id, utterance.speaker, utterance.lang) == ("LJ001-0001", "LJ", "en")


def test_a_clip_without_text_is_left_out_and_counted(corpus, tmp_path):
    tree = tmp_path / "LJSpeech-1.1"
    shutil.copytree(corpus, tree)
    metadata = tree / "metadata.csv"
    metadata.write_text(metadata.read_text() + "LJ003-0001||\n")
    notes = []
    load_prepare("ljspeech")(tmp_path / "data", archive=tree, num_dev=2, num_test=3, note=notes.append)
    assert "1 clips without text left out, the first LJ003-0001" in notes


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (
            lambda c: (c / "metadata.csv").write_text("LJ001-0001|one\n"),
            DataError,
            r"metadata\.csv:1: not 'name\|",
        ),
        (lambda c: (c / "metadata.csv").write_bytes(b"\xff"), DataError, r"metadata\.csv: cannot be read"),
        (lambda c: (c / "wavs" / "LJ001-0003.wav").unlink(), AudioError, r"LJ001-0003\.wav"),
        (lambda c: (c / "metadata.csv").unlink(), DataError, r"holds neither LJSpeech-1\.1\.tar\.bz2 nor"),
    ],
    ids=["two-fields", "not-utf8", "no-clip", "no-metadata"],
)
def test_a_tree_that_is_not_whole_is_named(corpus, tmp_path, damage, error, message):
    tree = tmp_path / "LJSpeech-1.1"
    shutil.copytree(corpus, tree)
    damage(tree)
    with pytest.raises(error, match=message):
        load_prepare("ljspeech")(tmp_path / "data", archive=tree, num_dev=2, num_test=3)
    assert not list((tmp_path / "data").glob("*.jsonl"))


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ({"num_dev": 0}, ConfigError, "num_dev: 0 clips; give 1 or more"),
        ({"num_test": 12}, DataError, r"12 clips are too few for num_dev=250 num_test=12"),
    ],
)
def test_a_split_that_cannot_be_is_refused(corpus, tmp_path, sizes, error, message):
    with pytest.raises(error, match=message):
        load_prepare("ljspeech")(tmp_path, archive=corpus, **sizes)
