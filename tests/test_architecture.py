"""The rules on imports and on recipes, read from the source itself."""

import ast
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "asr"

# A module may import from its own layer and the ones before it.
LAYERS = [
    {"types", "errors", "build", "files", "container", "storage"},
    {"audio", "text", "features", "augment", "scoring", "vad", "windows", "segments", "inputs"},
    {"data", "models", "decoding", "lm"},
    {"recognizer"},
    {
        "alignment",
        "api",
        "evaluation",
        "export",
        "inspection",
        "live",
        "model_file",
        "plots",
        "results",
        "quantize",
        "run_report",
        "suspects",
        "training",
        "transcribe",
        "writers",
    },
    {"serve"},
    {"cli"},
]
# Each library has the modules in which it may be imported.
HOMES = {
    "soundfile": {"audio", "export"},
    "onnx": {"export"},
    "onnxruntime": {"export"},
    "soxr": {"audio"},
    "torchaudio": {"features", "augment", "decoding"},
    "rapidfuzz": {"scoring"},
    "sentencepiece": {"text"},
    "hydra": {"cli"},
    "omegaconf": {"cli"},
    "lightning_fabric": {"training"},
    "optuna": {"training"},
    "safetensors": {"container"},
    "flashlight": {"decoding"},
    "fsspec": {"storage"},
    "rich": {"cli"},
    "lhotse": {"data"},
    "pyarrow": {"data"},
    "matplotlib": {"plots"},
    "fastapi": {"serve"},
    "starlette": {"serve"},
    "uvicorn": {"serve"},
    "prometheus_client": {"serve"},
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    """Return the part of the package a file belongs to: its module or its sub-package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """Return the dotted names that a file imports, type-checking blocks left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if top_level_only and isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                found.add(child.module)
                found.update(f"{child.module}.{alias.name}" for alias in child.names)
            visit(child)

    visit(tree)
    return found


def layer(name: str) -> int:
    return next(i for i, names in enumerate(LAYERS) if name in names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    if path == PACKAGE / "__init__.py":
        return
    own = part(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "asr" and len(parts) > 1 and (PACKAGE / parts[1]).with_suffix("").parent == PACKAGE:
            assert layer(parts[1]) <= layer(own), f"{path.name} imports {name}"
            if own in ("models", "decoding", "lm"):
                assert parts[1] != "data", f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_library_has_one_home(path):
    for name in imports(path):
        library = name.split(".")[0]
        assert part(path) in HOMES.get(library, {part(path)}), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "scoring").glob("*.py")), ids=lambda p: p.name)
def test_scoring_sees_strings_only(path):
    for name in imports(path):
        assert name.split(".")[0] not in ("torch", "torchaudio", "lightning_fabric")
        assert not name.startswith("asr.") or name.split(".")[1] in ("scoring", "errors")


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda p: p.name)
def test_commands_import_nothing_heavy_until_they_run(path):
    standard = sys.stdlib_module_names
    for name in imports(path, top_level_only=True):
        assert name.split(".")[0] in standard or name.startswith(("asr.errors", "asr.cli")), name


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_command_line_prints(path):
    if part(path) == "cli":
        return
    calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]


RECIPES = sorted(p for p in (ROOT / "recipes").iterdir() if p.is_dir() and p.name != "__pycache__")


@pytest.mark.parametrize("folder", RECIPES, ids=lambda p: p.name)
def test_every_recipe_is_whole(folder):
    names = {p.name for p in folder.iterdir()}
    # A recipe of a corpus has the four; one that draws its data itself is a program, run.py.
    assert "README.md" in names
    assert {"prepare.py", "blstm.yaml", "bgru.yaml"} <= names or "run.py" in names
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for path in folder.glob("*.yaml"):
        assert path.name in readme, f"{path.name} is not described in its README"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "conf").glob("*/*.yaml")), ids=lambda p: f"{p.parent.name}/{p.stem}"
)
def test_every_choice_of_a_group_fits_its_signature(path):
    from asr.build import problems
    from asr.cli.config import load_config
    from asr.models.ctc import model_problems
    from asr.text import tokenizer_problems

    config = yaml.safe_load(path.read_text())
    group = path.parent.name
    if group == "augment":
        load_config("recipes/digits/blstm.yaml", [f"augment={path.stem}"])  # raises what is wrong
        found = []
    elif group == "model":
        found = model_problems(config)
    elif group == "tokenizer":
        found = tokenizer_problems(config)
    else:
        found = problems(config, supplied=["model"] if group == "optimizer" else [])
    assert found == []
