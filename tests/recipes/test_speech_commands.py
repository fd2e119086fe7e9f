"""Speech Commands: stand-ins with the layout of its two archives; both tasks; a shrunk run of each."""

import shutil

import numpy as np
import pytest

from asr import audio
from asr.cli.config import load_prepare
from asr.data.manifest import read_manifest
from asr.errors import ConfigError, DataError
from recipes.speech_commands.prepare import COMMANDS
from tests.recipes.standin import pack, recipe_yamls, run_recipe, speak

SPEAKERS = ("004ae714", "0132a06d", "00f0204f", "0135f3f2")


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Return a folder with the two archives; neither has a folder at its top."""
    folder = tmp_path_factory.mktemp("archives")
    main, test = tmp_path_factory.mktemp("main"), tmp_path_factory.mktemp("test")
    rng = np.random.default_rng(0)
    lists = {"validation_list.txt": [], "testing_list.txt": []}
    for word in ("yes", "no", "bed", "tree"):
        for number, speaker in enumerate(SPEAKERS):
            for take in range(2):
                save(main / word / f"{speaker}_nohash_{take}.wav", speak(word, number))
        lists["validation_list.txt"].append(f"{word}/{SPEAKERS[2]}_nohash_0.wav")
        lists["testing_list.txt"] += [f"{word}/{SPEAKERS[3]}_nohash_{take}.wav" for take in range(2)]
    for name, lines in lists.items():
        (main / name).write_text("\n".join(lines) + "\n")
    for name in ("running_tap", "white_noise"):
        save(main / "_background_noise_" / f"{name}.wav", 0.1 * rng.standard_normal(16000 * 6))
    (main / "_background_noise_" / "README.md").write_text("what they are\n")
    for name in ("LICENSE", "README.md"):
        (main / name).write_text("text\n")
    for word in COMMANDS:
        # Some names in the test archive have their suffix twice.
        save(test / word / f"{SPEAKERS[3]}_nohash_0.wav.wav", speak("yes", 3))
    save(test / "_unknown_" / f"bed_{SPEAKERS[3]}_nohash_0.wav", speak("bed", 3))
    save(test / "_silence_" / "white_noise.1.wav", 0.1 * rng.standard_normal(16000))
    pack(main, folder / "speech_commands_v0.02.tar.gz")
    pack(test, folder / "speech_commands_test_set_v0.02.tar.gz")
    return folder


def save(path, samples):
    path.parent.mkdir(exist_ok=True)
    audio.save(path, samples, 16000)


def read(folder):
    return {split: read_manifest(folder / f"{split}.jsonl") for split in ("train", "dev", "test")}


def test_35_words_are_split_by_the_lists_of_the_corpus(archives, tmp_path):
    load_prepare("speech_commands")(tmp_path, archive=archives / "speech_commands_v0.02.tar.gz")
    splits = read(tmp_path / "35")
    assert {split: len(utterances) for split, utterances in splits.items()} == {
        "train": 4 * (2 + 2 + 1),
        "dev": 4,
        "test": 8,
    }
    assert {u.speaker for u in splits["test"]} == {SPEAKERS[3]}
    assert {u.id for u in splits["dev"]} == {
        f"{w}-{SPEAKERS[2]}_nohash_0" for w in ("yes", "no", "bed", "tree")
    }
    for utterance in splits["train"]:
        assert f"/{utterance.text}/{utterance.speaker}_nohash_" in utterance.audio_filepath
        assert utterance.duration == pytest.approx(audio.info(utterance.audio_filepath).duration)
    assert {u.id for u in read_manifest(tmp_path / "noise.jsonl")} == {"running_tap", "white_noise"}
    assert not list(tmp_path.rglob("left_out.tsv"))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")}
    load_prepare("speech_commands")(tmp_path, archive=archives)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")} == before


def test_12_classes_have_other_words_and_noise_and_the_test_archive(archives, tmp_path):
    load_prepare("speech_commands")(tmp_path, archive=archives, task=12)
    splits = read(tmp_path / "12")
    texts = {split: [u.text for u in utterances] for split, utterances in splits.items()}
    assert sorted(texts["test"]) == sorted([*COMMANDS, "unknown", "silence"])
    assert {u.text: u.speaker for u in splits["test"]}.items() >= {
        "unknown": SPEAKERS[3],
        "silence": None,
    }.items()
    # A tenth of the ten recordings of commands, and of the two of dev at least one.
    assert sorted(texts["train"]) == ["no"] * 5 + ["silence", "unknown"] + ["yes"] * 5
    assert sorted(texts["dev"]) == ["no", "silence", "unknown", "yes"]
    for split, low, high in (("train", 0, 0.8 * 6), ("dev", 0.8 * 6, 6)):
        (silence,) = [u for u in splits[split] if u.text == "silence"]
        assert "_background_noise_" in silence.audio_filepath
        assert low <= silence.offset <= silence.offset + silence.duration <= high
        (unknown,) = [u for u in splits[split] if u.text == "unknown"]
        assert unknown.id.split("-")[0] in ("bed", "tree")


@pytest.mark.parametrize("yaml", recipe_yamls("speech_commands"), ids=lambda path: path.stem)
def test_the_recipe_runs(yaml, archives, tmp_path):
    task = {"blstm": 35, "bgru": 12}[yaml.stem]
    run = run_recipe(yaml, tmp_path, archive=archives, overrides=[f"task={task}"])
    assert run.wer["test"]["num_words"] == len(run.manifests["test"])
    assert run.config["augment"]["noise"]["files"] == str(tmp_path / "data" / "noise.jsonl")


def test_what_is_left_out_is_told(archives, tmp_path):
    prepare, notes = load_prepare("speech_commands"), []
    prepare(tmp_path, archive=archives)
    corpus = tmp_path / "speech_commands_v0.02"
    (corpus / "yes" / f"{SPEAKERS[3]}_nohash_1.wav").unlink()
    (corpus / "yes" / f"{SPEAKERS[0]}_nohash_0.wav").write_bytes(b"")
    prepare(tmp_path / "again", archive=corpus, note=notes.append)
    listed = tmp_path / "again" / "35" / "left_out.tsv"
    assert notes == [f"2 left out (1 missing, 1 unreadable), listed in {listed}"]
    assert len(listed.read_text().splitlines()) == 2
    assert len(read(tmp_path / "again" / "35")["test"]) == 7


def test_what_cannot_be_used_is_one_clear_error(archives, tmp_path):
    prepare = load_prepare("speech_commands")
    with pytest.raises(ConfigError, match="task: 20 is neither 35 nor 12"):
        prepare(tmp_path, archive=archives, task=20)
    prepare(tmp_path, archive=archives)
    corpus = tmp_path / "speech_commands_v0.02"
    shutil.copytree(corpus, tmp_path / "speech_commands_test_set_v0.02")
    with pytest.raises(DataError, match=r"expected the folders yes, no, .*_unknown_, _silence_; delete it"):
        prepare(tmp_path / "again", archive=corpus, task=12)
    (corpus / "testing_list.txt").write_text("")
    with pytest.raises(
        DataError, match="no recordings for test; delete the folder and fetch speech_commands"
    ):
        prepare(tmp_path / "again", archive=corpus)
    (corpus / "testing_list.txt").unlink()
    with pytest.raises(
        DataError, match=r"expected Speech Commands, but it has no validation_list.txt, testing"
    ):
        prepare(tmp_path / "again", archive=corpus)
