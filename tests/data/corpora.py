"""A small corpus in several formats, for the tests of shards, packing and stores."""

from pathlib import Path

import numpy as np
import soundfile

from asr.data.manifest import write_manifest
from asr.types import Utterance

RATE = 8000


def make_corpus(folder: Path, count: int = 12) -> Path:
    """Write `count` recordings of 0.3 to 1 s, and a manifest; of two of them it takes a part only."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(count):
        samples = rng.integers(-9000, 9000, (int(RATE * rng.uniform(0.3, 1)), 2 if i == 3 else 1), np.int16)
        path = folder / "audio" / f"dir {i % 2}" / f"ä{i}.{'flac' if i % 3 == 2 else 'wav'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, samples, RATE, subtype="PCM_16")
        offset, seconds = (0.1, 0.15) if i in (1, 2) else (0.0, len(samples) / RATE)
        name = f"s{i % 2}/ä.{i}" if i else "plain"
        extra = {"snr": i}
        found.append(
            Utterance(name, seconds, f"wörd {i}\tx", str(path), offset, f"s{i % 2}", "de", extra=extra)
        )
    write_manifest(folder / "all.jsonl", found)
    return folder / "all.jsonl"
