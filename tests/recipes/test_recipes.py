"""AN4, FSDD and digits: a shrunk run of each trains a step. The other recipes are tested on stand-ins."""

import itertools
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asr import audio
from asr.cli.config import load_config, load_prepare, recipe_options
from asr.data.manifest import read_manifest, write_manifest
from asr.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
AT_HAND = ("an4", "digits", "fsdd")
YAMLS = sorted(path for name in AT_HAND for path in (ROOT / "recipes" / name).glob("*.yaml"))
IDS = [f"{p.parent.name}/{p.stem}" for p in YAMLS]
SHRUNK = [
    "trainer.epochs=1",
    "trainer.precision=32-true",
    "trainer.accelerator=cpu",
    "model.encoder.hidden_size=8",
    "model.encoder.num_layers=1",
    "model.subsampling.channels=8",
]


def test_every_other_recipe_is_run_on_a_stand_in():
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    for path in (ROOT / "recipes").glob("*/prepare.py"):
        name = path.parent.name
        assert name in AT_HAND or f'recipe_yamls("{name}")' in tests, f"no test runs recipes/{name}"


@pytest.mark.parametrize("path", YAMLS, ids=IDS)
def test_recipe_composes_and_trains_a_step(path, tmp_path, monkeypatch, archive):
    from asr.cli.evaluate import evaluate_manifest
    from asr.training.metrics import Monitor
    from asr.training.run import train

    class Quiet(Monitor):
        pass

    monkeypatch.chdir(tmp_path)
    config = load_config(str(path), [*SHRUNK, f"output_dir={tmp_path / 'run'}"])
    name = config["data"]["recipe"]
    options = {key: config[key] for key in recipe_options(config) if key in config}
    if name == "digits":
        options |= {"num_train": 6, "num_dev": 3, "num_test": 3}
    elif name == "an4":
        archive("an4_feat.tar.gz")
    elif name == "fsdd":
        archive("free-spoken-digit-dataset-1.0.10.tar.gz")
        options |= {key: min(options.get(key, 0), 10) for key in ("synthetic", "interludes")}
    load_prepare(name)(Path(config["data"]["dir"]), **options)
    for split in ("train", "dev"):
        shorten(Path(config["data"][split]))
    shorten(Path(config["data"]["test"]["test"]))
    recognizer = train(config, Quiet())
    result = evaluate_manifest(recognizer, Path(config["data"]["test"]["test"]), tmp_path / "run" / "test")
    assert result.score.num_words > 0
    assert (tmp_path / "run" / "model.asr").is_file()


