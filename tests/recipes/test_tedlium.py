"""TED-LIUM from a stand-in with its layout: talks as NIST SPHERE, transcripts as STM, a legacy split."""

import numpy as np
import pytest

from asr import audio
from asr.cli.config import load_prepare
from asr.data.manifest import read_manifest
from asr.errors import ConfigError, DataError
from tests.recipes.standin import SENTENCES, pack, recipe_yamls, run_recipe, speak, write_sphere

PIECES = ["tokenizer.vocabulary_size=30"]


def write_talk(folder, name, sentences, label="<o,f0,male>", gap=0.5):
    """Write a talk with pauses of `gap` seconds and its STM; return the segments' starts and ends."""
    parts, lines, times, position = [np.zeros(int(16000 * gap))], [], [], gap
    for i, sentence in enumerate(sentences):
        samples = speak(SENTENCES[i % len(SENTENCES)], len(name) + i)
        start, end = position, position + len(samples) / 16000
        lines.append(f"{name} 1 {name} {start:.2f} {end:.2f} {label} {sentence}\n")
        times.append((round(start, 2), round(end, 2)))
        parts += [samples, np.zeros(int(16000 * gap))]
        position = sum(map(len, parts)) / 16000
    write_sphere(folder / "sph" / f"{name}.sph", np.concatenate(parts), 16000)
    (folder / "stm").mkdir(parents=True, exist_ok=True)
    (folder / "stm" / f"{name}.stm").write_text(";; a talk\n" + "".join(lines))
    return times


def write_release(root, top="TEDLIUM_release-3", legacy="legacy/", label="<NA>"):
    """Write the tree of a release; in 3 the training talks lie in data/, to which legacy/train links."""
    corpus = root / top
    train = corpus / ("data" if legacy else "train")
    write_talk(train, "AlGore_2009", SENTENCES[:4], label)
    write_talk(train, "Bono_2013", SENTENCES[4:], label)
    if legacy:
        link = corpus / "legacy" / "train"
        link.mkdir(parents=True)
        for kind in ("sph", "stm"):
            (link / kind).symlink_to(f"../../data/{kind}")
    write_talk(corpus / f"{legacy}dev", "Dan_2010", SENTENCES[:3], "<F0_M>")
    write_talk(corpus / f"{legacy}test", "Eve_2011", SENTENCES[2:5], "<o,f0,female>")
    return corpus


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    write_release(root)
    return pack(root, tmp_path_factory.mktemp("archive") / "TEDLIUM_release-3.tgz")


@pytest.mark.parametrize("yaml", recipe_yamls("tedlium"), ids=lambda path: path.stem)
def test_tedlium_runs(yaml, archive, tmp_path):
    run = run_recipe(yaml, tmp_path, archive=archive, overrides=PIECES if yaml.stem != "ds2" else [])
    assert {name: len(found) for name, found in run.manifests.items()} == {"train": 8, "dev": 3, "test": 3}
    assert {u.speaker for u in run.manifests["train"]} == {"AlGore_2009", "Bono_2013"}
    assert run.wer["test"]["num_words"] == sum(len(text.split()) for text in SENTENCES[2:5])


@pytest.mark.parametrize(("release", "top"), [(1, "TEDLIUM_release1"), (2, "TEDLIUM_release2")])
def test_the_first_releases_have_their_own_layout(release, top, tmp_path):
    corpus = write_release(tmp_path / "tree", top, "", "<o,f0,male>")
    for i, given in enumerate((corpus, corpus.parent)):
        load_prepare("tedlium")(tmp_path / str(i), archive=given, release=release)
        train = read_manifest(tmp_path / str(i) / f"release{release}" / "train.jsonl")
        assert [u.text for u in train] == list(SENTENCES)


TEXTS = [
    # What the transcript has, what is trained on: Kaldi's egs/tedlium (join_suffix.py, prepare_data.sh).
    ("it 's what you 're told (AlGore_2009-1-F0_M-S1)", "it's what you're told"),
    ("the(2) road <sil> is a(3) long one", "the road is a long one"),
    ("{NOISE} and so {BREATH} on {COUGH}", "and so on"),
    ("<unk> because of <unk> 's plan", "because of plan"),
    ("he said ' tis so", "he said' tis so"),
    ("ignore_time_segment_in_scoring", None),
    ("{NOISE} <unk>", None),
]


