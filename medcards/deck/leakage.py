"""Leakage between the splits: how similar is the nearest training card of every test card?

The split is made from the words that cards share (:mod:`medcards.deck.splits`). Leakage is measured with other
similarities: of a bi-encoder's vectors, and of character n-grams. Every split is compared with a random split of the
same size, on the same test cards, so that the difference is paired.
"""

import logging

import numpy as np
import pandas as pd
from scipy import sparse
from tqdm import tqdm

from medcards import InputError
from medcards.base.stats import Bootstrap
from medcards.deck.splits import split_by_group

log = logging.getLogger("medcards.leakage")

THRESHOLDS = (0.8, 0.9, 0.95)
"""Cosine similarities from which a test card counts as leaked."""
NEW_SPLITS = 10
"""Number of new splits of the same groups. One test split of some hundred cards holds few leaks."""
MOST_TESTED = 2500
"""Largest number of test cards in a split, as a seeded sample. The cost then grows with the cards, not their square."""
CLOSEST_PAIRS = 20
"""Number of the most similar pairs that are kept for reading."""
SIMILARITY_GRID = np.linspace(0, 1, 101)
TEST_BLOCK = 256
"""Number of test cards that are compared at a time. It bounds the memory of the similarity matrix."""

CardVectors = np.ndarray | sparse.csr_array


def character_vectors(texts: list[str]) -> sparse.csr_array:
    """Unit TF-IDF vectors over character 3- and 4-grams within words (library: scikit-learn), one row per text."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True, dtype=np.float32)
    return sparse.csr_array(vectorizer.fit_transform(texts))


def random_training(cards: int, size: int, seed: int) -> np.ndarray:
    """The training cards of a random split: ``size`` of all cards, as a mask of shape (cards,)."""
    training = np.zeros(cards, dtype=bool)
    training[np.random.default_rng(seed).permutation(cards)[:size]] = True
    return training


def nearest_training(
    vectors: CardVectors, tested: np.ndarray, trainings: list[np.ndarray], label: str = ""
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Find the nearest training card of every test card in several splits, the test card itself excluded.

    Parameters
    ----------
    vectors : unit vectors of all cards, shape (cards, dimension).
    tested : positions of the test cards.
    trainings : for each split a mask of its training cards, shape (cards,). A test card may be a training card of a
        random split; it is then compared with the other training cards.

    Returns
    -------
    for each split ``similarities`` (cosine, shape (tested,)) and ``nearest`` (positions, shape (tested,)).
    """
    others = vectors.T.tocsr() if sparse.issparse(vectors) else vectors.T
    found = [(np.empty(len(tested), dtype=np.float32), np.empty(len(tested), dtype=np.int64)) for _ in trainings]
    barred = [np.where(training, 0, -4).astype(np.float32) for training in trainings]  # below every cosine
    blocks = range(0, len(tested), TEST_BLOCK)
    for start in tqdm(blocks, desc=f"nearest training {label}".strip(), leave=False, delay=1):
        rows = tested[start : start + TEST_BLOCK]
        cosine = vectors[rows] @ others
        cosine = cosine.toarray() if sparse.issparse(cosine) else cosine
        cosine[np.arange(len(rows)), rows] = -1
        for (similarities, nearest), bar in zip(found, barred, strict=True):
            best = (cosine + bar).argmax(axis=1)
            nearest[start : start + TEST_BLOCK] = best
            similarities[start : start + TEST_BLOCK] = cosine[np.arange(len(rows)), best]
    return found


def similarity_to_training(
    cards: pd.DataFrame, vectors: dict[str, CardVectors], seed: int
) -> tuple[pd.DataFrame, pd.Series]:
    """The similarity of each test card to its nearest training card, in the group split and in a random split.

    Parameters
    ----------
    cards : table with the columns ``split`` and ``card_id``.
    vectors : unit vectors of the cards, by the name of the encoder.

    Returns
    -------
    similarities : one row per test card, at most :data:`MOST_TESTED`; columns (encoder, ``group`` or ``random``).
    nearest : card id of the nearest training card in the group split, under the first encoder, one per test card.
    """
    tested, training = np.flatnonzero(cards.split == "test"), (cards.split == "train").to_numpy()
    if len(tested) > MOST_TESTED:
        tested = np.sort(np.random.default_rng(seed).choice(tested, MOST_TESTED, replace=False))
    methods = {"group": training, "random": random_training(len(cards), training.sum(), seed)}
    similarities, nearest = {}, []
    for encoder, matrix in vectors.items():
        for method, found in zip(
            methods, nearest_training(matrix, tested, list(methods.values()), encoder), strict=True
        ):
            similarities[encoder, method] = found[0]
            nearest.append(found[1])
    return pd.DataFrame(similarities, index=tested), cards.card_id.iloc[nearest[0]].set_axis(tested)


