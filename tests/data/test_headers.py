"""Durations of many recordings: in order, from headers, the first bad one named."""

import numpy as np
import pytest

from asr import audio
from asr.data.headers import durations
from asr.errors import AudioError


@pytest.fixture
def recordings(tmp_path):
    paths = []
    for number in range(250):
        path = tmp_path / f"{number:03d}.wav"
        audio.save(path, np.full(800 + number, 0.1), 8000)
        paths.append(path)
    return paths


def test_durations_are_in_the_order_of_the_files(recordings):
    seen = []
    found = durations(recordings, progress=lambda *done: seen.append(done))
    assert found == [(800 + number) / 8000 for number in range(250)]
    assert seen == [(100, 250), (200, 250), (250, 250)]
    assert durations([]) == []


def test_the_first_file_that_cannot_be_read_is_named(recordings):
    recordings[120].write_bytes(b"RIFF")
    recordings[7].unlink()
    with pytest.raises(AudioError, match=r"007\.wav"):
        durations(recordings)


def test_an_interruption_ends_it(recordings):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        durations(recordings, progress=stop)
