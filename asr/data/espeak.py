"""Speech from text with espeak-ng, for corpora that need no download: the same samples on every run."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from asr.errors import DataError

SAMPLE_RATE = 16000
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
            raise _unusable(error) from error
        try:
            # 2: return from espeak_Synth when all is spoken; buffers of 1000 ms; 0x8000: return from errors.
            sample_rate = lib.espeak_Initialize(2, 1000, os.fsencode(self.data), 0x8000)
            if sample_rate <= 0:
                raise _unusable(f"no usable data in {self.data}")
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


@contextlib.contextmanager
def open_espeak(languages: Iterable[str] = ACCENTS) -> Iterator[Espeak]:
    """Give espeak-ng with its voices of some languages, by default its accents of English.

    Raises
    ------
    DataError
        If it cannot be loaded, or has no such language.
    """
    library, data = find_espeak()
    with tempfile.TemporaryDirectory() as folder:
        yield Espeak(library, link_languages(data, Path(folder) / "espeak-ng-data", languages))


def find_espeak() -> tuple[Path, Path]:
    """Return the paths of espeak-ng's shared library and of its data."""
    try:
        import espeakng_loader

        library, data = Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
    except (ImportError, RuntimeError) as error:
        raise _unusable(error) from error
    if not library.is_file():
        raise _unusable(f"no file {library}")
    return library, data


def link_languages(data: Path, folder: Path, languages: Iterable[str]) -> Path:
    """Make a data folder of links to a part of espeak-ng's, and return it.

    espeak-ng cannot open data whose path exceeds 160 bytes, and without `lang/<language>` it searches all
    its 130 languages each time a voice is chosen, which takes longer than speaking.
    """
    (folder / "lang").mkdir(parents=True)
    files = {path.name.lower(): path for path in (data / "lang").rglob("*") if path.is_file()}
    parts = {"intonations", "phondata", "phonindex", "phontab", "voices"}
    for language in languages:
        dictionary = f"{language.split('-')[0]}_dict"
        if language not in files or not (data / dictionary).is_file():
            raise DataError(f"espeak-ng has no language '{language}'; pip install espeakng-loader==0.2.4")
        (folder / "lang" / language).symlink_to(files[language])
        parts.add(dictionary)
    for name in parts:
        (folder / name).symlink_to(data / name)
    return folder


def _unusable(why: object) -> DataError:
    return DataError(f"espeak-ng cannot be loaded ({why}); pip install --force-reinstall espeakng-loader")


def _resample(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Resample (N,) samples that start and end in near silence to `SAMPLE_RATE`, by cutting the spectrum."""
    length = len(samples) * SAMPLE_RATE // sample_rate
    # A multiple of this has a whole number of samples at either rate, and a fast transform.
    step = 32 * sample_rate // math.gcd(sample_rate, SAMPLE_RATE)
    samples = np.pad(samples, (0, -len(samples) % step))
    size = len(samples) * SAMPLE_RATE // sample_rate
    return np.fft.irfft(np.fft.rfft(samples), size)[:length] * (size / len(samples))
