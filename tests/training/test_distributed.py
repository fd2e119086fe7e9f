"""Several processes that share every batch come to what one process comes to."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from test_loop import Silent, make_config, make_corpus

from asr.training.checkpoint import read_checkpoint
from asr.training.run import train

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs gloo and POSIX signals")
PROGRAM = f"""
import json, os, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_loop import Silent, train

class Reporting(Silent):
    def note(self, message):
        print(message, flush=True)
    def start_epoch(self, epoch, *_):
        print(f"epoch {{epoch}} process {{os.getpid()}}", flush=True)

if __name__ == "__main__":
    if os.environ.get("DIE_ONCE") and os.environ["RANK"] == "1" and not os.path.exists(sys.argv[2]):
        import asr.training.step, signal
        step, left = asr.training.step.Stepper.__call__, [int(os.environ["DIE_ONCE"])]
        def dying(*args):
            left[0] -= 1
            if not left[0]:
                open(sys.argv[2], "w").close()
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*args)
        asr.training.step.Stepper.__call__ = dying
    train(json.loads(sys.argv[1]), Reporting())
"""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("tones"), count=16)


def config_of(manifest, folder, **trainer):
    """Without dropout, which draws for the utterances that a process has."""
    config = make_config(manifest, folder, **{"epochs": 4, "batch_seconds": 4.0} | trainer)
    config["model"]["encoder"]["dropout"] = 0.0
    config["optimizer"]["lr"] = 1.5e-3  # as the recipes have it
    return config


def launch(folder, config, processes, *options, **environment):
    """Train under torchrun; return the running process."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)),
        *(*options, str(program), json.dumps(config), str(folder / "died")),
    ]
    return subprocess.Popen(
        command,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | environment | {"OMP_NUM_THREADS": "1"},
    )


def distance(a, b):
    """Return the largest relative distance of two checkpoints' parameters."""
    a, b = (read_checkpoint(folder)["model"] for folder in (a, b))
    return max(((a[k] - b[k]).norm() / a[k].norm().clamp(min=1e-12)).item() for k in a)


def same_weights(a, b):
    a, b = (read_checkpoint(folder)["model"] for folder in (a, b))
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize(
    ("processes", "epochs", "options"),
    [
        (2, 4, {}),
        (2, 4, {"accumulate": 2, "clip_by": "value", "gradient_clip": 0.01}),
        pytest.param(2, 70, {}, marks=pytest.mark.slow),
        pytest.param(4, 70, {}, marks=pytest.mark.slow),
    ],
)
def test_many_processes_train_what_one_trains(manifest, tmp_path, processes, epochs, options):
    options = {"epochs": epochs} | options
    train(config_of(manifest, tmp_path / "one", **options), Silent())
    process = launch(tmp_path, config_of(manifest, tmp_path / "many", **options), processes)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert f"cpu x {processes}" in output
    assert distance(tmp_path / "one", tmp_path / "many") < 1e-5

    def metrics(folder):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
        return [
            [line[key] for key in ("train_loss", "grad_norm", "dev_loss", "blank_rate")] for line in lines
        ]

    one, many = metrics(tmp_path / "one"), metrics(tmp_path / "many")
    assert len(one) == epochs
    torch.testing.assert_close(torch.tensor(one), torch.tensor(many), rtol=1e-3, atol=1e-3)
    steps = read_checkpoint(tmp_path / "one")["state"]["step"]
    assert steps == read_checkpoint(tmp_path / "many")["state"]["step"]
    assert epochs < 70 or steps >= 200


def test_a_lost_process_is_replaced_and_training_ends_the_same(manifest, tmp_path):
    options = {"save_every_minutes": 0.001}
    config = config_of(manifest, tmp_path / "whole", **options)
    config["model"]["encoder"]["dropout"] = 0.1
    process = launch(tmp_path, config, 2)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    config["output_dir"] = str(tmp_path / "killed")
    process = launch(tmp_path, config, 2, "--max-restarts", "3", DIE_ONCE="7")
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert (tmp_path / "died").exists()
    assert "going on from epoch" in output
    assert same_weights(tmp_path / "whole", tmp_path / "killed")


def test_a_signal_to_torchrun_saves_in_step(manifest, tmp_path):
    config = config_of(manifest, tmp_path / "cut", epochs=1000)
    process = launch(tmp_path, config, 2)
    deadline = time.monotonic() + 120
    while not (tmp_path / "cut" / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=100)
    assert "TrainingInterrupted" in output
    state = read_checkpoint(tmp_path / "cut")["state"]
    assert 1 <= state["epoch"] < 1000
    assert len(read_checkpoint(tmp_path / "cut")["random"]) == 2
    assert len((tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()) == state["epoch"]


def test_a_step_that_one_process_cannot_make_is_skipped_by_all(manifest, tmp_path):
    config = config_of(manifest, tmp_path / "run", max_skipped_steps=3)
    config["optimizer"]["lr"] = 1e30
    process = launch(tmp_path, config, 2)
    output, _ = process.communicate(timeout=600)
    assert process.returncode != 0
    assert "3 steps in a row had no finite loss or gradient" in output
    assert "lower optimizer.lr" in output


def test_trainer_devices_starts_the_other_processes(manifest, tmp_path):
    train(config_of(manifest, tmp_path / "one", epochs=2), Silent())
    (tmp_path / "program.py").write_text(PROGRAM)
    result = subprocess.run(
        [
            *(sys.executable, str(tmp_path / "program.py")),
            *(json.dumps(config_of(manifest, tmp_path / "two", epochs=2, devices=2)), str(tmp_path / "died")),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert "cpu x 2" in result.stdout
    assert distance(tmp_path / "one", tmp_path / "two") < 1e-5
