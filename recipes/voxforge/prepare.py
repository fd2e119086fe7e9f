"""VoxForge: sentences that volunteers read and sent in, each submission an archive of its own."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from asr.data.archives import unpacked_archive
from asr.data.manifest import write_manifest
from asr.data.preparation import LeftOut, read_durations
from asr.data.unpacking import remove_leftovers, unpack
from asr.errors import ConfigError, DataError
from asr.types import Utterance

SUFFIXES = (".tgz", ".tar.gz")
AUDIO_FOLDERS = ("wav", "flac")
# Where the sentences stand, best first: as the corpus's editors corrected them, or as they were shown.
PROMPTS = ("prompts", "prompts-original", "prompt-original", "prompts.txt")
# What etc/README says of the speaker, and the values that say nothing.
ABOUT_SPEAKERS = {"gender": "gender", "age range": "age", "pronunciation dialect": "dialect"}
UNSAID = frozenset(("", "n/a", "na", "unknown", "other", "please select", "not specified"))


def prepare(
    output_dir: Path,
    *,
    archive: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
    note: Callable[[str], object] | None = None,
    lang: str = "en",
    dev_share: float = 0.05,
    test_share: float = 0.05,
) -> None:
    """Write ``{train,dev,test}.jsonl`` under `output_dir`, with no speaker in two of them.

    Parameters
    ----------
    archive : Path, optional
        A folder of submissions, as ``<user>-<date>-<id>.tgz`` or unpacked; or an archive of such a folder.
    progress : callable, optional
        Called with what is done and what there is in all: archives unpacked, then headers read.
    note : callable, optional
        Called with lines that the user should read: what is left out.
    lang : str
        The language of this repository of VoxForge.
    dev_share, test_share : float
        Shares of the speakers, in (0, 1). To which split a speaker belongs follows from the name alone, so
        it stays the same when the corpus grows.

    Raises
    ------
    ConfigError, DataError
    """
    if not (0 < dev_share < 1 and 0 < test_share < 1 and dev_share + test_share < 1):
        raise ConfigError(
            f"dev_share={dev_share}, test_share={test_share}: must be above 0, and below 1 together"
        )
    folder = unpacked_archive(["voxforge"], output_dir, archive=archive, progress=progress, note=note)
    left_out = LeftOut()
    submissions = _find_submissions(folder, output_dir / "submissions", left_out, progress)
    if not submissions:
        raise DataError(
            f"{folder}: expected VoxForge, but it has no submissions as <user>-<date>-<id>.tgz, or unpacked "
            f"with etc/ and wav/ or flac/ ({left_out}); give --archive the folder that has them"
        )
    utterances = [u for path in submissions for u in _read_submission(path, lang, left_out)]
    splits: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for utterance in read_durations(utterances, left_out, progress):
        place = _place(utterance.speaker or "")
        split = "test" if place < test_share else "dev" if place < test_share + dev_share else "train"
        splits[split].append(utterance)
    for split, chosen in splits.items():
        if not chosen:
            speakers = len({u.speaker for u in utterances})
            raise DataError(
                f"{folder}: none of the {speakers} speakers falls into {split} ({left_out}); add "
                "submissions, or change dev_share and test_share"
            )
    for split, chosen in splits.items():
        write_manifest(output_dir / f"{split}.jsonl", chosen)
    left_out.write(output_dir / "left_out.tsv", note)


def _place(speaker: str) -> float:
    """Return a number in [0, 1) that follows from the name."""
    return int.from_bytes(hashlib.sha256(speaker.encode()).digest()[:4]) / 2**32


def _find_submissions(
    folder: Path, unpacked: Path, left_out: LeftOut, progress: Callable[[int, int], object] | None
) -> list[Path]:
    """Unpack what is packed, several archives at a time; return the folders of all submissions."""
    found = {}
    archives = []
    for path in sorted(folder.rglob("*")):
        if path.name == "etc" and path.is_dir() and any((path.parent / n).is_dir() for n in AUDIO_FOLDERS):
            found[path.parent.name] = path.parent
        elif path.name.endswith(SUFFIXES) and path.is_file():
            archives.append(path)
    executor = ThreadPoolExecutor(os.cpu_count())
    try:
        unpacking = executor.map(lambda path: _unpack(path, unpacked), archives)
        for done, (archive, result) in enumerate(zip(archives, unpacking, strict=True), 1):
            if isinstance(result, DataError):
                left_out.add(archive, "damaged archives", str(result))
            else:
                parents = {path.parent for path in result.rglob("etc") if path.is_dir()}
                if not parents:
                    left_out.add(archive, "archives without a folder etc")
                for parent in parents:
                    found.setdefault(parent.name if parent != result else result.name, parent)
            if progress is not None:
                progress(done, len(archives))
    finally:
        executor.shutdown(cancel_futures=True)
    return [found[name] for name in sorted(found)]


def _unpack(archive: Path, unpacked: Path) -> Path | DataError:
    """Return the folder of what was unpacked, or what is wrong with the archive."""
    folder = unpacked / archive.name.removesuffix(".tgz").removesuffix(".tar.gz")
    remove_leftovers(folder)
    try:
        return unpack(archive, folder)
    except DataError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno is not None:
            raise  # a full disk or a folder that cannot be written, not a fault of this archive
        return error


def _read_submission(folder: Path, lang: str, left_out: LeftOut) -> Iterator[Utterance]:
    """Yield the recordings of a submission that have a prompt, with no durations yet."""
    prompts, about = _read_texts(folder / "etc")
    files = {
        path.stem: path
        for kind in reversed(AUDIO_FOLDERS)  # a recording that is there as both is taken as WAV
        for path in sorted((folder / kind).glob(f"*.{kind}"))
    }
    if not files:
        left_out.add(folder, "submissions without audio")
    user = re.split(r"-\d{6,}", folder.name)[0].lower()
    # Each anonymous submission may be of another person.
    speaker = folder.name.lower() if user.startswith(("anonym", "anonim")) else user
    for name, path in sorted(files.items()):
        text = prompts.get(name, "")
        if not text:
            left_out.add(path, "without a prompt")
            continue
        yield Utterance(
            id=f"{folder.name}_{name}",
            duration=0.0,
            text=text,
            audio_filepath=str(path.absolute()),
            speaker=speaker,
            lang=lang,
            extra=about,
        )


def _read_texts(etc: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the prompts by the names of their recordings, and what is known of the speaker."""
    files = {path.name.lower(): path for path in sorted(etc.iterdir())}
    prompts: dict[str, str] = {}
    for kind in PROMPTS:
        for line in _read_lines(files.get(kind)):
            # ann-20090101-abc/mfc/a0012 IT SEEMED THE ORDAINED ORDER, or a0012 alone
            name, _, text = line.strip().replace("\t", " ").partition(" ")
            name = re.sub(r"\.(wav|flac|mfc)$", "", re.split(r"[/\\]", name)[-1])
            if text.strip():
                prompts.setdefault(name, text.strip())
    about = {}
    for line in _read_lines(files.get("readme")):
        key, colon, value = line.partition(":")
        name, value = ABOUT_SPEAKERS.get(key.strip().lower(), ""), value.strip(" \t;.[]").lower()
        if colon and name and value not in UNSAID:
            about[name] = value
    return prompts, about


def _read_lines(path: Path | None) -> list[str]:
    """Return the lines of a text, if there is one, in UTF-8 or the encoding of the old Windows."""
    if path is None or not path.is_file():
        return []
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace").splitlines()
