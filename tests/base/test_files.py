"""Atomic writes: what an error, a kill and another process leave behind."""

import os
import time

import psutil
import pytest

from medcards.base.files import CLOCK_ERROR, atomic, changed_file, write_hashes


def test_an_error_leaves_the_file_as_it_was(tmp_path):
    (tmp_path / "a.txt").write_text("whole")
    with pytest.raises(OSError, match="full"), atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise OSError("full")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "whole")]


def unused_pid() -> int:
    return next(pid for pid in range(2**22 - 1, 0, -1) if not psutil.pid_exists(pid))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_removed(tmp_path, kind):
    """What it left of another file stays."""
    for name in (f".a[1].incomplete-{unused_pid()}", f".b.incomplete-{unused_pid()}"):
        left = tmp_path / name
        left.mkdir() if kind == "folder" else left.write_text("half")
    with atomic(tmp_path / "a[1]") as temporary:
        temporary.write_text("whole")
    assert sorted(file.name.split("-")[0] for file in tmp_path.iterdir()) == [".b.incomplete", "a[1]"]


def test_what_a_running_process_writes_is_kept(tmp_path):
    """A process that started later than the file was written has only the number of its writer."""
    running = psutil.Process(os.getppid())
    name = f".a.incomplete-{running.pid}"
    (tmp_path / name).write_text("half")
    with atomic(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / name).exists()
    earlier = running.create_time() - CLOCK_ERROR - 1
    os.utime(tmp_path / name, (earlier, earlier))
    with atomic(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    assert not (tmp_path / name).exists()


def test_a_changed_file_is_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    assert changed_file(tmp_path) == tmp_path / ".sha256.json"
    write_hashes(tmp_path)
    assert changed_file(tmp_path) is None
    (tmp_path / "b").write_text("another")
    os.utime(tmp_path / "b", (time.time(), time.time() + 5))  # a file system may have a clock of seconds
    assert changed_file(tmp_path) == tmp_path / "b"
    (tmp_path / "a").unlink()
    assert changed_file(tmp_path) == tmp_path / "a"
