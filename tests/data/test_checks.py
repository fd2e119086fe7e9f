"""A corpus with a fault of every kind: each is found and its file named, and sound utterances are not."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.data.checks.pool import examine_all
from asr.data.checks.problems import KINDS
from asr.data.checks.run import Needs, SplitReport, check_splits
from asr.data.checks.splits import Split, read_splits
from asr.data.checks.texts import check_text, clean_text
from asr.data.manifest import read_manifest
from asr.text import CharacterTokenizer, Normalizer
from asr.types import Utterance

RATE = 16000
WORDS = [
    "alpha",
    "bravo",
    "charlie",
    "delta",
    "echo",
    "foxtrot",
    "golf",
    "hotel",
    "india",
    "juliet",
    "kilo",
    "lima",
    "mike",
    "november",
    "oscar",
    "papa",
]


def speech(seed: int, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """Return a voice-like waveform: a harmonic tone in syllables, over the noise of a room."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = rng.uniform(100, 200)
    tone = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * 3 * time + rng.uniform(0, 6)), 0, 1)
    return (0.1 * tone * syllables + 0.003 * rng.standard_normal(len(time))).astype(np.float32)


class Corpus:
    """Manifests and files that grow, utterance by utterance."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: dict[str, list[str]] = {"train": [], "test": []}
        self.seed = 1000

    def text(self) -> str:
        rng = np.random.default_rng(self.seed)
        return " ".join(rng.choice(WORDS, 3, replace=False))

    def add(self, id, samples=None, *, split="train", rate=RATE, file=None, subtype="PCM_16", **fields):
        """Write an utterance; what is not given is sound. Without `file` it gets a file of its id's name."""
        self.seed += 1
        path = self.folder / (file or f"{id}.wav")
        if file is None:
            soundfile.write(path, speech(self.seed) if samples is None else samples, rate, subtype=subtype)
        duration = 1.0 if samples is None else len(samples) / rate
        fields = {"duration": duration, "text": self.text(), "audio_filepath": path.name} | fields
        self.lines[split].append(json.dumps({"id": id, **fields}))

    def add_features(self, id, frames, **fields):
        self.seed += 1
        np.save(self.folder / f"{id}.npy", frames.astype(np.float32))
        fields = {
            "duration": len(frames) / 100,
            "text": self.text(),
            "features_filepath": f"{id}.npy",
        } | fields
        self.lines["train"].append(json.dumps({"id": id, **fields}))

    def write(self) -> list[str]:
        for split, lines in self.lines.items():
            (self.folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [str(self.folder / f"{split}.jsonl") for split, lines in self.lines.items() if lines]


def damaged(content: str):
    """Return a fault: a file with other bytes than audio's."""

    def plant(corpus, id):
        corpus.add(id)
        path = corpus.folder / f"{id}.wav"
        whole = path.read_bytes()
        path.unlink()
        if content == "folder":
            path.mkdir()
        elif content != "missing":
            path.write_bytes(
                {
                    "empty": b"",
                    "text": b"no audio\n" * 99,
                    "half": whole[: len(whole) // 2],
                    "header": whole[:44],
                }[content]
            )

    return plant


def sound(change, **options):
    """Return a fault: samples that are changed."""
    return lambda corpus, id: corpus.add(id, change(speech(7 + len(id))), **options)


def text(said, **options):
    """Return a fault: another text."""
    return lambda corpus, id: corpus.add(id, text=said, **options)


def raw(line: str):
    """Return a fault: a line of the manifest."""
    return lambda corpus, id: corpus.lines["train"].append(line)


def stereo(left, right):
    return lambda corpus, id: corpus.add(id, np.stack([left(corpus), right(corpus)], axis=1))


def voice(seed):
    return lambda corpus: speech(seed)


def with_nan(samples):
    samples[500] = np.nan
    return samples


def with_infinity(samples):
    samples[500] = np.inf
    return samples


def upsampled(samples):
    """Take what lies above 4 kHz away, as a telephone does."""
    spectrum = np.fft.rfft(samples)
    spectrum[len(spectrum) // 2 :] = 0
    return np.fft.irfft(spectrum, len(samples))


def mostly_silence(samples):
    return np.concatenate([1e-5 * samples, samples[:800], 1e-5 * samples])


def twice(kind):
    """Return a fault of two utterances with the same audio."""

    def plant(corpus, id):
        said = "oscar golf lima"
        corpus.add(f"{id}-original", speech(90 + len(id)), text=said)
        source = corpus.folder / f"{id}-original.wav"
        if kind == "file":
            corpus.add(id, file=source.name, text=said)
        elif kind == "copy":
            shutil.copy(source, corpus.folder / f"{id}.wav")
            corpus.add(id, file=f"{id}.wav", text=said)
        elif kind == "flac":  # another file format, the same samples
            soundfile.write(corpus.folder / f"{id}.flac", *soundfile.read(source), subtype="PCM_16")
            corpus.add(id, file=f"{id}.flac", text=said)
        elif kind == "other text":
            corpus.add(id, speech(90 + len(id)), text="mike papa kilo")
        elif kind == "split":
            corpus.lines["train"].pop()
            corpus.add(id, speech(90 + len(id)), text=said)
            corpus.add(f"{id}-test", speech(90 + len(id)), text=said, split="test")

    return plant


def overlapping(corpus, id):
    soundfile.write(corpus.folder / f"{id}.wav", speech(55, 4.0), RATE)
    corpus.add(f"{id}-before", file=f"{id}.wav", duration=2.0)
    corpus.add(id, file=f"{id}.wav", offset=1.0, duration=2.0)


def shared_id(corpus, id):
    corpus.add(id)
    soundfile.write(corpus.folder / "another.wav", speech(77), RATE)
    corpus.add(id, file="another.wav", split="test")


def shared_text(corpus, id):
    said = "november oscar papa mike lima kilo juliet"
    corpus.add(id, text=said)
    corpus.add(f"{id}-test", text=said, split="test")


def long_recording(corpus, id):
    corpus.add(id, speech(5, 45.0), text=" ".join(WORDS * 6))


# What is planted: its kind, and how. The name is the id of the utterance that must be named.
FAULTS = {
    "line-not-json": ("manifest", raw("not JSON")),
    "line-without-duration": ("manifest", raw('{"audio_filepath": "line-without-duration.wav"}')),
    "line-without-file": ("manifest", raw('{"duration": 1, "text": "line-without-file"}')),
    "line-duration-zero": ("manifest", raw('{"audio_filepath": "line-duration-zero.wav", "duration": 0}')),
    "line-text-number": ("manifest", raw('{"audio_filepath": "x.wav", "duration": 1, "text": 5}')),
    "sound-3": ("duplicate_id", lambda corpus, id: corpus.add(id, text="india golf")),
    "file-missing": ("unreadable", damaged("missing")),
    "file-empty": ("unreadable", damaged("empty")),
    "file-of-text": ("unreadable", damaged("text")),
    "file-cut": ("unreadable", damaged("half")),
    "file-header-only": ("unreadable", damaged("header")),
    "file-is-a-folder": ("unreadable", damaged("folder")),
    "samples-nan": ("unreadable", sound(with_nan, subtype="FLOAT")),
    "samples-infinite": ("unreadable", sound(with_infinity, subtype="FLOAT")),
    "ten-milliseconds": ("too_short", sound(lambda s: s[2000:2160], text="a")),
    "samples-zero": ("silent", sound(np.zeros_like)),
    "samples-constant": ("silent", sound(lambda s: np.full_like(s, 0.25))),
    "file-shorter": ("duration", lambda corpus, id: corpus.add(id, duration=1.5)),
    "offset-beyond-the-end": ("duration", lambda corpus, id: corpus.add(id, offset=3.0)),
    "text-missing": ("no_text", text(None)),
    "text-empty": ("no_text", text("  ")),
    "text-of-signs": ("no_text", text("-- ?")),
    "same-audio-other-text": ("contradiction", twice("other text")),
    "in-train-and-test": ("leak", twice("split")),
    "letter-unknown": ("alphabet", text("kilö papa")),
    "text-too-long-for-frames": ("too_long", text("alpha bravo charlie delta " * 3)),
    "file-longer": ("longer_file", lambda corpus, id: corpus.add(id, speech(3, 2.0), duration=1.0)),
    "rate-lower": ("sample_rate", lambda corpus, id: corpus.add(id, speech(31, rate=8000), rate=8000)),
    "band-of-a-telephone": ("narrow_band", sound(upsampled)),
    "two-equal-channels": ("channels", stereo(voice(8), voice(8))),
    "one-dead-channel": ("dead_channel", stereo(voice(9), lambda corpus: 0 * speech(9))),
    "two-speakers-on-channels": ("channels_differ", stereo(voice(10), voice(11))),
    "level-tiny": ("quiet", sound(lambda s: 0.002 * s, subtype="FLOAT")),
    "level-clipped": ("clipped", sound(lambda s: np.clip(20 * s, -1, 1))),
    "level-clipped-then-lowered": ("clipped", sound(lambda s: 0.4 * np.clip(20 * s, -1, 1))),
    "level-offset": ("dc_offset", sound(lambda s: s + 0.2)),
    "silence-mostly": ("little_speech", sound(mostly_silence)),
    "eighty-milliseconds": ("short_audio", sound(lambda s: s[2000:3280], text="a")),
    "forty-five-seconds": ("long_audio", long_recording),
    "same-file-twice": ("duplicate_audio", twice("file")),
    "file-copied": ("duplicate_audio", twice("copy")),
    "file-converted": ("duplicate_audio", twice("flac")),
    "segments-overlap": ("overlap", overlapping),
    "id-in-both": ("shared_id", shared_id),
    "text-in-both": ("shared_text", shared_text),
    "letters-too-many": ("text_rate", text(" ".join(WORDS))),
    "letters-too-few": ("text_rate", lambda corpus, id: corpus.add(id, speech(21, 9.0), text="go")),
    "text-placeholder": ("placeholder", text("N/A")),
    "text-of-pandas": ("placeholder", text("nan")),
    "text-digits": ("digits", text("room 12")),
    "text-unknown-word": ("markup", text("alpha <unk> golf")),
    "text-entity": ("markup", text("alpha &amp; golf")),
    "text-brackets": ("markup", text("alpha [noise]")),
    "text-escape": ("markup", text(r"alpha\ngolf")),
    "text-cyrillic": ("mixed_scripts", text("alph\N{CYRILLIC SMALL LETTER A} golf")),
    "text-cyrillic-alone": ("mixed_scripts", text("\N{CYRILLIC SMALL LETTER A} golf")),
    "text-zero-width": ("invisible", text("alpha\N{ZERO WIDTH SPACE}golf")),
    "text-control": ("invisible", text("alpha\x07 golf")),
    "text-mojibake": ("mojibake", text("café".encode().decode("cp1252"))),
    "text-lost-characters": ("mojibake", text("caf\N{REPLACEMENT CHARACTER}")),
    "text-decomposed": ("unicode_form", text("cafe\N{COMBINING ACUTE ACCENT}")),
    "text-spaces": ("whitespace", text("alpha  golf")),
    "text-tab": ("whitespace", text("alpha\tgolf")),
    "text-no-break-space": ("whitespace", text("alpha\N{NO-BREAK SPACE}golf")),
    "text-rare-letter": ("rare_character", text("ægir")),
    "features-among-audio": (
        "mixed_inputs",
        lambda corpus, id: corpus.add_features(id, np.random.default_rng(1).standard_normal((100, 13))),
    ),
}
NUM_SOUND = 110


def sound_corpus(folder: Path) -> Corpus:
    folder.mkdir(parents=True, exist_ok=True)
    corpus = Corpus(folder)
    for i in range(NUM_SOUND):
        corpus.add(f"sound-{i}", speaker=f"s{i % 5}", split="test" if i % 10 == 9 else "train")
    return corpus


def all_problems(reports: list[SplitReport]):
    return [problem for report in reports for problem in report.problems]


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """Return the corpus with all faults and what is found in it, by a model that knows a to z."""
    corpus = sound_corpus(tmp_path_factory.mktemp("planted"))
    line_of = {}
    for name, (_, plant) in FAULTS.items():
        plant(corpus, name)
        line_of[name] = len(corpus.lines["train"])
    needs = Needs(
        tokenizer=CharacterTokenizer("abcdefghijklmnopqrstuvwxyz "),
        output_length=lambda seconds: int(50 * seconds),
        sample_rate=RATE,
    )
    return corpus, line_of, all_problems(check_splits(read_splits(corpus.write()), needs, jobs=2))


def test_there_are_thirty_kinds_of_faults_and_more():
    assert len(FAULTS) >= 60
    assert len({kind for kind, _ in FAULTS.values()}) >= 35


@pytest.mark.parametrize("name", FAULTS)
def test_each_planted_fault_is_found_and_its_file_named(checked, name):
    corpus, line_of, problems = checked
    kind = FAULTS[name][0]
    found = [
        p for p in problems if p.kind == kind and (p.id == name or (not p.id and p.line == line_of[name]))
    ]
    assert found, [p for p in problems if p.id == name]
    [problem] = found
    assert problem.severity == KINDS[kind][0]
    manifest = Path(problem.manifest)
    line = manifest.read_text().splitlines()[problem.line - 1]
    assert manifest.parent == corpus.folder
    if kind in ("manifest", "duplicate_id"):
        assert problem.path == str(manifest)
        assert problem.line == line_of[name]
    else:
        fields = json.loads(line)
        assert fields["id"] == name
        assert Path(problem.path).name == (fields.get("features_filepath") or fields["audio_filepath"])
        assert Path(problem.path).stem.startswith(name) or name in ("id-in-both", "same-file-twice")
    assert problem.message
    assert "\n" not in problem.message


def test_sound_utterances_among_the_faults_have_no_problem(checked):
    problems = [p for p in checked[2] if p.id.startswith("sound-") and p.kind != "duplicate_id"]
    assert problems == []


def test_a_sound_corpus_has_no_problem(tmp_path):
    reports = check_splits(read_splits(sound_corpus(tmp_path).write()))
    problems = all_problems(reports)
    assert {p.severity for p in problems} <= {"notice"}
    assert {p.kind for p in problems} <= {"shared_speaker", "repeated_text"}
    assert [len(r.measures["seconds"]) for r in reports] == [99, 11]


def test_what_test_has_and_training_lacks_shows_without_a_model(tmp_path):
    corpus = Corpus(tmp_path)
    corpus.add("a", text="alpha golf")
    corpus.add("b", text="alphå golf", split="test")
    [problem] = all_problems(check_splits(read_splits(corpus.write())))
    assert (problem.kind, problem.id) == ("unseen_character", "b")
    assert "'å'" in problem.message


def test_speakers_that_splits_share_are_a_notice(tmp_path):
    corpus = Corpus(tmp_path)
    corpus.add("a", text="alpha golf", speaker="ann")
    corpus.add("b", text="golf alpha", speaker="ann", split="test")
    [problem] = all_problems(check_splits(read_splits(corpus.write())))
    assert (problem.kind, problem.severity, problem.path) == (
        "shared_speaker",
        "notice",
        str(tmp_path / "test.jsonl"),
    )
    assert "1 of 1 speakers (ann)" in problem.message


@pytest.mark.parametrize(
    ("rates", "sample_rate", "expected"),
    [
        ([16000, 16000, 8000], None, {"u2": "sample_rate"}),
        ([48000, 48000, 32000], None, {}),  # all have the band of speech
        ([8000, 8000, 8000], None, {}),
        ([16000, 8000, 44100], 16000, {"u1": "sample_rate", "u2": "resampled"}),
        ([16000, 8000, 8000], 8000, {"u0": "resampled"}),
    ],
)
def test_sample_rates_are_compared_with_the_models_or_the_usual_one(tmp_path, rates, sample_rate, expected):
    corpus = Corpus(tmp_path)
    for i, rate in enumerate(rates):
        corpus.add(f"u{i}", speech(i, rate=rate), rate=rate)
    problems = all_problems(check_splits(read_splits(corpus.write()), Needs(sample_rate=sample_rate)))
    assert {p.id: p.kind for p in problems} == expected


def test_ids_are_those_that_read_manifest_gives(tmp_path):
    lines = [{"audio_filepath": "a.wav"}, {"id": "a-2", "audio_filepath": "b.wav"}]
    lines += [{"audio_filepath": "x/a.flac"}]
    lines += [{"features_filepath": f"f.ark:{i}"} for i in (7, 9)]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(json.dumps({"duration": 1} | line) for line in lines))
    [split] = read_splits([str(path)])
    assert split.utterances == read_manifest(path, check_files=False)
    assert split.lines == [1, 2, 3, 4, 5]
    assert [u.id for u in split.utterances] == ["a", "a-2", "a-3", "f", "f-2"]


@pytest.mark.parametrize(
    ("path", "rank"),
    [
        ("train.jsonl", 0),
        ("train-clean-100.jsonl", 0),
        ("dev/m.jsonl", 1),
        ("an4_val.json", 1),
        ("test-other.jsonl", 2),
        ("test/m.jsonl", 2),
        ("eval92.jsonl", 2),
        ("m.jsonl", 1),
    ],
)
def test_the_name_tells_what_a_split_is_for(path, rank):
    assert Split("", path).rank == rank


@pytest.mark.parametrize(
    ("frames", "fields", "kind"),
    [
        (lambda good: np.where(np.arange(13) == 4, 1.0, good), {}, "constant_features"),
        (lambda good: np.ones_like(good), {}, "silent"),
        (lambda good: good[:, :12], {}, "num_features"),
        (lambda good: np.where(good > 1, np.nan, good), {}, "unreadable"),
        (lambda good: good, {"duration": 3.0}, "duration"),
        (lambda good: np.concatenate([good, good]), {"duration": 1.0}, "longer_file"),
    ],
)
def test_features_are_checked_like_audio(tmp_path, frames, fields, kind):
    rng = np.random.default_rng(0)
    corpus = Corpus(tmp_path)
    for i in range(4):
        corpus.add_features(f"sound-{i}", rng.standard_normal((100, 13)))
    corpus.add_features("bad", frames(rng.standard_normal((100, 13))), **fields)
    problems = all_problems(check_splits(read_splits(corpus.write())))
    assert [(p.id, p.kind) for p in problems] == [("bad", kind)]


def test_equal_feature_files_are_copies(tmp_path):
    corpus = Corpus(tmp_path)
    frames = np.random.default_rng(0).standard_normal((100, 13))
    corpus.add_features("a", frames, text="alpha golf")
    corpus.add_features("b", frames, text="alpha golf")
    problems = all_problems(check_splits(read_splits(corpus.write())))
    assert [(p.id, p.kind) for p in problems] == [("b", "duplicate_audio")]


def test_without_reading_audio_the_manifest_and_the_texts_are_checked(tmp_path):
    corpus = Corpus(tmp_path)
    damaged("missing")(corpus, "a")
    corpus.add("b", file="a.wav", text="alpha 7")
    kinds = {(p.id, p.kind) for p in all_problems(check_splits(read_splits(corpus.write()), read=False))}
    assert kinds == {("b", "digits"), ("a", "contradiction"), ("b", "contradiction")}


def test_processes_find_what_one_finds_in_the_same_order(tmp_path):
    corpus = sound_corpus(tmp_path)
    for i in range(100):
        corpus.add(f"more-{i}", np.zeros(1600) if i % 7 == 0 else None)
    utterances = read_splits(corpus.write())[0].utterances
    calls = []
    alone = list(examine_all(utterances, jobs=1))
    together = list(examine_all(utterances, jobs=2, progress=lambda done, total: calls.append((done, total))))
    assert together == alone
    assert calls[-1] == (len(utterances), len(utterances))
    assert sum(bool(result.problems) for result in alone) == 15


def test_a_recording_of_hours_is_measured_block_by_block(tmp_path, monkeypatch):
    """The same digest, level and share of speech come out whatever the size of the blocks."""
    from asr.data.checks import recordings

    path = tmp_path / "a.wav"
    soundfile.write(path, speech(1, 5.0), RATE)
    utterance = Utterance("a", 5.0, "x", str(path))
    whole = recordings.measure_recording(utterance)
    monkeypatch.setattr(recordings, "_BLOCK_SECONDS", 1.0)
    parts = recordings.measure_recording(utterance)
    assert parts.digest == whole.digest
    assert parts.peak == whole.peak
    assert parts.speech_seconds == pytest.approx(whole.speech_seconds, abs=0.03)
    assert parts.offset == pytest.approx(whole.offset, abs=1e-9)
    assert math.isclose(parts.high_band_db, whole.high_band_db, abs_tol=1.0)


@pytest.mark.parametrize(
    "said",
    [
        "don't",
        "twenty-one, please!",
        "ÄÖÜ straße",
        "привет мир",
        "γειά σου",
        "я купил iPhone",  # a Latin word in a Russian text
        "das Wort null",
        "null",  # zero in German
        "می\N{ZERO WIDTH NON-JOINER}خواهم",  # Persian spells with it
        "日本語 の text",
        "Ångström",
        "none",
        "été à la fête",
    ],
)
def test_sound_texts_are_let_be(said):
    assert list(check_text(said)) == []
    assert clean_text(said) == said


@pytest.mark.parametrize(
    ("said", "clean"),
    [
        ("cafe\N{COMBINING ACUTE ACCENT}", "café"),
        ("a\N{ZERO WIDTH SPACE}b \x07c", "ab c"),
        ("  a\t b\N{NO-BREAK SPACE}c ", "a b c"),
        ("\ufeffa", "a"),
    ],
)
def test_clean_text_passes_the_check(said, clean):
    assert clean_text(said) == clean
    assert list(check_text(said))
    assert list(check_text(clean)) == []


def test_normalised_texts_count_as_the_same(tmp_path):
    """The same audio with the same words is a copy, not a contradiction, however the text is written."""
    corpus = Corpus(tmp_path)
    corpus.add("a", speech(1), text="Alpha Golf")
    corpus.add("b", speech(1), text="alpha golf")
    problems = all_problems(check_splits(read_splits(corpus.write()), Needs(normalizer=Normalizer())))
    assert [(p.id, p.kind) for p in problems] == [("b", "duplicate_audio")]
