"""Every stage is killed at random moments. The next `dvc repro` gives the figures of an unbroken run.

The quick lane kills one stage once. `python -m pytest -m long` kills every stage ten times.
"""

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
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


def left_over(folder: Path) -> list[Path]:
    """Temporary files, and checkpoints, whole or not."""
    files = (path for top in ("data", "metrics", "plots", "docs", ".scratch") for path in (folder / top).rglob("*"))
    files = [*files, *folder.glob(".*.incomplete*")]
    return [path for path in files if "incomplete" in path.name or path.name.startswith("checkpoint-")]


def damaged(cache: Path) -> Iterator[str]:
    """The files of DVC's cache whose content is not that of their name."""
    for file in cache.rglob("*"):
        name = f"{file.parent.name}{file.name}".removesuffix(".dir")
        if file.is_file() and re.fullmatch("[0-9a-f]{32}", name):
            if hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() != name:
                yield str(file)


def start(repository: Repository, stage: str) -> subprocess.Popen:
    """Start `dvc repro` of a stage, and return once the stage has imported its libraries."""
    (repository.folder / f".scratch/{stage}.pid").unlink(missing_ok=True)
    process = repository.start("dvc", "repro", "-f", "-s", "--no-run-cache", stage)
    wait((repository.folder / f".scratch/{stage}.pid").exists)
    return process


def kill(process: subprocess.Popen, seconds: float, alone: bool) -> None:
    """Kill dvc, which must still run, after some seconds: with its group, or alone, and then the stage ends itself."""
    time.sleep(seconds)
    assert process.poll() is None, f"dvc ended within {seconds:.2f} s"
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL) if not alone else process.kill()
    process.wait()
    wait(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))


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


@pytest.fixture(scope="module")
def seconds_of(finished) -> dict[str, float]:
    """How long dvc runs after a stage has imported its libraries, by stage; filled where it is asked for."""
    return {}


@pytest.mark.parametrize(("stage", "number"), lanes())
def test_killed_at_a_random_moment(finished, unbroken, seconds_of, stage, number):
    if stage not in seconds_of:
        process, started = start(finished, stage), time.monotonic()
        assert process.wait(PATIENCE) == 0
        seconds_of[stage] = time.monotonic() - started
    moment = random.Random(f"{stage}{number}").uniform(0, 0.8 * seconds_of[stage])  # so that dvc still runs
    kill(start(finished, stage), moment, alone=number % 2 == 1)
    done = finished.run("dvc", "repro", "--no-run-cache", ok=False)
    assert done.returncode == 0, f"{stage} was killed after {moment:.2f} s: {done.stderr}"
    assert quality(finished.folder) == unbroken, moment
    assert left_over(finished.folder) == [], moment
    assert list(damaged(finished.folder / ".dvc/cache/files/md5")) == [], moment
    assert finished.changed() == {}


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
