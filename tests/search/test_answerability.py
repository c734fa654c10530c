"""Whether the deck has an answer: the evidence, hidden answers, and the fitted model."""

import json
from math import log

import numpy as np
import pandas as pd
import pytest
from search_material import unit
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from medcards import InputError
from medcards.search.answerability import (
    EVEN,
    FEATURES,
    MODEL_FILE,
    Answerability,
    evidence,
    fit_answerability,
    with_probabilities,
    with_shortfall,
)
from medcards.search.hnsw_index import HnswIndex
from medcards.search.query_sets import QuerySet
from medcards.search.question_field import QuestionField
from medcards.search.ranked_sets import RankedSet, SetRanker
from medcards.search.searcher import Searcher
from medcards.search.spelling import Spelling
from medcards.search.systems import WITH_QUESTIONS, Retriever, Served
from medcards.search.vectors import Vectors

ANSWERS = ["gout arthritis joints", "gout diet", "asthma airways", "anemia iron"]
VECTORS = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]], dtype=np.float32)
QUESTION, ASKED = ["Is gout an arthritis or zzz?"], np.array([[1, 0]], dtype=np.float32)
GOUT, ARTHRITIS, ZZZ = log(1 + 2.5 / 2.5), log(1 + 3.5 / 1.5), log(1 + 4.5 / 0.5)
"""Inverse document frequencies of words in 2, 1 and 0 of the 4 answers."""
ALL = GOUT + ARTHRITIS + ZZZ
PLAIN = {"bm25_weight": 0.0, "spelling": False, "questions": False}
HYBRID = Served(system="hybrid", rerank_weights=[1.0, 0.0, 0.0], candidates=2, **PLAIN)
RERANKED = Served(system="hybrid_rerank", rerank_weights=[0.0, 0.0, 1.0], candidates=3, **PLAIN)


def retriever_of(answers: list[str], vectors: np.ndarray, scorer=None) -> Retriever:
    return Retriever(answers, vectors, HnswIndex.build(vectors, m=16, ef_construction=100, seed=1), scorer)


def found_evidence(served: Served, hidden: set[int], scorer=None) -> dict[str, float]:
    """The evidence of the question about gout."""
    retriever = retriever_of(ANSWERS, VECTORS, scorer)
    found = retriever.rank(QUESTION, ASKED, served, [served.system])
    if hidden:
        found = retriever.rank_without(QUESTION, ASKED, served, [hidden])
    (row,) = evidence(retriever, QUESTION, found, served, [hidden]).to_dict("records")
    return row


def test_evidence_of_a_question_with_an_answer():
    """The cosine similarities are 1, 0.8, 0.6 and 0. The deck has fewer than ten answers."""
    assert found_evidence(HYBRID, set()) == pytest.approx(
        {
            "similarity": 1.0,
            "margin": 0.2,
            "margin_10": 1 - 1.4 / 3,
            "margin_50": 1 - 1.4 / 3,
            "coverage": (GOUT + ARTHRITIS) / ALL,
            "best_coverage": (GOUT + ARTHRITIS) / ALL,
            "known_words": (GOUT + ARTHRITIS) / ALL,
            "agreement": 2.0,  # BM25 finds the two answers with the word gout
        }
    )


def test_evidence_where_the_answer_is_hidden():
    """No other answer holds the word arthritis, so it is not known."""
    assert found_evidence(HYBRID, {0}) == pytest.approx(
        {
            "similarity": 0.8,
            "margin": 0.2,
            "margin_10": 0.8 - 0.3,
            "margin_50": 0.8 - 0.3,
            "coverage": GOUT / ALL,
            "best_coverage": GOUT / ALL,
            "known_words": GOUT / ALL,
            "agreement": 1.0,
        }
    )


def test_a_word_that_another_answer_holds_is_known():
    assert found_evidence(HYBRID, {1})["known_words"] == pytest.approx((GOUT + ARTHRITIS) / ALL)


def test_the_best_coverage_is_that_of_a_candidate():
    """The second answer is nearest to this question, and the first one holds more of its words."""
    retriever, asked = retriever_of(ANSWERS, VECTORS), unit(np.array([[0.93, 0.37]]))
    found = retriever.rank(QUESTION, asked, HYBRID, ["hybrid"])
    table = evidence(retriever, QUESTION, found, HYBRID)
    assert table.coverage[0] == pytest.approx(GOUT / ALL)
    assert table.best_coverage[0] == pytest.approx((GOUT + ARTHRITIS) / ALL)
    alone = HYBRID.model_copy(update={"candidates": 1})
    assert evidence(retriever, QUESTION, found, alone).best_coverage[0] == pytest.approx(GOUT / ALL)


