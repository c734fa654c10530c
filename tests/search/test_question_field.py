"""Search in the questions of the cards: their similarities, the rankings by them, and whether they are searched."""

import numpy as np
import pandas as pd
import pytest
from search_material import deck, random_units, unit

from medcards.deck.cards import corpus
from medcards.deck.relevance import answer_rows
from medcards.search.hnsw_index import HnswIndex
from medcards.search.query_sets import QuerySet
from medcards.search.question_field import ASKED_BLOCK, QuestionField
from medcards.search.ranked_sets import RankedSet, SetRanker
from medcards.search.serving import serves_questions
from medcards.search.systems import WITH_QUESTIONS, Retriever, Served
from medcards.search.vectors import Vectors

CARDS = pd.DataFrame(
    {
        "card_id": ["gout", "asthma", "toe", "toe2", "orphan"],
        "question": ["What is gout?", "What is asthma?", "Why does my toe hurt?", "WHY does my toe hurt", "What else?"],
        "concept": ["g", "s", "g", "s", "x"],
        "group": list("12345"),
        "query_set": ["own", "own", "layperson", "layperson", "layperson"],
    }
)
"""The third and the fourth card ask in equal words for two concepts. The corpus has no answer to the last one."""
GOUT_ANSWER, ASTHMA_ANSWER, GOUT, ASTHMA, TOE, ORPHAN = np.eye(6, dtype=np.float32)
"""Their vectors. Each text is orthogonal to all others, except for the toe, which is asked twice."""
IDS, TOKENS = CARDS.card_id.to_numpy(dtype=np.str_), np.ones(5, dtype=np.int32)
VECTORS = Vectors(
    IDS[:2],
    np.array([GOUT_ANSWER, ASTHMA_ANSWER]),
    TOKENS[:2],
    IDS,
    np.array([GOUT, ASTHMA, TOE, TOE, ORPHAN]),
    TOKENS,
    max_tokens=8,
)
FIELD = QuestionField(CARDS, corpus(CARDS), VECTORS)


def test_answer_rows_are_those_of_the_card_or_of_its_concept():
    assert answer_rows(CARDS, corpus(CARDS)).tolist()[:4] == [0, 1, 0, 1]
    assert answer_rows(CARDS, corpus(CARDS)).isna().tolist() == [False] * 4 + [True]
    twice = pd.concat([CARDS[:2], CARDS[:1].assign(card_id="gout2"), CARDS[2:3]])  # two own cards of one concept
    assert answer_rows(twice, corpus(twice)).tolist() == [0, 1, 2, 0]
    without = CARDS[:2].assign(concept="")  # as in a deck from a file: cards without a concept are not one concept
    assert answer_rows(without, without).tolist() == [0, 1]
    assert answer_rows(without.assign(card_id=["p", "q"]), without).isna().all()


@pytest.mark.parametrize(
    ("asked", "similarities"),
    [
        (GOUT_ANSWER, [1, 0]),
        (GOUT, [1, 0]),
        (ASTHMA, [0, 1]),
        (TOE, [1, 1]),
        (ORPHAN, [0, 0]),
        (0.6 * GOUT + 0.8 * ASTHMA_ANSWER, [0.6, 0.8]),
        (0.6 * TOE + 0.8 * ASTHMA_ANSWER, [0.6, 0.8]),
        (-GOUT_ANSWER, [0, 0]),  # the questions are nearer than the answer
    ],
)
def test_an_answer_is_as_similar_as_itself_or_a_question_that_asks_for_it(asked, similarities):
    assert FIELD.similarities(asked[None])[0] == pytest.approx(similarities)


def test_the_asked_question_is_left_out_wherever_it_stands():
    """Each card leaves out the questions in its words only."""
    asked = np.array([TOE, TOE, GOUT, GOUT])
    left_out = ["toe", "gout", "gout", "asthma"]
    assert FIELD.similarities(asked, left_out).tolist() == [[0, 0], [1, 1], [0, 0], [1, 0]]
    layperson = CARDS[2:4]
    queries = QuerySet("validation", "layperson", layperson, layperson.question.tolist(), [{"gout"}, {"asthma"}])
    assert FIELD.measured(queries, np.array([TOE, TOE])).tolist() == [[0, 0], [0, 0]]
    # What is left out is the text of the card, however its spelling was corrected.
    corrected = QuerySet("validation", "layperson", layperson, ["Why does my tooth hurt?"] * 2, queries.relevant)
    assert FIELD.measured(corrected, np.array([TOE, TOE])).tolist() == [[0, 0], [0, 0]]


