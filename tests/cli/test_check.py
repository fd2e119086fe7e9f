import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from asr.cli import check
from asr.data.checks.problems import KINDS
from asr.errors import ConfigError
from asr.model_file import save_model

RATE = 8000


@pytest.fixture
def run(capsys):
    def run(*argv: object) -> tuple[int, str]:
        parser = argparse.ArgumentParser()
        check.add_parser(parser.add_subparsers())
        args = parser.parse_args(["check", *map(str, argv)])
        return args.run(args), capsys.readouterr().out

    return run


def noise(seed: int) -> np.ndarray:
    """Return a second of noise whose level rises and falls."""
    rng = np.random.default_rng(seed)
    return 0.1 * rng.standard_normal(RATE) * (1.1 + np.sin(np.arange(RATE) / 300))


@pytest.fixture
def corpus(tmp_path):
    """Two sound utterances of two speakers, 1 s each, in good.jsonl; bad.jsonl has what is wrong as well."""
    for seed, name in enumerate("abcd"):
        soundfile.write(tmp_path / f"{name}.wav", noise(seed), RATE)
    soundfile.write(tmp_path / "zeros.wav", np.zeros(RATE), RATE)
    (tmp_path / "empty.wav").touch()
    good = [
        {"audio_filepath": "a.wav", "duration": 1, "text": "one", "speaker": "s"},
        {"audio_filepath": "b.wav", "duration": 1, "text": "two", "speaker": "t"},
    ]
    bad = [
        *({"audio_filepath": f"missing{i}.wav", "duration": 1, "text": "one"} for i in range(5)),
        {"audio_filepath": "empty.wav", "duration": 1, "text": "one"},
        {"audio_filepath": "zeros.wav", "duration": 1, "text": "one"},
        {"audio_filepath": "c.wav", "duration": 1, "text": "öne  two"},
        {"audio_filepath": "d.wav", "duration": 1, "text": "one " * 10},
    ]
    for name, lines in {"good": good, "bad": good + bad}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "broken.jsonl").write_text("no manifest")
    return tmp_path


@pytest.fixture
def model(tiny_recognizer, tmp_path):
    """A model that spells e, n, o, t and w and has about 25 frames a second."""
    path = tmp_path / "model.asr"
    letters = {"_target_": "asr.text.CharacterTokenizer", "characters": "enotw"}
    save_model(path, tiny_recognizer(letters, sample_rate=RATE, stride=4), {})
    return path


def test_sound_data_exits_0(run, corpus, model):
    status, out = run(corpus / "good.jsonl", "--model", model)
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == f"{corpus}/good.jsonl: 2 utterances, 0.00 hours, 2 speakers"
    assert [line.split()[0] for line in lines[1:3]] == ["seconds", "letters/second"]
    # Random weights believe no text.
    found = [line.split()[1] for line in lines if line.startswith(("  error", "  warning", "  notice"))]
    assert set(found) <= {"wrong_text"}
    assert run(corpus / "good.jsonl")[1].endswith("\n0 errors, 0 warnings, 0 notices in 2 utterances\n")


def test_problems_are_counted_by_kind_with_their_first_files(run, corpus, model):
    status, out = run(corpus / "bad.jsonl", "--model", model)
    assert status == 1
    lines = out.splitlines()
    counts = {tuple(line.split()) for line in lines if line.startswith(("  error", "  warning"))}
    assert counts >= {
        ("error", "alphabet", "1"),
        ("error", "too_long", "1"),
        ("error", "unreadable", "6"),
        ("error", "silent", "1"),
        ("warning", "whitespace", "2"),
    }
    assert sum("missing" in line for line in lines) == 3
    assert f"    {corpus}/missing0.wav (missing0, line 3): no such file; check the path" in lines
    assert "    and 3 more" in lines
    assert any("'ö'" in line for line in lines)
    assert lines[-1].startswith("9 errors, ")


def test_json_lists_every_problem(run, corpus, model):
    status, out = run(corpus / "bad.jsonl", "--json", "--model", model)
    report = json.loads(out)
    assert status == 1
    assert (report["errors"], report["utterances"]) == (9, 11)
    [manifest] = report["manifests"]
    assert manifest["hours"] == pytest.approx(11 / 3600)
    assert manifest["speakers"] == 2
    assert manifest["kinds"]["unreadable"] == 6
    assert len(manifest["problems"]) == report["errors"] + report["warnings"] + report["notices"]
    assert manifest["problems"][0] == {
        "id": "missing0",
        "path": f"{corpus}/missing0.wav",
        "kind": "unreadable",
        "message": "no such file; check the path",
        "severity": "error",
        "manifest": f"{corpus}/bad.jsonl",
        "line": 3,
    }
    assert sum(manifest["measures"]["seconds"]["counts"]) == 11
    assert not any("missing" in suspect["id"] for suspect in report["suspects"])
    losses = [suspect["loss_per_token"] for suspect in report["suspects"]]
    assert losses
    assert losses == sorted(losses, reverse=True)


def test_without_audio_or_model_it_says_what_was_not_checked(run, corpus):
    status, out = run(corpus / "bad.jsonl", "--no-audio")
    assert status == 0
    assert "audio not read" in out
    assert "alphabet and length of the text not checked" in out


