"""The stages from the deck to the open-book scores, in this process, on tiny material without an adapter."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import Repository

from medcards.search.answerability import Answerability

STAGES = ("models", "prepare", "embed", "adapt", "index", "rerank_train", "rerank_eval", "answer", "quantise_eval")
SYSTEMS = {"search_open", "base_rag_open"}
SETS = {"own", "typos", "word_drops", "lower_case"}


@pytest.fixture(scope="module")
def answered(repository) -> Repository:
    repository.set_params(
        adapt__enabled=False,
        reranker__model="path:models/reranker/tiny",
        answer__systems=["echo", *sorted(SYSTEMS)],
        answer__open_book_sets=["own", "typos"],
    )
    for stage in (*STAGES, "evaluate"):
        repository.run_here(stage)
    return repository


def test_rankings_without_the_relevant_answers_are_kept(answered):
    ranked = pd.read_parquet(answered.folder / "data/rankings/rankings.parquet")
    served = json.loads((answered.folder / "data/rankings/served.json").read_text())["system"]
    assert set(ranked.system[ranked.hidden]) == {served} and set(ranked.query_set[ranked.hidden]) == SETS
    assert "cross_encoder" not in set(ranked.system)
    hidden = ranked[ranked.hidden]
    assert not (hidden["query"] == hidden.answer).any()  # each card has a concept of its own


def test_answerability_is_written_with_its_figures(answered):
    folder = answered.folder / "data/rankings"
    model, asked = Answerability.load(folder), pd.read_parquet(folder / "answerability.parquet")
    assert set(asked.query_set) == SETS and set(asked.split) == {"validation"}
    decks = asked.groupby("deck").size().to_dict()
    assert decks == {"whole": 48, "hidden": 48, "off_topic": 12}  # 12 validation cards; perturbed ones keep the topic
    assert (asked.answerable == (asked.deck == "whole")).all()
    evident = asked[[name for name in model.features if name != "shortfall"]]
    assert asked.probability.between(0, 1).all() and np.isfinite(evident.to_numpy()).all()
    # The probabilities of validation questions are not those of the model that they fitted.
    assert not np.allclose(asked.probability, model.probabilities(asked), atol=1e-6)
    figures = answered.figures("rerank_eval", "answerability")
    assert set(figures) == {"model", "validation"} and set(figures["validation"]) == SETS
    assert figures["model"]["refuse_below"] == pytest.approx(model.refuse_below, rel=1e-5)
    for name in ("risk_coverage", "reliability"):
        curve = pd.read_csv(answered.folder / f"data/figures/rerank_eval/{name}.csv")
        assert set(curve.query_set) == SETS and ((curve.lo <= curve.hi) & curve["mean"].between(0, 1)).all()


def test_open_book_answers_are_scored(answered):
    rows = pd.read_parquet(answered.folder / "data/answers/open_book.parquet")
    scores = pd.read_parquet(answered.folder / "data/scores/open_book.parquet")
    assert len(rows) == len(scores) == 2 * 2 * 4 * len(SYSTEMS)  # query sets, ways to ask, questions
    assert not scores.cites_relevant[scores.hidden].any()
    summary = answered.figures("evaluate", "open_book")
    assert set(summary) == {"own", "typos"}
    for of_set in summary.values():
        assert set(of_set["whole"]) == set(of_set["hidden"]) == SYSTEMS
        quoted = of_set["whole"]["search_open"]
        assert quoted["grounding"]["mean"] == 1 and quoted["sound_f1"]["n"] == 4
        assert of_set["differences"] == {}  # the tuned model was not asked
    served = json.loads((answered.folder / "data/scores/served_answer.json").read_text())
    assert served == {"system": "search_open", "difference": None}


def test_answers_without_an_open_book_system_are_scored_too(answered):
    """The table of open-book answers is empty."""
    answered.set_params(answer__systems=["echo"], answer__open_book_sets=[])
    for stage in ("answer", "evaluate"):
        answered.run_here(stage)
    assert len(pd.read_parquet(answered.folder / "data/scores/open_book.parquet")) == 0
    assert answered.figures("evaluate", "open_book") == {}


def test_a_query_set_that_the_deck_lacks_is_refused(answered):
    answered.set_params(answer__systems=["search_open"], answer__open_book_sets=["layperson"])
    with pytest.raises(SystemExit, match="^answer: answer.open_book_sets: no query set is layperson; "):
        answered.run_here("answer")
