"""The real pipeline, through the real dvc, in a clone with tiny material. The tests run in their order."""

import json
import re
import resource
import sys
import textwrap
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import tiny
from conftest import PATIENCE, ROOT, wait

README = (ROOT / "README.md").read_text()

STAGES = ["prepare", "embed", "audit", "eda", "index", "rerank_train", "rerank_eval", "finetune", "evaluate"]
STAGES += ["quantise_eval", "report"]
TUNING = ["finetune", "evaluate", "quantise_eval", "report"]
ANSWERING = {"echo", "constant", "copy_nearest", "base", "lora", "lora_rag", "search_open"}
SYSTEMS = {"bm25", "dense_exact", "hnsw", "hybrid", "hnsw_rerank", "hybrid_rerank"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def repository(finished):
    return finished


def metrics(repository, name: str) -> dict:
    return json.loads((repository.folder / "metrics" / f"{name}.json").read_text())


def read_predictions(repository) -> list[dict]:
    file = repository.folder / "data/predictions/predictions.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_repro_runs_every_stage(repository):
    assert sorted(repository.stages_run((repository.folder / "first_run.txt").read_text())) == sorted(STAGES)
    assert metrics(repository, "prepare")["splits"]["test"]["cards"] == 12
    audit = metrics(repository, "audit")
    assert audit["group"]["questions"]["characters"]["leaked@0.9"]["n"] == 12
    assert set(metrics(repository, "eda")["topics"]["grid"]) == {"lda_raw", "lda", "lda_bigrams", "nmf", "embeddings"}
    assert "dropped_duplicate: 0 rows" in (repository.folder / "data/cleaning.md").read_text()
    retrieval = metrics(repository, "retrieval")
    ranked = retrieval["test"]["own"]
    assert set(ranked) == SYSTEMS | {"differences"}
    assert {f"{name}-dense_exact" for name in SYSTEMS - {"dense_exact"}} <= set(ranked["differences"])
    assert set(retrieval["test"]) == {"own", "typos", "word_drops", "lower_case"}
    assert set(retrieval["test"]["typos"]) == SYSTEMS - {"hnsw_rerank", "hybrid_rerank"} | {"differences"}
    assert retrieval["test"]["word_drops"]["bm25"]["mrr@10"]["mean"] < ranked["bm25"]["mrr@10"]["mean"]
    assert retrieval["reranker"] == {"model": "path:models/reranker/tiny", "trained": False}
    assert retrieval["served"]["system"] in ("hybrid", "hybrid_rerank")
    served = metrics(repository, "index")["served"]
    assert served["recall@10"]["mean"] >= 0.99 and served["answers"] == 120
    assert metrics(repository, "cost/index")["ratios"]["hnsw_to_exact"] > 0
    assert ranked["bm25"]["mrr@10"]["mean"] > 0.5  # the deck's questions share their case number with the answer
    answered = metrics(repository, "qa")
    assert ANSWERING | {"differences"} <= set(answered) <= ANSWERING | {"differences", "far_from_training"}
    assert answered["echo"]["novel_f1"]["mean"] == 0
    predictions = read_predictions(repository)
    assert len(predictions) == 4
    first = predictions[0]
    assert set(first["answers"]) == ANSWERING and first["question"] == first["answers"]["echo"]
    assert len(first["read"]["lora_rag"]) == 3 and set(first["read"]) == {"lora_rag"}
    assert len({row["answers"]["constant"] for row in predictions}) == 1
    scores = pd.read_parquet(repository.folder / "data/predictions/scores.parquet")
    assert len(scores) == 4 * len(ANSWERING)
    for name in ANSWERING:
        of = scores[scores.system == name]
        assert answered[name]["token_f1"]["mean"] == pytest.approx(of.token_f1.mean(), rel=1e-4)
        assert ("nll" in answered[name]) == (name in ("base", "lora", "lora_rag"))
    assert answered["differences"]["lora-base"]["nll"]["p_holm"] <= 1
    assert metrics(repository, "quantisation") == {}  # it is off
    adapter = {file.name for file in (repository.folder / "data/adapter").iterdir()}
    tokenizer = {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert adapter == {"adapter_config.json", "adapter_model.safetensors", "manifest.json", "README.md"} | tokenizer
    tuned = metrics(repository, "finetune")
    assert tuned["validation_nll"]["tuned"]["n"] == 4 and tuned["train"]["rows"] == 16
    assert tuned["trainable_share"] == pytest.approx(tuned["trainable_parameters"] / tuned["parameters"], rel=1e-4)
    assert not list(repository.folder.glob(".scratch/finetune/*/checkpoint-*"))
    assert len(metrics(repository, "summary")) <= 15
    report = (repository.folder / "REPORT.md").read_text()
    assert "## Answers to read" in report and "Small sample: 4 questions" in report
    for picture in re.findall(r"!\[.*\]\((.*)\)", report):
        assert (repository.folder / picture).exists()


def test_the_dataset_card_says_what_the_deck_is(repository):
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(repository.folder / "docs/DATASET_CARD.md")
    assert card.data.license == "unknown" and card.data.size_categories == ["n<1K"]
    assert "120 question-answer cards" in card.text and "tiny.json" in card.text


@pytest.mark.parametrize(
    ("knob", "stage"), [({"eda__lda_passes": 3}, "eda"), ({"rerank_eval__candidates": 5}, "rerank_eval")]
)
def test_a_knob_of_what_is_measured_trains_nothing(repository, knob, stage):
    repository.set_params(**knob)
    done = repository.run("dvc", "repro", "--dry")
    assert {stage} <= set(repository.stages_run(done.stdout)) <= {stage, "report"}
    repository.run("git", "checkout", "-q", "params.yaml")


def search(repository, *arguments: str, ok: bool = True):
    return repository.run("python", "-m", "medcards.search.searcher", *arguments, ok=ok)


def hits(repository, question: str, *arguments: str) -> list[dict]:
    """The hits of a search with --json, which must be JSON, so without NaN."""
    found = json.loads(search(repository, question, "--json", *arguments).stdout, parse_constant=pytest.fail)
    assert found["question"] == question and found["system"] in ("hybrid", "hybrid_rerank")
    assert [hit["rank"] for hit in found["hits"]] == list(range(1, len(found["hits"]) + 1))
    return found["hits"]


def test_search_finds_the_card(repository):
    question = "What should a nurse know about asthma, case 10?"
    found = hits(repository, question)
    assert len(found) == 5
    assert set(found[0]) == {"rank", "card_id", "question", "answer", "source", "score", "scores"}
    by_words = max(found, key=lambda hit: hit["scores"].get("bm25", 0))
    assert by_words["question"] == question and by_words["answer"].startswith("In case 10, ")
    done = search(repository, question, "-k", "1")
    assert found[0]["card_id"] in done.stdout and "hybrid" in done.stdout
    assert done.stderr == ""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository.folder)
        (code,) = re.findall(r"    from medcards.search.searcher import Searcher\n(?:    .*\n)+", README)
        exec(textwrap.dedent(code), variables := {})
    assert [hit.card_id for hit in variables["hits"]][0]


def test_the_re_ranked_system_searches_too(repository):
    """Whichever system was chosen: here the file that says so is changed. Beyond the candidates there is no score."""
    file = repository.folder / "data/rankings/served.json"
    chosen = file.read_text()
    file.unlink()  # dvc's cache may be linked to it
    served = json.loads(chosen) | {"system": "hybrid_rerank"}
    file.write_text(json.dumps(served))
    found = hits(repository, "asthma", "-k", "50")
    assert [hit["score"] is None for hit in found] == [rank > served["candidates"] for rank in range(1, 51)]
    file.unlink()
    file.write_text(chosen)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["  "], "the question is empty"),
        (["gout", "-k", "0"], "k=0: between 1 and 50"),
        (["gout", "-k", "500"], "k=500: between 1 and 50"),
        (["gout", "--data", "absent"], "absent/cards/train.parquet is missing"),
    ],
)
def test_search_says_what_is_wrong(repository, arguments, says):
    done = search(repository, *arguments, ok=False)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("search: ") and says in line


