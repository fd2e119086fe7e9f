"""LibriSpeech and mini LibriSpeech from stand-ins with their layout: FLAC, a transcript a chapter."""

import gzip
import random
import shutil
import subprocess
import sys
import time

import pytest
import soundfile

from asr.cli.config import load_prepare
from asr.cli.main import main
from asr.data.manifest import read_manifest
from asr.errors import ConfigError, DataError
from tests.recipes.standin import SENTENCES, pack, recipe_yamls, run_recipe, speak

SUBSETS = {
    "train-clean-100": {"103": "F", "1034": "M"},
    "train-clean-360": {"14": "F"},
    "train-other-500": {"20": "M"},
    "dev-clean": {"84": "F"},
    "dev-other": {"116": "M"},
    "test-clean": {"61": "M"},
    "test-other": {"367": "F"},
    "train-clean-5": {str(speaker): "F" for speaker in range(1088, 1097)},
    "dev-clean-2": {"84": "F"},
}
PIECES = ["tokenizer.vocabulary_size=30"]


def write_subset(root, subset):
    """Write ``LibriSpeech/<subset>`` with two chapters a speaker, but one of many."""
    many = len(SUBSETS[subset]) > 2
    count = 1 if many else 3
    for number, speaker in enumerate(SUBSETS[subset]):
        for chapter in ("1240",) if many else ("1240", "1241"):
            folder = root / "LibriSpeech" / subset / speaker / chapter
            folder.mkdir(parents=True)
            lines = []
            for i in range(count):
                text = SENTENCES[(number + i + int(chapter)) % len(SENTENCES)]
                name = f"{speaker}-{chapter}-{i:04d}"
                soundfile.write(folder / f"{name}.flac", speak(text, int(speaker)), 16000)
                lines.append(f"{name} {text.upper()}\n")
            (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))


def write_speakers(root):
    rows = [
        f"{speaker:<6}| {sex} | {subset:<16} | 25.03 | A Reader\n"
        for subset, speakers in SUBSETS.items()
        for speaker, sex in speakers.items()
    ]
    (root / "LibriSpeech" / "SPEAKERS.TXT").write_text(
        ";ID    |SEX| SUBSET           |MINUTES| NAME\n;\n" + "".join(rows)
    )


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """A folder with the archives, as downloaded."""
    folder = tmp_path_factory.mktemp("archives")
    for subset in SUBSETS:
        root = tmp_path_factory.mktemp(subset)
        write_subset(root, subset)
        write_speakers(root)
        pack(root, folder / f"{subset}.tar.gz")
    with gzip.open(folder / "librispeech-lm-norm.txt.gz", "wt") as file:
        file.writelines(f"{sentence.upper()}\n" for sentence in SENTENCES)
    return folder


@pytest.mark.parametrize("yaml", recipe_yamls("librispeech"), ids=lambda path: path.stem)
def test_librispeech_runs(yaml, archives, tmp_path):
    pieces = PIECES if yaml.stem != "ds2" else []
    run = run_recipe(yaml, tmp_path, archive=archives, overrides=pieces)
    assert set(run.manifests) == {"train", "dev", "test_clean", "test_other"}
    assert {name: {u.speaker for u in found} for name, found in run.manifests.items()} == {
        "train": {"103", "1034"},
        "dev": {"84", "116"},
        "test_clean": {"61"},
        "test_other": {"367"},
    }
    first = run.manifests["train"][0]
    assert first.id == "103-1240-0000"
    assert first.text == SENTENCES[1240 % 8].upper()
    assert (first.lang, first.extra["sex"]) == ("en", "F")
    assert first.duration == pytest.approx(len(speak(first.text.lower(), 103)) / 16000)
    words = sum(len(u.text.split()) for u in run.manifests["test_other"])
    assert run.wer["test_other"]["num_words"] == words


@pytest.mark.parametrize("yaml", recipe_yamls("mini_librispeech"), ids=lambda path: path.stem)
def test_mini_librispeech_runs(yaml, archives, tmp_path):
    run = run_recipe(yaml, tmp_path, archive=archives)
    assert set(run.manifests) == {"train", "dev", "dev_clean_2"}
    assert {u.speaker for u in run.manifests["train"]} == {str(speaker) for speaker in range(1088, 1096)}
    assert {u.speaker for u in run.manifests["dev"]} == {"1096"}  # the ninth
    assert {u.speaker for u in run.manifests["dev_clean_2"]} == {"84"}


def test_the_parts_of_960_hours_are_joined_and_may_lie_unpacked(archives, tmp_path):
    prepare = load_prepare("librispeech")
    tree = tmp_path / "corpora"
    for subset in SUBSETS:
        if subset not in ("train-clean-5", "dev-clean-2"):
            shutil.unpack_archive(archives / f"{subset}.tar.gz", tree, filter="data")
    notes = []
    prepare(tmp_path / "data", archive=tree / "LibriSpeech", train=960, note=notes.append)
    train = read_manifest(tmp_path / "data" / "train_960.jsonl")
    assert [u.speaker for u in train[::6]] == ["103", "1034", "14", "20"]
    assert "train-clean-360: 6 of its 104014 utterances are in" in " ".join(notes)
    both = read_manifest(tmp_path / "data" / "dev.jsonl")
    parts = [read_manifest(tmp_path / "data" / f"dev_{kind}.jsonl") for kind in ("clean", "other")]
    assert both == [*parts[0], *parts[1]]
    # Again, with the archives beside: the same, byte for byte, though the audio lies elsewhere.
    first = (tmp_path / "data" / "train_960.jsonl").read_bytes()
    prepare(tmp_path / "data", archive=tree / "LibriSpeech", train=960)
    assert (tmp_path / "data" / "train_960.jsonl").read_bytes() == first


