"""Topic models and their coherence: gensim and scikit-learn, one fit after another, against the stage eda.

    python -m benchmarks.run topics

Both ways get the same bags of words. The plain way fits every model of the stage with the libraries' own calls, and
measures the coherence of each model by itself. Quality is the mean coherence c_v over the topics of all models.
"""

from collections.abc import Iterator

import numpy as np

from benchmarks.material import Deck, blocks
from benchmarks.measure import Benchmark, Way
from medcards.explore.overview import EdaParams
from medcards.explore.topic_models import TOP_WORDS, Bags, class_terms
from medcards.explore.topics import LDA_PASSES, fit_topic_models, score_coherence, topic_texts

CARDS = 4000


def benchmarks(cards: int) -> Iterator[Benchmark]:
    seed, params = blocks(eda=EdaParams)
    deck = Deck(seed)
    sample, vectors = deck.corpus[:cards], deck.vectors.answers[:cards]
    least = max(2, params.min_document_frequency * len(sample) // len(deck.corpus))
    bags, counted = topic_texts(sample, least)
    seeds = range(seed, seed + params.seeds)

    def plain(_: object) -> float:
        return plain_coherence(bags, counted, vectors, params.topics, seeds)

    def ours(_: object) -> float:
        models = fit_topic_models(bags, vectors, params.topics, params.seeds, seed)
        return float(score_coherence(models, counted).c_v.mean())

    def quality(one: float, other: float) -> dict[str, str]:
        return {"c_v": f"{one:.3f} plain, {other:.3f} this way"}

    fits = len(bags) * len(params.topics) * len(seeds)
    ways = {"one fit after another": Way(plain), "ours": Way(ours, ours=True)}
    yield Benchmark("topics", f"{fits} models of {len(sample):,} answers", ways, quality)


def plain_coherence(
    bags: dict[str, Bags], counted: list[list[str]], vectors: np.ndarray, numbers: list[int], seeds: range
) -> float:
    """Mean c_v of the topics of every method, number of topics and seed."""
    from gensim.corpora import Dictionary
    from gensim.models import CoherenceModel, LdaModel
    from sklearn.cluster import KMeans
    from sklearn.decomposition import NMF
    from sklearn.feature_extraction.text import TfidfTransformer

    def fit(method: str, bag: Bags, number: int, seed: int) -> list[list[str]]:
        if method == "embeddings":
            return class_terms(bag, KMeans(number, n_init=1, random_state=seed).fit(vectors).labels_)
        if method == "nmf":
            weights = TfidfTransformer(sublinear_tf=True).fit_transform(bag.counts)
            weights = NMF(number, init="nndsvda", random_state=seed, max_iter=300).fit(weights).components_
            return [[bag.words[place] for place in np.argsort(-row)[:TOP_WORDS]] for row in weights]
        model = LdaModel(bag.rows, number, bag.dictionary, passes=LDA_PASSES, random_state=seed)
        return [[word for word, _ in model.show_topic(topic, TOP_WORDS)] for topic in range(number)]

    dictionary, found = Dictionary(counted), []
    for number in numbers:
        for seed in seeds:
            for method, bag in bags.items():
                topics = fit(method, bag, number, seed)
                for measure in ("c_npmi", "c_v"):
                    model = CoherenceModel(topics=topics, texts=counted, dictionary=dictionary, coherence=measure)
                    scores = model.get_coherence_per_topic()
                found += scores
    return float(np.mean(found))
