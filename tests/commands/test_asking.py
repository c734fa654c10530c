"""Search, ask and the notebook, on what a finished pipeline left."""

import json
import re
import shutil
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT, Repository

from medcards.base.files import read_json, sha256_of, write_json
from medcards.search.vectors import Vectors

PAGE = (ROOT / "docs/SEARCH.md").read_text()
QUESTION = "What should a nurse know about asthma, case 10?"
ROUTER = "how do I reset my router"
"""The fitted model of four tiny runs gave it a probability below 0.1, and questions of the deck 0.94 or more."""
ANSWERABLE = re.compile(r"The deck probably has an answer \(probability (0\.\d\d|above 0\.99)\)\.")
NO_ANSWER = re.compile(r"The deck probably has no answer \(probability of an answer: (below )?0\.\d\d\)\.")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def repository(finished) -> Repository:
    return finished


def search(repository, *arguments: str, ok: bool = True):
    return repository.run("python", "-m", "medcards", "search", *arguments, ok=ok)


def hits(repository, question: str, *arguments: str) -> list[dict]:
    """The hits of a search with --json, which must be JSON, so without NaN."""
    found = json.loads(search(repository, question, "--json", *arguments).stdout, parse_constant=pytest.fail)
    assert set(found) == {"question", "searched", "system", "probability", "refused", "hits"}
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
    assert ANSWERABLE.fullmatch(done.stdout.strip().split("\n\n")[-1]) and done.stderr == ""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository.folder)
        (code,) = re.findall(r"    from medcards.search import Searcher\n(?:    .*\n)+", PAGE)
        exec(textwrap.dedent(code), variables := {})
    assert [hit.card_id for hit in variables["hits"]][0]


def test_the_re_ranked_system_searches_too(repository):
    """The file that names the served system is changed here. Cards beyond the candidates have no score."""
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
        (["gout", "--data", "absent"], "absent/cards/manifest.json is missing"),
    ],
)
def test_search_says_what_is_wrong(repository, arguments, says):
    done = search(repository, *arguments, ok=False)
    assert done.returncode == 1 and done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("search: ") and says in line


def test_search_with_a_very_long_question(repository):
    found = hits(repository, "gout " * 1_900, "-k", "2")
    assert len(found) == 2 and "gout" in found[0]["answer"]


def test_a_search_imports_no_model_library(repository):
    code = "import sys; from medcards.__main__ import main; main(sys.argv[1:]); print(*sys.modules)"
    hits(repository, "gout")  # exports the models, if no stage did
    said = repository.run("python", "-c", code, "search", "gout").stdout.splitlines()
    assert not {"torch", "transformers", "sentence_transformers", "sklearn"} & set(said[-1].split())


def test_search_reads_a_question_per_line(repository):
    typed = "printf 'What is gout?\\n\\nasthma\\n' | python -m medcards search - -k 2"
    done = repository.run("sh", "-c", typed, ok=False)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["question"] for one in found] == ["What is gout?", "asthma"]
    assert found[0]["hits"] == hits(repository, "What is gout?", "-k", "2")
    assert done.returncode == 1 and done.stderr.splitlines() == [
        "search: line 2: the question is empty: ask something",
        "search: lines without an answer: 1 of 3",
    ]


def test_search_asks_for_questions_until_an_empty_line(repository):
    done = repository.run("sh", "-c", "printf 'gout\\nasthma\\n\\nfever\\n' | python -m medcards search -k 1")
    _, gout, asthma, end = done.stdout.split("question (an empty line ends): ")
    for question, said in (("gout", gout), ("asthma", asthma)):
        assert said.strip() == search(repository, question, "-k", "1").stdout.strip()
    assert end == "" and done.stderr == ""


def test_search_ends_quietly_when_nobody_reads(repository):
    done = repository.run("sh", "-c", "yes gout | python -m medcards search - -k 1 | head -n 1")
    assert json.loads(done.stdout)["question"] == "gout" and done.stderr == ""


def test_search_says_that_the_deck_has_no_answer(repository):
    done = search(repository, ROUTER, "-k", "2")
    assert " 2. What should" in done.stdout and NO_ANSWER.fullmatch(done.stdout.strip().splitlines()[-1])
    found = json.loads(search(repository, ROUTER, "--json").stdout)
    assert found["refused"] and found["probability"] < 0.5 and len(found["hits"]) == 5


def ask(repository, *arguments: str, ok: bool = True):
    return repository.run("python", "-m", "medcards", "ask", *arguments, ok=ok)


@contextmanager
def serving(repository, system: object) -> Iterator[None]:
    """The tiny run, with another choice of the served answer."""
    file = repository.folder / "data/scores/served_answer.json"
    before = file.read_text() if file.exists() else None
    file.unlink(missing_ok=True)  # dvc's cache may be linked to it
    write_json(file, {"system": system})
    yield
    file.unlink()
    if before is not None:
        file.write_text(before)