def test_search_with_a_very_long_question(repository):
    found = hits(repository, "gout " * 10_000, "-k", "2")
    assert len(found) == 2 and "gout" in found[0]["answer"]


def ask(repository, *arguments: str, ok: bool = True):
    return repository.run("python", "-m", "medcards.answers.asker", *arguments, ok=ok)


def test_an_answer_and_the_cards_that_it_read(repository):
    question = "What should a nurse know about asthma, case 10?"
    done = ask(repository, question, "-k", "2")
    said, evidence = done.stdout.split("\n-- tuned model. Not medical advice")
    assert said.strip() and f" 1. {hits(repository, question)[0]['question']}" in evidence and " 2. " in evidence
    assert done.stderr == ""
    done = ask(repository, question, "--model", "base", "--read", "none")
    assert "-- base model. " in done.stdout and done.stdout.endswith("It read no card.\n")


def test_asking_from_python(repository, monkeypatch):
    """The answer is what the evaluation would generate; training cards alone can be asked for."""
    from medcards import cards
    from medcards.answers.asker import Asker
    from medcards.llm.generation import generate

    monkeypatch.chdir(repository.folder)
    asker, question = Asker.load("data"), "What is the first sign of gout?"
    found, table = asker.find(question, 3, read="training"), cards.load("data/cards").set_index("card_id")
    assert [table.split[hit.card_id] for hit in found] == ["train"] * 3
    read = [f"{hit.question} {hit.answer}" for hit in found]
    system_prompt = metrics(repository, "../data/adapter/manifest")["llm"]["system_prompt"]
    for base in (False, True):
        parts = list(asker.answer(question, found, base, max_new_tokens=12))
        assert all(part in parts[-1] for part in parts)
        with asker._model.disable_adapter() if base else nullcontext():
            (whole,) = generate(asker._model, asker._tokenizer, [question], system_prompt, 12, 1, context=[read])
        assert parts[-1] == whole.text


