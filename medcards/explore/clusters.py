"""KMeans clusters of the answers' vectors: their number, stability and names; and the t-SNE map."""

from functools import partial

import numpy as np
import pandas as pd

from medcards.base.parallel import side_by_side
from medcards.base.stats import Bootstrap, spread
from medcards.explore.topic_models import Bags, class_terms, kmeans_labels

STABILITY_PAIRS = 4
"""Number of pairs of KMeans fits per k. The two fits of a pair see one random half of the cards each."""
SILHOUETTE_SAMPLE = 3000
"""Number of answers that the silhouette is computed on."""
CENTRAL_CARDS = 3
"""Number of central questions that describe a cluster."""
SUBSAMPLES = 100
"""Number of random halves of the groups that an agreement is measured on."""
TSNE_STEPS, TSNE_ANGLE = 500, 0.8
"""Number of steps of the t-SNE map, and the angle below which far cards act as one (Barnes-Hut)."""
K_RULE = "of the k whose mean silhouette lies in the interval of the best, the most stable"


def describe_clusters(
    cards: pd.DataFrame, vectors: np.ndarray, bags: Bags, grid: list[int], seed: int
) -> tuple[dict[int, np.ndarray], dict, pd.DataFrame]:
    """Find KMeans clusters and name them.

    Parameters
    ----------
    cards : the corpus, see :func:`medcards.deck.cards.corpus`.
    vectors : unit vectors of the answers, shape (cards, dimension).
    bags : the words of the answers that may name a cluster.
    grid : numbers of clusters to try.

    Returns
    -------
    labels : the cluster of each card, shape (cards,), by number of clusters.
    metrics : ``k``, the ``rule`` that chose it, and the scores of every k under ``grid``.
    names : one row per cluster: ``cluster``, ``size``, ``terms`` and ``central_questions``.
    """
    labels_by_k, scores = kmeans_grid(vectors, cards.group, grid, SILHOUETTE_SAMPLE, seed)
    k = choose_k(scores)
    labels = labels_by_k[k]
    terms = [" ".join(top) for top in class_terms(bags, labels)]
    names = pd.DataFrame({"size": np.bincount(labels, minlength=len(terms)), "terms": terms}).rename_axis("cluster")
    for cluster, rows in central_cards(vectors, labels, CENTRAL_CARDS).items():
        names.loc[cluster, "central_questions"] = " | ".join(cards.question.iloc[rows])
    return labels_by_k, {"k": k, "rule": K_RULE, "grid": scores}, names.reset_index()


def kmeans_grid(
    vectors: np.ndarray, groups: object, grid: list[int], sample: int, seed: int
) -> tuple[dict[int, np.ndarray], dict[int, dict]]:
    """Fit KMeans for each k of a grid, and score the clusters (library: scikit-learn).

    - ``silhouette`` (Rousseeuw, 1987), cosine, on one fixed sample of cards: 1 means separate clusters, 0 means none;
    - ``stability``: two fits see one half of the cards each and label all cards; their adjusted Rand index (Hubert and
      Arabie, 1985) over :data:`STABILITY_PAIRS` pairs: 1 means that other cards give the same clusters;
    - ``davies_bouldin`` (Davies and Bouldin, 1979), of these fits on all cards: lower is better.

    Parameters
    ----------
    vectors : unit vectors, shape (cards, dimension).
    groups : the group of each card, shape (cards,). The silhouette's interval resamples groups.
    grid : numbers of clusters. A number that is too large for the sample, or for half of the cards, is left out; if all
        are, the largest that fits is taken.
    sample : number of cards that the silhouette is computed on.

    Returns
    -------
    labels : the cluster of each card, by k.
    scores : ``silhouette`` with its interval, and the spread of ``stability`` over the pairs of fits and of
        ``davies_bouldin`` over the fits, see :func:`medcards.base.stats.spread`; by k.
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(vectors))[:sample])
    orders = [rng.permutation(len(vectors)) for _ in range(STABILITY_PAIRS)]
    halves = [np.sort(half) for order in orders for half in np.array_split(order, 2)]
    most = min(len(chosen), len(halves[1])) - 1
    small = [k for k in grid if k <= most] or [max(most, 1)]
    slow_first = sorted(set(small), reverse=True)
    fits = [partial(_scored_fit, vectors, k, chosen, seed) for k in slow_first]
    fits += [partial(_scored_refit, vectors, k, half, seed) for k in slow_first for half in halves]
    done = side_by_side(fits, "KMeans")
    whole, refits = dict(zip(slow_first, done, strict=False)), iter(done[len(slow_first) :])
    again = {k: [next(refits) for _ in halves] for k in slow_first}
    bootstrap = Bootstrap(np.asarray(groups)[chosen], seed)
    scores = {k: {"silhouette": bootstrap.interval(whole[k][1])} | _refit_scores(again[k]) for k in small}
    return {k: whole[k][0] for k in small}, scores


def _scored_fit(vectors: np.ndarray, k: int, chosen: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The cluster of each card, and the silhouette of each chosen card."""
    from sklearn.metrics import silhouette_samples
    from threadpoolctl import threadpool_limits

    labels = kmeans_labels(vectors, k, seed)
    found = labels[chosen]
    if not 1 < len(np.unique(found)) < len(chosen):
        return labels, found * 0.0
    with threadpool_limits(1):
        return labels, silhouette_samples(vectors[chosen], found, metric="cosine")


