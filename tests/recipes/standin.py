"""Stand-ins for corpora: a corpus's own layout and file formats, filled with synthetic speech.

A recipe's test builds such a tree once (`speak`, `write_sphere`, soundfile for the other formats; `pack`
makes archives of it), and `run_recipe` prepares it, trains for a few steps, evaluates every test set and
transcribes, all through the command line, as a user would::

    from tests.recipes.standin import recipe_yamls, run_recipe, speak

    @pytest.fixture(scope="module")
    def corpus(tmp_path_factory):
        folder = tmp_path_factory.mktemp("corpus")
        soundfile.write(folder / "a.flac", speak("the rain had stopped", voice=3), 16000)
        ...
        return folder

    @pytest.mark.parametrize("yaml", recipe_yamls("corpus"), ids=lambda p: p.stem)
    def test_the_recipe_runs(yaml, corpus, tmp_path):
        run = run_recipe(yaml, tmp_path, archive=corpus)
        assert set(run.manifests) == {"train", "dev", "test"}

SENTENCES has plain text to speak; the samples of a text, a voice and a rate are made once a session.
"""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from asr.cli.config import load_config
from asr.cli.main import main
from asr.data.espeak import ACCENTS, SAMPLE_RATE, VARIANTS, open_espeak
from asr.data.manifest import read_manifest
from asr.types import Utterance

ROOT = Path(__file__).parents[2]
SENTENCES = (
    "the rain had stopped before noon",
    "people were waiting outside",
    "somebody asked about apples",
    "a small dog was barking",
    "we should have taken another road",
    "nobody knew what to say",
    "she closed the heavy door",
    "the train left in the morning",
)
# Small enough that a training of one epoch takes a second or two, whatever the recipe's own model is.
SHRUNK = (
    "trainer.epochs=1",
    "trainer.precision=32-true",
    "trainer.accelerator=cpu",
    "trainer.num_workers=0",
    "model.encoder.hidden_size=8",
    "model.encoder.num_layers=1",
    "model.subsampling.channels=8",
)


@dataclass(frozen=True)
class Run:
    """What a shrunk run of a recipe left; the manifests are named train, dev and as the test sets are."""

    config: dict[str, Any]
    manifests: dict[str, list[Utterance]]
    wer: dict[str, dict[str, Any]]
    model: Path
    transcript: str


@cache
def speak(text: str, voice: int = 0, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Return speech (N,), float64 in [-1, 1]: quick, in one of many voices, with 0.1 s of silence around."""
    import soxr

    variants = VARIANTS["train"]
    with open_espeak() as espeak:
        samples = espeak.speak(
            text,
            accent=ACCENTS[voice % len(ACCENTS)],
            variant=variants[voice % len(variants)],
            rate=260,
            seed=voice,
        )
    samples = np.pad(0.5 * samples / np.abs(samples).max(), SAMPLE_RATE // 10)
    return samples if sample_rate == SAMPLE_RATE else soxr.resample(samples, SAMPLE_RATE, sample_rate)


def write_sphere(path: Path, samples: np.ndarray, sample_rate: int, byte_order: str = "01") -> None:
    """Write NIST SPHERE, 16-bit PCM: a text header of 1,024 bytes, then samples (``01`` little-endian)."""
    header = (
        "NIST_1A\n   1024\n"
        f"channel_count -i 1\nsample_count -i {len(samples)}\nsample_rate -i {sample_rate}\n"
        f"sample_n_bytes -i 2\nsample_byte_format -s2 {byte_order}\nsample_sig_bits -i 16\n"
        "sample_coding -s3 pcm\nend_head\n"
    )
    kind = "<i2" if byte_order == "01" else ">i2"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.encode().ljust(1024) + (np.clip(samples, -1, 1) * 32767).astype(kind).tobytes())


def pack(folder: Path, archive: Path) -> Path:
    """Make an archive of what `folder` holds, of the kind that its name says: zip, tar, tar.gz, tar.bz2."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, path.relative_to(folder))
        return archive
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2"}.get(archive.suffix, "w")
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    return archive


def recipe_yamls(name: str) -> list[Path]:
    """Return the configurations of a recipe."""
    found = sorted((ROOT / "recipes" / name).glob("*.yaml"))
    assert found, f"recipes/{name} has no configuration"
    return found


def run_recipe(yaml: Path, folder: Path, *, archive: Path, overrides: Sequence[str] = ()) -> Run:
    """Prepare, train a few steps, evaluate and transcribe one of the test recordings, by the command line.

    Parameters
    ----------
    yaml : Path
        One of the recipe's configurations.
    folder : Path
        Gets ``data``, ``run`` and ``text``.
    archive : Path
        The stand-in: an archive or a folder, as ``--archive`` takes it.
    overrides : sequence of str
        The recipe's options and other settings, after `SHRUNK`.
    """
    settings = [*SHRUNK, f"data.dir={folder / 'data'}", f"output_dir={folder / 'run'}", *overrides]
    config = load_config(str(yaml), settings)
    assert main(["run", str(yaml), *settings, "--archive", str(archive)]) == 0
    data = config["data"]
    manifests = {"train": data["train"], "dev": data["dev"], **data["test"]}
    utterances = {name: read_manifest(path) for name, path in manifests.items()}
    recording = utterances[next(iter(data["test"]))][0].audio_filepath
    assert recording is not None
    model = folder / "run" / "model.asr"
    text = folder / "text"
    assert main(["transcribe", recording, "--model", str(model), "-o", str(text), "-f", "json"]) == 0
    (transcript,) = text.glob("*.json")
    return Run(
        config,
        utterances,
        {name: json.loads((folder / "run" / name / "wer.json").read_text()) for name in data["test"]},
        model,
        json.loads(transcript.read_text())["text"],
    )
