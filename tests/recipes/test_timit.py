"""TIMIT: a stand-in tree with its layout, its lists of speakers, the folding of phones, a shrunk run."""

import json
import shutil

import numpy as np
import pytest

from asr import audio
from asr.cli.config import load_prepare
from asr.cli.main import main
from asr.data.manifest import read_manifest
from asr.errors import ConfigError, DataError
from recipes.timit.prepare import DEV_SPEAKERS, PHONES, TEST_SPEAKERS, fold
from tests.recipes.standin import SENTENCES, pack, recipe_yamls, run_recipe, speak, write_sphere

# Part, region, speaker: of the training set, two of Kaldi's dev set, two of the core test set, and one of the
# rest of the complete test set, which no split has.
SPEAKERS = (
    *[("TRAIN", "DR1", "FCJF0"), ("TRAIN", "DR1", "MCPM0"), ("TRAIN", "DR4", "FLKM0")],
    *[("TEST", "DR1", "FAKS0"), ("TEST", "DR2", "MMDM2"), ("TEST", "DR1", "MDAB0"), ("TEST", "DR3", "FPKT0")],
    ("TEST", "DR8", "MRES0"),
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("LDC93S1")
    rng = np.random.default_rng(0)
    for number, (part, region, speaker) in enumerate(SPEAKERS):
        for name in ("SA1", f"SI{number}", f"SX{number}"):
            text = SENTENCES[0] if name == "SA1" else SENTENCES[(number + (name[1] == "X")) % 8]
            write_sentence(folder / "TIMIT" / part / region / speaker / name, text, number, rng)
    spoiled = folder / "TIMIT" / "TRAIN" / "DR1" / "FCJF0"
    (spoiled / "SX0.PHN").unlink()
    shutil.copy(spoiled / "SI0.WAV", spoiled / "SI0.WAV.wav")  # as in a popular copy of the corpus
    return folder


def write_sentence(path, text, voice, rng):
    """Write NIST audio, and labels as the corpus has them: first and last sample, then what is said."""
    samples = speak(text, voice)
    write_sphere(path.with_suffix(".WAV"), samples, 16000)
    path.with_suffix(".TXT").write_text(f"0 {len(samples)} {text.capitalize()}.\n")
    for suffix, said in ((".PHN", rng.choice(sorted(PHONES - {"h#"}), 12)), (".WRD", text.split())):
        edges = np.linspace(1600, len(samples) - 1600, len(said) + 1).astype(int)
        lines = [f"{a} {b} {s}" for a, b, s in zip(edges[:-1], edges[1:], said, strict=True)]
        if suffix == ".PHN":
            lines = [f"0 {edges[0]} h#", *lines, f"{edges[-1]} {len(samples)} h#"]
        path.with_suffix(suffix).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("phones", "of_48", "of_39"),
    # Lee and Hon 1989, tables I and II; Kaldi's egs/timit/s5/conf/phones.60-48-39.map has the same classes.
    [
        ("aa", "aa", "aa"),
        ("ao", "ao", "aa"),
        ("ah", "ah", "ah"),
        ("ax ax-h", "ax", "ah"),
        ("er axr", "er", "er"),
        ("ih", "ih", "ih"),
        ("ix", "ix", "ih"),
        ("uw ux", "uw", "uw"),
        ("l", "l", "l"),
        ("el", "el", "l"),
        ("m em", "m", "m"),
        ("n nx", "n", "n"),
        ("en", "en", "n"),
        ("ng eng", "ng", "ng"),
        ("sh", "sh", "sh"),
        ("zh", "zh", "sh"),
        ("hh hv", "hh", "hh"),
        ("pcl tcl kcl", "cl", "sil"),
        ("bcl dcl gcl", "vcl", "sil"),
        ("h# pau", "sil", "sil"),
        ("epi", "epi", "sil"),
        ("q", "", ""),
        ("ae aw ay b ch d dh dx eh ey f g iy jh k ow oy p r s t th uh v w y z", None, None),
    ],
)
def test_phones_fold_as_lee_and_hon_have_it(phones, of_48, of_39):
    for phone in phones.split():
        assert fold(phone, "phones61") == phone
        assert fold(phone, "phones48") == (phone if of_48 is None else of_48)
        assert fold(phone, "phones") == (phone if of_39 is None else of_39)


def test_there_are_61_48_and_39_phones_and_24_and_50_speakers():
    sizes = [len({fold(p, units) for p in PHONES} - {""}) for units in ("phones61", "phones48", "phones")]
    assert sizes == [61, 48, 39]
    assert (len(TEST_SPEAKERS), len(DEV_SPEAKERS)) == (24, 50)
    assert not TEST_SPEAKERS & DEV_SPEAKERS
    # Of each of the eight regions two men and a woman (TIMIT's testset.doc).
    assert sum(name[0] == "m" for name in TEST_SPEAKERS) == 16


