"""Topic models of the answers, and how coherent their topics are.

Five ways to find topics, from plain to less plain. All are held to the same texts, the same number of topics, ten
words a topic, each word in at least ``min_document_frequency`` answers; every answer gets one topic (one without any
such word, the first).

``lda_raw``      latent Dirichlet allocation (Blei et al., 2003; library: gensim) on the words as they are
``lda``          the same without stop words, short words and numbers
``lda_bigrams``  the same with pairs such as cerebrospinal_fluid joined (Bouma's normalised PMI; library: gensim)
``nmf``          non-negative matrix factorisation (Lee and Seung, 1999; library: scikit-learn) of TF-IDF, words as lda
``embeddings``   KMeans clusters of the answers' vectors, named by class-based TF-IDF (Grootendorst, BERTopic, 2022),
                 words as lda
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from medcards import InputError
from medcards.base.stats import Bootstrap
from medcards.explore.vocabulary import STOP_WORDS, words

METHODS = ("lda_raw", "lda", "lda_bigrams", "nmf", "embeddings")
SEEDS = 3
TOP = 10
DIVERSITY = 0.7
"""Topics that share more of their words than this leaves are not called coherent: stop words cohere with everything."""


@dataclass
class Topics:
    """What one model found: the strongest words of each topic, and the topic of each text."""

    top_words: list[list[str]]
    of_text: np.ndarray

    @property
    def diversity(self) -> float:
        """Share of distinct words among the top words of all topics (Dieng et al., 2020)."""
        found = [word for topic in self.top_words for word in topic]
        return len(set(found)) / len(found)


class Bags:
    """Texts as bags of words, each word in at least ``min_document_frequency`` texts.

    Raises
    ------
    InputError : fewer than :data:`TOP` words are left.
    """

    def __init__(self, tokens: list[list[str]], min_document_frequency: int):
        from gensim.corpora import Dictionary
        from gensim.matutils import corpus2csc

        self.dictionary = Dictionary(tokens)
        self.dictionary.filter_extremes(no_below=min_document_frequency, no_above=1.0, keep_n=None)
        if len(self.dictionary) < TOP:
            raise InputError(
                f"eda.min_document_frequency={min_document_frequency} leaves {len(self.dictionary)} words to model, "
                "too few: lower it"
            )
        self.words = [self.dictionary[place] for place in range(len(self.dictionary))]
        self.rows = [self.dictionary.doc2bow(text) for text in tokens]
        self.counts = sparse.csr_array(corpus2csc(self.rows, num_terms=len(self.words)).T)

    def strongest(self, weights: np.ndarray) -> list[str]:
        """The words of the largest weights; of a pair and its part, or of two that overlap, the first counts."""
        found: list[str] = []
        parts: set[str] = set()
        for place in np.argsort(-weights, kind="stable"):
            new = set(self.words[place].split("_")) - (STOP_WORDS if "_" in self.words[place] else set())
            if not new & parts:
                found.append(self.words[place])
                parts |= new
            if len(found) == TOP:
                break
        return found


def fit_lda(bags: Bags, topics: int, passes: int, seed: int) -> Topics:
    """Latent Dirichlet allocation; a text's topic is its strongest."""
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
    return Topics([bags.strongest(row) for row in model.get_topics()], model.inference(bags.rows)[0].argmax(axis=1))


def fit_nmf(bags: Bags, topics: int, seed: int) -> Topics:
    """Non-negative matrix factorisation of TF-IDF; a text's topic is its strongest."""
    from sklearn.decomposition import NMF
    from sklearn.feature_extraction.text import TfidfTransformer
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        model = NMF(min(topics, *bags.counts.shape), init="nndsvda", random_state=seed, max_iter=300)
        weights = model.fit_transform(TfidfTransformer(sublinear_tf=True).fit_transform(bags.counts))
    return Topics([bags.strongest(row) for row in model.components_], weights.argmax(axis=1))