def new_splits(cards: pd.DataFrame, seed: int) -> list[pd.Series]:
    """Split the groups :data:`NEW_SPLITS` more times, each time with another seed.

    Returns
    -------
    the split of each card, by card id; fewer splits where a small deck leaves one empty; the old split where all do.
    """
    shares, splits = cards.split.value_counts(normalize=True), []
    for number in range(1, NEW_SPLITS + 1):
        try:
            split = split_by_group(cards, shares["validation"], shares["test"], seed + number)
            splits.append(split.set_axis(cards.card_id))
        except InputError as error:
            log.warning("new split %d: %s", number, error)
    return splits or [cards.split.set_axis(cards.card_id)]


def similarity_in_splits(
    cards: pd.DataFrame, splits: list[pd.Series], vectors: dict[str, CardVectors], seed: int
) -> pd.DataFrame:
    """:func:`similarity_to_training` in every one of several splits, each against its own random split.

    Returns
    -------
    one row per split and test card. A card that is tested in several splits has several rows of the same index.
    """
    found = []
    for number, split in enumerate(splits, start=1):
        found.append(similarity_to_training(cards.assign(split=cards.card_id.map(split)), vectors, seed + number)[0])
    return pd.concat(found)


def leaked_shares(cards: pd.DataFrame, similarities: pd.DataFrame, seed: int) -> dict[str, dict]:
    """Share of test cards with a training card at least as similar as each of :data:`THRESHOLDS`.

    Parameters
    ----------
    cards : table with the column ``group``, whose groups the intervals resample.
    similarities : see :func:`similarity_to_training` and :func:`similarity_in_splits`. A card that is tested several
        times counts with the mean of its tests.

    Returns
    -------
    ``{method: {encoder: {"leaked@threshold": interval}}}`` for the methods ``group``, ``random`` and their paired
    difference ``group-random``.
    """
    shares: dict = {"group": {}, "random": {}, "group-random": {}}
    bootstrap = Bootstrap(cards.group[similarities.index.unique().sort_values()], seed)
    for encoder in similarities.columns.unique(level=0):
        for threshold in THRESHOLDS:
            over = (similarities[encoder] >= threshold).groupby(level=0).mean()
            values = {"group": over.group, "random": over.random, "group-random": over.group - over.random}
            for method, value in values.items():
                shares[method].setdefault(encoder, {})[f"leaked@{threshold}"] = bootstrap.interval(value)
    return shares


def leakage_metrics(shares: dict[str, dict[str, dict]]) -> dict[str, dict]:
    """Leaked shares as a block of metrics.

    Parameters
    ----------
    shares : :func:`leaked_shares` of ``questions`` and of ``answers``.

    Returns
    -------
    ``{method: {side: ...}, "differences": {"group-random": {side: ...}}}``
    """
    metrics: dict = {"differences": {}}
    for side, methods in shares.items():
        for method, found in methods.items():
            block = metrics["differences"] if "-" in method else metrics
            block.setdefault(method, {})[side] = found
    return metrics


def similarity_curves(similarities: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Share of test cards with a training card at least as similar as each value of :data:`SIMILARITY_GRID`.

    Parameters
    ----------
    similarities : :func:`similarity_to_training` of ``questions`` and of ``answers``.

    Returns
    -------
    table of ``similarity``, and one column such as ``questions bi-encoder group`` per side, encoder and method.
    """
    curves = {"similarity": SIMILARITY_GRID}
    for side, table in similarities.items():
        for encoder in table.columns.unique(level=0):
            for method in ("random", "group"):
                curves[f"{side} {encoder} {method}"] = [
                    (table[encoder, method] >= value).mean() for value in SIMILARITY_GRID
                ]
    return pd.DataFrame(curves)


def closest_pairs(cards: pd.DataFrame, side: str, similarity: pd.Series, nearest: pd.Series) -> pd.DataFrame:
    """The :data:`CLOSEST_PAIRS` test cards that are most similar to a training card.

    Parameters
    ----------
    side : ``question`` or ``answer``.
    similarity, nearest : similarity to the nearest training card, and its card id, by position of the test card.

    Returns
    -------
    table of ``side``, ``similarity``, ``test`` and ``nearest_training`` (the two texts), most similar first.
    """
    texts = cards.set_index("card_id")[side]
    pairs = pd.DataFrame({"side": side, "similarity": similarity, "test": cards[side][similarity.index]})
    pairs["nearest_training"] = texts[nearest].to_numpy()
    return pairs.sort_values("similarity", ascending=False, kind="stable").head(CLOSEST_PAIRS)
