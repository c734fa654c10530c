"""Fine-tuning that is killed, runs out of disk, or is shared by two processes gives the result of a plain run."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from conftest import PATIENCE, Repository, wait

from medcards.base.files import HASHES, read_json, sha256_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits the files of another process, and reads /proc"),
]


CURVES = "data/curves/plots/metrics"


@pytest.fixture(scope="module")
def trained(finished) -> Repository:
    """The tiny repository with more rows, set to a training of some seconds with a checkpoint every fourth step."""
    changes = {"epochs": 6.0, "evaluate_steps": 4, "log_steps": 3, "patience": 0, "learning_rate": 0.01}
    settings = {f"finetune__{name}": value for name, value in changes.items()}
    finished.set_params(lora__dropout=0.1, rows__train_cards=96, **settings)
    finished.run("dvc", "repro", "rows")
    return finished


def result(repository: Repository) -> tuple:
    """Losses, hash of the adapter, and curves of a finished run, which leaves no checkpoint."""
    assert not checkpoints(repository)
    curves = {file.name: file.read_text() for file in (repository.folder / CURVES).iterdir()}
    speed = points(curves.pop("tokens_per_second.tsv"))  # which differs between runs
    assert len(speed) == len(points(curves["train_loss.tsv"])) and min(speed) > 0
    adapter = sha256_of(repository.folder / "data/adapter/adapter_model.safetensors")
    return losses(repository), adapter, curves


def losses(repository: Repository) -> dict[str, float]:
    """The mean validation loss of the base and of the tuned model."""
    likelihood = pd.read_parquet(repository.folder / "data/figures/finetune/validation.parquet")
    return likelihood[["base", "tuned"]].mean().round(6).to_dict()


def uninterrupted(repository: Repository, **changes) -> tuple:
    """The result of an uninterrupted run in this process. It runs without dvc, so that no cache has it."""
    repository.set_params(**changes)
    repository.run_here("finetune")
    return result(repository)


@pytest.fixture(scope="module")
def expected(trained) -> tuple:
    """The result of an uninterrupted run."""
    return uninterrupted(trained)


def checkpoints(repository: Repository) -> set[int]:
    """The steps of the complete checkpoints."""
    marks = (repository.folder / ".scratch").glob(f"finetune/*/checkpoint-*/{HASHES}")
    return {int(mark.parent.name.removeprefix("checkpoint-")) for mark in marks}


def start(repository: Repository, *command: str) -> subprocess.Popen:
    """Start a command in a session of its own, and return once it has written a checkpoint."""
    before = checkpoints(repository)
    process = repository.start(*command)
    wait(lambda: checkpoints(repository) - before or process.poll() is not None)
    assert process.poll() is None, (repository.folder / "stderr.txt").read_text()
    return process


def stage_of(repository: Repository) -> int:
    """The process that runs the stage."""
    return int((repository.folder / ".scratch/finetune.pid").read_text())


def test_killed_with_its_group_and_then_out_of_disk(trained, expected):
    """At a random moment of the training, dvc and its stage are killed. The second run resumes there, and finds a full
    disk, for which a limit on the size of files stands: the same writes fail. The third run resumes from the second.
    """
    process = start(trained, "dvc", "repro", "finetune")
    wait_more = random.uniform(0, 0.3)
    time.sleep(wait_more)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoints(trained), f"the run ended before it was killed, {wait_more} s after its first checkpoint"
    reached = max(checkpoints(trained))

    process = start(trained, "python", "-m", "stages.finetune")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))
    assert process.wait(PATIENCE) == 1
    said = (trained.folder / "stderr.txt").read_text().strip().splitlines()
    assert f"training resumes from the checkpoint of step {reached}" in said
    assert said[-1].startswith("finetune: the checkpoint of step") and "free space and run again" in said[-1]
    last = max(checkpoints(trained))
    assert last > reached

    done = trained.run("dvc", "repro", "finetune")
    assert trained.stages_run(done.stdout) == ["finetune"]
    assert f"training resumes from the checkpoint of step {last}\n" in done.stderr
    assert result(trained) == expected


@pytest.fixture(scope="module")
def other_rate(trained, expected) -> tuple:
    """The result of an uninterrupted run with another learning rate."""
    found = uninterrupted(trained, finetune__learning_rate=0.02)
    trained.set_params(finetune__learning_rate=0.01)
    return found


def test_a_shared_scratch_folder(trained, expected, other_rate, tmp_path):
    """With MEDCARDS_SCRATCH another checkout resumes, such as that of the next `dvc exp run --temp`.

    A run with another learning rate does not resume.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDCARDS_SCRATCH", str(tmp_path / "shared"))
        patch.setattr(sys.modules[__name__], "checkpoints", lambda _: set((tmp_path / "shared").rglob(HASHES)))
        process = start(trained, "python", "-m", "stages.finetune")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        other = Repository(tmp_path / "other")
        shutil.copytree(trained.folder, other.folder, ignore=shutil.ignore_patterns(".scratch"))
        other.set_params(finetune__learning_rate=0.02)
        assert "resumes" not in other.run("python", "-m", "stages.finetune").stderr
        assert losses(other) == other_rate[0] != expected[0]
        other.set_params(finetune__learning_rate=0.01)
        done = other.run("python", "-m", "stages.finetune")
        assert "training resumes from the checkpoint of step" in done.stderr
        assert result(other) == expected


