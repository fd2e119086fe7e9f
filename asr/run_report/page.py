"""The page about a run: what it came to, how it went, what it was made of, and what it gets wrong."""

from __future__ import annotations

import html
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from asr.run_report.curves import KNOWN, draw_all, finite, number, percent
from asr.run_report.determinism import statements
from asr.run_report.folder import Run, TestSet
from asr.scoring import Report, confidence_interval, score
from asr.scoring.page import fill_page, make_fragment

EMBED_BYTES = 5_000_000

# Metric, head of its column, and how it is shown.
_COLUMNS = (
    ("train_loss", "train loss", number),
    ("dev_loss", "dev loss", number),
    ("dev_wer", "dev WER", lambda value: f"{value:.2%}"),
    ("dev_cer", "dev CER", lambda value: f"{value:.2%}"),
    ("dev_ppl", "dev perplexity", number),
    ("lr", "learning rate", number),
    ("grad_norm", "gradient norm", number),
    ("blank_rate", "blank", percent),
    ("audio_seconds_per_second", "× real time", number),
    ("waiting_share", "waiting", percent),
    ("useful_share", "useful frames", percent),
    ("skipped_steps", "skipped", number),
    ("split_batches", "divided", number),
    ("peak_memory_mib", "MiB", number),
    ("seconds", "train s", lambda value: f"{value:.1f}"),
    ("dev_seconds", "dev s", lambda value: f"{value:.1f}"),
)
_VERDICTS = {"same": "the same again", "differs": "not the same", "unknown": "not known"}


def make_run_report(
    run: Run,
    *,
    defaults: Mapping[str, Any] | None = None,
    folder: Path | None = None,
    embed_bytes: int = EMBED_BYTES,
) -> str:
    """Make the page about a run; it is one file and loads nothing from a network.

    Parameters
    ----------
    run : Run
        From `asr.run_report.read_run`.
    defaults : mapping, optional
        The settings of the recipe as it is, to tell what was changed.
    folder : Path, optional
        Where the page will be, if not in the run's folder; audio that is not embedded is linked from there.
    embed_bytes : int
        Embed audio files of up to so many bytes in all, those of the worst utterances first.

    Returns
    -------
    str
        HTML. Write it as UTF-8 with ``errors="backslashreplace"``.
    """
    scored = [test for test in run.tests if test.score is not None]
    sections = (
        ("curves", "Curves", _curves(run)),
        ("epochs", "Epochs", _epochs(run)),
        ("notes", "Notes of the training", _notes(run)),
        ("settings", "Settings", _settings(run, defaults)),
        ("machine", "Where and with what it ran", _machine(run)),
        ("determinism", "What would come out the same again", _determinism(run)),
    )
    shown = [(id, title, content) for id, title, content in sections if content]
    links = [(id, title) for id, title, _ in shown]
    if scored:
        links += [("errors", "Most frequent errors"), ("utterances", "Utterances, the worst first")]
    body = [
        f'<header id="top"><h1 dir="auto">{_text(run.name)}</h1><p id="about">{_about(run)}</p>',
        *(f'<p class="note">{_text(sentence)}</p>' for sentence in run.lacks),
        f"</header><main>{_headline(run)}",
        '<nav aria-label="Sections">',
        *(f'<a href="#{id}">{title}</a>' for id, title in links),
        "</nav>",
        *(f'<section id="{id}"><h2>{title}</h2>{content}</section>' for id, title, content in shown),
    ]
    if scored:
        body.append("<noscript><p>The utterances need JavaScript; nothing is loaded.</p></noscript>")
        utterances, warnings = make_fragment(
            _pooled(scored), folder=folder or run.folder, embed_bytes=embed_bytes
        )
        notes = ["What follows is of all test sets together; choose one below"] if len(scored) > 1 else []
        notes += [*_audio_notes(scored), *(warnings if embed_bytes else _unread(scored))]
        body += [f'<p class="note">{_text(sentence)}.</p>' for sentence in notes]
        body.append(utterances)
    body.append("</main>")
    style = (Path(__file__).with_name("assets") / "report.css").read_text(encoding="utf-8")
    return fill_page(run.name, "\n".join(body), style)


def _pooled(tests: Sequence[TestSet]) -> Report:
    """Return one report of all test sets; if they are several, their names begin the ids and are a field."""
    if len(tests) == 1:
        assert tests[0].score is not None
        return Report({tests[0].name: tests[0].score})
    references, hypotheses, fields = {}, {}, {}
    for test in tests:
        assert test.score is not None
        columns = (test.score.ids, test.score.references, test.score.hypotheses, test.score.fields)
        for id, said, recognised, known in zip(*columns, strict=True):
            name = f"{test.name}/{id}"
            references[name], hypotheses[name] = said, recognised
            fields[name] = {**known, "test set": test.name}
    whole = score(references, hypotheses, alternatives=False, fields=fields)
    return Report({"all test sets": whole}, by=["test set"])