def test_the_evidence_is_read_before_the_cross_encoder():
    def scorer(pairs):
        return [float(len(answer)) for _, answer in pairs]

    for hidden in (set(), {0}):
        first_stage = found_evidence(HYBRID.model_copy(update={"candidates": 3}), hidden)
        assert found_evidence(RERANKED, hidden, scorer) == first_stage
    assert [*first_stage, "shortfall"] == list(FEATURES)


@pytest.mark.parametrize("served", [HYBRID, RERANKED], ids=["hybrid", "hybrid_rerank"])
@pytest.mark.parametrize("hidden", [{0, 1, 2}, {0, 1, 2, 3}])
def test_evidence_is_finite_where_one_answer_or_none_is_left(served, hidden):
    row = found_evidence(served, hidden, lambda pairs: [5.0] * len(pairs))
    assert np.isfinite(list(row.values())).all()
    assert row["margin"] == row["margin_10"] == row["margin_50"] == 0
    assert row["known_words"] == row["coverage"] == row["similarity"] == 0  # the last answer is orthogonal


def test_margins_of_a_deck_with_more_answers_than_a_ranking():
    random = np.random.default_rng(0)
    vectors, asked = unit(random.normal(size=(70, 8))), unit(random.normal(size=(3, 8)))
    retriever = retriever_of([f"answer {number}" for number in range(70)], vectors)
    questions = ["answer?"] * 3
    found = retriever.rank(questions, asked, HYBRID, ["hybrid"])
    table = evidence(retriever, questions, found, HYBRID)
    for depth, name in ((2, "margin"), (10, "margin_10"), (50, "margin_50")):
        cosine = -np.sort(-asked @ vectors.T, axis=1)[:, :depth]
        assert table[name].to_numpy() == pytest.approx(cosine[:, 0] - cosine[:, 1:].mean(axis=1), abs=1e-6)


@pytest.mark.parametrize("question", ["?!", "of the", "什么", "a"])
def test_evidence_of_a_question_without_a_word_is_finite(question):
    retriever = retriever_of(ANSWERS, VECTORS)
    table = evidence(retriever, [question], retriever.rank([question], ASKED, HYBRID, ["hybrid"]), HYBRID)
    assert np.isfinite(table.to_numpy()).all()
    assert table.coverage[0] == table.known_words[0] == table.agreement[0] == 0


WORDS = "gout asthma anemia sepsis scurvy rickets vertigo angina eczema migraine fever cough".split()


@pytest.mark.parametrize("answers", [40, 90])
def test_hidden_answers_are_ranked_as_if_the_deck_lacked_them(answers):
    """Each ranking is that of a corpus without the hidden answers. No answer follows the last one that is left.

    Each question is one word, and all answers are equally long, so that fewer answers do not change the order of BM25.
    """
    random = np.random.default_rng(answers)
    texts = [" ".join(random.choice(WORDS, 5)) for _ in range(answers)]
    vectors, asked = unit(random.normal(size=(answers, 6))), unit(random.normal(size=(12, 6)))
    served = RERANKED.model_copy(update={"bm25_weight": 0.4, "candidates": 8})
    hidden = [set(random.choice(answers, random.integers(0, 8), replace=False).tolist()) for _ in WORDS]

    whole = retriever_of(texts, vectors)
    without = whole.rank_without(WORDS, asked, served, hidden)
    for place, word in enumerate(WORDS):
        left = np.array([row for row in range(answers) if row not in hidden[place]])
        lacking = retriever_of([texts[row] for row in left], vectors[left])
        expected = lacking.rank([word], asked[place : place + 1], served, ["hybrid"])
        assert set(without) == set(expected)
        for name, (rows, _) in expected.items():
            found = without[name][0][place].tolist()
            of_left = [int(left[row]) if row >= 0 else -1 for row in rows[0]]
            assert found == of_left + [-1] * (len(found) - len(of_left))


