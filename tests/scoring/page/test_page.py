"""The page in a real browser: its numbers, its filters, hostile texts, audio, size and layout."""

import json
import math
import random
import re
import struct
import wave
from itertools import pairwise

import numpy as np
import pytest

from asr.scoring import Report, difference, frequent_errors, group_by, make_page, pair, score

HOSTILE = [
    "</script><script>document.title='broken'</script>",
    "<img src=x onerror=document.title='broken'>",
    "<!-- <script>",
    "&lt;b&gt; &amp; \"quoted\" 'single' \\ \u2028 @DATA@ ${x} %s",
    "\ud800 lone",
    "__proto__ constructor",
]
SHOWN = "return Number(document.querySelector('#list').dataset.shown)"


@pytest.fixture
def show(chromium, tmp_path):
    """Return a function that opens the page of scores by name and gives the browser and the report."""

    def open_page(scores, *, width=1280, height=900, embed_bytes=0, folder=tmp_path, **options):
        report = Report(scores, reference="ref.txt", **options)
        page, warnings = make_page(report, folder=folder, embed_bytes=embed_bytes)
        path = tmp_path / "page.html"
        path.write_text(page, encoding="utf-8", errors="backslashreplace")
        chromium.log()
        chromium.open(path, width, height)
        chromium.wait("return document.body.dataset.ready")
        assert chromium.log() == []
        report.warnings = warnings
        return chromium, report

    return open_page


def _fill(page, **values):
    """Set filters as a reader does, and wait for the list."""
    script = """
        const form = document.querySelector('#filters');
        for (const [name, value] of Object.entries(arguments[0])) form.elements[name].value = value;
        form.dispatchEvent(new Event('submit', {cancelable: true}));
    """
    page.run(script, values)
    return page.run(SHOWN)


def _click(page, place, text):
    """Click on the first button within a place that has this text."""
    script = """
        [...document.querySelectorAll(arguments[0] + ' button')]
            .find(button => button.textContent === arguments[1]).click();
    """
    page.run(script, place, text)
    return page.run(SHOWN)


def _ids(page):
    """Return the ids of the utterances that are drawn, from the top."""
    return page.run(
        "return [...document.querySelectorAll('#list article')]"
        ".sort((a, b) => parseFloat(a.style.top) - parseFloat(b.style.top)).map(a => a.dataset.id)"
    )


def _rows(page, place, table=0):
    """Return the cells of a table."""
    script = """
        const table = document.querySelectorAll(arguments[0] + ' table')[arguments[1]];
        return [...table.tBodies[0].rows].map(row => [...row.cells].map(cell => cell.innerText.trim()));
    """
    return page.run(script, place, table)


def _random_texts(count, seed=0):
    generator = random.Random(seed)
    words = ["a", "be", "see", "oh", "eye", "jay"]
    references, hypotheses = {}, {}
    for n in range(count):
        reference = generator.choices(words, k=generator.randint(0, 12))
        hypothesis = []
        for word in reference:
            hypothesis += generator.choice([[word]] * 7 + [[], [generator.choice(words)], [word, "uh"]])
        references[f"s{n % 4}-{n}"] = " ".join(reference)
        hypotheses[f"s{n % 4}-{n}"] = " ".join(hypothesis)
    return references, hypotheses


def _fields(references):
    return {id: {"speaker": id.split("-")[0], "duration": 0.1 + len(text)} for id, text in references.items()}


@pytest.fixture
def hundred():
    references, hypotheses = _random_texts(100)
    return score(references, hypotheses, fields=_fields(references))


def test_utterances_without_a_partner_are_said(show):
    pairing = pair({"a": "x y", "b": "z"}, {"a": "x y", "<c>": "z"}, "delete")
    result = score(pairing.references, pairing.hypotheses)
    page, _ = show({"mine": result}, pairings={"mine": pairing})
    notes = page.run("return [...document.querySelectorAll('#top .note')].map(note => note.textContent)")
    assert notes == [
        "references without a hypothesis, counted as deletions: 1 (first 'b')",
        "hypotheses without a reference, left out: 1 (first '<c>')",
    ]