def _about(run: Run) -> str:
    facts = []
    epochs = (run.config.get("trainer") or {}).get("epochs")
    done = f"{len(run.history)} of {epochs} epochs" if epochs else f"{len(run.history)} epochs"
    facts.append(f"seed {run.config['seed']}" if "seed" in run.config else "seed not known")
    facts.append(done)
    ends = {True: "training finished", False: "training not finished", None: "not known whether finished"}
    facts.append(ends[run.finished])
    if (sessions := run.events("session")) and (done_at := run.events("epoch")):
        facts.append(f"from {_time(sessions[0])} to {_time(done_at[-1])}")
    return _text(" · ".join(facts))


def _headline(run: Run) -> str:
    cards = [_test_card(test) for test in run.tests]
    if not run.tests:
        cards.append(_card("Test sets", "none", ["The settings name no test set."], main=True))
    best = run.best
    if best.get("dev_wer") is not None:
        epochs = best.get("averaged_epochs")
        of = f"mean of epochs {', '.join(map(str, epochs))}" if epochs else f"epoch {best.get('epoch', '?')}"
        cards.append(
            _card("Best on dev: WER", f"{best['dev_wer']:.2%}", [f"{of}, CER {best['dev_cer']:.2%}"])
        )
    elif best.get("dev_ppl") is not None:
        cards.append(_card("Best on dev: perplexity", number(best["dev_ppl"]), [f"epoch {best['epoch']}"]))
    if run.history:
        seconds = sum((e.get("seconds") or 0) + (e.get("dev_seconds") or 0) for e in run.history)
        each = f"{duration(seconds / len(run.history))} an epoch, validation included"
        cards.append(_card("Training time", duration(seconds), [each]))
        trained = sum(e.get("seconds") or 0 for e in run.history)
        audio = sum((e.get("audio_seconds_per_second") or 0) * (e.get("seconds") or 0) for e in run.history)
        if audio and trained:
            notes = [f"real-time factor {trained / audio:.2g}, augmentation included"]
            cards.append(_card("Speed of training", f"{audio / trained:.0f} × real time", notes))
        skipped = sum(e.get("skipped_steps") or 0 for e in run.history)
        divided = sum(e.get("split_batches") or 0 for e in run.history)
        cards.append(_card("Steps skipped", f"{skipped:,}", [f"{divided:,} batches divided for memory"]))
    return f'<section class="cards report" aria-label="Results">{"".join(cards)}</section>'


def _test_card(test: TestSet) -> str:
    if test.score is None:
        return _card(f"WER on {test.name}", "–", ["not scored yet"], main=True)
    low, high = confidence_interval(test.score)
    notes = [
        f"95% interval {low:.2%} to {high:.2%}" if low == low else "too little for an interval",
        f"{test.score.num_sentences:,} utterances, {test.score.num_words:,} words, CER {test.score.cer:.2%}",
    ]
    if test.failures:
        notes.append(f"{len(test.failures)} utterances could not be read and are not in the score")
    if test.seconds and test.audio_seconds:
        factor = test.seconds / test.audio_seconds
        notes.append(f"decoded and scored at {1 / factor:.0f} × real time (factor {factor:.2g})")
    return _card(f"WER on {test.name}", f"{test.score.wer:.2%}", notes, main=True)


def _card(name: str, value: str, notes: Iterable[str] = (), main: bool = False) -> str:
    spans = "".join(f"<span>{_text(note)}</span>" for note in notes)
    kind = "card main" if main else "card"
    return f'<div class="{kind}"><span dir="auto">{_text(name)}</span><b>{_text(value)}</b>{spans}</div>'


def _curves(run: Run) -> str:
    if not run.history:
        return ""
    best = run.best.get("epoch")
    figures = "".join(draw_all(run.history, best))
    mark = f"The dashed line is the best epoch, {best}. " if best else ""
    note = f"{mark}The numbers are the last epoch's; point at a curve for those of another."
    return f'<p class="note">{note}</p><div class="charts">{figures}</div>'


def _epochs(run: Run) -> str:
    if not run.history:
        return ""
    keys = {key for entry in run.history for key in entry}
    named = [(key, name, show) for key, name, show in _COLUMNS if key in keys]
    numbers = {key for entry in run.history for key in entry if finite(entry[key]) is not None}
    named += [(key, key, number) for key in sorted(numbers - KNOWN)]
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in ["epoch", *(n for _, n, _ in named)])
    rows = []
    for entry in run.history:
        chosen = ' class="chosen"' if entry["epoch"] == run.best.get("epoch") else ""
        cells = "".join(
            f"<td>{'–' if finite(entry.get(key)) is None else _text(show(entry[key]))}</td>"
            for key, _, show in named
        )
        rows.append(f"<tr{chosen}><td>{entry['epoch']}</td>{cells}</tr>")
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{table}</div>'


