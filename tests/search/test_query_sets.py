"""Query sets and perturbed questions."""

import numpy as np
import pytest
from search_material import deck, random_units

from medcards.search.perturbations import PERTURBATIONS, perturb
from medcards.search.query_sets import QuerySet, query_sets
from medcards.search.spelling import Spelling
from medcards.search.vectors import Vectors


def test_lower_case():
    assert perturb("lower_case", "What is X-linked Gout (2nd)?", 0) == "what is x linked gout 2nd"
    assert perturb("lower_case", "?!", 0) == "?!"


def test_typos_change_longer_words_only():
    question = "What is the cause of hyperparathyroidism in an old man?"
    typed = perturb("typos", question, 0)
    assert typed != question and typed == perturb("typos", question, 0) != perturb("typos", question, 1)
    pairs = list(zip(question.split(), typed.split(), strict=True))
    changed = [before for before, after in pairs if before != after]
    assert 1 <= len(changed) <= 2 and set(changed) <= {"cause", "hyperparathyroidism"}
    assert all(abs(len(before) - len(after)) <= 1 for before, after in pairs)
    # Stop words get a typo only where there is no other long word.
    assert perturb("typos", "What is gout?", 0).startswith("What is ")
    assert perturb("typos", "What is it?", 0).endswith(" is it?")


def test_word_drops_leave_a_content_word():
    for seed in range(30):
        words = perturb("word_drops", "What is renal cyst of the left kidney?", seed).split()
        assert len(words) == 7  # 30% of renal, cyst, left, kidney are one
        assert words[:2] == ["What", "is"]
        words = perturb("word_drops", "What is gout?", seed).split()
        assert len(words) == 2 and "gout?" in words


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("question", ["", "?", "a", "aa aaaa", "什么是痛风?", "12345 67890", "x" * 10_000])
def test_no_question_breaks_a_perturbation(name, question):
    assert isinstance(perturb(name, question, 3), str)


def test_query_sets():
    cards = deck()
    answers = cards[cards.query_set == "own"].reset_index(drop=True)
    sets = {queries.name: queries for queries in query_sets(cards, answers, "train", 5, seed=0)}
    assert list(sets) == ["own", "layperson", *PERTURBATIONS]
    assert [len(queries.questions) for queries in sets.values()] == [5, 2, 5, 5, 5]
    assert sets["layperson"].relevant == [{"c0"}, {"c1"}]  # the cards of their concepts
    # A perturbed question has another text than its question, and the same relevant answers.
    assert sets["typos"].relevant == sets["own"].relevant == [{name} for name in sets["own"].cards.card_id]
    assert sets["typos"].questions != sets["own"].questions == sets["own"].cards.question.tolist()
    assert [queries.name for queries in query_sets(cards, answers, "test", 5, seed=0)] == ["own", *PERTURBATIONS]


def test_joined_query_sets_keep_each_question_with_its_answers():
    cards = deck()
    answers = cards[cards.query_set == "own"].reset_index(drop=True)
    own, layperson, *_ = query_sets(cards, answers, "train", 3, seed=0)
    joined = QuerySet.joined([own, layperson])
    assert joined.questions == joined.cards.question.tolist() == own.questions + layperson.questions
    assert joined.relevant == own.relevant + [{"c0"}, {"c1"}]
    assert joined.split == "train" and not joined.perturbed


def test_spelled_questions_differ_in_their_misspelt_words_only():
    cards = deck()[:2]
    typed = ["What should a nurse know about astma, case 0?", cards.question[1]]
    queries = QuerySet("train", "typos", cards, typed, [{"c0"}, {"c1"}])
    spelled = queries.spelled(Spelling(cards.answer))
    assert spelled.questions == cards.question.tolist()
    assert queries.questions == typed  # the query set itself is unchanged
    assert (spelled.split, spelled.name, spelled.relevant) == ("train", "typos", queries.relevant)
    assert spelled.cards is cards and spelled.perturbed


@pytest.mark.parametrize("changed", [[], [1], [0, 2], [0, 1, 2]])
def test_only_questions_that_differ_from_those_of_their_cards_are_encoded(changed):
    cards, units = deck()[:3], random_units(3, 4)
    known = Vectors(None, None, None, np.array(["c2", "c1", "c0"]), units, None, max_tokens=8)
    questions = [f"changed {place}" if place in changed else text for place, text in enumerate(cards.question)]
    encoded = []

    def encoder(texts: list[str]) -> np.ndarray:
        encoded.extend(texts)
        return np.full((len(texts), 4), 0.5, dtype=np.float32)

    found = QuerySet("train", "own", cards, questions, []).vectors(known, encoder)
    assert encoded == [f"changed {place}" for place in changed]
    for place in range(3):
        assert found[place].tolist() == ([0.5] * 4 if place in changed else units[2 - place].tolist())
    assert np.array_equal(known.questions, random_units(3, 4))  # the vectors of the cards are unchanged


def test_a_query_set_without_questions_has_no_vectors():
    known = Vectors(None, None, None, np.array(["c0"]), random_units(1, 4), None, max_tokens=8)
    empty = QuerySet("train", "own", deck()[:0], [], [])
    assert empty.spelled(Spelling([])).vectors(known, None).shape == (0, 4)


def test_the_topic_of_a_question_is_the_tenth_of_the_answers_that_is_nearest_to_a_relevant_one():
    """20 answers on a circle: two of them are a tenth. The degrees are those of each answer."""
    degrees = np.array([0, 1, 3, *range(100, 117)])
    radians = np.radians(degrees)
    units = np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)
    ids, tokens = np.array([f"c{number}" for number in range(20)]), np.ones(20, dtype=np.int32)
    vectors = Vectors(ids, units, tokens, ids, units, tokens, max_tokens=8)
    cards = deck()[:4]
    relevant = [{"c0"}, {"c2"}, {"c0", "c2"}, {"c0", "c3", "c19"}]
    queries = QuerySet("train", "own", cards, cards.question.tolist(), relevant)
    # A relevant answer is nearest to itself. The last two questions have as many relevant answers as a tenth, or more.
    assert queries.topic_rows(vectors) == [{0, 1}, {1, 2}, {0, 2}, {0, 3, 19}]


def test_the_topic_in_a_tiny_deck_is_one_answer():
    units, ids, tokens = random_units(3, 4), np.array(["c0", "c1", "c2"]), np.ones(3, dtype=np.int32)
    cards = deck()[:3]
    queries = QuerySet("train", "own", cards, cards.question.tolist(), [{name} for name in ids])
    assert queries.topic_rows(Vectors(ids, units, tokens, ids, units, tokens, 8)) == [{0}, {1}, {2}]
