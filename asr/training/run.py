"""From a configuration to a trained model: manifests, tokens, checks, front end, training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from asr.build import build
from asr.data.check import Problem, check_utterances
from asr.data.collate import pad
from asr.data.dataset import read_in_batches
from asr.data.manifest import read_manifest
from asr.errors import AsrError, ConfigError, DataError
from asr.evaluation import BATCH_SECONDS
from asr.model_file import load_model
from asr.recognizer import Recognizer
from asr.text import train_tokenizer
from asr.training.metrics import Monitor
from asr.types import Utterance


def train(config: dict[str, Any], monitor: Monitor) -> Recognizer:
    """Train as `config` says and return the best recogniser, which is ``model.asr`` in the output folder.

    A folder that holds the checkpoint of the same run goes on from there.

    Parameters
    ----------
    config : dict
        As `asr.cli.config.load_config` returns it.

    Raises
    ------
    ConfigError, DataError, ModelError
    """
    output_dir = Path(config["output_dir"])
    make_folder(output_dir)
    torch.manual_seed(config["seed"])
    train_set = read_manifest(config["data"]["train"])
    dev_set = read_manifest(config["data"]["dev"])
    recognizer = make_recognizer(config, train_set)
    require_trainable(recognizer, train_set, dev_set, monitor)
    if recognizer.features.normalize == "corpus":
        fit_normalization(recognizer, train_set)
    (output_dir / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    augment = {key: value and build(value) for key, value in config["augment"].items()}
    build(config["trainer"]).fit(
        recognizer,
        train_set,
        dev_set,
        optimizer=config["optimizer"],
        scheduler=build(config["scheduler"]),
        speed=augment.get("speed"),
        spec_augment=augment.get("spec"),
        seed=config["seed"],
        output_dir=output_dir,
        config=config,
        monitor=monitor,
    )
    return load_model(output_dir / "model.asr", device=str(recognizer.device))


def make_folder(folder: Path) -> None:
    """Make the output folder and see that it can be written to.

    Raises
    ------
    ConfigError
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".write-test"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"output_dir {folder}: cannot be written ({error.strerror}); choose another output_dir"
        ) from error


def make_recognizer(config: dict[str, Any], train_set: Sequence[Utterance]) -> Recognizer:
    """Build the recogniser with fresh weights; tokens come from the training text."""
    normalizer = build(config["text"])
    missing = [u.id for u in train_set if not u.text]
    if missing:
        raise DataError(
            f"{config['data']['train']}: {len(missing)} utterances have no text, the first is {missing[0]}; "
            "leave them out"
        )
    tokenizer = train_tokenizer(config["tokenizer"], [normalizer(u.text or "") for u in train_set])
    return Recognizer.from_config(
        config | {"tokenizer": tokenizer.to_config()}, max_train_seconds=max(u.duration for u in train_set)
    )


def require_trainable(
    recognizer: Recognizer, train_set: Sequence[Utterance], dev_set: Sequence[Utterance], monitor: Monitor
) -> None:
    """Stop before the first step if an utterance cannot be learnt, and note what is unusual.

    Looks at the text, at audio headers, and at whether CTC can fit each text into its frames.

    Raises
    ------
    DataError
        If a training utterance cannot be spelled, has too few frames for its tokens, or is longer than
        its file, or if a file cannot be read.
    """
    for name, utterances in (("training", train_set), ("dev", dev_set)):
        kinds: dict[tuple[str, str], list[Problem]] = {}
        for problem in check_utterances(
            utterances,
            normalizer=recognizer.normalizer,
            tokenizer=recognizer.tokenizer,
            output_length=recognizer.output_length,
            sample_rate=recognizer.sample_rate,
            read="headers",
        ):
            # A dev text may be impossible for the model: that is a part of its error rate.
            fatal = problem.severity == "error" and (
                name == "training" or problem.kind not in ("alphabet", "too_long")
            )
            kinds.setdefault(("error" if fatal else "note", problem.kind), []).append(problem)
        messages = {
            key: f"{len(found)} {name} utterances ({key[1]}), the first {found[0].id}: {found[0].message}"
            for key, found in kinds.items()
        }
        errors = [message for (level, _), message in messages.items() if level == "error"]
        if errors:
            raise DataError("; ".join(errors))
        for message in messages.values():
            monitor.note(message)


def fit_normalization(recognizer: Recognizer, train_set: Sequence[Utterance]) -> None:
    """Compute the front end's corpus mean and deviation over the training set."""

    def stop(utterance: Utterance, error: AsrError) -> None:
        raise DataError(f"{utterance.id}: {error}")

    groups = read_in_batches(
        train_set, recognizer.normalizer, recognizer.sample_rate, BATCH_SECONDS, on_error=stop
    )
    recognizer.features.fit(pad([inputs for _, _, inputs, _ in group]) for group in groups)
