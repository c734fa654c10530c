"""KMeans clusters of the answers' vectors: how many, how real, what they are about; and the t-SNE map."""

import numpy as np
import pandas as pd
from tqdm import tqdm

from medcards import InputError
from medcards.base.stats import Bootstrap

PAIRS = 4
"""Pairs of KMeans fits for each k, one fit on a random half of the cards, the other on the other half."""
RULE = "of the k whose mean silhouette lies in the interval of the best, the most stable"


def kmeans_grid(
    vectors: np.ndarray, groups: object, grid: list[int], sample: int, seed: int
) -> tuple[dict[int, np.ndarray], dict[int, dict]]:
    """KMeans for each k of a grid, and three scores that say whether its clusters are real (library: scikit-learn).

    - ``silhouette`` (Rousseeuw, 1987), cosine, on one fixed sample of cards: 1 is well apart, 0 is no structure;
    - ``stability``: two fits see one half of the cards each and label all of them; their adjusted Rand index (Hubert
      and Arabie, 1985), for :data:`PAIRS` pairs: 1 says that the same clusters are found from other cards;
    - ``davies_bouldin`` (Davies and Bouldin, 1979), on all cards, of these fits: lower is better.

    Parameters
    ----------
    vectors : unit vectors, shape (cards, dimension).
    groups : the group of each card, which the silhouette's interval resamples.
    grid : numbers of clusters; those that the sample, or half of the cards, is too small for are left out.
    sample : cards that the silhouette is computed on.

    Returns
    -------
    labels : the cluster of each card, by k.
    scores : mean and interval of each score, by k. n counts cards for the silhouette, pairs of
        fits for the stability, and fits for Davies-Bouldin.

    Raises
    ------
    InputError : no k is small enough.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_samples
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(vectors))[:sample])
    orders = [rng.permutation(len(vectors)) for _ in range(PAIRS)]
    halves = [np.sort(half) for order in orders for half in np.array_split(order, 2)]
    small = [k for k in grid if k < min(len(chosen), len(halves[1]))]
    if not small:
        raise InputError(f"eda.clusters={grid}: every k is too large for {len(vectors)} answers")
    bootstrap = Bootstrap(np.asarray(groups)[chosen], seed)
    labels, scores = {}, {}
    # More than one thread may add up the same numbers in another order.
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
    """The number of clusters by :data:`RULE`."""
    floor = max((score["silhouette"] for score in scores.values()), key=lambda interval: interval["mean"])["lo"]
    good = [k for k, score in scores.items() if score["silhouette"]["mean"] >= floor]
    return max(good, key=lambda k: scores[k]["stability"]["mean"])


def central_cards(vectors: np.ndarray, labels: np.ndarray, count: int) -> dict[int, np.ndarray]:
    """Positions of the cards nearest to each cluster's mean vector, nearest first."""
    found = {}
    for cluster in np.unique(labels):
        members = np.flatnonzero(labels == cluster)
        similarity = vectors[members] @ vectors[members].mean(axis=0)
        found[int(cluster)] = members[np.argsort(-similarity, kind="stable")[:count]]
    return found


def agreement(labels: np.ndarray, truth: pd.Series, groups: object, seed: int, resamples: int = 100) -> dict:
    """Adjusted mutual information (Vinh, Epps and Bailey, 2010) of labels with a truth that a source names.

    Parameters
    ----------
    truth : the true class of each card; a card with an empty one is left out.
    groups : the group of each card; random halves of the groups give the interval (Politis, Romano and Wolf,
        Subsampling, 1999): cards drawn twice, as a bootstrap draws them, would agree with themselves.

    Returns
    -------
    ``{"mean", "lo", "hi", "n"}``, mean being the figure itself: 0 is chance, 1 is equal.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    known = np.flatnonzero(truth != "")
    one, other = labels[known], pd.factorize(truth.iloc[known])[0]
    group = pd.factorize(np.asarray(groups)[known])[0]
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(resamples):
        rows = (rng.permutation(group.max() + 1) < (group.max() + 1) / 2)[group]
        drawn.append(adjusted_mutual_info_score(one[rows], other[rows]))
    whole = adjusted_mutual_info_score(one, other)
    lo, hi = np.percentile(drawn, [2.5, 97.5]) + whole - np.mean(drawn)
    return {"mean": whole, "lo": lo, "hi": hi, "n": len(known)}


def tsne_map(vectors: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Two-dimensional t-SNE (van der Maaten and Hinton, 2008) of unit vectors by cosine distance, shape (cards, 2).

    The perplexity is at most a third of the number of vectors. scikit-learn's, which on a few thousand cards is
    faster than openTSNE and as trustworthy (docs/LOG.md).
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(perplexity, (len(vectors) - 1) / 3)
    with threadpool_limits(1):
        return TSNE(perplexity=perplexity, metric="cosine", init="pca", random_state=seed).fit_transform(vectors)
