"""Exact nearest-neighbour search, which compares a query with every vector."""

from collections.abc import Collection, Sequence

import numpy as np

from medcards.base.stacked import Rows

QUERY_BLOCK, ROW_BLOCK = 256, 50_000
"""Numbers of queries and of rows that are compared at a time. They bound the memory."""


def exact_search(
    queries: np.ndarray, vectors: Rows, k: int, hidden: list[set[int]] | None = None
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
    ordered = hidden and [np.sort(np.fromiter(of, dtype=np.int64, count=len(of))) for of in hidden]
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    scores = np.full((len(queries), k), np.nan, dtype=np.float32)
    for first in range(0, len(vectors), ROW_BLOCK):
        block = vectors[first : first + ROW_BLOCK]
        for start in range(0, len(queries), QUERY_BLOCK):
            asked = slice(start, start + QUERY_BLOCK)
            lacking = ordered and [_inside(of, first, len(block)) for of in ordered[asked]]
            near, near_scores = nearest(queries[asked] @ block.T, min(k, len(block)), lacking)
            found = np.hstack([rows[asked], np.where(near < 0, -1, near + first)])
            found_scores = np.hstack([scores[asked], near_scores])
            best = np.argsort(-found_scores, axis=1, kind="stable")[:, :k]  # NaN comes last
            rows[asked] = np.take_along_axis(found, best, 1)
            scores[asked] = np.take_along_axis(found_scores, best, 1)
    return rows, scores


def _inside(rows: np.ndarray, first: int, count: int) -> np.ndarray:
    """Those of rows in order that lie in a block, numbered from its first row."""
    start, stop = np.searchsorted(rows, [first, first + count])
    return rows[start:stop] - first


def similarities(queries: np.ndarray, vectors: Rows) -> np.ndarray:
    """The inner product of each query and each row, shape (queries, rows).

    Parameters
    ----------
    queries, vectors : see :func:`exact_search`.
    """
    found = np.empty((len(queries), len(vectors)), dtype=np.float32)
    for first in range(0, len(vectors), ROW_BLOCK):
        found[:, first : first + ROW_BLOCK] = queries @ vectors[first : first + ROW_BLOCK].T
    return found


def largest_similarity(queries: np.ndarray, vectors: Rows) -> np.ndarray:
    """The largest inner product of each row with any of the queries, shape (rows,).

    Parameters
    ----------
    queries, vectors : see :func:`exact_search`.
    """
    found = np.full(len(vectors), -np.inf, dtype=np.float32)
    for start in range(0, len(queries), QUERY_BLOCK):
        for first in range(0, len(vectors), ROW_BLOCK):
            rows = slice(first, first + ROW_BLOCK)
            products = queries[start : start + QUERY_BLOCK] @ vectors[rows].T
            found[rows] = np.maximum(found[rows], products.max(axis=0))
    return found


def nearest(
    scores: np.ndarray, k: int, hidden: Sequence[Collection[int]] | None = None
) -> tuple[np.ndarray, np.ndarray]:
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
        if hidden and len(hidden[place]):
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
