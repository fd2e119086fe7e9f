"""TED-LIUM: TED talks with their aligned transcripts, releases 1 to 3, 16 kHz."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.data.archives import Archive, find_corpus, openslr
from asr.data.headers import durations
from asr.data.manifest import write_manifest
from asr.errors import ConfigError, DataError
from asr.types import Utterance

SPLITS = ("train", "dev", "test")
# Of each release the archive, its number at openslr.org, its top folder, and the SHA-256 that torchaudio has.
RELEASES = {
    1: (
        "TEDLIUM_release1.tar.gz",
        7,
        "TEDLIUM_release1",
        "30301975fd8c5cac4040c261c0852f57cfa8adbbad2ce78e77e4986957445f27",
    ),
    2: (
        "TEDLIUM_release2.tar.gz",
        19,
        "TEDLIUM_release2",
        "93281b5fcaaae5c88671c9d000b443cb3c7ea3499ad12010b3934ca41a7b9c58",
    ),
    3: (
        "TEDLIUM_release-3.tgz",
        51,
        "TEDLIUM_release-3",
        "ad1e454d14d1ad550bc2564c462d87c7a7ec83d4dc2b9210f22ab4973b9eccdb",
    ),
}
IGNORED = "ignore_time_segment_in_scoring"
UNKNOWN = "<unk>"
# Training segments begin and end too close to the speech: seconds to add, as far as the neighbours allow.
# These, and what is done to the text, are from Kaldi's egs/tedlium/s5_r3.
LEAD, TAIL = 0.15, 0.1


@dataclass(frozen=True)
class _Segment:
    """A line of an STM file; times in seconds."""

    talk: str
    speaker: str
    start: float
    end: float
    text: str


def prepare(
    output_dir: Path,
    *,
    archive: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
    note: Callable[[str], object] | None = None,
    release: int = 3,
) -> None:
    """Write ``release<n>/{train,dev,test}.jsonl`` under `output_dir`: segments of talks.

    Parameters
    ----------
    archive : Path, optional
        The release's archive, or the folder that it unpacks to. Downloaded if there is none.
    progress : callable, optional
        Called with what is done and what there is in all: bytes, then talks.
    note : callable, optional
        Told of downloads and of what is left out.
    release : {3, 2, 1}
        Dev and test are the same talks in 2 and 3 (3's "legacy" split).

    Raises
    ------
    AudioError, ConfigError, DataError
    """
    if release not in RELEASES:
        raise ConfigError(f"release: {release!r} is none of {', '.join(map(str, RELEASES))}")
    name, number, top, sha256 = RELEASES[release]
    part = Archive(
        name, openslr(number, name), f"{top}/{'legacy' if release == 3 else 'test'}", sha256=sha256
    )
    (found,) = find_corpus([part], output_dir, archive=archive, progress=progress, note=note)
    for split in SPLITS:
        folder = found.parent / split if release < 3 else found / split
        if release == 3 and split == "train" and not any(folder.glob("stm/*.stm")):
            folder = found.parent / "data"  # where the links of legacy/train lead
        utterances = _read_split(folder, split, progress, note)
        write_manifest(output_dir / f"release{release}" / f"{split}.jsonl", utterances)


def _read_split(
    folder: Path,
    split: str,
    progress: Callable[[int, int], object] | None,
    note: Callable[[str], object] | None,
) -> list[Utterance]:
    """Return the utterances of a split; say what was left out."""
    paths = sorted(folder.glob("stm/*.stm"))
    if not paths:
        raise DataError(f"{folder}: no stm/*.stm inside; unpack the archive again")
    recordings = {path.stem: folder / "sph" / f"{path.stem}.sph" for path in paths}
    for talk, path in recordings.items():
        if not path.is_file():
            raise DataError(
                f"{path}: the talk {talk} has a transcript, but no recording; unpack the archive again"
            )
    lengths = dict(zip(recordings, durations(list(recordings.values()), progress=progress), strict=True))
    left_out: Counter[str] = Counter()
    utterances = []
    for path in paths:
        segments = list(_read_stm(path))
        for i, segment in enumerate(segments):
            start, end, length = segment.start, segment.end, lengths[path.stem]
            if split == "train":
                before = segments[i - 1].end if i else 0.0
                after = segments[i + 1].start if i + 1 < len(segments) else length
                start -= min(LEAD, max(0.0, (start - before) / 2))
                end += min(TAIL, max(0.0, (after - end) / 2))
            start, end = max(start, 0.0), min(end, length)
            text, num_unknown = _spoken(segment.text)
            if segment.text.lower() == IGNORED:
                left_out["segments that are not to be scored"] += 1
            elif end <= start:
                left_out["segments behind the end of their talk"] += 1
            elif not text:
                left_out["segments without words"] += 1
            else:
                left_out[f"unknown words ({UNKNOWN}) of segments that are kept"] += num_unknown
                utterances.append(
                    Utterance(
                        id=_name(segment),
                        duration=round(end - start, 3),
                        offset=round(start, 3),
                        text=text,
                        audio_filepath=str(recordings[path.stem].absolute()),
                        speaker=segment.speaker,
                        lang="en",
                    )
                )
    for what, count in left_out.items():
        if count and note is not None:
            note(f"{split}: left out {count} {what}")
    return utterances


def _name(segment: _Segment) -> str:
    """Return what Kaldi calls a segment: its talk, start and end in hundredths of a second."""
    return f"{segment.talk}-{round(100 * segment.start):07d}-{round(100 * segment.end):07d}"


def _read_stm(path: Path) -> Iterator[_Segment]:
    """Yield the segments of an STM file in the order of their starts."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); unpack the archive again") from error
    segments = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(";;"):
            continue
        try:
            talk, _, speaker, start, end, *rest = line.split(maxsplit=5)
            segments.append(_Segment(talk, speaker, float(start), float(end), _after_label("".join(rest))))
        except ValueError as error:
            raise DataError(
                f"{path}:{number}: not 'talk channel speaker start end <label> text'; unpack it again"
            ) from error
    yield from sorted(segments, key=lambda segment: segment.start)


def _after_label(text: str) -> str:
    """Return a segment's text without the label in front: ``<o,f0,female>``, ``<F0_M>``, ``<NA>``."""
    label, _, rest = text.partition(" ")
    return rest.strip() if re.fullmatch(r"<.*>", label) and label.lower() != UNKNOWN else text.strip()


def _spoken(text: str) -> tuple[str, int]:
    """Return the words of a transcript, and how many unknown ones were taken out.

    The name of the utterance at the end, numbers of pronunciations ``(2)``, ``<sil>`` and noises ``{NOISE}``
    go; ``it 's`` becomes ``it's``. ``<unk>`` goes with what is joined to it: it stands for a word that a
    segment cuts, or that nobody understood.
    """
    text = re.sub(r"\([^ ]*\)$", "", text.strip())
    text = re.sub(r"\([0-9]\)|<sil>|\{[^ }]*\}", " ", text).strip()
    text = re.sub(r"(\S+)\s+('\S*)", r"\1\2", " ".join(text.split()))
    words = text.split()
    known = [word for word in words if not word.startswith(UNKNOWN)]
    return " ".join(known), len(words) - len(known)
