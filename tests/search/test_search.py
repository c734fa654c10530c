"""The retrieval systems, their scores, and the choice of the served one."""

import math

import numpy as np
import pandas as pd
import pytest
import tiny
from search_material import deck, random_units, unit

from medcards import InputError
from medcards.base.files import read_json, write_json
from medcards.search import exact
from medcards.search.bm25 import Bm25
from medcards.search.cross_encoder import memoised
from medcards.search.evaluation import (
    RerankEvalParams,
    rank_queries,
    ranking_pairs,
    ranking_table,
    recall_at_k,
    score_ranking,
    score_systems,
)
from medcards.search.hnsw_index import HnswIndex
from medcards.search.query_sets import QuerySet
from medcards.search.rankings import reciprocal_rank_fusion, rerank
from medcards.search.serving import UnadaptedSearch, choose_served
from medcards.search.systems import Retriever, Served, hybrid

ANSWERS = ["asthma is a disease of the airways", "gout has many causes", "a fever of the kidneys"]


def test_bm25_finds_the_stem():
    rows, scores = Bm25(ANSWERS).search(["What causes gout?", "Is a kidney feverish?"], depth=2)
    assert rows[:, 0].tolist() == [1, 2]
    assert scores[0, 0] > 0


def test_bm25_does_not_fill_up_with_answers_that_share_no_word():
    rows, scores = Bm25(ANSWERS).search(["gout", "zzz", "what is a"], depth=2)
    assert rows.tolist() == [[1, -1], [-1, -1], [-1, -1]]  # the last question has stop words only
    assert score_ranking(rows[:2], [{"b"}, {"c"}], np.array(["a", "b", "c"]))["mrr@10"].tolist() == [1.0, 0.0]
    assert Bm25(ANSWERS).scores(["gout"], np.array([[1, 0]]))[0].tolist() == pytest.approx([scores[0, 0], 0])


def test_bm25_does_not_find_hidden_answers():
    """Each question is the same. The shorter of two answers with the word has the higher score."""
    bm25 = Bm25(["gout of the toe and knee", "gout", "asthma"])
    rows, scores = bm25.search(["gout"] * 4, hidden=[set(), {1}, {0, 1}, {0, 1, 2}])
    assert rows.tolist() == [[1, 0, -1], [0, -1, -1], [-1, -1, -1], [-1, -1, -1]]
    assert scores[1, 0] == scores[0, 1] and np.isnan(scores[rows < 0]).all()
    assert bm25.search(["gout"])[0].tolist() == [[1, 0, -1]]  # what one search hides, the next one finds


def test_bm25_over_answers_without_a_word():
    """A word of one character is no stem."""
    rows, scores = Bm25(["A", "B", "C"]).search(["A", "gout"], depth=2)
    assert rows.tolist() == [[-1, -1], [-1, -1]]
    assert Bm25(["A", "B", "C"]).scores(["A"], np.array([[1, 0]])).tolist() == [[0, 0]]


def test_bm25_finds_chinese():
    answers = ["应考虑肺的毒素性疾病", "应考虑脑的缺乏性疾病", "A disease of the lung"]
    assert Bm25(answers).search(["什么是脑的缺乏？"], depth=1)[0].tolist() == [[1]]


def test_a_cross_encoder_with_two_outputs_is_refused(tmp_path):
    from medcards.search.cross_encoder import load_cross_encoder

    tiny._bert(tmp_path / "model", "BertForSequenceClassification", 0, num_labels=2)
    with pytest.raises(InputError, match="reranker.model gives 2 scores per pair"):
        load_cross_encoder(tmp_path / "model")


def test_reciprocal_rank_fusion():
    one, other = (np.array([[3, 1, 2]]), None), (np.array([[1, 4, -1]]), None)
    rows, scores = reciprocal_rank_fusion([one, other], [0.5, 0.5], depth=5)
    assert rows.tolist() == [[1, 3, 4, 2, -1]]
    assert scores[0, :2].tolist() == pytest.approx([0.5 / 62 + 0.5 / 61, 0.5 / 61])
    assert hybrid(one, other, 0.0)[0][0, :3].tolist() == [3, 1, 2]
    assert hybrid(one, other, 1.0)[0][0, :3].tolist() == [1, 4, -1]


