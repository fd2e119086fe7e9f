"""From a configuration to a trained model: manifests, tokens, checks, front end, training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from asr.augment import Augmentation
from asr.build import build
from asr.data.checks.utterances import ctc_min_frames
from asr.data.collate import pad
from asr.data.dataset import read_in_batches
from asr.data.feature_store import store_features
from asr.data.manifest import Manifest, durations
from asr.errors import AsrError, DataError
from asr.evaluation import BATCH_SECONDS
from asr.files import atomic_write, make_folder
from asr.model_file import load_model
from asr.recognizer import Recognizer
from asr.text import Normalizer
from asr.training.checkpoint import is_finished, read_checkpoint, set_seed
from asr.training.devices import is_main_process
from asr.training.folder import fingerprint, require_same_run, sole_training
from asr.training.guards import require_trainable
from asr.training.journal import Journal
from asr.training.loop import Trainer
from asr.training.metrics import Monitor
from asr.training.parts import freeze
from asr.training.speech import SpeechTask
from asr.training.start import choose_tokenizer, start_from
from asr.types import Utterance


def train(config: dict[str, Any], monitor: Monitor, command: Sequence[str] = ()) -> Recognizer:
    """Train as `config` says and return the best recogniser, which is ``model.asr`` in the output folder.

    A folder that holds the checkpoint of the same run goes on from there.

    Parameters
    ----------
    config : dict
        As `asr.cli.config.load_config` returns it.
    command : sequence of str
        What was typed to train so, for the journal.

    Raises
    ------
    ConfigError, DataError, ModelError
    """
    output_dir = Path(config["output_dir"])
    make_folder(output_dir)
    with sole_training(output_dir):
        return _train(config, output_dir, monitor, command)


def _train(config: dict[str, Any], output_dir: Path, monitor: Monitor, command: Sequence[str]) -> Recognizer:
    train_set: Sequence[Utterance] = Manifest(config["data"]["train"])
    dev_set: Sequence[Utterance] = Manifest(config["data"]["dev"])
    for name, utterances in (("train", train_set), ("dev", dev_set)):
        missing = [u.id for u in utterances if u.text is None or (name == "train" and not u.text.strip())]
        if missing:
            raise DataError(
                f"{config['data'][name]}: {len(missing)} utterances have no text, the first is {missing[0]}; "
                "add their transcripts or leave them out"
            )
    content = read_checkpoint(output_dir)
    # What was taken from another model is in the checkpoint; that model is not read again.
    tokens = content["config"].get("tokens") if content is not None else None
    identity = config | {"training_data": fingerprint(train_set), "tokens": tokens}
    if content is not None:
        require_same_run(content, identity, output_dir)
    trainer = build(config["trainer"], Trainer)
    if is_finished(content, trainer.epochs):
        monitor.note(f"{output_dir} holds the finished training")
        return load_model(output_dir / "model.asr")
    with atomic_write(output_dir / "config.yaml") as path:
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        path.write_text(text, encoding="utf-8")
    if is_main_process():
        monitor = Journal(output_dir, monitor, trainer, command, anew=content is None)
    set_seed(config["seed"])
    start = load_model(config["init_from"], "cpu") if config.get("init_from") and content is None else None
    recognizer = make_recognizer(config, train_set, start, tokens)
    if config["data"].get("feature_store"):
        train_set, dev_set = use_feature_store(
            config, recognizer, train_set, dev_set, trainer.num_workers, monitor
        )
    require_trainable(recognizer, train_set, dev_set, monitor)
    augmentation = make_augmentation(config, recognizer, train_set, monitor)
    if start is not None:
        start_from(recognizer, start, config["init_from"], monitor)
        identity["tokens"] = recognizer.config["tokenizer"]
    freeze(recognizer.model, config.get("freeze") or [])
    if recognizer.features.normalize == "corpus" and not recognizer.features.std.any():
        fit_normalization(recognizer, train_set)
    task = SpeechTask(
        recognizer,
        train_set,
        dev_set,
        batch_seconds=trainer.batch_seconds,
        num_workers=trainer.num_workers,
        augmentation=augmentation,
        seed=config["seed"],
        order=trainer.order,
        shuffle_shards=trainer.shuffle_shards,
        delay_penalty=config.get("delay_penalty") or 0.0,
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


def make_recognizer(
    config: dict[str, Any],
    train_set: Sequence[Utterance],
    start: Recognizer | None = None,
    tokens: dict[str, Any] | None = None,
) -> Recognizer:
    """Build the recogniser with fresh weights.

    Tokens are those of the configuration `tokens`, or come from the training text and from `start`; see
    `asr.training.start.choose_tokenizer`.
    """
    normalizer = build(config["text"], Normalizer)
    texts = [normalizer(u.text or "") for u in train_set]
    tokenizer = build(tokens) if tokens else choose_tokenizer(config["tokenizer"], texts, start)
    return Recognizer.from_config(
        config | {"tokenizer": tokenizer.to_config()}, max_train_seconds=float(durations(train_set).max())
    )


def use_feature_store(
    config: dict[str, Any],
    recognizer: Recognizer,
    train_set: Sequence[Utterance],
    dev_set: Sequence[Utterance],
    num_workers: int,
    monitor: Monitor,
) -> tuple[Sequence[Utterance], Sequence[Utterance]]:
    """Return both sets with their features in place of their audio, computed first if there is no store yet.

    Raises
    ------
    ConfigError
        If the store is of another front end, or an augmentation needs waveforms.
    AsrError
        If an utterance cannot be read.
    """
    # Before anything is computed, see that the augmentation can do without waveforms.
    augmentation = Augmentation(
        config["augment"], seed=config["seed"], sample_rate=recognizer.sample_rate, of_features=True
    )
    if augmentation.speed is not None:
        monitor.note(
            "augment.speed changes the tempo of stored features by interpolation; without "
            "data.feature_store it resamples audio, pitch and all"
        )
    found = [
        store_features(
            utterances,
            recognizer.features.extractor,
            config["features"]["extractor"],
            Path(config["data"]["feature_store"]),
            name,
            num_workers=num_workers,
            note=monitor.note,
        )
        for name, utterances in (("train", train_set), ("dev", dev_set))
    ]
    return found[0], found[1]


def make_augmentation(
    config: dict[str, Any], recognizer: Recognizer, train_set: Sequence[Utterance], monitor: Monitor
) -> Augmentation:
    """Build the augmentation, and note how many utterances are too short for the fastest speed.

    Raises
    ------
    ConfigError, DataError
        If an augmentation does not fit the training set, or its files cannot be used.
    """
    augmentation = Augmentation(
        config["augment"],
        seed=config["seed"],
        sample_rate=recognizer.sample_rate,
        of_features=train_set[0].features_filepath is not None,
    )
    fastest = max(augmentation.speed.factors) if augmentation.speed is not None else 1.0
    if fastest > 1:
        tight = [
            u.id
            for u in train_set
            if recognizer.output_length(u.duration / fastest)
            < ctc_min_frames(recognizer.tokenizer.encode(recognizer.normalizer(u.text or "")))
        ]
        if tight:
            monitor.note(
                f"{len(tight)} training utterances, the first {tight[0]}, have too few frames for their "
                f"text at speed {fastest:g}; where so fast a speed is drawn they are left as they were"
            )
    return augmentation


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
