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

import itertools
import logging
from functools import partial

import numpy as np
import pandas as pd

from medcards.base.parallel import side_by_side
from medcards.base.stats import spread
from medcards.deck.cards import card_text
from medcards.deck.words import words
from medcards.explore.topic_models import TOP_WORDS, Bags, Topics, content_words, fit_embeddings, fit_lda, fit_nmf

log = logging.getLogger(__name__)

TOPIC_METHODS = ("lda_raw", "lda", "lda_bigrams", "nmf", "embeddings")
FITTED_ONCE = ("nmf",)
"""Methods whose start is computed and not drawn, so that several seeds are not several samples (docs/LOG.md)."""
LDA_PASSES = 2
"""Number of passes of LDA over the texts."""
LEAST_DIVERSITY = 0.7
"""A model with a lower diversity is not chosen: topics that share stop words are coherent and say nothing."""
ENOUGH_WORDS = 200
"""Number of words that the topic models need."""
PAIR_COUNT, PAIR_THRESHOLD = 20, 0.5
"""Least number of occurrences of a joined pair, and its least normalised PMI."""


def topic_texts(cards: pd.DataFrame, min_document_frequency: int) -> tuple[dict[str, Bags], list[list[str]]]:
    """The words of each answer, as the methods model them and as coherence counts them.

    In a deck whose answers have hardly a word ("yes", "B", "42"), the words are those of the cards.

    Parameters
    ----------
    cards : table with ``question`` and ``answer``.
    min_document_frequency : a word in fewer answers is not modelled. In a deck that it leaves fewer than
        :data:`ENOUGH_WORDS` words, it is halved until they are enough, or down to 1.

    Returns
    -------
    bags : the bags of words, by method.
    counted : all words of each text, and each joined pair right after its words.
    """
    raw = [words(text) for text in cards.answer]
    if len(set(itertools.chain.from_iterable(content_words(raw)))) < TOP_WORDS:
        raw = [words(card_text(*sides)) for sides in zip(cards.question, cards.answer, strict=True)]
    joined, modelled = _join_pairs(raw), content_words(raw)
    content = Bags(modelled, min_document_frequency)
    while len(content.words) < ENOUGH_WORDS and min_document_frequency > 1:
        min_document_frequency //= 2
        content = Bags(modelled, min_document_frequency)
    every, pairs = (Bags(tokens, min_document_frequency) for tokens in (raw, content_words(joined)))
    bags = {"lda_raw": every, "lda": content, "lda_bigrams": pairs, "nmf": content, "embeddings": content}
    return bags, _reference(joined)


def no_topics(bags: dict[str, Bags], cards: int) -> tuple[dict, np.ndarray, dict, dict[str, pd.DataFrame]] | None:
    """What :func:`describe_topics` returns for a deck with too few words for topics; None for any other deck.

    The metrics say why under ``left_out``. All cards have topic 0.
    """
    if (found := len(bags["lda"].words)) >= TOP_WORDS:
        return None
    reason = f"the cards have {found} words to model, and topics need {TOP_WORDS}"
    log.warning("topics are left out: %s", reason)
    tables = {
        "topic_models": pd.DataFrame(columns=["method", "topics", "seed", "c_v", "npmi", "diversity"]),
        "coherence": pd.DataFrame(columns=["topics", *TOPIC_METHODS]),
        "topics": pd.DataFrame({"topic": [0], "c_v": [np.nan], "npmi": [np.nan], "cards": [cards], "terms": [""]}),
    }
    return {}, np.zeros(cards, dtype=int), {"left_out": reason}, tables


def describe_topics(
    models: dict[tuple, Topics], scores: pd.DataFrame, bags: dict[str, Bags]
) -> tuple[dict[str, np.ndarray], np.ndarray, dict, dict[str, pd.DataFrame]]:
    """Compare the methods, and find the topic of each card.

    The shown topics are those of the best model of words. The topics of ``embeddings`` are clusters of vectors, which
    :mod:`medcards.explore.clusters` describes.

    Parameters
    ----------
    models : see :func:`fit_topic_models`.
    scores : see :func:`score_coherence`.
    bags : see :func:`topic_texts`.

    Returns
    -------
    labels : the topic of each card at the best number of topics, by method.
    shown : the shown topic of each card, shape (cards,).
    metrics : the best and the shown model, the gains of the best, and the scores of all under ``grid``.
    tables : ``topic_models`` (scores of every model), ``coherence`` (mean c_v by number of topics and method) and
        ``topics`` (the shown topics).
    """
    best, number = choose_topic_model(scores)
    shown = choose_topic_model(scores[scores.method != "embeddings"])
    asked = list(dict.fromkeys([*((method, number) for method in TOPIC_METHODS), shown]))
    assigned = side_by_side([partial(models[*key, 0].assign, bags[key[0]]) for key in asked], "topics of answers")
    topic_of = dict(zip(asked, assigned, strict=True))
    means = scores.groupby(["method", "topics", "seed"], sort=False)[["c_v", "npmi", "diversity"]].mean()
    coherences = means.c_v.groupby(["topics", "method"], sort=False).mean().unstack()[list(TOPIC_METHODS)]
    topics = scores.set_index(["method", "topics", "seed"]).loc[(*shown, 0), ["topic", "c_v", "npmi"]]
    names = [" ".join(top) for top in models[*shown, 0].top_words]
    tables = {
        "topic_models": means.reset_index(),
        "coherence": coherences.reset_index(),
        "topics": topics.assign(cards=np.bincount(topic_of[shown], minlength=len(names)), terms=names),
    }
    metrics = {
        "best": {"method": best, "topics": number},
        "shown": {"method": shown[0], "topics": shown[1]},
        "gain_c_v": {other: coherence_gain(scores, best, other, number) for other in TOPIC_METHODS if other != best},
        "grid": summarise_topics(scores),
    }
    return {method: topic_of[method, number] for method in TOPIC_METHODS}, topic_of[shown], metrics, tables


