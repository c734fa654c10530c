"""The whole pipeline and its stages, through the real dvc, on tiny material. The tests run in their order."""

import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import tiny
from conftest import PATIENCE, STAGES, Repository, wait
from huggingface_hub import DatasetCard
from test_experiments import answers

from medcards.answers.comparison import BLOCKS

LANGUAGE_MODELS = {"base", "base_fewshot", "lora", "lora_rag", "lora_rag_open"}
ANSWERING = {"echo", "constant", "copy_nearest", "search_open"} | LANGUAGE_MODELS
RETRIEVING = {"bm25", "dense_exact", "hnsw", "hybrid", "hnsw_rerank", "hybrid_rerank"}
UNADAPTED = {"dense_before", "hybrid_before"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def repository(finished) -> Repository:
    return finished


def test_repro_runs_every_stage(repository):
    said = (repository.folder / "first_run.txt").read_text()
    assert sorted(repository.stages_run(said)) == sorted(STAGES)
    assert repository.run("git", "status", "--porcelain").stdout == ""


def test_the_deck_and_its_audit(repository):
    assert repository.metrics("prepare")["splits"]["test"]["cards"] == 12
    assert "dropped_duplicate: 0 rows" in (repository.folder / "data/figures/prepare/cleaning.md").read_text()
    assert repository.metrics("audit")["group"]["questions"]["characters"]["leaked@0.9"]["n"] == 12
    grid = repository.metrics("eda")["topics"]["grid"]
    assert set(grid) == {"lda_raw", "lda", "lda_bigrams", "nmf", "embeddings"}
    card = DatasetCard.load(repository.folder / "docs/DATASET_CARD.md")
    assert card.data.license == "unknown" and card.data.size_categories == ["n<1K"]
    assert "120 question-answer cards" in card.text and "tiny.json" in card.text


def test_the_search_figures(repository):
    retrieval = repository.metrics("retrieval")
    assert retrieval["split"] == "validation" and "test" not in retrieval  # no experiment reads a test question
    ranked = retrieval["validation"]["own"]
    assert set(ranked) == RETRIEVING | UNADAPTED | {"differences"}
    compared = RETRIEVING - {"dense_exact"} | {"dense_before"}
    assert {f"{name}-dense_exact" for name in compared} <= set(ranked["differences"])
    assert set(retrieval["validation"]) == {"own", "typos", "word_drops", "lower_case"}
    reranked = {"hnsw_rerank", "hybrid_rerank"} - {retrieval["served"]["system"]}
    assert set(retrieval["validation"]["typos"]) == RETRIEVING - reranked | {"differences"}
    assert retrieval["validation"]["word_drops"]["bm25"]["mrr@10"]["mean"] < ranked["bm25"]["mrr@10"]["mean"]
    adapted = repository.metrics("adapt")
    assert adapted["fine_tuning"]["questions"] == 60 and adapted["projection"]["steps"] > 0
    assert retrieval["reranker"] == {"model": "path:models/encoder/tiny", "trained": True}
    assert retrieval["served"]["system"] in ("hybrid", "hybrid_rerank")
    assert ranked["bm25"]["mrr@10"]["mean"] > 0.5  # the deck's questions share their case number with the answer
    served = repository.metrics("index")["served"]
    assert served["recall@10"]["mean"] >= 0.99 and served["answers"] == 120
    assert repository.metrics("cost/index")["ratios"]["hnsw_to_exact"] > 0


def test_the_answers_and_their_scores(repository):
    summary, rows = repository.metrics("qa"), answers(repository)
    assert ANSWERING | {"differences"} <= set(summary) <= ANSWERING | set(BLOCKS)
    assert summary["split"] == "validation" and {row["split"] for row in rows} == {"validation"}
    assert summary["echo"]["novel_f1"]["mean"] == 0
    assert len(rows) == 4
    first = rows[0]
    assert set(first["answers"]) == ANSWERING and first["question"] == first["answers"]["echo"]
    read = dict.fromkeys(("base_fewshot", "lora_rag", "lora_rag_open"), 3)
    assert {name: len(texts) for name, texts in first["read"].items()} == read
    assert set(first["nll"]) == set(first["truncated"]) == LANGUAGE_MODELS
    assert len({row["answers"]["constant"] for row in rows}) == 1
    scores = pd.read_parquet(repository.folder / "data/scores/scores.parquet")
    assert len(scores) == 4 * len(ANSWERING) and set(scores.split) == {"validation"}
    for name in ANSWERING:
        of = scores[scores.system == name]
        assert summary[name]["token_f1"]["mean"] == pytest.approx(of.token_f1.mean(), rel=1e-4)
        assert ("nll" in summary[name]) == (name in LANGUAGE_MODELS)
    assert summary["differences"]["lora-base"]["nll"]["p_holm"] <= 1
    assert repository.metrics("quantisation") == {}  # it is off


def test_the_adapter(repository):
    adapter = {file.name for file in (repository.folder / "data/adapter").iterdir()}
    answering = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"}
    assert adapter == {"adapter_config.json", "adapter_model.safetensors", "manifest.json"} | answering
    tuned = repository.metrics("finetune")
    assert tuned["validation_nll"]["tuned"]["n"] == 4 and tuned["train"]["rows"] == 16
    ends = {"first": tuned["validation_nll"]["base"]["mean"], "lowest": tuned["validation_nll"]["tuned"]["mean"]}
    assert tuned["curve"]["validation"] == ends
    assert tuned["trainable_share"] == pytest.approx(tuned["trainable_parameters"] / tuned["parameters"], rel=1e-4)
    assert not list(repository.folder.glob(".scratch/finetune/*/checkpoint-*"))
    curve = (repository.folder / "plots/finetune/plots/metrics/validation_loss.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in curve] == ["step", "0", "1", "2"]  # 16 cards, 8 per optimizer step


def test_the_report(repository):
    assert len(repository.metrics("summary")) <= 15
    report = (repository.folder / "REPORT.md").read_text()
    assert "## Answers to read" in report and "Small sample: 4 questions" in report
    for picture in re.findall(r"!\[.*\]\((.*)\)", report):
        assert (repository.folder / picture).exists()
    for stage in [*STAGES][1:-1]:  # models measures nothing, report is not timed
        assert repository.metrics(f"cost/{stage}")["seconds"] >= 0


def test_answers_of_a_killed_run_are_kept(repository):
    """One kept answer is changed by hand: the next run shows it, so it was not generated again."""
    repository.set_params(answer__systems=["base", "lora"], answer__batch_tokens=1)  # one question at a time
    before, scratch = answers(repository), repository.folder / ".scratch/answer"
    shutil.rmtree(scratch)
    process = repository.start("python", "-m", "stages.answer")
    wait(lambda: len(list(scratch.rglob("*.json"))) >= 3)
    process.kill()
    process.wait()
    assert answers(repository) == before
    kept = {file: json.loads(file.read_text()) for file in scratch.rglob("*.json")}  # each file is whole
    file, (made,) = kept.popitem()
    assert made["text"] in {text for row in before for text in row["answers"].values()}
    file.write_text(json.dumps([made | {"text": "kept"}]))
    repository.run("python", "-m", "stages.answer")
    assert [text for row in answers(repository) for text in row["answers"].values()].count("kept") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process's files")
def test_a_full_disk_costs_no_answers(repository):
    """A limit on the size of files stands for a full disk: the writes fail in the same places."""
    scratch = repository.folder / ".scratch/answer"
    repository.set_params(answer__max_new_tokens=9)
    before = set(scratch.rglob("*.json"))
    process = repository.start("python", "-m", "stages.answer")
    wait(lambda: set(scratch.rglob("*.json")) - before)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1_500, 1_500))
    assert process.wait(PATIENCE) == 1
    said = (repository.folder / "stderr.txt").read_text().strip().splitlines()[-1]
    assert said.startswith("answer: [Errno 27] ") and said.endswith("free space, then run this again")
    assert set(scratch.rglob("*.json")) - before
    repository.run_here("answer")
    repository.run("git", "checkout", "-q", "params.yaml")


