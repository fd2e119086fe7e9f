"""Cut the digits out of AN4 for recipes/fsdd/new_voice.yaml: 74 more speakers.

    asr run recipes/an4/blstm.yaml output_dir=runs/an4
    python recipes/fsdd/voices.py runs/an4 -o data/fsdd/an4
    asr run recipes/fsdd/new_voice.yaml speaker=theo voices=data/fsdd/an4/digits.jsonl

The model of RUN says where in its training and dev utterances the words are. AN4's smaller archive has no
waveforms but 13 cepstra a frame; each word becomes sound again by giving a buzz or a noise the spectrum that
they describe, which keeps what was said and something of the voice, but not its pitch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np
import yaml

from asr import audio
from asr.alignment.align import align_text
from asr.cli.progress import seconds_bar
from asr.data.feature_files import read_features
from asr.data.manifest import read_manifest, write_manifest
from asr.errors import AsrError
from asr.features.extractors import INT16_SCALE, SphinxMfcc
from asr.files import make_folder
from asr.model_file import load_model
from asr.recognizer import Recognizer
from asr.types import Utterance

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SAMPLE_RATE = 8000
# Seconds of sound kept on either side of a word as the model marks it, at most half of what parts it from the
# next; a word that is then shorter than the third is left out.
BEFORE, AFTER, SHORTEST = 0.25, 0.3, 0.2
# Words that the model is less sure of are left out.
CONFIDENCE = 0.5


class Vocoder:
    """Makes sound of Sphinx's cepstra by a filtered source (Dudley, J. Acoust. Soc. Am. 11, 1939).

    The 40 filters' energies, as far as 13 cepstra tell them, give the spectrum's envelope 100 times a second.
    The source is a pulse train where low frequencies outweigh high ones, noise where they do not, between 1.5
    and 4 kHz partly noise in any case.
    """

    SIZE = 256  # samples of an FFT at `SAMPLE_RATE`, twice as long as a frame's shift and more

    def __init__(self) -> None:
        front_end = SphinxMfcc()
        assert front_end.transform is not None
        self._to_energies = np.linalg.pinv(front_end.transform.numpy().astype(np.float64))
        self._centers = front_end.centers.numpy()
        self._hop = SAMPLE_RATE * front_end.hop_length // front_end.sample_rate
        self._hz = np.fft.rfftfreq(self.SIZE, 1 / SAMPLE_RATE)
        self._mels, self._center_mels = (librosa.hz_to_mel(hz, htk=True) for hz in (self._hz, self._centers))
        turn = np.exp(-2j * np.pi * self._hz / front_end.sample_rate)
        self._emphasis = np.log(np.maximum(np.abs(1 - front_end.preemphasis * turn) ** 2, 1e-3))
        self._window = np.hanning(self.SIZE + 1)[:-1]

    def __call__(self, cepstra: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Map cepstra (T, 13) to samples, float32 (N,), in one of many pitches."""
        energies = cepstra @ self._to_energies  # natural logarithms of power
        envelope = np.stack([np.interp(self._mels, self._center_mels, frame) for frame in energies])
        envelope[:, self._hz < 90] -= 6.0
        gain = np.exp((envelope - self._emphasis) / 2) / INT16_SCALE
        low, high = (self._centers > 200) & (self._centers < 1000), self._centers > 3000
        tilt = energies[:, low].mean(axis=1) - energies[:, high].mean(axis=1)
        voiced = 1 / (1 + np.exp(-1.5 * (tilt - 0.5)))
        breath = 0.7 * np.clip((self._hz - 1500) / 2500, 0, 1)
        length = (len(cepstra) - 1) * self._hop + self.SIZE
        pulses, noise = _pulses(length, rng), rng.standard_normal(length)
        samples, weight = np.zeros(length), np.zeros(length)
        for number, (frame, share) in enumerate(zip(gain, voiced, strict=True)):
            part = slice(number * self._hop, number * self._hop + self.SIZE)
            buzz, hiss = (np.fft.rfft(source[part] * self._window) for source in (pulses, noise))
            share = share * (1 - breath)
            spectrum = frame * (np.sqrt(share) * buzz + np.sqrt(1 - share) * hiss)
            samples[part] += np.fft.irfft(spectrum) * self._window
            weight[part] += self._window**2
        return (samples / np.maximum(weight, 0.1)).astype(np.float32)


