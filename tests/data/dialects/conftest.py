"""Utterances whose every field is awkward to write down."""

import numpy as np
import pytest

from asr import audio
from asr.data.manifest import write_manifest
from asr.types import Utterance

RATE = 16000
FILES = (
    "plain.wav",
    "with some spaces.wav",
    "Zürich, 東京 – ñandú.flac",
    'it\'s "quoted", (really).wav',
    "dollar $HOME {data_root} #1 & 50%.wav",
    "semi;colon=and|pipe.wav",
)
TEXTS = (
    "one two",
    'he said, "no", twice',
    "grüße aus 東京 \u2028 und\u00a0mehr",
    "{braces} and $dollars \\ back\\slash",
    "",
    "tab\tinside  two  spaces",
)
SPEAKERS = ("ann", "bob", None, "çelik", "ann", "d-e_f")
LANGUAGES = ("en", None, "de", "en-GB", "en", "en")


def make_audio(path, seconds, seed, channels=1):
    rng = np.random.default_rng(seed)
    samples = rng.integers(-3000, 3000, (round(seconds * RATE), channels)) / 32768
    audio.save(path, samples, RATE)
    return str(path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """Return utterances that are whole files."""
    folder = tmp_path_factory.mktemp("audio of, whole 'files'")
    return [
        Utterance(
            id=f"utt{i}-é{i}",
            duration=(1600 + 16 * i) / RATE,
            text=TEXTS[i],
            audio_filepath=make_audio(folder / FILES[i], (1600 + 16 * i) / RATE, i),
            speaker=SPEAKERS[i],
            lang=LANGUAGES[i],
            extra={"note": f"n, {i}", "snr": 1.5 * i, "tags": ["a", {"b": i}]},
        )
        for i in range(len(FILES))
    ]


@pytest.fixture(scope="session")
def stretches(tmp_path_factory):
    """Return utterances that are stretches of longer recordings, at times that binary numbers do not hit."""
    folder = tmp_path_factory.mktemp("long")
    files = [make_audio(folder / name, 3.0, i) for i, name in enumerate(("talk-A.wav", "Übung_B.flac"))]
    times = [(0.0, 0.7), (0.7, 0.1), (1.1, 1.2), (0.123456789, 0.3), (2.2, 0.8000001), (0.1, 0.2)]
    return [
        Utterance(
            id=f"{'talk-A' if i < 3 else 'Übung_B'}-1-{offset:.3f}-{offset + duration:.3f}",
            duration=duration,
            text=f"words {i}",
            audio_filepath=files[i // 3],
            offset=offset,
            speaker=SPEAKERS[i],
        )
        for i, (offset, duration) in enumerate(times)
    ]


@pytest.fixture(scope="session")
def manifest_of(tmp_path_factory):
    """Return a function that writes a manifest."""

    def make(utterances):
        path = tmp_path_factory.mktemp("manifest") / "m.jsonl"
        write_manifest(path, utterances)
        return path

    return make


@pytest.fixture(scope="session")
def audio_file():
    """Return the function that makes an audio file of noise."""
    return make_audio