def test_rerank_orders_candidates_only():
    ranking = (np.array([[2, 0, 1]]), np.array([[3.0, 2.0, 1.0]]))
    rows, scores = rerank(ranking, [np.array([[1.0, 3.0]])])
    assert rows.tolist() == [[0, 2, 1]]  # row 1 is no candidate, so it keeps its place
    assert scores[0, :2].tolist() == [1.0, -1.0] and math.isnan(scores[0, 2])


def test_rerank_sums_standardised_scores():
    ranking = (np.array([[5, 6, 7, -1]]), None)
    first, second = np.array([[0.9, 0.8, 0.1, 99]]), np.array([[-100.0, 0.0, 100.0, 99]])
    assert rerank(ranking, [first, second], [1.0, 0.0])[0].tolist() == [[5, 6, 7, -1]]
    assert rerank(ranking, [first, second], [0.0, 1.0])[0].tolist() == [[7, 6, 5, -1]]
    assert rerank(ranking, [first, second], [0.5, 0.5])[0][0, 0] == 6  # both scores are rather high
    same = np.array([[1.0, 1.0, 1.0, 1.0]])
    assert rerank(ranking, [same])[0].tolist() == [[5, 6, 7, -1]]


def test_scores_are_those_of_sentence_transformers(tmp_path):
    """Logits, for short pairs and for one that is cut at 64 tokens."""
    from torch.nn import Identity

    from medcards.search.cross_encoder import load_cross_encoder, score

    model = load_cross_encoder(tiny.make_reranker(tmp_path))
    pairs = [("What is gout?", answer) for answer in [*ANSWERS, "gout " * 500, "gout"]]
    alone = [model.predict(pair, activation_fn=Identity()) for pair in pairs]
    assert score(model, pairs, batch_tokens=100) == pytest.approx(np.array(alone), abs=1e-5)


def test_memoised_scores_no_pair_twice():
    given = []
    scorer = memoised(lambda pairs: (given.extend(pairs), [len(answer) for _, answer in pairs])[1])
    assert scorer([("q", "aa"), ("q", "a"), ("q", "aa")]).tolist() == [2, 1, 2]
    assert scorer([("q", "a"), ("p", "a")]).tolist() == [1, 1]
    assert given == [("q", "aa"), ("q", "a"), ("p", "a")]


@pytest.fixture(scope="module")
def choice():
    """A function from a scorer to (served, rankings, scores), for 80 questions about 80 answers.

    A question's vector is a noisy copy of its answer's, so that the index finds most. Its word is in no answer.
    """
    random = np.random.default_rng(0)
    answers = [f"answer number {number}" for number in range(80)]
    vectors = unit(random.normal(size=(80, 8)))
    asked = unit(vectors + random.normal(scale=0.35, size=(80, 8)))
    questions, ids = [f"q{number}" for number in range(80)], np.array([str(number) for number in range(80)])
    relevant = [{name} for name in ids]
    cards = pd.DataFrame({"card_id": ids, "group": ids})
    queries = QuerySet("validation", "own", cards, questions, relevant)

    counts = {"test_queries": 1, "validation_queries": 1, "batch_tokens": 1}
    params = RerankEvalParams(candidates=5, spelling=False, false_refusals=0.05, **counts)

    def chosen(scorer):
        index = HnswIndex.build(vectors, m=8, ef_construction=50, seed=1)
        retriever = Retriever(answers, vectors, index, scorer)

        served, gain = choose_served(retriever, queries, asked, ids, params, seed=0)
        assert (gain is None) == (scorer is None)
        systems = ["bm25", "dense_exact", "hnsw", "hybrid"] + (["hnsw_rerank", "hybrid_rerank"] if scorer else [])
        found = retriever.rank(questions, asked, served, systems)
        return served, found, score_systems(found, relevant, ids, candidates=5)

    return chosen


