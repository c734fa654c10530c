"""Words, clusters and topics: planted structure is found, and scores are checked by hand."""

import numpy as np
import pandas as pd
import pytest

from medcards.deck.words import words
from medcards.explore.clusters import agreement, central_cards, choose_k, kmeans_grid
from medcards.explore.overview import map_and_agreement
from medcards.explore.topic_models import Bags, Topics, class_terms, fit_embeddings
from medcards.explore.topics import (
    choose_topic_model,
    coherence_gain,
    describe_topics,
    fit_topic_models,
    no_topics,
    score_coherence,
    summarise_topics,
    topic_texts,
)
from medcards.explore.vocabulary import describe_words, first_words, frequent_terms, heaps, length_statistics, zipf


def tokens(*texts: str) -> pd.Series:
    return pd.Series([words(text) for text in texts])


def test_length_statistics():
    found = length_statistics(tokens("Beta-blocker, a drug.", "A drug"), np.array([7, 3]))
    assert found == {
        "texts": 2,
        "words": {"mean": 2.5, "quartiles": [2.25, 2.5, 2.75], "longest": 3, "total": 5},
        "model_tokens": {"mean": 5.0, "quartiles": [4.0, 5.0, 6.0], "longest": 7},
        "vocabulary": 3,
        "type_token_ratio": 0.6,
        "words_seen_once": 1,
    }


def test_zipf_and_heaps_find_the_exponent_of_planted_laws():
    ranked = pd.Series([[f"w{rank}"] * round(10_000 / rank) for rank in range(1, 101)])
    table, exponent = zipf(ranked)
    assert table["count"].iloc[0] == 10_000 and table["rank"].iloc[-1] == 100
    assert exponent == pytest.approx(1, abs=0.01)
    # The k-th new word comes at place k^2, so the vocabulary grows with the square root.
    read = [f"new{int(place**0.5)}" if int(place**0.5) ** 2 == place else "new1" for place in range(1, 10_001)]
    table, exponent = heaps(pd.Series([read]))
    assert table.iloc[-1].tolist() == [10_000, 100]
    assert exponent == pytest.approx(0.5, abs=0.03)
    assert heaps(tokens("?"))[1] == zipf(tokens("?"))[1] == 0  # a deck without words


def test_frequent_terms_and_first_words():
    texts = tokens("What is the liver?", "What is a kidney?", "Name the liver")
    assert frequent_terms(texts, 1).to_dict("records") == [{"text": "liver", "texts": 2, "share": pytest.approx(2 / 3)}]
    begins = first_words(texts, 1)
    assert begins.text.tolist() == ["what is", "(others)"]
    assert begins.questions.tolist() == [2, 1]
    assert begins.share.sum() == pytest.approx(1)


def test_describe_words_tables():
    cards = pd.DataFrame({"question": ["What is gout?", "What is a cyst?"], "answer": ["a disease", "a sac"]})
    metrics, tables = describe_words(cards, np.array([5, 6]), np.array([3, 3]))
    assert metrics["questions"]["texts"] == 2 and metrics["answers"]["zipf_exponent"] > 0
    assert tables["lengths"].columns.tolist() == ["text", "unit", "length", "texts"]
    assert tables["lengths"].texts.sum() == 8  # two texts each of questions and answers, in two units
    assert set(tables["words"].law) == {"zipf", "heaps"}
    assert tables["words"].columns.tolist() == ["x", "y", "law", "text"]
    assert tables["terms"].columns.tolist() == ["text", "texts", "share", "of"]
    assert tables["first_words"].columns.tolist() == ["text", "questions", "share", "of"]


PLANTED = np.repeat(np.eye(3, 8), 40, axis=0) + np.random.default_rng(0).normal(scale=0.05, size=(120, 8))


def test_kmeans_finds_planted_clusters():
    labels, scores = kmeans_grid(PLANTED, range(120), [2, 3, 6, 500], sample=60, seed=0)
    assert list(labels) == list(scores) == [2, 3, 6]
    assert choose_k(scores) == 3
    assert [len(set(labels[3][start : start + 40])) for start in (0, 40, 80)] == [1, 1, 1]
    assert scores[3]["stability"]["mean"] == pytest.approx(1)  # each half of the cards gives the same three
    assert scores[3]["silhouette"]["n"] == 60 and scores[3]["silhouette"].keys() == {"mean", "lo", "hi", "n"}
    assert scores[3]["stability"].keys() == {"mean", "smallest", "largest", "n"} and scores[3]["stability"]["n"] == 4
    assert scores[3]["davies_bouldin"].keys() == scores[3]["stability"].keys() and scores[3]["davies_bouldin"]["n"] == 8
    assert scores[3]["davies_bouldin"]["mean"] < scores[2]["davies_bouldin"]["mean"]
    assert list(kmeans_grid(PLANTED[:40], range(40), [60, 50], sample=60, seed=0)[0]) == [19]  # the largest that fits


