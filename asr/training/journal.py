"""``journal.jsonl``: where a training ran, what was out of the ordinary, and when its epochs ended.

A JSON object a line, with ``time`` (UTC) and ``event``:

``session``
    A process began to train, or went on: ``command``, ``cwd``, ``software``, ``hardware``, ``settings``.
``note``
    ``message``, as it was shown.
``epoch``
    ``epoch`` is done, by so many ``processes``.
``scored``
    The test set ``test`` was decoded and scored in so many ``seconds``; ``failures`` could not be read.

Lines are added as a training goes on, so what it said before an interruption stays.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from asr.training.devices import pick_precision
from asr.training.metrics import Monitor

if TYPE_CHECKING:
    from asr.training.loop import Trainer

FILE_NAME = "journal.jsonl"
_PACKAGE = Path(__file__).parents[1]


class Journal:
    """A monitor that also writes down what another one shows.

    Parameters
    ----------
    folder : Path
        The output folder.
    monitor : Monitor
        The other one.
    trainer : Trainer
        Says on which device and in what precision.
    command : sequence of str
        What was typed, if anything was.
    anew : bool
        The training does not go on from a checkpoint: what the folder's journal said is of another one.
    """

    def __init__(
        self,
        folder: Path,
        monitor: Monitor,
        trainer: Trainer,
        command: Sequence[str] = (),
        *,
        anew: bool = False,
    ) -> None:
        self.folder, self.monitor = folder, monitor
        if anew:
            (folder / FILE_NAME).unlink(missing_ok=True)
        add_to_journal(
            folder,
            "session",
            command=list(command),
            cwd=os.getcwd(),
            software=software(),
            hardware=hardware(),
            settings=_settings(trainer),
        )

    def start_epoch(self, epoch: int, num_epochs: int, seconds: float, done: float) -> None:
        """Pass on the beginning of an epoch."""
        self.monitor.start_epoch(epoch, num_epochs, seconds, done)

    def step(self, *, loss: float, lr: float, seconds: float, running: Mapping[str, float]) -> None:
        """Pass on a step."""
        self.monitor.step(loss=loss, lr=lr, seconds=seconds, running=running)

    def end_epoch(self, metrics: dict[str, Any]) -> None:
        """Write down the end of an epoch; its metrics are in ``metrics.jsonl``."""
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        processes = torch.distributed.get_world_size() if several else 1
        add_to_journal(self.folder, "epoch", epoch=metrics["epoch"], processes=processes)
        self.monitor.end_epoch(metrics)

    def note(self, message: str) -> None:
        """Write down a note."""
        add_to_journal(self.folder, "note", message=message)
        self.monitor.note(message)


def add_to_journal(folder: Path, event: str, **facts: Any) -> None:
    """Add a line to a folder's journal."""
    line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **facts}
    with open(folder / FILE_NAME, "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """Return the events of a folder's journal, none if it has none.

    A line that a loss of power cut is passed over: the journal is no part of what a training goes on from.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and {"time", "event"} <= event.keys():
            events.append(event)
    return events


def software() -> dict[str, str]:
    """Return the versions of what computes: Python, the libraries and this toolkit, by name."""
    found = {"Python": platform.python_version()}
    for name in ("torch", "torchaudio", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    if torch.version.cuda:
        found["CUDA (of torch)"] = torch.version.cuda
    if torch.cuda.is_available():
        found["cuDNN"] = str(torch.backends.cudnn.version())
    try:
        found["asr"] = importlib.metadata.version("asr")
    except importlib.metadata.PackageNotFoundError:
        found["asr"] = "not installed, run from its source"
    commit = _commit()
    if commit:
        found["asr's git commit"] = commit
    return found


def hardware() -> dict[str, Any]:
    """Return what the machine is made of, by name: processor, cores, memory in GiB, GPUs, system."""
    found: dict[str, Any] = {"processor": _processor(), "cores": os.cpu_count() or 1}
    if hasattr(os, "sched_getaffinity"):
        found["cores that the process may use"] = len(os.sched_getaffinity(0))
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        found["memory"] = f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB"
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    found["GPU"] = ", ".join(f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for gpu in gpus) or "none"
    found["system"] = platform.platform()
    return found


def _settings(trainer: Trainer) -> dict[str, Any]:
    """Return what of the process's state decides how it computes."""
    on_cuda = trainer.accelerator != "cpu" and torch.cuda.is_available()
    return {
        "device": "cuda" if on_cuda else "cpu",
        "precision": pick_precision(trainer.precision, on_cuda),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of the clone that this package is in, None outside of one."""
    clone = _PACKAGE.parent
    if not (clone / ".git").exists():
        return None
    answers = []
    for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain")):
        try:
            done = subprocess.run(
                ["git", "-C", str(clone), *arguments], capture_output=True, text=True, timeout=20, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        answers.append(done.stdout.strip())
    return answers[0] + (", with changes that are not committed" if answers[1] else "")