def test_asking_before_there_is_an_adapter(repository):
    (repository.folder / "data/adapter").rename(repository.folder / "data/later")
    done = ask(repository, "What is gout?")
    assert "-- base model. There is no adapter yet: `dvc repro finetune` makes it." in done.stdout
    (repository.folder / "data/later").rename(repository.folder / "data/adapter")


def test_an_adapter_of_another_deck_is_named(repository):
    """As it lies there when the stages that search needs have run on a new deck."""
    deck = repository.folder / "metrics/prepare.json"
    before = deck.read_text()
    deck.write_text(before.replace("tiny.json", "new.json"))
    done = ask(repository, "What is gout?")
    assert "-- tuned model. The adapter was tuned on another deck: `dvc repro finetune` tunes" in done.stdout
    deck.write_text(before)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [((" ",), "the question is empty"), (("gout", "--data", "absent"), "absent/cards/train.parquet is missing")],
)
def test_asking_says_what_is_wrong(repository, arguments, says):
    done = ask(repository, *arguments, ok=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("ask: ") and says in done.stderr and len(done.stderr.splitlines()) == 1


def test_search_never_shows_another_decks_cards(repository, tmp_path):
    """An index that is damaged, or that belongs to other embeddings, is refused."""
    import shutil

    from medcards.base.files import read_json, sha256_of, write_json

    shutil.copytree(repository.folder / "data", tmp_path / "data", symlinks=False)
    index = tmp_path / "data/index/index.bin"
    index.chmod(0o644)
    whole = index.read_bytes()
    index.write_bytes(whole[: len(whole) // 2])
    done = search(repository, "gout", "--data", str(tmp_path / "data"), ok=False)
    assert done.returncode == 1 and "index.bin is damaged" in done.stderr.strip().splitlines()[-1]
    index.write_bytes(whole)
    (tmp_path / "data/embeddings/answers.npy").chmod(0o644)
    (tmp_path / "data/embeddings/manifest.json").chmod(0o644)
    answers = np.load(tmp_path / "data/embeddings/answers.npy")
    np.save(tmp_path / "data/embeddings/answers.npy", answers[::-1])
    manifest = read_json(tmp_path / "data/embeddings/manifest.json")
    manifest["sha256"]["answers"] = sha256_of(tmp_path / "data/embeddings/answers.npy")
    write_json(tmp_path / "data/embeddings/manifest.json", manifest)
    done = search(repository, "gout", "--data", str(tmp_path / "data"), ok=False)
    assert done.returncode == 1 and "belongs to other embeddings" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_notebook_runs(repository):
    """From its first cell to its last, on what this run left, with the pictures that it promises."""
    import nbformat
    from nbclient import NotebookClient

    before = repository.run("git", "status", "--porcelain").stdout
    notebook = nbformat.read(repository.folder / "notebooks/tour.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": repository.folder / "notebooks"}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 3
    assert repository.run("git", "status", "--porcelain").stdout == before


def test_repro_again_runs_nothing(repository):
    done = repository.run("dvc", "repro")
    assert repository.stages_run(done.stdout) == []
    assert "up to date" in done.stdout


def test_a_lora_knob_touches_tuning_only(repository):
    before = metrics(repository, "finetune")["trainable_parameters"]
    done = repository.run("dvc", "exp", "run", "-S", "lora.r=8")
    assert repository.stages_run(done.stdout + done.stderr) == TUNING
    assert metrics(repository, "finetune")["trainable_parameters"] == 2 * before


def test_metrics_diff_and_plots(repository):
    done = repository.run("dvc", "metrics", "diff")
    assert "validation_nll_tuned" in done.stdout
    assert "mrr@10_bm25" not in done.stdout
    repository.run("dvc", "plots", "show")
    page = (repository.folder / "dvc_plots/index.html").read_text()
    assert "Training loss" in page and "tsne_topic.png" in page


def test_is_it_better(repository):
    """The working tree has another rank than the last commit, which changes what the tuned model says alone."""
    done = repository.run("python", "-m", "medcards.commands.compare", "HEAD")
    assert done.stdout.startswith("the working tree minus HEAD:")
    assert "| lora |" in done.stdout and "| base |" not in done.stdout
    assert "Equal in both: echo, constant, copy_nearest, base, search_open." in done.stdout
    done = repository.run("python", "-m", "medcards.commands.compare", "HEAD", "no-such-thing", ok=False)
    assert done.returncode == 1 and done.stderr == "compare: no-such-thing: unknown Git revision 'no-such-thing'\n"
    cache = repository.folder / ".dvc/cache"
    cache.rename(repository.folder / ".dvc/elsewhere")
    done = repository.run("python", "-m", "medcards.commands.compare", "HEAD", ok=False)
    assert done.returncode == 1 and done.stderr.startswith("compare: HEAD: data/predictions/scores.parquet is not in")
    assert len(done.stderr.splitlines()) == 1
    (repository.folder / ".dvc/elsewhere").rename(cache)


def test_the_curves_have_the_optimizer_step_as_x(repository):
    curve = (repository.folder / "plots/finetune/plots/metrics/validation_loss.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in curve] == ["step", "0", "1", "2"]  # 16 cards, 8 at a time


def test_readme_command_writes_the_results(repository):
    repository.run("python", "-m", "stages.report", "--readme")
    assert "n = 12, test split" in (repository.folder / "README.md").read_text()


def test_a_model_changed_in_place_is_noticed(repository):
    for role, stage in (("encoder", "embed"), ("llm", "finetune"), ("reranker", "rerank_train")):
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


def test_a_new_system_is_seen_through(repository):
    """It takes a function and a name in params.yaml; one that only repeats the question is named in the report."""
    file = repository.folder / "medcards/answering.py"
    before = file.read_text()
    parrot = (
        "def parrot(exam: Exam) -> Answers:\n    return Answers(exam.questions.question.tolist())\n\n\n_ALL = (parrot, "
    )
    file.write_text(before.replace("_ALL = (", parrot))
    asked = repository.run("dvc", "exp", "run", "-S", "evaluate.systems=[base,lora,parrot]")
    assert "evaluate" in repository.stages_run(asked.stdout + asked.stderr)
    assert set(metrics(repository, "qa")) >= {"base", "lora", "parrot", "differences"}
    report = (repository.folder / "REPORT.md").read_text()
    assert "- `parrot` repeats the question" in report and "- `lora` repeats" not in report
    summary = metrics(repository, "summary")
    assert summary["sound_f1_parrot"] <= summary["sound_f1_base"]
    assert "sound_f1_best_baseline" not in summary  # none was asked
    file.write_text(before)


def test_answers_of_a_killed_run_are_kept(repository):
    """One of them is changed by hand, to see that it is not made again."""
    repository.run("dvc", "exp", "run", "-S", "evaluate.systems=[base,lora]", "-S", "evaluate.batch_size=2", "evaluate")
    before = read_predictions(repository)
    process = repository.start("python", "-m", "stages.evaluate")
    wait(lambda: len(list(repository.folder.glob(".scratch/evaluate/*/lora/*.json"))) == 1)
    process.kill()
    process.wait()
    assert read_predictions(repository) == before
    (kept,) = repository.folder.glob(".scratch/evaluate/*/lora/*.json")
    kept.write_text(json.dumps([made | {"text": "kept"} for made in json.loads(kept.read_text())]))
    repository.run("python", "-m", "stages.evaluate")
    after = read_predictions(repository)
    assert [row["answers"]["lora"] for row in after].count("kept") == 2
    assert [row["answers"]["base"] for row in after] == [row["answers"]["base"] for row in before]
    assert not list(repository.folder.glob(".scratch/evaluate/*/*/*.json"))


@pytest.mark.skipif(sys.platform != "linux", reason="limits another process's files")
def test_a_full_disk_costs_no_answers(repository):
    """A limit on the size of files stands for it: the writes fail in the same places."""
    process = repository.start("python", "-m", "stages.evaluate")
    wait(lambda: list(repository.folder.glob(".scratch/evaluate/*/lora/*.json")))
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (15_000, 15_000))
    assert process.wait(PATIENCE) == 1
    said = (repository.folder / "stderr.txt").read_text().strip().splitlines()[-1]
    assert said.startswith("evaluate: [Errno 27] ") and said.endswith("free space, then run this again")
    assert len(list(repository.folder.glob(".scratch/evaluate/*/lora/*.json"))) == 2
    whole = read_predictions(repository)
    repository.run("python", "-m", "stages.evaluate")
    assert read_predictions(repository) == whole


def test_quantised_bases_side_by_side(repository):
    """A stage that is off by default; the first base named is what the others are compared with."""
    repository.run("dvc", "exp", "run", "-S", "quantise_eval.bases=[none,int8,nf4]", "quantise_eval")
    found = metrics(repository, "quantisation")
    assert set(found) == {"none", "int8", "nf4", "differences"}
    assert found["nf4"]["base_bytes"] < found["int8"]["base_bytes"] < found["none"]["base_bytes"]
    assert set(found["differences"]) == {"int8-none", "nf4-none"}
    assert found["none"]["nll"]["n"] == 4 and found["differences"]["nf4-none"]["nll"]["p_holm"] <= 1
    assert set(metrics(repository, "cost/quantise_eval")["tokens_per_second"]) == {"none", "int8", "nf4"}
    assert (repository.folder / "plots/quantisation/trade_off.png").exists()


def test_answers_and_scores_of_different_questions_are_refused(repository):
    file = repository.folder / "data/predictions/predictions.jsonl"
    rows = file.read_text().splitlines(keepends=True)
    file.unlink()  # dvc's cache may be linked to it
    file.write_text("".join(rows[:-1]))
    done = repository.run("python", "-m", "stages.report", ok=False)
    assert done.returncode == 1 and "run `dvc repro -f evaluate`" in done.stderr.strip().splitlines()[-1]
    file.write_text("".join(rows))
    repository.run("git", "checkout", "-q", "params.yaml")


def test_adapted_encoder_and_trained_cross_encoder(repository):
    """Both are one parameter away; the encoder as it came stands in the same table."""
    changes = ["embed.adapt=true", "adapt.questions=60", "adapt.frozen_layers=0", "adapt.batch_size=16"]
    changes += ["reranker.model=train", "reranker.questions=40", "reranker.frozen_layers=0"]
    repository.run("dvc", "exp", "run", *(part for change in changes for part in ("-S", change)), "rerank_eval")
    assert metrics(repository, "embed")["adapted"]["questions"] == 60
    retrieval = metrics(repository, "retrieval")
    assert retrieval["reranker"]["trained"] is True
    assert {"dense_before", "hybrid_before"} <= set(retrieval["test"]["own"])
    assert "dense_before-dense_exact" in retrieval["test"]["own"]["differences"]
    assert hits(repository, "What should a nurse know about asthma, case 10?")
    before = metrics(repository, "audit")
    repository.run("dvc", "repro", "audit")
    assert metrics(repository, "audit") == before  # the attack on the split does not hang on the adaptation


def test_quantised_base(repository):
    """nf4, which makes LoRA QLoRA, and int8 are one parameter away, on the CPU too; their bytes stand side by side."""
    size = {"none": metrics(repository, "finetune")["base_bytes"]}
    for quantize in ("nf4", "int8"):
        repository.run("dvc", "exp", "run", "-S", f"llm.quantize={quantize}", "finetune")
        assert metrics(repository, "finetune")["quantize"] == quantize
        size[quantize] = metrics(repository, "finetune")["base_bytes"]
        assert metrics(repository, "cost/finetune")["tokens_per_second"] > 0
    assert size["nf4"] < size["int8"] < size["none"]
    repository.run("git", "checkout", "-q", "params.yaml")


def test_rank_context_and_another_model_from_the_shell(repository):
    """`-S lora.r=32` runs what reads it and no more; so does another base model, here without a chat template."""
    repository.run("dvc", "repro", "embed")  # as it was before it was adapted
    before = metrics(repository, "finetune")["trainable_parameters"]
    changes = ["lora.r=32", "finetune.context_share=0.5", "finetune.max_length=1024"]
    done = repository.run("dvc", "exp", "run", *(part for change in changes for part in ("-S", change)), "finetune")
    assert set(repository.stages_run(done.stdout)) == {"finetune"}
    tuned = metrics(repository, "finetune")
    assert tuned["trainable_parameters"] == 8 * before  # of rank 4
    assert tuned["train"]["with_context"] == 8 and tuned["train"]["context_cards_left_out"] == 0  # of 16 cards
    tiny.make_llm(repository.folder / "models/llm/gpt2", None, "gpt2")
    repository.run("dvc", "exp", "run", "-S", "llm.model=path:models/llm/gpt2", "finetune")
    assert metrics(repository, "finetune")["model"] == "path:models/llm/gpt2"
    adapter = repository.folder / "data/adapter"
    assert "Answer:" in (adapter / "chat_template.jinja").read_text()
    done = repository.run("python", "-m", "medcards.commands.export", "--to", "exported/tiny")
    assert "to push it: hf upload" in done.stdout
    parity = json.loads((repository.folder / "exported/tiny/parity.json").read_text())
    assert parity["largest_logit_difference"] < 0.001


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
