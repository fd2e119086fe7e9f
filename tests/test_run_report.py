"""The page about a run: what it says of whole and broken folders, and how it looks in a browser."""

import importlib.util
import json
import re
import wave
from pathlib import Path

import pytest
import yaml

from asr.cli.main import main
from asr.run_report import make_run_report, read_run
from asr.run_report.curves import draw_all, linear_ticks, log_ticks
from asr.scoring import confidence_interval, score
from asr.training.checkpoint import write_tensors
from asr.training.journal import Journal, add_to_journal, read_journal

CONFIG = {
    "name": "small <i>run</i>",
    "seed": 7,
    "data": {"test": {"clean": "clean.jsonl", "noisy": "noisy.jsonl"}},
    "optimizer": {"lr": 0.002, "betas": [0.9, 0.98]},
    "trainer": {"epochs": 3, "accelerator": "cpu", "precision": "32-true"},
}
METRICS = [
    {
        "epoch": epoch,
        "step": 10 * epoch,
        "lr": 0.001,
        "train_loss": 3.0 / epoch**3,
        "dev_loss": None if epoch == 2 else 2.0,
        "dev_wer": wer,
        "dev_cer": wer / 2,
        "grad_norm": 2.0,
        "skipped_steps": skipped,
        "split_batches": 0,
        "seconds": 90.0,
        "dev_seconds": 10.0,
        "audio_seconds_per_second": 50.0,
        "blank_rate": 0.75,
        "a_new_metric": 4.5,
    }
    for epoch, wer, skipped in ((1, 1.0, 0), (2, 0.125, 2), (3, 0.25, 0))
]
TEXTS = {"clean": [("one two", "one two"), ("three", "tree")], "noisy": [("four five six", "four six")]}
SOFTWARE = {"Python": "3.11.2", "torch": "2.11.0", "asr's git commit": "abc123"}
SESSION = {
    "command": ["asr", "run", "recipes/digits/blstm.yaml", "seed=7"],
    "cwd": "/",
    "software": SOFTWARE,
    "hardware": {"processor": "Abacus 9", "GPU": "none"},
    "settings": {"device": "cpu", "precision": "32-true", "threads": 3},
}


@pytest.fixture
def folder(tmp_path):
    """A folder as a run leaves it, without the weights."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in METRICS))
    for name, texts in TEXTS.items():
        (tmp_path / name).mkdir()
        lines = []
        for n, (text, recognised) in enumerate(texts):
            audio = tmp_path / name / f"{n}.wav"
            with wave.open(str(audio), "wb") as file:
                file.setparams((1, 2, 8000, 0, "NONE", ""))
                file.writeframes(b"\x00\x10\x00\xf0" * 2000)
            lines.append({"id": f"u{n}", "audio_filepath": audio.name, "duration": 0.5, "speaker": "s"})
            lines[-1] |= {"text": text, "pred_text": recognised}
        (tmp_path / name / "hyp.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    state = {"epoch": 3, "finished": True, "best": METRICS[1]}
    config = CONFIG | {"training_data": "5e" * 32}
    write_tensors(
        tmp_path / "checkpoint.pt", {"state": state, "model": {}, "optimizer": {}, "config": config}
    )
    add_to_journal(tmp_path, "session", **SESSION)
    add_to_journal(tmp_path, "note", message="step 15 skipped: loss not finite for <u9>")
    for epoch in (1, 2, 3):
        add_to_journal(tmp_path, "epoch", epoch=epoch, processes=1)
    add_to_journal(tmp_path, "scored", test="clean", seconds=0.25, failures=["u8: cut short"])
    return tmp_path


def _report(folder, **options):
    """Return the page's text without scripts, styles and tags, and the page."""
    page = make_run_report(read_run(folder), **options)
    visible = re.sub(r"<(script|style|title).*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", visible)), page


def test_the_page_has_the_numbers_of_the_run(folder):
    text, page = _report(folder, defaults=CONFIG | {"seed": 1})
    low, high = confidence_interval(score(*zip(*TEXTS["clean"], strict=True)))
    for expected in (
        "small &lt;i&gt;run&lt;/i&gt;",
        "WER on clean 33.33%",
        f"95% interval {low:.2%} to {high:.2%}",
        "WER on noisy 33.33%",
        "1 utterances could not be read and are not in the score",
        "decoded and scored at 4 × real time (factor 0.25)",
        "Best on dev: WER 12.50% epoch 2, CER 6.25%",
        "5e5e5e",
        "Training time 5.0 min 1.7 min an epoch",
        "50 × real time",
        "Steps skipped 2",
        "step 15 skipped: loss not finite for &lt;u9&gt;",
        "u8: cut short",
        "changed setting in this run in the recipe seed 7 1 All settings",
        "torch 2.11.0",
        "Abacus 9",
        "asr run recipes/digits/blstm.yaml seed=7",
        "number of threads (3 here) give the same bits",
    ):
        assert expected in text, expected
    assert len(re.findall("<figure", page)) == 9  # one for the metric that nobody has heard of
    assert "a_new_metric" in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    assert "http" not in page.replace("http-equiv", "")


