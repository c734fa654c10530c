"""Every stage is killed at random moments. The next `dvc repro` gives the figures of an unbroken run.

The quick lane kills one stage once. `python -m pytest -m long` kills every stage ten times.
"""

import hashlib
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import PATIENCE, STAGES, Repository, wait

from medcards.base.files import HASHES, remove

KILLS = 10
QUICK = ("rows",)
"""Stages of the quick lane: a short one. test_kill.py kills one that resumes."""
HALF_WRITTEN = "Unable to read RWLock-file '.dvc/tmp/rwlock'"
"""What `dvc repro` says after a kill while dvc wrote its list of locks."""
PUBLISHED = ("metrics", "plots", "REPORT.md", "docs/DATASET_CARD.md")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="ends processes by their group")]


@pytest.fixture(scope="module")
def unbroken(finished) -> dict[str, bytes]:
    """The metrics of the unbroken run."""
    return quality(finished.folder)


def quality(folder: Path) -> dict[str, bytes]:
    """Every metric that does not depend on the clock."""
    files = (file for file in (folder / "metrics").rglob("*.json") if file.parent.name != "cost")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def incomplete(folder: Path) -> list[Path]:
    """Temporary files of the stages."""
    files = (path for top in ("data", "metrics", "plots", "docs", ".scratch") for path in (folder / top).rglob("*"))
    return [path for path in (*files, *folder.glob(".*.incomplete*")) if "incomplete" in path.name]


def left_over(folder: Path) -> list[Path]:
    """Temporary files, and the checkpoints of trainings that have ended."""
    return [*incomplete(folder), *(folder / ".scratch").rglob("checkpoint-*")]


def damaged(cache: Path) -> Iterator[str]:
    """The files of DVC's cache whose content is not that of their name."""
    for file in cache.rglob("*"):
        name = f"{file.parent.name}{file.name}".removesuffix(".dir")
        if file.is_file() and re.fullmatch("[0-9a-f]{32}", name):
            if hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() != name:
                yield str(file)


def temporary(folder: Path) -> bool:
    """Whether a stage has begun to write an out."""
    return any((folder / top).glob(".*.incomplete-*") for top in (".", "data", "data/figures", "docs"))


def kill(repository: Repository, stage: str, number: int, delay: float) -> tuple[float, bool] | None:
    """Run a stage with dvc, and kill dvc at a moment that depends on ``number``; with its group, or alone.

    Six of ten kills come some seconds after the stage begins, two after it begins to write an out, and two after it has
    ended, while dvc copies its outs. A stage whose dvc is killed alone ends by itself.

    Parameters
    ----------
    delay : seconds after that moment.

    Returns
    -------
    the seconds since the stage began, and whether the stage still ran; None where dvc had ended before.
    """
    writer = repository.folder / f".scratch/{stage}.pid"
    writer.unlink(missing_ok=True)
    process = repository.start("dvc", "repro", "-f", "-s", "--no-run-cache", stage)
    wait(lambda: writer.exists() and writer.read_text() or process.poll() is not None)
    started, stage_process = time.monotonic(), int(writer.read_text())
    if number % 10 in (6, 7):
        wait(lambda: temporary(repository.folder) or not psutil.pid_exists(stage_process))
    if number % 10 in (8, 9):
        wait(lambda: not psutil.pid_exists(stage_process))
    time.sleep(delay)
    reached = time.monotonic() - started
    if process.poll() is not None:
        return None
    children, ran = psutil.Process(process.pid).children(recursive=True), psutil.pid_exists(stage_process)
    os.killpg(process.pid, signal.SIGKILL) if number % 2 == 0 else process.kill()
    process.wait()
    psutil.wait_procs(children, PATIENCE)
    return reached, ran


def mend_list_of_locks(repository: Repository) -> None:
    """What docs/TROUBLESHOOTING.md says."""
    repository.run("rm", ".dvc/tmp/rwlock")


def lanes() -> list:
    """Stage and kill: few in the quick lane, all in the long one."""
    quick = [pytest.param(stage, 0, id=f"{stage}-0") for stage in QUICK]
    every = [(stage, number) for stage in STAGES for number in range(KILLS)]
    long = [
        pytest.param(*one, id=f"{one[0]}-{one[1]}", marks=pytest.mark.long)
        for one in every
        if one[1] or one[0] not in QUICK
    ]
    return quick + long