def test_more_questions_than_were_ranked_are_refused(repository):
    """An open system reads the served rankings of rerank_eval."""
    repository.set_params(rerank_eval__validation_queries=2)
    repository.run_here("rerank_eval")
    with pytest.raises(SystemExit, match="^answer: answer.questions=4: 2 of these questions were not ranked; raise "):
        repository.run_here("answer")
    repository.run("git", "checkout", "-q", "params.yaml")


def test_quantised_bases_side_by_side(repository):
    """The stage is off by default. The other bases are compared with the first base named."""
    repository.set_params(quantise_eval__bases=["none", "int8", "nf4"], answer__systems=["echo", "base", "lora"])
    for stage in ("answer", "quantise_eval", "evaluate", "report"):
        repository.run_here(stage)
    found = repository.metrics("quantisation")
    assert set(found) == {"none", "int8", "nf4", "differences"}
    assert found["nf4"]["base_bytes"] < found["int8"]["base_bytes"] < found["none"]["base_bytes"]
    assert set(found["differences"]) == {"int8-none", "nf4-none"}
    assert found["none"]["nll"]["n"] == 4 and found["differences"]["nf4-none"]["nll"]["p_holm"] <= 1
    assert set(repository.metrics("cost/quantise_eval")["tokens_per_second"]) == {"none", "int8", "nf4"}
    assert (repository.folder / "plots/quantisation/trade_off.png").exists()