@pytest.mark.parametrize("served", [HYBRID, RERANKED], ids=["hybrid", "hybrid_rerank"])
def test_nothing_hidden_changes_no_ranking(served):
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, 5)) for _ in range(60)]
    asked = unit(random.normal(size=(12, 6)))
    retriever = retriever_of(texts, unit(random.normal(size=(60, 6))), lambda pairs: [len(a) for _, a in pairs])
    found = retriever.rank(WORDS, asked, served, ["hybrid"])
    without = retriever.rank_without(WORDS, asked, served, [set()] * 12)
    for name, (rows, scores) in found.items():
        assert np.array_equal(without[name][0], rows), name
        assert without[name][1] == pytest.approx(scores, nan_ok=True, abs=1e-6)


def ranked(relevant: list[set[str]], name: str = "own") -> RankedSet:
    """Two questions, about gout and asthma, ranked among the four answers. The topic of a question is one answer."""
    questions = ["Is gout an arthritis?", "asthma"]
    cards = pd.DataFrame({"card_id": ["a", "c"], "question": questions, "group": ["g1", "g2"]})
    ids, tokens = np.array(list("abcd")), np.ones(4, dtype=np.int32)
    vectors = Vectors(ids, VECTORS, tokens, ids, VECTORS, tokens, max_tokens=8)
    deck = pd.DataFrame({"card_id": ids, "question": "?", "answer": ANSWERS, "concept": ""})
    queries = QuerySet("validation", name, cards, questions, relevant)
    return SetRanker(deck, deck, vectors, None, retriever_of(ANSWERS, VECTORS), HYBRID, None).rank(queries)


def test_every_question_is_asked_of_three_decks():
    """The nearest answer to the first two is the first one, and that to the last one is itself."""
    found = ranked([{"a", "b"}, {"d"}])
    table = found.evidence
    assert table.deck.tolist() == ["whole", "whole", "hidden", "hidden", "off_topic", "off_topic"]
    assert table["query"].tolist() == ["a", "c"] * 3 and table.group.tolist() == ["g1", "g2"] * 3
    assert table.answerable.tolist() == [True, True, False, False, False, False]
    assert table.correct.tolist() == [True, *[False] * 5]  # asthma finds the third answer, which is not relevant
    assert table.similarity.tolist() == pytest.approx([1, 1, 0.6, 1, 0.6, 1])
    assert table.known_words.tolist() == [1, 1, 0, 1, 0, 1]  # no other answer holds gout or arthritis


def test_perturbed_questions_are_not_asked_of_a_deck_without_their_topic():
    assert ranked([{"a"}, {"d"}], "typos").evidence.deck.tolist() == ["whole", "whole", "hidden", "hidden"]


def test_a_deck_whose_answers_are_all_hidden_is_evidence_too():
    """A fitted model says that such a question probably has no answer."""
    found = ranked([{"a", "b", "c", "d"}, {"a", "b", "c", "d"}])
    read = [name for name in FEATURES if name in found.evidence]
    assert np.isfinite(found.evidence[read].to_numpy()).all()
    judged, model = with_probabilities(found.evidence, 0.05)
    assert (judged.probability[judged.answerable] > 0.5).all() and (judged.probability[~judged.answerable] < 0.5).all()
    assert model.refuse_below <= EVEN


