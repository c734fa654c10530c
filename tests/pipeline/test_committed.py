"""The committed outputs belong to the committed code: dvc.lock agrees, and cheap figures are computed again."""

import json

import pytest
from conftest import Repository
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow

CLAIMED = ("index", "cost/index", "retrieval")
BM25 = """
from medcards.base.files import to_json
from medcards.base.params import Seed
from medcards.base.stats import Bootstrap
from medcards.deck import cards
from medcards.search.evaluation import RerankEvalParams, score_ranking
from medcards.search.query_sets import query_sets
from medcards.search.bm25 import Bm25
from medcards.search.spelling import Spelling
from stages import load_params

seed, params = load_params(seed=Seed, rerank_eval=RerankEvalParams)
table = cards.load_cards("data/cards")
answers = cards.corpus(table)
bm25, found, spelling = Bm25(answers.answer.tolist()), {}, Spelling([*table.question, *table.answer])
for split, count in (("validation", params.validation_queries), ("test", params.test_queries)):
    for queries in query_sets(table, answers, split, count, seed):
        rows, _ = bm25.search(queries.spelled(spelling).questions)
        scores = score_ranking(rows, queries.relevant, answers.card_id.to_numpy())
        bootstrap = Bootstrap(queries.cards.group, seed)
        found[f"{split} {queries.name}"] = {name: bootstrap.interval(scores[name]) for name in scores}
print(to_json(found))
"""

AUDIT = """
from medcards.base.files import to_json
from medcards.base.params import Seed
from medcards.deck import cards
from medcards.deck.leakage import character_vectors, leaked_shares, similarity_to_training
from stages import load_params

(seed,) = load_params(seed=Seed)
table = cards.load_cards("data/cards")
similarities, _ = similarity_to_training(table, {"characters": character_vectors(table.question)}, seed)
print(to_json(leaked_shares(table, similarities, seed)))
"""

CARD = """
from pathlib import Path
from medcards.report.dataset_card import dataset_card
from medcards.report.results import read_published

print(dataset_card(read_published(Path("metrics"))), end="")
"""


@pytest.fixture(scope="module")
def head(tmp_path_factory) -> Repository:
    return Repository.of_head(tmp_path_factory.mktemp("head"))


def test_dvc_lock_is_up_to_date(head):
    assert "up to date" in head.run("dvc", "repro", "--dry", "--allow-missing").stdout


def test_final_is_of_the_committed_run(head):
    """Its models, index and adapter are those of dvc.lock. Only what reads answer.split differs."""
    here, there = (YAML(typ="safe").load(head.folder / file)["stages"] for file in ("dvc.lock", "final/run.lock"))
    asked = {"rerank_eval", "answer", "quantise_eval", "evaluate", "report"}
    assert {name for name in here if here[name] != there[name]} == asked
    final = Repository(head.folder / "final")
    for name in set(here) - asked - {"models"}:
        assert final.metrics(name) == head.metrics(name)
    for name in ("retrieval", "qa", "answer"):
        assert (head.metrics(name)["split"], final.metrics(name)["split"]) == ("validation", "test")
    ours, theirs = head.metrics("retrieval"), final.metrics("retrieval")
    assert ours["served"] == theirs["served"] and set(theirs["validation"]) == {"own", "layperson"}
    assert all(ours["validation"][name] == measured for name, measured in theirs["validation"].items())


def test_readme_shows_the_committed_final_metrics(head):
    """A fresh clone has no data/."""
    head.run("python", "-m", "tools.readme")
    assert head.run("git", "status", "--porcelain", "README.md").stdout == ""


def test_dataset_card_shows_the_committed_metrics(head):
    assert head.run("python", "-c", CARD).stdout == (head.folder / "docs/DATASET_CARD.md").read_text()


def test_report_and_summary_show_the_committed_metrics(head):
    """What only the committed metrics need: the summary, and the headline figures in the text."""
    shown = "from pathlib import Path; from medcards.base.files import to_json; from medcards.report.results import *; "
    shown += "print(to_json(summarise_run(read_published(Path('metrics')))), end='')"
    assert head.run("python", "-c", shown).stdout == (head.folder / "metrics/summary.json").read_text()
    page, prepared = (head.folder / "REPORT.md").read_text(), head.metrics("prepare")
    assert f"{prepared['cards']:,} cards in {prepared['groups']['count']:,} groups" in page
    for system, measures in head.metrics("retrieval")["validation"]["own"].items():
        if system != "differences":
            figure = measures["mrr@10"]
            assert f"{figure['mean']:.3f} [{figure['lo']:.3f}, {figure['hi']:.3f}]" in page


def test_prepare_gives_the_committed_metrics(head):
    head.run("python", "-m", "stages.prepare")
    assert head.figures("prepare") == head.metrics("prepare")


def test_audit_by_characters_gives_the_committed_metrics(head):
    """It needs only the cards that prepare has just made; the audit by the bi-encoder would take minutes."""
    committed = head.metrics("audit")
    found = json.loads(head.run("python", "-c", AUDIT).stdout)
    for split in ("group", "random"):
        assert found[split]["characters"] == committed[split]["questions"]["characters"]


def test_bm25_gives_the_committed_metrics(head):
    committed = Repository(head.folder / "final").metrics("retrieval")
    found = json.loads(head.run("python", "-c", BM25).stdout)
    for split, sets in (("validation", 2), ("test", 5)):  # perturbed validation questions are not among them
        assert len(committed[split]) == sets
        for query_set, systems in committed[split].items():
            assert found[f"{split} {query_set}"] == systems["bm25"]


def test_claims_about_search_hold_in_the_committed_metrics(head):
    """HNSW loses at most a hundredth and is five times as fast; the served system beats the best baseline."""
    index, cost, retrieval = (Repository(head.folder / "final").metrics(name) for name in CLAIMED)
    assert index["served"]["recall@10"]["mean"] >= 0.99
    assert cost["ratios"]["hnsw_to_exact"] >= 5
    own, served = retrieval["test"]["own"], retrieval["served"]["system"]
    strongest = max(("bm25", "dense_before", "hybrid_before"), key=lambda name: own[name]["mrr@10"]["mean"])
    assert own["bm25"]["mrr@10"]["n"] >= 500
    assert served == "hybrid" or own["differences"][f"{served}-{strongest}"]["mrr@10"]["lo"] > 0
