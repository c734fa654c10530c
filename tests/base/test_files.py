"""Atomic writes: what an error, a kill and another process leave behind."""

import os
import shutil
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
    """What it left of other files, and files with similar names, stay."""
    for name in (f".a[1].incomplete-{unused_pid()}", f".b.incomplete-{unused_pid()}", ".a[1].incomplete-own"):
        left = tmp_path / name
        left.mkdir() if kind == "folder" else left.write_text("half")
    with atomic(tmp_path / "a[1]") as temporary:
        temporary.write_text("whole")
    left = sorted(file.name.replace(str(unused_pid()), "N") for file in tmp_path.iterdir())
    assert left == [".a[1].incomplete-own", ".b.incomplete-N", "a[1]"]


def test_two_processes_may_remove_what_was_left(tmp_path, monkeypatch):
    left = tmp_path / f".a.incomplete-{unused_pid()}"
    left.mkdir()

    def removed_by_another(folder):
        left.rmdir()
        raise FileNotFoundError(folder)

    monkeypatch.setattr(shutil, "rmtree", removed_by_another)
    with atomic(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_what_a_running_process_writes_is_kept(tmp_path, monkeypatch):
    """A process that started later than the file was written has only the number of its writer."""
    running = psutil.Process(os.getppid())
    name = f".a.incomplete-{running.pid}"
    (tmp_path / name).write_text("half")
    with atomic(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / name).exists()
    os.utime(tmp_path / name, (0, 0))  # as of a file that was copied with its time
    with atomic(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / name).exists()
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: time.time() + CLOCK_ERROR + 1)
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
    (tmp_path / "b").unlink()
    assert changed_file(tmp_path) == tmp_path / "b"


def test_an_added_file_is_named(tmp_path):
    (tmp_path / "a").write_text("a")
    write_hashes(tmp_path)
    (tmp_path / "scheduler.pt").write_text("of another origin")
    assert changed_file(tmp_path) == tmp_path / "scheduler.pt"


@pytest.mark.parametrize("content", ["[]", "{", ""])
def test_damaged_hashes_are_named(tmp_path, content):
    (tmp_path / ".sha256.json").write_text(content)
    assert changed_file(tmp_path) == tmp_path / ".sha256.json"
