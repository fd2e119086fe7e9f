"""Make a corpus of spoken digit strings with espeak-ng: no download, the same on every run.

Each utterance is 1 to 7 digits in one voice (an accent of English and a voice variant of espeak-ng), at
its own rate, pitch and level, mostly with noise added. No variant occurs in two splits.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from asr import audio
from asr.data.manifest import read_manifest, write_manifest
from asr.errors import ConfigError, DataError
from asr.files import atomic_write
from asr.types import Utterance

SAMPLE_RATE = 16000
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = (
    "en-us",
    "en-us-nyc",
    "en",
    "en-gb-x-rp",
    "en-gb-x-gbclan",
    "en-gb-x-gbcwmd",
    "en-gb-scotland",
    "en-029",
)

# Variants that share their formant scaling (Gene and Gene2, say, differ in pitch only) are one talker to
# a recogniser, so such a family stays within one split. The three that scale the second formant 1.5 times
# as much as the first (kaukovalta, shelby, travis), and so turn vowels into others, are for training only.
VARIANTS = {
    "train": (
        *("adam", "Alicia", "Andrea", "Andy", "anika", "anikaRobot", "antonio", "AnxiousAndy", "benjamin"),
        *("caleb", "croak", "Diogo", "ed", "f1", "f2", "f5", "fast", "grandpa", "gustave", "Henrique"),
        *("Hugo", "ian", "iven", "iven2", "iven3", "iven4", "Jacky", "john", "kaukovalta", "klatt"),
        *("klatt2", "klatt3", "klatt4", "klatt5", "klatt6", "Lee", "m1", "m3", "m6", "m7", "m8", "marcelo"),
        *("Mario", "max", "michel", "miguel", "Mike", "Mr serious", "Nguyen", "pablo", "paul", "pedro"),
        *("quincy", "RicishayMax", "RicishayMax2", "RicishayMax3", "rob", "robert", "robosoft"),
        *("robosoft2", "robosoft3", "robosoft4", "robosoft5", "robosoft6", "robosoft7", "robosoft8"),
        *("shelby", "steph", "steph2", "steph3", "Storm", "travis", "Tweaky", "UniRobot", "whisper"),
        *("whisperf", "zac"),
    ),
    "dev": (
        *("Alex", "Annie", "announcer", "boris", "Demonic", "Marco", "Michael", "mike2", "norbert"),
        *("Reed", "victor"),
    ),
    "test": (
        *("aunty", "belinda", "david", "Denis", "edward", "edward2", "f3", "f4", "Gene", "Gene2"),
        *("grandma", "linda", "m2", "m4", "m5", "sandro"),
    ),
}

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

    library, data = _find_espeak()
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
        with tempfile.TemporaryDirectory() as folder:
            espeak = Espeak(library, _link_english(data, Path(folder) / "espeak-ng-data"))
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


class Espeak:
    """Text to speech through espeak-ng's C interface.

    Parameters
    ----------
    library : Path
        The shared library.
    data : Path
        The folder ``espeak-ng-data``; its path must be shorter than 160 bytes.
    """

    def __init__(self, library: Path, data: Path) -> None:
        self.library = library
        self.data = data

    def speak(
        self,
        text: str,
        *,
        accent: str,
        variant: str,
        rate: int = 175,
        pitch: int = 50,
        pitch_range: int = 50,
        word_gap: int = 0,
        seed: int = 0,
    ) -> np.ndarray:
        """Speak a text; equal arguments give equal samples.

        Parameters
        ----------
        text : str
        accent, variant : str
            A language of espeak-ng's and the name of a file in its ``voices/!v``.
        rate : int
            Words a minute.
        pitch, pitch_range : int
            0 to 100, relative to the voice's own.
        word_gap : int
            Extra pause between words, units of 10 ms at the default rate.
        seed : int
            For the voice's breath and jitter.

        Returns
        -------
        np.ndarray, float64, (N,)
            Samples at `SAMPLE_RATE` in [-1, 1], without silence at either end.

        Raises
        ------
        DataError
            If the library cannot be loaded, or the voice does not exist or makes no sound.
        """
        # An unknown variant would be spoken in the accent's plain voice without a word.
        if not (self.data / "voices" / "!v" / variant).is_file():
            raise DataError(f"espeak-ng has no voice variant '{variant}'; pip install espeakng-loader==0.2.4")
        chunks: list[np.ndarray] = []

        @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        def collect(samples, count, _events):
            if samples and count:
                chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
            return 0

        # The phase of flutter, echo and noise lives in the library's static variables and survives
        # espeak_Terminate: only loading it anew for each text makes the text's samples repeatable.
        libc = ctypes.CDLL(None)
        try:
            lib = ctypes.CDLL(str(self.library))
        except OSError as error:
            raise _espeak_unusable(error) from error
        try:
            # 2: return from espeak_Synth when all is spoken; buffers of 1000 ms; 0x8000: return from errors.
            sample_rate = lib.espeak_Initialize(2, 1000, os.fsencode(self.data), 0x8000)
            if sample_rate <= 0:
                raise _espeak_unusable(f"no usable data in {self.data}")
            lib.espeak_SetSynthCallback(collect)
            failed = lib.espeak_SetVoiceByName(f"{accent}+{variant}".encode())
            # Half the default volume: at the default several voices clip.
            for parameter, value in ((1, rate), (2, 50), (3, pitch), (4, pitch_range), (7, word_gap)):
                lib.espeak_SetParameter(parameter, value, 0)
            libc.srand(seed)
            lib.espeak_ng_SetRandSeed(ctypes.c_long(seed))
            encoded = text.encode() + b"\0"
            if not failed:
                size = ctypes.c_size_t(len(encoded))
                failed = lib.espeak_Synth(encoded, size, 0, 0, 0, 1, None, None)  # 1: UTF-8
            lib.espeak_Terminate()
        finally:
            libc.dlclose(ctypes.c_void_p(lib._handle))
        samples = np.concatenate(chunks) / 32768 if chunks else np.zeros(0)
        loud = np.flatnonzero(np.abs(samples) > 0.01 * np.abs(samples).max(initial=0.0))
        if failed or not len(loud):
            raise DataError(
                f"espeak-ng's voice '{accent}+{variant}' makes no sound; pip install espeakng-loader==0.2.4"
            )
        return _resample(samples[loud[0] : loud[-1] + 1], sample_rate)


def _find_espeak() -> tuple[Path, Path]:
    """Return the paths of espeak-ng's shared library and of its data."""
    try:
        import espeakng_loader

        library, data = Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
    except (ImportError, RuntimeError) as error:
        raise _espeak_unusable(error) from error
    if not library.is_file():
        raise _espeak_unusable(f"no file {library}")
    return library, data


