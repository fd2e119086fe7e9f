"""`asr score` from the shell: what it prints, its exit status, and how fast it starts."""

import argparse
import csv
import json
import resource
import subprocess
import sys
from typing import get_args

import pytest

from asr.cli.main import main
from asr.cli.score import _system_names, add_parser
from asr.scoring import Report, compare, score
from asr.scoring.formats import Format
from asr.scoring.pairing import Missing
from asr.scoring.wer import Align

REFERENCES = {"s-1": "the cat sat", "s-2": "Hello world", "s-3": "good bye my dear now"}
PAIRED = {"missing": [], "extra": [], "remarks": []}
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
    assert printed == score(REFERENCES, HYPOTHESES).to_dict() | PAIRED
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
    outputs = [str(tmp_path / "all.csv"), str(tmp_path / "page.html")]
    options = ["--json", "--missing", missing, "--csv", outputs[0], "--html", outputs[1]]
    assert main(["score", *files, *options]) == 0
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert printed["num_words"] == num_words
    warnings = captured.err.splitlines()
    assert len(warnings) == 2
    # So do the object, the table and the page, which are read without the terminal.
    assert (printed["missing"], printed["extra"]) == (["s-2"], ["s-4"])
    assert [f"asr: warning: {remark}" for remark in printed["remarks"]] == warnings
    with open(outputs[0], newline="") as file:
        rows = [(row["table"], row["group"]) for row in csv.DictReader(file)]
    assert rows[-2:] == [("missing", "s-2"), ("extra", "s-4")]
    with open(outputs[1]) as file:
        assert json.dumps(printed["remarks"], separators=(",", ":")) in file.read()
    assert f"references without a hypothesis, {done}: 1 (first 's-2')" in warnings[0]
    assert "hypotheses without a reference, left out: 1 (first 's-4')" in warnings[1]


def _rows(text):
    """Return the cells of all tables that were printed."""
    lines = (line.strip("│┃| ").replace("│", "|") for line in text.splitlines())
    return [[cell.strip() for cell in line.split("|")] for line in lines if "|" in line]


def test_normalisation_is_applied_in_order_and_printed(files, capsys):
    main(["score", *files, "--json", "--normalize", "upper,lower"])
    printed = json.loads(capsys.readouterr().out)
    assert (printed["substitutions"], printed["normalization"]) == (1, ["upper", "lower"])
    main(["score", *files, "--normalize", "upper", "--normalize", "punctuation", "--lowercase"])
    assert ["Normalisation", "upper, punctuation, lower"] in _rows(capsys.readouterr().out)


def test_the_steps_of_normalisation_can_be_listed(capsys):
    with pytest.raises(SystemExit) as end:
        main(["score", "--list-steps"])
    assert end.value.code == 0
    assert {"lower", "punctuation", "english"} <= {
        line.split()[0] for line in capsys.readouterr().out.splitlines()
    }


def test_characters_can_be_what_counts(files, capsys):
    main(["score", *files, "--json", "--cer", "--top", "1"])
    printed = json.loads(capsys.readouterr().out)
    expected = Report({"x": score(REFERENCES, HYPOTHESES, unit="character")}).to_dict(top=1)
    assert printed == expected | PAIRED
    assert printed["most_frequent"]["deletions"][0]["reference"] in "bye "
    main(["score", *files, "--cer", "--top", "3", "--worst", "1"])
    printed = capsys.readouterr().out
    assert _rows(printed)[0] == ["Character error rate (CER)", f"{score(REFERENCES, HYPOTHESES).cer:.2%}"]
    assert "REF:  g o o d ␣ b y e" in printed


