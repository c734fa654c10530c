"""Errors of the machine end a stage with one line, and others with a trace."""

import errno
import os
import sqlite3
from types import SimpleNamespace

import pytest
from safetensors import SafetensorError

import stages
from medcards import InputError
from medcards.base.checkpoints import marking
from medcards.deck.sources import _reading_rows


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


def test_a_command_ends_with_one_line_too(medcards, monkeypatch):
    def refuse(given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "index.html")

    monkeypatch.setattr("medcards.commands.search.run", refuse)
    done = medcards("search", "gout")
    assert done.returncode == 1
    assert done.stderr.endswith("No space left on device: 'index.html'; free space, then run this again\n")
    monkeypatch.setattr("medcards.commands.search.run", lambda given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        medcards("search", "gout")


def test_a_full_disk_below_an_error_of_the_library_datasets_is_named():
    with pytest.raises(OSError, match="No space left"), _reading_rows("hub:a/b@main"):
        raise ValueError("An error occurred while generating") from OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(InputError, match="could not be read as a data set .*KeyError"), _reading_rows("hub:a/b@main"):
        raise ValueError("An error occurred while generating") from KeyError("train")


def test_memory_that_a_checkpoint_lacks_is_no_full_disk(tmp_path):
    class Refused:
        state, args = SimpleNamespace(global_step=5), SimpleNamespace(output_dir=tmp_path)

        def _save_checkpoint(self, model, trial):
            raise RuntimeError(self.says)

    trainer = marking(Refused)()
    trainer.says = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"
    with pytest.raises(RuntimeError, match="allocate memory"):
        trainer._save_checkpoint(None, None)
    trainer.says = "PytorchStreamWriter failed writing file: file write failed"
    with pytest.raises(InputError, match="the checkpoint of step 5 could not be saved .*; free space and run again"):
        trainer._save_checkpoint(None, None)