@pytest.fixture
def parrot():
    """A new answering system that repeats the question: one function with the mark ``@answering_system``."""
    from medcards.answers.systems import ANSWERING_SYSTEMS, Answers, Exam, answering_system

    @answering_system
    def parrot(exam: Exam) -> Answers:
        return Answers(exam.questions.question.tolist())

    yield "parrot"
    del ANSWERING_SYSTEMS["parrot"]


def test_a_new_system_that_repeats_the_question_is_named_in_the_report(repository, parrot):
    repository.set_params(answer__systems=["base", "lora", parrot])
    for stage in ("answer", "evaluate", "report"):
        repository.run_here(stage)
    assert set(repository.metrics("qa")) >= {"base", "lora", "parrot", "differences"}
    report = (repository.folder / "REPORT.md").read_text()
    assert "- `parrot` repeats the question" in report and "- `lora` repeats" not in report
    summary = repository.metrics("summary")
    assert summary["sound_f1_parrot"] <= summary["sound_f1_base"]
    assert "sound_f1_best_baseline" not in summary  # none was asked
    repository.run("git", "checkout", "-q", "params.yaml")


def test_context_and_another_model(repository):
    """The other base model has no chat template. Its adapter is merged into it.

    A random bi-encoder ranks few right cards high, so the prompts hold many cards.
    """
    repository.set_params(rows__context_share=0.5, rows__context_cards=20, finetune__max_length=1024)
    for stage in ("rows", "finetune"):
        repository.run_here(stage)
    tuned = repository.figures("finetune")
    with_context = repository.figures("rows")["with_context"]
    assert 0 < tuned["train"]["with_context"] == with_context <= 8  # of 16 cards
    assert tuned["train"]["context_cards_left_out"] == 0
    tiny.make_llm(repository.folder / "models/llm/gpt2", None, "gpt2")
    repository.set_params(llm__model="path:models/llm/gpt2")
    for stage in ("models", "finetune"):
        repository.run_here(stage)
    assert repository.figures("finetune")["model"] == "path:models/llm/gpt2"
    assert "Answer:" in (repository.folder / "data/adapter/chat_template.jinja").read_text()
    done = repository.run("python", "-m", "medcards", "export", "--to", "exported/tiny")
    assert "to publish it: hf upload" in done.stdout
    parity = json.loads((repository.folder / "exported/tiny/parity.json").read_text())
    assert parity["largest_logit_difference"] < 0.001
    repository.run("git", "checkout", "-q", "params.yaml")


def test_a_row_changed_in_place_is_noticed(repository):
    before = repository.figures("prepare")
    repository.edit("decks/tiny.json", "case 7,", "case seven,")
    done = repository.run("dvc", "repro", "prepare")
    assert repository.stages_run(done) == ["prepare"]
    assert repository.figures("prepare")["material"] != before["material"]
    assert "data/cards" in repository.changed()["embed"]


def test_another_python_is_told_the_way(repository, tmp_path):
    """dvc started without the environment's folder on PATH runs its stages with another Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    dvc = str(Path(sys.executable).parent / "dvc")
    done = repository.run(dvc, "repro", "-s", "-f", "prepare", ok=False, PATH=f"{tmp_path}/bare/bin:/usr/bin:/bin")
    assert done.returncode != 0
    assert "source .venv/bin/activate" in done.stderr
    assert "Traceback" not in done.stderr