def test_the_numbers_are_those_of_the_score(show, hundred):
    page, report = show({"mine": hundred})
    cards = page.run(
        "return [...document.querySelectorAll('.card')].map(card => card.innerText.split('\\n'))"
    )
    shown = {lines[0]: lines[1] for lines in cards}
    assert shown["Word error rate (WER)"] == f"{hundred.wer:.2%}"
    assert shown["Character error rate"] == f"{hundred.cer:.2%}"
    assert shown["Sentence error rate"] == f"{hundred.ser:.2%}"
    assert [shown[name] for name in ("Substitutions", "Deletions", "Insertions", "Correct")] == [
        f"{n:,}" for n in (hundred.substitutions, hundred.deletions, hundred.insertions, hundred.hits)
    ]
    low, high = report.intervals["mine"]
    assert f"{low:.2%} to {high:.2%}" in " ".join(cards[0])
    grouping = group_by(hundred, "speaker")
    expected = [
        [g.name, f"{g.error_rate:.2%}", g.num_sentences, g.length, g.substitutions, g.deletions, g.insertions]
        for g in grouping.split(hundred)
    ]
    assert _rows(page, "#breakdowns") == [list(map(str, row)) for row in expected]
    most = frequent_errors(hundred).substitutions.most_common(200)
    assert _rows(page, "#errors", 0) == [[said, recognised, str(n)] for (said, recognised), n in most]


@pytest.mark.parametrize("unit", ["word", "character"])
def test_the_alignments_are_those_of_the_score(show, unit):
    references, hypotheses = _random_texts(30, seed=1)
    result = score(references, hypotheses, unit=unit)
    page, _ = show({"mine": result}, height=12000)
    drawn = page.run("""
        return Object.fromEntries([...document.querySelectorAll('#list article')].map(article =>
            [article.dataset.id, [...article.querySelectorAll('.cells > span')].map(({children: [r, h]}) =>
                [h.className, r.textContent, h.textContent])]));
    """)
    assert len(drawn) == 30
    for id, aligned in zip(result.ids, result.alignments, strict=True):
        expected = [[o, said or "", recognised or ""] for o, said, recognised in aligned]
        if all(operation == "C" for operation, *_ in aligned):
            expected = []  # shown as a line of text
        assert drawn[id] == [[cell.replace(" ", "␣") for cell in row] for row in expected]


def test_hostile_texts_are_shown_as_they_are(show):
    references = {f"{text} {n}": text for n, text in enumerate(HOSTILE)}
    hypotheses = {id: text + " more" for id, text in references.items()}
    fields = {id: {"speaker": text, "duration": 1} for id, text in references.items()}
    result = score(references, hypotheses, fields=fields)
    page, _ = show({"<b>name</b>": result}, height=5000)
    assert page.run("return document.title") == "Scores: <b>name</b>"
    assert page.run("return document.querySelectorAll('img, #list b b, script').length") == 2
    # As JSON, since the driver cannot carry half a surrogate pair.
    drawn = page.run("""
        return JSON.stringify([...document.querySelectorAll('#list article')].map(article =>
            [article.dataset.id, [...article.querySelectorAll('.cells > span')]
                .map(cell => cell.children[0].textContent).join(' ')]));
    """)
    said = dict(zip(result.ids, result.references, strict=True))
    assert {id: text.strip() for id, text in json.loads(drawn)} == said
    assert _fill(page, q="</script><script>") == 1


def test_filters_leave_what_they_say(show, hundred):
    page, _ = show({"mine": hundred})
    errors, words = hundred.counts[:, 1:].sum(axis=1), hundred.counts[:, :3].sum(axis=1)
    nothing = {"q": "", "show": "all", "kind": "", "min": "", "field0": ""}
    assert _fill(page, show="errors") == (errors > 0).sum()
    assert _fill(page, show="correct") == (errors == 0).sum()
    for kind in (1, 2, 3):
        assert _fill(page, **nothing | {"kind": kind}) == (hundred.counts[:, kind] > 0).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = np.where(words > 0, errors / words, 0)
    assert _fill(page, **nothing | {"min": "50"}) == (rates >= 0.5).sum()
    speakers = np.array([fields["speaker"] for fields in hundred.fields])
    assert _fill(page, **nothing | {"field0": 1}) == (speakers == "s1").sum()
    assert (
        _fill(page, **nothing | {"field0": 1, "show": "errors"}) == ((speakers == "s1") & (errors > 0)).sum()
    )
    said = zip(hundred.ids, hundred.references, hundred.hypotheses, strict=True)
    assert _fill(page, **nothing | {"q": "SEE OH"}) == sum("see oh" in r or "see oh" in h for _, r, h in said)
    summary = page.run("return document.querySelector('#shown').innerText")
    assert re.match(r"\d+ of 100 utterances · WER \d+\.\d\d% \(\d+ of \d+\)", summary)
    page.run("document.querySelector('#filters button[type=reset]').click()")
    assert page.run(SHOWN) == 100


