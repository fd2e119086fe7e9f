"""What of a run would come out the same again, and what would not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from asr.run_report.folder import Run


class Statement(NamedTuple):
    """One thing that is said of a run.

    Attributes
    ----------
    verdict : {"same", "differs", "unknown"}
        Whether it comes out the same again.
    what, why : str
    """

    verdict: str
    what: str
    why: str


def statements(run: Run) -> Iterator[Statement]:
    """Yield what was deterministic in a run and what was not."""
    sessions = run.events("session")
    if sessions:
        yield from _of_the_training(run, sessions)
    else:
        yield Statement(
            "unknown",
            "Weights",
            "It was not written down where and with which version this was trained. On a CPU the same "
            "settings give the same bits with the same versions, processor and number of threads; on CUDA "
            "they do not.",
        )
    yield Statement(
        "same",
        "Scores and their intervals",
        "The bootstrap draws with a fixed seed: the same transcripts give the same numbers.",
    )
    yield Statement(
        "differs", "Times, speeds and peak memory", "They are those of this machine and this hour."
    )


def _of_the_training(run: Run, sessions: Sequence[Mapping[str, Any]]) -> Iterator[Statement]:
    seed = run.config.get("seed", "not known")
    yield Statement(
        "same",
        "Order of the batches, augmentation",
        f"Every draw follows from the seed ({seed}), the epoch and the utterance alone, whatever the "
        "workers, the batch or an interruption.",
    )
    yield Statement(
        "same",
        "First weights and dropout",
        "Drawn by torch from the seed; checkpoints hold the state of the generator, so a training that was "
        "interrupted goes on with the draws that it would have made.",
    )
    if "cuda" in {session["settings"]["device"] for session in sessions}:
        yield Statement(
            "differs",
            "Weights",
            "Trained on CUDA: the gradient of the CTC loss is added up by atomic operations, in whatever "
            "order the threads come (torch has no other way), and cuDNN's recurrent layers promise no order "
            "either. The same command gives slightly other weights; compare means of several seeds.",
        )
    else:
        threads = sorted({session["settings"]["threads"] for session in sessions})
        yield Statement(
            "same",
            "Weights",
            "Trained on the CPU: the same settings, versions, processor and number of threads "
            f"({', '.join(map(str, threads))} here) give the same bits. Others add numbers up in another "
            "order, and small differences grow as training goes on.",
        )
    yield from _changes(sessions)
    processes = {event["processes"] for event in run.events("epoch")}
    if processes - {1}:
        yield Statement(
            "differs" if len(processes) > 1 else "same",
            f"{' and then '.join(map(str, sorted(processes)))} processes",
            "The order of the batches is that of one process. Each process draws dropout of its own and "
            "gradients are added up across them, so another number of processes gives other weights.",
        )
    if any(entry.get("split_batches") for entry in run.history):
        yield Statement(
            "differs",
            "Batches that were divided",
            "It depends on the free memory which batches are; the gradient is the same but for rounding, "
            "and with batch normalisation not the same.",
        )


def _changes(sessions: Sequence[Mapping[str, Any]]) -> Iterator[Statement]:
    """Yield what was not the same in all sessions of a training that was interrupted."""
    for key in ("software", "hardware", "settings"):
        names = dict.fromkeys(name for session in sessions for name in session[key])
        changed = {
            name: values
            for name in names
            if len(values := list(dict.fromkeys(str(session[key].get(name)) for session in sessions))) > 1
        }
        if changed:
            told = "; ".join(f"{name}: {', then '.join(values)}" for name, values in changed.items())
            yield Statement(
                "differs",
                f"The {key} changed between sessions",
                f"{told}. A training without interruption would not have come to quite the same weights.",
            )
