import argparse
import json
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile as sf
import torch

from asr.cli import transcribe
from asr.errors import AsrError, ConfigError, DataError, ModelError
from asr.model_file import save_model
from asr.scoring.pairing import read_pair

RATE = 8000


@pytest.fixture(scope="module")
def model(tiny_recognizer, tmp_path_factory):
    words = {"_target_": "asr.text.WordTokenizer", "words": ["one", "two", "three", "four"]}
    path = tmp_path_factory.mktemp("model") / "model.asr"
    save_model(path, tiny_recognizer(words, sample_rate=RATE, cell="gru"), {})
    return path


@pytest.fixture
def run(model, tmp_path, capsys):
    """Run the command on paths and options; return its exit status, output lines and error lines."""

    def run(*argv):
        parser = argparse.ArgumentParser()
        transcribe.add_parser(parser.add_subparsers())
        args = parser.parse_args(
            ["transcribe", "--model", str(model), "-o", str(tmp_path / "out"), *map(str, argv)]
        )
        status = args.run(args)
        captured = capsys.readouterr()
        return status, captured.out.splitlines(), captured.err.splitlines()

    return run


@pytest.fixture
def calls(tmp_path):
    """A folder with three recordings in two folders."""
    rng = np.random.default_rng(0)
    for name in ("a.wav", "b.flac", "may/a.wav"):
        path = tmp_path / "calls" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sf.write(path, 0.1 * rng.standard_normal(RATE), RATE)
    return tmp_path / "calls"


def outputs(tmp_path):
    folder = tmp_path / "out"
    return sorted(
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.name != "manifest.jsonl" and p.is_file()
    )


def test_a_folder_gives_all_formats_in_its_own_structure(run, calls, tmp_path):
    status, printed, said = run(calls, "--recursive")
    assert status == 0
    assert said == []
    formats = ("json", "srt", "tsv", "txt", "vtt")
    assert outputs(tmp_path) == [f"{stem}.{f}" for stem in ("a", "b", "may/a") for f in formats]
    assert [line for line in printed if not line.startswith("[")] == [
        str(calls / name) for name in ("a.wav", "b.flac", "may/a.wav")
    ]
    content = json.loads((tmp_path / "out/may/a.json").read_text())
    assert content["audio"] == str(calls / "may/a.wav")
    assert content["duration"] == 1.0
    assert content["text"].split() == [word["word"] for s in content["segments"] for word in s["words"]]
    assert (tmp_path / "out/may/a.txt").read_text().split() == content["text"].split()
    first = content["segments"][0]
    assert f"[00:{first['start']:06.3f} --> 00:{first['end']:06.3f}]  {first['text']}" in printed


@pytest.mark.parametrize("spelling", ["_", "-"])
def test_options_are_spelled_with_hyphens_or_underscores(run, calls, tmp_path, spelling):
    options = [
        *("--output_format", "json,srt", "--verbose", "false", "--word_timestamps", "False"),
        *("--max_line_width", "10", "--max_line_count", "1", "--clip_timestamps", "0,0.5"),
        *("--batch_seconds", "5", "--threads", str(torch.get_num_threads())),
    ]
    options = [o.replace("_", spelling) if o.startswith("--") else o for o in options]
    assert run(calls / "a.wav", *options) == (0, [], [])
    assert outputs(tmp_path) == ["a.json", "a.srt"]
    (segment, *_) = json.loads((tmp_path / "out/a.json").read_text())["segments"]
    assert "words" not in segment
    assert segment["end"] <= 0.5
    lines = (tmp_path / "out/a.srt").read_text().splitlines()
    assert all(len(line) <= 10 for line in lines if "-->" not in line)


def test_failures_are_named_and_counted_last(run, calls, tmp_path):
    (calls / "broken.wav").write_bytes(b"")
    (calls / "text.wav").write_text("not audio\n" * 100)
    missing = calls / "missing.wav"
    status, _, said = run(calls, missing, "-f", "txt", "--verbose", "False")
    assert status == 1
    assert outputs(tmp_path) == ["a.txt", "b.txt"]
    assert said[0] == f"asr: {calls / 'broken.wav'}: empty file (0 bytes); record or copy it again"
    assert said[1].startswith(f"asr: {calls / 'text.wav'}: not audio")
    assert said[2] == f"asr: {missing}: no such file; check the path"
    assert said[3:] == ["3 of 5 files failed"]


def test_an_output_that_cannot_be_written_counts_as_a_failure(run, calls, tmp_path):
    (tmp_path / "out/a.txt").mkdir(parents=True)
    status, _, said = run(calls, "-f", "txt", "--verbose", "False")
    assert status == 1
    assert said[0].startswith(f"asr: {tmp_path / 'out/a.txt'}: cannot be written (Is a directory)")
    assert said[1:] == ["1 of 2 files failed"]
    assert (tmp_path / "out/b.txt").is_file()