def test_transcripts_are_read_as_kaldi_reads_them_and_the_rest_is_counted(tmp_path):
    corpus = write_release(tmp_path / "tree")
    times = write_talk(corpus / "legacy" / "test", "Fay_2012", [text for text, _ in TEXTS])
    notes = []
    load_prepare("tedlium")(tmp_path / "data", archive=corpus, note=notes.append)
    test = read_manifest(tmp_path / "data" / "release3" / "test.jsonl")
    found = [u for u in test if u.speaker == "Fay_2012"]
    assert [u.text for u in found] == [text for _, text in TEXTS if text]
    start, end = times[0]
    assert found[0].id == f"Fay_2012-{round(100 * start):07d}-{round(100 * end):07d}"
    assert found[0].offset == start
    assert found[0].duration == pytest.approx(end - start, abs=1e-3)
    for note in (
        "test: left out 1 segments that are not to be scored",
        "test: left out 1 segments without words",
        "test: left out 2 unknown words (<unk>) of segments that are kept",
    ):
        assert note in notes


def test_training_segments_reach_into_the_pauses_around_them_but_not_further(tmp_path):
    corpus = write_release(tmp_path / "tree")
    wide = write_talk(corpus / "data", "Gus_2014", SENTENCES[:3], gap=1.0)
    close = write_talk(corpus / "data", "Hal_2015", SENTENCES[:3], gap=0.1)
    load_prepare("tedlium")(tmp_path / "data", archive=corpus)
    train = read_manifest(tmp_path / "data" / "release3" / "train.jsonl")
    for talk, times, lead, tail in (("Gus_2014", wide, 0.15, 0.1), ("Hal_2015", close, 0.05, 0.05)):
        found = [u for u in train if u.speaker == talk]
        for utterance, (start, end) in zip(found, times, strict=True):
            assert utterance.offset == pytest.approx(start - lead, abs=0.011)
            assert utterance.offset + utterance.duration == pytest.approx(end + tail, abs=0.011)
            samples = audio.load(
                utterance.audio_filepath,
                sample_rate=16000,
                offset=utterance.offset,
                duration=utterance.duration,
            ).samples
            assert np.abs(samples[: int(16000 * lead * 0.9)]).max() < 0.05 < np.abs(samples).max()


def test_a_segment_behind_the_end_of_its_talk_is_cut_or_left_out(tmp_path):
    corpus = write_release(tmp_path / "tree")
    write_talk(corpus / "legacy" / "dev", "Ida_2016", SENTENCES[:1])
    stm = corpus / "legacy" / "dev" / "stm" / "Ida_2016.stm"
    stm.write_text("Ida_2016 1 Ida 0.50 900.00 <NA> too long\nIda_2016 1 Ida 901.00 902.00 <NA> not there\n")
    notes = []
    load_prepare("tedlium")(tmp_path / "data", archive=corpus, note=notes.append)
    (cut,) = [u for u in read_manifest(tmp_path / "data" / "release3" / "dev.jsonl") if u.speaker == "Ida"]
    length = audio.info(cut.audio_filepath).duration
    assert cut.offset + cut.duration == pytest.approx(length, abs=1e-3)
    assert "dev: left out 1 segments behind the end of their talk" in notes


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda c: (c / "legacy/test/sph/Eve_2011.sph").unlink(),
            r"Eve_2011\.sph: the talk Eve_2011 has a transcript",
        ),
        (
            lambda c: (c / "legacy/test/stm/Eve_2011.stm").write_text("Eve_2011 1 Eve a b <NA> hm\n"),
            r"Eve_2011\.stm:1: not 'talk channel speaker start end",
        ),
        (lambda c: (c / "legacy/test/stm/Eve_2011.stm").unlink(), r"legacy/test: no stm/\*\.stm inside"),
    ],
    ids=["no-recording", "bad-line", "no-transcripts"],
)
def test_a_tree_that_is_not_whole_is_named(tmp_path, damage, message):
    corpus = write_release(tmp_path / "tree")
    damage(corpus)
    with pytest.raises(DataError, match=message):
        load_prepare("tedlium")(tmp_path / "data", archive=corpus)


def test_another_release_or_archive_is_refused(archive, tmp_path):
    with pytest.raises(ConfigError, match="release: 4 is none of 1, 2, 3"):
        load_prepare("tedlium")(tmp_path, release=4)
    with pytest.raises(DataError, match=r"TEDLIUM_release-3\.tgz: no TEDLIUM_release2/test inside"):
        load_prepare("tedlium")(tmp_path, archive=archive, release=2)
