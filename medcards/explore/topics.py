"""Topic models of the answers, and the coherence of their topics.

Five methods find topics. All use the same texts, the same numbers of topics, ten words per topic, and words that occur
in at least ``min_document_frequency`` answers. Every answer gets one topic; an answer without such a word gets the
first.

``lda_raw``      latent Dirichlet allocation (Blei et al., 2003; library: gensim) of all words
``lda``          the same without stop words, short words and numbers
``lda_bigrams``  the same with pairs such as cerebrospinal_fluid joined (Bouma's normalised PMI; library: gensim)
``nmf``          non-negative matrix factorisation (Lee and Seung, 1999; library: scikit-learn) of TF-IDF, words as lda
``embeddings``   KMeans clusters of the answers' vectors, named by class-based TF-IDF (Grootendorst, BERTopic, 2022),
                 words as lda
"""

import numpy as np
import pandas as pd

from medcards import InputError
from medcards.base.stats import Bootstrap
from medcards.deck.words import words
from medcards.explore.topic_models import Bags, Topics, content_words, fit_embeddings, fit_lda, fit_nmf

TOPIC_METHODS = ("lda_raw", "lda", "lda_bigrams", "nmf", "embeddings")
TOPIC_SEEDS = 3
"""Number of fits per method and number of topics, each with another seed."""
LDA_PASSES = 2
"""Number of passes of LDA over the texts."""
LEAST_DIVERSITY = 0.7
"""A model with a lower diversity is not chosen: topics that share stop words are coherent and say nothing."""
PAIR_COUNT, PAIR_THRESHOLD = 20, 0.5
"""Least number of occurrences of a joined pair, and its least normalised PMI."""


def describe_topics(
    cards: pd.DataFrame, vectors: np.ndarray, numbers: list[int], min_document_frequency: int, seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray, dict, dict[str, pd.DataFrame]]:
    """Find topics with every method, and compare the methods.

    The shown topics are those of the best model of words. The topics of ``embeddings`` are clusters of vectors, which
    :mod:`medcards.explore.clusters` describes.

    Parameters
    ----------
    cards : the corpus, see :func:`medcards.deck.cards.corpus`.
    vectors, numbers, min_document_frequency : see :func:`fit_topic_models`.

    Returns
    -------
    labels : the topic of each card at the best number of topics, by method.
    shown : the shown topic of each card, shape (cards,).
    metrics : the best and the shown model, the gains of the best, and the scores of all under ``grid``.
    tables : ``topic_models`` (scores of every model), ``coherence`` (mean c_v by number of topics and method) and
        ``topics`` (the shown topics).
    """
    models, scores = fit_topic_models(cards.answer, vectors, numbers, min_document_frequency, seed)
    best, number = choose_topic_model(scores)
    shown = choose_topic_model(scores[scores.method != "embeddings"])
    model = models[*shown, 0]
    means = scores.groupby(["method", "topics", "seed"], sort=False)[["c_v", "npmi", "diversity"]].mean()
    coherences = means.c_v.groupby(["topics", "method"], sort=False).mean().unstack()[list(TOPIC_METHODS)]
    topics = scores.set_index(["method", "topics", "seed"]).loc[(*shown, 0), ["topic", "c_v", "npmi"]]
    names = [" ".join(top) for top in model.top_words]
    tables = {
        "topic_models": means.reset_index(),
        "coherence": coherences.reset_index(),
        "topics": topics.assign(cards=np.bincount(model.of_text, minlength=len(names)), terms=names),
    }
    metrics = {
        "best": {"method": best, "topics": number},
        "shown": {"method": shown[0], "topics": shown[1]},
        "gain_c_v": {other: coherence_gain(scores, best, other, number) for other in TOPIC_METHODS if other != best},
        "grid": summarise_topics(scores, seed),
    }
    return {method: models[method, number, 0].of_text for method in TOPIC_METHODS}, model.of_text, metrics, tables