def _pulses(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return pulses of unit power, of a pitch between 85 and 240 Hz that falls and wavers."""
    time = np.arange(num_samples) / SAMPLE_RATE
    waver = 0.12 * np.sin(2 * np.pi * (rng.uniform(0.3, 1.2) * time + rng.random()))
    pitch = 85 * (240 / 85) ** rng.random() * (1 + waver - 0.1 * time / time[-1])
    periods = np.floor(np.cumsum(pitch) / SAMPLE_RATE)
    return np.diff(periods, prepend=0) * np.sqrt(SAMPLE_RATE / pitch)


def cut(run: Path, output_dir: Path) -> list[Utterance]:
    """Write every digit of AN4's training and dev utterances; return them, the manifest's rows."""
    data = yaml.safe_load((run / "config.yaml").read_text("utf-8"))["data"]
    utterances = [
        utterance
        for split in ("train", "dev")
        for utterance in read_manifest(data[split])
        if set((utterance.text or "").lower().split()) & set(DIGITS)
    ]
    recognizer = load_model(run / "model.asr", "cpu")
    make_folder(output_dir, "--output-dir")
    vocoder = Vocoder()
    rows: list[Utterance] = []
    with seconds_bar("AN4", sum(utterance.duration for utterance in utterances)) as progress:
        for utterance in utterances:
            for number, (word, start, end) in enumerate(_words(recognizer, utterance, progress)):
                rng = np.random.default_rng([7, len(rows)])
                samples = _sound(utterance, start, end, vocoder, rng)
                path = output_dir / f"{utterance.id}-{number}.wav"
                audio.save(path, 0.3 * samples / max(np.abs(samples).max(), 1e-9), SAMPLE_RATE)
                rows.append(
                    Utterance(
                        id=f"an4-{path.stem}",
                        duration=len(samples) / SAMPLE_RATE,
                        text=word,
                        audio_filepath=str(path.absolute()),
                        speaker=f"an4-{utterance.speaker}",
                        lang="en",
                    )
                )
    write_manifest(output_dir / "digits.jsonl", rows)
    return rows


def _words(
    recognizer: Recognizer, utterance: Utterance, progress: Callable[[float], None]
) -> list[tuple[str, float, float]]:
    """Return an utterance's digits with where to cut them, seconds."""
    try:
        words = align_text(recognizer, utterance, utterance.text or "", progress=progress).words
    except AsrError as error:
        print(f"voices.py: {error}; left out", file=sys.stderr)
        return []
    before = [0.0] + [(a.end + b.start) / 2 for a, b in pairwise(words)]
    after = [*before[1:], utterance.duration]
    found = []
    for word, earliest, latest in zip(words, before, after, strict=True):
        start, end = max(earliest, word.start - BEFORE), min(latest, word.end + AFTER)
        if word.text.lower() in DIGITS and word.confidence >= CONFIDENCE and end - start >= SHORTEST:
            found.append((word.text.lower(), start, end))
    return found


def _sound(
    utterance: Utterance, start: float, end: float, vocoder: Vocoder, rng: np.random.Generator
) -> np.ndarray:
    """Return a part of an utterance, float32 (N,)."""
    if utterance.audio_filepath is not None:
        samples = audio.load(utterance.audio_filepath, sample_rate=SAMPLE_RATE).samples
        return np.asarray(samples)[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
    cepstra = read_features(str(utterance.features_filepath)).astype(np.float64)
    return vocoder(cepstra[round(start * 100) : round(end * 100)], rng)


def main() -> None:
    """Write the digits and their manifest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the output_dir of recipes/an4/blstm.yaml")
    parser.add_argument("-o", "--output-dir", type=Path, default=Path("data/fsdd/an4"), metavar="DIR")
    args = parser.parse_args()
    if missing := [name for name in ("model.asr", "config.yaml") if not (args.run / name).is_file()]:
        parser.error(f"{args.run}: no {missing[0]} there; give a finished run of recipes/an4")
    try:
        rows = cut(args.run, args.output_dir)
    except AsrError as error:
        sys.exit(f"voices.py: {error}")
    speakers = len({row.speaker for row in rows})
    print(f"{args.output_dir / 'digits.jsonl'}: {len(rows)} digits, {speakers} speakers")


if __name__ == "__main__":
    main()