def test_notes_are_said(run, tmp_path):
    sf.write(tmp_path / "a.wav", np.zeros((3 * 16000, 2)), 16000)
    status, _, said = run(tmp_path / "a.wav", "-f", "txt")
    assert status == 0
    assert said == [
        f"asr: {tmp_path / 'a.wav'}: mixed down 2 channels",
        f"asr: {tmp_path / 'a.wav'}: resampled 16000 -> 8000 Hz",
        f"asr: {tmp_path / 'a.wav'}: silent: all samples are zero",
    ]


def test_existing_outputs_are_skipped_only_if_complete(run, calls, tmp_path):
    run(calls, "-f", "txt,srt")
    (tmp_path / "out/b.srt").unlink()
    (tmp_path / "out/a.txt").write_text("mine")
    status, printed, said = run(calls, "-f", "txt,srt", "--skip-existing")
    assert (status, said) == (0, ["asr: 1 of 2 files skipped: their outputs exist"])
    assert printed[0] == str(calls / "b.flac")
    assert (tmp_path / "out/a.txt").read_text() == "mine"
    assert (tmp_path / "out/b.srt").exists()
    assert run(calls, "-f", "txt,srt", "--skip_existing")[2] == [
        "asr: 2 of 2 files skipped: their outputs exist"
    ]


def test_an_ignored_option_is_said(run, calls):
    status, _, said = run(calls / "a.wav", "--max_line_count", "2", "--verbose", "False")
    assert status == 0
    assert said == ["asr: --max_line_count has no effect without --max_line_width or --max_words_per_line"]


def test_what_cannot_start_is_an_error(run, calls, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "none").mkdir()
    cases: list[tuple[list[object], type[AsrError], str]] = [
        (
            [calls, "-o", tmp_path / "file" / "out"],
            ConfigError,
            "file/out: cannot be written .*; choose another",
        ),
        ([calls, "--model", tmp_path / "none.asr"], ModelError, "none.asr: no such model file"),
        ([calls, "--clip_timestamps", "5,1"], ConfigError, "--clip_timestamps 5,1: times must ascend"),
        ([tmp_path / "none"], DataError, "none: no audio files in this folder"),
    ]
    for argv, error, message in cases:
        with pytest.raises(error, match=message):
            run(*argv)


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("--verbose", "maybe", "'maybe' is neither True nor False"),
        ("--output_format", "txt,doc", "unknown format 'doc'; choose from txt, vtt, srt, tsv, json, all"),
        ("--max_line_width", "0", "'0' is not a whole number from 1"),
        ("--threads", "two", "'two' is not a whole number from 1"),
        ("--batch_seconds", "-1", "'-1' is not a number of seconds above 0"),
    ],
)
def test_wrong_values_are_refused(run, calls, capsys, option, value, problem):
    with pytest.raises(SystemExit, match="2"):
        run(calls, option, value)
    assert problem in capsys.readouterr().err


