"""What a training augments, what it does not, and what it says before it begins."""

import json
import zlib

import numpy as np
import pytest

from asr import audio
from asr.augment import Augmentation
from asr.cli.config import load_config
from asr.errors import ConfigError, DataError
from asr.training.metrics import Monitor
from asr.training.run import train

RATE = 8000


class Notes(Monitor):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def write_set(folder, name, count, text="ab", seconds=0.4):
    lines = []
    for i in range(count):
        path = folder / f"{name}{i}.wav"
        audio.save(path, np.random.default_rng(i).uniform(-0.3, 0.3, round(seconds * RATE)), RATE)
        lines.append({"audio_filepath": str(path), "id": f"{name}{i}", "duration": seconds, "text": text})
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))


@pytest.fixture
def config(tmp_path):
    write_set(tmp_path, "train", 6)
    write_set(tmp_path, "dev", 3)

    def make(*settings):
        return load_config(
            "recipes/fsdd/blstm.yaml",
            [
                f"data.train={tmp_path}/train.jsonl",
                f"data.dev={tmp_path}/dev.jsonl",
                f"output_dir={tmp_path}/run",
                "trainer.epochs=2",
                "trainer.accelerator=cpu",
                "trainer.num_workers=0",
                "model.encoder.hidden_size=8",
                "model.subsampling.channels=8",
                *settings,
            ],
        )

    return make


def test_the_training_set_is_augmented_and_nothing_else(config, monkeypatch):
    augmented, on_frames, masked = set(), set(), set()
    inputs, frames, mask = Augmentation.inputs, Augmentation.frames, Augmentation.mask

    def watch_inputs(self, x, rng):
        augmented.add(rng.bit_generator.seed_seq.entropy[2])
        return inputs(self, x, rng)

    def watch_frames(self, extractor, epoch, ids):
        on_frames.update(ids)
        return frames(self, extractor, epoch, ids)

    def watch_mask(self, features, lengths, epoch, ids):
        masked.update(ids)
        return mask(self, features, lengths, epoch, ids)

    monkeypatch.setattr(Augmentation, "inputs", watch_inputs)
    monkeypatch.setattr(Augmentation, "frames", watch_frames)
    monkeypatch.setattr(Augmentation, "mask", watch_mask)
    train(config("augment=strong"), Notes())
    ids = {f"train{i}" for i in range(6)}
    assert on_frames == masked == ids
    assert augmented == {zlib.crc32(name.encode()) for name in ids}


def test_utterances_too_short_for_the_fastest_speed_are_counted(config, tmp_path):
    write_set(tmp_path, "train", 4, text="abcdefghijkl", seconds=0.3)
    monitor = Notes()
    train(config("augment=strong"), monitor)
    assert any(
        "4 training utterances, the first train0, have too few frames" in note for note in monitor.notes
    )


@pytest.mark.parametrize(("key", "name"), [("noise", "none"), ("room", "dev.jsonl/x")])
def test_bad_files_stop_a_training_before_it_begins(config, tmp_path, key, name):
    with pytest.raises(DataError, match=rf"augment\.{key}\.files: "):
        train(config("augment=strong", f"augment.{key}.files={tmp_path}/{name}"), Notes())
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_noise_on_precomputed_features_stops_a_training_before_it_begins(config, tmp_path):
    for name in ("train", "dev"):
        np.save(tmp_path / f"{name}.npy", np.zeros((50, 40), dtype=np.float32))
        line = {"features_filepath": f"{name}.npy", "duration": 0.5, "text": "ab", "id": name}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(line))
    with pytest.raises(ConfigError, match=r"augment\.room: changes waveforms, but .*take augment=features"):
        train(config("augment=strong"), Notes())