def fit_embeddings(bags: Bags, vectors: np.ndarray, topics: int, seed: int) -> Topics:
    """KMeans clusters of unit vectors, shape (texts, dimension), named by class-based TF-IDF."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        labels = KMeans(topics, n_init=1, random_state=seed).fit(vectors).labels_
    return Topics(class_terms(bags, labels), labels)


def class_terms(bags: Bags, labels: np.ndarray) -> list[list[str]]:
    """The words that are frequent in each class and rare in the others, by class-based TF-IDF.

    A word's weight is its share of the class's words times log(1 + A / f), A being the mean number of words of a
    class, f the word's count in all (Grootendorst, BERTopic, 2022, equation 3).
    """
    member = sparse.csr_array((np.ones(len(labels)), (labels, np.arange(len(labels)))))
    counts = (member @ bags.counts).toarray()
    sizes = counts.sum(axis=1, keepdims=True)
    weights = counts / np.maximum(sizes, 1) * np.log(1 + sizes.mean() / counts.sum(axis=0))
    return [bags.strongest(row) for row in weights]


def name_classes(texts: pd.Series, labels: np.ndarray, min_document_frequency: int) -> list[list[str]]:
    """The words of each class of texts, see :func:`class_terms`; stop words, short words and numbers left out."""
    return class_terms(Bags(_content(map(words, texts)), min_document_frequency), labels)


def fit_grid(
    texts: pd.Series, vectors: np.ndarray, numbers: list[int], passes: int, min_document_frequency: int, seed: int
) -> tuple[dict[tuple, Topics], pd.DataFrame]:
    """Every method for every number of topics with :data:`SEEDS` seeds, as many at a time as there are cores.

    Parameters
    ----------
    texts : the answers.
    vectors : their unit vectors, shape (texts, dimension).
    numbers : numbers of topics.
    passes : of LDA over the texts.

    Returns
    -------
    models : by (method, number of topics, number of the seed).
    scores : one row a topic: ``method``, ``topics``, ``seed``, ``topic``, ``c_v``, ``npmi``, and its model's
        ``diversity``.
    """
    from joblib import Parallel, delayed
    from tqdm import tqdm

    if max(numbers) > len(texts):
        raise InputError(f"eda.topics={numbers}: more topics than the {len(texts)} answers")
    raw = [words(text) for text in texts]
    joined = _join_pairs(raw)
    bags = [Bags(tokens, min_document_frequency) for tokens in (raw, _content(raw), _content(joined))]
    jobs = {}
    for number in numbers:
        for place in range(SEEDS):
            fits = (
                *(delayed(fit_lda)(bag, number, passes, seed + place) for bag in bags),
                delayed(fit_nmf)(bags[1], number, seed + place),
                delayed(fit_embeddings)(bags[1], vectors, number, seed + place),
            )
            jobs |= {(method, number, place): fit for method, fit in zip(METHODS, fits, strict=True)}
    order = sorted(jobs, key=lambda key: METHODS.index(key[0]))  # the slow ones first
    done = Parallel(n_jobs=-1, return_as="generator")(jobs[key] for key in order)  # each the same in any process
    models = dict(zip(order, tqdm(done, desc="topic models", total=len(order)), strict=True))
    return models, coherence(models, _reference(joined))


def choose_model(scores: pd.DataFrame) -> tuple[str, int]:
    """The most coherent method: the largest c_v over all numbers of topics and seeds, then its own best number.

    What has a diversity below :data:`DIVERSITY` is left out, if anything else is there.
    """
    means = scores.groupby(["method", "topics"])[["c_v", "diversity"]].mean()
    diverse = means[means.diversity >= DIVERSITY]
    c_v = (means if diverse.empty else diverse).c_v
    method = c_v.groupby("method").mean().idxmax()
    return method, int(c_v[method].idxmax())


def summarise(scores: pd.DataFrame, seed: int) -> dict[str, dict]:
    """Scores by method and number of topics: each seed's c_v; mean and interval over the topics of the first seed.

    The seeds of one method find much the same topics, so they do not count as more of them.
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


def gain(scores: pd.DataFrame, method: str, over: str, number: int) -> dict[str, float]:
    """How much more coherent (c_v) one method is than another at one number of topics, seed by seed."""
    means = scores[scores.topics == number].groupby(["method", "seed"]).c_v.mean()
    gains = means[method] - means[over]
    return {"mean": gains.mean(), "smallest": gains.min(), "largest": gains.max(), "seeds": len(gains)}


def _join_pairs(tokens: list[list[str]]) -> list[list[str]]:
    """Words that often stand together, with connectors such as "of" between them, as one: cerebrospinal_fluid."""
    from gensim.models.phrases import ENGLISH_CONNECTOR_WORDS, Phrases

    pairs = Phrases(tokens, min_count=20, threshold=0.5, scoring="npmi", connector_words=ENGLISH_CONNECTOR_WORDS)
    return [pairs[text] for text in tokens]


def _content(tokens: Iterable[list[str]]) -> list[list[str]]:
    return [[word for word in text if _says_something(word)] for text in tokens]


def _says_something(word: str) -> bool:
    """Whether a word, or a part of a joined pair, is more than a stop word, two letters or a number."""
    return any(part not in STOP_WORDS and len(part) > 2 and not part.isdigit() for part in word.split("_"))


def _reference(joined: list[list[str]]) -> list[list[str]]:
    """The texts that coherence counts in: the words as they are, and each joined pair right behind its words."""
    return [
        [part for word in text for part in (*word.split("_"), word)[: None if "_" in word else 1]] for text in joined
    ]


def coherence(models: dict[tuple, Topics], texts: list[list[str]]) -> pd.DataFrame:
    """Coherence of every topic on one set of texts: c_v and NPMI (Röder et al., 2015; library: gensim)."""
    from gensim.corpora import Dictionary
    from gensim.models import CoherenceModel

    rows = [(*key, topic, model.diversity) for key, model in models.items() for topic in range(len(model.top_words))]
    scores = pd.DataFrame(rows, columns=["method", "topics", "seed", "topic", "diversity"])
    found, dictionary = [top for model in models.values() for top in model.top_words], Dictionary(texts)
    for name, measure in (("c_v", "c_v"), ("npmi", "c_npmi")):
        model = CoherenceModel(topics=found, texts=texts, dictionary=dictionary, coherence=measure, processes=1)
        scores[name] = model.get_coherence_per_topic()
    return scores