def test_paths_are_relative_where_the_corpus_is_inside(archives, tmp_path, monkeypatch):
    monkeypatch.setenv("ASR_ARCHIVES", str(archives))
    load_prepare("mini_librispeech")(tmp_path / "data")
    line = (tmp_path / "data" / "dev_clean_2.jsonl").read_text().splitlines()[0]
    assert '"audio_filepath": "dev-clean-2/LibriSpeech/dev-clean-2/84/1240/84-1240-0000.flac"' in line


def test_the_text_for_language_models_is_what_asr_lm_takes(archives, tmp_path, monkeypatch):
    monkeypatch.setenv("ASR_ARCHIVES", str(archives))
    load_prepare("librispeech")(tmp_path, lm_text=True)
    text = tmp_path / "librispeech-lm-norm.txt.gz"
    output = tmp_path / "lm.arpa"
    assert main(["lm", "train", str(text), "--normalize", "lower", "--order", "2", "-o", str(output)]) == 0
    assert "\tclosed" in output.read_text()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: (f / "84-1240-0001.flac").unlink(),
            r"84-1240\.trans\.txt:2: there is no 84-1240-0001\.flac",
        ),
        (lambda f: (f / "84-1240.trans.txt").write_text("99-1-0001 HI\n"), "'99-1-0001' is no utterance"),
        (
            lambda f: [p.unlink() for p in f.parent.glob("*/*.txt")],
            r"dev-clean-2: no \*/\*/\*\.trans\.txt inside",
        ),
        (lambda f: (f / "84-1240.trans.txt").write_bytes(b"\xff"), r"84-1240\.trans\.txt: cannot be read"),
    ],
    ids=["no-recording", "other-chapter", "no-transcripts", "not-utf8"],
)
def test_a_tree_that_is_not_whole_is_named(archives, tmp_path, damage, message):
    tree = tmp_path / "corpora"
    for subset in ("train-clean-5", "dev-clean-2"):
        shutil.unpack_archive(archives / f"{subset}.tar.gz", tree, filter="data")
    damage(tree / "LibriSpeech" / "dev-clean-2" / "84" / "1240")
    with pytest.raises(DataError, match=message) as error:
        load_prepare("mini_librispeech")(tmp_path / "data", archive=tree)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "data").glob("*.jsonl"))


def test_what_is_left_out_is_counted(archives, tmp_path):
    tree = tmp_path / "corpora"
    for subset in ("train-clean-5", "dev-clean-2"):
        shutil.unpack_archive(archives / f"{subset}.tar.gz", tree, filter="data")
    chapter = tree / "LibriSpeech" / "dev-clean-2" / "84" / "1240"
    (chapter / "84-1240.trans.txt").write_text("84-1240-0000 \n84-1240-0001 WELL\n")
    (tree / "LibriSpeech" / "SPEAKERS.TXT").unlink()
    notes = []
    load_prepare("mini_librispeech")(tmp_path / "data", archive=tree, note=notes.append)
    assert "dev-clean-2: 1 recordings without a transcript left out, the first 84-1240-0002" in notes
    assert "dev-clean-2: 1 transcripts without words left out, the first 84-1240-0000" in notes
    found = read_manifest(tmp_path / "data" / "dev_clean_2.jsonl")
    assert len(found) == 4
    assert "sex" not in found[0].extra


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"train": 500}, ConfigError, "train: 500 is none of 100, 460, 960 hours"),
        ({"archive": "dev-clean.tar.gz"}, DataError, r"is one file, but 5 archives are needed"),
    ],
)
def test_options_that_cannot_be_are_refused(archives, tmp_path, options, error, message):
    if "archive" in options:
        options = {"archive": archives / options["archive"]}
    with pytest.raises(error, match=message):
        load_prepare("librispeech")(tmp_path, **options)


def test_asr_prepare_says_what_it_does(archives, tmp_path, capsys):
    data = tmp_path / "data"
    command = ["prepare", "recipes/mini_librispeech", "--archive", str(archives), "--output-dir", str(data)]
    assert main(command) == 0
    first, second, third = capsys.readouterr().err.splitlines()
    assert first.startswith("note: unpacking train-clean-5.tar.gz (")
    assert second.startswith("note: unpacking dev-clean-2.tar.gz (")
    assert third == f"manifests are under {data}"
    manifests = {path: path.read_bytes() for path in data.glob("*.jsonl")}
    assert main(command) == 0
    assert {path: path.read_bytes() for path in data.glob("*.jsonl")} == manifests
    assert capsys.readouterr().err.splitlines() == [third]


@pytest.mark.slow
def test_killed_at_any_moment_and_started_twice_at_once_it_ends_as_if_undisturbed(archives, tmp_path):
    def start(folder):
        command = ["prepare", "recipes/mini_librispeech", "--archive", archives, "--output-dir", folder]
        return subprocess.Popen([sys.executable, "-m", "asr.cli.main", *command], stderr=subprocess.DEVNULL)

    def contents(folder):
        return {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}

    started = time.monotonic()
    assert start(tmp_path / "undisturbed").wait() == 0
    seconds = time.monotonic() - started
    disturbed = tmp_path / "disturbed"
    for _ in range(6):
        process = start(disturbed)
        time.sleep(random.uniform(0.3, 1.0) * seconds)
        process.kill()
        process.wait()
    both = [start(disturbed), start(disturbed)]
    assert [process.wait() for process in both] == [0, 0]
    assert contents(disturbed) == contents(tmp_path / "undisturbed")
    assert not list(disturbed.glob("*.unpacking")) + list(disturbed.glob(".*.tmp"))
