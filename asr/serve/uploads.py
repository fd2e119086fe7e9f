"""A file of a multipart request, on disk for as long as its request lasts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from anyio.to_thread import run_sync
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from asr.serve.errors import ApiError
from asr.serve.limits import Limits, check_size, limited

_FOLDER = "asr-serve-"
# What a form may hold beside the file: far more than the API has.
_MAX_FIELDS = 100
_MAX_FIELD_BYTES = 64 * 1024
# How files begin that tell ffmpeg to read others: they could name any on this machine.
_LISTS = (b"#EXTM3U", b"\xef\xbb\xbf#EXTM3U", b"ffconcat", b"<?xml", b"<MPD", b"v=0")


@dataclass(frozen=True, slots=True)
class Upload:
    """A request's file and its other fields.

    Attributes
    ----------
    path : Path
        Where the file is while the request lasts.
    name : str
        What the client calls it, without folders.
    fields : tuple of (str, str)
        In the order of the form.
    """

    path: Path
    name: str
    fields: tuple[tuple[str, str], ...]


@contextlib.contextmanager
def upload_folder() -> Iterator[Path]:
    """Give a folder, readable by nobody else, that is gone afterwards.

    What servers before left behind that had no chance to clean up (a power cut, ``kill -9``) is removed.
    """
    with tempfile.TemporaryDirectory(prefix=_FOLDER, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with _locked(folder) as own:
            assert own
            for other in folder.parent.glob(_FOLDER + "*"):
                # A server that lives holds the lock of its folder.
                with contextlib.suppress(OSError), _locked(other) as abandoned:
                    if other != folder and other.stat().st_uid == os.getuid() and abandoned:
                        shutil.rmtree(other, ignore_errors=True)
            yield folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Lock a folder and tell whether that succeeded."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@contextlib.asynccontextmanager
async def receive_upload(request: Request, limits: Limits, folder: Path) -> AsyncIterator[Upload]:
    """Read a multipart request; its file lies in `folder` until the end of the context.

    Raises
    ------
    ApiError
        400, 408, 413 or 415.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise ApiError(
            415,
            "send a form: Content-Type multipart/form-data, with the audio in the field 'file'",
            "unsupported_media_type",
        )
    with contextlib.suppress(ValueError):
        check_size(int(request.headers.get("content-length", "0")), limits)
    parser = MultiPartParser(
        request.headers,
        limited(request, limits),
        max_files=1,
        max_fields=_MAX_FIELDS,
        max_part_size=_MAX_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise _bad_form(error.message) from error
    except ValueError as error:  # a character set that is none
        raise _bad_form(str(error)) from error
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise ApiError(
                400,
                "no audio: send it in the field 'file', with a file name",
                "missing_required_parameter",
                "file",
            )
        name = PurePosixPath((file.filename or "").replace("\\", "/")).name or "audio"
        # The reader of audio goes by the contents, and by the suffix for what ffmpeg has to read.
        suffix = PurePosixPath(name).suffix
        with tempfile.NamedTemporaryFile(dir=folder, suffix=suffix if _is_plain(suffix) else "") as copy:
            await run_sync(_copy, file, copy)
            fields = _fields(form)
            await form.close()
            yield Upload(Path(copy.name), name, fields)
    finally:
        await form.close()


def _copy(file: UploadFile, copy: tempfile._TemporaryFileWrapper[bytes]) -> None:
    if file.file.read(32).startswith(_LISTS):
        raise ApiError(400, "a list of files, not audio: send the audio", "invalid_audio", "file")
    file.file.seek(0)
    shutil.copyfileobj(file.file, copy, 1 << 20)
    copy.flush()


def _fields(form: FormData) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in form.multi_items() if isinstance(value, str))


def _is_plain(suffix: str) -> bool:
    return len(suffix) <= 8 and suffix[1:].isalnum() and suffix.isascii()


def _bad_form(reason: str) -> ApiError:
    return ApiError(400, f"the form cannot be read: {' '.join(reason.split())}", "invalid_multipart")
