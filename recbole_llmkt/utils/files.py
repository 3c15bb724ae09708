"""Atomic writes, complete lines, and locks that end with their process."""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from filelock import FileLock, Timeout

from recbole_llmkt.utils.exceptions import LLMKTError, ProfileError, StorageError

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def exclusive(
    path: Path,
    wait: bool = False,
    error_class: type[LLMKTError] = ProfileError,
    option: str = "profile_dir",
) -> Iterator[None]:
    """Hold a lock file; the operating system frees it when the process ends, however it ends.

    Parameters
    ----------
    path : Path
        The lock file; it stays where it is.
    wait : bool
        Wait until another holder ends, instead of refusing.
    error_class : type
        The error to raise.
    option : str
        What names another folder, for the message.

    Raises
    ------
    LLMKTError
        Of ``error_class``: another process holds the lock, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            if not wait:
                raise
            logger.info("Waiting for another process to finish in %s.", path.parent)
            lock.acquire(timeout=-1)
    except Timeout as error:
        raise error_class(
            f"Another process is writing in {path.parent} (it holds {path.name}). Wait until it "
            f"has finished, or name another folder with {option}."
        ) from error
    except OSError as error:
        raise error_class(_explained(error, path.parent, option)) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def storing(folder: Path, option: str = "") -> Iterator[None]:
    """Say in one line why the block cannot write in a folder, and what to do about it.

    Parameters
    ----------
    folder : Path
        Where the block writes; it does nothing else.
    option : str
        The key or option that names another folder, if there is one.

    Raises
    ------
    StorageError
        The disk is full, or the folder cannot be written.
    """
    handled = sys.exc_info()[1]
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        failure = _failed_write(error, handled)
        if failure is None:
            raise
        refusal = StorageError(_explained(failure, folder, option))
        refusal.is_full = is_disk_full(failure)
        raise refusal from error


def make_writable(folder: Path, option: str = "") -> None:
    """Make a folder, and a file in it that is gone at once: later it may be too late to say so.

    Parameters
    ----------
    folder : Path
        The folder; it may exist.
    option : str
        As for :func:`storing`.

    Raises
    ------
    StorageError
        The folder cannot be made, or no file in it.
    """
    with storing(folder, option):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass


def _failed_write(error: BaseException, handled: BaseException | None) -> OSError | None:
    """Return the failure of the operating system behind an error: torch.save hides it.

    What was being handled before the block began has nothing to do with it.
    """
    cause: BaseException | None = error
    while cause is not None and cause is not handled:
        if isinstance(cause, OSError):
            return cause
        cause = cause.__context__
    return None


def is_disk_full(error: OSError) -> bool:
    """Tell whether a write failed because a disk, a quota or the longest file is full."""
    return error.errno in _NO_SPACE


def _explained(error: OSError, folder: Path, option: str) -> str:
    reason = error.strerror or str(error)
    if is_disk_full(error):
        fix = "Free some space there"
        other = f"name a folder on another disk with {option}"
    else:
        fix = "Make it writable"
        other = f"name a folder that can be written with {option}"
    other = other if option else "work in another folder"
    return f"Cannot write in {folder}: {reason}. {fix}, or {other}."


@contextmanager
def replacing(path: Path, option: str = "") -> Iterator[BinaryIO]:
    """Open a file that takes the place of another one when the block has ended without an error.

    A reader sees the old file or the new one, also after a power cut; of several writers, the last
    one counts. What killed processes left unfinished in the folder is removed.

    Parameters
    ----------
    path : Path
        The file to replace; its folder is made.
    option : str
        As for :func:`storing`.

    Raises
    ------
    StorageError
        The file cannot be written. It is as it was before.
    """
    with storing(path.parent, option):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        file, partial = _open_partial(path)
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if sys.platform != "win32":
                    os.replace(partial, path)  # while it is locked
            if sys.platform == "win32":
                os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes, option: str = "") -> None:
    """Write a file whole or not at all."""
    with replacing(path, option) as file:
        file.write(content)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left unfinished; what others are just writing stays.

    A writer locks its unfinished file. On Windows, where it cannot, all of them stay.

    Parameters
    ----------
    folder : Path
        The folder of the files.
    """
    for partial in folder.glob(".*.partial"):
        try:
            with partial.open("rb") as file:
                if _locked(file, wait=False):
                    partial.unlink(missing_ok=True)
        except OSError:
            continue  # it is in use, another process has just removed it, or it is not ours


