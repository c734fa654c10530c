"""Atomic writes, and one style for every JSON and CSV file that the project writes."""

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from medcards import InputError

if TYPE_CHECKING:
    import pandas as pd


HASHES = ".sha256.json"
"""Name of the file in a folder that holds the hashes of the other files, and is written last."""
CLOCK_ERROR = 60
"""Seconds by which the start of a process and the time of a file may be wrong."""


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``, and rename it to ``path`` when the block ends without an error.

    The block creates a file or a folder at the yielded path. On an error the temporary file or folder is removed and
    ``path`` is unchanged. A process that is killed leaves its temporary file or folder; the next call for the same
    ``path`` removes it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{glob.escape(f'.{path.name}.incomplete-')}*"):
        if not _is_written(left):
            with suppress(FileNotFoundError):  # another process may remove it at the same time
                remove(left)
    temporary = path.with_name(f".{path.name}.incomplete-{os.getpid()}")
    remove(temporary)
    try:
        yield temporary
        if temporary.is_dir():
            remove(path)
        os.replace(temporary, path)
    finally:
        remove(temporary)


def _is_written(temporary: Path) -> bool:
    """Whether the process that made a temporary path still runs. Its number may be that of a later process."""
    import psutil

    number = temporary.name.rpartition("-")[2]
    if not number.isdecimal():  # no name of :func:`atomic`
        return True
    try:
        # The time of the last change of the entry itself: a copy of a folder brings its other times with it.
        return psutil.Process(int(number)).create_time() <= temporary.lstat().st_ctime + CLOCK_ERROR
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256_of(path: str | Path) -> str:
    """The sha256 of the bytes of a file, in hex digits.

    A process reads a file once, and again only after its size or its time of change differs.
    """
    found = os.stat(path)
    return _sha256(os.path.abspath(path), found.st_size, found.st_mtime_ns)


@cache
def _sha256(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashes_of(folder: Path) -> dict[str, str]:
    """The sha256 of every file in a folder, by its path in the folder. :data:`HASHES` is left out."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / HASHES)
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}


def write_hashes(folder: Path) -> None:
    """Write the hashes of all files of a folder into it, for :func:`changed_file`."""
    write_json(folder / HASHES, hashes_of(folder))


def changed_file(folder: Path) -> Path | None:
    """A file of a folder that was changed, removed or added since :func:`write_hashes`; None where there is none."""
    try:
        known = json.loads((folder / HASHES).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return folder / HASHES
    if not isinstance(known, dict):
        return folder / HASHES
    there = hashes_of(folder)
    return next((folder / name for name in sorted(known | there) if known.get(name) != there.get(name)), None)


def to_json(value: object) -> str:
    """Format a value as JSON: sorted keys, 6 significant digits, final newline.

    Raises
    ------
    ValueError : a number is NaN or infinite, which JSON does not allow.

    Examples
    --------

    >>> to_json({"b": 0.123456789, "a": 1})
    '{\\n  "a": 1,\\n  "b": 0.123457\\n}\\n'
    """
    return json.dumps(_rounded(value), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: str | Path, value: object) -> None:
    """Write ``value`` to ``path`` atomically, see :func:`to_json`."""
    with atomic(path) as temporary:
        temporary.write_text(to_json(value), encoding="utf-8")


def read_json(path: str | Path) -> dict:
    """Read a JSON file that a stage wrote.

    Raises
    ------
    InputError : the file is missing or damaged.
    """
    if not Path(path).exists():
        raise InputError(f"{path} is missing: run `dvc repro`")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError:
        raise InputError(f"{path} is damaged: run the stage that writes it again (`dvc repro -f`)") from None


def write_csv(data: "pd.DataFrame", path: str | Path) -> None:
    """Write a table as CSV: no index, 6 significant digits, Unix line ends. The parent folder is created."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    data.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    if hasattr(value, "item"):  # a numpy scalar
        value = value.item()
    return float(f"{value:.6g}") if isinstance(value, float) else value