def test_a_good_cross_encoder_is_served(choice):
    served, _, scores = choice(lambda pairs: [float(q[1:] == a.split()[-1]) for q, a in pairs])
    assert served.system == "hybrid_rerank" and served.rerank_weights[2] > 0
    hit = scores["hybrid_rerank"]["mrr@10"]
    assert hit.mean() > scores["hybrid"]["mrr@10"].mean()
    # The right answer is never added to the candidates, so an answer that the first stage misses stays missed.
    candidates = scores["hnsw_rerank"]["candidate_recall"]
    assert 0.5 < candidates.mean() < 1
    assert (scores["hnsw_rerank"]["recall@1"] == candidates).all()


def test_a_cross_encoder_that_knows_nothing_is_not_served(choice):
    """Ten weights are tried, so some seem to gain by chance on the questions that choose them."""
    served = []
    for seed in range(12):
        random = np.random.default_rng(seed)
        served.append(choice(memoised(lambda pairs, random=random: random.normal(size=len(pairs))))[0].system)
    assert served.count("hybrid_rerank") <= 1


@pytest.mark.parametrize("system", ["hybrid", "hybrid_rerank"])
def test_the_served_system_ranks_every_query_set(system):
    """The other systems with a cross-encoder rank the deck's own questions only.

    The scores of the cross-encoder are beside them where ``hybrid_rerank`` ranks.
    """
    vectors = random_units(20, 4)
    index = HnswIndex.build(vectors, m=8, ef_construction=50, seed=1)
    retriever = Retriever(
        [f"answer {number}" for number in range(20)], vectors, index, lambda pairs: [0.0] * len(pairs)
    )
    weights = {"bm25_weight": 0.5, "rerank_weights": [0.6, 0.0, 0.4]}
    served = Served(system=system, candidates=5, spelling=False, questions=False, **weights)
    cards = pd.DataFrame({"card_id": ["a"]})
    plain = {"bm25", "dense_exact", "hnsw", "hybrid"}
    for name, reranked in (("own", {"hnsw_rerank", "hybrid_rerank"}), ("typos", {system}), ("layperson", {system})):
        queries = QuerySet("test", name, cards, ["answer 3?"], [{"a"}])
        scored = {"cross_encoder"} if "hybrid_rerank" in reranked else set()
        assert set(rank_queries(queries, vectors[:1], retriever, served)) == plain | reranked | scored


def test_without_a_cross_encoder_hybrid_is_served(choice):
    served, found, scores = choice(None)
    assert served.system == "hybrid" and served.bm25_weight == 0.0  # the questions share no word with any answer
    assert np.array_equal(found["hybrid"][0], found["hnsw"][0])
    assert "candidate_recall" not in scores["hnsw"]


def test_ranking_pairs_compare_what_may_be_served_with_every_baseline():
    """Without adaptation the other baselines are dense_exact and hybrid."""
    assert ranking_pairs(["bm25", "dense_exact", "hnsw", "hybrid", "hybrid_rerank"]) == [
        ("bm25", "dense_exact"),
        ("hnsw", "dense_exact"),
        ("hybrid", "dense_exact"),
        ("hybrid_rerank", "dense_exact"),
        ("hybrid_rerank", "hybrid"),
        ("hybrid", "bm25"),
        ("hybrid_rerank", "bm25"),
    ]
    assert ("with_questions", "hybrid") in ranking_pairs(["dense_exact", "hybrid", "with_questions"])
    adapted = ranking_pairs(["bm25", "dense_before", "hybrid_before", "dense_exact", "hybrid", "hybrid_rerank"])
    baselines = ("bm25", "dense_before", "hybrid_before")
    assert {(system, name) for system in ("hybrid", "hybrid_rerank") for name in baselines} <= set(adapted)


