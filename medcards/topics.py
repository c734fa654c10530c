"""What the deck is about: word statistics, KMeans clusters, LDA topics, a t-SNE map, and how they are scored."""

import re
from collections import Counter
from typing import Annotated

import numpy as np
import pandas as pd
from bm25s.stopwords import STOPWORDS_EN_PLUS
from pydantic import Field, PositiveFloat, PositiveInt
from tqdm import tqdm

from medcards import InputError
from medcards.params import Block

STOP_WORDS = frozenset(STOPWORDS_EN_PLUS)


class EdaParams(Block):
    """Sizes of the exploration, see params.yaml."""

    clusters: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    silhouette_sample: PositiveInt
    topics: PositiveInt
    lda_passes: PositiveInt
    min_document_frequency: PositiveInt
    tsne_sample: PositiveInt
    perplexity: PositiveFloat


def words(text: str) -> list[str]:
    """The words of a text, lower case, hyphenated words whole."""
    return re.findall(r"[a-z0-9]+(?:[-'][a-z0-9]+)*", text.lower())


def length_statistics(texts: pd.Series) -> dict:
    """Length in words of each text (mean, quartiles, longest) and the vocabulary of all."""
    tokens = texts.map(words)
    lengths = tokens.map(len)
    vocabulary = Counter(word for text in tokens for word in text)
    quartiles = lengths.quantile([0.25, 0.5, 0.75]).to_list()
    return {
        "texts": len(texts),
        "words": int(lengths.sum()),
        "words_mean": lengths.mean(),
        "words_quartiles": quartiles,
        "words_longest": int(lengths.max()),
        "vocabulary": len(vocabulary),
        "words_seen_once": sum(count == 1 for count in vocabulary.values()),
    }


def kmeans_grid(
    vectors: np.ndarray, grid: list[int], sample: int, seed: int
) -> tuple[dict[int, np.ndarray], pd.DataFrame]:
    """KMeans for each k of a grid, scored by the silhouette (Rousseeuw, 1987; cosine) on one fixed sample.

    Parameters
    ----------
    vectors : unit vectors, shape (cards, dimension).
    grid : numbers of clusters; those above the number of cards - 1 are left out.
    sample : cards that the silhouette is computed on.

    Returns
    -------
    labels : the cluster of each card, by k.
    silhouettes : one row a sampled card, one column a k.

    Raises
    ------
    InputError : no k is small enough.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_samples
    from threadpoolctl import threadpool_limits

    if not any(k < min(sample, len(vectors)) for k in grid):
        raise InputError(f"eda.clusters={grid}: every k is too large for {min(sample, len(vectors))} answers")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(vectors))[:sample])
    labels, silhouettes = {}, pd.DataFrame(index=chosen)
    # More than one thread may add up the same numbers in another order.
    with threadpool_limits(1):
        for k in tqdm([k for k in grid if k < len(chosen)], desc="KMeans"):
            labels[k] = KMeans(k, n_init=1, random_state=seed).fit(vectors).labels_
            found = labels[k][chosen]
            distinct = len(np.unique(found))
            scored = 1 < distinct < len(chosen)
            silhouettes[k] = silhouette_samples(vectors[chosen], found, metric="cosine") if scored else 0.0
    return labels, silhouettes


def fit_lda(texts: pd.Series, params: EdaParams, seed: int) -> tuple[np.ndarray, list[list[str]], list[float]]:
    """Latent Dirichlet allocation (Blei et al., 2003) on words, library: gensim.

    Returns
    -------
    topic : each text's strongest topic.
    top_words : the ten strongest words of each topic.
    coherence : c_v coherence (Röder et al., 2015) of each topic, on these texts.
    """
    from gensim.corpora import Dictionary
    from gensim.models import CoherenceModel, LdaModel

    tokens = [[word for word in words(text) if word not in STOP_WORDS and len(word) > 2] for text in texts]
    dictionary = Dictionary(tokens)
    dictionary.filter_extremes(no_below=params.min_document_frequency, no_above=0.5)
    if not dictionary:
        raise InputError(
            f"eda.min_document_frequency={params.min_document_frequency} leaves no word to model: lower it"
        )
    bags = [dictionary.doc2bow(text) for text in tqdm(tokens, desc="bags of words", leave=False)]
    model = LdaModel(
        bags,
        num_topics=params.topics,
        id2word=dictionary,
        passes=params.lda_passes,
        random_state=seed,
        dtype=np.float64,
    )
    top_words = [[word for word, _ in model.show_topic(topic, 10)] for topic in range(params.topics)]
    coherence = CoherenceModel(topics=top_words, texts=tokens, dictionary=dictionary, coherence="c_v", processes=1)
    weights = model.inference(bags)[0]
    return weights.argmax(axis=1), top_words, [float(value) for value in coherence.get_coherence_per_topic()]


def tsne_map(vectors: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Two-dimensional t-SNE (van der Maaten and Hinton, 2008) of unit vectors by cosine distance, shape (cards, 2).

    The perplexity is at most a third of the number of vectors.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(perplexity, (len(vectors) - 1) / 3)
    with threadpool_limits(1):
        return TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=seed).fit_transform(vectors)
