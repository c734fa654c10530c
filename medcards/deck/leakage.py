"""An attack on the split: how near is the nearest training card of every test card?

The split is made from the words that cards share (:mod:`medcards.deck.splits`), so it is attacked with other eyes: the
bi-encoder's vectors, and character n-grams.
"""

import numpy as np
from scipy import sparse
from tqdm import tqdm

THRESHOLDS = (0.8, 0.9, 0.95)
BLOCK = 256


def character_vectors(texts: list[str]) -> sparse.csr_array:
    """Unit TF-IDF vectors over character 3- and 4-grams within words (library: scikit-learn), one row a text."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True, dtype=np.float32)
    return sparse.csr_array(vectorizer.fit_transform(texts))


def random_training(cards: int, size: int, seed: int) -> np.ndarray:
    """The training cards of a split at random: ``size`` of all cards, as a mask of shape (cards,)."""
    training = np.zeros(cards, dtype=bool)
    training[np.random.default_rng(seed).permutation(cards)[:size]] = True
    return training


def nearest_training(
    vectors: np.ndarray | sparse.csr_array, tested: np.ndarray, training: np.ndarray, label: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest training card of every test card, itself excluded.

    Parameters
    ----------
    vectors : unit vectors of all cards, shape (cards, dimension).
    tested : positions of the test cards.
    training : mask of the training cards, shape (cards,). A test card may be in it: it is then compared with the
        others, as if it had been tested in that split.

    Returns
    -------
    similarities : cosine, shape (tested,).
    nearest : positions of the nearest training cards, shape (tested,).
    """
    places = np.flatnonzero(training)
    candidates = vectors[places].T
    similarities, nearest = np.empty(len(tested), dtype=np.float32), np.empty(len(tested), dtype=np.int64)
    for start in tqdm(range(0, len(tested), BLOCK), desc=f"nearest training {label}".strip(), leave=False, delay=1):
        rows = slice(start, start + BLOCK)
        found = vectors[tested[rows]] @ candidates
        found = found.toarray() if sparse.issparse(found) else found
        found[tested[rows, None] == places] = -1
        best = found.argmax(axis=1)
        similarities[rows], nearest[rows] = found[np.arange(len(found)), best], places[best]
    return similarities, nearest