def test_the_best_card_is_quoted(repository):
    with serving(repository, "search_open"):
        done = ask(repository, QUESTION, "-k", "2")
        told = json.loads(ask(repository, QUESTION, "-k", "2", "--json").stdout)
    first, second = hits(repository, QUESTION, "-k", "2")
    answer, about, cited, other = done.stdout.split("\n\n")
    assert " ".join(answer.split()) == f"[1] {first['answer']}"
    sentence = ANSWERABLE.search(about)[0]
    assert about == f"-- card 1, quoted. {sentence} Not medical advice: no physician checked this."
    assert cited.startswith(f"*1. {first['question']}\n") and other.startswith(f" 2. {second['question']}\n")
    assert done.stderr == ""
    assert told == {
        "question": QUESTION,
        "text": first["answer"],
        "answered_by": "card",
        "cited": first["card_id"],
        "probability": told["probability"],
        "refused": False,
        "remark": "",
        "searched": "",
        "probability_in_words": sentence,
        "system": told["system"],
        "hits": [first, second],
    }
    assert told["probability"] == 1  # the question stands in the deck


def test_a_question_without_an_answer_in_the_deck(repository):
    """No answer is given, and the nearest cards are shown. A model answers where it is asked to."""
    said, about, *cards = ask(repository, ROUTER).stdout.split("\n\n")
    assert NO_ANSWER.fullmatch(said)
    assert about.startswith("-- no answer; these are the nearest cards. Not medical advice")
    assert [card[:4] for card in cards if not card.startswith("Searched for: ")] == [" 1. ", " 2. ", " 3. "]
    told = json.loads(ask(repository, ROUTER, "--json").stdout)
    assert told["refused"] and told["answered_by"] is None and told["cited"] is None and len(told["hits"]) == 3
    assert told["text"] == "The deck probably has no answer."
    said = ask(repository, ROUTER, "--model", "tuned").stdout
    assert not said.startswith("The deck") and "-- tuned model, citing" in said and NO_ANSWER.search(said)


def test_a_model_words_the_answer(repository):
    """The tuned model where it is served or asked for, the base model where it is asked for."""
    first = hits(repository, QUESTION)[0]["question"]
    for arguments, name in (((), "tuned"), (("--model", "base"), "base")):
        with serving(repository, "search_open" if arguments else "lora_rag_open"):
            done = ask(repository, QUESTION, "-k", "2", *arguments)
        said, about = done.stdout.split(f"\n\n-- {name} model, citing ")
        assert said.strip() and f"1. {first}" in about and "2. " in about and done.stderr == ""
    done = ask(repository, QUESTION, "--model", "base", "--read", "none")
    assert "-- base model, which read no card. " in done.stdout and "1. " not in done.stdout


def test_a_quoted_card_needs_no_language_model(repository):
    code = "import sys; from medcards.__main__ import main; main(sys.argv[1:]); print(*sys.modules)"
    with serving(repository, "search_open"):
        said = repository.run("python", "-c", code, "ask", "gout").stdout.splitlines()
    assert not {"torch", "transformers", "sentence_transformers", "sklearn"} & set(said[-1].split())


def test_asking_from_python(repository, monkeypatch):
    """The answer is the one that the stage answer would generate. The cards can be limited to training cards."""
    from medcards.answers.asker import Asker
    from medcards.deck import cards
    from medcards.llm.citations import split_citation
    from medcards.llm.generation import generate

    monkeypatch.chdir(repository.folder)
    asker, question = Asker.load("data"), "What is the first sign of gout?"
    found, table = asker.find(question, 3, read="training"), cards.load_cards("data/cards").set_index("card_id")
    assert [table.split[hit.card_id] for hit in found.hits] == ["train"] * 3
    assert asker.find(question, 3, read="none") == replace(found, hits=[])
    read = [hit.answer for hit in found.hits]
    system_prompt = read_json("data/adapter/manifest.json")["llm"]["system_prompt"]
    model, tokenizer, _ = asker.load_model()
    for name in ("tuned", "base"):
        parts = list(asker.replies(question, found, name, max_new_tokens=12))
        assert all(part.text in parts[-1].text and part.answered_by == name for part in parts)
        with model.disable_adapter() if name == "base" else nullcontext():
            (whole,) = generate(model, tokenizer, [question], system_prompt, 12, 1, context=[read], citing=True)
        assert parts[-1].text == split_citation(whole.text, len(read))[1]


