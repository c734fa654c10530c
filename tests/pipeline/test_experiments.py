"""What one change runs again, through the real dvc on tiny material. The tests run in their order."""

import json
import time

import pytest
from conftest import Repository, needs
from ruamel.yaml import YAML

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


def test_make_final_measures_this_run_on_test_questions_and_changes_nothing_here(repository):
    """What reads answer.split runs in a folder of its own. The models are those of this run.

    The deck and the models are not in git, as those of a user.
    """
    before = repository.metrics("summary")
    repository.run("git", "rm", "-rq", "--cached", "decks/tiny.json", "models/encoder/tiny", "models/llm/tiny")
    repository.run("git", "commit", "-qm", "own files")
    done = repository.run("python", "-m", "tools.final", "-S", "answer.test_questions=5")
    assert repository.stages_run(done) == ["rerank_eval", "answer", "quantise_eval", "evaluate", "report"]
    assert repository.metrics("summary") == before
    changed = repository.run("git", "status", "--porcelain", "--no-renames").stdout.splitlines()
    assert changed and all(line[3:].startswith("final/") for line in changed)
    final = Repository(repository.folder / "final")
    assert final.metrics("qa")["split"] == "test" and final.metrics("qa")["echo"]["token_f1"]["n"] == 5
    chosen = final.metrics("retrieval")["validation"]  # perturbed validation questions choose nothing
    assert chosen == {"own": repository.metrics("retrieval")["validation"]["own"]}
    assert final.metrics("retrieval")["test"]["own"]["bm25"]["mrr@10"]["n"] == 12
    page = (final.folder / "REPORT.md").read_text()
    assert "Choose nothing by them." in page and "](../docs/DATASET_CARD.md)" in page
    here, there = (
        YAML(typ="safe").load(file)["stages"] for file in (repository.folder / "dvc.lock", final.folder / "run.lock")
    )
    assert here["finetune"] == there["finetune"] and here["index"] == there["index"]
    assert "final" not in repository.run("dvc", "exp", "list", "--name-only").stdout.split()
    repository.run("git", "checkout", "-q", "final")
    repository.run("git", "clean", "-fdq", "final")
    repository.set_params(lora__r=2)
    done = repository.run("python", "-m", "tools.final", ok=False)
    assert done.returncode == 1 and "run `dvc repro` first" in done.stderr
    repository.run("git", "checkout", "-q", "params.yaml")
    repository.run("git", "add", "-f", "decks", "models")
    repository.commit("deck and models")


def test_an_edit_of_what_shows_changes_report_only(repository):
    """A launcher's comment changes no stage."""
    shows = {f"medcards/report/{file}" for file in ("answers.py", "templates/report.md.jinja")}
    for file in (*shows, "profiles/accelerate/cpu.yaml"):
        path = repository.folder / file
        path.write_text(f"{path.read_text()}\n")
    assert repository.changed() == {"report": {"medcards/report/answers.py", "medcards/report/templates"}}
    repository.run("git", "checkout", "-q", "medcards", "profiles")


def test_an_unnamed_model_runs_no_computation(repository):
    unnamed = repository.folder / "models/llm/unnamed"
    unnamed.mkdir()
    (unnamed / "config.json").write_text("{}")
    assert repro(repository) == ["models"]
    (unnamed / "config.json").unlink()


def test_a_model_changed_in_place_is_noticed(repository):
    """The stage models alone runs to find out."""
    for role in ("encoder", "llm"):
        (repository.folder / f"models/{role}/tiny/changed.txt").write_text("changed")
    assert repro(repository, "models") == ["models"]
    encoder, llm = ({f"data/models/{role}.json"} for role in ("encoder", "llm"))
    tuning = dict.fromkeys(("finetune", "answer", "quantise_eval"), llm)
    assert (
        repository.changed() == dict.fromkeys(("embed", "adapt", "rerank_eval", "rows", "evaluate"), encoder) | tuning
    )
    repository.run("git", "clean", "-fdxq", "models")
    assert repro(repository, "models") == []


def test_a_knob_of_rerank_eval_trains_no_model(repository):
    """Answers are asked for again, since open systems read the rankings. Answers to the same prompts are kept."""
    made = {file: file.stat().st_mtime_ns for file in (repository.folder / ".scratch/answer").rglob("*.json")}
    repository.set_params(rerank_eval__candidates=5)
    run = repro(repository, "answer")
    assert run[0] == "rerank_eval" and set(run) <= {"rerank_eval", "answer"}
    assert {file: file.stat().st_mtime_ns for file in made} == made
    repository.run("git", "checkout", "-q", "params.yaml")
    assert repro(repository, "answer") == []


@needs("lancedb")
def test_an_index_on_disk_serves_the_same_cards(repository):
    """Through the commands that a user types. A file that is missing is an error of one line."""
    search = ("python", "-m", "medcards", "search", "What is the first sign of gout?", "--json")
    in_memory = json.loads(repository.run(*search).stdout)
    repository.set_params(index__engine="lancedb")
    assert repro(repository, "rerank_eval") == ["index", "rerank_eval"]
    assert repository.figures("index")["engine"] == "lancedb"
    on_disk = json.loads(repository.run(*search).stdout)
    assert [hit["card_id"] for hit in on_disk["hits"]] == [hit["card_id"] for hit in in_memory["hits"]]
    assert not list((repository.folder / ".scratch/index").iterdir())
    next((repository.folder / "data/index").rglob("*.lance/data/*")).unlink()
    done = repository.run(*search, ok=False)
    assert done.returncode == 1 and "is damaged: run `dvc repro -f index`" in done.stderr
    assert "Traceback" not in done.stderr
    repository.run("git", "checkout", "-q", "params.yaml")
    assert repro(repository, "rerank_eval") == []


def test_a_new_score_runs_evaluate_and_report_only(repository):
    repository.edit(
        "medcards/answers/scores.py",
        '        "em": exact_match(answer, reference),\n',
        '        "em": exact_match(answer, reference),\n        "characters": float(len(answer)),\n',
    )
    assert repro(repository) == ["evaluate", "report"]
    assert repository.metrics("qa")["echo"]["characters"]["mean"] > 10
    repository.run("git", "checkout", "-q", "medcards")


def test_a_sweep_computes_what_its_runs_share_once(repository):
    repository.run("dvc", "exp", "run", "--queue", "-S", "rows.train_cards=12", "-S", "lora.r=2,3", "finetune")
    repository.run("dvc", "queue", "start", "-j", "1")
    end = time.monotonic() + 500
    while (said := repository.run("dvc", "queue", "status").stdout).count("Success") < 2:
        assert time.monotonic() < end and "Failed" not in said, said
        time.sleep(3)
    names = [line.split()[1] for line in said.splitlines() if "Success" in line]
    runs = [repository.stages_run(repository.run("dvc", "queue", "logs", name)) for name in names]
    assert sorted(runs) == [["finetune"], ["rows", "finetune"]]  # the second run takes the rows from the run cache
