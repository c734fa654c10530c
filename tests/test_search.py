"""Search: the index, the systems, how what is served is chosen, and what is trained for it."""

import math

import numpy as np
import pandas as pd
import pytest
import tiny

from medcards import InputError
from medcards.base.files import read_json, sha256_of, write_json
from medcards.search.evaluation import (
    choose_served,
    claimed_pairs,
    query_sets,
    recall_curves,
    score_ranking,
    score_systems,
)
from medcards.search.index import HnswIndex, exact_search, latency, recall_per_query
from medcards.search.negatives import freeze, hard_negatives, training_pairs
from medcards.search.perturbations import PERTURBATIONS, perturb
from medcards.search.systems import Bm25, Retriever, Served, hybrid, reciprocal_rank_fusion, remembering, rerank


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return unit(np.random.default_rng(0).normal(size=(300, 16)))


def build(vectors: np.ndarray) -> HnswIndex:
    return HnswIndex.build(vectors, m=8, ef_construction=50, seed=1, ef_search=50)


@pytest.fixture(scope="module")
def cards() -> pd.DataFrame:
    table = pd.DataFrame(tiny.deck(60)).rename(columns={"input": "question", "output": "answer"})
    table["card_id"] = [f"c{number}" for number in range(60)]
    table["concept"] = [f"t{number % 58}" for number in range(60)]
    table["query_set"] = ["own"] * 58 + ["layperson"] * 2  # the last two ask for the first two concepts
    table["split"] = ["train"] * 40 + ["test"] * 18 + ["train"] * 2
    return table


# The index


def test_exact_search():
    corpus = np.array([[1, 0], [0, 1], [0.6, 0.8], [1, 0]], dtype=np.float32)
    rows, scores = exact_search(np.array([[1, 0]], dtype=np.float32), corpus, k=3)
    assert rows.tolist() == [[0, 3, 2]]  # equal scores in the order of the rows
    assert scores[0].tolist() == pytest.approx([1, 1, 0.6])
    assert exact_search(corpus[:1], corpus, k=1)[0].tolist() == [[0]]  # a tie at the cut
    assert exact_search(corpus, corpus, k=99)[0].shape == (4, 4)


def test_recall_per_query():
    assert recall_per_query(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [3, 9]])).tolist() == [1.0, 0.5]


def test_index_finds_what_exact_search_finds(vectors, tmp_path):
    build(vectors).save(tmp_path / "index")
    loaded = HnswIndex.load(tmp_path / "index", vectors)
    exact, similarity = exact_search(vectors, vectors, 10)
    rows, scores = loaded.search(vectors, 10)
    assert recall_per_query(rows, exact).mean() > 0.95
    assert rows[:, 0].tolist() == list(range(300))
    assert scores[:, 0] == pytest.approx(similarity[:, 0], abs=1e-5)
    assert loaded.search(vectors[:1], 999)[0].shape == (1, 300)
    assert loaded.settings == {"m": 8, "ef_construction": 50, "ef_search": 50}
    narrow = recall_per_query(loaded.search(vectors, 10, ef_search=10)[0], exact).mean()
    assert narrow < recall_per_query(rows, exact).mean()


def test_index_is_the_same_bytes_every_time(vectors, tmp_path):
    for name in ("a", "b"):
        build(vectors).save(tmp_path / name)
    assert sha256_of(tmp_path / "a/index.bin") == sha256_of(tmp_path / "b/index.bin")


def test_cards_are_added_and_deleted_without_a_rebuild(vectors, tmp_path):
    index = build(vectors[:250])
    assert index.add(vectors[250:]).tolist() == list(range(250, 300))
    assert index.search(vectors, 1)[0][:, 0].tolist() == list(range(300))
    index.delete([7, 260])
    assert len(index) == 298
    found = index.search(vectors, 10)[0]
    assert not {7, 260} & set(found.ravel().tolist())
    assert found[8, 0] == 8  # the others keep their numbers
    for wrong in ([7], [300], [-1], [5, 5]):
        with pytest.raises(InputError, match="cannot be deleted"):
            index.delete(wrong)
    assert len(index) == 298
    with pytest.raises(InputError, match="nothing to save"):
        emptied = build(vectors[:3])
        emptied.delete([0, 1, 2])
        emptied.save(tmp_path / "emptied")

    index.save(tmp_path)
    loaded = HnswIndex.load(tmp_path, vectors)
    assert len(loaded) == 298
    assert np.array_equal(loaded.search(vectors, 10)[0], found)
    assert loaded.search(vectors[:1], 999)[0].shape == (1, 298)
    assert loaded.add(vectors[:1]).tolist() == [300]


