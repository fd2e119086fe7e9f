"""Sweeps of real processes: failures, limits, stops and kills."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from asr.errors import ConfigError
from asr.model_file import save_model
from asr.training.search import Axis, make_search
from asr.training.sweep import Member, Sweep, read_members

# A training in small: writes when it runs, fails for some seeds, saves at a signal and takes that up again.
TRAINING = """
import shutil, signal, sys, time
from pathlib import Path
folder, models, seed, seconds = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4])
def save(number, _):
    (folder / "saved").write_text(signal.Signals(number).name)
    print("asr: error: interrupted")
    sys.exit(130)
signal.signal(signal.SIGINT, save)
signal.signal(signal.SIGTERM, save)
with open(folder.parent / "starts", "a") as file:
    print(seed, time.time(), "again" if (folder / "saved").exists() else "", file=file)
time.sleep(seconds)
if seed == "2":
    print("asr: error: data/train.jsonl: line 3: no text")
    sys.exit(2)
if seed == "3":
    raise ZeroDivisionError("a step of nothing")
if seed == "4":
    import os; os.kill(os.getpid(), 9)
shutil.copy(models / f"{seed}.asr", folder / "model.asr")
with open(folder.parent / "starts", "a") as file:
    print(seed, time.time(), "end", file=file)
sys.exit(1 if seed == "6" else 0)
"""


@pytest.fixture(scope="module")
def models(tiny_recognizer, tmp_path_factory):
    """Model files as trainings leave them; that of seed 5 is the best."""
    folder = tmp_path_factory.mktemp("models")
    recognizer = tiny_recognizer({"_target_": "asr.text.CharacterTokenizer", "characters": "ab"})
    for seed in (1, 5, 6, 7, 8):
        dev = {"epoch": seed, "dev_wer": 0.5 if seed != 5 else 0.25, "dev_cer": 0.2, "dev_loss": 1.0}
        save_model(folder / f"{seed}.asr", recognizer, {"dev": dev})
    return folder


def make_sweep(folder: Path, models: Path, seeds: str, *, jobs: int = 1, seconds: float = 0.0) -> Sweep:
    members = read_members(folder, ["seed"])
    search = make_search([Axis("seed", tuple(seeds))], None, 0, [(m.values, m.error_rate) for m in members])

    def command(member, member_folder):
        seed = member.values["seed"]
        if seed == "9":
            raise ConfigError("seed: unlucky")
        return [sys.executable, "-c", TRAINING, str(member_folder), str(models), seed, str(seconds)]

    notes: list[str] = []
    sweep = Sweep(folder, ["seed"], members, search, command, jobs=jobs, note=notes.append)
    sweep.notes = notes
    return sweep


def states(folder: Path) -> dict[str, str]:
    content = json.loads((folder / "sweep.json").read_text())
    return {member["values"]["seed"]: member["state"] for member in content["members"]}


def starts(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "starts").read_text().splitlines()]


def test_members_that_fail_do_not_end_the_others(tmp_path, models):
    sweep = make_sweep(tmp_path, models, "1234569", jobs=2)
    assert sweep.run()
    found = {m.values["seed"]: (m.state, m.error_rate, m.reason) for m in sweep.members}
    assert found == {
        "1": ("done", 0.5, ""),
        "2": ("failed", None, "data/train.jsonl: line 3: no text"),
        "3": ("failed", None, "ZeroDivisionError: a step of nothing"),
        "4": ("failed", None, "killed by SIGKILL"),
        "5": ("done", 0.25, ""),
        "6": ("done", 0.5, ""),  # status 1: done, but something failed on the way
        "9": ("failed", None, "seed: unlucky"),
    }
    with open(tmp_path / "sweep.csv", newline="") as file:
        rows = {row["seed"]: row for row in csv.DictReader(file)}
    assert rows["5"]["dev_wer"] == "0.25"
    assert rows["5"]["folder"] == "seed=5"
    assert rows["2"]["reason"] == "data/train.jsonl: line 3: no text"


def test_the_same_sweep_again_repeats_only_what_failed(tmp_path, models):
    make_sweep(tmp_path, models, "125").run()
    again = make_sweep(tmp_path, models, "1257")
    assert again.run()
    assert [line[0] for line in starts(tmp_path) if len(line) == 2] == ["1", "2", "5", "2", "7"]
    assert states(tmp_path) == {"1": "done", "2": "failed", "5": "done", "7": "done"}


def test_as_many_run_at_a_time_as_there_are_jobs(tmp_path, models):
    make_sweep(tmp_path, models, "15678", jobs=2, seconds=0.5).run()
    running, most = 0, 0
    for *_, end in sorted((float(t), 0 if rest else 1) for _, t, *rest in starts(tmp_path)):
        running += 1 if end else -1
        most = max(most, running)
    assert most == 2


def test_ctrl_c_lets_every_member_save_and_the_next_start_goes_on(tmp_path, models):
    sweep = make_sweep(tmp_path, models, "1578", jobs=2, seconds=30)

    def stop_once_both_run():
        while not (tmp_path / "starts").exists() or len(starts(tmp_path)) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=stop_once_both_run)
    thread.start()
    assert not sweep.run()
    thread.join()
    assert states(tmp_path) == {"1": "interrupted", "5": "interrupted"}
    assert [(tmp_path / f"seed={s}" / "saved").read_text() for s in "15"] == ["SIGINT", "SIGINT"]
    assert make_sweep(tmp_path, models, "1578", jobs=2).run()
    assert set(states(tmp_path).values()) == {"done"}
    assert sorted(line[0] for line in starts(tmp_path) if line[2:] == ["again"]) == ["1", "5"]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to pass on the sweep's death")
def test_members_of_a_sweep_that_is_killed_save_and_it_goes_on(tmp_path, models):
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import test_sweep as t;"
        "t.make_sweep(Path(sys.argv[2]), Path(sys.argv[3]), '157', jobs=2, seconds=60).run()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path), str(models)]
    )
    while not (tmp_path / "starts").exists() or len(starts(tmp_path)) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while len(list(tmp_path.glob("*/saved"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [(tmp_path / f"seed={s}" / "saved").read_text() for s in "15"] == ["SIGTERM", "SIGTERM"]
    assert make_sweep(tmp_path, models, "157").run()
    assert set(states(tmp_path).values()) == {"done"}


def test_a_folder_has_one_sweep(tmp_path, models):
    make_sweep(tmp_path, models, "1").run()
    with pytest.raises(
        ConfigError, match="holds a sweep of seed; choose another output_dir for one of model"
    ):
        read_members(tmp_path, ["model"])
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(ConfigError, match="damaged"):
        read_members(tmp_path, ["seed"])


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"optimizer.lr": "0.001", "seed": "2"}, "optimizer.lr=0.001,seed=2"),
        ({"+model.encoder.residual": "true"}, "model.encoder.residual=true"),
    ],
)
def test_a_member_s_folder_is_called_as_its_settings(values, name):
    assert Member(values).name == name


def test_settings_that_make_no_file_name_have_folders_of_their_own():
    names = {Member({"data.train": path}).name for path in ("a/b", "a_b", "a b", "x" * 300, "x" * 301)}
    assert len(names) == 5
    assert all("/" not in name and len(name) < 130 for name in names)