@pytest.fixture
def manifests(tmp_path):
    """Write a manifest and the predictions of two systems; return their paths."""
    (tmp_path / "runs").mkdir()
    paths = [tmp_path / "test.jsonl"]
    lines = [{"id": id, "text": text, "speaker": id[-1], "duration": 2} for id, text in REFERENCES.items()]
    paths[0].write_text("".join(json.dumps(line) + "\n" for line in lines))
    for system, texts in (("old", HYPOTHESES), ("new", REFERENCES | {"s-1": "the cat"})):
        paths.append(tmp_path / "runs" / system / "hyp.jsonl")
        paths[-1].parent.mkdir()
        lines = [{"id": id, "pred_text": text} for id, text in texts.items()]
        paths[-1].write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [str(path) for path in paths]


def test_breakdowns_errors_and_the_worst_are_printed(manifests, tmp_path, capsys):
    (tmp_path / "words").write_text("the\ncat\nsat\nhello\nworld\ngood\n")
    options = ["--by", "speaker", "--by", "duration", "--top", "2", "--worst", "1"]
    assert main(["score", *manifests[:2], *options, "--vocabulary", str(tmp_path / "words")]) == 0
    printed = capsys.readouterr().out
    rows = _rows(printed)
    # The group with the highest rate is first: Hello/hello of two words.
    speakers = [row for row in rows if row[0] in "123"]
    assert speakers == [
        ["2", "50.00%", "1", "2", "1", "0", "0"],
        ["3", "40.00%", "1", "5", "0", "1", "1"],
        ["1", "33.33%", "1", "3", "1", "0", "0"],
    ]
    assert ["2 to 5", "40.00%", "3", "10", "2", "1", "1"] in rows
    assert ["cat → bat", "1", "bye", "1", "then", "1"] in rows
    assert "Out of vocabulary: 5 of 10 reference words (50.00%); 40.00% of them were missed" in printed
    assert printed.index("id: (s-3)") > printed.index("Utterances with the most errors")
    assert "id: (s-1)" not in printed


def test_a_vocabulary_that_is_written_otherwise_is_pointed_out(files, tmp_path, capsys):
    (tmp_path / "words").write_text("THE CAT\n")
    assert main(["score", *files, "--vocabulary", str(tmp_path / "words")]) == 0
    assert "no reference word is in" in capsys.readouterr().err
    assert main(["score", *files, "--vocabulary", str(tmp_path / "words"), "--lowercase"]) == 0
    assert capsys.readouterr().err == ""