def shorten(manifest: Path, lines: int = 24) -> None:
    """Keep an even spread of a manifest's lines."""
    everything = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(everything[:: max(1, len(everything) // lines)]))


@pytest.fixture(scope="module")
def an4(tmp_path_factory, archive):
    folder = tmp_path_factory.mktemp("an4")
    load_prepare("an4")(folder, archive=archive("an4_feat.tar.gz"))
    return {split: read_manifest(folder / f"{split}.jsonl") for split in ("train", "dev", "test")}


def test_an4_has_its_own_lists_and_dev_speakers_of_its_own(an4):
    # 948 training and 130 test utterances; the test set has 773 words (the corpus's README and lists).
    assert len(an4["train"]) + len(an4["dev"]) == 948
    assert len(an4["test"]) == 130
    assert sum(len(u.text.split()) for u in an4["test"]) == 773
    speakers = {split: {u.speaker for u in utterances} for split, utterances in an4.items()}
    assert not speakers["train"] & speakers["dev"]
    assert not (speakers["train"] | speakers["dev"]) & speakers["test"]
    assert len(speakers["dev"]) == 8


def make_sphere_archive(sample: Path, folder: Path) -> Path:
    """Make a small archive with the layout of AN4's waveform archive out of real AN4 recordings."""
    import soundfile

    with tarfile.open(sample) as tar:
        tar.extractall(folder, filter="data")
    waves = sorted((folder / "an4_wav_sample").rglob("wav/*.wav"))
    with tarfile.open(folder / "an4_sphere.tar.gz", "w:gz") as tar:
        for split, directory, chosen in (
            ("train", "an4_clstk", waves[:6]),
            ("test", "an4test_clstk", waves[6:9]),
        ):
            ids, lines = [], []
            for wave in chosen:
                speaker = wave.stem.split("-")[1]
                sphere = folder / f"{wave.stem}.sph"
                samples, rate = soundfile.read(wave, dtype="int16")
                soundfile.write(sphere, samples, rate, format="NIST", subtype="PCM_16", endian="BIG")
                tar.add(sphere, f"an4/wav/{directory}/{speaker}/{wave.stem}.sph")
                ids.append(f"{directory}/{speaker}/{wave.stem}")
                lines.append(f"<s> YES NO </s> ({wave.stem})")
            for name, content in (("fileids", ids), ("transcription", lines)):
                path = folder / f"an4_{split}.{name}"
                path.write_text("\n".join(content) + "\n")
                tar.add(path, f"an4/etc/{path.name}")
    return folder / "an4_sphere.tar.gz"


def test_an4_waveforms_have_the_same_layout_and_give_the_same_frames(tmp_path, archive):
    import torch

    from asr.build import build
    from asr.data.dataset import read_inputs

    sphere = make_sphere_archive(archive("an4_wav_sample.tar.gz"), tmp_path / "made")
    load_prepare("an4")(tmp_path / "waveforms", archive=sphere)
    load_prepare("an4")(tmp_path / "features", archive=archive("an4_feat.tar.gz"))
    config = load_config("recipes/an4/blstm.yaml")
    front_end = build(config["features"])
    from_files = {
        u.id: u
        for split in ("train", "dev", "test")
        for u in read_manifest(tmp_path / "features" / f"{split}.jsonl")
    }
    compared = 0
    for split in ("train", "dev", "test"):
        path = tmp_path / "waveforms" / f"{split}.jsonl"
        for utterance in read_manifest(path) if path.read_text() else []:
            assert utterance.text == "YES NO"
            wave = read_inputs(utterance, front_end.sample_rate, 13)
            assert utterance.duration == pytest.approx(len(wave) / 16000)
            frames = read_inputs(from_files[utterance.id], front_end.sample_rate, 13)
            computed, _ = front_end(wave[None], torch.tensor([len(wave)]))
            expected, _ = front_end(frames[None], torch.tensor([len(frames)]))
            torch.testing.assert_close(computed, expected, atol=1e-3, rtol=0)
            compared += 1
    assert compared >= 6


@pytest.mark.parametrize(("speaker", "sizes"), [("official", (2400, 300, 300)), ("theo", (2250, 250, 500))])
def test_fsdd_splits(speaker, sizes, tmp_path, archive):
    load_prepare("fsdd")(
        tmp_path, archive=archive("free-spoken-digit-dataset-1.0.10.tar.gz"), speaker=speaker
    )
    splits = [read_manifest(tmp_path / speaker / f"{name}.jsonl") for name in ("train", "dev", "test")]
    assert tuple(map(len, splits)) == sizes
    assert len({u.id for split in splits for u in split}) == 3000
    train, _, test = ({u.speaker for u in split} for split in splits)
    assert ("theo" in train) is (speaker == "official")
    assert (test == {"theo"}) is (speaker == "theo")
    if speaker == "official":
        assert {int(u.id.split("-")[2]) for u in splits[2]} == set(range(5))


def test_fsdd_takes_synthetic_voices_to_train_alone(tones, tmp_path, monkeypatch):
    prepare = load_prepare("fsdd")
    prepare(tmp_path, archive=tones, synthetic=12)
    train, test = (read_manifest(tmp_path / "official" / f"{name}.jsonl") for name in ("train", "test"))
    spoken = [u for u in train if u.id.startswith("synthetic")]
    assert [u.text for u in spoken[:3]] == ["zero", "one", "two"]
    assert len(spoken) == 12
    assert len({u.speaker.split("+")[1] for u in spoken}) == 2
    accents = {u.speaker.split("+")[0] for u in spoken}
    assert {accent.startswith("en") for accent in accents} == {True, False}
    assert all(0.1 < u.duration < 1.5 and audio.info(u.audio_filepath).sample_rate == 8000 for u in spoken)
    assert not any(u.id.startswith("synthetic") for u in test)

    before = {path: path.read_bytes() for path in (tmp_path / "synthetic").iterdir()}
    monkeypatch.setattr(audio, "save", lambda *args: pytest.fail("made again"))
    prepare(tmp_path, archive=tones, synthetic=12)
    assert before == {path: path.read_bytes() for path in (tmp_path / "synthetic").iterdir()}


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Return an archive with FSDD's layout: a digit is a tone, 0.04 to 0.14 s into 0.2 s of hiss."""
    path = tmp_path_factory.mktemp("tones") / "free-spoken-digit-dataset-1.0.10.tar.gz"
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for digit in range(10):
            samples = 1e-4 * rng.standard_normal(1600)
            samples[320:1120] += 0.5 * np.sin(2 * np.pi * tone(digit) * np.arange(800) / 8000)
            wave = path.with_name(f"{digit}.wav")
            audio.save(wave, samples, 8000)
            for speaker in ("george", "jackson", "lucas", "nicolas", "theo", "yweweler"):
                for index in range(50):
                    info = tarfile.TarInfo(
                        f"free-spoken-digit-dataset/recordings/{digit}_{speaker}_{index}.wav"
                    )
                    info.size = wave.stat().st_size
                    with wave.open("rb") as file:
                        tar.addfile(info, file)
    return path


def tone(digit: int) -> float:
    return 500.0 + 300.0 * digit


def test_joined_digits_are_what_the_manifest_says_when_it_says(tmp_path, tones):
    load_prepare("fsdd")(tmp_path, archive=tones, speaker="theo", joined=True)
    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    splits = {}
    for split in ("train", "dev", "test"):
        splits[split] = read_manifest(tmp_path / "theo" / "joined" / f"{split}.jsonl")
        for utterance in splits[split][:20]:
            samples = audio.load(utterance.audio_filepath, sample_rate=8000).samples
            assert len(samples) / 8000 == utterance.duration
            words = utterance.extra["words"]
            assert " ".join(word["word"] for word in words) == utterance.text
            loud = np.zeros(len(samples), bool)
            for word in words:
                start, end = (round(word[edge] * 8000) for edge in ("start", "end"))
                # Windows of 10 ms every 5 ms find the edges of a tone to within a window.
                assert 0.1 <= word["end"] - word["start"] <= 0.12
                loud[start:end] = True
                middle = samples[start + 80 : end - 80]
                peak = np.fft.rfftfreq(8000, 1 / 8000)[np.abs(np.fft.rfft(middle, 8000)).argmax()]
                assert abs(peak - tone(names.index(word["word"]))) < 20
            assert np.abs(samples[~loud]).max() < 0.01
            gaps = [b["start"] - a["end"] for a, b in itertools.pairwise(words)]
            assert all(0.05 < gap < 0.5 + 0.1 for gap in gaps)
    assert {split: len(utterances) for split, utterances in splits.items()} == {
        "train": 1000,
        "dev": 150,
        "test": 150,
    }
    assert {len(u.text.split()) for split in splits.values() for u in split} == {3, 4, 5, 6}
    assert {u.speaker for u in splits["test"]} == {"theo"}
    assert "theo" not in {u.speaker for u in splits["train"] + splits["dev"]}


def test_joined_digits_are_made_once_and_whole(tmp_path, tones):
    prepare = load_prepare("fsdd")

    def fail_late(done, total):
        if done == total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path, archive=tones, joined=True, progress=fail_late)
    assert {path.name for path in (tmp_path / "official").iterdir()} == {
        "train.jsonl",
        "dev.jsonl",
        "test.jsonl",
    }

    def contents():
        return {path: path.read_bytes() for path in (tmp_path / "official").rglob("*.*")}

    prepare(tmp_path, archive=tones, joined=True)
    first = contents()
    assert len(first) == 3 + 3 + 1300
    prepare(tmp_path, archive=tones, joined=True)
    assert contents() == first
    shutil.rmtree(tmp_path / "official")
    prepare(tmp_path, archive=tones, joined=True)
    assert contents() == first


def test_interludes_are_sounds_in_the_pauses_of_further_strings(tmp_path, tones):
    prepare = load_prepare("fsdd")
    prepare(tmp_path, archive=tones, joined=True, interludes=30)
    strings = read_manifest(tmp_path / "official" / "joined" / "train.jsonl")
    found = read_manifest(tmp_path / "official" / "interludes" / "train.jsonl")
    assert [u.id for u in found[:1000]] == [u.id for u in strings]
    added = found[1000:]
    assert len(added) == 30
    assert {len(u.text.split()) for u in added} == {1, 2, 3, 4, 5}
    for utterance in added:
        samples = audio.load(utterance.audio_filepath, sample_rate=8000).samples
        assert len(samples) / 8000 == utterance.duration
        assert np.abs(samples).max() > 0
    # Of noise and notes up to 2.5 s beside silences of up to 0.6 s and digits as long as `tones` makes them.
    longest = max(audio.info(path).duration for path in (tmp_path).rglob("recordings/*.wav"))
    words = [len(u.text.split()) for u in added]
    assert sum(u.duration > n * longest + (n + 1) * 0.6 for u, n in zip(added, words, strict=True)) >= 3
    heard = {(u.speaker, word) for u in strings for word in u.text.split()}
    assert {(u.speaker, word) for u in added for word in u.text.split()} <= heard
    before = {path: path.read_bytes() for path in (tmp_path / "official" / "interludes").iterdir()}
    prepare(tmp_path, archive=tones, joined=True, interludes=30)
    assert before == {path: path.read_bytes() for path in (tmp_path / "official" / "interludes").iterdir()}


def test_further_digits_come_to_train_alone(tmp_path, tones):
    prepare = load_prepare("fsdd")
    prepare(tmp_path / "a", archive=tones)
    more = read_manifest(tmp_path / "a" / "official" / "test.jsonl")[:7]
    write_manifest(tmp_path / "more.jsonl", [replace(u, id=f"an4-{u.id}") for u in more])
    prepare(tmp_path / "b", archive=tones, speaker="theo", voices=str(tmp_path / "more.jsonl"))
    splits = {s: read_manifest(tmp_path / "b" / "theo" / f"{s}.jsonl") for s in ("train", "dev", "test")}
    assert {s: sum(u.id.startswith("an4-") for u in us) for s, us in splits.items()} == {
        "train": 7,
        "dev": 0,
        "test": 0,
    }


def test_joined_digits_of_the_corpus_are_those_of_the_readme(tmp_path, archive):
    load_prepare("fsdd")(tmp_path, archive=archive("free-spoken-digit-dataset-1.0.10.tar.gz"), joined=True)
    folder = tmp_path / "official" / "joined"
    # Word counts and minutes as in recipes/fsdd/README.md, whose figures rest on these very strings.
    for split, words, minutes in (("train", 4487, 57.1), ("dev", 654, 8.3), ("test", 654, 8.2)):
        utterances = read_manifest(folder / f"{split}.jsonl")
        assert sum(len(u.text.split()) for u in utterances) == words
        assert sum(u.duration for u in utterances) / 60 == pytest.approx(minutes, abs=0.05)


@pytest.mark.parametrize(
    ("recipe", "options", "error", "message"),
    [
        ("fsdd", {"synthetic": -1}, ConfigError, "synthetic=-1: give 0 or more"),
        ("fsdd", {"interludes": -1}, ConfigError, "interludes=-1: give 0 or more"),
        ("fsdd", {"interludes": 9}, ConfigError, "interludes=9: belong to joined strings"),
        ("fsdd", {"speaker": "nobody"}, ConfigError, "speaker: 'nobody' is none of official, george"),
        ("an4", {"kind": "video"}, ConfigError, "kind: 'video' is neither"),
        ("an4", {"archive": Path("none.tar.gz")}, DataError, "none.tar.gz: no such archive"),
    ],
)
def test_options_that_no_recipe_has_are_refused(recipe, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        load_prepare(recipe)(tmp_path, **options)


def test_an_archive_of_something_else_is_refused(tmp_path, archive):
    with pytest.raises(DataError, match="no an4/etc inside"):
        load_prepare("an4")(tmp_path, archive=archive("free-spoken-digit-dataset-1.0.10.tar.gz"))


def test_audio_is_read_where_the_manifest_says(tmp_path, archive):
    load_prepare("fsdd")(tmp_path, archive=archive("free-spoken-digit-dataset-1.0.10.tar.gz"))
    utterance = read_manifest(tmp_path / "official" / "test.jsonl")[0]
    assert audio.info(utterance.audio_filepath).sample_rate == 8000
