"""Common Voice: sentences read by volunteers in over a hundred languages, MP3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from asr.data.archives import unpacked_archive
from asr.data.manifest import write_manifest
from asr.data.preparation import LeftOut, find_folders, read_durations
from asr.errors import ConfigError, DataError
from asr.types import Utterance

# A client_id is a hash of 128 digits; so many tell a hundred thousand speakers apart.
SPEAKER_DIGITS = 16
# Columns that are kept where they say something; their names have changed over the releases.
ABOUT_SPEAKERS = {"age": "age", "gender": "gender", "accents": "accent", "accent": "accent"}


def prepare(
    output_dir: Path,
    *,
    archive: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
    note: Callable[[str], object] | None = None,
    lang: str | None = None,
    train_on: str = "train",
) -> None:
    """Write ``<lang>/{train,dev,test}.jsonl`` under `output_dir`, or ``validated.jsonl`` in place of train's.

    Parameters
    ----------
    archive : Path, optional
        The folder ``cv-corpus-*/`` or that of a language in it, or the ``.tar.gz`` of a language. There is
        no address to download it from.
    progress : callable, optional
        Called with the number of headers read and of all, if there is no ``clip_durations.tsv``.
    note : callable, optional
        Called with lines that the user should read: what is left out.
    lang : str, optional
        The corpus's name of the language, such as "de" or "zh-CN"; not needed if there is only one.
    train_on : {"train", "validated"}
        "train" is the corpus's own training set, which has each sentence once; "validated" all validated
        recordings of the speakers who are not in dev and test.

    Raises
    ------
    ConfigError, DataError
    """
    if train_on not in ("train", "validated"):
        raise ConfigError(f"train_on: {train_on!r} is neither train nor validated")
    name = f"cv-corpus-{lang}.tar.gz" if lang else "cv-corpus.tar.gz"
    folder = unpacked_archive([name], output_dir, archive=archive, progress=progress, note=note)
    lang, corpus = _find_language(folder, lang)
    left_out = LeftOut()
    seconds = _read_clips(corpus)
    splits = {}
    for split in (train_on, "dev", "test"):
        rows = _read_tsv(corpus / f"{split}.tsv", left_out)
        splits[split] = list(_utterances(rows, lang, corpus / "clips", seconds, left_out))
    if train_on == "validated":
        held_out = {u.speaker for split in ("dev", "test") for u in splits[split]}
        splits[train_on] = [u for u in splits[train_on] if u.speaker not in held_out]
    splits = {split: read_durations(chosen, left_out, progress) for split, chosen in splits.items()}
    for split, utterances in splits.items():
        if not utterances:
            raise DataError(f"{corpus / split}.tsv: no recordings to use ({left_out}); unpack it again")
    for split, utterances in splits.items():
        write_manifest(output_dir / lang / f"{split}.jsonl", utterances)
    left_out.write(output_dir / lang / "left_out.tsv", note)


def _find_language(folder: Path, lang: str | None) -> tuple[str, Path]:
    """Return the name of a language and its folder."""
    found: dict[str, list[Path]] = {}
    for path in find_folders(folder, ("clips", "train.tsv", "dev.tsv", "test.tsv")):
        first = next(_read_tsv(path / "test.tsv", LeftOut()), {})
        found.setdefault(first.get("locale") or path.name, []).append(path)
    if not found:
        raise DataError(
            f"{folder}: expected Common Voice, but no folder in it has clips/, train.tsv, dev.tsv and "
            "test.tsv; give --archive the .tar.gz of a language, or the folder that it unpacks to"
        )
    if lang is None and len(found) == 1:
        (lang,) = found
    if lang not in found:
        names = ", ".join(sorted(found))
        asked = "several languages" if lang is None else f"no language {lang}"
        raise DataError(f"{folder}: {asked} in it; choose one, as lang={min(found)}, of {names}")
    if len(found[lang]) > 1:
        raise DataError(
            f"{folder}: has {lang} {len(found[lang])} times; give --archive one of them, as {found[lang][0]}"
        )
    return lang, found[lang][0]


def _read_tsv(path: Path, left_out: LeftOut) -> Iterator[dict[str, str]]:
    """Yield the rows of a table; quotation marks in it are characters like any other."""
    try:
        with open(path, encoding="utf-8-sig", newline="\n") as file:
            header = next(file, "").rstrip("\r\n").split("\t")
            missing = {"client_id", "path", "sentence"} - set(header)
            if missing:
                raise DataError(f"{path}:1: no column {min(missing)}; unpack the archive again")
            for number, line in enumerate(file, 2):
                cells = line.rstrip("\r\n").split("\t")
                if len(cells) > len(header):
                    left_out.add(f"{path.name}:{number}", "with more cells than columns", line.strip()[:80])
                elif line.strip():
                    yield dict(zip(header, cells + [""] * (len(header) - len(cells)), strict=True))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; unpack the archive again") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason}); unpack the archive again") from error


def _read_clips(corpus: Path) -> dict[str, float]:
    """Return the seconds of every clip that is there, 0 where the release does not say."""
    seconds = dict.fromkeys((path.name for path in (corpus / "clips").iterdir()), 0.0)
    table = corpus / "clip_durations.tsv"
    for line in table.read_text(encoding="utf-8").split("\n")[1:] if table.is_file() else []:
        clip, _, milliseconds = line.strip().partition("\t")
        if clip in seconds and milliseconds.isdecimal():
            seconds[clip] = int(milliseconds) / 1000
    return seconds


def _utterances(
    rows: Iterator[dict[str, str]],
    lang: str,
    clips: Path,
    seconds: dict[str, float],
    left_out: LeftOut,
) -> Iterator[Utterance]:
    """Yield what can be used, with the duration 0 where it is not known."""
    for row in rows:
        clip = row["path"] if row["path"].endswith(".mp3") else f"{row['path']}.mp3"  # releases 1 to 3
        if not row["sentence"].strip():
            left_out.add(clip, "without a sentence")
        elif clip not in seconds:
            left_out.add(clip, "without a clip")
        else:
            about = {name: row[key] for key, name in ABOUT_SPEAKERS.items() if row.get(key)}
            yield Utterance(
                id=clip.removesuffix(".mp3"),
                duration=seconds[clip],
                text=row["sentence"].strip(),
                audio_filepath=str((clips / clip).absolute()),
                speaker=row["client_id"][:SPEAKER_DIGITS],
                lang=lang,
                extra=about,
            )
