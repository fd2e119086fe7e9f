"""Starting a training from the weights of a trained model, for the same tokens or new ones."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from asr.build import TARGET, problems, resolve
from asr.errors import ModelError
from asr.recognizer import Recognizer
from asr.text import Tokenizer, train_tokenizer
from asr.training.metrics import Monitor

# Settings that say how a model is trained, not what it computes.
_OF_TRAINING = ("model.encoder.dropout", "model.encoder.dropout_kind", "model.subsampling.dropout")


def choose_tokenizer(
    config: Mapping[str, Any], texts: Sequence[str], start: Recognizer | None = None
) -> Tokenizer:
    """Make the tokenizer of a training configuration, or keep that of the model that training starts from.

    It is kept if the configuration asks for its kind (and size), names no alphabet of its own, and the
    texts can be spelled in it: so a model does not lose the letters that a small corpus happens to lack.

    Parameters
    ----------
    config : mapping
        As for `asr.text.train_tokenizer`.
    texts : sequence of str
        Normalised training texts.

    Raises
    ------
    ConfigError, DataError
    """
    if start is not None:
        kept = start.tokenizer
        same_kind = config[TARGET] == start.config["tokenizer"][TARGET]
        same_size = config.get("vocabulary_size", kept.vocabulary_size) == kept.vocabulary_size
        leaves_it_to_the_text = bool(problems(config))  # what its constructor needs is not there
        if same_kind and same_size and leaves_it_to_the_text and not any(map(kept.unknown, texts)):
            return kept
    return train_tokenizer(config, texts)


def start_from(recognizer: Recognizer, start: Recognizer, name: str, monitor: Monitor) -> None:
    """Give a recogniser the weights of a trained one, and tell the monitor what was taken.

    All but the output layer is taken as it is. The output layer's rows are taken token by token; those of
    tokens that only the new recogniser has keep their random values. Corpus statistics of the features
    are taken if both front ends have the same settings; else they are to be computed anew.

    Parameters
    ----------
    recognizer : Recognizer
        With fresh weights.
    name : str
        What the trained model is called in messages.

    Raises
    ------
    ModelError
        If a weight is missing or has another shape, naming the settings that differ.
    """
    differing = differences(start.config, recognizer.config)
    ours, theirs = recognizer.model.state_dict(), start.model.state_dict()
    body = {key: value for key, value in theirs.items() if not key.startswith("head.")}
    shapes = [{k: v.shape for k, v in w.items() if not k.startswith("head.")} for w in (ours, theirs)]
    if shapes[0] != shapes[1] or start.model.head.in_features != recognizer.model.head.in_features:
        raise ModelError(
            f"init_from {name}: is another network than the one asked for: {'; '.join(differing)}; "
            "change these settings to the model's, or start without it"
        )
    old, new = start.tokenizer.pieces, recognizer.tokenizer.pieces
    row_of = {piece: row for row, piece in enumerate(old)}
    kept = [row for row, piece in enumerate(new) if piece in row_of]
    source = [row_of[new[row]] for row in kept]
    for key in ours:
        if key.startswith("head."):
            body[key] = ours[key].index_copy(0, torch.tensor(kept), theirs[key][source])
    recognizer.model.load_state_dict(body)

    if old == new:
        monitor.note(f"starting from {name}: all its weights are taken, its {len(new)} tokens are kept")
    else:
        added, lost = [p for p in new if p not in row_of], [p for p in old if p not in set(new)]
        monitor.note(
            f"starting from {name}: subsampling and encoder are taken, the output layer is rebuilt for "
            f"{len(new)} tokens; {len(kept)} of them keep their weights, the blank among them; "
            f"new: {_listed(added)}; gone: {_listed(lost)}"
        )
    if differing:
        monitor.note(f"{name} was trained with other settings, which fit its weights: {'; '.join(differing)}")
    if recognizer.features.normalize == "corpus":
        if not any(d.startswith("features.") for d in differing):
            recognizer.features.load_state_dict(start.features.state_dict())
            monitor.note(f"the features are normalised by the statistics of {name}")
        else:
            monitor.note("the features' statistics are computed anew, as the front end has other settings")


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """List the settings of front end and network that differ, as ``key is 1 there and 2 here``.

    Options that are left out count as what they are by default; those of training do not count.
    """
    flat = [
        {key: value for part in ("features", "model") for key, value in _flatten(part, config[part])}
        for config in (there, here)
    ]
    keys = [key for key in {**flat[0], **flat[1]} if key not in _OF_TRAINING]
    return [
        f"{key} is {_word(flat[0], key)} there and {_word(flat[1], key)} here"
        for key in keys
        if flat[0].get(key) != flat[1].get(key)
    ]


def _flatten(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield path, json.loads(json.dumps(value))  # tuples as lists
        return
    value = dict(value)
    if TARGET in value:
        for key, parameter in inspect.signature(resolve(value[TARGET])).parameters.items():
            if parameter.default is not parameter.empty:
                value.setdefault(key, parameter.default)
    for key, inner in value.items():
        yield from _flatten(f"{path}.{key}", inner)


def _word(settings: Mapping[str, Any], key: str) -> Any:
    value = settings.get(key, "not an option")
    return str(value).rpartition(".")[2] if key.endswith(TARGET) else value


def _listed(pieces: Sequence[str], limit: int = 20) -> str:
    shown = ["space" if piece == " " else piece for piece in pieces[:limit]]
    more = [f"and {len(pieces) - limit} more"] if len(pieces) > limit else []
    return " ".join([*shown, *more]) or "none"
