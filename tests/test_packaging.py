"""The wheel carries the configuration and the recipes, and works far from the clone."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_wheel_composes_every_recipe_outside_the_clone(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, str(ROOT)], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    recipes = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("recipes/*/*.yaml"))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from asr.cli.config import load_config, resource\n"
        "assert str(resource('conf')).startswith(sys.argv[1]), resource('conf')\n"
        "print([load_config(recipe)['name'] for recipe in sys.argv[2:]])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site"), *recipes],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "an4-blstm" in result.stdout
