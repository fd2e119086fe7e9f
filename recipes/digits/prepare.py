"""Make a corpus of spoken digit strings with espeak-ng: no download, the same on every run.

Each utterance is 1 to 7 digits in one voice (an accent of English and a voice variant of espeak-ng), at
its own rate, pitch and level, mostly with noise added. No variant occurs in two splits.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from asr import audio
from asr.data.espeak import ACCENTS, SAMPLE_RATE, VARIANTS, Espeak, open_espeak
from asr.data.manifest import read_manifest, write_manifest
from asr.errors import ConfigError, DataError
from asr.files import atomic_write
from asr.types import Utterance

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Amplitude falls as 1 / frequency ** exponent.
NOISE_EXPONENTS = {"white": 0.0, "pink": 0.5, "brown": 1.0}
NOISES = (*NOISE_EXPONENTS, "babble")
BABBLE = (
    "the rain had stopped before the morning train",
    "people were waiting outside with their umbrellas",
    "somebody asked about the price of apples",
    "a small dog was barking behind the garden wall",
    "we should have taken another road home",
)

# Goes up with every change that gives other audio, so that an older corpus is made again.
_VERSION = 1


def prepare(
    output_dir: Path,
    *,
    archive: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
    num_train: int = 1500,
    num_dev: int = 150,
    num_test: int = 200,
    clean: float = 0.2,
    seed: int = 0,
) -> None:
    """Write ``{train,dev,test}.jsonl`` and ``audio/<split>/<id>.wav`` (16 kHz mono, 16 bits).

    A folder that holds the same corpus already is left as it is. An utterance depends on the seed,
    its split and its number only, so a smaller corpus is the beginning of a larger one.

    Parameters
    ----------
    output_dir : Path
        Made if there is none.
    archive : Path, optional
        Ignored: this corpus needs no archive.
    progress : callable, optional
        Called as ``progress(done, total)`` with counts of utterances.
    num_train, num_dev, num_test : int
        Utterances in each split.
    clean : float
        Share of utterances without noise, in [0, 1]. The others have 8 to 30 dB signal-to-noise ratio.
    seed : int
        Another seed gives another corpus from the same voices.

    Raises
    ------
    ConfigError
        If an option is out of range.
    DataError
        If espeak-ng cannot be loaded or lacks a voice, or the folder cannot be written.
    AudioError
        If an audio file cannot be written.
    """
    output_dir = Path(output_dir)
    counts = {"train": num_train, "dev": num_dev, "test": num_test}
    for split, count in counts.items():
        if count < 1:
            raise ConfigError(f"num_{split}={count}: no utterances; give 1 or more")
    if not 0 <= clean <= 1:
        raise ConfigError(f"clean={clean}: not a share of the utterances; give 0 to 1")
    if seed < 0:
        raise ConfigError(f"seed={seed}: negative; give 0 or more")

    options = {
        **{f"num_{split}": count for split, count in counts.items()},
        "clean": clean,
        "seed": seed,
        "version": _VERSION,
        "espeakng_loader": version("espeakng-loader"),
    }
    if _is_prepared(output_dir, options):
        return

    stamp = output_dir / "prepared.json"
    try:
        stamp.unlink(missing_ok=True)
        with open_espeak() as espeak:
            total, done = sum(counts.values()), 0
            for split, count in counts.items():
                utterances = []
                audio_dir = output_dir / "audio" / split
                for utterance in _speak_split(espeak, audio_dir, split, count, clean=clean, seed=seed):
                    utterances.append(utterance)
                    done += 1
                    if progress:
                        progress(done, total)
                write_manifest(output_dir / f"{split}.jsonl", utterances)
        with atomic_write(stamp) as temporary:
            temporary.write_text(json.dumps(options, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{output_dir}: cannot write the corpus ({error.strerror}); choose a folder that you can write to"
        ) from error


def _is_prepared(output_dir: Path, options: dict[str, object]) -> bool:
    """Whether the folder holds this very corpus, whole."""
    try:
        if json.loads((output_dir / "prepared.json").read_text(encoding="utf-8")) != options:
            return False
        for split in VARIANTS:
            read_manifest(output_dir / f"{split}.jsonl")
    except (OSError, ValueError, DataError):
        return False
    return True


def _speak_split(
    espeak: Espeak, folder: Path, split: str, count: int, *, clean: float, seed: int
) -> Iterator[Utterance]:
    """Write the audio of one split and yield its utterances."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(f"{split}-*.wav"):
        path.unlink()
    variants = VARIANTS[split]
    talkers = [_babble_track(espeak, variants, number) for number in range(8)]
    for index in range(count):
        rng = np.random.default_rng([seed, list(VARIANTS).index(split), index])
        text = " ".join(rng.choice(DIGITS, size=rng.integers(1, 8)))
        accent, variant = str(rng.choice(ACCENTS)), variants[index % len(variants)]
        speech = espeak.speak(
            text,
            accent=accent,
            variant=variant,
            rate=int(rng.integers(110, 211)),
            pitch=int(rng.integers(30, 71)),
            pitch_range=int(rng.integers(30, 81)),
            word_gap=int(rng.integers(0, 9)),
            seed=int(rng.integers(2**31)),
        )
        # Everything is drawn whether used or not, so that `clean` changes nothing but the noise.
        before, after = (int(rng.uniform(0.1, 0.4) * SAMPLE_RATE) for _ in range(2))
        level, snr_db, noise = rng.uniform(-32, -16), round(rng.uniform(8, 30), 1), str(rng.choice(NOISES))
        noisy = rng.random() >= clean
        samples = np.pad(speech * 10 ** (level / 20) / _rms(speech), (before, after))
        if noisy:
            samples += _noise(rng, noise, len(samples), talkers) * 10 ** ((level - snr_db) / 20)
        samples *= min(1.0, 0.95 / np.abs(samples).max())

        name = f"{split}-{index:05d}"
        path = folder / f"{name}.wav"
        audio.save(path, samples, SAMPLE_RATE)
        yield Utterance(
            id=name,
            duration=len(samples) / SAMPLE_RATE,
            text=text,
            audio_filepath=str(path.resolve()),
            speaker=f"{accent}+{variant}",
            extra={"snr_db": snr_db if noisy else None, "noise": noise if noisy else "none"},
        )


def _babble_track(espeak: Espeak, variants: Sequence[str], number: int) -> np.ndarray:
    """Return one background talker of a split, RMS 1."""
    start = number % len(BABBLE)
    speech = espeak.speak(
        " ".join(BABBLE[start:] + BABBLE[:start]),
        accent=ACCENTS[number % len(ACCENTS)],
        variant=variants[number * len(variants) // 8],
        seed=number,
    )
    return speech / _rms(speech)


def _noise(rng: np.random.Generator, kind: str, length: int, talkers: Sequence[np.ndarray]) -> np.ndarray:
    """Return noise (length,) with RMS 1: a colour, or five of the talkers at once."""
    if kind == "babble":
        noise = np.zeros(length)
        for number in rng.permutation(len(talkers))[:5]:
            noise += np.resize(np.roll(talkers[number], -rng.integers(len(talkers[number]))), length)
    else:
        size = length + -length % 4096  # transforms of a length with a large prime factor are slow
        spectrum = np.fft.rfft(rng.standard_normal(size))
        # Flat below 50 Hz, or brown noise would be nearly all rumble that nobody hears.
        frequencies = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 50)
        noise = np.fft.irfft(spectrum / frequencies ** NOISE_EXPONENTS[kind], size)[:length]
    return noise / _rms(noise)


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples**2)))
