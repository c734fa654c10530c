"""Errors of the machine end a stage with one line, and others with a trace."""

import errno
import os
import sqlite3

import pytest
from safetensors import SafetensorError

import stages


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "data/x"),
            "No space left on device: 'data/x'; free space",
        ),
        (
            OSError(errno.EROFS, os.strerror(errno.EROFS), "data/x"),
            "Read-only .*: 'data/x'; .*readable and writable, then run this",
        ),
        (
            PermissionError(errno.EACCES, os.strerror(errno.EACCES), "data/x"),
            "Permission denied: 'data/x'; .*readable and writable",
        ),
        (OSError("3840 requested and 1904 written"), "free space"),
        (sqlite3.OperationalError("database or disk is full"), "free space"),
        (RuntimeError("lance error: No space left on device (os error 28)"), "free space"),
        (SafetensorError("Error while serializing: I/O error: No space left on device"), "free space"),
        (MemoryError(), "not enough memory; set a smaller embed.batch_tokens, or free memory"),
        (OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "set a smaller embed.batch_tokens"),
        (RuntimeError("could not create a primitive"), "set a smaller embed.batch_tokens"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "set a smaller embed.batch_tokens"),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            "CUDA out of memory.*set a smaller embed.batch_tokens",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_of_the_machine_is_one_line(tmp_path, monkeypatch, error, says):
    def main():
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["embed"])
    with pytest.raises(SystemExit, match=f"^embed: .*{says}") as ended:
        stages.run("embed", main)
    assert "\n" not in ended.value.code


def test_a_stage_without_batches_needs_fewer_cards(tmp_path, monkeypatch):
    def main():
        raise MemoryError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["eda"])
    with pytest.raises(SystemExit, match="^eda: .*memory; set prepare.max_cards to fewer cards, or free"):
        stages.run("eda", main)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOENT, "x"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("unsupported memory format option"),
        KeyError("out of memory"),
    ],
)
def test_an_error_of_the_code_has_a_trace(tmp_path, monkeypatch, error):
    def main():
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["embed"])
    with pytest.raises(type(error)):
        stages.run("embed", main)