def test_manifests_have_the_customary_splits_without_sa_sentences(corpus, tmp_path):
    notes = []
    load_prepare("timit")(tmp_path, archive=corpus, note=notes.append)
    splits = {s: read_manifest(tmp_path / "phones" / f"{s}.jsonl") for s in ("train", "dev", "test")}
    assert {u.id for u in splits["test"]} == {"mdab0_si5", "mdab0_sx5", "fpkt0_si6", "fpkt0_sx6"}
    assert {u.speaker for u in splits["dev"]} == {"faks0", "mmdm2"}
    assert {u.id for u in splits["train"]} == {
        *("fcjf0_si0", "mcpm0_si1", "mcpm0_sx1"),
        *("flkm0_si2", "flkm0_sx2"),
    }
    for utterance in (u for split in splits.values() for u in split):
        assert utterance.audio_filepath.endswith(".WAV")
        assert utterance.duration == pytest.approx(audio.info(utterance.audio_filepath).duration)
        words = utterance.extra["words"]
        assert utterance.text == " ".join(word["word"] for word in words)
        assert (words[0]["word"], words[0]["start"]) == ("sil", 0.0)
        assert words[-1]["end"] == pytest.approx(utterance.duration)
        assert "q" not in utterance.text.split()
    (fpkt0,) = [u for u in splits["test"] if u.id == "fpkt0_sx6"]
    assert (fpkt0.extra["dialect"], fpkt0.extra["gender"], fpkt0.lang) == ("dr3", "f", "en")
    left_out = tmp_path / "phones" / "left_out.tsv"
    assert notes == [
        f"1 left out (1 without a .PHN file), listed in {left_out}",
        "not the whole corpus: 5 of 3696 in train, 4 of 400 in dev, 4 of 192 in test sentences",
    ]
    assert left_out.read_text().split("\t")[1].endswith("FCJF0/SX0.WAV\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    load_prepare("timit")(tmp_path, archive=corpus)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_lower_case_names_in_an_archive_and_words_as_units(corpus, tmp_path):
    for path in (corpus / "TIMIT").rglob("*.*"):
        target = tmp_path / "lower" / str(path.relative_to(corpus)).lower()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    archive = pack(tmp_path / "lower", tmp_path / "timit.zip")
    load_prepare("timit")(tmp_path / "data", archive=archive, units="words")
    train = read_manifest(tmp_path / "data" / "words" / "train.jsonl")
    # The sentence without .PHN has its words.
    assert {u.id: u.text for u in train}["fcjf0_sx0"] == SENTENCES[1]
    assert train[0].extra["words"][0]["word"] == SENTENCES[0].split()[0]


@pytest.mark.parametrize("yaml", recipe_yamls("timit"), ids=lambda path: path.stem)
def test_the_recipe_runs_and_61_phones_are_scored_as_39(yaml, corpus, tmp_path, capsys):
    units = {"bgru": "phones61", "blstm": "phones"}[yaml.stem]
    run = run_recipe(yaml, tmp_path, archive=corpus, overrides=[f"units={units}"])
    num_phones = sum(len(u.text.split()) for u in run.manifests["test"])
    assert run.wer["test"]["num_words"] == num_phones

    hypotheses = str(tmp_path / "run" / "test" / "hyp.jsonl")
    folding = f"rewrite:{tmp_path / 'data' / '39.tsv'}"
    capsys.readouterr()
    assert main(["score", hypotheses, hypotheses, "--normalize", folding, "--json"]) == 0
    scored = json.loads(capsys.readouterr().out)
    load_prepare("timit")(tmp_path / "data", archive=corpus)
    references = read_manifest(tmp_path / "data" / "phones" / "test.jsonl")
    assert scored["num_words"] == sum(len(u.text.split()) for u in references)
    # Only the glottal stops are gone.
    num_stops = sum(u.text.split().count("q") for u in run.manifests["test"])
    assert scored["num_words"] == num_phones - num_stops
    assert (num_stops > 0) is (units == "phones61")


@pytest.mark.parametrize(
    ("spoil", "options", "error", "message"),
    [
        (None, {"units": "syllables"}, ConfigError, "units: 'syllables' is none of phones, phones48"),
        ("TIMIT/TEST", {}, DataError, "expected TIMIT, but it has no folders TRAIN and TEST; give --archive"),
        (
            "TIMIT/TEST/DR1/FAKS0 TIMIT/TEST/DR2/MMDM2",
            {},
            DataError,
            "no sentences for dev; the folder is not",
        ),
        (
            "label",
            {},
            DataError,
            r"SI0.PHN:2: expected a first sample.*a phone, found '3 4 xx'; copy the file",
        ),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(corpus, tmp_path, spoil, options, error, message):
    folder = tmp_path / "corpus"
    shutil.copytree(corpus, folder)
    if spoil == "label":
        (folder / "TIMIT" / "TRAIN" / "DR1" / "FCJF0" / "SI0.PHN").write_text("0 3 h#\n3 4 xx\n")
    elif spoil:
        for name in spoil.split():
            shutil.rmtree(folder / name)
    with pytest.raises(error, match=message) as caught:
        load_prepare("timit")(tmp_path / "data", archive=folder, **options)
    assert "\n" not in str(caught.value)


def test_without_the_corpus_there_is_nothing_to_download(tmp_path, monkeypatch):
    monkeypatch.delenv("ASR_ARCHIVES", raising=False)
    with pytest.raises(DataError, match=r"nobody offers it for download.*--archive"):
        load_prepare("timit")(tmp_path)
