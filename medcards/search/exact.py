"""Exact nearest-neighbour search, which compares a query with every vector."""

import numpy as np

QUERY_BLOCK = 256
"""Number of queries that are compared at a time. It bounds the memory of the score matrix."""


def exact_search(
    queries: np.ndarray, vectors: np.ndarray, k: int, hidden: list[set[int]] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the exact nearest rows by inner product. Ties are in the order of the rows.

    Parameters
    ----------
    queries : float32, shape (queries, dimension).
    vectors : float32, shape (rows, dimension).
    k : number of rows per query; all rows where there are fewer.
    hidden : row numbers that each query must not find.

    Returns
    -------
    rows : row numbers of ``vectors``, best first, shape (queries, k); -1 where too many rows are hidden.
    similarities : their inner products, shape (queries, k); NaN for row -1.
    """
    k = min(k, len(vectors))
    rows, similarities = np.empty((len(queries), k), dtype=np.int64), np.empty((len(queries), k), dtype=np.float32)
    for start in range(0, len(queries), QUERY_BLOCK):
        block = slice(start, start + QUERY_BLOCK)
        scores = queries[block] @ vectors.T
        rows[block], similarities[block] = nearest(scores, k, hidden and hidden[block])
    return rows, similarities


def nearest(scores: np.ndarray, k: int, hidden: list[set[int]] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the ``k`` largest scores of each query, and these scores. Ties are in the order of the rows.

    Parameters
    ----------
    scores : finite, shape (queries, rows). They stay as they are.
    hidden : row numbers that each query must not find.

    Returns
    -------
    rows, scores : best first, shape (queries, k); -1 and NaN where too many rows are hidden.
    """
    rows, found = np.empty((len(scores), k), dtype=np.int64), np.empty((len(scores), k), dtype=scores.dtype)
    for place, of_query in enumerate(scores):
        if hidden and hidden[place]:
            of_query = of_query.copy()  # one row at a time, since all scores may be large
            of_query[list(hidden[place])] = -np.inf
        rows[place] = largest(of_query, k)
        found[place] = of_query[rows[place]]
    nothing = found == -np.inf
    rows[nothing], found[nothing] = -1, np.nan
    return rows, found


def largest(scores: np.ndarray, k: int) -> np.ndarray:
    """Places of the ``k`` largest scores, best first. Ties are in the order of the places.

    Only the candidates are sorted, so the cost is close to that of one pass over the scores.

    >>> largest(np.array([1, 3, 2, 3]), k=3)
    array([1, 3, 2])
    """
    if k < len(scores):
        candidates = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    else:
        candidates = np.arange(len(scores))
    return candidates[np.argsort(-scores[candidates], kind="stable")][:k]
