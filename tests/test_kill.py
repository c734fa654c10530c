"""Fine-tuning that is killed, runs out of disk, or is shared by two processes ends like one that ran through."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import PATIENCE, Repository, wait
from test_pipeline import metrics

from medcards.base.files import sha256_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits another process's files, and looks into /proc"),
]


@pytest.fixture(scope="module")
def trained(repository) -> Repository:
    """The tiny repository, prepared, with a training run of some seconds and a checkpoint every fourth step."""
    changes = {"train_cards": 96, "epochs": 10.0, "evaluate_steps": 4, "log_steps": 3, "patience": 0}
    changes["learning_rate"] = 0.01
    repository.set_params(lora__dropout=0.1, **{f"finetune__{name}": value for name, value in changes.items()})
    repository.run("dvc", "repro", "embed")
    return repository


def result(repository: Repository) -> tuple:
    """Loss, adapter and curves; nothing is left of the checkpoints."""
    assert not checkpoints(repository)
    curves = repository.folder / "plots/finetune/plots/metrics"
    return (
        metrics(repository, "finetune")["validation_nll"],
        sha256_of(repository.folder / "data/adapter/adapter_model.safetensors"),
        {file.name: file.read_text() for file in curves.iterdir()},
    )


def unbroken(repository: Repository, **changes) -> tuple:
    """What a run without a break gives, without dvc, so that it is in no cache."""
    repository.set_params(**changes)
    repository.run("python", "-m", "stages.finetune")
    return result(repository)


@pytest.fixture(scope="module")
def expected(trained) -> tuple:
    """What a run without a break gives."""
    return unbroken(trained)


def checkpoints(repository: Repository) -> set[int]:
    marks = (repository.folder / ".scratch").glob("finetune/*/checkpoint-*/whole")
    return {int(mark.parent.name.removeprefix("checkpoint-")) for mark in marks}


def start(repository: Repository, *command: str) -> subprocess.Popen:
    """Start a command in a session of its own; it is there when training has left a checkpoint of its own."""
    before = checkpoints(repository)
    process = repository.start(*command)
    wait(lambda: checkpoints(repository) - before or process.poll() is not None)
    assert process.poll() is None, (repository.folder / "stderr.txt").read_text()
    return process


def stage_of(repository: Repository) -> int:
    """The process that runs the stage."""
    return int((repository.folder / ".scratch/finetune.pid").read_text())


def test_killed_with_its_group(trained, expected):
    """At two random moments of the training, the second after it went on from where the first one was killed."""
    reached = 0
    for _ in range(2):
        process = start(trained, "dvc", "repro", "finetune")
        wait_more = random.uniform(0, 0.5)
        time.sleep(wait_more)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert checkpoints(trained), f"it ended before it was killed, {wait_more} s after its first checkpoint"
        assert max(checkpoints(trained)) > reached
        reached = max(checkpoints(trained))
    done = trained.run("dvc", "repro", "finetune")
    assert trained.stages_run(done.stdout) == ["finetune"]
    assert "going on from the checkpoint of step" in done.stderr
    assert result(trained) == expected


def test_disk_full(trained, expected):
    """A limit on the size of files stands for a full disk: the writes fail in the same places."""
    process = start(trained, "python", "-m", "stages.finetune")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))
    assert process.wait(PATIENCE) == 1
    said = (trained.folder / "stderr.txt").read_text().strip().splitlines()[-1]
    assert said.startswith("finetune: the checkpoint of step") and "free space, run again" in said
    last = max(checkpoints(trained))
    done = trained.run("python", "-m", "stages.finetune")
    assert f"going on from the checkpoint of step {last}\n" in done.stderr
    assert result(trained) == expected


@pytest.fixture(scope="module")
def other_rate(trained, expected) -> tuple:
    """What another learning rate gives, where a killed run of the first one left a checkpoint: it starts anew."""
    process = start(trained, "python", "-m", "stages.finetune")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    trained.set_params(finetune__learning_rate=0.02)
    done = trained.run("python", "-m", "stages.finetune")
    assert "going on" not in done.stderr
    trained.set_params(finetune__learning_rate=0.01)
    shutil.rmtree(trained.folder / ".scratch")
    return result(trained)


def test_other_inputs_start_anew(expected, other_rate):
    assert other_rate[1] != expected[1]


def test_a_shared_scratch_folder(trained, expected, tmp_path):
    """MEDCARDS_SCRATCH lets another checkout go on, such as that of the next `dvc exp run --temp`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDCARDS_SCRATCH", str(tmp_path / "shared"))
        patch.setattr(sys.modules[__name__], "checkpoints", lambda _: set((tmp_path / "shared").rglob("whole")))
        process = start(trained, "python", "-m", "stages.finetune")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        other = Repository(tmp_path / "other")
        shutil.copytree(trained.folder, other.folder, ignore=shutil.ignore_patterns(".scratch"))
        done = other.run("python", "-m", "stages.finetune")
        assert "going on from the checkpoint of step" in done.stderr
        assert result(other) == expected


def test_dvc_killed_alone(trained, other_rate):
    """The stage lives on. A second one names it, and does not write; once it is ended, the next one goes on."""
    trained.set_params(finetune__learning_rate=0.02)  # what the first rate gives is in dvc's run cache
    process = start(trained, "dvc", "repro", "finetune")
    stage = stage_of(trained)
    os.kill(stage, signal.SIGSTOP)  # so that it is there for as long as the test looks
    process.kill()
    process.wait()
    second = trained.run("dvc", "repro", "finetune", ok=False)
    assert second.returncode != 0
    (line,) = [line for line in second.stderr.splitlines() if line.startswith("finetune: ")]
    assert f"process {stage} still runs this stage" in line and f"`kill {stage}`" in line
    assert checkpoints(trained) and not (trained.folder / "metrics/finetune.json").exists()
    os.kill(stage, signal.SIGKILL)
    wait(lambda: not os.path.exists(f"/proc/{stage}") or "Z" in open(f"/proc/{stage}/stat").read().split()[2])
    done = trained.run("dvc", "repro", "finetune")
    assert "going on from the checkpoint of step" in done.stderr
    assert result(trained) == other_rate


def test_two_processes_give_the_loss_of_one(trained):
    """Started by accelerate, as one parameter says; they share an optimizer step, the last one too, which is smaller.

    One alone writes.
    """
    shape = {"train_cards": 90, "epochs": 2.0, "gradient_accumulation": 4, "learning_rate": 0.003}
    changes = {f"finetune__{name}": value for name, value in shape.items()}
    alone, _, curves = unbroken(trained, finetune__launch="python", lora__dropout=0.0, llm__device="cpu", **changes)
    launch = "finetune.launch=accelerate launch --config_file profiles/accelerate/cpu.yaml"
    done = trained.run("dvc", "exp", "run", "-S", launch, "finetune", OMP_NUM_THREADS="1")
    assert done.stderr.count("validation, tuned:   0%") == 1
    together = metrics(trained, "finetune")
    assert together["processes"] == 2
    for name in ("base", "tuned"):
        assert together["validation_nll"][name]["mean"] == pytest.approx(alone[name]["mean"], abs=1e-4)
    for name in ("train_loss.tsv", "validation_loss.tsv"):
        found = (trained.folder / "plots/finetune/plots/metrics" / name).read_text()
        assert points(found) == pytest.approx(points(curves[name]), abs=1e-4)


def points(table: str) -> list[float]:
    return [float(row.split()[1]) for row in table.splitlines()[1:]]