def test_clusters_are_equal_on_one_core(monkeypatch):
    labels, scores = kmeans_grid(PLANTED, range(120), [2, 3], sample=60, seed=0)
    monkeypatch.setattr("medcards.base.parallel.WORKERS", 1)
    alone, scores_alone = kmeans_grid(PLANTED, range(120), [2, 3], sample=60, seed=0)
    assert scores_alone == scores and all((alone[k] == labels[k]).all() for k in (2, 3))


def test_choose_k_takes_the_most_stable_of_the_good():
    def score(mean, lo, stability):
        return {"silhouette": {"mean": mean, "lo": lo}, "stability": {"mean": stability}}

    scores = {
        5: score(0.10, 0.09, 0.9),
        10: score(0.19, 0.18, 0.5),
        20: score(0.20, 0.185, 0.4),
        30: score(0.2, 0, 0.3),
    }
    assert choose_k(scores) == 10  # 5 is more stable, but its silhouette is below the interval of the best


def test_central_cards():
    vectors = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1]])
    found = central_cards(vectors, np.array([0, 0, 0, 1]), 2)
    assert found[0].tolist() == [1, 2] and found[1].tolist() == [3]


def test_agreement_with_known_classes():
    truth = pd.Series(["eye"] * 50 + ["ear"] * 50 + [""] * 20)
    right = np.array([1] * 50 + [0] * 50 + [7] * 20)
    found = agreement(right, truth, range(120), seed=0)
    one = pytest.approx(1)
    assert found == {"mean": one, "smallest": one, "largest": one, "n": 100, "on_all_cards": one, "cards": 100}
    chance = agreement(np.random.default_rng(0).integers(3, size=120), truth, range(120), seed=0)
    assert abs(chance["mean"]) < 0.05 and chance["smallest"] <= chance["mean"] <= chance["largest"]


def test_agreement_of_random_labels_is_zero():
    """With many classes. A bootstrap, which draws cards twice, would find agreement here."""
    rng = np.random.default_rng(1)
    truth, labels = pd.Series(rng.integers(25, size=1500).astype(str)), rng.integers(25, size=1500)
    found = agreement(labels, truth, range(1500), seed=0)
    assert found["smallest"] < 0 < found["largest"] and abs(found["mean"]) < 0.01


HEART = "heart valve artery vein blood ventricle atrium pulse beat aorta".split()
KIDNEY = "kidney urine nephron bladder ureter renal stone filter dialysis cortex".split()


def answered(texts: pd.Series) -> pd.DataFrame:
    return pd.DataFrame({"question": "", "answer": texts})


def planted_texts(count: int) -> pd.Series:
    """Texts about the heart, then as many about the kidney, with stop words."""
    random = np.random.default_rng(0)
    return pd.Series([" of the ".join(random.choice(said, 12)) for said in [HEART] * count + [KIDNEY] * count])


def test_topic_models_find_planted_topics(monkeypatch):
    """60 texts about the heart and 60 about the kidney, and vectors that separate them."""
    bags, counted = topic_texts(answered(planted_texts(60)), min_document_frequency=2)
    vectors = np.repeat(np.eye(2, 4), 60, axis=0) + np.random.default_rng(0).normal(scale=0.05, size=(120, 4))
    monkeypatch.setattr("medcards.explore.topics.LDA_PASSES", 10)  # a small deck needs more
    models = fit_topic_models(bags, vectors, [2], seeds=3, seed=0)
    scores = score_coherence(models, counted)
    assert len(models) == 4 * 3 + 1 and len(scores) == (4 * 3 + 1) * 2
    assert [seed for method, _, seed in models if method == "nmf"] == [0]  # it starts from the same point
    for method in ("lda", "nmf", "embeddings"):
        model = models[method, 2, 0]
        topic_of = model.assign(bags[method])
        assert len(set(topic_of[:60])) == len(set(topic_of[60:])) == 1
        assert topic_of[0] != topic_of[60]
        assert set(model.top_words[topic_of[0]]) == set(HEART)
        assert model.diversity == 1
    assert any("of" in topic for topic in models["lda_raw", 2, 0].top_words)  # all words
    assert choose_topic_model(scores)[0] != "lda_raw"
    summary = summarise_topics(scores)
    assert summary["embeddings"][2]["c_v"]["n"] == 2
    assert len(summary["lda"][2]["c_v_by_seed"]) == 3 and "c_v_by_seed" not in summary["nmf"][2]
    gain = coherence_gain(scores, "embeddings", "lda_raw", 2)
    assert gain["n"] == 3 and 0 < gain["smallest"] <= gain["mean"] <= gain["largest"]


