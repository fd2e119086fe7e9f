"""NIST's tools as oracles, and texts on which aligners differ."""

import random
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence

import numpy as np
import pytest

SCTK = shutil.which("sctk")


@pytest.fixture(scope="session")
def sctk() -> Callable[..., str]:
    """Return a function that runs a program of NIST's SCTK in a folder and returns what it prints."""
    if SCTK is None:
        pytest.skip("SCTK is not installed (Debian: apt install sctk)")

    def run(folder, *arguments, given=""):
        result = subprocess.run(
            [SCTK, *arguments], cwd=folder, input=given.encode(), capture_output=True, check=True
        )
        return result.stdout.decode(errors="replace")

    return run


@pytest.fixture
def sclite(tmp_path, sctk) -> Callable[..., np.ndarray]:
    """Return a function from references and hypotheses to sclite's counts (#C #S #D #I), (N, 4)."""

    def counts(references: Sequence[str], hypotheses: Sequence[str], *options: str) -> np.ndarray:
        for name, texts in (("ref", references), ("hyp", hypotheses)):
            lines = [f"{text} (s-{number:05d})\n" for number, text in enumerate(texts)]
            (tmp_path / name).write_text("".join(lines))
        files = ["-r", "ref", "trn", "-h", "hyp", "trn", "-i", "spu_id", "-e", "utf-8"]
        output = sctk(tmp_path, "sclite", *files, "-s", "-o", "pra", "stdout", *options)
        scores = r"^id: \(s-(\d+)\)\nScores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)"
        found = re.findall(scores, output, re.MULTILINE)
        assert len(found) == len(references)
        return np.array(sorted([int(field) for field in row] for row in found))[:, 1:]

    return counts


@pytest.fixture(scope="session")
def make_texts() -> Callable[..., tuple[list[str], list[str]]]:
    """Return a function that makes references and hypotheses of so few words that ties are common."""

    def make(
        seed: int,
        count: int,
        *,
        words: Sequence[str] = "abcdef",
        longest: int = 12,
        alternatives: bool = False,
        optional: bool = False,
    ) -> tuple[list[str], list[str]]:
        random_ = random.Random(seed)

        def group(depth: int = 0) -> str:
            wordings = []
            for _ in range(random_.randint(1, 3)):
                kinds = random_.choices(
                    ["word", "null", "group"], [6, 1, 2 if depth < 2 else 0], k=random_.randint(1, 3)
                )
                wordings.append(" ".join(item(kind, depth + 1) for kind in kinds))
            return "{ " + " / ".join(wordings) + " }"

        def item(kind: str, depth: int = 0) -> str:
            if kind == "group":
                return group(depth)
            word = "@" if kind == "null" else random_.choice(words)
            return f"({word})" if kind == "optional" else word

        weights = [20, 6 if alternatives else 0, 1 if alternatives else 0, 3 if optional else 0]
        texts: tuple[list[str], list[str]] = ([], [])
        for _ in range(count):
            for side in texts:
                kinds = random_.choices(
                    ["word", "group", "null", "optional"], weights, k=random_.randint(0, longest)
                )
                side.append(" ".join(map(item, kinds)))
        return texts

    return make
