"""Answers from the deck: who is asked what, and the scores of words, citations and refusals."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny

from medcards import InputError
from medcards.answers.exam import Exam, Models
from medcards.answers.open_book import (
    OPEN_BOOK_SCORES,
    QUOTED,
    WORDED,
    open_book_scores,
    refused_questions,
    served_answer,
    summarise_open_book,
)
from medcards.answers.records import AnswerParams
from medcards.answers.scores import TermWeights
from medcards.answers.systems import OPEN_BOOK, all_answers, chosen_systems, open_book_sets
from medcards.base.files import read_json, write_json
from medcards.deck.cards import corpus
from medcards.search.answerability import Answerability, with_probabilities
from medcards.search.evaluation import ranking_table
from medcards.search.hnsw_index import HnswIndex
from medcards.search.query_sets import QuerySet, query_sets
from medcards.search.ranked_sets import SetRanker
from medcards.search.rankings import rankings_file
from medcards.search.systems import Retriever, Served
from medcards.search.vectors import Vectors

CARDS = pd.DataFrame(
    {
        "card_id": ["gout", "gout2", "asthma", "lay"],
        "question": ["What is gout?", "Define podagra.", "What is asthma?", "What hurts my toe crystals?"],
        "answer": ["Arthritis with crystals", "Painful big toe", "Narrow airways", "Arthritis with crystals"],
        "concept": ["g", "g", "a", "g"],
        "group": ["1", "1", "2", "1"],
        "query_set": ["own", "own", "own", "layperson"],
        "split": "validation",
    }
)
WEIGHTS = TermWeights(CARDS.answer)


def scored(refused: bool = False, **changes) -> pd.Series:
    """The scores of one answer to the question about gout."""
    row = {
        "query_set": "own",
        "card_id": "gout",
        "question": "What is gout?",
        "reference": "Arthritis with crystals",
        "system": WORDED,
        "answer": "Arthritis with crystals",
        "cited": "gout",
    } | changes
    keys = [(row["query_set"], deck, row["card_id"]) for deck in ("whole", "hidden")]
    said = pd.Series([refused, True], pd.MultiIndex.from_tuples(keys))
    (found,) = open_book_scores(pd.DataFrame([row]), CARDS, said, WEIGHTS).to_dict("records")
    return found


def test_a_right_answer_with_a_right_citation():
    assert scored() == {
        "query_set": "own",
        "card_id": "gout",
        "system": WORDED,
        "group": "1",
        "sound_f1": 1.0,
        "cites_relevant": 1.0,
        "citation_precision": 1.0,
        "grounding": 1.0,
        "abstains": 0.0,
        "abstains_hidden": 1.0,
        "served_f1": 1.0,
    }


def test_another_card_of_the_concept_is_a_right_citation():
    """It holds one of the two content words, toe; crystals stand in the other card."""
    found = scored(cited="gout2", answer="toe crystals")
    assert found["cites_relevant"] == found["citation_precision"] == 1 and found["grounding"] == 0.5


def test_a_wrong_citation():
    found = scored(cited="asthma", answer="Narrow airways with crystals")
    assert found["cites_relevant"] == found["citation_precision"] == 0 and found["abstains"] == 0
    assert found["grounding"] == pytest.approx(2 / 3)


def test_an_answer_without_a_citation_cites_no_relevant_card():
    found = scored(cited="")
    assert found["cites_relevant"] == 0 and found["abstains"] == 0 and found["sound_f1"] == 1
    assert np.isnan(found["citation_precision"]) and np.isnan(found["grounding"])


@pytest.mark.parametrize("answer", ["", "of the", "?"])
def test_an_answer_without_a_content_word_has_no_grounding(answer):
    found = scored(answer=answer)
    assert np.isnan(found["grounding"]) and found["sound_f1"] == 0 and found["cites_relevant"] == 1


def test_a_word_of_the_cards_question_is_grounded():
    assert scored(answer="gout crystals")["grounding"] == 1


def test_sound_f1_leaves_out_the_words_of_the_cards_own_question():
    """However it is asked: with a typo in crystals, the word still stands in the question of the card."""
    about = {"card_id": "lay", "query_set": "typos", "question": "What hurts my toe crysatls?", "answer": "crystals"}
    assert scored(**about)["sound_f1"] == 0
    assert scored(**about | {"answer": "arthritis"})["sound_f1"] == 1


@pytest.mark.parametrize("refused", [True, False])
@pytest.mark.parametrize("system", [QUOTED, WORDED, "base_rag_open"])
def test_every_system_abstains_where_the_search_refuses(system, refused):
    assert scored(refused, system=system)["abstains"] == refused
    assert scored(refused, system=system, cited="")["abstains"] == refused


def test_refusals_are_those_of_the_query_set_and_of_the_way_to_ask(tmp_path):
    """The probabilities lie below 0.5, at 0.5 and above it. No system answers from a deck without the topic."""
    asked = pd.DataFrame(
        {
            "query_set": ["own", "own", "own", "typos", "typos"],
            "query": "gout",
            "deck": ["whole", "hidden", "off_topic", "whole", "hidden"],
            "probability": [0.9, 0.1, 0.8, 0.5, 0.4999999],
        }
    )
    asked.to_parquet(tmp_path / "answerability.parquet")
    numbers = {"features": ["margin"], "means": [0.0], "scales": [1.0], "weights": [1.0], "intercept": 0.0}
    Answerability(**numbers, usual_similarity=0.0, refuse_below=0.5).save(tmp_path)
    refused = refused_questions(tmp_path)
    assert refused.to_dict() == {
        ("own", "whole", "gout"): False,
        ("own", "hidden", "gout"): True,
        ("typos", "whole", "gout"): False,
        ("typos", "hidden", "gout"): True,
    }


def score_table(gain: float, questions: int = 30) -> pd.DataFrame:
    """Scores of two systems. The model's sound F1 is higher by ``gain`` and a little noise."""
    random, tables = np.random.default_rng(0), []
    base = random.random(questions) / 2
    for system, shift in ((QUOTED, 0.0), (WORDED, gain)):
        about = {"query_set": "own", "system": system, "group": range(questions)}
        scores = dict.fromkeys(OPEN_BOOK_SCORES, 0.5) | {
            "card_id": [f"c{number}" for number in range(questions)],
            "sound_f1": base + shift + random.normal(scale=0.05, size=questions) * (system == WORDED),
        }
        tables.append(pd.DataFrame(about | scores))
    return pd.concat(tables, ignore_index=True)