def fit_topic_models(
    texts: pd.Series, vectors: np.ndarray, numbers: list[int], min_document_frequency: int, seed: int
) -> tuple[dict[tuple, Topics], pd.DataFrame]:
    """Fit every method for every number of topics with :data:`TOPIC_SEEDS` seeds, in parallel on all cores.

    Parameters
    ----------
    texts : the answers.
    vectors : unit vectors of the answers, shape (texts, dimension).
    numbers : numbers of topics.

    Returns
    -------
    models : the models, by (method, number of topics, number of the seed).
    scores : one row per topic: ``method``, ``topics``, ``seed``, ``topic``, ``c_v``, ``npmi``, and the ``diversity`` of
        its model.

    Raises
    ------
    InputError : there are more topics than texts.
    """
    from joblib import Parallel, delayed
    from tqdm import tqdm

    if max(numbers) > len(texts):
        raise InputError(f"eda.topics={numbers}: more topics than the {len(texts)} answers")
    raw = [words(text) for text in texts]
    joined = _join_pairs(raw)
    bags = [Bags(tokens, min_document_frequency) for tokens in (raw, content_words(raw), content_words(joined))]
    jobs = {}
    for number in numbers:
        for place in range(TOPIC_SEEDS):
            fits = (
                *(delayed(fit_lda)(bag, number, LDA_PASSES, seed + place) for bag in bags),
                delayed(fit_nmf)(bags[1], number, seed + place),
                delayed(fit_embeddings)(bags[1], vectors, number, seed + place),
            )
            jobs |= {(method, number, place): fit for method, fit in zip(TOPIC_METHODS, fits, strict=True)}
    order = sorted(jobs, key=lambda key: TOPIC_METHODS.index(key[0]))  # slow methods first
    done = Parallel(n_jobs=-1, return_as="generator")(jobs[key] for key in order)  # a fit is the same in any process
    models = dict(zip(order, tqdm(done, desc="topic models", total=len(order)), strict=True))
    return models, score_coherence(models, _reference(joined))


def choose_topic_model(scores: pd.DataFrame) -> tuple[str, int]:
    """Choose the method with the largest mean c_v over all numbers of topics and seeds, then its best number.

    A method and number whose diversity is below :data:`LEAST_DIVERSITY` is left out, unless all are.

    Parameters
    ----------
    scores : see :func:`fit_topic_models`.

    Returns
    -------
    the method and the number of topics.
    """
    means = scores.groupby(["method", "topics"])[["c_v", "diversity"]].mean()
    diverse = means[means.diversity >= LEAST_DIVERSITY]
    c_v = (means if diverse.empty else diverse).c_v
    method = c_v.groupby("method").mean().idxmax()
    return method, int(c_v[method].idxmax())


def summarise_topics(scores: pd.DataFrame, seed: int) -> dict[str, dict]:
    """Scores by method and number of topics.

    Means and intervals are over the topics of the first seed, because other seeds find much the same topics.
    """
    found: dict[str, dict] = {}
    for (method, number), rows in scores.groupby(["method", "topics"]):
        first = rows[rows.seed == 0]
        bootstrap = Bootstrap(range(len(first)), seed)
        found.setdefault(method, {})[number] = {
            "c_v": bootstrap.interval(first.c_v),
            "npmi": bootstrap.interval(first.npmi),
            "diversity": rows.diversity.mean(),
            "c_v_by_seed": rows.groupby("seed").c_v.mean().to_list(),
        }
    return found


def coherence_gain(scores: pd.DataFrame, method: str, over: str, number: int) -> dict[str, float]:
    """The gain in c_v of one method over another at one number of topics: its mean and range over the seeds."""
    means = scores[scores.topics == number].groupby(["method", "seed"]).c_v.mean()
    gains = means[method] - means[over]
    return {"mean": gains.mean(), "smallest": gains.min(), "largest": gains.max(), "seeds": len(gains)}


def _join_pairs(tokens: list[list[str]]) -> list[list[str]]:
    """The texts with frequent pairs of words joined, such as cerebrospinal_fluid and loss_of_hearing."""
    from gensim.models.phrases import ENGLISH_CONNECTOR_WORDS, Phrases

    pairs = Phrases(
        tokens, min_count=PAIR_COUNT, threshold=PAIR_THRESHOLD, scoring="npmi", connector_words=ENGLISH_CONNECTOR_WORDS
    )
    return [pairs[text] for text in tokens]


def _reference(joined: list[list[str]]) -> list[list[str]]:
    """The texts in which coherence counts words: all words, and each joined pair right after its words."""
    return [
        [part for word in text for part in (*word.split("_"), word)[: None if "_" in word else 1]] for text in joined
    ]


def score_coherence(models: dict[tuple, Topics], texts: list[list[str]]) -> pd.DataFrame:
    """Coherence of every topic on one set of texts: c_v and NPMI (Röder et al., 2015; library: gensim).

    Parameters
    ----------
    models : see :func:`fit_topic_models`.
    texts : the words of each text.
    """
    from gensim.corpora import Dictionary
    from gensim.models import CoherenceModel

    rows = [(*key, topic, model.diversity) for key, model in models.items() for topic in range(len(model.top_words))]
    scores = pd.DataFrame(rows, columns=["method", "topics", "seed", "topic", "diversity"])
    found, dictionary = [top for model in models.values() for top in model.top_words], Dictionary(texts)
    for name, measure in (("c_v", "c_v"), ("npmi", "c_npmi")):
        model = CoherenceModel(topics=found, texts=texts, dictionary=dictionary, coherence=measure, processes=1)
        scores[name] = model.get_coherence_per_topic()
    return scores