def table_of(rows: int, separation: float, seed: int = 0, groups: int = 50, split: str = "validation") -> pd.DataFrame:
    """Evidence of questions that are asked twice. Its first feature tells whether there is an answer."""
    random = np.random.default_rng(seed)
    answerable = np.repeat([True, False], rows // 2)
    group = np.tile(random.integers(groups, size=rows // 2), 2)
    return pd.DataFrame(
        {
            "split": split,
            "query_set": "own",
            "query": np.tile(np.arange(rows // 2).astype(str), 2),
            "group": np.char.add("g", group.astype(str)),
            "deck": np.where(answerable, "whole", "hidden"),
            "answerable": answerable,
            "correct": answerable,
            "similarity": separation * answerable + random.normal(size=rows),
            "margin": random.normal(size=rows),
            "agreement": 10.0,
        }
    )


FEATURES_OF_TABLE = ["similarity", "margin", "agreement", "shortfall"]


def test_separable_evidence_gives_high_and_low_probabilities():
    table = table_of(400, separation=20)
    model = fit_answerability(table, 0.05)
    probability = model.probabilities(table)
    assert probability[table.answerable].min() > 0.9 and probability[~table.answerable].max() < 0.1
    assert model.refuse_below == EVEN  # no question above it is refused
    assert model.refuses(0.4999) and not model.refuses(0.5)


@pytest.mark.parametrize("rows", [2, 4, 20, 40, 202, 1000])
@pytest.mark.parametrize("risk", [0.01, 0.05, 0.29, 0.4])
def test_the_threshold_is_the_largest_that_refuses_at_most_the_risk(rows, risk):
    table = table_of(rows, separation=0.3, seed=rows)
    model = fit_answerability(table, risk)
    answerable = model.probabilities(table[table.answerable])
    assert (answerable < model.refuse_below).mean() <= risk and model.refuse_below <= EVEN
    if model.refuse_below < EVEN:
        assert (answerable <= model.refuse_below).mean() > risk


def test_the_threshold_refuses_every_question_that_the_risk_allows():
    """The similarities of 20 answerable questions are 1 to 20: 5% of them are one question."""
    similarity = [*range(1, 21), *range(-9, 11)]
    table = pd.DataFrame({"similarity": similarity, "answerable": [True] * 20 + [False] * 20})
    model = fit_answerability(table, 0.05)
    assert model.refuse_below == model.probabilities(table)[1]


def test_a_model_that_was_saved_gives_the_probabilities_of_scikit_learn(tmp_path):
    table = table_of(200, separation=1.5)
    model = fit_answerability(table, 0.05)
    model.save(tmp_path)
    loaded = Answerability.load(tmp_path)
    assert loaded == model
    usual = table.similarity[table.answerable].quantile(0.1)
    assert model.features == FEATURES_OF_TABLE and model.usual_similarity == usual
    scaled = StandardScaler().fit_transform(with_shortfall(table, usual)[FEATURES_OF_TABLE])
    expected = LogisticRegression(max_iter=1000).fit(scaled, table.answerable).predict_proba(scaled)[:, 1]
    assert loaded.probabilities(table) == pytest.approx(expected, abs=1e-12)


NUMBERS = {
    "features": ["margin"],
    "means": [0.0],
    "scales": [1.0],
    "weights": [1.0],
    "intercept": 0.0,
    "usual_similarity": 0.0,
    "refuse_below": 0.0,
}
"""A model that is not damaged."""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"features": ["similarity"]}',
        json.dumps(NUMBERS | {"features": ["x"]}),
        json.dumps(NUMBERS | {"weights": []}),
        json.dumps(NUMBERS | {"weights": [float("nan")]}),
        json.dumps(NUMBERS | {"refuse_below": float("inf")}),
        json.dumps({name: value for name, value in NUMBERS.items() if name != "usual_similarity"}),
    ],
)
def test_a_damaged_model_is_named_in_one_line(tmp_path, text):
    (tmp_path / MODEL_FILE).write_text(text)
    with pytest.raises(InputError, match=r"answerability\.json is damaged: run "):
        Answerability.load(tmp_path)


def test_a_missing_model_is_named_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"answerability\.json is missing: run `dvc repro`$"):
        Answerability.load(tmp_path)


@pytest.mark.parametrize("groups", [2, 3, 10, 37])
def test_the_probabilities_of_a_group_do_not_know_its_labels(groups):
    """The labels of one group are exchanged. The probabilities of the group stay, those of other groups change."""
    table = table_of(120, separation=1, groups=groups)
    before, model = with_probabilities(table, 0.05)
    mine = (table.group == table.group[0]).to_numpy()
    exchanged = table.assign(answerable=table.answerable ^ mine)
    after, other = with_probabilities(exchanged, 0.05)
    assert after.probability[mine].to_numpy() == pytest.approx(before.probability[mine].to_numpy(), abs=1e-12)
    assert not np.allclose(after.probability[~mine], before.probability[~mine], atol=1e-9)
    assert other.weights != model.weights  # the model of all questions learns from them
    assert not np.allclose(model.probabilities(table)[mine], before.probability[mine], atol=1e-9)


@pytest.mark.parametrize("name", ["layperson", "typos"])
def test_a_group_is_held_out_of_all_query_sets_at_once(name):
    """The labels of a group's own questions are exchanged. Its other questions keep their probabilities."""
    own = table_of(60, separation=1, groups=6)
    both = pd.concat([own, own.assign(query_set=name, margin=own.margin + 0.1)], ignore_index=True)
    before, _ = with_probabilities(both, 0.05)
    mine, asked_own = (both.group == both.group[0]).to_numpy(), (both.query_set == "own").to_numpy()
    after, _ = with_probabilities(both.assign(answerable=both.answerable ^ (mine & asked_own)), 0.05)
    assert after.probability[mine].to_numpy() == pytest.approx(before.probability[mine].to_numpy(), abs=1e-12)
    assert not np.allclose(after.probability[~mine], before.probability[~mine], atol=1e-9)


def test_test_questions_do_not_change_the_model():
    table, wild = table_of(120, separation=1), table_of(40, separation=-50, seed=1, split="test")
    before, model = with_probabilities(table, 0.05)
    after, same = with_probabilities(pd.concat([table, wild], ignore_index=True), 0.05)
    assert same == model
    assert after.probability[: len(table)].tolist() == before.probability.tolist()
    assert after.probability[len(table) :].tolist() == model.probabilities(wild).tolist()


def test_perturbed_questions_do_not_change_the_model():
    """Their evidence contradicts that of the others. They have the probabilities of models without their groups."""
    own = table_of(120, separation=2)
    wild = own.assign(query_set="typos", similarity=-20 * own.answerable - own.similarity)
    before, model = with_probabilities(own, 0.05)
    after, same = with_probabilities(pd.concat([own, wild], ignore_index=True), 0.05)
    assert same == model
    assert after.probability[: len(own)].to_numpy() == pytest.approx(before.probability.to_numpy(), abs=1e-12)
    typed = after.probability[len(own) :].to_numpy()
    assert not np.allclose(typed, model.probabilities(wild), atol=1e-6)
    assert typed == pytest.approx(model.probabilities(wild), abs=0.3)
    other, _ = with_probabilities(pd.concat([own, wild.assign(query_set="layperson")], ignore_index=True), 0.05)
    assert not np.allclose(other.probability[: len(own)], before.probability, atol=0.01)  # those of laypersons do


def test_shortfall():
    table = with_shortfall(pd.DataFrame({"similarity": [0.5, 0.7, 0.9, -0.1], "margin": 0.0}), usual=0.7)
    assert table.shortfall.tolist() == pytest.approx([0.2, 0, 0, 0.8]) and list(table)[:2] == ["similarity", "margin"]


@pytest.mark.parametrize("nearer", [0.04, -0.04])
def test_a_question_off_the_topics_has_a_lower_probability_than_any_near_one(nearer):
    """Also where the near questions without an answer are nearer than those with one.

    Then a higher similarity lowers the probability of near questions, but not of far ones.
    """
    near, far = np.linspace(0.6, 0.8, 60), np.linspace(0, 0.3, 30)
    table = pd.DataFrame({"similarity": np.concatenate([near + nearer, near, far])})
    model = fit_answerability(table.assign(answerable=np.arange(150) < 60), 0.05)
    probability = model.probabilities(table)
    similarity, shortfall = model.weights
    assert np.sign(similarity) == np.sign(nearer) and shortfall < 0
    assert probability[120:].max() < probability[:120].min()
    assert (np.diff(probability[120:]) > 0).all() and model.refuses(float(probability[120:].max()))


def test_validation_questions_of_one_group_are_not_held_out():
    table = table_of(40, separation=1, groups=1)
    judged, model = with_probabilities(table, 0.05)
    assert judged.probability.tolist() == model.probabilities(table).tolist()


def test_evidence_that_never_differs_has_no_weight():
    """The mean of equal numbers may differ from them by a rounding error, which must not be a scale."""
    table = table_of(60, separation=1).assign(agreement=0.1)
    model = fit_answerability(table, 0.05)
    assert model.scales[2] == 1 and abs(model.weights[2]) < 1e-9
    unusual = table.assign(agreement=0.9)
    assert model.probabilities(unusual) == pytest.approx(model.probabilities(table))


@pytest.fixture
def searcher() -> Searcher:
    """A search over four answers that refuses below a cosine similarity of 0.9; each question is encoded as ASKED."""
    cards = pd.DataFrame({"card_id": list("abcd"), "question": "?", "answer": ANSWERS, "source": "tiny"})
    numbers = NUMBERS | {"features": ["similarity"], "means": [0.9], "weights": [10.0], "refuse_below": 0.5}
    model = Answerability(**numbers)
    heard, far = [], unit(np.array([[0.85, -0.55]]))

    def encoder(questions):
        heard.extend(questions)
        return np.vstack([far if question == "far" else ASKED for question in questions])

    found = Searcher(
        cards, retriever_of(ANSWERS, VECTORS), encoder, HYBRID, model, None, Spelling(ANSWERS), {"why gout": [3]}
    )
    found.heard = heard
    return found


def test_a_search_says_how_probable_an_answer_is(searcher):
    found = searcher.find("gout", k=2)
    assert [hit.card_id for hit in found.hits] == ["a", "b"]
    assert found.probability == pytest.approx(1 / (1 + np.exp(-1))) and not found.refused
    refused = searcher.find("far", k=2)
    assert refused.probability < 0.5 and refused.refused
    assert len(refused.hits) == 2  # the nearest cards are shown all the same
    assert searcher.search("gout", k=2) == found.hits


def test_a_search_reads_the_question_with_its_spelling_corrected(searcher):
    found = searcher.find_all(["What is  artritis?", "gout"], k=1)
    assert searcher.heard == ["What is arthritis?", "gout"]
    assert [one.searched for one in found] == ["What is arthritis?", ""]


def test_a_question_of_the_deck_finds_its_card_first_with_probability_one(searcher):
    """Its answer is the least similar of all. A question in other words does not find it so."""
    found = searcher.find("Why GOUT?!", k=2)
    assert [hit.card_id for hit in found.hits] == ["d", "a"] and found.probability == 1 and not found.refused
    assert [hit.card_id for hit in searcher.find("Why the gout?", k=2).hits] == ["a", "b"]


def test_a_question_without_letters_is_searched_and_an_empty_one_is_refused(searcher):
    assert searcher.find("?!").probability > 0
    with pytest.raises(InputError, match="the question is empty"):
        searcher.find(" \n ")


def test_a_search_of_the_questions_ranks_by_them_and_the_probability_is_that_of_the_answers(searcher):
    """The question of the last card is the asked one. Its answer is the least similar of all."""
    ids, tokens = np.array(list("abcd")), np.ones(4, dtype=np.int32)
    questions = unit(np.array([[0, -1], [0, -1], [0, -1], [0.85, -0.55]]))
    deck = pd.DataFrame({"card_id": ids, "question": ["p?", "q?", "r?", "far"], "concept": ""})
    field = QuestionField(deck, deck, Vectors(ids, VECTORS, tokens, ids, questions, tokens, max_tokens=8))
    cards = pd.DataFrame({"card_id": ids, "question": deck.question, "answer": ANSWERS, "source": "tiny"})
    served = HYBRID.model_copy(update={"questions": True})
    both = Searcher(cards, retriever_of(ANSWERS, VECTORS), searcher._encoder, served, searcher.answerability, field)
    alone, found = searcher.find("far", k=4), both.find("far", k=4)
    assert [hit.card_id for hit in alone.hits] == ["a", "b", "c", "d"]
    assert [hit.card_id for hit in found.hits] == ["d", "a", "b", "c"]
    assert found.probability == alone.probability and found.refused == alone.refused
    first = found.hits[0]
    assert searcher.system == HYBRID.system and both.system == WITH_QUESTIONS
    assert alone.hits[0].score == alone.hits[0].scores[searcher.system]
    assert first.score == first.scores[both.system] and first.scores["hnsw"] < 0
    assert WITH_QUESTIONS not in alone.hits[0].scores


@pytest.mark.parametrize("questions", [False, True])
def test_a_search_finds_cards_behind_those_that_are_hidden(searcher, questions):
    """More cards are hidden than a ranking holds. The probability and the own card of a question do not change."""
    angles, count = np.linspace(0, 1.5, 70), 70
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    ids, tokens = np.array([f"c{row:02}" for row in range(count)]), np.ones(count, dtype=np.int32)
    deck = pd.DataFrame({"card_id": ids, "question": [f"q{row}" for row in range(count)], "concept": ""})
    cards = deck.assign(answer=[f"answer {row}" for row in range(count)], source="tiny")
    field = QuestionField(deck, deck, Vectors(ids, vectors, tokens, ids, vectors, tokens, max_tokens=8))
    search = Searcher(
        cards,
        retriever_of(cards.answer.tolist(), vectors),
        searcher._encoder,
        HYBRID,
        searcher.answerability,
        field if questions else None,
        rows_of={"own": [0]},
    )
    every, hidden = search.find("gout", k=3), search.rows_but({"c65", "c63", "c64"})
    assert [hit.card_id for hit in every.hits] == ["c00", "c01", "c02"]
    found = search.find("gout", k=5, hidden=hidden)
    assert [hit.card_id for hit in found.hits] == ["c63", "c64", "c65"]
    assert (found.probability, found.refused) == (every.probability, every.refused)
    own = search.find("own", k=1, hidden=hidden)
    assert own.hits[0].card_id == "c63" and own.probability == 1
