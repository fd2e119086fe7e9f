"""Divide what was recognised among the segments of a reference, by time."""

from __future__ import annotations

import re
import struct
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from asr.scoring.timed import Segment, TimedWord, units, words_text

# sclite's number of words (ctm against ctm) above which it looks for a common pause to cut at.
_CHUNK = 50
_PUNCTUATION = re.compile(r"[^\w']+")


class Assigned(NamedTuple):
    """What was recognised in each segment.

    Attributes
    ----------
    texts : list of str
        One for each segment.
    ignored : int
        Words in segments that are not scored.
    outside : list of str
        Words in no segment.
    """

    texts: list[str]
    ignored: int
    outside: list[str]


def assign_words(segments: Sequence[Segment], words: Sequence[TimedWord]) -> Assigned:
    """Give each word of a channel to a segment by the middle of its time, as sclite does (``stm2ctm.c``).

    A word between two segments goes to the later one, and one after the last to the last, where they are
    insertions. Alternatives go together, by the latest middle among them.
    """
    groups = list(units(words))
    texts, outside = [], []
    ignored = index = 0
    for number, segment in enumerate(segments, start=1):
        # sclite reads the times of segments, but not of words, in single precision.
        end = struct.unpack("f", struct.pack("f", segment.end))[0]
        taken: list[TimedWord] = []
        while index < len(groups):
            middle, group = groups[index]
            if middle >= end and number < len(segments):
                break
            taken += group
            if not segment.ignored and not segment.start <= middle <= end:
                outside.append(words_text(group))
            index += 1
        if segment.ignored:
            ignored += sum(not word.mark for word in taken)
        texts.append(words_text(taken))
    return Assigned(texts, ignored, outside)


def cut_at_pauses(reference: Sequence[TimedWord], hypothesis: Sequence[TimedWord]) -> list[tuple[int, int]]:
    """Cut two word sequences of one channel into chunks of about 50 words, as sclite does (``ctm2ctm.c``).

    Returns
    -------
    list of (int, int)
        For each chunk, the number of words of both sequences up to its end.
    """
    cuts = [(0, 0)]
    while cuts[-1] != (len(reference), len(hypothesis)):
        size, cut = _CHUNK, None
        while cut is None:
            cut = _next_cut(reference, hypothesis, *cuts[-1], size)
            size *= 2
        cuts.append(cut)
    return cuts[1:]


def _next_cut(
    reference: Sequence[TimedWord], hypothesis: Sequence[TimedWord], r0: int, h0: int, size: int
) -> tuple[int, int] | None:
    """Search back from `size` words for a pause in both; None if there is none."""
    r_last, h_last = len(reference) - 1, len(hypothesis) - 1
    if r_last - r0 < size and h_last - h0 < size:
        return r_last + 1, h_last + 1
    r, h = min(r0 + size, r_last), min(h0 + size, h_last)

    def r_before(r: int) -> tuple[int, bool]:
        """Step back, and over the alternatives that this leads into."""
        r -= 1
        skipped = False
        while r >= r0 and reference[r].alternate:
            r, skipped = r - 1, True
        return r, skipped

    def h_before(h: int) -> int:
        """Step back likewise; sclite would cut through alternatives of a hypothesis."""
        h -= 1
        while h >= h0 and hypothesis[h].alternate:
            h -= 1
        return h

    def apart(r: int, h: int) -> bool:
        return _overlap(reference[r].start, reference[r].end, hypothesis[h].start, hypothesis[h].end) < 0

    if r < 0 or h < 0:
        return None
    while r >= r0 and reference[r].alternate:
        r -= 1
    if hypothesis[h].alternate:
        h = h_before(h)
    skipped = True
    while skipped:
        skipped = False
        if reference[r].start > hypothesis[h].start:
            while not skipped and r >= r0 and reference[r].start > hypothesis[h].start and apart(r, h):
                r, skipped = r_before(r)
        elif reference[r].start < hypothesis[h].start:
            while h >= h0 and reference[r].start < hypothesis[h].start and apart(r, h):
                h = h_before(h)
    while r > r0 and h > h0:
        if _overlap(*_pause(reference, r), *_pause(hypothesis, h)) >= 0:
            return r + 1, h + 1
        skipped = True
        while skipped:
            skipped = False
            if reference[r].start > hypothesis[h].start:
                if r > r0:
                    r, skipped = r_before(r)
                while not skipped and h >= h0 and reference[r].start < hypothesis[h].start and apart(r, h):
                    h = h_before(h)
            else:
                if h > h0:
                    h = h_before(h)
                while not skipped and r >= r0 and reference[r].start > hypothesis[h].start and apart(r, h):
                    r, skipped = r_before(r)
    return (r + 1, h + 1) if r > r0 or h > h0 else None