def test_a_click_on_an_error_or_a_group_shows_its_utterances(show, hundred):
    page, _ = show({"mine": hundred})
    (said, recognised), _ = frequent_errors(hundred).substitutions.most_common(1)[0]
    has = [("S", said, recognised) in aligned for aligned in hundred.alignments]
    page.run("document.querySelectorAll('#errors table')[0].querySelector('td button').click()")
    assert page.run(SHOWN) == sum(has)
    assert f"{said} → {recognised}" in page.run("return document.querySelector('#shown').innerText")
    page.run("document.querySelector('#shown button').click()")
    assert page.run(SHOWN) == 100
    word, _ = frequent_errors(hundred).deletions.most_common(1)[0]
    page.run("document.querySelectorAll('#errors table')[1].querySelector('td button').click()")
    assert page.run(SHOWN) == sum(("D", word, None) in aligned for aligned in hundred.alignments)
    assert _click(page, "#breakdowns", "s2") == 25


def test_sorting(show, hundred):
    page, _ = show({"mine": hundred}, height=20000)
    errors, words = hundred.counts[:, 1:].sum(axis=1).tolist(), hundred.counts[:, :3].sum(axis=1).tolist()
    at = {id: n for n, id in enumerate(hundred.ids)}
    assert [errors[at[id]] for id in _ids(page)] == sorted(errors, reverse=True)
    for sort, key in (
        ("order", lambda n: n),
        ("longest", lambda n: (-words[n], n)),
        ("shortest", lambda n: (words[n], n)),
        ("duration", lambda n: (-hundred.fields[n]["duration"], n)),
        ("rate", lambda n: (-errors[n] / words[n] if words[n] else 0, n)),
        ("id", lambda n: tuple(map(int, hundred.ids[n][1:].split("-")))),
    ):
        _fill(page, sort=sort)
        assert [at[id] for id in _ids(page)] == sorted(range(100), key=key), sort


def test_unseen_words(show):
    result = score({"1": "the zebra", "2": "a zebra"}, {"1": "the zero", "2": "a zebra"})
    page, _ = show({"mine": result}, vocabulary={"the", "a"})
    text = page.run("return document.querySelector('#breakdowns').innerText")
    assert "2 of 4 reference words (50.00%) are not in the vocabulary; 50.00% of them were missed" in text
    assert _click(page, "#breakdowns", "zebra") == 2


def test_two_systems_side_by_side(show):
    references, a = _random_texts(60, seed=2)
    b = _random_texts(60, seed=3)[1]
    b = {id: b[id] if n % 3 == 0 else references[id] for n, id in enumerate(references)}
    scores = {"old": score(references, a), "new": score(references, b)}
    page, report = show(scores, height=20000)
    text = page.run("return document.querySelector('#comparison').innerText")
    assert report.comparison("old", "new").sentence in text
    wrong = [score.counts[:, 1:].any(axis=1) for score in scores.values()]
    table = [("both right", ~wrong[0] & ~wrong[1]), ("only old right", ~wrong[0] & wrong[1])]
    table += [("only new right", wrong[0] & ~wrong[1]), ("neither right", wrong[0] & wrong[1])]
    assert _rows(page, "#comparison") == [[name, str(which.sum())] for name, which in table]
    for (_, which), name in zip(table, ("both", "onlyA", "onlyB", "neither"), strict=True):
        assert _fill(page, show=name) == which.sum()
    assert _fill(page, show="differ") == sum(a[id].split() != b[id].split() for id in references)
    found = difference(*scores.values())
    assert f"{found.only_b.total()} words that only new gets right" in text
    assert _rows(page, "#comparison", 2) == [[w, str(n)] for w, n in found.only_b.most_common()]
    # A click on a word shows the utterances in which only that system recognised it.
    word = found.only_b.most_common(1)[0][0]
    page.run("document.querySelectorAll('#comparison table')[2].querySelector('td button').click()")
    expected = [
        id
        for n, id in enumerate(references)
        if word in difference(*(score([references[id]], [texts[id]]) for texts in (a, b))).only_b
    ]
    assert sorted(_ids(page)) == sorted(expected)
    # Each column has the reference and both systems under each other.
    page.run("document.querySelector('#filters button[type=reset]').click()")
    columns = page.run("return [...document.querySelectorAll('.cells > span')].map(c => c.children.length)")
    assert set(columns) == {3}
    assert page.run("return document.querySelectorAll('.cells i.S').length") == sum(
        result.substitutions for result in scores.values()
    )


