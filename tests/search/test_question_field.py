"""Search in the questions of the cards beside their answers, and answers that a search must not find."""

import numpy as np
import pandas as pd
import pytest
from search_material import random_units

from medcards.search.bm25 import Bm25
from medcards.search.exact import exact_search
from medcards.search.index import HnswIndex
from medcards.search.query_sets import QuerySet
from medcards.search.question_field import QuestionField
from medcards.search.ranked_sets import RankedSet
from medcards.search.serving import questions_help
from medcards.search.systems import WITH_QUESTIONS, Retriever, Served
from medcards.search.vectors import Vectors

CARDS = pd.DataFrame(
    {
        "card_id": ["a", "b", "lay", "none"],
        "question": ["What is gout?", "What is asthma?", "Why does my toe hurt?", "Other?"],
        "concept": ["g", "s", "g", "absent"],
    }
)
ANSWER_UNITS = np.eye(4, dtype=np.float32)[:2]
QUESTION_UNITS = np.array([[0, 0, 1, 0], [0, 0.6, 0, 0.8], [0, 0, 0, 1], [0.8, 0.6, 0, 0]], dtype=np.float32)


@pytest.fixture(scope="module")
def field() -> QuestionField:
    """Two answers, three questions that ask for them, and one that asks for no answer of the corpus."""
    names = CARDS.card_id.to_numpy(dtype=np.str_)
    vectors = Vectors(names[:2], ANSWER_UNITS, None, names, QUESTION_UNITS, None, max_tokens=8)
    return QuestionField(CARDS, CARDS[:2], vectors)


def test_an_answer_is_as_similar_as_itself_or_the_nearest_of_its_questions(field):
    asked = np.array([[0, 0, 0, 1], [0.6, 0.8, 0, 0], [0, 0, -1, 0]], dtype=np.float32)
    # The layperson question asks for the first answer. The last question of the deck asks for none.
    expected = np.array([[1, 0.8], [0.6, 0.8], [0, 0]])
    assert field.similarities(asked) == pytest.approx(expected, abs=1e-6)


def test_a_question_that_is_measured_does_not_find_itself(field):
    asked = QUESTION_UNITS[2:3]
    assert field.similarities(asked)[0, 0] == 1
    queries = QuerySet("test", "layperson", CARDS[2:3], ["why does my toe hurt"], [{"a"}])
    assert field.measured(queries, asked)[0].tolist() == pytest.approx([0, 0.8])


def test_a_search_finds_no_hidden_answer():
    vectors, asked = random_units(9, 4), random_units(12, 4)[9:]
    hidden = [{0, 4}, set(), set(range(9))]
    rows, similarities = exact_search(asked, vectors, 9, hidden)
    whole = exact_search(asked, vectors, 9)
    assert rows[0].tolist() == [row for row in whole[0][0].tolist() if row not in hidden[0]] + [-1, -1]
    assert np.isnan(similarities[0, 7:]).all() and np.isfinite(similarities[0, :7]).all()
    assert rows[1].tolist() == whole[0][1].tolist() and (rows[2] == -1).all()
    bm25 = Bm25(["gout", "gout gout", "asthma"])
    assert bm25.search(["gout", "gout", "asthma"], 3, [set(), {1}, {2}])[0][:, 0].tolist() == [1, 0, -1]
    assert bm25.search(["gout"], 3)[0].tolist() == [[1, 0, -1]]  # a search leaves no trace in the index


@pytest.mark.parametrize("system", ["hybrid", "hybrid_rerank"])
def test_ranking_with_the_similarities_of_the_answers_is_the_served_ranking(system):
    vectors, asked = random_units(40, 6), random_units(45, 6)[40:]
    texts, questions = [f"answer {number}" for number in range(40)], [f"answer {number}?" for number in range(5)]
    index = HnswIndex.build(vectors, m=16, ef_construction=100, seed=1)
    retriever = Retriever(texts, vectors, index, lambda pairs: [float(answer[-1]) for _, answer in pairs])
    weights = {"bm25_weight": 0.4, "rerank_weights": [0.5, 0.2, 0.3]}
    served = Served(system=system, candidates=8, spelling=False, questions=True, **weights)
    similarities = asked @ vectors.T
    rows = retriever.rank_with_questions(questions, similarities, served)[0]
    assert np.array_equal(rows, retriever.rank(questions, asked, served, [system])[system][0])
    hidden = [{0, 1}, {5}, set(), set(range(39)), set(range(40))]
    rows = retriever.rank_with_questions(questions, similarities, served, hidden)[0]
    assert np.array_equal(rows, retriever.rank_without(questions, asked, served, hidden)[system][0])
    assert np.isfinite(similarities).all()  # what is hidden is hidden in a copy


@pytest.mark.parametrize(
    ("name", "split", "helps"),
    [("layperson", "validation", True), ("own", "validation", False), ("layperson", "test", False)],
)
def test_validation_questions_in_other_words_choose_whether_questions_are_searched(name, split, helps):
    served = Served(
        system="hybrid", bm25_weight=0.0, rerank_weights=[1.0, 0, 0], candidates=2, spelling=False, questions=False
    )
    queries, ids = QuerySet(split, name, CARDS[:1], ["?"], [{"a"}]), np.array(["a", "b"])
    right, wrong = (np.array([[0, 1]]), None), (np.array([[1, 0]]), None)
    ranked = RankedSet(queries, {"hybrid": wrong, WITH_QUESTIONS: right}, {}, None)
    assert questions_help([ranked], served, ids) is helps
    for first in (right, wrong):  # an equal ranking is no help, and neither is a worse one
        ranked = RankedSet(queries, {"hybrid": right, WITH_QUESTIONS: first}, {}, None)
        assert questions_help([ranked], served, ids) is False
    assert questions_help([], served, ids) is False