def test_the_largest_similarity_does_not_depend_on_the_blocks(monkeypatch):
    queries = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], dtype=np.float32)
    vectors = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [-1.0, 0.0]], dtype=np.float32)
    for size in (1, 2, 8):
        monkeypatch.setattr(exact, "QUERY_BLOCK", size)
        monkeypatch.setattr(exact, "ROW_BLOCK", size)
        assert exact.largest_similarity(queries, vectors) == pytest.approx([1, 0.96, 1, 0])


def test_recall_at_k():
    rankings = {"bm25": (np.array([[0, 1], [1, 0]]), None)}
    curves = recall_at_k(rankings, [{"a"}, {"a"}], np.array(["a", "b"])).set_index("k")
    assert curves.bm25[1] == 0.5 and curves.bm25[2] == 1.0
    assert curves.hybrid_rerank.isna().all()  # a system without a ranking has an empty column


def test_a_damaged_json_file_is_named(tmp_path):
    (tmp_path / "served.json").write_text('{"system": ')
    with pytest.raises(InputError, match="served.json is damaged"):
        read_json(tmp_path / "served.json")


def test_served_is_read_as_it_was_written(tmp_path):
    weights = {"bm25_weight": 0.3, "rerank_weights": [0.5, 0.1, 0.4]}
    served = Served(system="hybrid_rerank", candidates=20, spelling=True, questions=True, **weights)
    write_json(tmp_path / "served.json", served.model_dump())
    assert Served(**read_json(tmp_path / "served.json")) == served


def test_ranking_table_leaves_out_what_was_not_found():
    queries = QuerySet("test", "own", pd.DataFrame({"card_id": ["x", "y"]}), ["X?", "Y?"], [{"a"}, {"b"}])
    ranking = np.array([[1, 0], [0, -1]]), np.array([[0.9, 0.1], [0.5, np.nan]])
    table = ranking_table({"bm25": ranking}, queries, np.array(["a", "b"]))
    assert table[["query", "rank", "answer"]].to_numpy().tolist() == [["x", 1, "b"], ["x", 2, "a"], ["y", 1, "a"]]
    assert set(table.split) == {"test"} and set(table.query_set) == {"own"}


def test_unadapted_search_ranks_by_its_own_vectors(tmp_path):
    from medcards.search.encoder import embed_cards, load_encoder

    cards = deck()
    vectors = embed_cards(load_encoder(tiny.make_encoder(tmp_path)), cards)
    own = cards[:5]
    queries = QuerySet("validation", "own", own, own.question.tolist(), [{name} for name in own.card_id])
    bm25 = Bm25(cards.answer[:58].tolist()).search(queries.questions)
    spelled = ["Gout?", *queries.questions[1:]]
    of_spelled = QuerySet("validation", "own", own, spelled, queries.relevant)

    def encoder(questions):
        assert questions == ["Gout?"]  # the other questions have vectors
        return vectors.answers[7:8]

    unadapted = UnadaptedSearch(vectors, encoder, queries, bm25)
    assert unadapted.rank(of_spelled, bm25)["dense_before"][0][0, 0] == 7
    found = unadapted.rank(queries, bm25)
    nearest = np.argmax(vectors.questions[:5] @ vectors.answers.T, axis=1)
    assert found["dense_before"][0][:, 0].tolist() == nearest.tolist()
    assert np.array_equal(found["hybrid_before"][0], hybrid(found["dense_before"], bm25, unadapted.bm25_weight)[0])
    perturbed = QuerySet("validation", "typos", own, queries.questions, queries.relevant)
    assert unadapted.rank(perturbed, bm25) == {}


def test_search_exposes_the_searcher_only_when_asked():
    import subprocess
    import sys

    code = "import sys, medcards.search as s; assert 'medcards.search.searcher' not in sys.modules; print(s.Searcher)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "medcards.search.searcher.Searcher" in said
