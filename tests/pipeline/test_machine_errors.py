"""Errors of the machine end a stage with one line, and others with a trace."""

import errno
import os

import pytest

import stages


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "data/x"),
            "No space left on device: 'data/x'; .* free space",
        ),
        (
            OSError(errno.EROFS, os.strerror(errno.EROFS), "data/x"),
            "Read-only .*: 'data/x'; .* writable, then run this",
        ),
        (
            PermissionError(errno.EACCES, os.strerror(errno.EACCES), "data/x"),
            "Permission denied: 'data/x'; .* writable",
        ),
        (MemoryError(), "not enough memory; .* lower embed.batch_tokens, or free memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "lower embed.batch_tokens"),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            "CUDA out of memory.*lower embed.batch_tokens",
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


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "x"), RuntimeError("shapes do not match"), KeyError("x")])
def test_an_error_of_the_code_has_a_trace(tmp_path, monkeypatch, error):
    def main():
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["embed"])
    with pytest.raises(type(error)):
        stages.run("embed", main)
