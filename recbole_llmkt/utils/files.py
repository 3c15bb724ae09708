"""Atomic writes, complete lines, and locks that end with their process."""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from recbole_llmkt.utils.exceptions import LLMKTError, ProfileError

logger = logging.getLogger(__name__)


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
        raise error_class(
            f"Cannot write in {path.parent}: {error.strerror}. Name a writable folder "
            f"with {option}."
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of another one when the block has ended without an error.

    A reader sees the old file or the new one; of several writers, the last one counts.

    Parameters
    ----------
    path : Path
        The file to replace; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as file:
        file.write(content)


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


def drop_cut_line(path: Path) -> None:
    """Remove an incomplete last line, so that the next object starts on a line of its own.

    A complete last object is kept, and gets a line break if it has none. The caller must be the
    only writer.
    """
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
