"""The real pipeline, through the real dvc, in a clone with tiny material. The tests run in their order."""

import json

import pytest

STAGES = ["prepare", "embed", "audit", "eda", "index", "rerank_eval", "finetune", "evaluate", "report"]

pytestmark = pytest.mark.slow


def metrics(repository, name: str) -> dict:
    return json.loads((repository.folder / "metrics" / f"{name}.json").read_text())


def test_repro_runs_every_stage(repository):
    done = repository.run("dvc", "repro")
    assert sorted(repository.stages_run(done.stdout)) == sorted(STAGES)
    repository.commit("first run")
    assert metrics(repository, "prepare")["splits"]["test"]["cards"] == 12
    audit = metrics(repository, "audit")
    assert audit["group"]["questions"]["characters"]["leaked@0.9"]["n"] == 12
    assert set(metrics(repository, "eda")["topics"]["grid"]) == {"lda_raw", "lda", "lda_bigrams", "nmf", "embeddings"}
    assert "dropped_duplicate: 0 rows" in (repository.folder / "data/cleaning.md").read_text()
    ranked = metrics(repository, "retrieval")["test"]["own"]
    assert list(ranked) == ["bm25", "dense_exact", "differences", "hnsw", "hnsw_rerank"]
    assert ranked["bm25"]["mrr@10"]["mean"] > 0.5  # the deck's questions share their case number with the answer
    answered = metrics(repository, "qa")
    assert set(answered) == {"echo", "copy_nearest", "base", "lora", "differences"}
    assert answered["echo"]["novel_f1"]["mean"] == 0
    predictions = (repository.folder / "data/predictions/predictions.jsonl").read_text().splitlines()
    assert len(predictions) == 4
    assert json.loads(predictions[0])["question"] == json.loads(predictions[0])["echo"]
    adapter = {file.name for file in (repository.folder / "data/adapter").iterdir()}
    assert adapter == {"adapter_config.json", "adapter_model.safetensors"}
    assert len(metrics(repository, "summary")) <= 15
    assert "## Answers to read" in (repository.folder / "REPORT.md").read_text()


def test_the_dataset_card_says_what_the_deck_is(repository):
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(repository.folder / "docs/DATASET_CARD.md")
    assert card.data.license == "unknown" and card.data.size_categories == ["n<1K"]
    assert "120 question-answer cards" in card.text and "tiny.json" in card.text


def test_an_eda_knob_runs_no_model(repository):
    repository.set_params(eda__lda_passes=3)
    done = repository.run("dvc", "repro", "--dry")
    assert {"eda"} <= set(repository.stages_run(done.stdout)) <= {"eda", "report"}
    repository.run("git", "checkout", "-q", "params.yaml")


def test_repro_again_runs_nothing(repository):
    done = repository.run("dvc", "repro")
    assert repository.stages_run(done.stdout) == []
    assert "up to date" in done.stdout


def test_a_lora_knob_touches_tuning_only(repository):
    before = metrics(repository, "finetune")["trainable_parameters"]
    done = repository.run("dvc", "exp", "run", "-S", "lora.r=8")
    assert repository.stages_run(done.stdout + done.stderr) == ["finetune", "evaluate", "report"]
    assert metrics(repository, "finetune")["trainable_parameters"] == 2 * before


def test_metrics_diff_and_plots(repository):
    done = repository.run("dvc", "metrics", "diff")
    assert "validation_nll_tuned" in done.stdout
    assert "mrr@10_bm25" not in done.stdout
    repository.run("dvc", "plots", "show")
    page = (repository.folder / "dvc_plots/index.html").read_text()
    assert "Training loss" in page and "tsne_topic.png" in page


def test_the_curves_have_the_optimizer_step_as_x(repository):
    curve = (repository.folder / "plots/finetune/plots/metrics/validation_loss.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in curve] == ["step", "0", "1", "2"]  # 16 cards, 8 at a time


def test_readme_command_writes_the_results(repository):
    repository.run("python", "-m", "stages.report", "--readme")
    assert "n = 12, test split" in (repository.folder / "README.md").read_text()


def test_a_model_changed_in_place_is_noticed(repository):
    for role, stage in (("encoder", "embed"), ("llm", "finetune"), ("reranker", "rerank_eval")):
        note = repository.folder / f"models/{role}/tiny/changed.txt"
        note.write_text("changed")
        assert stage in repository.stages_run(repository.run("dvc", "repro", "--dry").stdout)
        note.unlink()


def test_a_row_changed_in_place_is_noticed(repository):
    deck = repository.folder / "decks/tiny.json"
    before = metrics(repository, "prepare")
    deck.write_text(deck.read_text().replace("case 7,", "case seven,"))
    done = repository.run("dvc", "repro", "embed")
    assert repository.stages_run(done.stdout) == ["prepare", "embed"]
    assert metrics(repository, "prepare")["material"] != before["material"]


def test_the_way_back(repository):
    lines = (repository.folder / "README.md").read_text().splitlines()
    (restore,) = [line.strip() for line in lines if line.startswith("    git restore ")]
    repository.run("git", "restore", "README.md")  # the test before last wrote its tables
    deck = repository.folder / "decks/tiny.json"
    deck.write_text(deck.read_text().replace("case seven,", "case 7,"))
    repository.run("sh", "-c", restore)
    done = repository.run("dvc", "repro")
    assert repository.stages_run(done.stdout) == []


def test_quantised_base(repository):
    """nf4, which makes LoRA QLoRA, and int8 are one parameter away, on the CPU too."""
    for quantize in ("nf4", "int8"):
        repository.run("dvc", "exp", "run", "-S", f"llm.quantize={quantize}", "finetune")
        assert metrics(repository, "finetune")["quantize"] == quantize


def test_another_python_is_told_the_way(repository, tmp_path):
    """dvc started without the environment's folder on PATH runs its stages with another Python."""
    import subprocess
    import sys
    from pathlib import Path

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    dvc = str(Path(sys.executable).parent / "dvc")
    done = repository.run(dvc, "repro", "-s", "-f", "prepare", ok=False, PATH=f"{tmp_path}/bare/bin:/usr/bin:/bin")
    assert done.returncode != 0
    assert "source .venv/bin/activate" in done.stderr
    assert "Traceback" not in done.stderr