def test_different_alternatives_are_aligned_apart(show):
    reference = ["we are { going to / gonna } go"]
    scores = {
        name: score(reference, [text], alternatives=True)
        for name, text in (("a", "we gonna go"), ("b", "we are going go"))
    }
    page, _ = show(scores)
    rows = page.run("""
        return [...document.querySelectorAll('.cells')].map(cells =>
            [...cells.children].map(column => column.children[0].textContent).join(' '));
    """)
    assert rows == ["we are gonna go", "we are going to go"]


def test_optional_words_are_correct_with_and_without(show):
    result = score(["(uh) we (um) go on", "(uh) so"], ["we um go in", "uh so"], optional_words=True)
    page, _ = show({"mine": result})
    rows = page.run("""
        return [...document.querySelectorAll('.cells')].map(cells => [...cells.children].map(column =>
            [column.children[1].className, column.children[0].textContent, column.children[1].textContent]));
    """)
    expected = [[[o, said or "", recognised or ""] for o, said, recognised in a] for a in result.alignments]
    assert rows == expected
    assert [cell[0] for cell in rows[0]] == ["C", "C", "C", "C", "S"]


def test_three_systems_can_be_chosen_in_pairs(show):
    references, a = _random_texts(20, seed=4)
    scores = {name: score(references, texts) for name, texts in (("x", a), ("y", references), ("z", a))}
    page, report = show(scores)
    page.run("""
        const [first, second] = document.querySelectorAll('#comparison select');
        first.value = '2'; second.value = '1'; second.dispatchEvent(new Event('change'));
    """)
    text = page.run("return document.querySelector('#comparison').innerText")
    assert report.comparison("y", "z").sentence in text
    assert "words that only y gets right" in text.split("words that only z gets right")[1]


def test_right_to_left_text_runs_from_the_right(show):
    references = {"ar": "مرحبا يا عالم", "en": "hello big world"}
    page, _ = show({"mine": score(references, {"ar": "مرحبا يا عام", "en": "hello pig world"})})
    for id, direction in (("ar", "rtl"), ("en", "ltr")):
        first, second, found = page.run(
            """
            const cells = document.querySelector(`[data-id=${arguments[0]}] .cells`);
            return [...[...cells.children].slice(0, 2).map(c => c.getBoundingClientRect().left),
                getComputedStyle(cells).direction];
            """,
            id,
        )
        assert found == direction
        assert (first > second) == (direction == "rtl")


def test_only_what_is_in_view_is_drawn_and_nothing_is_skipped(show):
    references, hypotheses = _random_texts(200, seed=5)
    page, _ = show({"mine": score(references, hypotheses)}, width=600)
    _fill(page, sort="order")
    seen = set()
    position = page.run("return document.querySelector('#list').getBoundingClientRect().top + scrollY")
    while True:
        page.run("window.scrollTo(0, arguments[0]); return new Promise(requestAnimationFrame)", position)
        rows = page.run(
            "return new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(() => resolve("
            "[...document.querySelectorAll('#list article')].map(a => [a, a.getBoundingClientRect()])"
            ".map(([a, box]) => [a.dataset.id, box.top, box.bottom]).sort((a, b) => a[1] - b[1])))))"
        )
        assert len(rows) < 60
        assert all(abs(a[2] - b[1]) < 1 for a, b in pairwise(rows))
        seen.update(row[0] for row in rows if row[1] < 900 and row[2] > 0)
        if page.run("return scrollY + innerHeight >= document.documentElement.scrollHeight - 1"):
            break
        position = page.run("return scrollY") + 800
    assert seen == set(references)


