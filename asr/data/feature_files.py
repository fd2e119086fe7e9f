"""Precomputed features: Sphinx ``.mfc``, NumPy ``.npy``, and Kaldi archives with their ``.scp`` index."""

from __future__ import annotations

import json
import os
from functools import lru_cache
from pathlib import Path

import numpy as np

from asr.errors import DataError
from asr.storage import Part, parse_part


def read_features(path: str, *, num_cepstra: int = 13) -> np.ndarray:
    """Read the frames of one utterance.

    Parameters
    ----------
    path : str
        ``x.mfc``, ``x.npy``, ``x.ark:offset`` for the matrix at a byte offset of a Kaldi archive, or
        ``x.f32:offset:length`` for a part of a feature store (`asr.data.feature_store`), in bytes.
    num_cepstra : int
        Values a frame of a ``.mfc`` file, which does not say.

    Returns
    -------
    np.ndarray, float32, (T, F)
        At least one frame, all values finite.

    Raises
    ------
    DataError
        The file is missing, of another kind, truncated or empty, or holds NaN or infinity.

    Examples
    --------
    >>> frames = read_features("feat/an4_clstk/fash/an251-fash-b.mfc")  # doctest: +SKIP
    >>> frames.shape  # doctest: +SKIP
    (99, 13)
    """
    part = parse_part(path)
    if part is not None and part.file.endswith(".f32"):
        return _read_stored(part)
    file, offset = _split_offset(path)
    suffix = Path(file).suffix.lower()
    try:
        if suffix == ".mfc":
            frames = _read_mfc(file, num_cepstra)
        elif suffix == ".npy":
            frames = _read_npy(file)
        elif suffix == ".ark":
            frames = _read_ark(file, offset)
        else:
            raise DataError(
                f"{path}: {suffix or 'no suffix'} is no kind of feature file; use .mfc, .npy or .ark:offset"
            )
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error}); check the path") from error
    if frames.size == 0:
        raise DataError(f"{path}: holds no frames; leave the utterance out or extract its features again")
    bad = np.flatnonzero(~np.isfinite(frames).all(axis=1))
    if len(bad):
        raise DataError(
            f"{path}: frame {bad[0]} holds NaN or infinity ({len(bad)} of {len(frames)} frames do); "
            "extract the features again"
        )
    return frames


def _read_stored(part: Part) -> np.ndarray:
    frames = open_store(part.file)
    row_bytes = 4 * frames.shape[1]
    first, last = part.offset // row_bytes, (part.offset + part.length) // row_bytes
    if last > len(frames) or first == last:
        raise DataError(f"{part}: goes beyond the end of the feature store; delete its folder")
    return np.array(frames[first:last])