def test_only_what_is_allowed_is_found(vectors):
    index = build(vectors)
    odd = np.arange(300) % 2 == 1
    rows, _ = index.search(vectors[:20], 10, allowed=odd)
    assert (rows % 2 == 1).all()
    best = np.array([found[found % 2 == 1][:10] for found in exact_search(vectors[:20], vectors, 300)[0]])
    assert recall_per_query(rows, best).mean() > 0.95
    few = np.zeros(300, dtype=bool)
    few[[3, 200]] = True
    assert sorted(index.search(vectors[:1], 10, allowed=few)[0][0].tolist()) == [3, 200]
    index.delete([3])
    assert index.search(vectors[:1], 10, allowed=few)[0].tolist() == [[200]]
    assert index.search(vectors[:1], 10, allowed=np.zeros(300, dtype=bool))[0].shape == (1, 0)
    with pytest.raises(InputError, match="allowed has shape"):
        index.search(vectors[:1], 10, allowed=few[:5])
    with pytest.raises(InputError, match="dimension 16"):
        index.search(vectors[:1, :8], 10)


def test_a_damaged_index_is_never_opened(vectors, tmp_path, monkeypatch):
    """hnswlib may crash the process on such a file."""
    import hnswlib

    build(vectors).save(tmp_path)
    file, whole = tmp_path / "index.bin", (tmp_path / "index.bin").read_bytes()
    monkeypatch.setattr(hnswlib, "Index", None)
    for damaged in (whole[:-100], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged: run `dvc repro -f index`"):
            HnswIndex.load(tmp_path, vectors)
    file.unlink()
    with pytest.raises(InputError, match="is damaged"):
        HnswIndex.load(tmp_path, vectors)
    with pytest.raises(InputError, match="absent.*is missing"):
        HnswIndex.load(tmp_path / "absent", vectors)


def test_an_index_of_other_vectors_is_refused(vectors, tmp_path):
    build(vectors).save(tmp_path)
    for other in (vectors[:299], vectors[:, :8], vectors[::-1], np.vstack([vectors[:299], vectors[:1]])):
        with pytest.raises(InputError, match="belongs to other embeddings"):
            HnswIndex.load(tmp_path, other)


def test_a_known_question_is_asked_when_the_index_is_loaded(vectors, tmp_path):
    build(vectors).save(tmp_path)
    manifest = read_json(tmp_path / "manifest.json")
    assert manifest["known_answer"]["nearest"][0] == manifest["known_answer"]["row"] == 0
    manifest["known_answer"]["nearest"][1:4] = [297, 298, 299]
    write_json(tmp_path / "manifest.json", manifest)
    with pytest.raises(InputError, match="does not give the answer"):
        HnswIndex.load(tmp_path, vectors)
    del manifest["sha256_of_vectors"]
    write_json(tmp_path / "manifest.json", manifest)
    with pytest.raises(InputError, match="lacks 'sha256_of_vectors'"):
        HnswIndex.load(tmp_path, vectors)


def test_the_served_setting_is_the_cheapest_that_is_good_enough():
    from medcards.search.index_grid import choose

    settings = [(32, 100, 10, 0.98), (8, 200, 20, 0.991), (8, 100, 20, 0.99), (16, 100, 20, 0.999), (8, 100, 50, 1.0)]
    grid = pd.DataFrame(settings, columns=["m", "ef_construction", "ef_search", "mean"])
    assert choose(grid, 0.99)[["m", "ef_construction", "ef_search"]].tolist() == [8, 100, 20]
    assert choose(grid, 0.995)[["m", "ef_construction", "ef_search"]].tolist() == [16, 100, 20]
    with pytest.raises(InputError, match="the best has 0.9800.*index.ef_search"):
        choose(grid[:1], 0.99)


def test_the_frontier_is_what_nothing_beats():
    from medcards.search.index_grid import frontier

    timed = pd.DataFrame({"mean": [0.9, 0.95, 0.94, 0.99, 0.9], "queries_per_second": [50, 40, 30, 20, 10]})
    assert frontier(timed)["mean"].tolist() == [0.9, 0.95, 0.99]


def test_latency_asks_one_at_a_time():
    asked = []
    times = latency(lambda query: asked.append(len(query)), ["a"] * 20)
    assert asked == [1] * 22  # two of them to warm up
    assert times["p50_ms"] <= times["p95_ms"] and times["queries_per_second"] > 0


# The systems

ANSWERS = ["asthma is a disease of the airways", "gout has many causes", "a fever of the kidneys"]


def test_bm25_finds_the_stem():
    rows, scores = Bm25(ANSWERS).search(["What causes gout?", "Is a kidney feverish?"], depth=2)
    assert rows[:, 0].tolist() == [1, 2]
    assert scores[0, 0] > 0


def test_bm25_does_not_fill_up_with_answers_that_share_no_word():
    rows, scores = Bm25(ANSWERS).search(["gout", "zzz", "what is a"], depth=2)
    assert rows.tolist() == [[1, -1], [-1, -1], [-1, -1]]  # the last has stop words only
    assert score_ranking(rows[:2], [{"b"}, {"c"}], np.array(["a", "b", "c"]))["mrr@10"].tolist() == [1.0, 0.0]
    assert Bm25(ANSWERS).scores(["gout"], np.array([[1, 0]]))[0].tolist() == pytest.approx([scores[0, 0], 0])


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
    assert rows.tolist() == [[0, 2, 1]]  # row 1 was no candidate, so it keeps its place
    assert scores[0, :2].tolist() == [1.0, -1.0] and math.isnan(scores[0, 2])


def test_rerank_sums_standardised_scores():
    ranking = (np.array([[5, 6, 7, -1]]), None)
    first, second = np.array([[0.9, 0.8, 0.1, 99]]), np.array([[-100.0, 0.0, 100.0, 99]])
    assert rerank(ranking, [first, second], [1.0, 0.0])[0].tolist() == [[5, 6, 7, -1]]
    assert rerank(ranking, [first, second], [0.0, 1.0])[0].tolist() == [[7, 6, 5, -1]]
    assert rerank(ranking, [first, second], [0.5, 0.5])[0][0, 0] == 6  # what both find rather good
    same = np.array([[1.0, 1.0, 1.0, 1.0]])
    assert rerank(ranking, [same])[0].tolist() == [[5, 6, 7, -1]]


def test_no_pair_is_scored_twice():
    given = []
    scorer = remembering(lambda pairs: (given.extend(pairs), [len(answer) for _, answer in pairs])[1])
    assert scorer([("q", "aa"), ("q", "a"), ("q", "aa")]).tolist() == [2, 1, 2]
    assert scorer([("q", "a"), ("p", "a")]).tolist() == [1, 1]
    assert given == [("q", "aa"), ("q", "a"), ("p", "a")]


@pytest.fixture(scope="module")
def choice():
    """A function from a scorer to (what is served, the rankings, their scores), for 80 questions about 80 answers.

    A question's vector is a noisy copy of its answer's, so that the index finds most; its word is in no answer.
    """
    random = np.random.default_rng(0)
    answers = [f"answer number {number}" for number in range(80)]
    vectors = unit(random.normal(size=(80, 8)))
    asked = unit(vectors + random.normal(scale=0.35, size=(80, 8)))
    questions, ids = [f"q{number}" for number in range(80)], np.array([str(number) for number in range(80)])
    relevant = [{name} for name in ids]

    def chosen(scorer):
        index = HnswIndex.build(vectors, m=8, ef_construction=50, seed=1)
        retriever = Retriever(answers, vectors, index, scorer)

        def mrr(ranking):
            return score_ranking(ranking[0], relevant, ids, ["mrr@10"])["mrr@10"]

        served, gain = choose_served(retriever, questions, asked, pd.Series(ids), mrr, candidates=5, seed=0)
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
    # What the first stage did not find stays lost: the right answer is never forced among the candidates.
    candidates = scores["hnsw_rerank"]["candidate_recall"]
    assert 0.5 < candidates.mean() < 1
    assert (scores["hnsw_rerank"]["recall@1"] == candidates).all()


def test_a_cross_encoder_that_knows_nothing_is_not_served(choice):
    """Not even by luck: ten weights are tried, so some seem to gain on the questions that they are chosen on."""
    served = []
    for seed in range(12):
        random = np.random.default_rng(seed)
        served.append(choice(remembering(lambda pairs, random=random: random.normal(size=len(pairs))))[0].system)
    assert served.count("hybrid_rerank") <= 1


def test_without_a_cross_encoder_hybrid_is_served(choice):
    served, found, scores = choice(None)
    assert served.system == "hybrid" and served.bm25_weight == 0.0  # the questions share no word with any answer
    assert np.array_equal(found["hybrid"][0], found["hnsw"][0])
    assert "candidate_recall" not in scores["hnsw"]


def test_claims_are_made_against_the_best_baseline():
    def tables(**means):
        return {name: pd.DataFrame({"mrr@10": [mean]}) for name, mean in means.items()}

    plain = tables(bm25=0.6, dense_exact=0.5, hnsw=0.5, hybrid=0.55, hybrid_rerank=0.7)
    assert set(claimed_pairs(plain)) == {
        ("bm25", "dense_exact"),
        ("hnsw", "dense_exact"),
        ("hybrid", "dense_exact"),
        ("hybrid_rerank", "dense_exact"),
        ("hybrid_rerank", "hybrid"),
        ("hybrid", "bm25"),
        ("hybrid_rerank", "bm25"),
    }
    adapted = plain | tables(dense_before=0.4, hybrid_before=0.65)
    assert {("hybrid_rerank", "hybrid_before"), ("hybrid", "hybrid_before")} <= set(claimed_pairs(adapted))


# Harder questions


def test_lower_case():
    assert perturb("lower_case", "What is X-linked Gout (2nd)?", 0) == "what is x linked gout 2nd"
    assert perturb("lower_case", "?!", 0) == "?!"


def test_typos_slip_in_longer_words_only():
    question = "What is the cause of hyperparathyroidism in an old man?"
    typed = perturb("typos", question, 0)
    assert typed != question and typed == perturb("typos", question, 0) != perturb("typos", question, 1)
    pairs = list(zip(question.split(), typed.split(), strict=True))
    changed = [before for before, after in pairs if before != after]
    assert 1 <= len(changed) <= 2 and set(changed) <= {"cause", "hyperparathyroidism"}
    assert all(abs(len(before) - len(after)) <= 1 for before, after in pairs)
    # The template is hit only where nothing else can be.
    assert perturb("typos", "What is gout?", 0).startswith("What is ")
    assert perturb("typos", "What is it?", 0).endswith(" is it?")


def test_word_drops_leave_something_to_search_for():
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


def test_query_sets(cards):
    answers = cards[cards.query_set == "own"].reset_index(drop=True)
    sets = {queries.name: queries for queries in query_sets(cards, answers, "train", 5, seed=0)}
    assert list(sets) == ["own", "layperson", *PERTURBATIONS]
    assert [len(queries.questions) for queries in sets.values()] == [5, 2, 5, 5, 5]
    assert sets["layperson"].relevant == [{"c0"}, {"c1"}]  # the cards of their concepts
    # A perturbed question has the right answers of the question that it was made from, and another text.
    assert sets["typos"].relevant == sets["own"].relevant == [{name} for name in sets["own"].cards.card_id]
    assert sets["typos"].questions != sets["own"].questions == sets["own"].cards.question.tolist()
    assert [queries.name for queries in query_sets(cards, answers, "test", 5, seed=0)] == ["own", *PERTURBATIONS]


def test_recall_curves():
    rankings = {"bm25": (np.array([[0, 1], [1, 0]]), None)}
    curves = recall_curves(rankings, [{"a"}, {"a"}], np.array(["a", "b"])).set_index("k")
    assert curves.bm25[1] == 0.5 and curves.bm25[2] == 1.0
    assert curves.hybrid_rerank.isna().all()  # not run, yet a column, so that a plot of it is empty and not broken


# What is trained


def test_training_questions_are_paired_with_what_is_searched(cards):
    answers = cards[cards.query_set == "own"].reset_index(drop=True)
    pairs = training_pairs(cards, answers, 999, seed=0).set_index("card_id")
    assert set(pairs.index) == set(cards.card_id[cards.split == "train"])
    assert pairs.row["c5"] == 5 and pairs.row["c58"] == 0 and pairs.row["c59"] == 1
    assert len(training_pairs(cards, answers, 7, seed=0)) == 7
    with pytest.raises(InputError, match="no training question"):
        training_pairs(cards[cards.split == "test"], answers, 7, seed=0)


def test_negatives_are_hard_wrong_and_from_training(cards):
    answers = cards[cards.query_set == "own"].reset_index(drop=True)
    pairs = training_pairs(cards, answers, 999, seed=0)
    vectors = unit(np.random.default_rng(0).normal(size=(58, 8)))
    vectors[3] = vectors[4]  # a near-duplicate of another answer
    near = exact_search(vectors[pairs.row], vectors, 50)[0]
    negatives = hard_negatives(pairs, answers, vectors, near, 3, seed=0)
    assert negatives.shape == (len(pairs), 3)
    assert negatives.max() < 40  # rows 40 to 57 are test cards
    for row, wrong in zip(pairs.row, negatives, strict=True):
        assert row not in wrong and len(set(wrong)) == 3
        assert not (row in (3, 4) and {3, 4} & set(wrong.tolist()))
    far = hard_negatives(pairs, answers, vectors, pairs.row.to_numpy()[:, None], 3, seed=0)
    assert far.max() < 40 and (far != pairs.row.to_numpy()[:, None]).all()  # too few neighbours: others at random
    with pytest.raises(InputError, match="no 40 wrong answers"):
        hard_negatives(pairs, answers, vectors, near, 40, seed=0)


def test_freeze(tmp_path):
    from medcards.search.encoder import load_encoder

    folder = tiny.make_encoder(tmp_path, layers=3)
    encoder = load_encoder(folder)
    freeze(encoder, 2)
    trained = {name for name, weight in encoder.named_parameters() if weight.requires_grad}
    assert trained and all(".encoder.layer.2." in name for name in trained)
    free = load_encoder(folder)
    freeze(free, 0)
    assert all(weight.requires_grad for weight in free.parameters())
    with pytest.raises(InputError, match="frozen_layers=3: the bi-encoder has 3 layers"):
        freeze(load_encoder(folder), 3)


@pytest.fixture
def no_near_duplicates(monkeypatch):
    """Under an encoder that has learnt nothing all texts are near-duplicates; leaving them out is tested above."""
    monkeypatch.setattr("medcards.search.negatives.NEAR_DUPLICATE", 1.1)


def adapted(folder, cards, scratch):
    from medcards.search.adaptation import AdaptParams, adapt
    from medcards.search.encoder import embed_cards, load_encoder

    params = AdaptParams(
        questions=99, negatives=1, epochs=25.0, batch_size=16, learning_rate=0.003, frozen_layers=0, max_tokens=64
    )
    encoder = load_encoder(folder)
    answers = cards[cards.query_set == "own"].reset_index(drop=True)
    before = embed_cards(encoder, cards, 32)
    facts = adapt(encoder, cards, answers, before, params, 1, scratch)
    return before, embed_cards(encoder, cards, 32), facts


def test_adaptation_brings_questions_to_their_answers(cards, tmp_path, no_near_duplicates):
    folder = tiny.make_encoder(tmp_path / "encoder")
    before, after, facts = adapted(folder, cards, tmp_path / "scratch")
    assert facts["questions"] == 42 and facts["last_loss"] < facts["first_loss"]

    def right(embeddings):
        rows, _ = exact_search(embeddings.questions[:40], embeddings.answers, 1)
        return (rows[:, 0] == np.arange(40)).mean()

    assert right(after) > right(before) + 0.2
    again = adapted(folder, cards, tmp_path / "scratch")[1]
    assert np.array_equal(again.answers, after.answers)


def test_a_cross_encoder_learns_and_comes_back(cards, tmp_path, no_near_duplicates):
    import torch

    from medcards.base.manifests import write_manifest
    from medcards.search.cross_encoder import load_scorer
    from medcards.search.cross_encoder_training import RerankerParams, train_reranker, training_lists
    from medcards.search.encoder import embed_cards, load_encoder

    folder = tiny.make_encoder(tmp_path / "encoder")
    params = RerankerParams(
        model="train",
        questions=99,
        negatives=3,
        epochs=20.0,
        batch_size=8,
        learning_rate=0.01,
        frozen_layers=0,
        max_tokens=32,
    )

    def trained():
        encoder = load_encoder(folder)
        embeddings = embed_cards(encoder, cards, 32)
        index = HnswIndex.build(embeddings.answers, m=8, ef_construction=50, seed=1)
        lists = training_lists(cards, embeddings, index, params, seed=1)
        assert len(lists["question"]) == 40 and set(map(len, lists["answers"])) == {4}
        return train_reranker(encoder, lists, params, 1, tmp_path / "scratch")

    model, loss = trained()
    assert len(loss) == 100  # 40 questions, 8 a step, 20 times
    assert loss[-10:].mean() < 0.8 * loss[:10].mean()
    model.save(str(tmp_path / "made/model"))
    write_manifest(tmp_path / "made", "path:encoder")
    scorer = load_scorer(tmp_path / "made", batch_size=2)
    pairs = [(cards.question[0], cards.answer[0]), (cards.question[0], cards.answer[1]), ("a", "b")]
    assert scorer(pairs) == pytest.approx(model.predict(pairs, activation_fn=torch.nn.Identity()), abs=1e-5)
    long = [(cards.question[0], "gout " * count) for count in (40, 41)]  # training is cut at 32 tokens, scoring is not
    assert scorer(long)[0] != scorer(long)[1]
    assert np.array_equal(trained()[0].predict(pairs), model.predict(pairs))

    weights = next((tmp_path / "made/model").rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(InputError, match="is not what .*manifest.json says"):
        load_scorer(tmp_path / "made", batch_size=2)


def test_a_cross_encoder_of_ones_own(tmp_path):
    from medcards.base.manifests import write_manifest
    from medcards.search.cross_encoder import load_scorer

    write_manifest(tmp_path / "none", "none")
    assert load_scorer(tmp_path / "none", batch_size=2) is None
    model = tiny.make_reranker(tmp_path / "model")
    write_manifest(tmp_path / "own", f"path:{model}")
    scorer = load_scorer(tmp_path / "own", batch_size=2)
    scores = scorer([("what is gout", "a fever"), ("what is gout", "asthma"), ("a", "b")])
    assert np.shape(scores) == (3,)
    assert scores[0] == pytest.approx(scorer([("what is gout", "a fever")])[0], abs=1e-5)


def test_a_model_is_a_folder(tmp_path):
    from medcards.base.manifests import write_manifest

    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InputError, match="a model is a folder"):
        write_manifest(tmp_path / "own", f"path:{tmp_path}/model.safetensors")


def test_embeddings_of_another_encoder_are_refused(cards, tmp_path):
    from medcards.search.encoder import embed_cards, load_encoder

    one = load_encoder(tiny.make_encoder(tmp_path / "one"))
    other = load_encoder(tiny.make_encoder(tmp_path / "other", seed=1))
    embeddings = embed_cards(one, cards, 32)
    embeddings.check_encoder(one, cards)
    with pytest.raises(InputError, match="not those of the encoder beside them"):
        embeddings.check_encoder(other, cards)


def test_a_damaged_json_file_is_named(tmp_path):
    (tmp_path / "served.json").write_text('{"system": ')
    with pytest.raises(InputError, match="served.json is damaged"):
        read_json(tmp_path / "served.json")


def test_served_is_read_as_it_was_written(tmp_path):
    served = Served(system="hybrid_rerank", bm25_weight=0.3, rerank_weights=[0.5, 0.1, 0.4], candidates=20)
    write_json(tmp_path / "served.json", served.model_dump())
    assert Served(**read_json(tmp_path / "served.json")) == served