def fit_topic_models(
    bags: dict[str, Bags],
    vectors: np.ndarray,
    numbers: list[int],
    seeds: int,
    seed: int,
    clusters: dict[int, np.ndarray] | None = None,
) -> dict[tuple, Topics]:
    """Fit every method for every number of topics, side by side on the cores.

    Parameters
    ----------
    bags : see :func:`topic_texts`.
    vectors : unit vectors of the answers, shape (texts, dimension).
    numbers : numbers of topics; at most one per text is fitted.
    seeds : number of fits per method and number of topics, each with another seed, from ``seed`` on. A
        method of :data:`FITTED_ONCE` has one fit, with the first seed.
    clusters : the KMeans clusters of the vectors with ``seed``, by their number. They are not fitted again.

    Returns
    -------
    models : the models, by (method, number of topics, number of the seed).
    """
    numbers = sorted({min(number, len(vectors)) for number in numbers})
    fits, known = {}, clusters or {}
    for method, number in itertools.product(TOPIC_METHODS, numbers):  # slow first
        for place in range(1 if method in FITTED_ONCE else seeds):
            of, drawn = bags[method], seed + place
            if method == "nmf":
                fit = partial(fit_nmf, of, number, drawn)
            elif method == "embeddings":
                fit = partial(fit_embeddings, of, vectors, number, drawn, None if place else known.get(number))
            else:
                fit = partial(fit_lda, of, number, LDA_PASSES, drawn)
            fits[method, number, place] = fit
    return dict(zip(fits, side_by_side(list(fits.values()), "topic models"), strict=True))


def choose_topic_model(scores: pd.DataFrame) -> tuple[str, int]:
    """Choose the method with the largest mean c_v over all numbers of topics and seeds, then its best number.

    A method and number whose diversity is below :data:`LEAST_DIVERSITY` is left out, unless all are.

    Parameters
    ----------
    scores : see :func:`score_coherence`.

    Returns
    -------
    the method and the number of topics.
    """
    means = scores.groupby(["method", "topics"])[["c_v", "diversity"]].mean()
    diverse = means[means.diversity >= LEAST_DIVERSITY]
    c_v = (means if diverse.empty else diverse).c_v
    method = c_v.groupby("method").mean().idxmax()
    return method, int(c_v[method].idxmax())


def summarise_topics(scores: pd.DataFrame) -> dict[str, dict]:
    """Scores by method and number of topics.

    ``c_v`` and ``npmi`` are spreads over the topics of the first seed, see :func:`medcards.base.stats.spread`. Where a
    method has several seeds, ``c_v_by_seed`` holds the mean of each.
    """
    found: dict[str, dict] = {}
    for (method, number), rows in scores.groupby(["method", "topics"]):
        first = rows[rows.seed == 0]
        found.setdefault(method, {})[number] = {
            "c_v": spread(first.c_v),
            "npmi": spread(first.npmi),
            "diversity": rows.diversity.mean(),
        }
        if len(by_seed := rows.groupby("seed").c_v.mean()) > 1:
            found[method][number]["c_v_by_seed"] = by_seed.to_list()
    return found


def coherence_gain(scores: pd.DataFrame, method: str, over: str, number: int) -> dict[str, float]:
    """The gain in c_v of one method over another at one number of topics: its spread over the seeds.

    The one fit of a method of :data:`FITTED_ONCE` is compared with the fit of every seed.
    """
    means = scores[scores.topics == number].groupby(["method", "seed"]).c_v.mean().unstack().ffill(axis=1)
    return spread(means.loc[method] - means.loc[over])


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
    texts : the words of each text that are counted, see :func:`topic_texts`.

    Returns
    -------
    one row per topic: ``method``, ``topics``, ``seed``, ``topic``, ``diversity`` (of its model), ``c_v`` and ``npmi``.
    """
    rows = [(*key, topic, model.diversity) for key, model in models.items() for topic in range(len(model.top_words))]
    scores = pd.DataFrame(rows, columns=["method", "topics", "seed", "topic", "diversity"])
    found = [top for model in models.values() for top in model.top_words]
    measures = [partial(_coherence, found, texts, measure) for measure in ("c_v", "c_npmi")]
    scores["c_v"], scores["npmi"] = side_by_side(measures, "coherence")
    return scores


def _coherence(topics: list[list[str]], texts: list[list[str]], measure: str) -> list[float]:
    from gensim.corpora import Dictionary
    from gensim.models import CoherenceModel

    model = CoherenceModel(topics=topics, texts=texts, dictionary=Dictionary(texts), coherence=measure, processes=1)
    return model.get_coherence_per_topic()
