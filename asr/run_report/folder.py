"""What a run's folder holds, read for a report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from asr.errors import ConfigError, DataError, ModelError
from asr.model_file import read_header
from asr.scoring import Score, read_pair, score
from asr.training.checkpoint import read_checkpoint
from asr.training.journal import FILE_NAME as JOURNAL
from asr.training.journal import read_journal


@dataclass(frozen=True)
class TestSet:
    """A test set and its score.

    Attributes
    ----------
    name : str
    score : Score or None
        None if it was not scored yet.
    seconds : float or None
        Time that decoding and scoring took, where it is known.
    failures : tuple of str
        What could not be read, a message each.
    """

    __test__ = False  # no test of pytest's

    name: str
    score: Score | None
    seconds: float | None = None
    failures: tuple[str, ...] = ()

    @property
    def audio_seconds(self) -> float:
        """Length of all utterances."""
        assert self.score is not None
        return sum(fields.get("duration") or 0.0 for fields in self.score.fields)


@dataclass(frozen=True)
class Run:
    """What a run's folder holds.

    Attributes
    ----------
    folder : Path
    config : dict
        The settings, empty if they are not there.
    history : list of dict
        The metrics of each epoch, as in ``metrics.jsonl``.
    best : dict
        Those of the weights in ``model.asr``, perhaps with ``averaged_epochs``; empty without a model.
    finished : bool or None
        Whether the training is done; None if the folder does not tell.
    training_data : str or None
        Digest of the training manifest's ids, durations and texts.
    tests : list of TestSet
    journal : list of dict
        Its events; see `asr.training.journal`.
    lacks : list of str
        What the folder does not have, a sentence each.
    """

    folder: Path
    config: dict[str, Any]
    history: list[dict[str, Any]]
    best: dict[str, Any]
    finished: bool | None
    training_data: str | None
    tests: list[TestSet]
    journal: list[dict[str, Any]]
    lacks: list[str]

    @property
    def name(self) -> str:
        """What the run is called."""
        return str(self.config.get("name") or self.folder.absolute().name)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the journal's events of one kind."""
        return [event for event in self.journal if event["event"] == kind]


def read_run(folder: Path) -> Run:
    """Read a run's folder, whole or not.

    Raises
    ------
    ConfigError
        If it is not the folder of a run.
    DataError
        If one of its files is damaged.
    """
    lacks: list[str] = []
    if not any((folder / name).exists() for name in ("config.yaml", "metrics.jsonl", "checkpoint.pt")):
        raise ConfigError(
            f"{folder}: not the folder of a run, it has neither config.yaml nor metrics.jsonl; give the "
            "output_dir of an 'asr run' or 'asr train'"
        )
    try:
        checkpoint = read_checkpoint(folder)
    except ModelError as error:
        checkpoint = None
        lacks.append(str(error))
    config = _read_config(folder, checkpoint)
    if not config:
        lacks.append("There is no config.yaml, so the settings are not known.")
    history = _read_metrics(folder / "metrics.jsonl")
    if not history:
        lacks.append("There is no metrics.jsonl: no epoch was finished, so there are no curves.")
    if not (folder / JOURNAL).exists():
        lacks.append(
            f"There is no {JOURNAL}: versions, hardware and notes were not written down as this was trained."
        )
    journal = read_journal(folder)
    return Run(
        folder,
        config,
        history,
        _best(folder, checkpoint, history, lacks),
        _is_finished(config, checkpoint, history),
        checkpoint["config"].get("training_data") if checkpoint else None,
        _read_tests(folder, config, journal),
        journal,
        lacks,
    )


def _read_config(folder: Path, checkpoint: Mapping[str, Any] | None) -> dict[str, Any]:
    path = folder / "config.yaml"
    if path.exists():
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            reason = " ".join(str(error).split())
            raise DataError(
                f"{path}: not readable as YAML ({reason}); put the run's settings back"
            ) from error
        if not isinstance(config, dict):
            raise DataError(
                f"{path}: expected settings by name, found {type(config).__name__}; put them back"
            )
        return config
    if checkpoint is None:
        return {}
    return {
        key: value for key, value in checkpoint["config"].items() if key not in ("training_data", "tokens")
    }


def _read_metrics(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    history = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or not isinstance(entry.get("epoch"), int):
            raise DataError(
                f"{path}:{number}: expected the metrics of an epoch, found {line[:40]!r}; delete the file: "
                "'asr train' writes it anew from the checkpoint"
            )
        history.append(entry)
    return history


def _best(
    folder: Path, checkpoint: Mapping[str, Any] | None, history: list[dict[str, Any]], lacks: list[str]
) -> dict[str, Any]:
    """Return the metrics of the weights that were kept: from the checkpoint, else from the model."""
    if checkpoint is not None and checkpoint["state"].get("best"):
        return dict(checkpoint["state"]["best"])
    try:
        return dict(read_header(folder / "model.asr")["info"].get("dev") or {})
    except (ModelError, OSError) as error:
        if history:
            lacks.append(f"Which epoch is the best is not known: {error}")
        return {}


def _is_finished(
    config: Mapping[str, Any], checkpoint: Mapping[str, Any] | None, history: list[dict[str, Any]]
) -> bool | None:
    state = checkpoint["state"] if checkpoint else {}
    if "finished" in state:
        return bool(state["finished"])
    epochs = (config.get("trainer") or {}).get("epochs")
    return len(history) >= epochs if isinstance(epochs, int) else None


def _read_tests(folder: Path, config: Mapping[str, Any], journal: list[dict[str, Any]]) -> list[TestSet]:
    names = list((config.get("data") or {}).get("test") or ())
    if not config:
        names = sorted(path.parent.name for path in folder.glob("*/hyp.jsonl"))
    found = []
    for name in names:
        path = folder / name / "hyp.jsonl"
        if not path.exists():
            found.append(TestSet(name, None))
            continue
        pairing = read_pair(path, path)
        # As in the evaluation: a brace is a character.
        result = score(pairing.references, pairing.hypotheses, alternatives=False, fields=pairing.fields)
        events = [event for event in journal if event["event"] == "scored" and event.get("test") == name]
        last = events[-1] if events else {}
        found.append(TestSet(name, result, last.get("seconds"), tuple(last.get("failures", ()))))
    return found