@lru_cache(maxsize=16)
def open_store(file: str) -> np.ndarray:
    """Map the file of a feature store into memory, float32 (frames, coefficients).

    Raises
    ------
    DataError
        There is no such store, or it is not whole.
    """
    try:
        header = json.loads(Path(file).with_suffix(".json").read_text())
        return np.memmap(file, dtype="<f4", mode="r").reshape(-1, header["num_features"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{file}: the feature store cannot be read ({error}); delete its folder") from error


def read_scp(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read a Kaldi ``feats.scp``: lines of ``<utterance> <archive>:<offset>``.

    Archive paths may be absolute, or relative to the current folder, the index's folder or the
    folder above it, tried in this order.

    Returns
    -------
    dict of str to str
        Utterance -> ``/absolute/path.ark:offset``, as `read_features` takes it.

    Raises
    ------
    DataError
        The index cannot be read or is empty, or a line is malformed, repeats an utterance or names
        an archive that is not there.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as an scp file ({error}); check the path") from error
    folder = Path(path).absolute().parent
    features: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split(maxsplit=1)
        if not fields:
            continue
        place = f"{path}:{number}"
        if len(fields) == 1:
            raise DataError(
                f"{place}: {line.strip()!r} names no archive; write <utterance> <archive>:<offset>"
            )
        utterance, target = fields[0], fields[1].strip()
        if target.endswith(("|", "]")):
            raise DataError(f"{place}: {target!r} is a command or a range; write <archive>:<offset>")
        if utterance in features:
            raise DataError(f"{place}: utterance {utterance} appears twice; keep one of its lines")
        file, offset = _split_offset(target)
        candidates = [base / file for base in (Path.cwd(), folder, folder.parent)]
        found = next((candidate for candidate in candidates if candidate.is_file()), None)
        if found is None:
            raise DataError(
                f"{place}: {file} not found from {', '.join(str(c.parent) for c in candidates)}; "
                "correct the path or run from the folder it is relative to"
            )
        features[utterance] = f"{found}:{offset}"
    if not features:
        raise DataError(f"{path}: lists no utterances; write <utterance> <archive>:<offset> lines")
    return features


def _split_offset(path: str) -> tuple[str, int]:
    """Split ``file:offset``; the offset is 0 if there is none."""
    file, colon, offset = path.rpartition(":")
    if colon and offset.isascii() and offset.isdigit():
        return file, int(offset)
    return path, 0


def _read_mfc(file: str, num_cepstra: int) -> np.ndarray:
    data = Path(file).read_bytes()
    # The count of values that opens the file also tells its byte order.
    if len(data) == 4 + 4 * int.from_bytes(data[:4], "big"):
        order = ">"
    elif len(data) == 4 + 4 * int.from_bytes(data[:4], "little"):
        order = "<"
    else:
        raise DataError(
            f"{file}: {len(data)} bytes do not agree with the count of values in its header; "
            "copy the file again, or make it with a Sphinx front end"
        )
    values = np.frombuffer(data[4:], f"{order}f4").astype(np.float32)
    if len(values) % num_cepstra:
        raise DataError(
            f"{file}: {len(values)} values are not a multiple of {num_cepstra} a frame; set num_cepstra"
        )
    return values.reshape(-1, num_cepstra)


def _read_npy(file: str) -> np.ndarray:
    try:
        array = np.load(file, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DataError(
            f"{file}: truncated or not a plain .npy array ({error}); save it with numpy.save"
        ) from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu":
        found = f"{array.dtype}, {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise DataError(f"{file}: holds {found}; save one array of real numbers, (frames, values)")
    return array.astype(np.float32)


def _read_ark(file: str, offset: int) -> np.ndarray:
    """Read a binary Kaldi matrix: float, double or compressed in any of the three ways.

    The layouts are those of Kaldi's ``matrix/kaldi-matrix.cc`` and ``matrix/compressed-matrix.cc``.
    """
    with open(file, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        stream.seek(offset)

        def take(dtype: str, count: int) -> np.ndarray:
            num_bytes = np.dtype(dtype).itemsize * count
            if not 0 <= num_bytes <= size - stream.tell():
                raise DataError(
                    f"{file}:{offset}: the matrix goes beyond the end of the file ({size} bytes); "
                    "copy the archive again or correct the offset"
                )
            return np.frombuffer(stream.read(num_bytes), dtype)

        kind = bytes(stream.read(5))
        if kind in (b"\0BFM ", b"\0BDM "):
            # Each size follows a byte that gives its width: 4.
            _, num_rows, _, num_columns = take("<u1,<u4,<u1,<u4", 1)[0].tolist()
            values = take("<f4" if kind == b"\0BFM " else "<f8", num_rows * num_columns)
            return values.reshape(num_rows, num_columns).astype(np.float32)
        if kind[:3] != b"\0BC" or kind[3:] not in (b"M ", b"M2", b"M3"):
            raise DataError(
                f"{file}:{offset}: no binary Kaldi matrix starts at this byte; "
                "take <archive>:<offset> from the .scp file that came with the archive"
            )
        if kind[3:] != b"M ":
            take("<u1", 1)  # the space that ends the token
        minimum, extent, num_rows, num_columns = take("<f4,<f4,<u4,<u4", 1)[0].tolist()
        if kind[3:] == b"M2":
            frames = take("<u2", num_rows * num_columns) / 65535 * extent + minimum
            return frames.reshape(num_rows, num_columns).astype(np.float32)
        if kind[3:] == b"M3":
            frames = take("<u1", num_rows * num_columns) / 255 * extent + minimum
            return frames.reshape(num_rows, num_columns).astype(np.float32)
        # Bytes column by column, each spread over its column's percentiles 0, 25, 75 and 100.
        percentiles = take("<u2", 4 * num_columns).reshape(num_columns, 4) / 65535 * extent + minimum
        columns = take("<u1", num_rows * num_columns).reshape(num_columns, num_rows)
        frames = [
            np.interp(column, (0, 64, 192, 255), p) for column, p in zip(columns, percentiles, strict=True)
        ]
        return np.ascontiguousarray(np.array(frames, dtype=np.float32).reshape(num_columns, num_rows).T)