def test_summary_of_open_book_scores():
    table = score_table(gain=0.2)
    table.loc[table.system == QUOTED, "grounding"] = np.nan  # no answer has the score
    found = summarise_open_book(table, seed=0)
    assert set(found) == {"own"} and set(found["own"]) == {WORDED, QUOTED, "differences"}
    assert set(found["own"][WORDED]) == set(OPEN_BOOK_SCORES)
    assert set(found["own"][QUOTED]) == set(OPEN_BOOK_SCORES) - {"grounding"}
    worded, quoted = (table[table.system == system].sound_f1.mean() for system in (WORDED, QUOTED))
    assert found["own"][WORDED]["sound_f1"]["mean"] == pytest.approx(worded)
    assert found["own"][WORDED]["sound_f1"]["n"] == 30
    (difference,) = found["own"]["differences"].values()
    assert set(difference) == {"sound_f1", "cites_relevant"}
    assert list(found["own"]["differences"]) == [f"{WORDED}-{QUOTED}"]
    assert difference["sound_f1"]["mean"] == pytest.approx(worded - quoted)


def test_summary_of_one_system_has_no_differences():
    table = score_table(gain=0)
    found = summarise_open_book(table[table.system == QUOTED], seed=0)
    assert found["own"]["differences"] == {} and set(found["own"]) == {QUOTED, "differences"}


@pytest.mark.parametrize(("gain", "system"), [(0.2, WORDED), (0.0, QUOTED), (-0.2, QUOTED)])
def test_words_are_served_where_their_gain_is_above_zero(gain, system):
    served = served_answer(score_table(gain), "validation", seed=0)
    assert served["system"] == system
    assert (served["difference"]["lo"] > 0) == (system == WORDED)
    assert served["difference"]["mean"] == pytest.approx(gain, abs=0.03) and served["difference"]["n"] == 30


def test_questions_that_are_not_perturbed_choose_together():
    """The model gains on layperson questions, and loses more on own questions and on typos."""
    own, layperson = score_table(gain=-0.1), score_table(gain=0.3).assign(query_set="layperson")
    typos = score_table(gain=-0.9).assign(query_set="typos")
    served = served_answer(pd.concat([own, layperson, typos]), "validation", seed=0)
    assert served["system"] == WORDED and served["difference"]["n"] == 60
    assert served_answer(typos, "validation", seed=0) == {"system": QUOTED, "difference": None}