def test_questions_in_other_forms_of_the_asked_words_are_left_out():
    """Singular and plural, another order, and the template of the questions make no other question."""
    asked = ["What does 'swollen joint' mean?", "Define swollen joints.", "Joints, swollen: describe", "Define joints."]
    template = [f"{start} {word}." for start in ("What does mean", "Define", "describe") for word in WORDS]
    cards = pd.DataFrame({"question": asked + template}).assign(concept="", query_set="own")
    cards["card_id"] = [str(number) for number in range(len(cards))]
    ids, tokens = cards.card_id.to_numpy(dtype=np.str_), np.ones(len(cards), dtype=np.int32)
    units = np.eye(2 * len(cards), dtype=np.float32)
    field = QuestionField(cards, cards, Vectors(ids, units[: len(cards)], tokens, ids, units[len(cards) :], tokens, 8))
    found = field.similarities(units[len(cards) : len(cards) + 4], ["0"] * 4)
    assert found.diagonal().tolist() == [0, 0, 0, 1]


ENDS = ("um", "ax", "ole", "ix", "ed")
WORDS = [f"{start}{end}" for start in ("gout", "ache", "cyst", "itch", "rash") for end in ENDS]
"""25 words, so that a word of 25 questions belongs to their template."""


def test_an_answer_whose_questions_are_all_left_out_keeps_its_own_similarity():
    asked = unit(np.array([-GOUT_ANSWER + 0.5 * ASTHMA_ANSWER]))
    alone = CARDS[:2]
    field = QuestionField(alone, alone, Vectors(IDS[:2], VECTORS.answers, TOKENS, IDS, VECTORS.questions, TOKENS, 8))
    found = field.similarities(asked, ["gout"])
    assert found[0] == pytest.approx([asked[0, 0], asked[0, 1]])


def random_deck() -> tuple[pd.DataFrame, Vectors]:
    """60 cards, of which two are layperson questions, with random vectors."""
    cards = deck()
    units, ids, tokens = random_units(118, 6), cards.card_id.to_numpy(dtype=np.str_), np.ones(60, dtype=np.int32)
    return cards, Vectors(ids[:58], units[:58], tokens[:58], ids, units[58:], tokens, 8)


def test_similarities_are_the_largest_of_the_answer_and_of_its_questions():
    """For more questions than a block has, compared with one maximum per answer. None is below that of the answer."""
    cards, vectors = random_deck()
    cards = cards.sample(frac=1, random_state=0)
    asked = unit(np.random.default_rng(1).normal(size=(ASKED_BLOCK + 6, 6)))
    found = QuestionField(cards, corpus(deck()), vectors).similarities(asked)
    alone = asked @ vectors.answers.T
    expected = np.maximum(alone, asked @ vectors.questions[:58].T)
    for layperson, answer in ((58, 0), (59, 1)):
        expected[:, answer] = np.maximum(expected[:, answer], asked @ vectors.questions[layperson])
    assert found == pytest.approx(expected, abs=1e-6) and (found >= alone).all() and (found > alone).any()


WEIGHTS = {"bm25_weight": 0.3, "rerank_weights": [0.5, 0.2, 0.3], "spelling": False, "questions": False}
SERVED = [Served(system=system, candidates=5, **WEIGHTS) for system in ("hybrid", "hybrid_rerank")]


def retriever_of(cards: pd.DataFrame, vectors: Vectors) -> Retriever:
    """A search over the deck, whose cross-encoder scores an answer by its letters."""
    index = HnswIndex.build(vectors.answers, m=16, ef_construction=100, seed=1)

    def scorer(pairs):
        return [float(sum(map(ord, answer)) % 7) for _, answer in pairs]

    return Retriever(corpus(cards).answer.tolist(), vectors.answers, index, scorer)


@pytest.mark.parametrize("served", SERVED, ids=["hybrid", "hybrid_rerank"])
def test_the_answers_own_similarities_give_the_ranking_of_the_served_system(served):
    cards, vectors = random_deck()
    retriever, asked, texts = retriever_of(cards, vectors), random_units(12, 6), cards.question[:12].tolist()
    similarities = asked @ vectors.answers.T
    before = similarities.copy()
    found = retriever.rank_with_questions(texts, similarities, served)
    assert set(found) - {WITH_QUESTIONS} == ({"cross_encoder"} if served.system == "hybrid_rerank" else set())
    rows, scores = found[WITH_QUESTIONS]
    expected, expected_scores = retriever.rank(texts, asked, served, [served.system])[served.system]
    assert rows.tolist() == expected.tolist() and scores == pytest.approx(expected_scores, abs=1e-5, nan_ok=True)
    assert (similarities == before).all()


def test_a_deck_with_fewer_answers_than_a_ranking_is_ranked_with_questions():
    retriever = Retriever(["gout", "asthma"], VECTORS.answers, HnswIndex.build(VECTORS.answers, 8, 50, seed=1))
    served = SERVED[0].model_copy(update={"bm25_weight": 0.0})
    similarities = np.array([[0.2, 0.2]], dtype=np.float32)
    rows, scores = retriever.rank_with_questions(["toe?"], similarities, served)[WITH_QUESTIONS]
    assert rows[0, :3].tolist() == [0, 1, -1]  # of equal similarities the first answer comes first
    assert scores[0, 0] > scores[0, 1] and np.isnan(scores[0, 2])