def _pause(words: Sequence[TimedWord], index: int) -> tuple[float, float]:
    """Return when the word ends and when the next one begins."""
    return words[index].end, words[index + 1].start if index + 1 < len(words) else 999999.99


def _overlap(start: float, end: float, other_start: float, other_end: float) -> float:
    """Return the seconds that two intervals share, or minus the seconds between them."""
    return min(end, other_end) - max(start, other_start)


def align_cues(segments: Sequence[Segment], cues: Sequence[Segment]) -> Assigned:
    """Give what was recognised in longer stretches, such as subtitles, to the segments of a channel.

    Where no segment and no cue spans a moment, both are cut. Between two cuts the words are aligned as a
    whole, and each goes where the word aligned with it lies (as in Matusov et al., "Evaluating machine
    translation output with automatic sentence segmentation", IWSLT 2005), since the times of the words
    within a cue are not known. A cue whose middle lies in a segment that is not scored is left out.
    """
    ignored_segments = [segment for segment in segments if segment.ignored]
    scored = [index for index, segment in enumerate(segments) if not segment.ignored]
    texts, outside = [""] * len(segments), []
    ignored = 0
    kept: list[Segment] = []
    for cue in cues:
        middle = (cue.start + cue.end) / 2
        if any(segment.start <= middle < segment.end for segment in ignored_segments):
            ignored += len(cue.text.split())
        else:
            kept.append(cue)
    # (start, end, index of the segment or -1, text)
    stretches = sorted(
        [(segments[i].start, segments[i].end, i, segments[i].text) for i in scored]
        + [(cue.start, cue.end, -1, cue.text) for cue in kept],
        key=lambda stretch: stretch[:2],
    )
    starts = [segments[index].start for index in scored]
    members: list[int] = []
    words: list[str] = []
    reach = 0.0
    for start, end, index, text in stretches:
        # A cue of its own is for the next segment, as a word between segments is.
        if members and start >= reach:
            _share(members, segments, words, texts)
            members, words = [], []
        reach = max(reach, end)
        if index >= 0:
            members.append(index)
        else:
            words += text.split()
            # The last segment that begins before the cue ends.
            last = bisect_left(starts, end) - 1
            if last < 0 or segments[scored[last]].end <= start:
                outside += text.split()
    if members:
        _share(members, segments, words, texts)
    elif words and scored:
        texts[scored[-1]] = " ".join([texts[scored[-1]], *words]).strip()
    return Assigned(texts, ignored, outside)


def _share(
    members: Sequence[int], segments: Sequence[Segment], words: Sequence[str], texts: list[str]
) -> None:
    """Put the words into the texts of the segments that they are aligned with."""
    if len(members) == 1 or not words:
        texts[members[0]] = " ".join(words)
        return
    from rapidfuzz.distance import Levenshtein

    reference = [(_folded(word), index) for index in members for word in segments[index].text.split()]
    if not reference:
        texts[members[0]] = " ".join(words)
        return
    shares: dict[int, list[str]] = {index: [] for index in members}
    opcodes = Levenshtein.opcodes([word for word, _ in reference], [_folded(word) for word in words])
    for operation in opcodes:
        for offset in range(operation.dest_end - operation.dest_start):
            if operation.tag == "insert":
                position = max(0, operation.src_start - 1)
            else:
                position = operation.src_start + offset
            shares[reference[position][1]].append(words[operation.dest_start + offset])
    for index, share in shares.items():
        texts[index] = " ".join(share)


def _folded(word: str) -> str:
    """Return the word as it compares before any normalisation: without case and punctuation."""
    return _PUNCTUATION.sub("", word.casefold()) or word
