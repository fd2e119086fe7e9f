import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr.data.checks.problems import Problem
from asr.data.checks.utterances import check_utterances, ctc_min_frames
from asr.text import CharacterTokenizer, Normalizer
from asr.types import Utterance

RATE = 16000


def wav(folder: Path, seconds: float = 1.0, *, rate: int = RATE, channels: int = 1) -> str:
    path = folder / "a.wav"
    soundfile.write(path, np.full((round(seconds * rate), channels), 0.1, np.float32), rate, subtype="FLOAT")
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
        ({"seconds": 3.0}, {}, [("warning", "longer_file")]),
        ({"rate": 8000}, {}, [("warning", "sample_rate")]),
        ({"rate": 44100}, {}, [("notice", "resampled")]),
        ({"channels": 2}, {}, [("warning", "channels")]),
        ({"rate": 8000, "channels": 2}, {}, [("warning", "sample_rate"), ("warning", "channels")]),
        ({}, {"text": None}, [("error", "no_text")]),
        ({}, {"text": " "}, [("error", "no_text")]),
    ],
)
def test_what_is_found_in_a_header(tmp_path, audio, utterance, expected):
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


def test_without_audio_only_the_text_is_checked():
    utterances = [Utterance("u", 1.0, "one", "/no/such.wav"), Utterance("v", 1.0, "", "/no/such.wav")]
    assert kinds(check_utterances(utterances, read="nothing")) == [("error", "no_text")]


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