def test_the_card_is_quoted_where_nothing_can_be_compared():
    quoted, table = {"system": QUOTED, "difference": None}, score_table(gain=0.2)
    assert served_answer(table, "test", seed=0) == quoted  # test questions choose nothing
    assert served_answer(pd.DataFrame(), "validation", seed=0) == quoted
    for name in (QUOTED, WORDED):
        assert served_answer(table[table.system == name], "validation", seed=0) == quoted
    undefined = table.assign(sound_f1=np.nan)  # no reference has a word that its question lacks
    assert served_answer(undefined, "validation", seed=0) == quoted


QUESTIONS = 4
"""Number of questions per query set. The stage rerank_eval ranked 10."""


@pytest.fixture
def exam(tmp_path) -> Exam:
    """28 cards with two layperson questions, and rankings of their query sets, with the relevant cards and without."""
    cards = pd.DataFrame(tiny.deck(30)).rename(columns={"input": "question", "output": "answer"})
    cards["card_id"] = [f"c{number}" for number in range(30)]
    cards["group"] = cards["concept"] = [f"t{number % 28}" for number in range(30)]
    cards["query_set"] = ["own"] * 28 + ["layperson"] * 2
    cards["split"] = ["validation"] * 12 + ["train"] * 16 + ["validation"] * 2
    answers, random = corpus(cards), np.random.default_rng(0)
    units = random.normal(size=(30, 8)).astype(np.float32)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    ids, tokens = cards.card_id.to_numpy(dtype=np.str_), np.ones(30, dtype=np.int32)
    vectors = Vectors(ids[:28], units[:28], tokens[:28], ids, units, tokens, max_tokens=8)
    index = HnswIndex.build(vectors.answers, m=16, ef_construction=50, seed=0)
    retriever = Retriever(answers.answer.tolist(), vectors.answers, index)
    weights = {"bm25_weight": 0.3, "rerank_weights": [1.0, 0, 0]}
    served = Served(system="hybrid", candidates=5, spelling=False, questions=False, **weights)
    ranker = SetRanker(cards, answers, vectors, lambda asked: units[: len(asked)], retriever, served, None)
    ranked = [ranker.rank(queries) for queries in query_sets(cards, answers, "validation", 10, seed=0)]
    rankings = tmp_path / "rankings"
    rankings.mkdir()
    for one in ranked:
        file = rankings_file(rankings, one.queries.split, one.queries.name)
        ranking_table(one.found, one.queries, vectors.answer_ids).to_parquet(file, index=False)
    write_json(rankings / "served.json", served.model_dump())
    evidence = pd.concat([one.evidence for one in ranked], ignore_index=True)
    judged, model = with_probabilities(evidence, 0.05)
    judged.to_parquet(rankings / "answerability.parquet", index=False)
    model.save(rankings)
    params = AnswerParams(
        systems=["search_open"],
        split="validation",
        questions=QUESTIONS,
        test_questions=1,
        open_book_sets=["own", "typos", "layperson"],
        max_new_tokens=4,
        batch_tokens=1000,
        context_cards=3,
    )
    models = Models(tiny.llm_params(tmp_path / "llm"), tmp_path / "adapter")
    return Exam(cards, params.asked(cards, 0), vectors, tmp_path, models, params, "", seed=0)


def test_open_book_sets_are_those_that_the_deck_has(exam):
    sets = open_book_sets(exam.params, exam.cards, 0)
    assert [(one.name, len(one.questions)) for one in sets] == [("own", 4), ("typos", 4), ("layperson", 2)]
    assert sets[0].questions == exam.questions.question.tolist()
    unknown = exam.params.model_copy(update={"open_book_sets": ["own", "latin"]})
    with pytest.raises(InputError, match=r"open_book_sets: no query set is latin; the deck has: own, layperson, typos"):
        open_book_sets(unknown, exam.cards, 0)


def test_open_book_systems_answer_every_set(exam):
    sets = open_book_sets(exam.params, exam.cards, 0)
    answers, rows = all_answers(exam, sets, chosen_systems(["echo", "search_open"]))
    assert set(answers) == {"echo", "search_open"} and len(answers["echo"].texts) == QUESTIONS
    assert rows.groupby("query_set").size().to_dict() == {"own": 4, "typos": 4, "layperson": 2}
    assert set(rows.system) == {"search_open"}
    own, typed = (rows[rows.query_set == name] for name in ("own", "typos"))
    assert own.answer.tolist() == answers["search_open"].texts
    assert own.card_id.tolist() == exam.questions.card_id.tolist()
    assert typed.question.tolist() == sets[1].questions != own.question.tolist()
    assert typed.reference.tolist() == own.reference.tolist()
    texts = exam.cards.set_index("card_id").answer
    assert rows.answer.tolist() == texts[rows.cited].tolist()  # the first card is quoted
    assert (rows.cited == rows.found.str[0]).all() and (rows.found.str.len() == 3).all()


