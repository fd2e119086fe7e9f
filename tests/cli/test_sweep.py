"""`asr train -m`: which settings vary, what is refused, and a sweep of real trainings."""

import csv
import json
import shlex
from types import SimpleNamespace

import numpy as np
import pytest

from asr import audio
from asr.cli.main import main
from asr.cli.sweep import _devices, _Recipe, _shell, split_overrides
from asr.data.manifest import write_manifest
from asr.errors import ConfigError
from asr.training.search import Axis
from asr.training.sweep import Member
from asr.types import Utterance

RECIPE = "recipes/digits/blstm.yaml"


@pytest.mark.parametrize(
    ("override", "axis"),
    [
        ("seed=1,2,3", Axis("seed", ("1", "2", "3"))),
        ("model=blstm,bgru", Axis("model", ("blstm", "bgru"))),
        ("seed=range(1,4)", Axis("seed", ("1", "2", "3"))),
        ("optimizer.lr=range(0.1,0.5,step=0.1)", Axis("optimizer.lr", ("0.1", "0.2", "0.3", "0.4"))),
        ("optimizer.lr=interval(1e-4,1e-2)", Axis("optimizer.lr", (), 1e-4, 1e-2)),
        ("optimizer.lr=tag(log,interval(1e-4,1e-2))", Axis("optimizer.lr", (), 1e-4, 1e-2, log=True)),
        ("n=int(interval(1,5))", Axis("n", (), 1, 5, integer=True)),
        ("model=glob(b*)", Axis("model", ("bgru", "bligru", "blstm", "brnn"))),
        ("model=glob(*,exclude=[b*,l*,ds2])", Axis("model", ("pyramid", "vgg_blstm"))),
        ("+x=choice('a b',[1,2])", Axis("+x", ("a\\ b", "[1,2]"))),
        ("freeze=[encoder.0],[subsampling]", Axis("freeze", ("[encoder.0]", "[subsampling]"))),
    ],
)
def test_settings_that_vary_are_those_of_hydra_s_grammar(override, axis):
    assert split_overrides(RECIPE, ["trainer.epochs=3", override, "name='a,b'"]) == (
        [axis],
        ["trainer.epochs=3", "name='a,b'"],
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=1"], "no setting varies"),
        (["output_dir=a,b", "seed=1,2"], "output_dir=a,b: each training has a folder of its own"),
        (["optimizer.lr=interval(1,0)"], "lower end first"),
        (["optimizer.lr=tag(log,interval(0,1))"], "must begin above 0"),
        (["model=glob(zzz*)"], "there is no value"),
        (["seed=range(1"], "cannot be read"),
    ],
)
def test_refuses(overrides, message):
    with pytest.raises(ConfigError, match=message):
        split_overrides(RECIPE, overrides)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=1,2", "-m", "--jobs", "0"], "--jobs: expected 1 or more"),
        (["optimizer.lr=interval(1e-4,1e-3)", "-m"], "say how many to try with --trials N"),
        (["seed=1,2", "-m", "trainer.epoch=3"], "trainer.epoch"),
    ],
)
def test_says_in_one_line_what_is_wrong(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", RECIPE, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def make_recipe(fixed, command="train", archive=None):
    return _Recipe(SimpleNamespace(recipe=RECIPE, archive=archive), command, fixed)


def test_members_have_their_settings_and_a_folder_that_hydra_can_read(tmp_path):
    member = Member({"optimizer.lr": "0.01", "seed": "2"})
    folder = tmp_path / "it's, (all)" / member.name
    recipe = make_recipe(["output_dir=elsewhere", "trainer.epochs=3"])
    config = recipe.config(member, folder)
    assert (config["optimizer"]["lr"], config["seed"], config["trainer"]["epochs"]) == (0.01, 2, 3)
    assert config["output_dir"] == str(folder)
    arguments = recipe.arguments(member, folder)
    assert shlex.split(_shell(arguments)) == arguments


def test_the_sweep_has_the_folder_asked_for_or_one_that_no_setting_moves():
    axes = [Axis("seed", ("3", "4"))]
    assert str(make_recipe(["output_dir=runs/x"]).first(axes)[1]) == "runs/x"
    assert str(make_recipe([]).first(axes)[1]) == "runs/digits-blstm-sweep"


def test_one_choice_that_is_wrong_does_not_stop_the_others():
    config, _ = make_recipe([]).first([Axis("model", ("nonsense", "bgru"))])
    assert config["model"]["encoder"]["cell"] == "gru"
    with pytest.raises(ConfigError, match="nonsense"):
        make_recipe([]).first([Axis("model", ("nonsense", "neither"))])


def test_each_corpus_is_prepared_once_and_never_for_two(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prepare.py").write_text(
        "def prepare(output_dir, *, archive=None, progress=None, size: int = 3) -> None:\n"
        "    with open(output_dir / 'train.jsonl', 'x') as file:  # fails the second time\n"
        "        file.write(str(size))\n"
    )
    (tmp_path / "own.yaml").write_text(
        "defaults: [base, features: logmel, augment: none, tokenizer: characters, model: blstm,\n"
        "  optimizer: adamw, scheduler: constant, trainer: default, decoder: greedy, _self_]\n"
        "name: own\n"
        "size: 3\n"
        "data: {recipe: ./, dir: shared}\n"
    )
    args = SimpleNamespace(recipe="own.yaml", archive=None)
    shared, separate = _Recipe(args, "run", []), _Recipe(args, "run", ["data.dir=own-${size}"])
    for size, seed in (("3", "1"), ("3", "2"), ("4", "1")):
        member = Member({"size": size, "seed": seed})
        if size == "3":
            assert shared.command(member, tmp_path / "m")[3:6] == ["run", "own.yaml", f"size={size}"]
        else:
            with pytest.raises(
                ConfigError, match=r"size: shared/train.jsonl is .* 'data.dir=data/x-\$\{size\}'"
            ):
                shared.command(member, tmp_path / "m")
        separate.command(member, tmp_path / "m")
    assert {p.name: (p / "train.jsonl").read_text() for p in tmp_path.iterdir() if p.is_dir()} == {
        "shared": "3",
        "own-3": "3",
        "own-4": "4",
    }


@pytest.mark.parametrize(("visible", "found"), [("0,3", ["0", "3"]), ("2", []), ("", [])])
def test_several_gpus_are_divided_among_trainings(visible, found, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert _devices() == found


@pytest.mark.slow
def test_a_sweep_of_trainings_ends_with_a_table(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise, utterances = np.random.default_rng(0), []
    for i, text in enumerate(["ab", "ba", "a b", "bab"]):
        path = tmp_path / f"{i}.wav"
        audio.save(path, 0.1 * noise.standard_normal(4000).astype(np.float32), 8000)
        utterances.append(Utterance(f"u{i}", 0.5, text, audio_filepath=str(path)))
    write_manifest(tmp_path / "all.jsonl", utterances)
    (tmp_path / "tones.yaml").write_text(
        "defaults: [base, features: logmel, augment: none, tokenizer: characters, model: blstm,\n"
        "  optimizer: adamw, scheduler: constant, trainer: default, decoder: greedy, _self_]\n"
        "name: tones\n"
        "data: {recipe: null, dir: ., train: all.jsonl, dev: all.jsonl, test: {}}\n"
        "features: {extractor: {sample_rate: 8000, n_mels: 20}}\n"
        "model: {subsampling: {channels: 8}, encoder: {hidden_size: 8, num_layers: 1}}\n"
        "trainer: {epochs: 2, accelerator: cpu}\n"
    )
    arguments = ["train", "tones.yaml", "optimizer.lr=0.01,0.0001,-1", "-m", "--jobs", "2", "output_dir=s"]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "lr must be positive" in error
    assert "best on dev: s/optimizer.lr=" in error
    with open("s/sweep.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["done", "done", "failed"]
    for row in rows[:2]:
        folder = tmp_path / "s" / row["folder"]
        history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert float(row["dev_wer"]) == min(entry["dev_wer"] for entry in history)
    logs = [path.stat().st_mtime_ns for path in sorted((tmp_path / "s").glob("*/log.txt"))]
    assert main(arguments) == 1
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "s").glob("*/log.txt"))] == logs
    assert main([*arguments, "trainer.epochs=3"]) == 2
    assert "other settings for trainer.epochs" in capsys.readouterr().err
    assert main([*arguments[:2], "optimizer.lr=0.01,0.0001", *arguments[3:]]) == 0
    assert "optimizer.lr=-1: failed, and no longer asked for" in capsys.readouterr().err