def test_asking_before_there_is_an_adapter(repository):
    """The base model answers in place of the tuned one, but it is never the served answer."""
    (repository.folder / "data/adapter").rename(repository.folder / "data/later")
    remark = "There is no adapter yet: `dvc repro finetune` makes it."
    said = ask(repository, QUESTION, "--model", "tuned").stdout
    assert "-- base model, citing " in said and remark in said
    with serving(repository, "search_open"):
        assert "-- card 1, quoted." in (said := ask(repository, QUESTION).stdout) and remark not in said
    with serving(repository, "lora_rag_open"):
        assert "-- card 1, quoted." in (said := ask(repository, QUESTION).stdout) and remark in said
    (repository.folder / "data/later").rename(repository.folder / "data/adapter")


def test_an_adapter_of_another_deck_is_named(repository):
    """The adapter of the last deck is still there after the stages that search needs ran on a new deck."""
    deck = repository.folder / "data/cards/manifest.json"
    before = deck.read_text()
    repository.edit("data/cards/manifest.json", "tiny.json", "new.json")
    remark = "The adapter was tuned on another deck: `dvc repro finetune` tunes"
    said = ask(repository, QUESTION, "--model", "tuned").stdout
    assert "-- tuned model, citing " in said and remark in said
    with serving(repository, "lora_rag_open"):
        assert "-- card 1, quoted. " in (said := ask(repository, QUESTION).stdout) and remark in said
    deck.write_text(before)


def test_asking_reads_nothing_outside_its_data(repository, tmp_path):
    """With an adapter and without one, in a folder that holds neither params.yaml nor metrics/."""
    shutil.copytree(repository.folder / "data", tmp_path / "data", symlinks=False)
    model = tmp_path / "models/encoder/tiny"
    for role in ("encoder", "reranker", "llm"):  # a model of the user's own is named by its path
        shutil.copytree(repository.folder / "models" / role / "tiny", model.parents[1] / role / "tiny")
    elsewhere = Repository(tmp_path)
    for name in ("tuned", "base"):
        asked = ("python", "-m", "medcards", "ask", QUESTION)
        assert "-- card 1, quoted. " in elsewhere.run(*asked, PYTHONPATH=str(repository.folder)).stdout
        done = elsewhere.run(*asked, "--model", "tuned", PYTHONPATH=str(repository.folder))
        assert f"-- {name} model, citing" in done.stdout
        shutil.rmtree(tmp_path / "data/adapter", ignore_errors=True)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((" ",), "the question is empty"),
        (("gout", "--data", "absent"), "absent/cards/manifest.json is missing"),
        (("gout", "--read", "none"), "without a card only a model can answer"),
    ],
)
def test_asking_says_what_is_wrong(repository, arguments, says):
    done = ask(repository, *arguments, ok=False)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("ask: ") and says in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("system", ["oracle", ["search_open"]])
def test_a_damaged_choice_of_the_served_answer(repository, system):
    with serving(repository, system):
        done = ask(repository, "gout", ok=False)
    assert done.stderr == "ask: data/scores/served_answer.json is damaged: run `dvc repro -f evaluate`\n"


def test_search_refuses_a_damaged_index_and_one_of_other_vectors(repository, tmp_path):
    shutil.copytree(repository.folder / "data", tmp_path / "data", symlinks=False)
    index = tmp_path / "data/index/index.bin"
    index.chmod(0o644)
    whole = index.read_bytes()
    index.write_bytes(whole[: len(whole) // 2])
    done = search(repository, "gout", "--data", str(tmp_path / "data"), ok=False)
    assert done.returncode == 1 and "index.bin is damaged" in done.stderr.strip().splitlines()[-1]
    index.write_bytes(whole)
    (tmp_path / "data/encoder/vectors/answers-00001.npy").chmod(0o644)
    (tmp_path / "data/encoder/vectors/manifest.json").chmod(0o644)
    answers = np.load(tmp_path / "data/encoder/vectors/answers-00001.npy")
    np.save(tmp_path / "data/encoder/vectors/answers-00001.npy", answers[::-1])
    manifest = read_json(tmp_path / "data/encoder/vectors/manifest.json")
    manifest["sha256"]["answers-00001.npy"] = sha256_of(tmp_path / "data/encoder/vectors/answers-00001.npy")
    manifest["fingerprint"] = Vectors(None, answers[::-1], *[None] * 4, max_tokens=0).fingerprint
    write_json(tmp_path / "data/encoder/vectors/manifest.json", manifest)
    done = search(repository, "gout", "--data", str(tmp_path / "data"), ok=False)
    assert done.returncode == 1 and "belongs to other vectors" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_notebook_runs(repository):
    """Every cell runs, three pictures are shown, and no file of git changes."""
    import nbformat
    from nbclient import NotebookClient

    before = repository.run("git", "status", "--porcelain").stdout
    notebook = nbformat.read(repository.folder / "notebooks/tour.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": repository.folder / "notebooks"}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 3
    assert repository.run("git", "status", "--porcelain").stdout == before
