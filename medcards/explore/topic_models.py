"""Topic models: texts as bags of words, and the methods that find topics in them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import sparse

from medcards.deck.words import STOP_WORDS, unspaced

TOP_WORDS = 10
"""Number of words that describe a topic."""


@dataclass
class Topics:
    """The topics that one model finds.

    Parameters
    ----------
    top_words : the strongest words of each topic.
    of_text : the topic of each text, shape (texts,). With LDA a function that finds it from the bags, because that
        takes as long as a pass of the fit.
    """

    top_words: list[list[str]]
    of_text: np.ndarray | Callable[["Bags"], np.ndarray]

    @property
    def diversity(self) -> float:
        """Share of distinct words among the top words of all topics (Dieng et al., 2020)."""
        found = [word for topic in self.top_words for word in topic]
        return len(set(found)) / len(found)

    def assign(self, bags: "Bags") -> np.ndarray:
        """The topic of each text, shape (texts,). ``bags`` are those that the model was fitted to."""
        return self.of_text(bags) if callable(self.of_text) else self.of_text


class Bags:
    """Texts as bags of words.

    Parameters
    ----------
    tokens : the words of each text.
    min_document_frequency : a word in fewer texts is left out.
    """

    def __init__(self, tokens: list[list[str]], min_document_frequency: int):
        from gensim.corpora import Dictionary
        from gensim.matutils import corpus2csc

        self.dictionary = Dictionary(tokens)
        self.dictionary.filter_extremes(no_below=min_document_frequency, no_above=1.0, keep_n=None)
        self.words = [self.dictionary[place] for place in range(len(self.dictionary))]
        self.rows = [self.dictionary.doc2bow(text) for text in tokens]
        self.counts = sparse.csr_array(corpus2csc(self.rows, num_terms=len(self.words)).T)

    def strongest(self, weights: np.ndarray) -> list[str]:
        """The :data:`TOP_WORDS` words with the largest weights.

        Of a joined pair and its part, and of two pairs that overlap, only the one with the larger weight is taken.

        Parameters
        ----------
        weights : shape (words,).
        """
        found: list[str] = []
        parts: set[str] = set()
        for place in np.argsort(-weights, kind="stable"):
            new = set(self.words[place].split("_")) - (STOP_WORDS if "_" in self.words[place] else set())
            if not new & parts:
                found.append(self.words[place])
                parts |= new
            if len(found) == TOP_WORDS:
                break
        return found


def fit_lda(bags: Bags, topics: int, passes: int, seed: int) -> Topics:
    """Fit latent Dirichlet allocation."""
    from gensim.models import LdaModel

    model = LdaModel(
        bags.rows,
        num_topics=topics,
        id2word=bags.dictionary,
        passes=passes,
        random_state=seed,
        dtype=np.float64,
        eval_every=None,
    )
    return Topics([bags.strongest(row) for row in model.get_topics()], partial(_strongest_topics, model))


def _strongest_topics(model, bags: Bags) -> np.ndarray:
    return model.inference(bags.rows)[0].argmax(axis=1)


def fit_nmf(bags: Bags, topics: int, seed: int) -> Topics:
    """Fit non-negative matrix factorisation of TF-IDF. A text's topic is its strongest.

    The fit starts from a singular value decomposition (NNDSVDa), which ``seed`` approximates.
    """
    from sklearn.decomposition import NMF
    from sklearn.feature_extraction.text import TfidfTransformer
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        model = NMF(min(topics, *bags.counts.shape), init="nndsvda", random_state=seed, max_iter=300)
        weights = model.fit_transform(TfidfTransformer(sublinear_tf=True).fit_transform(bags.counts))
    return Topics([bags.strongest(row) for row in model.components_], weights.argmax(axis=1))


def kmeans_labels(vectors: np.ndarray, k: int, seed: int, fitted: np.ndarray | None = None) -> np.ndarray:
    """The KMeans cluster of each vector, shape (vectors,) (library: scikit-learn).

    Parameters
    ----------
    fitted : places of the vectors that the clusters are fitted to; all by default.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    # Several threads may add the same numbers in another order.
    with threadpool_limits(1):
        model = KMeans(k, n_init=1, random_state=seed)
        return model.fit(vectors).labels_ if fitted is None else model.fit(vectors[fitted]).predict(vectors)


def fit_embeddings(bags: Bags, vectors: np.ndarray, topics: int, seed: int, labels: np.ndarray | None = None) -> Topics:
    """Fit KMeans to unit vectors, shape (texts, dimension), and name the clusters by class-based TF-IDF.

    Parameters
    ----------
    labels : the clusters, where this fit was done before.
    """
    labels = kmeans_labels(vectors, topics, seed) if labels is None else labels
    return Topics(class_terms(bags, labels), labels)


def class_terms(bags: Bags, labels: np.ndarray) -> list[list[str]]:
    """The words that are frequent in a class and rare in the others, for each class, by class-based TF-IDF.

    The weight of a word is its share of the class's words times log(1 + A / f). A is the mean number of words per
    class, and f is the count of the word in all classes (Grootendorst, BERTopic, 2022, equation 3).
    """
    member = sparse.csr_array((np.ones(len(labels)), (labels, np.arange(len(labels)))))
    counts = (member @ bags.counts).toarray()
    sizes = counts.sum(axis=1, keepdims=True)
    weights = counts / np.maximum(sizes, 1) * np.log(1 + sizes.mean() / counts.sum(axis=0))
    return [bags.strongest(row) for row in weights]


def content_words(tokens: Iterable[list[str]]) -> list[list[str]]:
    """The words of each text without stop words, short words and numbers."""
    return [[word for word in text if _is_content(word)] for text in tokens]


def _is_content(word: str) -> bool:
    """Whether a word, or a part of a joined pair, is not a stop word, not a number, and longer than two letters.

    Two characters are enough in a script without spaces.
    """
    parts = [part for part in word.split("_") if part not in STOP_WORDS and not part.isdigit()]
    return any(len(part) > 2 or unspaced(part) for part in parts)