def test_a_broken_manifest_does_not_hide_the_others(run, corpus):
    status, out = run(corpus / "broken.jsonl", corpus / "nowhere.jsonl", corpus / "good.jsonl", "--json")
    report = json.loads(out)
    assert status == 1
    assert [manifest["utterances"] for manifest in report["manifests"]] == [0, 0, 2]
    assert [manifest["problems"][0]["kind"] for manifest in report["manifests"][:2]] == ["manifest"] * 2
    first = report["manifests"][0]["problems"][0]
    assert (first["line"], first["path"]) == (1, f"{corpus}/broken.jsonl")
    assert first["message"].startswith("not JSON")


def test_a_broken_line_does_not_hide_the_other_lines(run, corpus):
    path = corpus / "half.jsonl"
    path.write_text("no line\n" + (corpus / "bad.jsonl").read_text())
    report = json.loads(run(path, "--json")[1])
    assert report["utterances"] == 11
    assert report["manifests"][0]["kinds"]["unreadable"] == 6


def test_strict_takes_warnings_for_errors(run, corpus):
    path = corpus / "spaces.jsonl"
    path.write_text((corpus / "good.jsonl").read_text().replace('"one"', '"one  one"'))
    assert run(path)[0] == 0
    assert run(path, "--strict")[0] == 1


def test_fix_writes_what_passes_and_says_what_it_left_out(run, corpus, model, tmp_path):
    status, out = run(corpus / "bad.jsonl", "--model", model, "--fix", tmp_path / "clean")
    assert status == 1
    assert f"{tmp_path}/clean/bad.jsonl: 2 kept (0 corrected), 9 left out (unreadable 6, " in out
    assert run(tmp_path / "clean" / "bad.jsonl", "--model", model)[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--drop", "digitz", "--fix", "x"], "--drop digitz: no such kind"),
        (["--drop", "digits"], "give --fix DIR"),
    ],
)
def test_options_that_cannot_be(run, corpus, options, message):
    with pytest.raises(ConfigError, match=message):
        run(corpus / "good.jsonl", *options)


def test_no_manifest_at_all(run):
    with pytest.raises(ConfigError, match="no manifest given"):
        run()


def test_help_and_list_have_every_kind(run):
    listed = run("--kinds")[1]
    for kind, (severity, what) in KINDS.items():
        assert kind in check.EPILOG.split()
        assert f"{severity:8} {kind:18} {what}" in listed


def test_a_recipe_gives_manifests_alphabet_and_frame_rate(run, corpus):
    bad = corpus / "bad.jsonl"
    bad.write_text(bad.read_text().replace("one " * 10, "one " * 30))
    overrides = [f"data.train={corpus / 'good.jsonl'}", f"data.dev={bad}", f"data.test.test={bad}"]
    status, out = run("--recipe", "recipes/fsdd/blstm.yaml", *overrides, "--json")
    report = json.loads(out)
    assert status == 1
    # A manifest that is dev and test is checked once.
    names = [Path(manifest["manifest"]).name for manifest in report["manifests"]]
    assert names == ["good.jsonl", "bad.jsonl"]
    # The alphabet is that of the training text: one, two. Output frames come every 20 ms.
    kinds = report["manifests"][1]["kinds"]
    assert (kinds["alphabet"], kinds["too_long"]) == (1, 1)


def test_the_page_is_one_file_with_everything_on_it(run, corpus, model):
    page = corpus / "page.html"
    status, out = run(corpus / "bad.jsonl", "--model", model, "--html", page)
    assert status == 1
    assert f"page: {page}" in out
    content = page.read_text(encoding="utf-8")
    assert "<h2>" in content
    assert "not fit to train on" in content
    for said in (
        "missing0.wav",
        "Duration, s",
        "no such file",
        "Texts that the model does not believe",
        "öne",
    ):
        assert said in content, said
    assert content.count("<audio") >= 2
    assert "data:audio/" in content
    assert not re.search(r'(?:src|href)="(?:https?:)?//', content)


def test_the_page_of_a_large_corpus_is_short(run, tmp_path):
    lines = [
        json.dumps({"audio_filepath": f"{i}.wav", "duration": 1 + i % 7, "text": f"<b> {i}"})
        for i in range(5000)
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    run(tmp_path / "m.jsonl", "--no-audio", "--html", tmp_path / "page.html")
    content = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "The first 50 of 5,000." in content
    assert len(content) < 300_000


def test_texts_are_no_code(run, tmp_path):
    text = "<script>alert(1)</script>"
    fields = {"audio_filepath": "a.wav", "duration": 1, "text": text, "id": "<i>"}
    (tmp_path / "m.jsonl").write_text(json.dumps(fields))
    run(tmp_path / "m.jsonl", "--no-audio", "--html", tmp_path / "page.html")
    content = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script>alert" not in content
    assert "&lt;i&gt;" in content


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to a process group")
def test_ctrl_c_ends_it_with_one_line(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.tile(noise(0), 20), RATE)
    lines = [
        json.dumps({"id": str(i), "audio_filepath": "a.wav", "duration": 20, "text": "one two"})
        for i in range(4000)
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    command = [sys.executable, "-m", "asr.cli.main", "check", str(tmp_path / "m.jsonl"), "--jobs", "2"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    readers = psutil.Process(process.pid)
    while len(readers.children()) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, out, errors) == (130, "", "asr: error: interrupted\n")