def _link_english(data: Path, folder: Path) -> Path:
    """Make a data folder of links to the English part of espeak-ng's, and return it.

    espeak-ng cannot open data whose path exceeds 160 bytes, and without `lang/<accent>` it searches all
    its 130 languages each time a voice is chosen, which takes longer than speaking.
    """
    (folder / "lang").mkdir(parents=True)
    for name in ("en_dict", "intonations", "phondata", "phonindex", "phontab", "voices"):
        (folder / name).symlink_to(data / name)
    for path in (data / "lang" / "gmw").glob("en*"):
        (folder / "lang" / path.name.lower()).symlink_to(path)
    return folder


def _espeak_unusable(why: object) -> DataError:
    return DataError(f"espeak-ng cannot be loaded ({why}); pip install --force-reinstall espeakng-loader")


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


def _resample(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Resample (N,) samples that start and end in near silence to `SAMPLE_RATE`, by cutting the spectrum."""
    length = len(samples) * SAMPLE_RATE // sample_rate
    # A multiple of this has a whole number of samples at either rate, and a fast transform.
    step = 32 * sample_rate // math.gcd(sample_rate, SAMPLE_RATE)
    samples = np.pad(samples, (0, -len(samples) % step))
    size = len(samples) * SAMPLE_RATE // sample_rate
    return np.fft.irfft(np.fft.rfft(samples), size)[:length] * (size / len(samples))


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples**2)))
