"""What one change runs again, through the real dvc on tiny material. The tests run in their order."""

import json
import time

import pytest
from conftest import Repository

pytestmark = pytest.mark.slow

TUNING = ["finetune", "answer", "quantise_eval", "evaluate", "report"]


@pytest.fixture(scope="module")
def repository(finished) -> Repository:
    """After a first run; the deck and the models are in git, as they must be for experiments in other folders."""
    finished.run("git", "add", "-f", "decks", "models")
    finished.commit("deck and models")
    return finished


def answers(repository: Repository) -> list[dict]:
    file = repository.folder / "data/answers/answers.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def repro(repository: Repository, *targets: str) -> list[str]:
    """The stages that `dvc repro` runs."""
    return repository.stages_run(repository.run("dvc", "repro", *targets))


def test_repro_again_runs_nothing(repository):
    done = repository.run("dvc", "repro")
    assert repository.stages_run(done) == [] and "up to date" in done.stdout


def test_a_lora_knob_runs_tuning_only_and_base_answers_are_kept(repository):
    before = repository.figures("finetune")["trainable_parameters"]
    done = repository.run("dvc", "exp", "run", "-S", "lora.r=32")
    assert repository.stages_run(done) == TUNING
    assert repository.figures("finetune")["trainable_parameters"] == 8 * before  # of rank 4
    kept = {folder.name: len(list(folder.iterdir())) for folder in (repository.folder / ".scratch/answer").iterdir()}
    assert len(kept) == 3  # the base model once, and two adapters


def test_metrics_diff_is_short_and_plots_show(repository):
    done = repository.run("dvc", "metrics", "diff")
    assert "validation_nll_tuned" in done.stdout and "mrr@10_bm25" not in done.stdout
    assert {line.split()[0] for line in done.stdout.splitlines()[1:]} == {"metrics/summary.json"}
    repository.run("dvc", "plots", "show")
    page = (repository.folder / "dvc_plots/index.html").read_text()
    assert "Training loss" in page and "tsne_topic.png" in page


def test_back_to_earlier_parameters_runs_report_only(repository):
    tuned = repository.figures("finetune")
    assert repository.stages_run(repository.run("dvc", "exp", "run", "-S", "lora.r=4")) == ["report"]
    assert repository.figures("finetune")["trainable_parameters"] * 8 == tuned["trainable_parameters"]
    assert repository.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize("file", ["answers.py", "templates/report.md.jinja", "templates/dataset_card.md.jinja"])
def test_an_edit_of_what_shows_runs_report_only(repository, file):
    path = repository.folder / "medcards/report" / file
    path.write_text(path.read_text() + "\n")
    assert repro(repository) == ["report"]
    repository.run("git", "checkout", "-q", "medcards")


def test_a_launchers_comment_and_an_unnamed_model_run_no_computation(repository):
    for launcher in (repository.folder / "profiles/accelerate").iterdir():
        launcher.write_text(f"# a comment\n{launcher.read_text()}")
    repository.run("dvc", "repro", "report")
    assert repro(repository) == []
    (repository.folder / "models/llm/unnamed").mkdir()
    (repository.folder / "models/llm/unnamed/config.json").write_text("{}")
    assert repro(repository) == ["models"]
    (repository.folder / "models/llm/unnamed/config.json").unlink()
    repository.run("git", "checkout", "-q", "profiles")


def test_a_model_changed_in_place_is_noticed(repository):
    for role, stages in (("encoder", {"embed", "adapt"}), ("reranker", {"rerank_train"}), ("llm", {"finetune"})):
        note = repository.folder / f"models/{role}/tiny/changed.txt"
        note.write_text("changed")
        assert repro(repository, "models") == ["models"]
        assert stages <= set(repository.stages_run(repository.run("dvc", "repro", "--dry")))
        note.unlink()
    repository.run("dvc", "repro", "models")


def test_a_knob_of_rerank_eval_trains_no_model(repository):
    """Answers are asked for again, since an open system reads the rankings; the language model computes nothing."""
    made = {file: file.stat().st_mtime_ns for file in (repository.folder / ".scratch/answer").rglob("*.json")}
    repository.set_params(rerank_eval__candidates=5)
    run = repro(repository)
    assert run[0] == "rerank_eval" and set(run) <= {"rerank_eval", "answer", "evaluate", "report"}
    assert {file: file.stat().st_mtime_ns for file in (repository.folder / ".scratch/answer").rglob("*.json")} == made
    repository.run("git", "checkout", "-q", "params.yaml")
    assert repro(repository) == ["report"]


def test_a_new_score_runs_evaluate_and_report_only(repository):
    repository.edit(
        "medcards/answers/scores.py",
        '        "em": exact_match(answer, reference),\n',
        '        "em": exact_match(answer, reference),\n        "characters": float(len(answer)),\n',
    )
    assert repro(repository) == ["evaluate", "report"]
    assert repository.metrics("qa")["echo"]["characters"]["mean"] > 10
    repository.run("git", "checkout", "-q", "medcards")
    assert repro(repository) == ["report"]


def test_the_adaptation_runs_neither_exploration_nor_tuning(repository):
    changes = ["adapt.enabled=true", "adapt.questions=60", "adapt.frozen_layers=0", "adapt.batch_size=16"]
    changes += ["reranker.model=train", "reranker.questions=40", "reranker.frozen_layers=0"]
    done = repository.run("dvc", "exp", "run", *(part for change in changes for part in ("-S", change)))
    run = set(repository.stages_run(done))
    assert {"adapt", "index", "rerank_train", "rerank_eval", "report"} <= run
    assert not run & {"prepare", "embed", "audit", "eda", "rows", "finetune"}
    assert repository.metrics("adapt")["questions"] == 60
    retrieval = repository.metrics("retrieval")
    assert retrieval["reranker"]["trained"] is True
    assert {"dense_before", "hybrid_before"} <= set(retrieval["test"]["own"])
    assert "dense_before-dense_exact" in retrieval["test"]["own"]["differences"]
    found = repository.run("python", "-m", "medcards", "search", "asthma, case 10", "--json").stdout
    assert json.loads(found)["hits"]
    repository.run("git", "checkout", "-q", "params.yaml")
    assert repro(repository) == ["report"]


def test_a_sweep_computes_what_its_runs_share_once(repository):
    repository.run("dvc", "exp", "run", "--queue", "-S", "rows.train_cards=12", "-S", "lora.r=2,3")
    repository.run("dvc", "queue", "start", "-j", "1")
    end = time.monotonic() + 500
    while (said := repository.run("dvc", "queue", "status").stdout).count("Success") < 2:
        assert time.monotonic() < end and "Failed" not in said, said
        time.sleep(3)
    names = [line.split()[1] for line in said.splitlines() if "Success" in line]
    runs = [set(repository.stages_run(repository.run("dvc", "queue", "logs", name))) for name in names]
    assert sorted("rows" in run for run in runs) == [False, True]  # the second run takes them from the run cache
    assert all({"finetune", "answer", "report"} <= run <= {"rows", *TUNING} for run in runs)