def _open_partial(path: Path) -> tuple[BinaryIO, Path]:
    """Make the unfinished file of a file, locked."""
    while True:
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
        file = partial.open("wb")
        # Between these two lines, another process may have taken it for a leftover.
        if not _locked(file, wait=True) or os.fstat(file.fileno()).st_nlink:
            return file, partial
        file.close()


def _locked(file: BinaryIO, wait: bool) -> bool:
    """Lock an open file until it is closed; False if it is locked, or cannot be."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def append_whole(file: BinaryIO, content: bytes, option: str = "") -> None:
    """Add all of ``content`` to a file, or nothing.

    Parameters
    ----------
    file : file
        Opened with ``open(path, "ab", buffering=0)``; nobody else writes to it.
    content : bytes
        What to add.
    option : str
        As for :func:`storing`.

    Raises
    ------
    StorageError
        The file cannot be written. It is as it was before.
    """
    size = os.fstat(file.fileno()).st_size
    with storing(Path(file.name).parent, option):
        try:
            while content:
                content = content[file.write(content) :]
        except OSError:
            os.truncate(file.fileno(), size)
            raise


def whole_lines(content: bytes) -> tuple[bytes, bytes]:
    r"""Split a file of JSON objects, one a line, into whole lines and what a crash cut short.

    A last object without a line break is complete: an editor, a copy or a power cut may have
    removed the line break alone.

    Returns
    -------
    tuple of (bytes, bytes)
        Lines with their line breaks, and the rest; empty if nothing is cut short.

    Examples
    --------
    >>> whole_lines(b'{"id": 1}\n{"id": 2}')
    (b'{"id": 1}\n{"id": 2}\n', b'')
    >>> whole_lines(b'{"id": 1}\n{"id": ')
    (b'{"id": 1}\n', b'{"id": ')
    """
    end = content.rfind(b"\n") + 1
    rest = content[end:]
    try:
        is_whole = isinstance(json.loads(rest), dict)
    except (ValueError, RecursionError):
        is_whole = False
    return (content + b"\n", b"") if is_whole else (content[:end], rest)


def check_own_file(path: Path) -> None:
    """Refuse to continue a file that leads elsewhere: a folder of others may hold such.

    Parameters
    ----------
    path : Path
        What is about to be changed in place; it may be missing.

    Raises
    ------
    StorageError
        It is a symbolic link, a folder, a pipe or a device.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise StorageError(
            f"Cannot write {path}: it is a link, or no regular file. Put a copy of the file there, "
            "or remove it."
        )


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse to read what never ends: a pipe or a device, also behind a link.

    Parameters
    ----------
    path : str or Path
        What is about to be read whole.

    Raises
    ------
    OSError
        It is no regular file, or missing.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "It is no regular file", str(path))


def drop_cut_line(path: Path) -> None:
    """Remove an incomplete last line, so that the next object starts on a line of its own.

    A complete last object is kept, and gets a line break if it has none. The caller must be the
    only writer.

    Raises
    ------
    StorageError
        As :func:`check_own_file`.
    """
    check_own_file(path)
    if not path.exists():
        return
    content = path.read_bytes()
    whole, rest = whole_lines(content)
    if rest:
        logger.warning("Cutting off the unfinished last line of %s.", path)
        os.truncate(path, len(whole))
    elif len(whole) > len(content):
        with path.open("ab") as file:
            file.write(b"\n")
