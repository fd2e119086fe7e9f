"""VoxForge: stand-ins of submissions with the corpus's layout and its well-known faults."""

import shutil
from pathlib import Path

import pytest
import soundfile

from asr.cli.config import load_prepare
from asr.data.manifest import read_manifest
from asr.errors import ConfigError, DataError
from tests.recipes.standin import SENTENCES, pack, recipe_yamls, run_recipe, speak

USERS = ("ann", "Bob", "carl", "dora", "emil", "fay", "gus", "hal", "ida", "jon")
SHARES = {"dev_share": 0.2, "test_share": 0.2}
SPLITS = ("train", "dev", "test")


def write_submission(folder: Path, voice: int, kind: str = "wav", count: int = 2) -> Path:
    """Write a submission as VoxForge's applet does: audio, prompts in capitals and as shown, a README."""
    names = [f"a{10 * voice + take:04d}" for take in range(count)]
    texts = [SENTENCES[(voice + take) % 8] for take in range(count)]
    (folder / "etc").mkdir(parents=True)
    (folder / kind).mkdir()
    prompts = [f"{folder.name}/mfc/{name} {text.upper()}" for name, text in zip(names, texts, strict=True)]
    shown = [f"{name} {text.capitalize()}." for name, text in zip(names, texts, strict=True)]
    for name, text in zip(names, texts, strict=True):
        soundfile.write(folder / kind / f"{name}.{kind}", speak(text, voice), 16000)
    (folder / "etc" / "PROMPTS").write_text("\n".join(prompts) + "\n")
    (folder / "etc" / "prompts-original").write_text("\n".join(shown) + "\n")
    (folder / "etc" / "README").write_text(
        f"User Name:{folder.name.split('-')[0]}\n\nSpeaker Characteristics:\n\nGender: Female;\n"
        "Age Range: Adult\nLanguage: EN\nPronunciation dialect: American English\n\n"
        "Recording Information:\n\nMicrophone make: n/a\n"
    )
    (folder / "LICENSE").write_text("GPL\n")
    return folder


def pack_submission(folder: Path, archives: Path) -> Path:
    """Make the ``.tgz`` of a submission, which has its folder at the top, and remove the folder."""
    top = folder.parent / f"top-{folder.name}"
    top.mkdir()
    folder.rename(top / folder.name)
    return pack(top, archives / f"{folder.name}.tgz")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Return a folder of submissions, most of them archives, one of them unpacked."""
    folder, work = tmp_path_factory.mktemp("16kHz_16bit"), tmp_path_factory.mktemp("work")
    for number, user in enumerate(USERS[1:]):
        kind = "flac" if number == 3 else "wav"
        pack_submission(write_submission(work / f"{user}-20090101-abc", number, kind), folder)
    write_submission(folder / "ann-20080318-kdl", 9)
    return folder


def read(folder: Path):
    return {split: read_manifest(folder / f"{split}.jsonl") for split in SPLITS}


def test_no_speaker_is_in_two_splits_and_a_larger_corpus_moves_none(corpus, tmp_path):
    load_prepare("voxforge")(tmp_path / "data", archive=corpus, **SHARES)
    splits = read(tmp_path / "data")
    speakers = {split: {u.speaker for u in utterances} for split, utterances in splits.items()}
    assert sum(map(len, speakers.values())) == len(set.union(*speakers.values())) == 10
    for utterance in (u for split in splits.values() for u in split):
        assert utterance.text == utterance.text.upper()
        assert utterance.extra == {"gender": "female", "age": "adult", "dialect": "american english"}
        assert utterance.lang == "en"
    assert any(u.audio_filepath.endswith(".flac") for split in splits.values() for u in split)

    shutil.copytree(corpus, tmp_path / "larger")
    for number, user in enumerate(("kim", "ANN")):
        write_submission(tmp_path / "larger" / f"{user}-20100101-xyz", 10 + number)
    load_prepare("voxforge")(tmp_path / "data2", archive=tmp_path / "larger", **SHARES)
    for split, utterances in read(tmp_path / "data2").items():
        assert {u.speaker for u in utterances} - {"kim"} == speakers[split]


def test_well_known_faults_are_left_out_and_told(corpus, tmp_path):
    folder = tmp_path / "16kHz_16bit"
    shutil.copytree(corpus, folder)
    (folder / "damaged-20090101-abc.tgz").write_bytes(b"not an archive")
    no_prompts = write_submission(folder / "kim-20090101-abc", 1)
    (no_prompts / "etc" / "PROMPTS").unlink()
    (no_prompts / "etc" / "README").write_bytes("Gender: männlich\nAge Range: [unknown]\n".encode("cp1252"))
    one_prompt = write_submission(folder / "lea-20090101-abc", 2)
    lines = (one_prompt / "etc" / "PROMPTS").read_text().splitlines()
    (one_prompt / "etc" / "PROMPTS").write_text(lines[0] + "\n")
    (one_prompt / "etc" / "prompts-original").unlink()
    empty = write_submission(folder / "mia-20090101-abc", 3)
    next((empty / "wav").iterdir()).write_bytes(b"")
    silent = write_submission(folder / "ned-20090101-abc", 4)
    shutil.rmtree(silent / "wav")
    (silent / "flac").mkdir()
    for number, name in enumerate(("anonymous-20071001-abc", "anonymous-20071002-def")):
        write_submission(folder / name, 5 + number)
    notes = []
    load_prepare("voxforge")(tmp_path / "data", archive=folder, note=notes.append, **SHARES)
    utterances = [u for split in read(tmp_path / "data").values() for u in split]
    found = {u.id: u for u in utterances}
    assert found["kim-20090101-abc_a0010"].text == SENTENCES[1].capitalize() + "."
    assert found["kim-20090101-abc_a0010"].extra == {"gender": "männlich"}
    assert {u.id for u in utterances if u.speaker == "lea"} == {"lea-20090101-abc_a0020"}
    assert len([u for u in utterances if u.speaker == "mia"]) == 1
    assert {u.speaker for u in utterances if "anonymous" in u.speaker} == {
        "anonymous-20071001-abc",
        "anonymous-20071002-def",
    }
    counts = "1 damaged archives, 1 without a prompt, 1 submissions without audio, 1 unreadable"
    assert notes[-1] == f"4 left out ({counts}), listed in {tmp_path / 'data' / 'left_out.tsv'}"


def test_an_interrupted_preparation_goes_on(corpus, tmp_path):
    def stop(done, total):
        if done == 4:
            raise KeyboardInterrupt

    prepare = load_prepare("voxforge")
    prepare(tmp_path / "whole", archive=corpus, **SHARES)
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "data", archive=corpus, progress=stop, **SHARES)
    assert not list((tmp_path / "data").glob("*.jsonl"))
    (tmp_path / "data" / "submissions" / ".jon-20090101-abc.x.unpacking").mkdir()
    prepare(tmp_path / "data", archive=corpus, **SHARES)
    assert not list((tmp_path / "data" / "submissions").glob(".*"))
    for split, utterances in read(tmp_path / "whole").items():
        again = read_manifest(tmp_path / "data" / f"{split}.jsonl")
        assert [(u.id, u.text, u.duration) for u in again] == [(u.id, u.text, u.duration) for u in utterances]


@pytest.mark.parametrize("yaml", recipe_yamls("voxforge"), ids=lambda path: path.stem)
def test_the_recipe_runs(yaml, corpus, tmp_path):
    overrides = [f"{name}={value}" for name, value in SHARES.items()]
    run = run_recipe(yaml, tmp_path, archive=corpus, overrides=overrides)
    assert run.wer["test"]["num_words"] == sum(len(u.text.split()) for u in run.manifests["test"])


def test_what_cannot_be_used_is_one_clear_error(corpus, tmp_path):
    prepare = load_prepare("voxforge")
    with pytest.raises(
        ConfigError, match=r"dev_share=0\.5, test_share=0\.5: must be above 0, and below 1 togeth"
    ):
        prepare(tmp_path, archive=corpus, dev_share=0.5, test_share=0.5)
    with pytest.raises(
        DataError, match=r"none of the 10 speakers falls into dev .*change dev_share and test_sh"
    ):
        prepare(tmp_path / "data", archive=corpus, dev_share=1e-6)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"expected VoxForge, but it has no submissions as .*; give --archive"
    ):
        prepare(tmp_path / "data", archive=tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "submissions").write_text("in the way")
    with pytest.raises(DataError, match="cannot be unpacked there"):
        prepare(tmp_path / "full", archive=corpus, **SHARES)