def _remove(*names):
    def change(folder):
        for name in names:
            (folder / name).unlink()

    return change


def _features(folder):
    path = folder / "clean" / "hyp.jsonl"
    path.write_text(path.read_text().replace("audio_filepath", "features_filepath"))


def _second_session(folder):
    software, settings = SOFTWARE | {"torch": "2.12.0"}, SESSION["settings"] | {"device": "cuda"}
    add_to_journal(folder, "session", **SESSION | {"software": software, "settings": settings})


def _edit(name, old, new):
    def change(folder):
        path = folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


def _language_model(folder):
    """Make it as `asr lm train` leaves its folder."""
    history = [{"epoch": epoch, "dev_loss": 2.5, "dev_ppl": 12.5, "seconds": 1.0} for epoch in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in history))
    state, config = {"finished": True, "best": history[1]}, {"seed": 1, "trainer": {"epochs": 2}}
    write_tensors(folder / "checkpoint.pt", {"state": state, "model": {}, "optimizer": {}, "config": config})
    for name in ("config.yaml", "journal.jsonl"):
        (folder / name).unlink()


def _unfinished(folder):
    (folder / "checkpoint.pt").unlink()
    _edit("config.yaml", "epochs: 3", "epochs: 30")(folder)


@pytest.mark.parametrize(
    ("change", "expected", "absent"),
    [
        (_language_model, "Best on dev: perplexity 12.5 epoch 2", "WER on"),
        (_remove("metrics.jsonl"), "no epoch was finished", "Curves"),
        (_remove("journal.jsonl"), "not known Weights", "Abacus"),
        (_remove("config.yaml"), "seed 7", "the settings are not known"),
        (_remove("config.yaml", "checkpoint.pt"), "the settings are not known", "All settings"),
        (_remove("checkpoint.pt"), "Which epoch is the best is not known", "dashed line"),
        (_remove("clean/hyp.jsonl"), "WER on clean – not scored yet", "u8: not"),
        (_remove("clean/hyp.jsonl", "noisy/hyp.jsonl"), "WER on noisy – not scored yet", "Most frequent"),
        (_remove("clean/0.wav"), "1 audio files cannot be read, the first is", "not embedded"),
        (
            _features,
            "clean: all utterances have precomputed features, so there is nothing to play",
            "noisy: all",
        ),
        (_second_session, "The software changed between sessions torch: 2.11.0, then 2.12.0", "same bits"),
        (_second_session, "not the same Weights Trained on CUDA", "same bits"),
        (
            _unfinished,
            "3 of 30 epochs · training not finished",
            "training finished",
        ),
        (_edit("journal.jsonl", '"processes": 1', '"processes": 2'), "2 processes The order of", "and then"),
        (
            _edit("metrics.jsonl", '"split_batches": 0', '"split_batches": 1'),
            "3 batches divided",
            "0 batches",
        ),
    ],
    ids=str,
)
def test_a_folder_that_lacks_something_is_said_to(folder, change, expected, absent):
    change(folder)
    text, _ = _report(folder)
    assert expected in text
    assert absent not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_edit("metrics.jsonl", '{"epoch": 2', '{"epoch": '), "metrics.jsonl:2: expected the metrics of"),
        (_edit("config.yaml", "name: ", "name: ["), "config.yaml: not readable as YAML"),
        (_edit("clean/hyp.jsonl", '"text": "three"', '"text": 3'), "hyp.jsonl"),
        (_remove("metrics.jsonl", "config.yaml", "checkpoint.pt"), "not the folder of a run"),
    ],
    ids=["metrics", "config", "transcript", "folder"],
)
def test_a_damaged_file_is_one_line(folder, change, message, capsys):
    change(folder)
    assert main(["report", str(folder)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "report.html").exists()


def test_the_command_tells_what_differs_from_the_recipe(folder, capsys):
    assert main(["report", str(folder), "--embed-audio", "0", "-o", str(folder / "r.html")]) == 0
    page = (folder / "r.html").read_text()
    row = r'<td class="text" dir="auto">'
    assert f"<tr>{row}optimizer.lr</td>{row}0.002</td>{row}" in page  # the recipe's is 0.0015
    assert '"base64"' not in page
    assert '"path":"clean/0.wav"' in page
    assert str(folder / "r.html") in capsys.readouterr().err


def test_asr_run_leaves_the_page_and_says_what_was_changed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    settings = ["num_train=6", "num_dev=2", "num_test=2", "trainer.epochs=1", "trainer.accelerator=cpu"]
    assert main(["run", "recipes/digits/blstm.yaml", "output_dir=out", *settings, "model=lstm"]) == 0
    assert "report: out/report.html" in capsys.readouterr().err
    page = (tmp_path / "out" / "report.html").read_text()
    cells = re.findall(
        r'<tr><td class="text" dir="auto">(.*?)</td><td .*?>(.*?)</td><td .*?>(.*?)</td>', page
    )
    changed = {name: (ours, recipe) for name, ours, recipe in cells}
    assert changed["num_train"] == ("6", "1500")
    assert changed["model.encoder.bidirectional"] == ("false", "true")
    assert "optimizer.lr" not in changed
    assert "1 of 1 epochs · training finished" in page
    assert "decoded and scored at" in page


def test_the_journal_keeps_what_the_monitor_shows(tmp_path):
    shown = []

    class Monitor:
        def note(self, message):
            shown.append(message)

        def end_epoch(self, metrics):
            shown.append(metrics)

    class Trainer:
        accelerator, precision = "cpu", "32-true"

    journal = Journal(tmp_path, Monitor(), Trainer(), ["asr", "train", "x.yaml"])
    journal.note("lone \ud800")
    journal.end_epoch({"epoch": 4})
    with open(tmp_path / "journal.jsonl", "a") as file:
        file.write('{"time": "2026-01-01T00:00:00+00:00", "ev')  # the power went
    assert shown == ["lone \ud800", {"epoch": 4}]
    session, note, epoch = read_journal(tmp_path)
    assert session["command"] == ["asr", "train", "x.yaml"]
    assert {"Python", "torch", "torchaudio", "numpy", "asr"} <= session["software"].keys()
    assert {"processor", "cores", "GPU", "system"} <= session["hardware"].keys()
    assert session["settings"]["device"] == "cpu"
    assert note["message"] == "lone \ud800"
    assert (epoch["epoch"], epoch["processes"]) == (4, 1)
    Journal(tmp_path, Monitor(), Trainer(), anew=True)
    assert [event["event"] for event in read_journal(tmp_path)] == ["session"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.5, 1]),
        (0, 0.0015, [0, 0.0005, 0.001, 0.0015]),
        (1, 45, [0, 20, 40, 60]),
        (0, 0, [0, 0.5, 1]),
        (-3, 7, [-5, 0, 5, 10]),
    ],
)
def test_ticks_are_round_and_enclose(low, high, expected):
    assert linear_ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.012, 1, [0.02, 0.05, 0.1, 0.2, 0.5, 1]), (3e-4, 200, [1e-3, 1e-2, 0.1, 1, 10, 100])],
)
def test_logarithmic_ticks_are_within(low, high, expected):
    assert log_ticks(low, high) == pytest.approx(expected)


