"""Trains in child processes that are killed, and trains on: a program for test_resume.py.

``python kills.py FOLDER COUNT SEED`` trains without a break, then COUNT times with a ``kill -9`` in between,
and prints a line of JSON for each: how it was killed, and whether weights, optimiser and model file came out
the same.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from test_loop import Silent, make_config, make_corpus

import asr.training.speech
from asr.container import read_tensors
from asr.training.checkpoint import read_checkpoint
from asr.training.run import train

KINDS = ("any", "step", "save", "rename", "validation")


def die_in(owner, name, count, after):
    """Kill this process before or after the `count`-th call of a function."""
    original = getattr(owner, name)
    left = count

    def wrapped(*args, **kwargs):
        nonlocal left
        left -= 1
        if left == 0 and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        found = original(*args, **kwargs)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(owner, name, wrapped)


def places(kind):
    """Return what is called in a step, a save and a validation, and about how often in all."""
    return {
        "step": (torch.optim.AdamW, "step", 12),
        "save": (os, "fsync", 40),
        "rename": (os, "replace", 20),
        "validation": (asr.training.speech, "recognize_utterances", 4),
    }[kind]


def run(config, kind=None, rng=None, seconds=0.0):
    """Train in a child process, which may be killed; return its exit status and its time."""
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        if kind in KINDS[1:]:
            owner, name, count = places(kind)
            die_in(owner, name, rng.randint(1, count), rng.random() < 0.5)
        train(config, Silent())
        os._exit(0)
    if kind == "any":
        time.sleep(rng.uniform(0, seconds))
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), time.monotonic() - started


def equal(a, b):
    """Tell whether nested values are the same, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def outcome(folder):
    """Return what a training leaves that must not depend on where it was interrupted."""
    content = read_checkpoint(folder)
    assert content["state"]["finished"]
    timed = ("seconds", "dev_seconds", "waiting_share", "audio_seconds_per_second", "peak_memory_mib")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    return {
        "model": content["model"],
        "optimizer": content["optimizer"],
        "random": content["random"],
        "file": read_tensors(folder / "model.asr"),
        "metrics": [{key: value for key, value in line.items() if key not in timed} for line in lines],
        "names": sorted(path.name for path in folder.iterdir()),
    }


def main(folder, count, seed):
    """Compare `count` killed trainings with one that was left alone."""
    manifest, rng = make_corpus(folder), random.Random(seed)
    settings = {
        "epochs": 4,
        "batch_seconds": 1.0,
        "num_workers": 2,
        "save_every_minutes": 0.002,
        "accumulate": 2,
        "average": {"_target_": "asr.training.averaging.Ema", "decay": 0.9},
    }
    _, seconds = run(make_config(manifest, folder / "whole", **settings))
    whole = outcome(folder / "whole")
    for index in range(count):
        kind = KINDS[(index + 1) % len(KINDS)]
        config = make_config(manifest, folder / f"{index}", **settings)
        status, _ = run(config, kind, rng, seconds)
        found = read_checkpoint(folder / f"{index}")
        at = [found["state"]["epoch"], found["state"]["batch"]] if found else None
        resumed, _ = run(config)
        same = resumed == 0 and equal(outcome(folder / f"{index}"), whole)
        print(json.dumps({"kind": kind, "killed": status == -9, "at": at, "same": same}), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
