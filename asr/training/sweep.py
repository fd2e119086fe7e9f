"""Sweeps: many trainings that differ in some settings, each a process of its own.

One that fails does not end the others. All that a sweep knows is in ``sweep.json``, so that one that was
stopped goes on: members that are done are not repeated, the others take up their checkpoints.
"""

from __future__ import annotations

import contextlib
import csv
import ctypes
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from asr.errors import AsrError, ConfigError
from asr.files import atomic_write, make_folder
from asr.model_file import read_header
from asr.training.folder import sole_training
from asr.training.search import Search, Values
from asr.training.signals import StopSignals

FILE_NAME = "sweep.json"
LOG_NAME = "log.txt"
_POLL_SECONDS = 0.2


@dataclass
class Member:
    """One training of a sweep.

    Attributes
    ----------
    values : dict of str to str
        Its settings by key.
    state : {"waiting", "done", "failed", "interrupted"}
    dev : dict
        Metrics of its best epoch.
    seconds : float
        How long its processes ran.
    reason : str
        Why it failed.
    """

    values: Values
    state: Literal["waiting", "done", "failed", "interrupted"] = "waiting"
    dev: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    reason: str = ""

    @property
    def name(self) -> str:
        """Its settings in one word, the name of its folder."""
        words = ",".join(f"{key.lstrip('+')}={value}" for key, value in self.values.items())
        plain = re.sub(r"[^\w.=,+-]", "_", words)
        if plain == words and len(plain) <= 120:
            return plain
        return f"{plain[:110]}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"

    @property
    def error_rate(self) -> float | None:
        """Dev word error rate, None if it is not done."""
        return self.dev.get("dev_wer") if self.state == "done" else None


@dataclass
class _Running:
    member: Member
    process: subprocess.Popen[bytes]
    slot: int
    log: Path
    log_start: int
    clock: float


