"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from asr.errors import ConfigError

try:
    import fcntl
except ImportError:  # no POSIX
    fcntl = None  # type: ignore[assignment]

UNFINISHED = ".*.tmp"
"""What files are called while they are written; one that is left is of a process that was killed."""


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; on success sync it and rename it to `path`.

    Raises
    ------
    OSError
        Naming `path`, if it is a folder, the disk is full or its folder cannot be written.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a renaming last through a loss of power, where the system knows how."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot; the renaming itself is done
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path, option: str = "output_dir") -> None:
    """Make a folder for results and see that it can be written to.

    Parameters
    ----------
    option : str
        What the user named the folder with, for the message.

    Raises
    ------
    ConfigError
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"{option} {folder}: cannot be written ({error.strerror}); choose another folder"
        ) from error


@contextlib.contextmanager
def wait_for_lock(path: Path, note: Callable[[str], object] | None = None) -> Iterator[None]:
    """Hold a lock file, so that of several processes one does what follows while the others wait.

    The lock goes when its process does, however that ends. Where the system or the file system has none,
    nobody waits.

    Parameters
    ----------
    path : Path
        Its folder is made if there is none.
    note : callable, optional
        Told of whom is waited for.

    Raises
    ------
    OSError
    """
    if fcntl is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):  # else the file system has no locks
                file.seek(0)
                if note is not None:
                    note(f"waiting for {file.read() or 'another process'}, which works on {path.parent}")
                fcntl.lockf(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield
