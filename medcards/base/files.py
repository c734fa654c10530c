"""Atomic writes, and one style for every JSON and CSV file that the project writes."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from medcards import InputError

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``, and rename it to ``path`` when the block ends without an error.

    The block creates a file or a folder at the yielded path. On an error the temporary file or folder is removed and
    ``path`` is unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.incomplete-{os.getpid()}")
    remove(temporary)
    try:
        yield temporary
        if temporary.is_dir():
            remove(path)
        os.replace(temporary, path)
    finally:
        remove(temporary)


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