def _scored_refit(vectors: np.ndarray, k: int, half: np.ndarray, seed: int) -> tuple[np.ndarray, float]:
    """The cluster of each card when a half of the cards is fitted, and the Davies-Bouldin score."""
    from sklearn.metrics import davies_bouldin_score
    from threadpoolctl import threadpool_limits

    labels = kmeans_labels(vectors, k, seed, half)
    with threadpool_limits(1):
        return labels, davies_bouldin_score(vectors, labels) if len(np.unique(labels)) > 1 else np.nan


def _refit_scores(refits: list[tuple[np.ndarray, float]]) -> dict[str, dict]:
    from sklearn.metrics import adjusted_rand_score

    labels, separated = zip(*refits, strict=True)
    stable = [adjusted_rand_score(one, other) for one, other in zip(labels[::2], labels[1::2], strict=True)]
    scores = {"stability": spread(stable)}
    if known := [score for score in separated if not np.isnan(score)]:
        scores["davies_bouldin"] = spread(known)
    return scores


def choose_k(scores: dict[int, dict]) -> int:
    """The number of clusters by :data:`K_RULE`.

    Parameters
    ----------
    scores : see :func:`kmeans_grid`.
    """
    floor = max((score["silhouette"] for score in scores.values()), key=lambda interval: interval["mean"])["lo"]
    good = [k for k, score in scores.items() if score["silhouette"]["mean"] >= floor]
    return max(good, key=lambda k: scores[k]["stability"]["mean"])


def central_cards(vectors: np.ndarray, labels: np.ndarray, count: int) -> dict[int, np.ndarray]:
    """Positions of the ``count`` cards nearest to each cluster's mean vector, nearest first, by cluster."""
    found = {}
    for cluster in np.unique(labels):
        members = np.flatnonzero(labels == cluster)
        similarity = vectors[members] @ vectors[members].mean(axis=0)
        found[int(cluster)] = members[np.argsort(-similarity, kind="stable")[:count]]
    return found


def agreement(labels: np.ndarray, truth: pd.Series, groups: object, seed: int) -> dict[str, float]:
    """Adjusted mutual information of labels with classes that the source names (Vinh, Epps and Bailey, 2010).

    It is measured on :data:`SUBSAMPLES` random halves of the groups. A bootstrap would draw some cards twice, and such
    a card agrees with itself.

    Parameters
    ----------
    labels : the label of each card, shape (cards,).
    truth : the class of each card. A card with an empty class is left out.
    groups : the group of each card.

    Returns
    -------
    the spread over the halves, see :func:`medcards.base.stats.spread`, the value ``on_all_cards`` with a class, and
    their number ``cards``. 0 means chance, 1 means equal.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    known = np.flatnonzero(truth != "")
    one, other = labels[known], pd.factorize(truth.iloc[known])[0]
    group = pd.factorize(np.asarray(groups)[known])[0]
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(SUBSAMPLES):
        rows = (rng.permutation(group.max() + 1) < (group.max() + 1) / 2)[group]
        drawn.append(adjusted_mutual_info_score(one[rows], other[rows]))
    return spread(drawn) | {"on_all_cards": adjusted_mutual_info_score(one, other), "cards": len(known)}


def tsne_map(vectors: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """A two-dimensional t-SNE map by cosine distance (van der Maaten and Hinton, 2008; library: scikit-learn).

    On a few thousand cards scikit-learn is faster than openTSNE and equally trustworthy (docs/LOG.md). So is the map
    after :data:`TSNE_STEPS` steps, against twice as many with a finer angle.

    Parameters
    ----------
    vectors : unit vectors, shape (cards, dimension).
    perplexity : effective number of neighbours; at most a third of the number of vectors is used.

    Returns
    -------
    coordinates, shape (cards, 2).
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(perplexity, (len(vectors) - 1) / 3)
    with threadpool_limits(1):
        look = {"metric": "cosine", "init": "pca", "max_iter": TSNE_STEPS, "angle": TSNE_ANGLE}
        return TSNE(perplexity=perplexity, random_state=seed, **look).fit_transform(vectors)