def test_coherence_over_topics_is_a_range_and_the_gain_over_one_fit_has_every_seed():
    """Two topics per model; lda has two seeds with a mean c_v of 0.5 and 0.7, nmf one fit with 0.4."""
    rows = [("lda", 0, 0.4), ("lda", 0, 0.6), ("lda", 1, 0.6), ("lda", 1, 0.8), ("nmf", 0, 0.3), ("nmf", 0, 0.5)]
    scores = pd.DataFrame(rows, columns=["method", "seed", "c_v"]).assign(topics=2, npmi=0.0, diversity=1.0)
    found = summarise_topics(scores)
    assert found["lda"][2]["c_v"] == pytest.approx({"mean": 0.5, "smallest": 0.4, "largest": 0.6, "n": 2})
    assert found["lda"][2]["c_v_by_seed"] == pytest.approx([0.5, 0.7])
    expected = {"mean": 0.2, "smallest": 0.1, "largest": 0.3, "n": 2}
    assert coherence_gain(scores, "lda", "nmf", 2) == pytest.approx(expected)
    assert coherence_gain(scores, "nmf", "lda", 2)["mean"] == pytest.approx(-0.2)


def test_a_single_seed_shows_no_spread():
    bags, counted = topic_texts(answered(planted_texts(30)), min_document_frequency=2)
    models = fit_topic_models(bags, PLANTED[:60], [2], seeds=1, seed=0)
    scores = score_coherence(models, counted)
    labels, shown, metrics, tables = describe_topics(models, scores, bags)
    assert set(labels) == {"lda_raw", "lda", "lda_bigrams", "nmf", "embeddings"} and len(shown) == 60
    assert metrics["shown"]["method"] != "embeddings" and len(metrics["gain_c_v"]) == 4
    assert all(gain["n"] == 1 and gain["smallest"] == gain["largest"] for gain in metrics["gain_c_v"].values())
    assert metrics["grid"]["lda"][2].keys() == {"c_v", "npmi", "diversity"}
    assert tables["topic_models"].columns.tolist() == ["method", "topics", "seed", "c_v", "npmi", "diversity"]
    assert tables["coherence"].columns.tolist() == ["topics", *labels]
    assert tables["topics"].cards.sum() == 60


def test_a_known_clustering_is_not_fitted_again():
    bags, _ = topic_texts(answered(planted_texts(30)), min_document_frequency=2)
    known = np.repeat([0, 1], 30)
    models = fit_topic_models(bags, PLANTED[:60], [2], seeds=2, seed=0, clusters={2: known})
    assert (models["embeddings", 2, 0].assign(bags["embeddings"]) == known).all()
    again = fit_embeddings(bags["embeddings"], PLANTED[:60], 2, seed=1)
    assert (models["embeddings", 2, 1].of_text == again.of_text).all()  # of another seed


def test_topics_are_at_most_as_many_as_texts():
    bags, _ = topic_texts(answered(planted_texts(3)), min_document_frequency=1)
    assert {number for _, number, _ in fit_topic_models(bags, PLANTED[:6], [4, 90, 80], seeds=1, seed=0)} == {4, 6}


