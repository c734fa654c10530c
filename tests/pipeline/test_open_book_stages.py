"""The stages from the deck to the open-book scores, in this process, on tiny material without an adapter."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, Repository

from medcards import InputError
from medcards.answers.asker import NO_ANSWER
from medcards.deck import cards as card_tables
from medcards.search.answerability import Answerability
from tools import everyday

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


def test_rankings_are_those_of_the_systems(answered):
    for name in SETS:
        ranked = pd.read_parquet(answered.folder / f"data/rankings/validation-{name}.parquet")
        assert set(ranked.query_set) == {name} and "cross_encoder" not in set(ranked.system)


def test_answerability_is_written_with_its_figures(answered):
    folder = answered.folder / "data/rankings"
    model, asked = Answerability.load(folder), pd.read_parquet(folder / "answerability.parquet")
    assert set(asked.query_set) == SETS and set(asked.split) == {"validation"}
    # 12 validation cards. Own questions are also asked of a deck without their topic.
    assert asked.groupby("deck").size().to_dict() == {"whole": 48, "hidden": 48, "off_topic": 12}
    assert set(asked.query_set[asked.deck == "off_topic"]) == {"own"}
    assert (asked.answerable == (asked.deck == "whole")).all()
    read = [name for name in model.features if name != "shortfall"]  # which follows from the similarity
    assert asked.probability.between(0, 1).all() and np.isfinite(asked[read].to_numpy()).all()
    # The probabilities of validation questions are not those of the model that they fitted.
    assert not np.allclose(asked.probability, model.probabilities(asked), atol=1e-6)
    figures = answered.figures("rerank_eval", "answerability")
    assert set(figures) == {"model", "validation"} and set(figures["validation"]) == SETS
    assert [name for name, of_set in figures["validation"].items() if "off_topic_refusals" in of_set] == ["own"]
    assert figures["model"]["refuse_below"] == pytest.approx(model.refuse_below, rel=1e-5)
    for name in ("risk_coverage", "reliability"):
        curve = pd.read_csv(answered.folder / f"data/figures/rerank_eval/{name}.csv")
        assert set(curve.query_set) == SETS and ((curve.lo <= curve.hi) & curve["mean"].between(0, 1)).all()


def test_open_book_answers_are_scored(answered):
    rows = pd.read_parquet(answered.folder / "data/answers/open_book.parquet")
    scores = pd.read_parquet(answered.folder / "data/scores/open_book.parquet")
    assert len(rows) == len(scores) == 2 * 4 * len(SYSTEMS)  # query sets, questions
    summary = answered.figures("evaluate", "open_book")
    assert set(summary) == {"own", "typos"}
    for of_set in summary.values():
        assert set(of_set) == SYSTEMS | {"differences"}
        quoted = of_set["search_open"]
        assert quoted["grounding"]["mean"] == 1 and quoted["sound_f1"]["n"] == 4
        assert of_set["differences"] == {}  # the tuned model was not asked
    served = json.loads((answered.folder / "data/scores/served_answer.json").read_text())
    assert served == {"system": "search_open", "difference": None}


def test_everyday_questions_are_right_where_the_expected_card_is_cited_or_none_is(answered, monkeypatch):
    """The threshold is 0, so that every question gets a card, then 1, so that none does."""
    data = answered.folder / "data"
    cards = card_tables.load_cards(data / "cards")
    monkeypatch.setattr(card_tables, "load_cards", lambda folder: cards.assign(concept="HP:" + cards.card_id))
    asked = "And " + cards[cards.split == "validation"].iloc[0].question  # a question of the deck is never refused
    questions = pd.DataFrame({"question": asked, "concepts": ["", "HP:0000001"], "names": ["", "Gout"]})
    file = data / "rankings/answerability.json"
    model = json.loads(file.read_text())

    def answers(refuse_below: float) -> pd.DataFrame:
        file.unlink()  # dvc's cache may be linked to it
        file.write_text(json.dumps(model | {"refuse_below": refuse_below}))
        return everyday.answered(questions, data)

    given = answers(0.0)
    assert given.right.tolist() == ["**no**", "**no**"] and given.expected.tolist() == ["none", "Gout"]
    assert given.question.tolist() == [asked] * 2
    assert set(given.answer) <= set(cards.answer) and set(given["cited card"]) <= set(cards.question)
    cited = cards.card_id[cards.question == given["cited card"][0]].item()
    questions["concepts"] = ["", f"HP:0000002 HP:{cited}"]
    assert answers(0.0).right.tolist() == ["**no**", "yes"]
    refused = answers(1.0)
    assert refused.right.tolist() == ["yes", "**no**"] and refused["cited card"].tolist() == ["-", "-"]
    assert set(refused.answer) == {NO_ANSWER} and refused.probability.tolist() == given.probability.tolist()
    answers(model["refuse_below"])


def test_a_card_without_a_concept_is_never_right():
    """Also where no card is expected."""
    assert not everyday.is_right("", set()) and not everyday.is_right("", {"HP:0000001"})
    assert everyday.is_right(None, set()) and not everyday.is_right(None, {"HP:0000001"})


def test_everyday_questions_need_a_deck_with_concepts(monkeypatch, tmp_path):
    cards = pd.DataFrame({"card_id": ["ab12"], "concept": [""]})
    monkeypatch.setattr(card_tables, "load_cards", lambda folder: cards)
    with pytest.raises(InputError, match="have no concepts"):
        everyday.answered(pd.DataFrame(), tmp_path)


def test_everyday_questions_are_well_formed():
    """The file has the names of the expected concepts in the same order, so there are as many."""
    questions = pd.read_csv(ROOT / everyday.QUESTIONS, keep_default_na=False)
    assert list(questions) == ["question", "concepts", "names"] and len(questions) == 23
    assert questions.question.str.strip().str.casefold().nunique() == 23 and (questions.question != "").all()
    for row in questions.itertuples():
        concepts, names = row.concepts.split(), [name for name in row.names.split("; ") if name]
        assert all(re.fullmatch(r"HP:\d{7}", concept) for concept in concepts)
        assert len(concepts) == len(set(concepts)) == len(names) == len(set(names))
    assert (questions.concepts == "").sum() == 6


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
