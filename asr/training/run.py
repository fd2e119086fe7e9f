"""From a configuration to a trained model: manifests, tokens, checks, front end, training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from asr.build import build
from asr.data.check import summarize
from asr.data.collate import pad
from asr.data.dataset import read_in_batches
from asr.data.manifest import read_manifest
from asr.errors import AsrError, DataError
from asr.evaluation import BATCH_SECONDS
from asr.files import atomic_write, make_folder
from asr.model_file import load_model
from asr.recognizer import Recognizer
from asr.text import Normalizer, train_tokenizer
from asr.training.checkpoint import fingerprint, read_checkpoint, require_same_run
from asr.training.loop import Trainer
from asr.training.metrics import Monitor
from asr.training.speech import SpeechTask
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
    train_set = read_manifest(config["data"]["train"])
    dev_set = read_manifest(config["data"]["dev"])
    for name, utterances in (("train", train_set), ("dev", dev_set)):
        missing = [u.id for u in utterances if u.text is None or (name == "train" and not u.text.strip())]
        if missing:
            raise DataError(
                f"{config['data'][name]}: {len(missing)} utterances have no text, the first is {missing[0]}; "
                "add their transcripts or leave them out"
            )
    identity = config | {"training_data": fingerprint(train_set)}
    content = read_checkpoint(output_dir)
    if content is not None:
        require_same_run(content, identity, output_dir)
    trainer = build(config["trainer"], Trainer)
    if content is not None and content["state"]["epoch"] >= trainer.epochs:
        monitor.note(f"{output_dir} holds the finished training")
        return load_model(output_dir / "model.asr")
    with atomic_write(output_dir / "config.yaml") as path:
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        path.write_text(text, encoding="utf-8")
    torch.manual_seed(config["seed"])
    recognizer = make_recognizer(config, train_set)
    require_trainable(recognizer, train_set, dev_set, monitor)
    if recognizer.features.normalize == "corpus":
        fit_normalization(recognizer, train_set)
    augment = {key: value and build(value) for key, value in config["augment"].items()}
    task = SpeechTask(
        recognizer,
        train_set,
        dev_set,
        batch_seconds=trainer.batch_seconds,
        num_workers=trainer.num_workers,
        speed=augment.get("speed"),
        spec_augment=augment.get("spec"),
        seed=config["seed"],
    )
    trainer.fit(
        task,
        optimizer=config["optimizer"],
        scheduler=build(config["scheduler"]),
        output_dir=output_dir,
        config=identity,
        monitor=monitor,
    )
    return load_model(output_dir / "model.asr", device=str(recognizer.device))


def make_recognizer(config: dict[str, Any], train_set: Sequence[Utterance]) -> Recognizer:
    """Build the recogniser with fresh weights; tokens come from the training text."""
    normalizer = build(config["text"], Normalizer)
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
        found = recognizer.problems(utterances)
        # A dev text may be impossible for the model: that is a part of its error rate.
        bearable = ("alphabet", "too_long") if name == "dev" else ()
        errors = [p for p in found if p.severity == "error" and p.kind not in bearable]
        if errors:
            raise DataError("; ".join(summarize(errors, name)))
        for message in summarize(found, name):
            monitor.note(message)


def fit_normalization(recognizer: Recognizer, train_set: Sequence[Utterance]) -> None:
    """Compute the front end's corpus mean and deviation over the training set."""

    def stop(utterance: Utterance, error: AsrError) -> None:
        raise DataError(f"{utterance.id}: {error}")

    groups = read_in_batches(
        train_set,
        recognizer.normalizer,
        recognizer.sample_rate,
        recognizer.num_features,
        BATCH_SECONDS,
        on_error=stop,
    )
    recognizer.features.fit(pad([inputs for _, _, inputs, _ in group]) for group in groups)
