"""What is looked at before the first step, so that a training stops at once and not in its third night."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from asr.data.checks.problems import Problem, summarize
from asr.data.dataset import read_inputs
from asr.data.manifest import durations
from asr.errors import AsrError, DataError
from asr.recognizer import Recognizer
from asr.storage import is_remote
from asr.training.metrics import Monitor
from asr.training.task import Task
from asr.types import Utterance

READ_HOURS = 10.0
"""Up to so much speech, every training utterance is read before the first step: a minute or less."""


def require_trainable(
    recognizer: Recognizer, train_set: Sequence[Utterance], dev_set: Sequence[Utterance], monitor: Monitor
) -> None:
    """Stop before the first step if an utterance cannot be learnt, and note what is unusual.

    Looks at the text, at audio headers (but not at those of a large set of remote files), and at whether CTC
    can fit each text into its frames. A training set of up to `READ_HOURS` is also read to the last sample.

    Raises
    ------
    DataError
        If a training utterance cannot be spelled, has too few frames for its tokens, or is longer than
        its file, or if a file cannot be read.
    """
    hours = float(durations(train_set).sum()) / 3600
    # The headers of many remote shards would cost a copy of all of them.
    far = hours > READ_HOURS and is_remote(train_set[0].audio_filepath or "")
    for name, utterances in (("training", train_set), ("dev", dev_set)):
        found = recognizer.problems(utterances, read="nothing" if far and name == "training" else "headers")
        # A dev text may be impossible for the model: that is a part of its error rate.
        bearable = ("alphabet", "too_long", "no_text") if name == "dev" else ()
        errors = [p for p in found if p.severity == "error" and p.kind not in bearable]
        if errors:
            raise DataError("; ".join(summarize(errors, name)))
        for message in summarize(found, name):
            monitor.note(message)
    if hours > READ_HOURS:
        monitor.note(
            f"{hours:.0f} h of training speech are read as training goes; 'asr check' reads them beforehand"
        )
        return
    errors = list(reading_problems(recognizer, train_set))
    if errors:
        raise DataError("; ".join(summarize(errors, "training")))


def reading_problems(recognizer: Recognizer, utterances: Sequence[Utterance]) -> Iterator[Problem]:
    """Read utterances as training does; yield those that cannot be read or are too short as they are."""
    for utterance in utterances:
        path = utterance.features_filepath or utterance.audio_filepath or ""
        try:
            inputs = read_inputs(utterance, recognizer.sample_rate, recognizer.num_features)
        except AsrError as error:
            yield Problem(utterance.id, path, "unreadable", str(error), "error")
            continue
        tokens = recognizer.tokenizer.encode(recognizer.normalizer(utterance.text or ""))
        if not recognizer.fits(inputs, tokens):
            unit = "samples" if inputs.ndim == 1 else "frames"
            message = (
                f"{path}: {len(inputs)} {unit} are too few for {len(tokens)} tokens, but the manifest says "
                f"{utterance.duration:.2f} s; correct the manifest, or drop the utterance"
            )
            yield Problem(utterance.id, path, "too_long", message, "error")


def rehearse(fabric: Fabric, task: Task, model: nn.Module, epoch: int, monitor: Monitor) -> None:
    """Compute loss and gradient of the epoch's largest batch, so that what cannot work shows at once.

    Leaves no trace: parameters, buffers, gradients and random generators are as before.

    Parameters
    ----------
    model : nn.Module
        The task's model as Fabric wraps it.

    Raises
    ------
    AudioError, DataError
        If an utterance of the batch cannot be read, or its loss or the gradient is not finite.
    """
    batch = task.largest(epoch)
    names = task.names(batch)
    with _no_trace(fabric, task.whole):
        model.train()
        try:
            with fabric.no_backward_sync(model):  # type: ignore[arg-type]  # as Fabric wraps it
                losses, _ = task.losses(model, batch, epoch)
                fabric.backward(losses.sum() / max(1, task.num_tokens(batch)))
        except torch.OutOfMemoryError:
            useful, padded = task.padding_of(batch)
            monitor.note(
                f"the largest batch, {len(names)} of {useful / padded:.0%} useful frames, does not fit into "
                "memory and will be divided, which takes time; lower trainer.batch_seconds"
            )
            return
        of_names = dict(zip(names, losses.tolist(), strict=True))
        bad = {name: loss for name, loss in of_names.items() if not math.isfinite(loss)}
        if bad:
            infinite = math.inf in bad.values()
            reason = "fewer frames than the text needs" if infinite else "NaN in features or weights"
            raise DataError(
                f"{', '.join(bad)}: loss not finite before the first step, from {reason}; "
                "run 'asr check' on the training manifest, and leave out what it names"
            )
        flawed = [key for key, p in task.model.named_parameters() if _is_flawed(p.grad)]
        # In float16 the gradient is scaled up and may overflow at first.
        if flawed and getattr(fabric.strategy.precision, "scaler", None) is None:
            raise DataError(
                f"{', '.join(names)}: gradient of {flawed[0]} not finite before the first step; "
                "try trainer.precision=32-true"
            )


def _is_flawed(gradient: torch.Tensor | None) -> bool:
    return gradient is not None and not bool(gradient.isfinite().all())


@contextmanager
def _no_trace(fabric: Fabric, module: nn.Module) -> Iterator[None]:
    """Put back what a forward and a backward pass change."""
    buffers: list[tuple[Any, Any]] = [(buffer, buffer.clone()) for buffer in module.buffers()]
    gradients = [(parameter, parameter.grad) for parameter in module.parameters()]
    modes = [(part, part.training) for part in module.modules()]
    for parameter, _ in gradients:
        parameter.grad = None
    devices = [fabric.device] if fabric.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        for buffer, value in buffers:
            buffer.copy_(value)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        for part, mode in modes:
            part.training = mode
