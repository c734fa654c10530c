"""Faults of the machine: each ends in success or in one line that says what to do, and loses nothing."""

import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, STAGES, Repository, wait
from test_kill_anywhere import left_over, quality

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits memory and files of a process"),
]


def lanes(quick: str | None, long: Iterable[str]) -> list:
    """A value for the quick lane, and the others for the long one."""
    return [quick, *(pytest.param(value, marks=pytest.mark.long) for value in long if value != quick)]


def copy_of(finished: Repository, folder: Path) -> Repository:
    """A copy of the finished repository."""
    return Repository(Path(shutil.copytree(finished.folder, folder, symlinks=True)))


def under_limit(repository: Repository, stage: str, what: int, limit: int) -> subprocess.CompletedProcess:
    """Run a stage under a limit of the system."""
    return subprocess.run(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=repository.folder,
        env=os.environ | ENVIRONMENT,
        preexec_fn=lambda: resource.setrlimit(what, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("stage", lanes("prepare", STAGES))
def test_a_full_disk(finished, tmp_path, stage):
    """A limit on the size of files stands for it: the same writes fail. What was whole is kept."""
    repository = copy_of(finished, tmp_path / "copy")
    before = repository.files_of(stage)
    largest = max(map(len, before.values()))
    done = under_limit(repository, stage, resource.RLIMIT_FSIZE, largest // 2)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith(f"{stage}: ")]
    assert "free space" in line, line
    assert all(file.read_bytes() == content for file, content in before.items() if file.exists())
    assert left_over(repository.folder) == []
    repository.run("python", "-m", f"stages.{stage}")
    repository.run("dvc", "commit", "-f", stage)
    repository.run("dvc", "repro", "--no-run-cache")
    assert quality(repository.folder) == quality(finished.folder)


@pytest.mark.long
@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small disk")
@pytest.mark.parametrize("stage", STAGES)
def test_a_small_disk(finished, tmp_path, stage):
    """A disk in memory that fills up while the stage writes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    size = sum(
        file.stat().st_size for file in finished.folder.rglob("*") if file.is_file() and ".git" not in file.parts
    )
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={2 * size}", "tmpfs", str(disk)]).returncode:
        pytest.skip("this machine mounts no disk")
    try:
        repository = copy_of(finished, disk / "copy")
        filler = disk / "filler"
        room = shutil.disk_usage(disk).free - max(map(len, repository.files_of(stage).values())) // 2
        filler.write_bytes(b"\0" * room)
        done = repository.run("python", "-m", f"stages.{stage}", ok=False)
        line = done.stderr.strip().splitlines()[-1]
        assert done.returncode == 1 and line.startswith(f"{stage}: ") and "free space" in line, done.stderr
        filler.unlink()
        repository.run("python", "-m", f"stages.{stage}")
        assert quality(repository.folder) == quality(finished.folder)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.long
@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("stage", STAGES)
def test_little_memory(finished, tmp_path, stage, share):
    """A limit between the address space of a stage's imports and that of its whole run: it loses nothing.

    Libraries that are refused memory say so in many ways, and some are refused while they are imported, which gives a
    trace. test_machine_errors.py has those that become one line.
    """
    repository = copy_of(finished, tmp_path / "copy")
    measured = (
        f"import atexit, sys; import stages.{stage} as script; sys.argv = ['{stage}']\n"
        "def peak(): print(*(line for line in open('/proc/self/status') if line.startswith('VmPeak')))\n"
        f"peak(); atexit.register(peak); script.run('{stage}', script.main)"
    )
    peaks = repository.run(sys.executable, "-c", measured).stdout.splitlines()
    imports, whole = (int(line.split()[1]) * 1024 for line in peaks if line.startswith("VmPeak"))
    before = repository.files_of(stage)
    limit = int(imports + share * (whole - imports))
    done = under_limit(repository, stage, resource.RLIMIT_AS, limit)
    lines = [line for line in done.stderr.splitlines() if line.startswith(f"{stage}: ")]
    print(f"{stage} {share}:", *lines[-1:] or ["success" if done.returncode == 0 else done.stderr[-500:]])
    assert done.returncode in (0, 1)
    assert all(file.read_bytes() == content for file, content in before.items() if file.exists())
    repository.run("python", "-m", f"stages.{stage}")
    assert {file: file.read_bytes() for file in before} == before
    assert left_over(repository.folder) == []


def test_a_folder_that_cannot_be_written(finished, tmp_path):
    """Also where root runs the stage, without the right to write everywhere."""
    repository = copy_of(finished, tmp_path / "copy")
    before = repository.files_of("prepare")
    subprocess.run(["chmod", "-R", "a-w", str(repository.folder / "data")], check=True)
    bound = ["setpriv", "--bounding-set=-dac_override"] if os.getuid() == 0 else []
    done = repository.run(*bound, "python", "-m", "stages.prepare", ok=False)
    subprocess.run(["chmod", "-R", "u+w", str(repository.folder / "data")], check=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("prepare: ") and "data" in line and "writable" in line
    assert repository.files_of("prepare") == before


@pytest.mark.parametrize("home", lanes(None, ["/nonexistent", "/proc"]))
def test_no_home(finished, tmp_path, home):
    """Without a home folder, or with one that cannot be written, the tiny pipeline runs."""
    repository = copy_of(finished, tmp_path / "copy")
    environment = {name: value for name, value in (os.environ | ENVIRONMENT).items() if name not in ("HOME", "HF_HOME")}
    environment |= {"HOME": home} if home else {}
    done = subprocess.run(
        ["dvc", "repro", "-f", "-s", "--no-run-cache", "prepare", "embed"],
        cwd=repository.folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert set(repository.changed()) <= {"report"}  # the seconds of the stages changed


@pytest.mark.parametrize("name", lanes("Ärzte-Karten ü", ["with space", "quote's"]))
def test_a_path_with_unusual_characters(finished, tmp_path, name):
    repository = copy_of(finished, tmp_path / name)
    repository.run("dvc", "repro", "-f", "-s", "--no-run-cache", "prepare", "report")
    assert quality(repository.folder) == quality(finished.folder)


@pytest.mark.long
def test_a_git_worktree(finished, tmp_path):
    """The worktree has no data. DVC's cache lies in the main one, so the run uses a cache of its own."""
    finished.run("git", "worktree", "add", "-q", str(tmp_path / "tree"))
    repository = Repository(tmp_path / "tree")
    for name in ("models", "decks"):
        shutil.copytree(finished.folder / name, repository.folder / name, dirs_exist_ok=True)
    repository.run("dvc", "repro", "prepare")
    assert (repository.folder / "data/cards/manifest.json").exists()
    finished.run("git", "worktree", "remove", "--force", str(tmp_path / "tree"))


def test_a_shallow_clone_and_no_git_user(finished, tmp_path):
    repository = Repository(tmp_path / "shallow")
    repository.folder.mkdir()
    environment = {name: "" for name in ENVIRONMENT if name.startswith("GIT_")}
    finished.run("git", "clone", "-q", "--depth", "1", f"file://{finished.folder}", str(repository.folder))
    for name in ("models", "decks"):
        shutil.copytree(finished.folder / name, repository.folder / name, dirs_exist_ok=True)
    without = {name: value for name, value in (os.environ | ENVIRONMENT).items() if name not in environment}
    done = subprocess.run(
        ["dvc", "repro", "prepare"], cwd=repository.folder, env=without, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (repository.folder / "data/cards/manifest.json").exists()


def test_dvc_from_a_subfolder(finished):
    done = subprocess.run(
        ["dvc", "repro", "-f", "-s", "--no-run-cache", "../dvc.yaml:prepare"],
        cwd=finished.folder / "docs",
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_a_clock_that_was_set_back(finished, tmp_path):
    """The files of the run lie in the future. Nothing runs again, and a change of a parameter still does."""
    repository = copy_of(finished, tmp_path / "copy")
    tomorrow = time.time() + 86_400
    for file in repository.folder.rglob("*"):
        if file.is_file() and ".git" not in file.parts:
            os.utime(file, (tomorrow, tomorrow), follow_symlinks=False)
    assert repository.stages_run(repository.run("dvc", "repro")) == []
    repository.set_params(seed=43)
    assert "prepare" in repository.stages_run(repository.run("dvc", "repro", "prepare"))


def test_two_runs_at_once(finished, tmp_path):
    """The second `dvc repro` ends with a line that names the first, which goes on."""
    repository = copy_of(finished, tmp_path / "copy")
    shutil.rmtree(repository.folder / ".scratch")
    first = repository.start("dvc", "repro", "-f", "-s", "--no-run-cache", "embed")
    wait((repository.folder / ".scratch/embed.pid").exists)
    second = repository.run("dvc", "repro", "-f", "-s", "--no-run-cache", "embed", ok=False)
    assert second.returncode != 0 and "Traceback" not in second.stderr
    assert re.search(r"process \d+ still runs|is busy, it is being blocked by|Unable to acquire lock", second.stderr)
    assert first.wait(120) == 0
    assert quality(repository.folder) == quality(finished.folder) and set(repository.changed()) <= {"report"}


@pytest.mark.long
def test_a_damaged_file_of_the_cache(finished, tmp_path):
    """What `dvc checkout` brings back from it is refused by the stage that reads it."""
    repository = copy_of(finished, tmp_path / "copy")
    vectors = repository.folder / "data/encoder/vectors/answers-00001.npy"
    content = vectors.read_bytes()
    (cached,) = [
        file
        for file in (repository.folder / ".dvc/cache/files/md5").rglob("*")
        if file.is_file() and file.read_bytes() == content
    ]
    cached.chmod(0o644)
    cached.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    cached.chmod(0o444)
    shutil.rmtree(repository.folder / "data/encoder")
    repository.run("dvc", "checkout", "--force", ok=False)
    done = repository.run("python", "-m", "stages.index", ok=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "data/encoder" in done.stderr.strip().splitlines()[-1]
    repository.run("dvc", "repro", "-f", "-s", "--no-run-cache", "adapt")
    assert quality(repository.folder) == quality(finished.folder)
