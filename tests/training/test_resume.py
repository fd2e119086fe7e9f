"""A training that is killed at any moment, or cannot save, and goes on as if nothing had been."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_loop import Silent, make_config, make_corpus

from asr.cli.main import main
from asr.errors import ConfigError, ModelError
from asr.training.checkpoint import read_checkpoint
from asr.training.run import train
from asr.training.signals import TrainingInterrupted

KILLS = Path(__file__).with_name("kills.py")
TRAIN = (
    "import json, sys; sys.path.insert(0, sys.argv[2]); from test_loop import Silent, train;"
    "train(json.loads(sys.argv[1]), Silent())"
)
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals and limits")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("tones"))


def start(config, **options):
    """Train in another process."""
    command = [sys.executable, "-c", TRAIN, json.dumps(config), str(Path(__file__).parent)]
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE, **options)


def wait_for(path, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists(), process.communicate()[1]


@posix
@pytest.mark.parametrize("count", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_in_a_step_a_save_or_validation_ends_bit_for_bit_as_if_not(tmp_path, count):
    result = subprocess.run(
        [sys.executable, str(KILLS), str(tmp_path), str(count), "1"], capture_output=True, text=True
    )
    outcomes = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(outcomes) == count, result.stderr
    assert all(outcome["same"] for outcome in outcomes), outcomes
    assert sum(outcome["killed"] for outcome in outcomes) > count / 2, outcomes


@posix
def test_two_trainings_do_not_write_into_one_folder(manifest, tmp_path):
    config = make_config(manifest, tmp_path, epochs=1000)
    process = start(config)
    wait_for(tmp_path / "checkpoint.pt", process)
    try:
        with pytest.raises(
            ConfigError, match=rf"another training \(process {process.pid} on .*choose another"
        ):
            train(config, Silent())
    finally:
        process.kill()
        process.wait()
    with pytest.raises(TrainingInterrupted):  # the lock went with the process
        train(config, Stopping())


class Stopping(Silent):
    """A monitor that sends a signal with the first step."""

    def step(self, **report):
        os.kill(os.getpid(), signal.SIGTERM)


@posix
@pytest.mark.parametrize("when", ["recognize_utterances", "score"])
def test_a_signal_during_validation_does_not_repeat_the_epoch(manifest, tmp_path, monkeypatch, when):
    import asr.training.speech as speech

    train(make_config(manifest, tmp_path / "whole"), Silent())
    original = getattr(speech, when)

    def signalled(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)
        return original(*args, **kwargs)

    monkeypatch.setattr(speech, when, signalled)
    config = make_config(manifest, tmp_path / "cut")
    with pytest.raises(TrainingInterrupted):
        train(config, Silent())
    monkeypatch.undo()
    state = read_checkpoint(tmp_path / "cut")["state"]
    assert (state["epoch"], state["batch"], state["history"]) == (0, state["step"], [])
    train(config, Silent())
    whole, cut = (read_checkpoint(tmp_path / name)["model"] for name in ("whole", "cut"))
    assert all(whole[key].equal(cut[key]) for key in whole)


@posix
def test_a_second_signal_stops_at_once(manifest, tmp_path):
    class Impatient(Silent):
        def step(self, **report):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(make_config(manifest, tmp_path), Impatient())
    assert not (tmp_path / "checkpoint.pt").exists()
    assert signal.getsignal(signal.SIGINT) is before


@posix
def test_a_signal_to_all_processes_still_finishes_the_step_and_saves(manifest, tmp_path):
    # As `timeout`, scancel and Ctrl-C send it: to the processes that read data as well.
    config = make_config(manifest, tmp_path, epochs=1000, num_workers=2, save_every_minutes=0.001)
    process = start(config, start_new_session=True)
    wait_for(tmp_path / "checkpoint.pt", process)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=100)
    assert "TrainingInterrupted" in errors
    assert "DataLoader worker" not in errors


def test_model_and_metrics_are_made_to_agree_with_the_checkpoint(manifest, tmp_path):
    config = make_config(manifest, tmp_path, epochs=3)

    class StopInEpoch3(Silent):
        def step(self, **report):
            if self.epoch == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingInterrupted):
        train(config, StopInEpoch3())
    names = ("model.asr", "metrics.jsonl")
    right = [(tmp_path / name).read_bytes() for name in names]
    for name in names:  # as if killed before they were written, or by a run that came out otherwise
        (tmp_path / name).unlink()
    (tmp_path / ".model.asr.123.tmp").write_text("half")
    with pytest.raises(TrainingInterrupted):
        train(config, StopInEpoch3())
    assert [(tmp_path / name).read_bytes() for name in names] == right
    assert not (tmp_path / ".model.asr.123.tmp").exists()
    (best,) = (tmp_path / "best").iterdir()
    best.write_bytes(b"damaged")
    with pytest.raises(
        ModelError, match=r"best/epoch-000\d\.pt: not a checkpoint of this program, or damaged"
    ):
        train(config, Silent())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a file system here")
    yield folder
    while subprocess.run(["umount", "-l", folder], capture_output=True).returncode == 0:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="needs tmpfs")
@pytest.mark.parametrize("failure", ["full", "read-only"])
def test_a_disk_that_fails_is_one_line_and_leaves_the_checkpoint_before(
    manifest, small_disk, failure, monkeypatch, capsys
):
    class Failing(Silent):
        def end_epoch(self, metrics):
            if failure == "full":
                size = os.statvfs(small_disk)
                (small_disk / "filler").write_bytes(bytes(size.f_bavail * size.f_frsize - 20_000))
            else:
                subprocess.run(["mount", "--bind", small_disk, small_disk], check=True)
                subprocess.run(["mount", "-o", "remount,bind,ro", small_disk], check=True)

        def close(self):
            pass

    folder = small_disk / "run"
    config = make_config(manifest, folder, epochs=4)
    monkeypatch.setattr("asr.cli.config.load_config", lambda *_: config)
    monkeypatch.setattr("asr.cli.progress.TrainingProgress", Failing)
    assert main(["train", "recipe.yaml"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"asr: error: {folder}/")
    reason = {"full": "No space left on device", "read-only": "Read-only file system"}[failure]
    assert line.endswith(f"{reason}; check the path, its permissions and the free space")
    assert read_checkpoint(folder)["state"]["epoch"] == 1
    assert not list(folder.glob(".*.tmp"))