def test_dvc_killed_alone(trained, other_rate, tmp_path):
    """The stage lives on: a second one names it and writes nothing. Once it is ended, the next one resumes."""
    trained.set_params(finetune__learning_rate=0.02)  # dvc's run cache has the result of the first rate
    process = start(trained, "dvc", "repro", "finetune")
    stage = stage_of(trained)
    os.kill(stage, signal.SIGSTOP)  # so that it does not end while the test looks
    trained.run("dvc", "plots", "show", CURVES, "-x", "step", "-o", str(tmp_path))
    page = (tmp_path / "index.html").read_text()
    for curve in ("train_loss", "validation_loss"):
        assert f'"title": "{curve}"' in page and f'"step": "4", "{curve}": ' in page
    process.kill()
    process.wait()
    second = trained.run("dvc", "repro", "finetune", ok=False)
    assert second.returncode != 0
    (line,) = [line for line in second.stderr.splitlines() if line.startswith("finetune: ")]
    assert f"process {stage} still runs this stage" in line and f"`kill {stage}`" in line
    assert checkpoints(trained) and not (trained.folder / "data/adapter").exists()
    os.kill(stage, signal.SIGKILL)
    wait(lambda: not os.path.exists(f"/proc/{stage}") or "Z" in open(f"/proc/{stage}/stat").read().split()[2])
    done = trained.run("dvc", "repro", "finetune")
    assert "training resumes from the checkpoint of step" in done.stderr
    assert result(trained) == other_rate


def test_two_processes_give_the_loss_of_one(trained):
    """One parameter makes accelerate start them. They share each optimizer step, also the smaller last one.

    The first process alone writes: a second writer would add points to the curves.
    """
    shape = {"epochs": 2.0, "gradient_accumulation": 4, "learning_rate": 0.003, "launch": "python"}
    changes = {f"finetune__{name}": value for name, value in shape.items()}
    trained.set_params(rows__train_cards=90)
    trained.run_here("rows")
    alone, _, curves = uninterrupted(trained, lora__dropout=0.0, llm__device="cpu", **changes)
    launch = "finetune.launch=accelerate launch --config_file profiles/accelerate/cpu.yaml"
    trained.run("dvc", "exp", "run", "-S", launch, "finetune", OMP_NUM_THREADS="1")
    assert read_json(trained.folder / "data/figures/finetune/metrics.json")["processes"] == 2
    assert losses(trained) == pytest.approx(alone, abs=1e-4)
    for name in ("train_loss.tsv", "validation_loss.tsv"):
        found = (trained.folder / CURVES / name).read_text()
        assert points(found) == pytest.approx(points(curves[name]), abs=1e-4)


def points(table: str) -> list[float]:
    """The values of a curve."""
    return [float(row.split()[1]) for row in table.splitlines()[1:]]
