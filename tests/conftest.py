"""Fixtures shared by all tests."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# A shell without job control starts what it puts into the background deaf to Ctrl-C, and all that this starts
# in turn; tests send it to the programs that they run.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def archive() -> Callable[[str], Path]:
    """Return a function from an archive's file name to its path; skips where it is not at hand."""
    folder = os.environ.get("ASR_ARCHIVES", "")

    def find(name: str) -> Path:
        path = Path(folder) / name
        if not folder or not path.exists():
            pytest.skip(f"{name} not found; set ASR_ARCHIVES to the folder that holds it")
        return path

    return find


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Undo what a command under test sets for its process: sums on other threads differ in the last digit."""
    import torch

    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_recognizer() -> Callable[..., Any]:
    """Return a function that makes a small recogniser with random weights, sharp enough to say words."""

    def make(
        tokenizer: dict[str, Any], *, sample_rate: int = 8000, cell: str = "lstm", stride: int = 2
    ) -> Any:
        import torch

        from asr.recognizer import Recognizer

        torch.manual_seed(0)
        conv = {"channels": 16, "kernel_sizes": [5], "strides": [stride]}
        recognizer = Recognizer.from_config(
            {
                "features": {
                    "_target_": "asr.features.FrontEnd",
                    "extractor": {
                        "_target_": "asr.features.LogMel",
                        "sample_rate": sample_rate,
                        "n_mels": 20,
                    },
                },
                "model": {
                    "subsampling": {"_target_": "asr.models.subsampling.ConvSubsampling", **conv},
                    "encoder": {
                        "_target_": "asr.models.encoder.RecurrentEncoder",
                        "cell": cell,
                        "hidden_size": 16,
                        "num_layers": 1,
                    },
                },
                "tokenizer": tokenizer,
                "text": {"_target_": "asr.text.Normalizer"},
                "decoder": {"_target_": "asr.decoding.greedy.GreedyDecoder"},
            },
            max_train_seconds=2.0,
        )
        recognizer.model.head.weight.data *= 10
        return recognizer.eval()

    return make
