"""What shows only when utterances are compared, within a split and between splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

from asr.data.checks.problems import Problem, make_problem
from asr.data.checks.splits import Split
from asr.data.checks.texts import count_letters, shortened
from asr.data.checks.utterances import problem_of
from asr.types import Utterance

Place = tuple[int, int]
"""A split's and an utterance's number."""

# Segments are often given some room at both ends.
_OVERLAP_SECONDS = 0.1
# Short texts come again by themselves: commands, names, numbers. AN4's longest that train and test share has
# 18 letters.
_LONG_TEXT = 30
_SHOWN = 3


def check_copies(
    splits: Sequence[Split], digests: Sequence[Sequence[bytes]], normalizer: Callable[[str], str]
) -> Iterator[Problem]:
    """Yield audio that comes twice: with another text, in another split, or in the same one.

    Parameters
    ----------
    digests : sequence of sequence of bytes
        Of each utterance of each split; where it is empty, the stretch of the file is compared by name.
    """
    groups: dict[object, list[Place]] = defaultdict(list)
    for s, split in enumerate(splits):
        for i, (utterance, digest) in enumerate(zip(split.utterances, digests[s], strict=True)):
            groups[digest or _stretch(utterance)].append((s, i))
    for places in groups.values():
        if len(places) > 1:
            yield from _compare(splits, places, normalizer)


def _compare(
    splits: Sequence[Split], places: Sequence[Place], normalizer: Callable[[str], str]
) -> Iterator[Problem]:
    texts = [normalizer(splits[s].utterances[i].text or "") for s, i in places]
    where = dict(zip(reversed(texts), reversed(places), strict=True))  # the first place of each text
    if len(where) > 1:
        one, two = list(where)[:2]
        for (s, i), text in zip(places, texts, strict=True):
            other = two if text == one else one
            message = (
                f"the same audio as {_name(splits, where[other], s)}, but the text is {shortened(text)} here "
                f"and {shortened(other)} there; correct one of them"
            )
            yield splits[s].locate(problem_of(splits[s].utterances[i], "contradiction", message), i)
    # What is in two splits is to leave the training split, so that results stay comparable.
    last = max(places, key=lambda place: (splits[place[0]].rank, place[0]))
    firsts: dict[int, Place] = {}
    for s, i in places:
        first = firsts.setdefault(s, (s, i))
        if first != (s, i) and len(where) == 1:
            message = f"the same audio and text as {_name(splits, first, s)}; keep one of them"
            yield splits[s].locate(problem_of(splits[s].utterances[i], "duplicate_audio", message), i)
        if s != last[0]:
            message = f"the same audio as {_name(splits, last, s)}; take it out of {splits[s].name}"
            yield splits[s].locate(problem_of(splits[s].utterances[i], "leak", message), i)


def check_overlaps(splits: Sequence[Split]) -> Iterator[Problem]:
    """Yield stretches of a recording that overlap with an earlier one, equal stretches left out."""
    by_file: dict[str, list[Place]] = defaultdict(list)
    for s, split in enumerate(splits):
        for i, utterance in enumerate(split.utterances):
            if utterance.features_filepath is None and utterance.audio_filepath is not None:
                by_file[utterance.audio_filepath].append((s, i))
    for places in by_file.values():
        if len(places) < 2:
            continue
        # The stretch that reaches furthest so far.
        reaching: Place | None = None
        for s, i in sorted(places, key=lambda place: splits[place[0]].utterances[place[1]].offset):
            utterance = splits[s].utterances[i]
            if reaching is not None:
                other = splits[reaching[0]].utterances[reaching[1]]
                overlap = min(_end(other), _end(utterance)) - utterance.offset
                if overlap > _OVERLAP_SECONDS and _stretch(other) != _stretch(utterance):
                    message = (
                        f"{overlap:.2f} s from {utterance.offset:.2f} s on are also in "
                        f"{_name(splits, reaching, s)}; correct offset and duration of one"
                    )
                    yield splits[s].locate(problem_of(utterance, "overlap", message), i)
            if reaching is None or _end(utterance) > _end(splits[reaching[0]].utterances[reaching[1]]):
                reaching = (s, i)


def check_shared(splits: Sequence[Split], normalizer: Callable[[str], str]) -> Iterator[Problem]:
    """Yield ids, speakers and texts that two splits have; problems with texts are the training split's."""
    ids = [{u.id: i for i, u in enumerate(split.utterances)} for split in splits]
    speakers = [{u.speaker for u in split.utterances if u.speaker is not None} for split in splits]
    texts = [[normalizer(u.text or "") for u in split.utterances] for split in splits]
    where = [{text: i for i, text in enumerate(said)} for said in texts]
    for a, b in combinations(sorted(range(len(splits)), key=lambda s: splits[s].rank), 2):
        first, second = splits[a], splits[b]
        for id in ids[b].keys() & ids[a].keys():
            i = ids[b][id]
            message = f"{_name(splits, (a, ids[a][id]), b)} has the same id; give each its own"
            yield second.locate(problem_of(second.utterances[i], "shared_id", message), i)
        if shared := sorted(speakers[a] & speakers[b]):
            yield _of_split(
                second,
                "shared_speaker",
                f"{len(shared)} of {len(speakers[b])} speakers ({_some(shared)}) are in {first.name} too: "
                f"the score is not that of new speakers",
            )
        both = where[a].keys() & where[b].keys()
        for i, text in enumerate(texts[a]):
            if text in both and count_letters(text) >= _LONG_TEXT:
                other = _name(splits, (b, where[b][text]), a)
                message = f"{shortened(text)} is also the text of {other}; take one out"
                yield first.locate(problem_of(first.utterances[i], "shared_text", message), i)
        short = {text for text in both if 0 < count_letters(text) < _LONG_TEXT}
        if short:
            count = sum(text in short for text in texts[b])
            yield _of_split(
                second,
                "repeated_text",
                f"{count} of {len(texts[b])} utterances have texts of {first.name}, such as "
                f"{shortened(max(sorted(short), key=len))}; usual for commands and numbers",
            )


def _of_split(split: Split, kind: str, message: str) -> Problem:
    return split.locate(make_problem(kind, message, path=split.path))


def _name(splits: Sequence[Split], place: Place, seen_from: int) -> str:
    """Return what to call another utterance: its id, with its manifest's line if it is in another split."""
    s, i = place
    split = splits[s]
    where = "" if s == seen_from else f"{split.name}, "
    return f"{split.utterances[i].id} ({where}line {split.lines[i]})"


def _stretch(utterance: Utterance) -> tuple[str | None, float, float]:
    return utterance.features_filepath or utterance.audio_filepath, utterance.offset, utterance.duration


def _end(utterance: Utterance) -> float:
    return utterance.offset + utterance.duration


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