@pytest.mark.parametrize("served", SERVED, ids=["hybrid", "hybrid_rerank"])
@pytest.mark.parametrize("name", ["own", "typos", "layperson"])
def test_questions_in_other_words_search_the_questions_of_the_cards_too(served, name):
    """Two layperson questions find the first answer, each by the other one. A third one leaves itself out."""
    cards, vectors = random_deck()
    cards.loc[59, "concept"] = "t0"  # as that of the card before it, and of the first one
    vectors.questions[59] = vectors.questions[58]
    asking, asked, retriever = cards[57:].assign(group="g"), vectors.questions[57:], retriever_of(cards, vectors)
    queries = QuerySet("validation", name, asking, asking.question.tolist(), [{"c57"}, {"c0"}, {"c0"}])
    field = QuestionField(cards, corpus(cards), vectors)
    ranked = SetRanker(cards, corpus(cards), vectors, None, retriever, served, None).rank(queries)
    searched = {WITH_QUESTIONS} if name == "layperson" else set()
    assert set(ranked.found) & {WITH_QUESTIONS} == searched and "cross_encoder" not in ranked.found
    if searched:
        similarities = field.measured(queries, asked)
        assert similarities[0, 57] < 0.9 and similarities[1:, 0] == pytest.approx([1, 1])
        expected, _ = retriever.rank_with_questions(queries.questions, similarities, served)[WITH_QUESTIONS]
        assert ranked.found[WITH_QUESTIONS][0].tolist() == expected.tolist()
        assert ranked.found[served.system][0].tolist() != expected.tolist()


@pytest.mark.parametrize("served", SERVED, ids=["hybrid", "hybrid_rerank"])
def test_a_deck_without_a_topic_has_less_similar_answers_than_the_other_decks(served):
    """A tenth of 58 answers are 6. The evidence of the cards' questions does not change it."""
    cards, vectors = random_deck()
    asking, retriever = cards[:12].assign(group="g"), retriever_of(cards, vectors)
    queries = QuerySet("validation", "layperson", asking, asking.question.tolist(), [{one} for one in asking.card_id])
    asked = unit(vectors.answers[:12] + 0.1 * vectors.questions[:12])  # near to the right answer
    vectors.questions[:12] = asked
    table = SetRanker(cards, corpus(cards), vectors, None, retriever, served, None).rank(queries).evidence
    whole, hidden, off_topic = (
        table.similarity[table.deck == deck].to_numpy() for deck in ("whole", "hidden", "off_topic")
    )
    assert (whole > hidden).all() and (hidden >= off_topic).all() and (hidden > off_topic).mean() > 0.5
    nearest = -np.sort(-asked @ vectors.answers.T, axis=1)
    assert whole == pytest.approx(nearest[:, 0], abs=1e-6) and hidden == pytest.approx(nearest[:, 1], abs=1e-6)


RIGHT, WRONG = [0, 1], [1, 0]
"""Rankings of two answers, of which the first one is relevant. Their reciprocal ranks are 1 and 1/2."""


def ranked_as(plain: list, with_questions: list, split: str = "validation", name: str = "layperson") -> RankedSet:
    """A query set with the rankings of each question."""
    ids = [f"{name}{number}" for number in range(len(plain))]
    cards = pd.DataFrame({"card_id": ids, "group": ids})
    queries = QuerySet(split, name, cards, ["?"] * len(plain), [{"gout"}] * len(plain))
    found = {"hybrid": plain, WITH_QUESTIONS: with_questions}
    return RankedSet(queries, {system: (np.array(rows), None) for system, rows in found.items()}, pd.DataFrame())


@pytest.mark.parametrize(
    ("sets", "served"),
    [
        ([], False),
        ([ranked_as([WRONG], [RIGHT])], True),
        ([ranked_as([RIGHT], [WRONG])], False),
        ([ranked_as([WRONG, RIGHT], [RIGHT, WRONG])], True),  # equal
        ([ranked_as([RIGHT] * 9 + [WRONG], [WRONG] * 9 + [RIGHT])], False),
        ([ranked_as([WRONG, RIGHT, WRONG], [RIGHT, WRONG, RIGHT])], True),
        ([ranked_as([WRONG], [RIGHT], split="test")], False),
        ([ranked_as([RIGHT], [WRONG], split="test"), ranked_as([WRONG], [RIGHT])], True),
        ([ranked_as([WRONG], [RIGHT], name="own")], False),
        ([ranked_as([WRONG], [RIGHT], name="typos")], False),
        ([ranked_as([WRONG], [RIGHT]), ranked_as([RIGHT, RIGHT], [WRONG, WRONG], name="short")], True),  # within chance
    ],
)
def test_questions_are_searched_unless_validation_questions_in_other_words_are_ranked_worse(sets, served):
    assert serves_questions(sets, SERVED[0], VECTORS.answer_ids, seed=0) == served
