"""`asr score` from the shell: what it prints, its exit status, and how fast it starts."""

import argparse
import json
import resource
import subprocess
import sys
from typing import get_args

import pytest

from asr.cli.main import main
from asr.cli.score import add_parser
from asr.scoring import score
from asr.scoring.formats import Format
from asr.scoring.pairing import Missing

REFERENCES = {"s-1": "the cat sat", "s-2": "Hello world", "s-3": "good bye my dear now"}
HYPOTHESES = {"s-1": "the bat sat", "s-2": "hello world", "s-3": "good my dear now then"}


@pytest.fixture
def files(tmp_path):
    paths = []
    for name, texts in (("ref", REFERENCES), ("hyp", HYPOTHESES)):
        path = tmp_path / name
        path.write_text("".join(f"{text} ({id})\n" for id, text in texts.items()))
        paths.append(str(path))
    return paths


def test_json_is_one_object_equal_to_the_score(files, capsys):
    assert main(["score", *files, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == score(REFERENCES, HYPOTHESES).to_dict()
    assert (printed["wer"], printed["num_words"], printed["hits"]) == (4 / 10, 10, 7)
    assert {"cer", "substitutions", "deletions", "insertions"} < set(printed)


def test_json_per_utterance_adds_up(files, capsys):
    main(["score", *files, "--json", "--per-utterance"])
    printed = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in printed["utterances"]] == list(REFERENCES)
    for name in ("hits", "substitutions", "deletions", "insertions"):
        assert sum(row[name] for row in printed["utterances"]) == printed[name]


def test_the_table_shows_the_rates_in_percent(files, capsys):
    assert main(["score", *files]) == 0
    rows = {}
    for line in capsys.readouterr().out.splitlines():
        name, _, value = line.strip("│┃| ").replace("│", "|").partition("|")
        rows[name.strip()] = value.strip()
    assert rows["Word error rate (WER)"] == "40.00%"
    assert " to " in rows["95% interval"]
    counts = [rows[name] for name in ("Substitutions", "Deletions", "Insertions", "Correct")]
    assert counts == ["2", "1", "1", "7"]
    assert rows["Sentence error rate (SER)"] == "100.00%"


def test_per_utterance_shows_the_alignment(files, capsys):
    main(["score", *files, "--per-utterance"])
    assert (
        "id: (s-3)\n"
        "Scores: (#C #S #D #I) 4 0 1 1\n"
        "REF:  good bye my dear now ****\n"
        "HYP:  good *** my dear now then\n"
        "Eval:      D               I\n"
    ) in capsys.readouterr().out


def test_lowercase_ignores_case(files, capsys):
    main(["score", *files, "--json", "--lowercase"])
    assert json.loads(capsys.readouterr().out)["substitutions"] == 1


@pytest.mark.parametrize(
    ("missing", "num_words", "done"), [("delete", 10, "counted as deletions"), ("skip", 8, "left out")]
)
def test_what_has_no_partner_is_said_on_stderr(files, tmp_path, capsys, missing, num_words, done):
    (tmp_path / "hyp").write_text("the cat sat (s-1)\ngood bye my dear now (s-3)\nextra (s-4)\n")
    assert main(["score", *files, "--json", "--missing", missing]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["num_words"] == num_words
    warnings = captured.err.splitlines()
    assert len(warnings) == 2
    assert f"references without a hypothesis, {done}: 1 (first 's-2')" in warnings[0]
    assert "hypotheses without a reference, left out: 1 (first 's-4')" in warnings[1]


def test_a_bad_file_ends_in_one_line_and_status_2(files, tmp_path, capsys):
    (tmp_path / "hyp").write_text("x (s-1)\ny (s-1)\n")
    assert main(["score", *files]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("asr: error: ")
    assert captured.err.count("\n") == 1
    assert "hyp:2: id 's-1' is already used" in captured.err


def test_choices_are_those_of_the_library():
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    for option, allowed in (("--format", Format), ("--missing", Missing)):
        for choice in get_args(allowed):
            parser.parse_args(["score", "ref", "hyp", option, choice])


def test_it_starts_in_half_a_second_without_torch(files):
    program = (
        "import sys; from asr.cli.main import main; status = main(sys.argv[1:]); "
        "sys.exit(status or any(name in sys.modules for name in ('torch', 'hydra', 'librosa', 'rich')))"
    )
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-c", program, "score", *files, "--json"]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time, which the load of other programs does not stretch.
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5