def test_help_has_examples_and_loads_nothing_heavy():
    code = (
        "import argparse, sys; from asr.cli import transcribe; p = argparse.ArgumentParser(); "
        "s = p.add_subparsers(); transcribe.add_parser(s); print(s.choices['transcribe'].format_help()); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'soundfile', 'librosa', 'rich')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "asr transcribe talk.wav --model model.asr" in done.stdout
    assert "--max-line-width" in done.stdout


def manifest(tmp_path):
    return [json.loads(line) for line in (tmp_path / "out/manifest.jsonl").read_text().splitlines()]


def test_all_results_are_in_a_manifest_that_can_be_scored(run, calls, tmp_path):
    run(calls, "--recursive", "-f", "txt,json", "--verbose", "False")
    lines = manifest(tmp_path)
    assert [line["id"] for line in lines] == ["a", "b", "may/a"]
    assert [line["audio_filepath"] for line in lines] == [
        str(calls / name) for name in ("a.wav", "b.flac", "may/a.wav")
    ]
    assert all(line["duration"] == 1.0 and 0 <= line["confidence"] <= 1 for line in lines)
    texts = [json.loads((tmp_path / f"out/{line['id']}.json").read_text())["text"] for line in lines]
    assert [line["pred_text"] for line in lines] == texts
    (tmp_path / "ref.trn").write_text(
        "".join(f"{t} ({i})\n" for i, t in zip(["a", "b", "may/a"], texts, strict=True))
    )
    scored = read_pair(tmp_path / "ref.trn", tmp_path / "out/manifest.jsonl")
    assert scored.references == scored.hypotheses


def test_the_manifest_keeps_what_is_skipped_and_renews_what_is_done_again(run, calls, tmp_path):
    run(calls, "-f", "txt", "--verbose", "False")
    first = manifest(tmp_path)
    (tmp_path / "out/b.txt").unlink()
    with open(tmp_path / "out/manifest.jsonl", "a") as file:
        file.write('{"id": "cut off')
    run(calls, "--recursive", "-f", "txt", "--skip-existing", "--verbose", "False")
    assert [line["id"] for line in manifest(tmp_path)] == ["a", "b", "may/a"]
    assert manifest(tmp_path)[:2] == first


def test_another_manifest_is_not_touched(run, calls, tmp_path):
    (tmp_path / "out").mkdir()
    mine = '{"audio_filepath": "a.wav", "duration": 1.0, "text": "one"}\n'
    (tmp_path / "out/manifest.jsonl").write_text(mine)
    with pytest.raises(ConfigError, match=r"manifest.jsonl:1: not a line of results .*; rename this file"):
        run(calls)
    assert (tmp_path / "out/manifest.jsonl").read_text() == mine


def test_standard_input_is_a_whole_file(model, calls, tmp_path):
    for name, content in (("a.wav", (calls / "a.wav").read_bytes()), ("broken", b"no audio" * 100)):
        command = [sys.executable, "-m", "asr.cli.main", "transcribe", "-", "--model", str(model)]
        done = subprocess.run(
            [*command, "-o", str(tmp_path / name), "-f", "txt"],
            input=content,
            capture_output=True,
            check=False,
        )
        if name == "broken":
            assert done.returncode == 1
            assert done.stderr.decode().startswith("asr: standard input: not audio")
        else:
            assert done.returncode == 0, done.stderr
            assert (tmp_path / name / "stdin.txt").read_text()


@pytest.mark.parametrize("compute_type", ["bfloat16", "int8"])
def test_other_types_of_numbers_hear_about_the_same(run, calls, tmp_path, compute_type):
    run(calls / "a.wav", "-f", "txt")
    exact = (tmp_path / "out/a.txt").read_text().split()
    assert run(calls / "a.wav", "-f", "txt", "--compute-type", compute_type)[0] == 0
    assert abs(len((tmp_path / "out/a.txt").read_text().split()) - len(exact)) <= 0.2 * len(exact)


def break_in_20_ways(folder, rng):
    """Write 20 files that are no usable audio, each in a way of its own."""
    whole = 0.1 * rng.standard_normal(RATE)

    def wav(name, samples=whole, rate=RATE, keep=None, **options):
        sf.write(folder / name, samples, rate, **options)
        if keep is not None:
            content = (folder / name).read_bytes()
            (folder / name).write_bytes(content[:keep] if keep else content)

    spoilt = {"nan": np.nan, "inf": np.inf, "minus_inf": -np.inf, "huge": 1e9}
    for name, value in spoilt.items():
        samples = whole.copy()
        samples[100] = value
        wav(f"{name}.wav", samples, subtype="FLOAT")
    wav("integers_as_floats.wav", 32767 * whole, subtype="FLOAT")
    wav("cut.wav", keep=5000)
    wav("cut_in_the_header.wav", keep=30)
    wav("cut.flac", keep=3000)
    wav("cut.aiff", keep=5000)
    wav("cut.au", keep=5000)
    wav("cut.ogg", keep=-10)
    wav("no_samples.wav", np.zeros(0))
    wav("one_sample.wav", np.zeros(1))
    wav("too_short.wav", np.zeros(RATE // 100))
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("This is not audio.\n" * 100)
    (folder / "random.mp3").write_bytes(rng.bytes(10000))
    (folder / "zeros.ogg").write_bytes(bytes(10000))
    (folder / "riff_only.wav").write_bytes(b"RIFF\x24\0\0\0WAVE")
    (folder / "link.wav").symlink_to(folder / "nowhere.wav")
    return 20


@pytest.mark.slow
def test_of_200_files_20_are_broken_in_20_ways_and_a_killed_run_is_finished(model, tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(180):
        sf.write(folder / f"good{i}.wav", 0.1 * rng.standard_normal(round(RATE * rng.uniform(0.3, 4))), RATE)
    assert break_in_20_ways(folder, rng) == 20
    files = sorted(folder.iterdir())
    assert len(files) == 200
    command = [sys.executable, "-m", "asr.cli.main", "transcribe", *map(str, files), "--model", str(model)]
    command += ["-o", str(tmp_path / "out"), "--batch-seconds", "10", "--verbose", "False", "--skip-existing"]
    out = tmp_path / "out"
    for wanted in (20, 90):
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while running.poll() is None and len(list(out.glob("good*.vtt"))) < wanted:
            time.sleep(0.002)
        assert running.poll() is None, "it was to be killed while it worked"
        running.kill()
        running.wait()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("good*.json")}
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    broken = [path for path in files if not path.name.startswith("good")]
    errors = done.stderr.splitlines()
    assert all(any(line.startswith(f"asr: {path}: ") for line in errors) for path in broken)
    assert errors[-1].startswith("20 of ")
    assert sorted(p.name for p in out.iterdir()) == sorted(
        [
            "manifest.jsonl",
            *(f"good{i}.{f}" for i in range(180) for f in ("json", "srt", "tsv", "txt", "vtt")),
        ]
    )
    texts = {line["id"]: line["pred_text"] for line in manifest(tmp_path)}
    assert len(texts) == 180
    for i in range(180):
        assert json.loads((out / f"good{i}.json").read_text())["text"] == texts[f"good{i}"]
    assert sum(path.stat().st_mtime_ns == time_ns for path, time_ns in kept.items()) >= len(kept) - 1
