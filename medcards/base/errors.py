"""Errors of the machine and of libraries, as one line for the user who can mend them."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from safetensors import SafetensorError

from medcards import InputError, reason_of

NO_ROOM = errno.ENOSPC, errno.EDQUOT, errno.EFBIG
NO_ACCESS = errno.EACCES, errno.EPERM, errno.EROFS
FULL_DISK = "No space left", "File too large", "requested and", "disk is full", "disk I/O error"
"""What Rust's libraries, NumPy and SQLite say where a disk is full."""
NO_MEMORY = (
    *("out of memory", "not enough memory", "allocate memory", "Cannot allocate", "malloc of size"),
    *("could not create a primitive", "can't start new thread"),
)
"""What PyTorch, its oneDNN, Arrow and Python say where memory is refused."""
MACHINE_ERRORS = OSError, MemoryError, RuntimeError, sqlite3.OperationalError, SafetensorError
"""Types of such errors. Others of these types are faults of the code."""


def lacking(error: BaseException) -> Literal["room", "access", "memory", ""]:
    """What the machine lacks, by an error; empty for an error of another kind.

    >>> lacking(OSError(errno.ENOSPC, "No space left on device")), lacking(MemoryError()), lacking(KeyError("memory"))
    ('room', 'memory', '')
    """
    if not isinstance(error, MACHINE_ERRORS):
        return ""
    number, said = getattr(error, "errno", None), str(error)
    if number in NO_ROOM or any(text in said for text in FULL_DISK):
        return "room"
    if number in NO_ACCESS:
        return "access"
    if isinstance(error, MemoryError) or number == errno.ENOMEM or any(text in said for text in NO_MEMORY):
        return "memory"
    return ""


def advice(error: BaseException, less_memory: str) -> str:
    """One line that says what the machine lacks and what to do; empty for an error of another kind.

    Parameters
    ----------
    less_memory : what takes less memory, as an order.

    >>> advice(OSError(errno.ENOSPC, "No space left on device", "a.json"), "ask fewer questions")
    "[Errno 28] No space left on device: 'a.json'; free space, then run this again"
    """
    what_to_do = {
        "room": "free space",
        "access": "make the file or its folder readable and writable",
        "memory": f"{less_memory}, or free memory",
    }
    if not (lacks := lacking(error)):
        return ""
    return f"{reason_of(error) or 'not enough memory'}; {what_to_do[lacks]}, then run this again"


@contextmanager
def reading(reference: str, what: str) -> Iterator[None]:
    """Turn a library's error on unreadable material into one line: it could not be read as ``what``."""
    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        if lacking(error) == "memory":
            raise
        reason = f"{type(error).__name__}: {reason_of(error)}"
        raise InputError(f"{reference}: could not be read as {what} ({reason})") from error
