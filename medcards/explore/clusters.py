"""KMeans clusters of the answers' vectors: their number, stability and names; and the t-SNE map."""

import numpy as np
import pandas as pd
from tqdm import tqdm

from medcards import InputError
from medcards.base.stats import Bootstrap
from medcards.explore.topic_models import name_classes

STABILITY_PAIRS = 4
"""Number of pairs of KMeans fits per k. The two fits of a pair see one random half of the cards each."""
SILHOUETTE_SAMPLE = 3000
"""Number of answers that the silhouette is computed on."""
CENTRAL_CARDS = 3
"""Number of central questions that describe a cluster."""
SUBSAMPLES = 100
"""Number of random halves of the groups that give the interval of an agreement."""
K_RULE = "of the k whose mean silhouette lies in the interval of the best, the most stable"


def describe_clusters(
    cards: pd.DataFrame, vectors: np.ndarray, grid: list[int], min_document_frequency: int, seed: int
) -> tuple[np.ndarray, dict, pd.DataFrame]:
    """Find KMeans clusters and name them.

    Parameters
    ----------
    cards : the corpus, see :func:`medcards.deck.cards.corpus`.
    vectors : unit vectors of the answers, shape (cards, dimension).
    grid : numbers of clusters to try.
    min_document_frequency : a word in fewer answers is not used in a name.

    Returns
    -------
    labels : the cluster of each card, shape (cards,).
    metrics : ``k``, the ``rule`` that chose it, and the scores of every k under ``grid``.
    names : one row per cluster: ``cluster``, ``size``, ``terms`` and ``central_questions``.
    """
    labels_by_k, scores = kmeans_grid(vectors, cards.group, grid, SILHOUETTE_SAMPLE, seed)
    k = choose_k(scores)
    labels = labels_by_k[k]
    terms = [" ".join(top) for top in name_classes(cards.answer, labels, min_document_frequency)]
    names = pd.DataFrame({"size": np.bincount(labels, minlength=len(terms)), "terms": terms}).rename_axis("cluster")
    for cluster, rows in central_cards(vectors, labels, CENTRAL_CARDS).items():
        names.loc[cluster, "central_questions"] = " | ".join(cards.question.iloc[rows])
    return labels, {"k": k, "rule": K_RULE, "grid": scores}, names.reset_index()


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
    grid : numbers of clusters. A number that is too large for the sample, or for half of the cards, is left out.
    sample : number of cards that the silhouette is computed on.

    Returns
    -------
    labels : the cluster of each card, by k.
    scores : mean and interval of each score, by k. ``n`` counts cards for the silhouette, pairs of fits for the
        stability, and fits for Davies-Bouldin.

    Raises
    ------
    InputError : every k is too large.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_samples
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(vectors))[:sample])
    orders = [rng.permutation(len(vectors)) for _ in range(STABILITY_PAIRS)]
    halves = [np.sort(half) for order in orders for half in np.array_split(order, 2)]
    small = [k for k in grid if k < min(len(chosen), len(halves[1]))]
    if not small:
        raise InputError(f"eda.clusters={grid}: every k is too large for {len(vectors)} answers")
    bootstrap = Bootstrap(np.asarray(groups)[chosen], seed)
    labels, scores = {}, {}
    # Several threads may add the same numbers in another order.
    with threadpool_limits(1):
        for k in tqdm(small, desc="KMeans"):
            labels[k] = KMeans(k, n_init=1, random_state=seed).fit(vectors).labels_
            found = labels[k][chosen]
            scored = 1 < len(np.unique(found)) < len(chosen)
            silhouettes = silhouette_samples(vectors[chosen], found, metric="cosine") if scored else found * 0.0
            refits = [KMeans(k, n_init=1, random_state=seed).fit(vectors[half]).predict(vectors) for half in halves]
            scores[k] = {"silhouette": bootstrap.interval(silhouettes)} | _refit_scores(vectors, refits, seed)
    return labels, scores


def _refit_scores(vectors: np.ndarray, refits: list[np.ndarray], seed: int) -> dict[str, dict]:
    from sklearn.metrics import adjusted_rand_score, davies_bouldin_score

    stable = [adjusted_rand_score(*refits[place : place + 2]) for place in range(0, len(refits), 2)]
    scores = {"stability": Bootstrap(range(len(stable)), seed).interval(stable)}
    separated = [davies_bouldin_score(vectors, refit) if len(np.unique(refit)) > 1 else np.nan for refit in refits]
    if not np.isnan(separated).all():
        scores["davies_bouldin"] = Bootstrap(range(len(refits)), seed).interval(separated)
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

    The interval comes from random halves of the groups (Politis, Romano and Wolf, Subsampling, 1999). A bootstrap would
    draw some cards twice, and such a card agrees with itself.

    Parameters
    ----------
    labels : the label of each card, shape (cards,).
    truth : the class of each card. A card with an empty class is left out.
    groups : the group of each card.

    Returns
    -------
    ``{"mean", "lo", "hi", "n"}``. ``mean`` is the value on all cards: 0 means chance, 1 means equal.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    known = np.flatnonzero(truth != "")
    one, other = labels[known], pd.factorize(truth.iloc[known])[0]
    group = pd.factorize(np.asarray(groups)[known])[0]
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(SUBSAMPLES):
        rows = (rng.permutation(group.max() + 1) < (group.max() + 1) / 2)[group]
        drawn.append(adjusted_mutual_info_score(one[rows], other[rows]))
    whole = adjusted_mutual_info_score(one, other)
    lo, hi = np.percentile(drawn, [2.5, 97.5]) + whole - np.mean(drawn)
    return {"mean": whole, "lo": lo, "hi": hi, "n": len(known)}


def tsne_map(vectors: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """A two-dimensional t-SNE map by cosine distance (van der Maaten and Hinton, 2008; library: scikit-learn).

    On a few thousand cards scikit-learn is faster than openTSNE and equally trustworthy (docs/LOG.md).

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
        return TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=seed).fit_transform(vectors)
