"""Words and segments with times: what is read, what is refused, and what sclite makes of the same files."""

import random
import re
import shutil
import subprocess

import pytest

from asr.errors import DataError
from asr.scoring import read_pair, read_transcripts, score
from asr.scoring.segmentation import cut_at_pauses

needs_sctk = pytest.mark.skipif(shutil.which("sctk") is None, reason="sclite (Debian: sctk) is not installed")


def write(tmp_path, name, lines):
    path = tmp_path / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def run_sclite(reference, reference_format, hypothesis):
    """Return the lines of sclite's alignments."""
    command = ["sctk", "sclite", "-s", "-l", "60000", "-r", reference, reference_format]
    command += ["-h", hypothesis, "ctm", "-o", "pralign", "stdout"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def sclite(reference, reference_format, hypothesis):
    """Return what sclite aligns: (reference, hypothesis) texts by its own ids."""
    aligned = {}
    for line in run_sclite(reference, reference_format, hypothesis):
        if line.startswith("id: ("):
            id = line[5:-1]
        elif line.startswith(("REF: ", "HYP: ")):
            words = [word.lower() for word in line[5:].split() if set(word) != {"*"}]
            aligned.setdefault(id, []).append(" ".join(words))
    return {id: tuple(pair) for id, pair in aligned.items()}


def is_wording(text, wording):
    """Tell whether alternatives can be chosen so that the text is the wording."""
    text = re.sub(
        r"\{ (.*?) \}",
        lambda match: "(?:" + "|".join(x.strip().replace("@", "") for x in match[1].split(" / ")) + ")",
        text,
    )
    pattern = r"\s*".join(re.split(r" (?![^(]*\))", text))
    return re.fullmatch(pattern, " ".join(wording.replace("@", "").split())) is not None


def assert_equals_sclite(pairing, aligned):
    for id, reference in pairing.references.items():
        expected = aligned.get(pairing.fields[id].get("sclite_id", id), ("", ""))
        assert is_wording(reference, expected[0])
        assert is_wording(pairing.hypotheses[id], expected[1])
    assert set(aligned) <= {fields.get("sclite_id", id) for id, fields in pairing.fields.items()}


def timed_words(rng, count, prefix, channel, alternatives):
    """Write words of random length, with pauses, and alternatives among them."""
    lines, time = [], rng.choice([0.0, 1.0])
    for number in range(count):
        time += rng.choice([0, 0, 0.01, 0.1, 0.5, 1.3])
        duration = rng.choice([0.1, 0.2, 0.3, 0.04, 0.62])
        word = f"{time:.2f} {duration} {prefix}{number}"
        if alternatives and rng.random() < 0.1:
            lines += ["* * <ALT_BEGIN>", word, "* * <ALT>"]
            lines += [f"{word}b"] * rng.randint(0, 1) + ["* * <ALT_END>"]
        else:
            lines.append(word)
        time = round(time + duration, 2)
    return [f"{channel} {line}" for line in lines]


@needs_sctk
@pytest.mark.parametrize("seed", range(25))
def test_words_go_to_the_segments_that_sclite_puts_them_in(tmp_path, seed):
    rng = random.Random(seed)
    reference, hypothesis = [], []
    for file in ("f1", "f2", "f3")[: rng.randint(1, 3)]:
        for channel in ("A", "B")[: 1 + seed % 2]:
            prefix = f"{file}{channel.lower()}"
            hypothesis += timed_words(rng, rng.randint(1, 60), prefix, f"{file} {channel}", seed % 3 == 0)
            end = 0.0
            for number in range(rng.randint(1, 12)):
                start = round(end + rng.choice([0, 0, 0.3, 1]), 2)
                end = round(start + rng.choice([0.1, 0.5, 1, 2.5, 4.7]), 2)
                text = " ".join(f"r{number}{index}" for index in range(rng.randint(0, 4)))
                if number and rng.random() < 0.1:
                    text = "IGNORE_TIME_SEGMENT_IN_SCORING"
                speaker, label = rng.choice(["s1", "s2-x"]), rng.choice(["", "<o,f0> "])
                reference.append(f"{file} {channel} {speaker} {start:.2f} {end:.2f} {label}{text}")
    stm, ctm = write(tmp_path, "r.stm", reference), write(tmp_path, "h.ctm", hypothesis)
    assert_equals_sclite(read_pair(stm, ctm), sclite(stm, "stm", ctm))


@needs_sctk
@pytest.mark.parametrize(
    ("start", "duration", "boundary"),
    [
        (1.4, 0.2, 1.5),
        (1.0, 0.2, 1.1),
        (1.1, 0.2, 1.2),
        (1.6, 0.2, 1.7),
        (1000.3, 0.4, 1000.5),
        (1.2, 0.5, 1.5),
    ],
)
def test_a_word_whose_middle_is_a_boundary_goes_where_sclite_puts_it(tmp_path, start, duration, boundary):
    stm = write(tmp_path, "r.stm", [f"f A s 0.0 {boundary} x", f"f A s {boundary} 2000 y"])
    ctm = write(tmp_path, "h.ctm", [f"f A {start} {duration} w"])
    assert_equals_sclite(read_pair(stm, ctm), sclite(stm, "stm", ctm))


@needs_sctk
@pytest.mark.parametrize("seed", range(15))
def test_ctm_against_ctm_is_cut_where_sclite_cuts_it(tmp_path, seed):
    """All words last equally long: Debian's sclite 2.10 takes some durations from the wrong file."""
    rng = random.Random(seed)

    def spoken(count, prefix):
        places = sorted(rng.sample(range(int(count * 1.5) + 3), count))
        return [f"f A {0.21 * place + rng.random() * 0.005:.3f} 0.2 {prefix}{place}" for place in places]

    count = rng.randint(1, 400)
    reference = write(tmp_path, "r.ctm", spoken(count, "r"))
    hypothesis = write(tmp_path, "h.ctm", spoken(rng.randint(1, count), "h"))
    assert_equals_sclite(read_pair(reference, hypothesis), sclite(reference, "ctm", hypothesis))


@needs_sctk
@pytest.mark.parametrize("fmt", ["stm", "ctm"])
@pytest.mark.parametrize("seed", range(3))
def test_counts_of_timed_words_are_those_of_sclite(tmp_path, fmt, seed):
    rng = random.Random(seed)
    reference, hypothesis = [], []
    for file in ("f1", "f2"):
        said = rng.choices("abcdefgh", k=300)
        for number, word in enumerate(said):
            time = 0.5 * number
            if fmt == "ctm":
                reference.append(f"{file} A {time:.2f} 0.3 {word}")
            elif number % 10 == 0:
                group = " ".join(said[number : number + 10])
                reference.append(f"{file} A s{number % 3} {time:.2f} {time + 4.9:.2f} {group}")
            recognised = rng.choices([word, rng.choice("abcdefgh"), ""], [8, 1, 1])[0]
            if recognised:
                hypothesis.append(f"{file} A {time + rng.choice([0, 0.1]):.2f} 0.3 {recognised}")
    paths = write(tmp_path, f"r.{fmt}", reference), write(tmp_path, "h.ctm", hypothesis)
    pairing = read_pair(*paths)
    ours = score(pairing.references, pairing.hypotheses, align="sclite")
    theirs = {}
    for line in run_sclite(paths[0], fmt, paths[1]):
        if line.startswith("id: ("):
            id = line[5:-1]
        elif line.startswith("Scores: "):
            theirs[id] = [int(count) for count in line.split()[-4:]]
    ids = [pairing.fields[id].get("sclite_id", id) for id in ours.ids]
    assert dict(zip(ids, ours.counts.tolist(), strict=True)) == theirs


def test_a_cut_never_splits_alternatives(tmp_path):
    lines = [f"f A {number}.0 0.5 w{number}" for number in range(50)]
    lines += ["f A * * <ALT_BEGIN>", "f A 50.0 0.5 um", "f A * * <ALT>", "f A * * <ALT_END>"]
    lines += [f"f A {number}.0 0.5 w{number}" for number in range(51, 120)]
    pairing = read_pair(write(tmp_path, "r.ctm", lines), write(tmp_path, "h.ctm", lines))
    assert pairing.references == pairing.hypotheses
    assert len(pairing.references) > 1
    assert "{ um / @ }" in " ".join(pairing.references.values())
    for text in pairing.references.values():
        assert text.count("{") == text.count("}")
    assert cut_at_pauses([], []) == []


def test_what_is_outside_or_ignored_is_said(tmp_path):
    stm = write(
        tmp_path,
        "r.stm",
        ["f A s 1.0 2.0 x", "f A s 3.0 4.0 IGNORE_TIME_SEGMENT_IN_SCORING", "f A s 4.0 5.0 y"],
    )
    times = (("early", 0.1), ("x", 1.2), ("gap", 2.5), ("ignored", 3.2), ("y", 4.2), ("late", 7.0))
    ctm = write(tmp_path, "h.ctm", [f"f A {start} 0.2 {word}" for word, start in times])
    pairing = read_pair(stm, ctm)
    assert list(pairing.hypotheses.values()) == ["early x", "y late"]
    assert pairing.notes == (
        "segments marked to be ignored: 1, with 2 recognised words",
        "recognised words in no segment, counted in the next one of the channel, or the last: 2 "
        "(first 'early', 'late')",
    )


@pytest.mark.parametrize(
    ("fmt", "lines", "message"),
    [
        (
            "ctm",
            ["f A 1.0 0.2 x", "f A 0.5 0.2 y"],
            "file:2: this word starts at 0.5, before the one on line 1 at 1",
        ),
        ("ctm", ["f A 1.0 0.9 x", "f A 1.5 0.2 y"], "file:2: this word starts at 1.5, .* line 1 ends at 1.9"),
        ("ctm", ["f A 1.0 x y"], "file:1: time is 'x'"),
        ("ctm", ["f A -1.0 0.2 y"], "file:1: time is '-1.0'"),
        ("ctm", ["f A nan 0.2 y"], "file:1: time is 'nan'"),
        ("ctm", ["f A 1.0 0.2"], "file:1: has 4 columns: 'f A 1.0 0.2'; write `file channel start duration"),
        ("ctm", ["f A 1.0 0.2 x high"], "file:1: confidence is 'high'"),
        ("ctm", ["f A * * <ALT_BEGIN>", "f A 1.0 0.2 x"], "file:1: <ALT_BEGIN> of .* is never closed"),
        ("ctm", ["f A * * <ALT>", "f A 1.0 0.2 x"], "file:1: <ALT> without <ALT_BEGIN>"),
        ("ctm", ["f A * * <ALT_BEGIN>", "f A * * <ALT_BEGIN>"], "file:2: <ALT_BEGIN> within alternatives"),
        ("stm", ["f A s 1.0 2.0 x", "f A s 0.5 1.0 y"], "file:2: this segment starts at 0.5, before the one"),
        (
            "stm",
            ["f A s 1.0 2.0 x", "f A t 1.5 3.0 y"],
            "file:2: this segment starts at 1.5, .* line 1 ends at 2",
        ),
        ("stm", ["f A s 2.0 1.0 x"], "file:1: ends at 1.0, before it starts at 2.0"),
        ("stm", ["f A s 1.0"], "file:1: has 4 columns"),
        ("stm", ["f A s 1.0 2.0 { x / y"], "file:1: braces of alternatives are not balanced"),
        ("stm", ["f A s 1.0 1.0 x", "f A s 1.0 1.0 x"], "file:2: the same segment as on line 1"),
    ],
)
def test_bad_times_are_named_with_their_line(tmp_path, fmt, lines, message):
    with pytest.raises(DataError, match=message) as caught:
        read_transcripts(write(tmp_path, "file", lines), fmt)
    assert "\n" not in str(caught.value)


def test_channels_may_alternate_and_rounding_may_overlap(tmp_path):
    lines = ["f A 1.00 0.21 x", "f B 0.50 0.2 y", "f A 1.20 0.2 z", "f B 0.9 0.2 w"]
    assert read_transcripts(write(tmp_path, "h.ctm", lines)).texts == {"f-A": "x z", "f-B": "y w"}