def read_members(folder: Path, keys: Sequence[str]) -> list[Member]:
    """Return what a folder's ``sweep.json`` knows, nothing if there is none.

    Raises
    ------
    ConfigError
        If the sweep there varies other settings than `keys`, or the file is damaged.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        members, theirs = [Member(**member) for member in content["members"]], content["keys"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: damaged ({error}); choose another output_dir, or delete it") from error
    if sorted(theirs) != sorted(keys):
        raise ConfigError(
            f"{folder} holds a sweep of {', '.join(theirs)}; choose another output_dir for one of "
            f"{', '.join(keys)}"
        )
    return [Member(**(asdict(m) | {"values": {key: m.values[key] for key in keys}})) for m in members]


class Sweep:
    """Runs the members of a sweep, some at a time.

    Parameters
    ----------
    folder : Path
        Of the sweep; each member has one in it.
    keys : sequence of str
        The settings that vary.
    members : list of Member
        What is known from before.
    search : Search
        Has been told of them.
    command : callable
        From a member and its folder to the command that trains it; may raise AsrError.
    jobs : int
        How many run at the same time.
    devices : sequence of str
        CUDA devices to divide among them; empty to leave that to the members.
    note : callable
        Takes a line about what goes on.
    """

    def __init__(
        self,
        folder: Path,
        keys: Sequence[str],
        members: list[Member],
        search: Search,
        command: Callable[[Member, Path], Sequence[str]],
        *,
        jobs: int,
        devices: Sequence[str] = (),
        note: Callable[[str], None],
    ) -> None:
        self.folder, self.keys, self.members = folder, list(keys), members
        self.search, self.command, self.note = search, command, note
        self.jobs, self.devices = jobs, devices
        self._unfinished = [m for m in members if m.state != "done"]
        self._running: list[_Running] = []

    def run(self) -> bool:
        """Run all members; return whether it came to an end, not to a signal.

        On the first Ctrl-C or SIGTERM every member is asked to save and stop; on a second one they are
        killed.

        Raises
        ------
        ConfigError
            If another sweep is running in the folder.
        """
        with sole_training(self.folder), StopSignals() as stop:
            try:
                stopping = False
                while self._fill() if not stop.requested else self._running:
                    if stop.requested and not stopping:
                        stopping = True
                        self.note(f"stopping {len(self._running)} trainings; each saves what it has done")
                        for running in self._running:
                            running.process.send_signal(signal.SIGINT)
                    time.sleep(_POLL_SECONDS)
                    for running in [r for r in self._running if r.process.poll() is not None]:
                        self._finish(running, stopping)
            finally:
                for running in self._running:
                    running.process.kill()
                    running.process.wait()
                self.write()
        return not stop.requested

    def write(self) -> None:
        """Write ``sweep.json`` and ``sweep.csv``."""
        with atomic_write(self.folder / FILE_NAME) as path:
            content = {"keys": self.keys, "members": [asdict(member) for member in self.members]}
            path.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
        metrics = sorted({name for m in self.members for name in m.dev if name.startswith("dev_")})
        with (
            atomic_write(self.folder / "sweep.csv") as path,
            open(path, "w", encoding="utf-8", newline="") as file,
        ):
            table = csv.writer(file)
            table.writerow([*self.keys, "state", *metrics, "epoch", "seconds", "folder", "reason"])
            for m in self.members:
                numbers = [m.dev.get(name, "") for name in (*metrics, "epoch")]
                table.writerow([*m.values.values(), m.state, *numbers, round(m.seconds, 1), m.name, m.reason])

    def _fill(self) -> bool:
        """Start members while there is room; return whether any runs."""
        while len(self._running) < self.jobs:
            if self._unfinished:
                member = self._unfinished.pop(0)
            elif (values := self.search.propose()) is not None:
                member = Member(values)
                self.members.append(member)
            else:
                break
            self._start(member)
        return bool(self._running)

    def _start(self, member: Member) -> None:
        folder = self.folder / member.name
        member.state, member.reason = "waiting", ""
        self.write()
        try:
            command = self.command(member, folder)
        except AsrError as error:
            member.state, member.reason = "failed", str(error)
            self._report(member)
            return
        make_folder(folder)
        slot = min(set(range(self.jobs)) - {r.slot for r in self._running})
        environment = dict(os.environ)
        if self.jobs > 1:
            threads = max(1, (os.cpu_count() or 1) // self.jobs)
            environment.setdefault("OMP_NUM_THREADS", str(threads))
        if self.devices:
            environment["CUDA_VISIBLE_DEVICES"] = self.devices[slot % len(self.devices)]
        path = folder / LOG_NAME
        with open(path, "ab") as log:
            start = log.tell()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C comes to this process alone, which passes it on
                preexec_fn=_stop_with_parent if sys.platform == "linux" else None,
            )
        self._running.append(_Running(member, process, slot, path, start, time.monotonic()))
        self.note(f"{member.name}: started, {path}")

    def _finish(self, running: _Running, stopping: bool) -> None:
        """Take note of how a member ended."""
        self._running.remove(running)
        member, status = running.member, running.process.returncode
        member.seconds += time.monotonic() - running.clock
        with open(running.log, encoding="utf-8", errors="replace") as file:
            file.seek(running.log_start)
            lines = [line.strip() for line in file if line.strip()]
        crashed = any(line.startswith("Traceback") for line in lines)
        # 1: done, though something failed on the way, such as one recording of a test set.
        if status == 0 or (status == 1 and not crashed):
            try:
                member.dev = read_header(running.log.parent / "model.asr")["info"]["dev"]
                member.state = "done"
            except AsrError as error:
                member.state, member.reason = "failed", str(error)
        elif stopping:
            member.state = "interrupted"
        else:
            member.state, member.reason = "failed", _reason(status, lines)
        self._report(member)

    def _report(self, member: Member) -> None:
        """Tell the search, the files and the user how a member ended."""
        self.search.tell(member.values, member.error_rate)
        self.write()
        if member.error_rate is not None:
            self.note(f"{member.name}: dev WER {100 * member.error_rate:.2f}%, {member.seconds / 60:.1f} min")
        else:
            self.note(f"{member.name}: {member.state}{member.reason and ', '}{member.reason}")


def _reason(status: int, lines: Sequence[str]) -> str:
    """Say in a line why a process ended."""
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}"
    if status == 130:
        return "interrupted from outside; what was done is saved"
    errors = [line for line in lines if line.startswith("asr: error: ")]
    if errors:
        return errors[-1].removeprefix("asr: error: ")
    return lines[-1] if lines else f"exit status {status}"


def _stop_with_parent() -> None:
    """Ask Linux for a SIGTERM when the sweep dies, so that no member trains on unseen."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
