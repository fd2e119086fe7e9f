"""Common Voice: a stand-in with its folders, tables and MP3 files, in scripts of several languages."""

import shutil

import pytest
import soundfile

from asr.cli.config import load_prepare
from asr.cli.main import main
from asr.data.manifest import read_manifest
from asr.errors import ConfigError, DataError
from asr.model_file import load_model
from tests.recipes.standin import SENTENCES, pack, recipe_yamls, run_recipe, speak

COLUMNS = (
    *("client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes", "age"),
    *("gender", "accents", "variant", "locale", "segment"),
)
# As the tables have them: nothing is quoted, so quotation marks and commas stand for themselves.
TEXTS = {
    "cs": ("Příliš žluťoučký ku\u030an\u030c,", '"Dobrý den", řekl.', "Čáp letí", "Ne."),
    "ru": ("Съешь же ещё", "Он сказал: «Да!»", "Вьюга мглою", "Ёж — зверь"),
    "de": ('""Grüß Gott"", sagte sie', "Straße; Übermut", "Ä ö ü", "Das ist's"),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("download") / "cv-corpus-19.0-2024-09-13"
    for lang, texts in TEXTS.items():
        write_language(folder / lang, lang, texts)
    return folder


def write_language(folder, lang, texts):
    (folder / "clips").mkdir(parents=True)
    rows = {split: [] for split in ("train", "dev", "test", "validated", "invalidated", "other")}
    milliseconds = []
    for number in range(12):
        split = ("train", "train", "dev", "test")[number % 4]
        clip = f"common_voice_{lang}_{17250000 + number}.mp3"
        samples = speak(SENTENCES[number % 4], number, 32000)
        soundfile.write(folder / "clips" / clip, samples, 32000, format="MP3")
        milliseconds.append(f"{clip}\t{len(samples) * 1000 // 32000}")
        row = make_row(f"{number % 4}{number % 2}" * 64, clip, texts[number % 4], lang)
        rows[split].append(row)
        rows["validated"].append(row)
    # Of a speaker in train, and of one in test.
    for number, client in ((12, "00" * 64), (13, "31" * 64)):
        clip = f"common_voice_{lang}_{17250000 + number}.mp3"
        shutil.copy(folder / "clips" / f"common_voice_{lang}_17250000.mp3", folder / "clips" / clip)
        rows["validated"].append(make_row(client, clip, texts[0], lang))
    for split, lines in rows.items():
        (folder / f"{split}.tsv").write_text("\n".join(["\t".join(COLUMNS), *lines]) + "\n", encoding="utf-8")
    if lang != "ru":
        table = "\n".join(["clip\tduration[ms]", *milliseconds]) + "\n"
        (folder / "clip_durations.tsv").write_text(table, encoding="utf-8")


def make_row(client, clip, text, lang):
    cells = dict.fromkeys(COLUMNS, "") | {
        **{"client_id": client, "path": clip, "sentence": text, "locale": lang},
        **{"up_votes": "2", "down_votes": "0", "age": "twenties"},
    }
    return "\t".join(cells.values())


@pytest.mark.parametrize("lang", TEXTS)
def test_sentences_are_kept_as_the_tables_have_them(corpus, tmp_path, lang):
    load_prepare("common_voice")(tmp_path, archive=corpus, lang=lang)
    splits = {s: read_manifest(tmp_path / lang / f"{s}.jsonl") for s in ("train", "dev", "test")}
    assert {split: len(utterances) for split, utterances in splits.items()} == {
        "train": 6,
        "dev": 3,
        "test": 3,
    }
    assert [u.text for u in splits["train"][:2]] == list(TEXTS[lang][:2])
    assert {u.text for u in splits["dev"]} == {TEXTS[lang][2]}
    for utterance in splits["test"]:
        assert (utterance.lang, utterance.speaker) == (lang, "3131313131313131")
        assert utterance.extra == {"age": "twenties"}
        # An encoder adds up to two frames of 1,152 samples at either end.
        seconds = soundfile.info(utterance.audio_filepath).duration
        assert seconds - 4 * 1152 / 32000 <= utterance.duration <= seconds
    assert not (tmp_path / lang / "left_out.tsv").exists()


def test_validated_recordings_of_held_out_speakers_are_not_trained_on(corpus, tmp_path):
    load_prepare("common_voice")(tmp_path, archive=corpus / "ru", train_on="validated")
    utterances = read_manifest(tmp_path / "ru" / "validated.jsonl")
    assert len(utterances) == 7
    assert {u.speaker[:2] for u in utterances} == {"00", "11"}


@pytest.mark.parametrize("yaml", recipe_yamls("common_voice"), ids=lambda path: path.stem)
def test_the_recipe_runs(yaml, corpus, tmp_path):
    # Composed, lower case, without punctuation: what the normaliser leaves of the training sentences.
    lang, letters = {"blstm": ("cs", "íšžťčýůň"), "bgru": ("ru", "ёщъь"), "ds2": ("de", "üß")}[yaml.stem]
    # An archive of a language has the folder of its release at the top.
    (tmp_path / "packed" / corpus.name).mkdir(parents=True)
    shutil.copytree(corpus / lang, tmp_path / "packed" / corpus.name / lang)
    archive = pack(tmp_path / "packed", tmp_path / f"{corpus.name}-{lang}.tar.gz")
    run = run_recipe(yaml, tmp_path, archive=archive, overrides=[f"lang={lang}"])
    pieces = set(load_model(run.model, "cpu").tokenizer.pieces)
    assert set(letters) <= pieces
    assert not pieces & set('".,:«»—')
    assert run.wer["test"]["num_words"] > 0


def test_what_is_left_out_is_told(corpus, tmp_path, capsys):
    folder = tmp_path / "cs"
    shutil.copytree(corpus / "cs", folder)
    with open(folder / "train.tsv", "a", encoding="utf-8") as file:
        file.write(make_row("a" * 128, "common_voice_cs_17250000.mp3", "  ", "cs") + "\n")
        file.write(make_row("a" * 128, "common_voice_cs_99.mp3", "Ano", "cs") + "\n")
        file.write(make_row("a" * 128, "common_voice_cs_98.mp3", "Ano\ttak", "cs") + "\n")
        file.write(make_row("a" * 128, "common_voice_cs_97.mp3", "Ano", "cs") + "\n")
    (folder / "clips" / "common_voice_cs_97.mp3").write_bytes(b"")
    command = [
        "prepare",
        "recipes/common_voice",
        "--archive",
        str(folder),
        "--output-dir",
        str(tmp_path / "d"),
    ]
    assert main(command) == 0
    listed = tmp_path / "d" / "cs" / "left_out.tsv"
    counts = "1 without a sentence, 1 without a clip, 1 with more cells than columns, 1 unreadable"
    assert f"4 left out ({counts}), listed in {listed}\n" in capsys.readouterr().err
    assert "train.tsv:10\tc" not in listed.read_text()
    assert "with more cells than columns\ttrain.tsv:10\ta" in listed.read_text()


def test_releases_before_the_fourth_name_clips_without_suffix(corpus, tmp_path):
    folder = tmp_path / "tatar"
    shutil.copytree(corpus / "de", folder)
    (folder / "clip_durations.tsv").unlink()
    for path in folder.glob("*.tsv"):
        lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        keep = [COLUMNS.index(name) for name in ("client_id", "path", "sentence", "age")]
        old = ["\t".join(line[i].removesuffix(".mp3") for i in keep) for line in lines]
        path.write_text("\n".join(old) + "\n", encoding="utf-8")
    load_prepare("common_voice")(tmp_path / "data", archive=folder)
    assert len(read_manifest(tmp_path / "data" / "tatar" / "train.jsonl")) == 6


@pytest.mark.parametrize(
    ("spoil", "options", "error", "message"),
    [
        (None, {}, DataError, "several languages in it; choose one, as lang=cs, of cs, de, ru"),
        (None, {"lang": "fr"}, DataError, "no language fr in it; choose one, as lang=cs, of cs, de, ru"),
        (None, {"train_on": "other"}, ConfigError, "train_on: 'other' is neither train nor validated"),
        ("*/clips", {}, DataError, "expected Common Voice, but no folder in it has clips/, train.tsv"),
        (
            "de/validated.tsv",
            {"lang": "de", "train_on": "validated"},
            DataError,
            "validated.tsv: No such file",
        ),
        ("twice", {"lang": "de"}, DataError, "has de 2 times; give --archive one of them, as .*de"),
        ("header", {"lang": "de"}, DataError, "train.tsv:1: no column client_id; unpack the archive again"),
        ("empty", {"lang": "de"}, DataError, "dev.tsv: no recordings to use .*unpack it again"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(corpus, tmp_path, spoil, options, error, message):
    folder = tmp_path / "corpus"
    shutil.copytree(corpus, folder, copy_function=shutil.copy)
    if spoil == "twice":
        shutil.copytree(folder / "de", folder / "older" / "de")
    elif spoil == "header":
        (folder / "de" / "train.tsv").write_text("path\tsentence\n")
    elif spoil == "empty":
        (folder / "de" / "dev.tsv").write_text("\t".join(COLUMNS) + "\n")
    elif spoil:
        for path in folder.glob(spoil):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(error, match=message) as caught:
        load_prepare("common_voice")(tmp_path / "data", archive=folder, **options)
    assert "\n" not in str(caught.value)