@pytest.mark.parametrize("systems", [1, 3])
def test_it_fits_the_window(show, hundred, tmp_path, systems):
    names = ["/a/rather/long/path/to/a/hypothesis/file/that/has/no/spaces.jsonl", "b", "c"][:systems]
    page, _ = show(dict.fromkeys(names, hundred))
    for width in (1280, 390, 320):
        page.open(tmp_path / "page.html", width)
        wide = """
            return [...document.querySelectorAll('*')].filter(e => !e.closest('.scroll *, .cells *')
                && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 99));
        """
        assert page.run(wide) == []
        assert page.run("return document.documentElement.scrollWidth") <= width


def test_it_follows_the_dark_mode_of_the_system(show, hundred):
    page, _ = show({"mine": hundred})
    luminance = "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    backgrounds = []
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.devtools("Emulation.setEmulatedMedia", {"features": features})
        backgrounds.append(sum(page.run(luminance)[:3]) / 3)
    page.devtools("Emulation.setEmulatedMedia", {"features": []})
    assert backgrounds[0] > 200
    assert backgrounds[1] < 60


def test_nothing_is_loaded_from_the_network(hundred):
    page, _ = make_page(Report({"mine": hundred}))
    assert not re.search(r"https?:|//[a-z]|@import|url\(", page.split('<script type="application/json"')[0])
    assert "default-src 'none'" in page


def _tone(path, hertz, seconds, rate=16000):
    samples = (int(20000 * math.sin(2 * math.pi * hertz * n / rate)) for n in range(int(rate * seconds)))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", None))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))


@pytest.fixture
def spoken(tmp_path):
    """A score whose utterances have audio: a file each of 1 and 3 kHz, and a part of the second."""
    (tmp_path / "au dio#").mkdir()
    fields = {}
    for id, hertz in (("low", 1000), ("high", 3000)):
        path = tmp_path / "au dio#" / f"{id}.wav"
        _tone(path, hertz, 2.0)
        fields[id] = {"audio_filepath": str(path), "duration": 2.0}
    fields["part"] = fields["high"] | {"offset": 0.5, "duration": 0.25}
    texts = dict.fromkeys(fields, "tone")
    return score(texts, {**texts, "high": "tune"}, fields=fields)


def _loudest(page):
    """Return the frequency of the brightest line of the spectrogram, in Hz."""
    return page.run("""
        const canvas = document.querySelector('#spectrogram canvas');
        const {width, height} = canvas;
        const data = canvas.getContext('2d').getImageData(width / 2, 0, 1, height).data;
        let best = 0;
        for (let y = 0; y < height; y++) {
            const light = y => data[4 * y] + data[4 * y + 1] + data[4 * y + 2];
            if (light(y) > light(best)) best = y;
        }
        const top = parseFloat(document.querySelector('.hz.top').textContent) * 1000;
        return (height - 1 - best) / height * top;
    """)


def _play(page, id):
    page.run("document.querySelector(`[data-id=${arguments[0]}] .play`).click()", id)


def test_embedded_audio_plays_and_has_a_spectrogram(show, spoken):
    page, report = show({"mine": spoken}, embed_bytes=10**6)
    assert report.warnings == []
    for id, hertz in (("low", 1000), ("high", 3000), ("part", 3000)):
        _play(page, id)
        page.wait(f"return document.querySelector('canvas').dataset.utterance === '{id}'")
        assert _loudest(page) == pytest.approx(hertz, abs=70)
    page.wait("return document.querySelector('audio').readyState > 0")
    assert page.run("return document.querySelector('audio').duration") == pytest.approx(2.0, abs=0.01)
    # A part plays from its offset.
    assert page.wait("return document.querySelector('audio').currentTime") >= 0.5
    assert [line for line in page.log() if "willReadFrequently" not in line] == []  # this test reads it


