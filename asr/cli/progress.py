"""Progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any


@contextlib.contextmanager
def seconds_bar(label: str, total: float) -> Iterator[Callable[[float], None]]:
    """Show how many of `total` seconds of audio are done; silent if stderr is not a terminal.

    Gives a function that takes the seconds done since its last call.
    """
    if not sys.stderr.isatty():
        yield lambda seconds: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} s of audio"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=_console(),
        transient=True,
    ) as bar:
        task = bar.add_task(label, total=total, rate="")

        def advance(seconds: float) -> None:
            bar.advance(task, seconds)
            speed = bar.tasks[task].finished_speed or bar.tasks[task].speed
            bar.update(task, rate=f"{speed:.0f} x real time" if speed else "")

        yield advance


@contextlib.contextmanager
def count_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show how much of something is done; silent if stderr is not a terminal.

    Gives a function that takes what is done and what there is in all (0 if that is not known). Another total
    is another piece of work, with a speed of its own.
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.progress import Progress

    with Progress(console=_console(), transient=True) as bar:
        task = bar.add_task(label, total=None)

        def show(done: int, total: int) -> None:
            if (total or None) != bar.tasks[0].total:
                bar.reset(task)
            bar.update(task, completed=done, total=total or None)

        yield show


@contextlib.contextmanager
def step_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Show steps that are counted, one after the other; silent if stderr is not a terminal.

    Gives a function that takes what is being done, how much of it is done and how much there is.
    """
    if not sys.stderr.isatty():
        yield lambda label, done, total: None
        return
    from rich.progress import Progress

    with Progress(console=_console(), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(label: str, done: int, total: int) -> None:
            if label not in tasks:
                tasks[label] = bar.add_task(label, total=total)
            bar.update(tasks[label], completed=done, total=total)

        yield show


class TrainingProgress:
    """Shows a training: a bar an epoch on a terminal, and a line at the end of each epoch."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._header_shown = False

    def start_epoch(self, epoch: int, num_epochs: int, seconds: float, done: float) -> None:
        """Begin an epoch."""
        self._num_epochs = num_epochs
        if not sys.stderr.isatty():
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        if self._bar is None:
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
                BarColumn(),
                TextColumn("loss {task.fields[loss]:.3f}  lr {task.fields[lr]:.1e}"),
                TextColumn("{task.fields[rate]:.0f} x real time"),
                TextColumn("{task.fields[health]}", style="dim"),
                TimeRemainingColumn(),
                console=_console(),
                transient=True,
            )
            self._bar.start()
            # The whole training is one task, so that the time left is that of all epochs.
            self._task = self._bar.add_task(
                "",
                total=seconds * num_epochs,
                **{"loss": 0.0, "lr": 0.0, "rate": 0.0, "health": "", "epoch": 0, "epochs": num_epochs},
            )
        self._bar.update(self._task, completed=epoch * seconds + done, epoch=epoch + 1)

    def step(self, *, loss: float, lr: float, seconds: float, running: Mapping[str, float]) -> None:
        """Report a step."""
        if self._bar is not None:
            health = (
                f"blank {running.get('blank_rate', 0):.0%}  gradient {running['grad_norm']:.1f}  "
                f"waiting {running['waiting_share']:.0%}  useful {running['useful_share']:.0%}  "
                f"{running['peak_memory_mib'] / 1024:.1f} GiB"
            )
            speed = running["audio_seconds_per_second"]
            self._bar.update(self._task, advance=seconds, loss=loss, lr=lr, rate=speed, health=health)

    def end_epoch(self, metrics: dict[str, Any]) -> None:
        """Print the epoch's line."""
        if not self._header_shown:
            self._header_shown = True
            self._print(
                "epoch    train loss  dev loss  dev WER  dev CER        lr  blank  gradient  x real time  "
                "waiting  seconds"
            )
        wer, cer = 100 * metrics["dev_wer"], 100 * metrics["dev_cer"]
        self._print(
            f"{metrics['epoch']:>3}/{self._num_epochs:<4} {metrics['train_loss']:>10.3f} "
            f"{metrics['dev_loss']:>9.3f} {wer:>7.2f}% {cer:>7.2f}% {metrics['lr']:>9.1e} "
            f"{metrics['blank_rate']:>6.0%} {metrics['grad_norm']:>9.2f} "
            f"{metrics['audio_seconds_per_second']:>12.0f} {metrics['waiting_share']:>8.0%} "
            f"{metrics['seconds'] + metrics['dev_seconds']:>8.1f}"
        )

    def note(self, message: str) -> None:
        """Print something out of the ordinary."""
        self._print(f"note: {message}")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)