def test_map_and_agreement():
    branches = ["a"] * 40 + ["b"] * 40 + ["c"] * 40
    cards = pd.DataFrame({"card_id": [f"card{n}" for n in range(120)], "branch": branches, "group": range(120)})
    labels = np.repeat([0, 1, 2], 40)
    points, agreements = map_and_agreement(cards, PLANTED, {"kmeans": labels}, 30, seed=0)
    assert agreements["kmeans"]["mean"] == pytest.approx(1)
    assert len(points) == 30 and points.columns.tolist() == ["card_id", "x", "y"]
    assert points.card_id.is_unique and set(points.card_id) < set(cards.card_id)
    assert map_and_agreement(cards.assign(branch=""), PLANTED, {"kmeans": labels}, 30, seed=0)[1] == {}


def test_class_terms_by_hand():
    """Class 0 says a, a, b; class 1 says b, c. A = 2.5 words a class: a weighs 2/3 log(1 + 2.5/2), b 1/3 log(2.25)."""
    names = [f"x{letter}" for letter in "abcdefghij"]
    bags = Bags([["xa", "xa", "xb"], ["xb", "xc"], names], 1)
    terms = class_terms(bags, np.array([0, 1, 2]))
    assert terms[0][:2] == ["xa", "xb"]
    assert terms[1][:2] == ["xc", "xb"]


def test_a_pair_and_its_part_count_once():
    bags = Bags([["red_blood", "red", "blood", "cell", *"uvwxyzqpst"]], 1)
    weights = np.array([{"red_blood": 9, "red": 8, "cell": 7}.get(word, 1.0) for word in bags.words])
    found = bags.strongest(weights)
    assert found[:2] == ["red_blood", "cell"]
    assert not {"red", "blood"} & set(found)
    assert len(found) == 10
    both = Bags([["lack_of_vision", "loss_of_hearing", *"uvwxyzqp"]], 1)  # a connector is not a shared part
    assert {"lack_of_vision", "loss_of_hearing"} <= set(both.strongest(np.ones(10)))


def test_coherence_counts_a_pair_where_it_stands():
    from medcards.explore.topics import _reference

    joined = [["a", "red_blood", "cell"]]
    assert _reference(joined) == [["a", "red", "blood", "red_blood", "cell"]]


def test_diversity_by_hand():
    assert Topics([["a", "b"], ["a", "c"]], np.array([0])).diversity == 0.75


def test_the_document_frequency_is_halved_where_it_leaves_too_few_words():
    texts = pd.Series([f"shared{number % 40} once{number} twice{number // 2}" for number in range(400)])
    modelled = {f"shared{n}" for n in range(40)} | {f"twice{n}" for n in range(200)}
    assert set(topic_texts(answered(texts), 10)[0]["lda"].words) == modelled
    assert len(topic_texts(answered(texts[:20]), 10)[0]["lda"].words) == 50  # 10, 5, 2, 1


def test_answers_without_words_are_modelled_with_their_questions():
    cards = pd.DataFrame({"question": [f"Is disease{n} rare?" for n in range(30)], "answer": ["Yes.", "No."] * 15})
    bags, _ = topic_texts(cards, 5)
    assert {"disease0", "rare", "yes"} <= set(bags["lda"].words) and no_topics(bags, 30) is None


def test_chinese_is_modelled():
    texts = [f"应考虑{a}的{b}性疾病" for a in "肝肾心肺脑皮" for b in ("感染", "毒素", "外伤", "梗阻", "缺血")]
    bags, _ = topic_texts(answered(pd.Series(texts)), 2)
    assert {"感染", "毒素", "疾病"} <= set(bags["lda"].words) and no_topics(bags, 30) is None


def test_cards_without_words_have_no_topics(caplog):
    bags, _ = topic_texts(pd.DataFrame({"question": ["🩺?"] * 20, "answer": ["🩺"] * 20}), 5)
    labels, topic, metrics, tables = no_topics(bags, 20)
    assert labels == {} and set(topic) == {0} and "0 words" in metrics["left_out"] and "0 words" in caplog.text
    assert tables["topics"].cards.tolist() == [20] and tables["coherence"].columns.tolist()[0] == "topics"


def test_choose_topic_model_needs_diversity():
    rows = [("a", 10, 0.9, 0.5), ("b", 10, 0.6, 0.8), ("b", 20, 0.4, 0.8)]
    rows += [("c", 10, 0.55, 0.8), ("c", 20, 0.5, 0.8), ("c", 30, 0.8, 0.6)]
    scores = pd.DataFrame(rows, columns=["method", "topics", "c_v", "diversity"]).assign(seed=0)
    assert choose_topic_model(scores) == ("c", 10)  # b has the best cell, c the best method
