import itertools
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr.data.check import Problem, check_utterances, ctc_min_frames
from asr.data.manifest import read_manifest, write_manifest
from asr.text import CharacterTokenizer, Normalizer
from asr.types import Utterance

RATE = 16000


def wav(folder: Path, seconds: float = 1.0, *, rate: int = RATE, channels: int = 1, fill: float = 0.1) -> str:
    path = folder / "a.wav"
    soundfile.write(path, np.full((round(seconds * rate), channels), fill, np.float32), rate, subtype="FLOAT")
    return str(path)


def kinds(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.severity, problem.kind) for problem in problems]


@pytest.mark.parametrize("num_labels", range(6))
def test_ctc_min_frames_is_where_the_loss_of_torch_becomes_finite(num_labels):
    for labels in itertools.product([1, 2], repeat=num_labels):
        for num_frames in range(1, 2 * num_labels + 2):
            loss = torch.nn.functional.ctc_loss(
                torch.zeros(num_frames, 1, 3).log_softmax(-1),
                torch.tensor([labels], dtype=torch.int64),
                torch.tensor([num_frames]),
                torch.tensor([num_labels]),
                reduction="sum",
            )
            assert torch.isinf(loss).item() == (num_frames < ctc_min_frames(labels)), (labels, num_frames)


@pytest.mark.parametrize(
    ("audio", "utterance", "expected"),
    [
        ({}, {}, []),
        ({"seconds": 0.96}, {}, []),
        ({"seconds": 9.92}, {"duration": 10.0}, []),
        ({"seconds": 0.9}, {}, [("error", "duration")]),
        ({"seconds": 1.0}, {"offset": 0.5}, [("error", "duration")]),
        ({"seconds": 1.0}, {"offset": 3.0}, [("error", "duration")]),
        ({"seconds": 3.0}, {"offset": 1.0}, []),
        ({"seconds": 3.0}, {}, [("warning", "duration")]),
        ({"rate": 8000}, {}, [("warning", "sample_rate")]),
        ({"channels": 2}, {}, [("warning", "channels")]),
        ({"fill": 0.0}, {}, [("warning", "silent")]),
        ({"fill": 1e-4}, {}, [("warning", "silent")]),
        ({"fill": float("nan")}, {}, [("error", "unreadable")]),
        ({"seconds": 1 / RATE}, {"duration": 0.01}, [("error", "unreadable")]),
        (
            {"rate": 8000, "channels": 2, "fill": 0.0},
            {},
            [("warning", k) for k in ("sample_rate", "channels", "silent")],
        ),
        ({}, {"text": None}, [("warning", "no_text")]),
        ({}, {"text": " "}, [("warning", "no_text")]),
    ],
)
def test_what_is_found_in_an_audio_file(tmp_path, audio, utterance, expected):
    fields = {"id": "u", "duration": 1.0, "text": "one", "audio_filepath": wav(tmp_path, **audio)} | utterance
    assert kinds(check_utterances([Utterance(**fields)], sample_rate=RATE)) == expected


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "truncated"])
def test_an_audio_file_that_cannot_be_read(tmp_path, damage):
    path = Path(wav(tmp_path))
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "text": b"hello", "truncated": content[: len(content) // 2]}[damage])
    [problem] = check_utterances([Utterance("u", 1.0, "one", str(path))])
    assert (problem.id, problem.path, problem.kind) == ("u", str(path), "unreadable")
    assert not problem.message.startswith(str(path))
    assert "\n" not in problem.message


@pytest.mark.parametrize(("value", "expected"), [(0.0, []), (np.nan, [("error", "unreadable")])])
def test_features_are_read_instead_of_audio(tmp_path, value, expected):
    path = tmp_path / "a.npy"
    np.save(path, np.full((10, 13), value, np.float32))
    utterance = Utterance("u", 0.1, "one", "/no/such.wav", features_filepath=str(path))
    assert kinds(check_utterances([utterance])) == expected


def test_without_audio_only_the_text_is_checked():
    utterances = [Utterance("u", 1.0, "one", "/no/such.wav"), Utterance("v", 1.0, "", "/no/such.wav")]
    assert kinds(check_utterances(utterances, read="nothing")) == [("warning", "no_text")]


def test_characters_outside_the_alphabet_are_named_after_normalisation():
    utterances = [Utterance("u", 1.0, "One, TWÖ", "/a.wav"), Utterance("v", 1.0, "Two", "/b.wav")]
    options = {"tokenizer": CharacterTokenizer("entow"), "read": "nothing"}
    [problem] = check_utterances(utterances, normalizer=Normalizer(), **options)
    assert (problem.id, problem.kind, problem.severity) == ("u", "alphabet", "error")
    assert "',', 'ö'" in problem.message
    assert "'T'" in check_utterances(utterances, **options)[1].message


@pytest.mark.parametrize(
    ("text", "seconds", "fits"),
    [
        ("seven", 0.5, True),
        ("seven", 0.4, False),
        ("three", 0.6, True),
        ("three", 0.5, False),
        ("", 0.0, False),
    ],
)
def test_text_must_fit_into_its_frames(text, seconds, fits):
    problems = check_utterances(
        [Utterance("u", seconds, text, "/a.wav")],
        tokenizer=CharacterTokenizer("ehnrstv"),
        output_length=lambda seconds: round(seconds * 10),
        read="nothing",
    )
    assert (
        ("error", "too_long") not in kinds(problems) if fits else kinds(problems)[-1] == ("error", "too_long")
    )
    if text == "three" and not fits:
        assert "T' = 5 frames, but CTC needs 6 for 5 tokens with 1 repeats" in problems[0].message


def test_progress_is_called_once_an_utterance():
    calls = []
    check_utterances(
        [Utterance("u", 1.0, "x", "/a.wav")] * 3, read="nothing", progress=lambda: calls.append(1)
    )
    assert len(calls) == 3


def test_real_recordings_check_clean(tmp_path, archive):
    """FSDD, https://github.com/Jakobovski/free-spoken-digit-dataset: 8 kHz mono WAV."""
    with tarfile.open(archive("free-spoken-digit-dataset-1.0.10.tar.gz")) as tar:
        members = itertools.islice((m for m in tar if m.name.endswith(".wav")), 12)
        for member in members:
            (tmp_path / Path(member.name).name).write_bytes(tar.extractfile(member).read())
    digits = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    utterances = []
    for path in sorted(tmp_path.glob("*.wav")):
        digit, speaker, _ = path.stem.split("_")
        seconds = soundfile.info(path).duration
        utterances.append(Utterance(path.stem, seconds, digits[int(digit)], str(path), speaker=speaker))
    write_manifest(tmp_path / "m.jsonl", utterances)
    assert len(utterances) == 12
    problems = check_utterances(
        read_manifest(tmp_path / "m.jsonl"),
        normalizer=Normalizer(),
        tokenizer=CharacterTokenizer.train(digits),
        output_length=lambda seconds: int(seconds * 50),
        sample_rate=8000,
    )
    assert problems == []
