"""Run an exported ONNX model: audio files to text and word times, without PyTorch.

Needs numpy, onnxruntime and, to read files, soundfile::

    python -m asr.export.runner model.onnx talk.wav
    python -m asr.export.runner model.onnx talk.wav --json

Each file is recognised in one piece, so cut recordings of many minutes first; `asr transcribe` does that.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from asr.decoding.timing import group_words, merge_path
from asr.errors import AsrError, AudioError, ConfigError, ModelError
from asr.types import Hypothesis

METADATA_KEY = "asr"
"""Under which an exported file keeps its description, JSON."""


class OnnxRecognizer:
    """A model that `asr export --format onnx` wrote.

    Parameters
    ----------
    path : path
    num_threads : int
        0 takes all cores.

    Attributes
    ----------
    description : dict
        See `asr.export.write.describe`.
    sample_rate : int
        Hz.

    Raises
    ------
    ConfigError
        onnxruntime is missing.
    ModelError
        The file is missing, or not one of `asr export`.

    Examples
    --------
    ::

        model = OnnxRecognizer("model.onnx")
        for word in model.recognize([model.load("talk.wav")])[0].words:
            print(word.start, word.text)
    """

    def __init__(self, path: str | os.PathLike[str], num_threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigError("the package onnxruntime is missing; install it with pip") from error
        if not Path(path).is_file():
            raise ModelError(f"{path}: no such file; write one with 'asr export --format onnx'")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3  # errors
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no other common base
            reason = " ".join(str(error).split())
            raise ModelError(f"{path}: onnxruntime cannot load it ({reason}); export it again") from error
        metadata = self.session.get_modelmeta().custom_metadata_map
        if METADATA_KEY not in metadata:
            raise ModelError(f"{path}: an ONNX file of another program; write one with 'asr export'")
        self.description = json.loads(metadata[METADATA_KEY])
        self.sample_rate: int = self.description["sample_rate"]

    def load(self, path: str | os.PathLike[str]) -> np.ndarray:
        """Read an audio file: float32 (N,) in [-1, 1], its channels averaged, at `sample_rate`.

        Raises
        ------
        AudioError
            soundfile cannot read it, or there is nothing in it.
        """
        import soundfile

        try:
            samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError) as error:
            raise AudioError(
                f"{path}: cannot be read ({error}); give WAV, FLAC, OGG or MP3, or convert it with ffmpeg"
            ) from error
        if not len(samples) or not np.isfinite(samples).all():
            raise AudioError(f"{path}: {len(samples)} samples, not all finite; record or convert it again")
        return resample(samples.mean(axis=1), rate, self.sample_rate)

    def log_probs(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Map waveforms (N,), or frames (T, F) for a model of features, to log-probabilities (T', V) each.

        All float32. They do not depend on what they are batched with, unless the model was exported with
        ``--int8``, where scales are of the whole batch.
        """
        lengths = np.array([len(x) for x in inputs], dtype=np.int64)
        padded = np.zeros((len(inputs), max(1, lengths.max()), *inputs[0].shape[1:]), dtype=np.float32)
        for row, x in zip(padded, inputs, strict=True):
            row[: len(x)] = x
        names = [node.name for node in self.session.get_inputs()]
        log_probs, num_frames = self.session.run(None, {names[0]: padded, names[1]: lengths})
        return [rows[:count] for rows, count in zip(log_probs, num_frames, strict=True)]

    def recognize(self, inputs: Sequence[np.ndarray]) -> list[Hypothesis]:
        """Decode a batch greedily; see `asr.decoding.greedy.GreedyDecoder`."""
        return [self._decode(log_probs) for log_probs in self.log_probs(inputs)]

    def _decode(self, log_probs: np.ndarray) -> Hypothesis:
        pieces, shift = self.description["pieces"], self.description["frame_shift"]
        scores = log_probs.max(axis=1).astype(np.float64).tolist()
        spans = merge_path(log_probs.argmax(axis=1).tolist(), [math.exp(score) for score in scores])
        tokens = tuple(span[0] for span in spans)
        return Hypothesis(
            text="".join(pieces[token] for token in tokens).strip(),
            words=group_words(spans, pieces, shift, len(log_probs)),
            tokens=tokens,
            log_prob=sum(scores),
            confidence=sum(span[3] for span in spans) / len(spans) if spans else 1.0,
        )


def resample(samples: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Change the sample rate of (N,) by cutting or extending the spectrum of the whole signal."""
    if rate == target:
        return samples
    num_samples = max(1, round(len(samples) * target / rate))
    # To whole seconds, so that the ratio is exact, and one more: the signal counts as periodic, and its end
    # must not ring into its beginning.
    padded = np.pad(samples, (0, -len(samples) % rate + rate))
    whole = len(padded) // rate * target
    spectrum = np.fft.rfft(padded)[: whole // 2 + 1]
    return (np.fft.irfft(spectrum, whole) * (target / rate))[:num_samples].astype(np.float32)


def main(arguments: Sequence[str] | None = None) -> int:
    """Transcribe the files that the command line names; return the exit status."""
    parser = argparse.ArgumentParser(prog="asr.export.runner", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", metavar="MODEL.onnx")
    parser.add_argument("audio", nargs="+")
    parser.add_argument("--json", action="store_true", help="a JSON object a file, with word times")
    parser.add_argument("--threads", type=int, default=0, help="cores (default: all)")
    args = parser.parse_args(arguments)
    failed = 0
    try:
        model = OnnxRecognizer(args.model, args.threads)
        if model.description["inputs"] != "waveforms":
            raise ModelError(f"{args.model}: takes features, not audio; export it without --input features")
    except AsrError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    for path in args.audio:
        try:
            hypothesis = model.recognize([model.load(path)])[0]
        except AsrError as error:
            sys.stderr.write(f"error: {error}\n")
            failed += 1
            continue
        line = hypothesis.text
        if args.json:
            words = [asdict(word) for word in hypothesis.words]
            line = json.dumps({"audio_filepath": path, "text": hypothesis.text, "words": words})
        sys.stdout.write(line + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