@pytest.mark.parametrize(("stage", "number"), lanes())
def test_killed_at_a_random_moment(finished, unbroken, stage, number):
    longest, draw, killed = 8.0 if number % 10 < 6 else 0.3, random.Random(f"{stage}{number}"), None
    while killed is None:  # a shorter delay, after dvc has ended in time
        killed, longest = kill(finished, stage, number, draw.uniform(0, longest)), longest / 2
    reached, ran = killed
    whom, what = "dvc alone" if number % 2 else "dvc and its group", "ran" if ran else "had ended"
    print(f"{whom}, killed {reached:.2f} s after {stage} began, which {what}")
    done = finished.run("dvc", "repro", "--no-run-cache", ok=False)
    if HALF_WRITTEN in done.stderr:
        print("dvc had written half of its list of locks")
        mend_list_of_locks(finished)
        finished.run("dvc", "repro", "--no-run-cache")
    else:
        assert done.returncode == 0, done.stderr
    assert quality(finished.folder) == unbroken
    assert left_over(finished.folder) == []
    assert list(damaged(finished.folder / ".dvc/cache/files/md5")) == []
    assert finished.changed() == {}


@pytest.mark.long
def test_half_a_list_of_locks(finished):
    """A dvc that is killed while it writes the list leaves such a file."""
    (finished.folder / ".dvc/tmp/rwlock").write_text('{"read": {')
    done = finished.run("dvc", "repro", ok=False)
    assert done.returncode != 0 and HALF_WRITTEN in done.stderr
    mend_list_of_locks(finished)
    finished.run("dvc", "repro")


@pytest.mark.long
@pytest.mark.parametrize(("stage", "block"), [("adapt", "adapt"), ("rerank_train", "reranker")])
def test_a_training_of_the_search_that_was_killed_resumes(finished, tmp_path, stage, block):
    """With the bytes of an unbroken one. test_kill.py has the fine-tuning of the language model."""
    repository = Repository(Path(shutil.copytree(finished.folder, tmp_path / "copy", symlinks=True)))
    repository.set_params(**{f"{block}__epochs": 20.0})
    repository.run("python", "-m", f"stages.{stage}")
    whole = repository.files_of(stage)
    process = repository.start("python", "-m", f"stages.{stage}")
    wait(lambda: any((repository.folder / ".scratch" / stage).rglob(HASHES)))
    process.kill()
    process.wait()
    assert any((repository.folder / ".scratch" / stage).rglob(HASHES))  # it had not ended
    done = repository.run("python", "-m", f"stages.{stage}")
    assert "training resumes from the checkpoint of step" in done.stderr
    assert repository.files_of(stage) == whole and left_over(repository.folder) == []


OLDER = "of an older run"


def publish_older_files(folder: Path) -> None:
    """Put a text of an older run into everything that is published."""
    for name in PUBLISHED:
        path = folder / name
        file = path / "older.txt" if path.is_dir() else path
        file.unlink(missing_ok=True)  # DVC's cache may be linked to it
        file.write_text(OLDER)


def published(folder: Path) -> dict[str, bool]:
    """What is published, and whether a file of it is of an older run."""
    there = {name: folder / name for name in PUBLISHED if (folder / name).exists()}
    files = {name: [*path.rglob("*.txt"), *path.rglob("*.json")] or [path] for name, path in there.items()}
    return {name: any(file.is_file() and file.read_text() == OLDER for file in of) for name, of in files.items()}


@pytest.mark.parametrize("renamed", [2, *(pytest.param(number, marks=pytest.mark.long) for number in (0, 1, 3))])
def test_report_killed_while_it_publishes_leaves_no_file_of_an_older_run(finished, monkeypatch, renamed):
    """It ends after some of the four renames, without `dvc repro`, which would have removed the older files."""
    publish_older_files(finished.folder)
    replace, done = os.replace, []

    def killed(source: Path, target: Path) -> None:
        if str(target) in PUBLISHED and len(done) == renamed:
            raise KeyboardInterrupt
        replace(source, target)
        done.extend([target] * (str(target) in PUBLISHED))

    monkeypatch.setattr(os, "replace", killed)
    monkeypatch.setattr("stages.report.draw", lambda metrics, parts, system, plots: plots.mkdir())
    with pytest.raises(KeyboardInterrupt):
        finished.run_here("report")
    monkeypatch.undo()
    assert [*published(finished.folder).values()] == [False] * renamed
    finished.run("dvc", "repro", "-f", "-s", "--no-run-cache", "report")


@pytest.mark.long
def test_report_killed_while_it_removes_older_files_leaves_no_file_of_this_run(finished, monkeypatch):
    publish_older_files(finished.folder)
    removed = []

    def killed(path: Path) -> None:
        if len(removed) == 2:
            raise KeyboardInterrupt
        removed.append(str(path))
        remove(path)

    monkeypatch.setattr("stages.report.remove", killed)
    monkeypatch.setattr("stages.report.draw", lambda metrics, parts, system, plots: plots.mkdir())
    with pytest.raises(KeyboardInterrupt):
        finished.run_here("report")
    monkeypatch.undo()
    assert published(finished.folder) == dict.fromkeys(PUBLISHED[2:], True)
    finished.run("dvc", "repro", "-f", "-s", "--no-run-cache", "report")