def test_alternatives_of_trn_need_no_option(tmp_path, capsys):
    (tmp_path / "ref").write_text("we { are / 're } here (s_1)\nso (s_2)\n")
    (tmp_path / "hyp").write_text("we 're here (s_1)\nso (s_2)\n")
    command = ["score", str(tmp_path / "ref"), str(tmp_path / "hyp"), "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["wer"] == 0
    assert main([*command, "--no-alternatives"]) == 0
    assert json.loads(capsys.readouterr().out)["num_words"] == 8


def test_several_systems_are_one_table_and_tested_against_the_first(manifests, capsys):
    assert main(["score", *manifests, "--by", "speaker", "--per-utterance"]) == 0
    printed = capsys.readouterr().out
    rows = _rows(printed)
    assert [row[:2] for row in rows if row[0] in ("old", "new")] == [["old", "40.00%"], ["new", "10.00%"]]
    scores = [score(REFERENCES, texts) for texts in (HYPOTHESES, REFERENCES | {"s-1": "the cat"})]
    assert compare(*scores, names=("old", "new")).sentence in printed
    assert ["3", "40.00%", "0.00%", "1", "5"] in rows
    assert printed.count("id: (s-2) old\n") == printed.count("id: (s-2) new\n") == 1
    assert main(["score", *manifests, "--json", "--name", "A", "--name", "B"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [system["name"] for system in printed["systems"]] == ["A", "B"]
    assert printed["comparisons"][0]["names"] == ["A", "B"]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/hyp.trn"], ["x/hyp.trn"]),
        (["a.trn", "b.trn"], ["a", "b"]),
        (["runs/a/test/hyp.jsonl", "runs/b/test/hyp.jsonl"], ["a", "b"]),
        (["runs/a/x.trn", "runs/b/y.trn"], ["a/x", "b/y"]),
        (["a.trn", "a.trn"], ["1: a.trn", "2: a.trn"]),
        (["a/hyp", "hyp"], ["a/hyp", "hyp"]),
    ],
)
def test_systems_are_called_by_what_tells_their_paths_apart(paths, names):
    assert _system_names(paths, []) == names


def test_files_are_written(manifests, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    options = [
        "--csv",
        out / "all.csv",
        "--html",
        out / "page.html",
        "--title",
        "T<1>",
        "--sclite-files",
        out,
    ]
    assert main(["score", *manifests, *map(str, options), "--by", "speaker"]) == 0
    assert capsys.readouterr().err == ""
    names = {path.name for path in out.iterdir()}
    sclite = {f"{name}.{end}" for name in ("old", "new") for end in ("sys", "raw", "pra", "dtl", "sgml")}
    assert names == {"all.csv", "page.html"} | sclite
    with open(out / "all.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["error_rate"] for row in rows if row["table"] == "all"] == ["0.400000", "0.100000"]
    assert "<title>T&lt;1&gt;</title>" in (out / "page.html").read_text()
    assert main(["score", *manifests[:2], "--sclite-files", str(out)]) == 0
    assert (out / "hyp.jsonl.pra").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--embed-audio"], "--embed-audio is for a page; add --html FILE"),
        (["--title", "x"], "--title is for a page; add --html FILE"),
        (["--csv", "."], "--csv .: is a folder"),
        (["--csv", "REF"], "ref: is another file of this command"),
        (["--csv", "x", "--html", "x"], "--html x: is another file of this command"),
        (["--name", "a", "--name", "b"], "--name: 2 for 1 hypotheses"),
        (["--by", "sex"], "field 'sex' is not known of any utterance; choose one of"),
        (["--interval-by", "sex"], "sex"),
        (["--normalize", "colour"], "colour"),
        (["--vocabulary", "none.txt"], "none.txt"),
        (["--vocabulary", "REF", "--cer"], "score words, not characters"),
        (["--html", "none/page.html"], "none/page.html: No such file or directory"),
        (["--sclite-files", "/proc/none"], "--sclite-files /proc/none: cannot be written"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(files, options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["score", *files, *(files[0] if option == "REF" else option for option in options)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("asr: error: ")
    assert error.count("\n") == 1
    assert message in error
    assert (tmp_path / "ref").read_text().startswith("the cat sat (s-1)\n")


@pytest.mark.parametrize(
    "options", [["--top", "-1"], ["--worst", "few"], ["--embed-audio", "0"], ["--align", "x"]]
)
def test_a_wrong_value_is_named(files, options, capsys):
    with pytest.raises(SystemExit):
        main(["score", *files, *options])
    assert f"argument {options[0]}: " in capsys.readouterr().err


def test_a_vocabulary_of_words_is_refused_before_characters_are_scored(files, capsys):
    assert main(["score", *files, "--vocabulary", files[0], "--cer"]) == 2
    assert capsys.readouterr().out == ""


def test_a_file_scored_against_itself_is_pointed_out(files, capsys):
    assert main(["score", files[0], files[0]]) == 0
    assert "all hypotheses equal their references, and both were read from" in capsys.readouterr().err


def test_alternatives_that_nobody_decided_on_name_the_options(manifests, tmp_path, capsys):
    (tmp_path / "test.jsonl").write_text('{"id": "s-1", "text": "the { cat / dog } sat"}\n')
    assert main(["score", *manifests[:2], "--missing", "skip"]) == 2
    error = capsys.readouterr().err
    assert "--alternatives" in error
    assert "--no-alternatives" in error


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
    choices = (("--format", Format), ("--hyp-format", Format), ("--missing", Missing), ("--align", Align))
    for option, allowed in choices:
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