def test_linked_audio_plays_and_its_folder_can_be_chosen(show, spoken, tmp_path):
    page, _ = show({"mine": spoken})
    _play(page, "low")
    page.wait("return document.querySelector('audio').readyState > 0")
    assert page.run("return document.querySelector('audio').duration") == pytest.approx(2.0, abs=0.01)
    assert page.run("return document.querySelector('#spectrogram').hidden")
    assert "--embed-audio" in page.run("return document.querySelector('#player-message').textContent")
    script = {"expression": "document.querySelector('#player-choose input')"}
    handle = page.devtools("Runtime.evaluate", script)["result"]["objectId"]
    page.devtools("DOM.setFileInputFiles", {"files": [str(tmp_path / "au dio#")], "objectId": handle})
    page.wait("return document.querySelector('canvas').dataset.utterance === 'low'")
    assert _loudest(page) == pytest.approx(1000, abs=70)
    page.run("document.querySelector('#player-close').click()")
    assert page.run("return document.querySelector('#player').hidden")


def test_audio_that_is_gone_is_said(show, spoken, tmp_path):
    page, _ = show({"mine": spoken})
    (tmp_path / "au dio#" / "low.wav").unlink()
    _play(page, "low")
    message = "return document.querySelector('#player-message').textContent"
    page.wait(f"{message}.includes('low.wav was not found')")


def test_a_page_that_was_moved_finds_its_audio_from_where_it_was_made(show, spoken, tmp_path):
    page, _ = show({"mine": spoken}, folder=tmp_path / "reports" / "old")
    (tmp_path / "au dio#" / "low.wav").unlink()
    _play(page, "part")
    page.wait("return document.querySelector('audio').readyState > 0")
    assert page.wait("return document.querySelector('audio').currentTime") >= 0.5
    _play(page, "low")
    page.wait(
        "return document.querySelector('#player-message').textContent.includes('low.wav was not found')"
    )


def test_audio_with_errors_is_embedded_first(spoken, tmp_path):
    size = (tmp_path / "au dio#" / "low.wav").stat().st_size
    page, warnings = make_page(Report({"mine": spoken}), folder=tmp_path, embed_bytes=size)
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert ["base64" in file for file in data["audio"]] == [False, True]
    assert [file["path"] for file in data["audio"]] == ["au dio#/low.wav", "au dio#/high.wav"]
    assert len(warnings) == 1
    assert "1 of 2 audio files are linked, not embedded" in warnings[0]


def test_audio_that_cannot_be_embedded_is_named(spoken, tmp_path):
    (tmp_path / "au dio#" / "low.wav").unlink()
    _, warnings = make_page(Report({"mine": spoken}), folder=tmp_path, embed_bytes=10**6)
    assert len(warnings) == 1
    assert "low.wav (No such file or directory)" in warnings[0]


@pytest.mark.slow
def test_fifty_thousand_utterances_open_and_filter_in_two_seconds(show):
    references, hypotheses = {}, {}
    generator = random.Random(6)
    words = ["".join(generator.choices("abcdefghijklmnop", k=generator.randint(1, 9))) for _ in range(9999)]
    for n in range(50_000):
        reference = generator.choices(words, k=20)
        references[f"s{n % 300}-{n}"] = " ".join(reference)
        hypotheses[f"s{n % 300}-{n}"] = " ".join(w if generator.random() > 0.1 else "x" for w in reference)
    page, _ = show({"mine": score(references, hypotheses, fields=_fields(references))})
    opened = page.run("return performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert opened < 2000
    took = """
        const start = performance.now();
        arguments[0]();
        document.body.offsetHeight;
        return performance.now() - start;
    """.replace("arguments[0]()", "{}")
    submit = "form.dispatchEvent(new Event('submit', {cancelable: true}))"
    for action in (
        "document.querySelector('#errors td button').click()",
        f"const form = document.querySelector('#filters'); form.elements.q.value = 'x a'; {submit}",
        f"const form = document.querySelector('#filters'); form.elements.q.value = ''; {submit}",
        f"const form = document.querySelector('#filters'); form.elements.show.value = 'errors'; {submit}",
        f"const form = document.querySelector('#filters'); form.elements.sort.value = 'id'; {submit}",
        f"const form = document.querySelector('#filters'); form.elements.min.value = '20'; {submit}",
        "document.querySelector('#breakdowns td button').click()",
    ):
        assert page.run(took.replace("{}", action, 1)) < 2000, action
