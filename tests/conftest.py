"""Fixtures shared by all tests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


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