def test_questions_in_other_words_find_the_cards_of_the_search_that_is_served(exam):
    """Where the questions of the cards are searched too, these are the cards of ``with_questions``."""

    def first_cards(queries: QuerySet, system: str) -> list[list[str]]:
        rankings = pd.read_parquet(rankings_file(exam.data / "rankings", "validation", queries.name))
        of_set = rankings[rankings.system == system]
        first = of_set[of_set["rank"] <= 3].sort_values("rank").groupby("query").answer.agg(list)
        return [first[card] for card in queries.cards.card_id]

    def found(queries: QuerySet) -> list[list[str]]:
        return [cards.index.tolist() for cards in exam.asked_as(queries).found]

    sets = open_book_sets(exam.params, exam.cards, 0)
    assert [found(queries) for queries in sets] == [first_cards(queries, "hybrid") for queries in sets]
    served = read_json(exam.data / "rankings/served.json") | {"questions": True}
    write_json(exam.data / "rankings/served.json", served)
    for queries in sets:
        system = "with_questions" if queries.name == "layperson" else "hybrid"
        assert found(queries) == first_cards(queries, system)
    assert first_cards(sets[-1], "with_questions") != first_cards(sets[-1], "hybrid")


def test_scores_join_the_refusals_of_the_search(exam):
    _, rows = all_answers(exam, open_book_sets(exam.params, exam.cards, 0), chosen_systems(["search_open"]))
    refused = refused_questions(exam.data / "rankings")
    scores = open_book_scores(rows, exam.cards, refused, TermWeights(exam.cards.answer))
    for column, deck in (("abstains", "whole"), ("abstains_hidden", "hidden")):
        expected = [refused[name, deck, card] for name, card in zip(rows.query_set, rows.card_id, strict=True)]
        assert scores[column].tolist() == expected
    assert (scores.served_f1 == scores.sound_f1.where(scores.abstains == 0, 0)).all()
    assert set(summarise_open_book(scores, 0)) == {"own", "typos", "layperson"}
    assert served_answer(scores, "validation", 0)["system"] == QUOTED


def test_no_open_book_system_makes_no_rows(exam, tmp_path):
    """The table without rows can be written."""
    answers, rows = all_answers(exam, open_book_sets(exam.params, exam.cards, 0), chosen_systems(["echo", "constant"]))
    assert set(answers) == {"echo", "constant"} and len(rows) == 0
    rows.to_parquet(tmp_path / "open_book.parquet", index=False)
    assert len(pd.read_parquet(tmp_path / "open_book.parquet")) == 0
    assert len(all_answers(exam, [], chosen_systems(list(OPEN_BOOK[:1])))[1]) == 0


def test_one_model_load_answers_all_query_sets(exam, tmp_path, monkeypatch):
    """The base model reads first, then the adapter is put into it. What was answered before is not generated again."""
    import peft

    from medcards.llm import loading
    from medcards.llm.lora import describe_adapter

    tiny.make_llm(tmp_path / "llm")
    adapter = peft.get_peft_model(loading.load_llm(exam.models.llm)[0], peft.LoraConfig(r=4, init_lora_weights=False))
    adapter.save_pretrained(exam.models.adapter)
    describe_adapter(exam.models.adapter, {"llm": exam.models.llm.model_dump()})
    monkeypatch.setenv("MEDCARDS_SCRATCH", str(tmp_path / "scratch"))
    loads, usual = [], loading.load_llm
    monkeypatch.setattr(loading, "load_llm", lambda params: loads.append(params) or usual(params))
    sets, systems = open_book_sets(exam.params, exam.cards, 0), chosen_systems(list(OPEN_BOOK))
    answers, rows = all_answers(exam, sets, systems)
    assert len(loads) == 1 and set(rows.system) == set(OPEN_BOOK)
    assert len(rows) == 3 * (4 + 4 + 2)
    again = replace(exam, models=Models(exam.models.llm, exam.models.adapter))
    repeated, rows_again = all_answers(again, sets, systems)
    assert len(loads) == 1 and repeated == answers
    pd.testing.assert_frame_equal(rows_again, rows)
    assert not hasattr(exam.models.base, "peft_config") and len(loads) == 2  # the tuned model took the loaded base
