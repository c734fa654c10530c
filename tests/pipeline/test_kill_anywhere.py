"""Every stage is killed at random moments. The next `dvc repro` gives the figures of an unbroken run.

The quick lane kills one stage once. `python -m pytest -m long` kills every stage ten times.
"""

import hashlib
import os
import random
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import STAGES, Repository, wait

from medcards.base.files import HASHES

KILLS = 10
QUICK = ("report",)
"""Stages of the quick lane: the one that publishes. test_kill.py kills one that resumes."""
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
    """Temporary files and checkpoints."""
    files = (path for top in ("data", "metrics", "plots", "docs", ".scratch") for path in (folder / top).rglob("*"))
    files = [*files, *folder.glob(".*.incomplete*")]
    return [path for path in files if "incomplete" in path.name or path.name == HASHES]


def damaged(cache: Path) -> Iterator[str]:
    """The files of DVC's cache whose content is not that of their name."""
    for file in cache.rglob("*"):
        name = f"{file.parent.name}{file.name}".removesuffix(".dir")
        if file.is_file() and re.fullmatch("[0-9a-f]{32}", name):
            if hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() != name:
                yield str(file)


def kill(repository: Repository, stage: str, seconds: float, alone: bool) -> None:
    """Start a stage, and kill dvc after some seconds: with its group, or alone, and then the stage ends by itself."""
    process = repository.start("dvc", "repro", "-f", "-s", "--no-run-cache", stage)
    time.sleep(seconds)
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
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
    """How long a stage takes, by stage; filled where it is asked for."""
    return {}


@pytest.mark.parametrize(("stage", "number"), lanes())
def test_killed_at_a_random_moment(finished, unbroken, seconds_of, stage, number):
    if stage not in seconds_of:
        started = time.monotonic()
        finished.run("dvc", "repro", "-f", "-s", "--no-run-cache", stage)
        seconds_of[stage] = time.monotonic() - started
    moment = random.Random(f"{stage}{number}").uniform(0, seconds_of[stage])
    kill(finished, stage, moment, alone=number % 2 == 1)
    done = finished.run("dvc", "repro", "--no-run-cache", ok=False)
    assert done.returncode == 0, f"{stage} was killed after {moment:.2f} s: {done.stderr}"
    assert quality(finished.folder) == unbroken, moment
    assert left_over(finished.folder) == [], moment
    assert list(damaged(finished.folder / ".dvc/cache/files/md5")) == [], moment
    assert finished.changed() == {}


@pytest.mark.parametrize("renamed", [2, *(pytest.param(number, marks=pytest.mark.long) for number in (0, 1, 3))])
def test_report_killed_while_it_publishes_leaves_no_file_of_an_older_run(finished, monkeypatch, renamed):
    """It ends after some of the four renames, without `dvc repro`, which would have removed the older files."""
    for name in PUBLISHED:
        path = finished.folder / name
        file = path / "older.txt" if path.is_dir() else path
        file.unlink(missing_ok=True)  # DVC's cache may be linked to it
        file.write_text("of an older run")
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
    there = [finished.folder / name for name in PUBLISHED if (finished.folder / name).exists()]
    files = [file for path in there for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file()]
    assert len(there) == renamed and "of an older run" not in [
        file.read_text() for file in files if file.suffix != ".png"
    ]
    finished.run("dvc", "repro", "-f", "-s", "--no-run-cache", "report")