def _notes(run: Run) -> str:
    items = [
        f"<li><time>{_time(event)}</time> {_text(event['message'])}</li>" for event in run.events("note")
    ]
    for test in run.tests:
        items += [f"<li>{_text(f'{test.name}: {failure}')}</li>" for failure in test.failures]
    return f'<ul class="notes">{"".join(items)}</ul>' if items else ""


def _settings(run: Run, defaults: Mapping[str, Any] | None) -> str:
    if not run.config:
        return ""
    if defaults is None:
        changed = (
            "<p>The recipe that it was trained with is not known, so neither is what was changed in it.</p>"
        )
    else:
        ours, recipe = dict(_flat(run.config)), dict(_flat(defaults))
        keys = [key for key in dict.fromkeys([*ours, *recipe]) if ours.get(key) != recipe.get(key)]
        rows = [(key, _yaml(ours.get(key)), _yaml(recipe.get(key))) for key in keys]
        changed = _table(("changed setting", "in this run", "in the recipe"), rows)
        changed = changed if rows else "<p>All settings are the recipe's own.</p>"
    whole = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)
    return f"{changed}<details><summary>All settings</summary><pre>{_text(whole)}</pre></details>"


def _machine(run: Run) -> str:
    sessions = run.events("session")
    if not sessions:
        return ""
    last = sessions[-1]
    rows = [
        (name, str(value))
        for key in ("software", "hardware", "settings")
        for name, value in last[key].items()
    ]
    rows.append(("seed", str(run.config.get("seed", "not known"))))
    if run.training_data:
        rows.append(("training data (SHA-256 of ids, durations, texts)", run.training_data[:16]))
    parts = []
    if last["command"]:
        parts.append(f"<p><code>{_text(shlex.join(last['command']))}</code></p>")
    if len(sessions) > 1:
        parts.append(
            f'<p class="note">The training ran in {len(sessions)} sessions, begun '
            f"{', '.join(map(_time, sessions))}; this is the last one's.</p>"
        )
    return "".join(parts) + _table(("", ""), rows)


def _determinism(run: Run) -> str:
    items = [
        f'<dt><i class="{s.verdict}">{_VERDICTS[s.verdict]}</i> {_text(s.what)}</dt><dd>{_text(s.why)}</dd>'
        for s in statements(run)
    ]
    return f'<dl class="determinism">{"".join(items)}</dl>'


def _audio_notes(tests: Sequence[TestSet]) -> Iterator[str]:
    """Yield what is to be said of utterances that cannot be heard."""
    for test in tests:
        assert test.score is not None
        fields = test.score.fields
        silent = [known for known in fields if not known.get("audio_filepath")]
        if silent:
            of = "all" if len(silent) == len(fields) else f"{len(silent):,} of {len(fields):,}"
            why = (
                "precomputed features"
                if any("features_filepath" in known for known in silent)
                else "no audio"
            )
            yield f"{test.name}: {of} utterances have {why}, so there is nothing to play"


def _unread(tests: Sequence[TestSet]) -> Iterator[str]:
    """Yield which audio files are gone; `make_fragment` tells it of those that it was to embed."""
    for test in tests:
        assert test.score is not None
        paths = {known["audio_filepath"] for known in test.score.fields if known.get("audio_filepath")}
        missing = sorted(path for path in paths if not os.access(path, os.R_OK))
        if missing:
            yield f"{len(missing)} audio files of {test.name} cannot be read, the first is {missing[0]}"


def duration(seconds: float) -> str:
    """Return a time as one would say it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def _time(event: Mapping[str, Any]) -> str:
    return datetime.fromisoformat(event["time"]).strftime("%Y-%m-%d %H:%M UTC")


def _flat(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings by their dotted names; null is as if not there."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        elif value is not None:
            yield f"{path}{key}", value


def _yaml(value: Any) -> str:
    if value is None:
        return "–"
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = "".join(f'<th scope="col" class="text">{_text(name)}</th>' for name in head)
    top = f"<thead><tr>{cells}</tr></thead>" if any(head) else ""
    lines = ("".join(f'<td class="text" dir="auto">{_text(cell)}</td>' for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll facts"><table>{top}<tbody>{body}</tbody></table></div>'


def _text(text: str) -> str:
    return html.escape(text)
