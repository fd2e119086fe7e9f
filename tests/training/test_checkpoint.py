"""A disk that fills up while results are saved: one line, and what was there stays whole."""

import os
import subprocess
import sys

import pytest

CODE = """
import resource, sys, torch
from pathlib import Path
from asr.training.checkpoint import TrainingState, read_checkpoint, save_checkpoint
folder = Path(sys.argv[1])
model = torch.nn.Linear(300, 300)
parts = {"model": model, "optimizer": torch.optim.AdamW(model.parameters())}
save_checkpoint(folder, TrainingState(epoch=1), parts, [], {})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # what a full disk does, without filling one
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    save_checkpoint(folder, TrainingState(epoch=2), parts, [], {})
except OSError as error:
    print("OSError", error.filename)
print("epoch", read_checkpoint(folder)["state"]["epoch"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
def test_the_previous_checkpoint_stays_whole(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert result.stdout.splitlines() == [f"OSError {tmp_path / 'checkpoint.pt'}", "epoch 1"], result.stderr
    assert os.listdir(tmp_path) == ["checkpoint.pt"]
