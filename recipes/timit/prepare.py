"""TIMIT (LDC93S1): read sentences with hand-corrected phone and word boundaries, 16 kHz."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from asr.data.archives import unpacked_archive
from asr.data.manifest import write_manifest
from asr.data.preparation import LeftOut, find_folders, read_durations
from asr.errors import ConfigError, DataError
from asr.files import atomic_write
from asr.types import Utterance

ARCHIVES = ("TIMIT", "timit", "LDC93S1", "timit_LDC93S1.tgz", "LDC93S1.tgz", "TIMIT.zip", "timit.zip")
SAMPLE_RATE = 16000  # of the times in .PHN and .WRD files, whatever the recordings were converted to
UNITS = ("phones", "phones48", "phones61", "words")


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The core test set: two men and one woman of each dialect region (TIMIT's doc/testset.doc).
TEST_SPEAKERS = _names(
    "mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0 "
    "mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0 mgrt0 mnjm0 fdhc0 mjln0 mpam0 fmld0"
)
# The 50 speakers of the complete test set that Kaldi's recipe tunes on (egs/timit/s5/conf/dev_spk.list).
DEV_SPEAKERS = _names(
    "faks0 fdac1 fjem0 mgwt0 mjar0 mmdb1 mmdm2 mpdf0 fcmh0 fkms0 mbdg0 mbwm0 mcsh0 fadg0 fdms0 fedw0 "
    "mgjf0 mglb0 mrtk0 mtaa0 mtdt0 mthc0 mwjg0 fnmr0 frew0 fsem0 mbns0 mmjr0 mdls0 mdlf0 mdvc0 mers0 "
    "fmah0 fdrw0 mrcs0 mrjm4 fcal1 mmwh0 fjsj0 majc0 mjsw0 mreb0 fgjd0 fjmg0 mroa0 mteb0 mjfc0 mrjr0 "
    "fmml0 mrws1"
)
SIZES = {"train": 3696, "dev": 400, "test": 192}  # sentences, the two dialect sentences (SA) left out

# Lee and Hon, Speaker-independent phone recognition using hidden Markov models, IEEE Trans. ASSP 37 (1989):
# 48 classes are trained, and 39 scored. The glottal stop is left out of both.
PHONES = _names(
    "aa ae ah ao aw ax ax-h axr ay b bcl ch d dcl dh dx eh el em en eng epi er ey f g gcl h# hh hv ih ix iy "
    "jh k kcl l m n ng nx ow oy p pau pcl q r s sh t tcl th uh uw ux v w y z zh"
)
TO_48 = {
    **{"ax-h": "ax", "axr": "er", "em": "m", "eng": "ng", "hv": "hh", "nx": "n", "ux": "uw", "q": ""},
    **dict.fromkeys(("pcl", "tcl", "kcl"), "cl"),
    **dict.fromkeys(("bcl", "dcl", "gcl"), "vcl"),
    **dict.fromkeys(("h#", "pau"), "sil"),
}
TO_39 = {
    **{"ao": "aa", "ax": "ah", "ix": "ih", "el": "l", "en": "n", "zh": "sh"},
    **dict.fromkeys(("cl", "vcl", "epi"), "sil"),
}


def prepare(
    output_dir: Path,
    *,
    archive: Path | None = None,
    progress: Callable[[int, int], object] | None = None,
    note: Callable[[str], object] | None = None,
    units: str = "phones",
) -> None:
    """Write ``<units>/{train,dev,test}.jsonl`` under `output_dir`, and ``39.tsv``, which folds phones.

    Parameters
    ----------
    archive : Path, optional
        The folder of the release, or an archive of it: ``TRAIN/DR1/FCJF0/SA1.WAV`` and so on, in upper or
        lower case. There is nothing to download.
    progress : callable, optional
        Called with the number of headers read and of all.
    note : callable, optional
        Called with lines that the user should read: what is left out, or is not there.
    units : {"phones", "phones48", "phones61", "words"}
        What the text is made of: the 39 phones that are scored, the 48 that they are folded from, the
        61 of the corpus, or the words.

    Raises
    ------
    ConfigError, DataError
    """
    if units not in UNITS:
        raise ConfigError(f"units: {units!r} is none of {', '.join(UNITS)}")
    folder = unpacked_archive(ARCHIVES, output_dir, archive=archive, progress=progress, note=note)
    corpus = next(find_folders(folder, ("TRAIN", "TEST")), None)
    if corpus is None:
        raise DataError(
            f"{folder}: expected TIMIT, but it has no folders TRAIN and TEST; give --archive the folder of "
            "the LDC93S1 release"
        )
    left_out = LeftOut()
    utterances = read_durations(list(_read_corpus(corpus, units, left_out)), left_out, progress)
    splits: dict[str, list[Utterance]] = {"train": [], "dev": [], "test": []}
    for utterance in utterances:
        speaker = utterance.speaker
        split = "test" if speaker in TEST_SPEAKERS else "dev" if speaker in DEV_SPEAKERS else "train"
        splits[split].append(utterance)
    for split, chosen in splits.items():
        if not chosen:
            raise DataError(f"{corpus}: no sentences for {split}; the folder is not whole, copy it again")
    for split, chosen in splits.items():
        write_manifest(output_dir / units / f"{split}.jsonl", chosen)
    _write_folding(output_dir / "39.tsv")
    incomplete = [f"{len(splits[s])} of {size} in {s}" for s, size in SIZES.items() if len(splits[s]) != size]
    left_out.write(output_dir / units / "left_out.tsv", note)
    if incomplete and note is not None:
        note(f"not the whole corpus: {', '.join(incomplete)} sentences")


def fold(phone: str, units: str) -> str:
    """Return the class of one of the 61 phones, "" for a phone that is left out."""
    if units == "phones61":
        return phone
    phone = TO_48.get(phone, phone)
    return phone if units == "phones48" else TO_39.get(phone, phone)


def _read_corpus(corpus: Path, units: str, left_out: LeftOut) -> Iterator[Utterance]:
    """Yield the sentences of the three splits, in order, with no durations yet."""
    for part in sorted(p for p in corpus.iterdir() if p.name.lower() in ("train", "test")):
        for folder in sorted(part.glob("*/*/")):
            speaker = folder.name.lower()
            if part.name.lower() == "test" and speaker not in TEST_SPEAKERS | DEV_SPEAKERS:
                continue
            files = {path.name.lower(): path for path in sorted(folder.iterdir())}
            for name, path in files.items():
                # A popular copy has SA1.WAV.wav, converted, beside each SA1.WAV.
                stem, _, suffix = name.partition(".")
                if suffix != "wav" or stem.startswith("sa"):
                    continue
                labels = files.get(f"{stem}.{'wrd' if units == 'words' else 'phn'}")
                if labels is None:
                    left_out.add(path, "without a .WRD file" if units == "words" else "without a .PHN file")
                    continue
                words = list(_read_labels(labels, units))
                yield Utterance(
                    id=f"{speaker}_{stem}",
                    duration=0.0,
                    text=" ".join(word["word"] for word in words),
                    audio_filepath=str(path.absolute()),
                    speaker=speaker,
                    lang="en",
                    extra={
                        "dialect": folder.parent.name.lower(),
                        "gender": speaker[0],
                        "words": words,
                    },
                )


def _read_labels(path: Path, units: str) -> Iterator[dict[str, Any]]:
    """Yield the phones or words of a .PHN or .WRD file with their times in seconds."""
    for number, line in enumerate(path.read_text(encoding="ascii", errors="replace").splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        known = len(fields) == 3 and (units == "words" or fields[2] in PHONES)
        if not known or not (fields[0].isdecimal() and fields[1].isdecimal()):
            raise DataError(
                f"{path}:{number}: expected a first sample, a last sample and a "
                f"{'word' if units == 'words' else 'phone'}, found {line[:60]!r}; copy the file again"
            )
        name = fields[2].lower() if units == "words" else fold(fields[2], units)
        if name:
            start, end = (int(samples) / SAMPLE_RATE for samples in fields[:2])
            yield {"word": name, "start": start, "end": end}


def _write_folding(path: Path) -> None:
    """Write the classes of 61 and 48 phones among the 39, for ``asr score --normalize rewrite:39.tsv``."""
    phones = sorted(PHONES | {fold(phone, "phones48") for phone in PHONES} - {""})
    rows = [f"{phone}\t{fold(phone, 'phones')}\n" for phone in phones]
    with atomic_write(path) as temporary:
        temporary.write_text("".join(rows), encoding="utf-8")
