"""What is committed comes from a run of this very tree: dvc.lock agrees, and what is cheap is computed anew."""

import json

import pytest
from conftest import Repository

pytestmark = pytest.mark.slow

BM25 = """
from medcards import cards
from medcards.cards import corpus, relevant_answers
from medcards.files import to_json
from medcards.params import Seed
from medcards.retrieval import Bm25
from medcards.retrieval_eval import RerankEvalParams, score_ranking
from medcards.stats import Bootstrap
from stages import load_params
from stages.rerank_eval import question_sets

seed, params = load_params(seed=Seed, rerank_eval=RerankEvalParams)
table = cards.load("data/cards")
answers = corpus(table)
bm25, found = Bm25(answers.answer.tolist()), {}
for split, count in (("test", params.test_queries), ("validation", params.validation_queries)):
    for query_set, queries in question_sets(table, split, count, seed).items():
        rows, _ = bm25.search(queries.question.tolist())
        scores = score_ranking(rows, relevant_answers(queries, answers), answers.card_id.to_numpy())
        bootstrap = Bootstrap(queries.group, seed)
        found[f"{split} {query_set}"] = {name: bootstrap.interval(scores[name]) for name in scores}
print(to_json(found))
"""

AUDIT = """
from medcards import cards
from medcards.files import to_json
from medcards.leakage import character_vectors
from medcards.params import Seed
from stages import load_params
from stages.audit import attack, leaked

(seed,) = load_params(seed=Seed)
table = cards.load("data/cards")
similarities, _ = attack(table, {"characters": character_vectors(table.question)}, seed)
print(to_json(leaked(table, similarities, seed)))
"""


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> Repository:
    return Repository.of_head(tmp_path_factory.mktemp("head"))


def test_nothing_to_do(head):
    assert "up to date" in head.run("dvc", "repro", "--dry", "--allow-missing").stdout


def test_readme_shows_the_committed_metrics(head):
    head.run("python", "-m", "stages.report", "--readme")
    assert head.run("git", "status", "--porcelain", "README.md").stdout == ""


def test_the_dataset_card_shows_the_committed_metrics(head):
    shown = "from stages.report import *; print(dataset_card(read_metrics()), end='')"
    assert head.run("python", "-c", shown).stdout == (head.folder / "docs/DATASET_CARD.md").read_text()


def test_prepare_gives_the_committed_metrics(head):
    head.run("python", "-m", "stages.prepare")
    assert head.run("git", "status", "--porcelain", "metrics/prepare.json").stdout == ""


def test_the_audit_by_characters_gives_the_committed_metrics(head):
    """The bi-encoder's half would take minutes; this half needs only the cards that prepare has just made."""
    committed = json.loads((head.folder / "metrics/audit.json").read_text())
    found = json.loads(head.run("python", "-c", AUDIT).stdout)
    for method in ("group", "random"):
        assert found[method]["characters"] == committed[method]["questions"]["characters"]


def test_bm25_gives_the_committed_metrics(head):
    committed = json.loads((head.folder / "metrics/retrieval.json").read_text())
    found = json.loads(head.run("python", "-c", BM25).stdout)
    assert len(found) == 10
    for name, scores in found.items():
        split, query_set = name.split()
        assert scores == committed[split][query_set]["bm25"]