def test_a_gap_in_a_curve_is_not_drawn_over():
    history = [{"epoch": n, "train_loss": v} for n, v in enumerate([1.0, None, 2.0, 2.5], 1)]
    (figure,) = draw_all(history, best_epoch=None)
    (line,) = re.findall(r'<path class="line s0" d="([^"]*)"', figure)
    assert re.sub(r"[\d.,]+", "", line) == "MhMhL"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """The browser of the tests of score pages."""
    path = Path(__file__).parent / "scoring" / "page" / "conftest.py"
    spec = importlib.util.spec_from_file_location("page_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield from module.chromium.__wrapped__(tmp_path_factory)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(folder, browser, width):
    page = make_run_report(read_run(folder), defaults=CONFIG)
    (folder / "report.html").write_text(page, encoding="utf-8")
    browser.log()
    browser.open(folder / "report.html", width)
    browser.wait("return document.body.dataset.ready")
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("return document.querySelectorAll('.chart svg').length") == 9
    browser.run("document.querySelector('#utterances').scrollIntoView()")
    browser.wait("return document.querySelectorAll('#list article').length === 3")
    shown = browser.run(
        "return [...document.querySelectorAll('#list article')].map(a => "
        "[a.dataset.id, [...a.querySelectorAll('.S, .D, .I')].map(i => i.className + i.textContent)])"
    )
    assert shown == [["clean/u1", ["Stree"]], ["noisy/u0", ["D"]], ["clean/u0", []]]
    browser.run("document.querySelector('#list .play').click()")
    assert (
        browser.wait("return document.querySelector('#spectrogram canvas').dataset.utterance") == "clean/u1"
    )
    browser.run("document.querySelector('#player-close').click()")
    browser.run("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.run("return document.querySelectorAll('#list.printed article').length") == 3
    browser.run("window.dispatchEvent(new Event('afterprint'))")
    assert browser.run("return document.querySelectorAll('#list:not(.printed) article').length") == 3
    assert browser.log() == []
